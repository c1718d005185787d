"""Bottles and jars, AUROC: turned about their own axis, print goes round the side. Is that damage?

    python -m benchmarks.bench_bottles      (about 10 minutes on one core)

A label with a photograph, print and a seal is wrapped round a cylinder and seen from the side, in
any place and turned by a few degrees in the picture. About its axis each picture is turned by its
own angle, at most `spread` degrees to either side; the wider, the more references. Damage lies
where it is seen: a ragged patch of bare board (torn), or most of the label gone (missing). Nothing
was chosen on these pictures.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from skimage import data

from anomaly.scorers import open_scorer
from benchmarks.machine import save
from benchmarks.metrics_image import auroc
from embeddings import Embedder, Pixels, open_embedder
from embeddings.threads import limit_threads

SCORERS = ("amiss", "patchcore")
CASES = ((15, 4), (60, 8), (180, 16))  # degrees to either side, references
PHOTOGRAPHS = ("coffee", "chelsea", "astronaut")
PRISTINE, DAMAGED = 24, 12  # pictures of each bottle; of each kind of damage
DAMAGES = ("torn", "missing")
_SIDE, _HIGH, _ROUND, _WIDE = 640, 420, 1400, 300  # pixels: picture, bottle, label, bottle
_LABEL = slice(60, 360)  # rows of the bottle that it covers
_GLASS, _PAPER, _TORN = (70, 120, 60), (235, 230, 215), (190, 172, 145)


def main() -> None:
    limit_threads(1)
    embedder, figures = open_embedder(), []
    for spread, count in CASES:
        for photograph in PHOTOGRAPHS:
            found = measure(embedder, photograph, spread, count)
            figures.append(
                {"spread_deg": spread, "references": count, "label": photograph, **found}
            )
            print(figures[-1], file=sys.stderr, flush=True)
    save("bottles", "python -m benchmarks.bench_bottles", figures)


def measure(embedder: Embedder, photograph: str, spread: float, count: int) -> dict[str, Any]:
    """By scorer: AUROC of all damage, and of each kind, against the same pristine pictures."""
    label, draw = labelled(photograph), np.random.default_rng([len(photograph), round(spread)])
    references = [photographed(label, draw, spread) for _ in range(count)]
    queries = list(_queries(label, draw, spread))
    found = {}
    for name in SCORERS:
        model = open_scorer(name, embedder).fit(references, seed=0)
        scores = np.array([model.score(picture).score for picture, _ in queries])
        found[name] = {"auroc": _auroc(scores, [kind for _, kind in queries], DAMAGES)} | {
            kind: _auroc(scores, [kind for _, kind in queries], (kind,)) for kind in DAMAGES
        }
    return found


def _auroc(scores: np.ndarray, kinds: list[str | None], wanted: tuple[str, ...]) -> float:
    asked = [row for row, kind in enumerate(kinds) if kind is None or kind in wanted]
    return round(float(auroc(scores[asked], [kinds[row] is not None for row in asked])), 3)


def _queries(
    label: Pixels, draw: np.random.Generator, spread: float
) -> Iterator[tuple[Pixels, str | None]]:
    for _ in range(PRISTINE):
        yield photographed(label, draw, spread), None
    for kind in DAMAGES:
        for _ in range(DAMAGED):
            yield photographed(label, draw, spread, kind), kind


def labelled(photograph: str) -> Pixels:
    """What is round the bottle: half of its label is a photograph, half of it print."""
    bottle = np.full((_HIGH, _ROUND, 3), _GLASS, np.uint8)
    half = _ROUND // 2
    size = (half, _LABEL.stop - _LABEL.start)
    shown = cv2.resize(getattr(data, photograph)(), size, interpolation=cv2.INTER_AREA)
    bottle[_LABEL, :half], bottle[_LABEL, half:] = shown, _PAPER
    face = cv2.FONT_HERSHEY_DUPLEX
    cv2.putText(bottle, photograph.upper(), (half + 40, 180), face, 3, (150, 20, 30), 8)
    for line in range(6):
        words = f"ingredients water sugar {7 * line} % salt"
        cv2.putText(bottle, words, (half + 40, 230 + 22 * line), face, 0.7, (30, 30, 30), 1)
    cv2.circle(bottle, (half + 550, 150), 70, (230, 180, 20), -1)
    return bottle


def photographed(
    label: Pixels, draw: np.random.Generator, spread: float, damage: str | None = None
) -> Pixels:
    """(640, 640, 3): the bottle turned about its axis by at most `spread` degrees."""
    axis = np.radians(draw.uniform(-spread, spread))
    if damage is not None:
        label = _damaged(
            label, draw.spawn(1)[0], axis, damage
        )  # else as the same draw shows it whole
    across = np.arcsin(np.linspace(-0.999, 0.999, _WIDE))
    columns = ((axis + across) / (2 * np.pi) * _ROUND) % _ROUND
    x, y = np.meshgrid(columns.astype(np.float32), np.arange(_HIGH, dtype=np.float32))
    seen = cv2.remap(np.concatenate([label, label[:, :8]], axis=1), x, y, cv2.INTER_LINEAR)
    seen = seen * (0.55 + 0.5 * np.cos(across - 0.4))[None, :, None]
    motion = cv2.getRotationMatrix2D(
        (_WIDE / 2, _HIGH / 2), draw.uniform(-4, 4), draw.uniform(0.9, 1.05)
    )
    motion[:, 2] += np.array([_SIDE - _WIDE, _SIDE - _HIGH]) / 2 + draw.uniform(-45, 45, 2)
    size = (_SIDE, _SIDE)
    alpha = cv2.warpAffine(np.ones((_HIGH, _WIDE), np.float32), motion, size)[:, :, None]
    scene = np.full((_SIDE, _SIDE, 3), (150.0, 150.0, 155.0)) * (1 - alpha)
    scene += cv2.warpAffine(seen, motion, size) * alpha
    calm = cv2.GaussianBlur(scene * draw.uniform(0.9, 1.05), (0, 0), 0.7)
    return np.asarray(np.clip(calm + draw.normal(0, 2, scene.shape), 0, 255), np.uint8)


def _damaged(label: Pixels, draw: np.random.Generator, axis: float, kind: str) -> Pixels:
    """The label with ragged damage on the side that is seen."""
    y, x = np.mgrid[:_HIGH, :_ROUND]
    middle = round(axis / (2 * np.pi) * _ROUND) + draw.integers(-200, 200)
    right = (x - middle + _ROUND // 2) % _ROUND - _ROUND // 2
    down = y - draw.integers(130, 300)
    size = draw.uniform(35, 80) if kind == "torn" else 260
    angle, reach = np.arctan2(down, right), np.ones(x.shape)
    for lobes, high in ((3, 0.25), (9, 0.12), (23, 0.06)):
        reach += high * np.sin(lobes * angle + draw.uniform(0, 6))
    gone = (np.hypot(right, down) < size * reach) & (y >= _LABEL.start) & (y < _LABEL.stop)
    bare = np.array(_TORN if kind == "torn" else _GLASS, np.uint8)
    return np.where(gone[:, :, None], bare, label)


if __name__ == "__main__":
    main()
