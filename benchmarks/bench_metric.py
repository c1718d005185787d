"""What the shipped metrics are worth, cell by cell: is damage farther off than what light does?

    AMISS_DATA=... python -m benchmarks.bench_metric      # 3 minutes on 2 cores

product, beside: photographs as `make_metric` takes them (`benchmarks.differences`), of products
with other seeds: how far patches lie from their counterparts in pristine photographs, and where
others show damage (beside products: spills).

photographs: real ones, of the data folder, retaken (`benchmarks.retaken`), with a blot in some:
another photograph's content, a flat colour, blur, or a tint. Nothing of these was learned from.

AUROC of cells, and the share of damaged ones that lie above 99 % and 99.9 % of the others: without
a metric, in the one for patches anywhere, in the one for patches of one place, in the one for what
lies beside products. One direction, no sum of local and global distance: these are in the
comparisons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.bench_features import auroc
from benchmarks.differences import SHOWS, covered, examined
from benchmarks.machine import data_folder, save
from benchmarks.retaken import BORDER, from_nearest, retake
from embeddings import Embedder, Pixels, open_embedder, read_image
from embeddings.images import fit_longest_side
from embeddings.metric import Metric
from embeddings.patches import Floats

SEEDS = (8002, 8003)
PHOTOGRAPHS = ("grocery/gallery/*/*0.jpg", "grocery/iconic/*/*", "cookies/normal/*",
               "carton_top/normal/*", "deeppcb/temp/*")  # fmt: skip
_EACH = 20
BLOTS = ("content", "flat", "blur", "tint")


def main() -> None:
    embedder = open_embedder(device="cpu")
    metrics = embedder.metrics
    assert metrics is not None
    found = [one for seed in SEEDS for one in examined(seed, embedder)]
    plain = {"none": None, "anywhere": metrics.anywhere}
    placed = plain | {"placed": metrics.placed}
    product = [(one.damage, one.product.difference) for one in found if one.damage != "spill"]
    beside = [(one.damage, one.beside.difference) for one in found if one.damage in ("", "spill")]
    figures = {
        "product": _each(product, placed),
        "beside": _each(beside, plain | {"beside": metrics.beside}),
        "photographs": _each(list(_blotted(data_folder(), embedder)), placed),
    }
    save("metric", "python -m benchmarks.bench_metric", figures)


def _blotted(data: Path, embedder: Embedder) -> Iterator[tuple[str, Floats]]:
    """Differences of all cells of retaken photographs, or of those that show a kind of blot."""
    rng = np.random.default_rng(0)
    images = [fit_longest_side(read_image(file), 448) for source in PHOTOGRAPHS
              for file in sorted(data.glob(source))[:_EACH]]  # fmt: skip
    for number, image in enumerate(images):
        (before,) = embedder.embed([image])
        other = images[(number + len(images) // 2) % len(images)]
        for kind in ("", "", *BLOTS):
            blot = _blot(rng, image.shape[:2]) if kind else np.zeros(image.shape[:2], np.float32)
            later = _with_blot(image, blot, kind, other, rng) if kind else image
            taken, motion = retake(rng, later)
            apart = from_nearest(before.patches, embedder.embed([taken])[0].patches, motion)
            inner = slice(BORDER, -BORDER)
            places = before.patches.centres_px()[inner, inner].reshape(-1, 2)
            shows = covered(blot > 0.5, places) > SHOWS if kind else np.ones(len(places), bool)
            yield kind, apart.reshape(-1, apart.shape[2])[shows]


def _blot(rng: np.random.Generator, size: tuple[int, ...]) -> Floats:
    """(h, w) 0 to 1: a ragged disc of 0.4 to 3 % of the picture, at its edge a pixel wide."""
    height, width = size
    noise = cv2.GaussianBlur(rng.normal(size=size).astype(np.float32), (0, 0), 14)
    y, x = np.mgrid[:height, :width]
    area = float(np.exp(rng.uniform(*np.log((0.004, 0.03))))) * height * width
    centre = rng.uniform(0.2, 0.8, 2) * [height, width]
    field = 0.35 * noise / noise.std() - np.hypot(y - centre[0], x - centre[1]) / np.sqrt(area / 3)
    inside = field > np.sort(field, axis=None)[-round(area)]
    return np.asarray(cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 1.0))


def _with_blot(
    image: Pixels, blot: Floats, kind: str, other: Pixels, rng: np.random.Generator
) -> Pixels:
    height, width = image.shape[:2]
    wrongs: Mapping[str, Callable[[], Any]] = {
        "content": lambda: cv2.resize(other, (width, height)),
        "flat": lambda: np.broadcast_to(np.median(image[blot > 0.5], axis=0), image.shape),
        "blur": lambda: cv2.GaussianBlur(image, (0, 0), 5),
        "tint": lambda: np.clip(image * (1 + rng.choice([-0.35, 0.35], 3)), 0, 255),
    }
    wrong = wrongs[kind]()
    return np.asarray(image + blot[:, :, None] * (wrong - image.astype(np.float32)), np.uint8)


def _each(
    found: list[tuple[str, Floats]], spaces: Mapping[str, Metric | None]
) -> dict[str, dict[str, object]]:
    return {name: _told_apart(found, metric) for name, metric in spaces.items()}


def _told_apart(found: list[tuple[str, Floats]], metric: Metric | None) -> dict[str, object]:
    by_kind = {
        kind: _lengths(np.concatenate([d for damage, d in found if damage == kind]), metric)
        for kind in sorted({damage for damage, _ in found})
    }
    usual = by_kind.pop("")
    hurt = np.concatenate(list(by_kind.values()))
    bounds = {f"above_{share}": float(np.quantile(usual, share)) for share in (0.99, 0.999)}
    return {
        "cells": len(usual),
        "damaged": len(hurt),
        "auroc": round(auroc(usual[:: max(1, len(usual) // 5000)].tolist(), hurt.tolist()), 4),
        **{name: round(float((hurt > bound).mean()), 3) for name, bound in bounds.items()},
        "by_damage": {
            kind: {name: round(float((lengths > bound).mean()), 3)
                   for name, bound in bounds.items()}
            for kind, lengths in by_kind.items()
        },
    }  # fmt: skip


def _lengths(differences: Floats, metric: Metric | None) -> Floats:
    moved = differences if metric is None else differences @ np.concatenate(metric.weights)
    return np.asarray(np.linalg.norm(moved, axis=1))


if __name__ == "__main__":
    main()
