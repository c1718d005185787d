"""Makes `embeddings/metric.npz`: how patch features differ between photographs of the same thing.

    python -m benchmarks.make_metric    # 3 minutes on 2 cores

Renders products, each twice from the same place: once plainly, once under other light, noise, focus
and JPEG, with a shadow, glare or film folds, and moved a little in the frame. The differences
between the features of the same place are what `embeddings.metric` whitens. What is to be told from
them are those of places drawn at random, of any product and what it lies on, and those of places
that a third photograph shows damaged. Cells that glare hides don't count. Products have other seeds
than the demo's, the tests' and the benchmarks'; no real photograph is involved. Run it again when
the default backbone, its layers or their normalisation change; then `benchmarks.make_shipped_null`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import embeddings
from anomaly.compare import _sample
from anomaly.studio import (
    LEVELS,
    Damage,
    Nuisance,
    Photograph,
    Product,
    Shot,
    make_products,
    render,
)
from benchmarks.machine import machine
from embeddings import Embedder, Mask, Pixels, open_backbone
from embeddings.exposure import clipped_pixels
from embeddings.metric import FILE, discriminants, features_of, whitening
from embeddings.patches import Floats
from embeddings.registration import Matrix, transform
from gallery import durable

_SEEDS = range(1000, 1004)  # of those that `make_shipped_null` renders
_KINDS = ("", "", "shadow", "glare", "film_folds")
_DAMAGES = ("tear", "crush", "hole", "stain", "scuff", "dirt")
_AREA = (0.006, 0.04)  # of the face
_CELLS = 600  # of each pair
_CELL_PX, _SHOWS = 9, 0.6  # about a cell's centre; share of it that shows damage
_BORDER_PX = 20
_HALO = np.ones((25, 25), np.uint8)  # pixels beside clipped ones, at 448 px


def main() -> None:
    backbone = open_backbone(device="cpu")
    embedder = Embedder(backbone)
    found = [pair for seed in _SEEDS for pair in differences(seed, embedder)]
    within = np.concatenate([one.within for one in found])
    features = np.concatenate([one.features for one in found])
    damage = np.concatenate([one.damage for one in found])
    elsewhere = features - np.random.default_rng(0).permutation(features)
    made = {
        "command": "python -m benchmarks.make_metric",
        "pairs": len(found),
        "features": features_of(backbone.spec),
    } | machine()
    file = io.BytesIO()
    np.savez(
        file,
        whitening=whitening(within),
        discriminants=discriminants(within, elsewhere, damage),
        dims=[layer.features.shape[2] for layer in _layers(embedder)],
        made=json.dumps(made),
    )
    path = Path(embeddings.__file__).parent / FILE
    durable.write_file(path, file.getvalue())
    print(
        f"wrote {path.name}: {len(within)} differences of {within.shape[1]} features, "
        f"{len(damage)} by damage"
    )


@dataclass(frozen=True)
class Differences:
    """(N, D) differences between features of the same place, and those features before; (M, D)
    differences where the later photograph shows damage of that `kind`."""

    within: Floats
    features: Floats
    damage: Floats
    kind: str


def differences(seed: int, embedder: Embedder) -> list[Differences]:
    """Of a dozen products."""
    found: list[Differences] = []
    with embedder.repeatable():
        for place, product in enumerate(make_products(seed=seed)):
            found += _pairs(product, place, np.random.default_rng([seed, place]), embedder)
    print(f"{len(found)} pairs of seed {seed}", flush=True)
    return found


def _pairs(
    product: Product, place: int, rng: np.random.Generator, embedder: Embedder
) -> Iterator[Differences]:
    """For each kind of nuisance, and with it for damage."""
    shot = LEVELS["easy"].draw(rng, background=("tray", "belt")[place % 2])
    shot = replace(shot, scale=float(rng.uniform(0.6, 1.5)))
    plain = embedder.embed([_photograph(product, shot, rng).image])[0].patches
    features = plain.dense().reshape(-1, sum(layer.features.shape[2] for layer in plain.layers))
    centres = plain.centres_px().reshape(-1, 2).astype(np.float64)
    for number, kind in enumerate(_KINDS):
        damage = _DAMAGES[(place + number) % len(_DAMAGES)]
        hurt = _photograph(product, _relit(shot, rng), rng, kind, damage)
        values, rows = _later(hurt.image, rng, centres, embedder)
        lies = _covered(hurt.damage_mask, centres[rows]) > _SHOWS
        by_damage = (values - features[rows])[lies]
        values, rows = _later(_photograph(product, _relit(shot, rng), rng, kind).image, rng,
                              centres, embedder)  # fmt: skip
        drawn = rng.permutation(len(rows))[:_CELLS]
        before = features[rows]
        yield Differences((values - before)[drawn], before[drawn], by_damage, damage)


def _later(
    image: Pixels, rng: np.random.Generator, centres: NDArray[np.float64], embedder: Embedder
) -> tuple[Floats, NDArray[np.intp]]:
    """The features of a photograph, moved a little in its frame, where (N, 2) `centres` came to
    lie, and which of them are well inside and under no glare."""
    image, matrix = _moved(image, rng)
    grid = embedder.embed([image])[0].patches
    there = transform(matrix, centres)
    values, inside = _sample(grid.dense(), grid.cells_of(there))
    rows = np.flatnonzero(inside & _shown(there, image))
    return values[rows], rows


def _covered(mask: Mask, points: NDArray[np.float64]) -> Floats:
    """The share of (h, w) `mask` about each of (N, 2) points."""
    shares = cv2.blur(mask.astype(np.float32), (_CELL_PX, _CELL_PX))
    x, y = np.clip(np.rint(points).astype(np.intp), 0, np.array(mask.shape[::-1]) - 1).T
    return np.asarray(shares[y, x])


def _photograph(
    product: Product, shot: Shot, rng: np.random.Generator, kind: str = "", damage: str = ""
) -> Photograph:
    strength, seed = float(rng.uniform(0.2, 0.9)), int(rng.integers(2**31))
    area = float(np.exp(rng.uniform(*np.log(_AREA))))
    return render(
        product,
        shot=shot,
        seed=seed,
        nuisances=(Nuisance(kind, strength),) if kind else (),
        damage=Damage(damage, float(rng.uniform(0.2, 0.9)), area=area) if damage else None,
    )


def _relit(shot: Shot, rng: np.random.Generator) -> Shot:
    other = LEVELS["medium"].draw(rng)
    return replace(shot, light=other.light, noise_sigma=other.noise_sigma,
                   blur_sigma=other.blur_sigma, jpeg_quality=other.jpeg_quality)  # fmt: skip


def _moved(image: Pixels, rng: np.random.Generator) -> tuple[Pixels, Matrix]:
    """Turned, scaled and shifted as far as views are compared without being turned."""
    height, width = image.shape[:2]
    angle, zoom = float(rng.uniform(-6, 6)), float(np.exp(rng.uniform(-0.12, 0.12)))
    matrix = np.vstack([cv2.getRotationMatrix2D((width / 2, height / 2), angle, zoom), [0, 0, 1]])
    matrix[:2, 2] += rng.uniform(-6, 6, 2)
    moved = cv2.warpAffine(image, matrix[:2], (width, height), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.uint8), matrix


def _shown(points: np.ndarray, image: Pixels) -> np.ndarray:
    """Which (N, 2) points of the picture are well inside and under no glare."""
    height, width = image.shape[:2]
    inside = (points > _BORDER_PX).all(axis=1)
    inside &= (points < [width - _BORDER_PX, height - _BORDER_PX]).all(axis=1)
    hidden = cv2.dilate(clipped_pixels(image).astype(np.uint8), _HALO)
    scale = np.array([hidden.shape[1] / width, hidden.shape[0] / height])
    x, y = np.clip((points * scale).astype(np.intp), 0, np.array(hidden.shape[::-1]) - 1).T
    return np.asarray(inside & (hidden[y, x] == 0))


def _layers(embedder: Embedder) -> tuple:  # type: ignore[type-arg]
    return embedder.embed([np.zeros((64, 64, 3), np.uint8)])[0].patches.layers


if __name__ == "__main__":
    main()
