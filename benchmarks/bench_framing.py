"""How photographs are framed and lit, AUROC: neighbours in view, products that are cut, shadows.

    AMISS_DATA=... python -m benchmarks.bench_framing      (about 40 minutes on one core)
    ... --sets cookies --framings cut --seeds 2            # a part; not saved

cookies and carton_top, 4 references, seeds 2 to 4; what was chosen on the same photographs under
these framings was chosen on seeds 0 and 1, what is light on their masks in other draws of it, and
one bound (light may not take a sure product away) was seen on `tight`, seed 2. Every picture,
reference or query, gets a framing of its own:

as_given
turned    by any angle about the middle; what comes in at the corners is the last pixel's colour
mirrored  the same, but the picture goes on mirrored: often with a neighbour, cut off
tight     cropped to the product with 2 to 12 % of its sides around it
cut       cropped 6 % inside to 6 % outside of each of the product's sides
farther   shrunk to half its size at most, the background going on with its last pixels: products
          come as different in size as from cameras at different distances
slanting  light falls off across the picture by up to a third, in any direction, and has a cast
vignetted the picture is darker towards its corners, about a middle of its own
shadowed  a shadow with a straight edge lies across it, and leaves half to three quarters of light

The product's place is the estimated foreground's in the picture as given.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from anomaly.scorers import open_scorer
from benchmarks.datasets import Sample, load
from benchmarks.machine import data_folder, save
from benchmarks.metrics_image import auroc
from embeddings import Embedder, Pixels, estimate_foreground, open_embedder
from embeddings.patches import Floats
from embeddings.threads import limit_threads

SETS, SHOTS, SEEDS = ("cookies", "carton_top"), 4, (2, 3, 4)
SCORERS = ("amiss", "patchcore")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--framings", nargs="+", choices=FRAMINGS, default=list(FRAMINGS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    asked = parser.parse_args()
    limit_threads(1)
    embedder, figures = open_embedder(), []
    for name in asked.sets:
        for framing in asked.framings:
            found = _means(embedder, name, framing, asked.seeds)
            figures.append({"set": name, "framing": framing, **found})
            print(figures[-1], file=sys.stderr, flush=True)
    if (asked.sets, asked.framings, asked.seeds) == (list(SETS), list(FRAMINGS), list(SEEDS)):
        save("framing", "AMISS_DATA=... python -m benchmarks.bench_framing", figures)


def _means(embedder: Embedder, name: str, framing: str, seeds: list[int]) -> dict[str, Any]:
    """By scorer: mean AUROC over seeds, and each seed's."""
    runs = [_areas(embedder, name, framing, seed) for seed in seeds]
    by_scorer = {scorer: [run[scorer] for run in runs] for scorer in SCORERS}
    return {
        scorer: {"auroc": round(float(np.mean(each)), 3), "seeds": [round(a, 3) for a in each]}
        for scorer, each in by_scorer.items()
    }


def _areas(embedder: Embedder, name: str, framing: str, seed: int) -> dict[str, float]:
    (split,) = load(name, data_folder(), shots=SHOTS, seed=seed)
    references = [framed(one, framing) for one in split.references]
    models = [open_scorer(scorer, embedder).fit(references, seed=seed) for scorer in SCORERS]
    damaged, scores = [], []
    for query in split.queries:
        picture = framed(query, framing)
        damaged.append(bool(query.damaged))
        scores.append([model.score(picture).score for model in models])
    by_scorer = zip(SCORERS, np.transpose(scores), strict=True)
    return {scorer: float(auroc(found, damaged)) for scorer, found in by_scorer}


def framed(sample: Sample, framing: str) -> Pixels:
    """The sample's picture in a framing drawn by its name: the same in each run."""
    picture = sample.read()
    draw = np.random.default_rng(zlib.crc32(f"{framing} {sample.sample_id}".encode()))
    return np.ascontiguousarray(FRAMINGS[framing](picture, draw))


