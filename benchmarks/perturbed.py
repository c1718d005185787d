"""Global vectors for galleries of any size, made by moving real ones along real differences.

A product is a real picture's vector plus the difference of two pictures of anything; each reference
of it, and each query, adds the difference of two pictures of one product, both scaled by what is
given below. So vectors spread as real ones do, in the space that real ones span, and not evenly on
the sphere, where nothing has neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embeddings import estimate_foreground, open_embedder, read_image

SOURCES = ("grocery/gallery/*", "cookies/normal", "carton_top/normal")
_PRODUCT, _REFERENCE = 0.7, 0.7
_DRAWN = 20_000


@dataclass(frozen=True)
class RealVectors:
    """`vectors`: (M, D) of real pictures; `groups`: (M,) which product each shows."""

    vectors: np.ndarray[Any, Any]
    groups: np.ndarray[Any, Any]


def real_vectors(folder: Path, *, kept: Path | None = None) -> RealVectors:
    """Embed the pictures of `SOURCES` (562 of 18 products, about a minute on 2 cores). With `kept`,
    a .npz, they are read from there where it exists, else written there.
    """
    if kept is not None and kept.exists():
        with np.load(kept) as arrays:
            return RealVectors(arrays["vectors"], arrays["groups"])
    embedder = open_embedder()
    found, groups = [], []
    homes = sorted(home for source in SOURCES for home in folder.glob(source))
    for number, home in enumerate(homes):
        files = sorted(home.glob("*.jpg"))
        for file in files:
            image = read_image(file)
            ground = estimate_foreground(image)
            found.append(embedder.embed([image], foregrounds=[ground])[0].vector)
        groups += [number] * len(files)
    real = RealVectors(np.stack(found), np.array(groups))
    if kept is not None:
        np.savez(kept, vectors=real.vectors, groups=real.groups)
    return real


def perturbed(real: RealVectors, *, products: int, each: int, seed: int) -> np.ndarray[Any, Any]:
    """(products * each, D) float32 unit vectors, `each` of a product in a row."""
    draw = np.random.default_rng(seed)
    vectors, within = real.vectors, _within(real, draw)
    out = np.empty((products * each, vectors.shape[1]), np.float32)
    for start in range(0, products, _DRAWN):
        count = min(_DRAWN, products - start)
        a, b, c = vectors[draw.integers(0, len(vectors), (3, count))]
        anchor = np.repeat(_unit(a + _PRODUCT * (b - c)), each, axis=0)
        step = within[draw.integers(0, len(within), len(anchor))]
        out[start * each : (start + count) * each] = _unit(anchor + _REFERENCE * step)
    return out


def likeness(vectors: np.ndarray[Any, Any], groups: np.ndarray[Any, Any]) -> dict[str, float]:
    """Median cosine, common direction taken away, to the most alike picture of the same product
    and of others: perturbed vectors should be about as hard to tell apart as real ones.
    """
    moved = _unit(vectors - vectors.mean(axis=0))
    cosine = moved @ moved.T
    same = groups[:, None] == groups[None, :]
    np.fill_diagonal(cosine, -2)
    own = np.where(same, cosine, -2).max(axis=1)
    other = np.where(same, -2, cosine).max(axis=1)
    return {
        "nearest_of_the_same": round(float(np.median(own[own > -2])), 3),
        "nearest_of_others": round(float(np.median(other)), 3),
    }


def _within(real: RealVectors, draw: np.random.Generator) -> np.ndarray[Any, Any]:
    pairs = []
    for group in np.unique(real.groups):
        rows = np.flatnonzero(real.groups == group)
        if len(rows) > 1:
            i, j = draw.integers(0, len(rows), (2, 400))
            pairs.append(real.vectors[rows[i[i != j]]] - real.vectors[rows[j[i != j]]])
    return np.concatenate(pairs)


def _unit(vectors: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)