def _turned(picture: Pixels, draw: np.random.Generator, border: int) -> Pixels:
    return _moved(picture, draw.uniform(0, 360), 1.0, border)


def _farther(picture: Pixels, draw: np.random.Generator) -> Pixels:
    zoom = float(np.exp(draw.uniform(np.log(0.5), 0)))
    return _moved(cv2.GaussianBlur(picture, (0, 0), 0.4 / zoom), 0.0, zoom, cv2.BORDER_REPLICATE)


def _moved(picture: Pixels, turn_deg: float, zoom: float, border: int) -> Pixels:
    height, width = picture.shape[:2]
    motion = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), turn_deg, zoom)
    moved = cv2.warpAffine(picture, motion, (width, height), borderMode=border)
    return np.asarray(moved, np.uint8)


def _cropped(picture: Pixels, draw: np.random.Generator, least: float, most: float) -> Pixels:
    """The product with margins of `least` to `most` of its sides, as far as the picture goes."""
    mask = estimate_foreground(picture).mask
    spans = []
    for axis in (0, 1):
        (found,) = np.nonzero(mask.any(axis=1 - axis))
        before, after = draw.uniform(least, most, 2) * (found[-1] + 1 - found[0])
        spans.append(slice(max(0, round(found[0] - before)), round(found[-1] + 1 + after)))
    return picture[spans[0], spans[1]]


def _slanting(picture: Pixels, draw: np.random.Generator) -> Pixels:
    x, y = _places(picture)
    turn, slope = draw.uniform(0, 2 * np.pi), draw.uniform(0.05, 0.35)
    even = draw.uniform(0.7, 1.15) * (1 + draw.uniform(-0.06, 0.06, 3))
    return _lit(picture, (1 + slope * (np.cos(turn) * x + np.sin(turn) * y))[..., None] * even)


def _vignetted(picture: Pixels, draw: np.random.Generator) -> Pixels:
    x, y = _places(picture)
    right, down = draw.uniform(-0.3, 0.3, 2)
    fall = draw.uniform(0.3, 0.8) * ((x - right) ** 2 + (y - down) ** 2)
    return _lit(picture, 1.15 * (1 - fall)[..., None])


def _shadowed(picture: Pixels, draw: np.random.Generator) -> Pixels:
    x, y = _places(picture)
    turn, aside = draw.uniform(0, 2 * np.pi), draw.uniform(-0.2, 0.2)
    left, soft = draw.uniform(0.5, 0.75), draw.uniform(0.008, 0.03)
    beyond = 1 / (1 + np.exp(-(np.cos(turn) * x + np.sin(turn) * y + aside) / soft))
    return _lit(picture, (1 - (1 - left) * beyond)[..., None])


def _places(picture: Pixels) -> tuple[Floats, Floats]:
    """x and y of each pixel, -0.5 to 0.5 across the picture."""
    height, width = picture.shape[:2]
    y, x = np.mgrid[-0.5 : 0.5 : height * 1j, -0.5 : 0.5 : width * 1j].astype(np.float32)
    return x, y


def _lit(picture: Pixels, light: Floats) -> Pixels:
    return np.asarray(np.clip(picture * light, 0, 255), np.uint8)


FRAMINGS: dict[str, Callable[[Pixels, np.random.Generator], Pixels]] = {
    "as_given": lambda picture, draw: picture,
    "turned": lambda picture, draw: _turned(picture, draw, cv2.BORDER_REPLICATE),
    "mirrored": lambda picture, draw: _turned(picture, draw, cv2.BORDER_REFLECT_101),
    "tight": lambda picture, draw: _cropped(picture, draw, 0.02, 0.12),
    "cut": lambda picture, draw: _cropped(picture, draw, -0.06, 0.06),
    "farther": _farther,
    "slanting": _slanting,
    "vignetted": _vignetted,
    "shadowed": _shadowed,
}

if __name__ == "__main__":
    main()
