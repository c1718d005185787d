"""A product of coloured noise on a nearly plain ground, its references and what comparing says."""

from __future__ import annotations

import cv2
import numpy as np

from anomaly.compare import compare
from anomaly.results import Comparison, Pairing, View
from anomaly.view import as_it_is
from embeddings import fake_embedder
from embeddings.foreground import Foreground
from embeddings.registration import Registration
from gallery import CatalogRow, Reference
from gallery.describe import describe, from_record, to_record

SIZE, SHAPE, STRIDE = (144, 192), (18, 24), 8
EMBEDDER = fake_embedder(size_px=192)
TOP, LEFT, HEIGHT, WIDTH = 32, 48, 80, 96  # of the product: rows 4 to 13, columns 6 to 17
ON = np.zeros(SHAPE, np.bool_)
ON[4:14, 6:18] = True
IDENTITY = np.eye(3)


def shift(x: float, y: float) -> np.ndarray:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def picture(*, seed: int = 0, at: tuple[int, int] = (TOP, LEFT), ground: int = 1) -> np.ndarray:
    """A product of coloured noise on a nearly plain ground."""
    rng = np.random.default_rng(ground)
    image = np.clip(60 + rng.normal(0, 3, (*SIZE, 3)), 0, 255).astype(np.uint8)
    noise = np.random.default_rng(seed).normal(size=(HEIGHT // 8 + 2, WIDTH // 8 + 2, 3))
    print_ = cv2.resize(noise.astype(np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    pixels = np.clip(150 + 45 * print_, 0, 255).astype(np.uint8)
    top, left = at
    seen = image[top : top + HEIGHT, left : left + WIDTH]
    seen[:] = pixels[: seen.shape[0], : seen.shape[1]]
    return image


def mask_at(top: int = TOP, left: int = LEFT) -> np.ndarray:
    mask = np.zeros(SIZE, np.bool_)
    mask[top : top + HEIGHT, left : left + WIDTH] = True
    return mask


def reference_of(image: np.ndarray, name: str = "r0", *, mask=None) -> Reference:
    described = describe(image, EMBEDDER, mask=mask_at() if mask is None else mask)
    row = CatalogRow("p", 1, 0, name, None, None, None, None, None, name)
    return from_record(to_record(row, described), described.vector)


def pairing_of(name: str = "r0", matrix: np.ndarray = IDENTITY) -> Pairing:
    none = np.zeros((0, 2), np.intp)
    found = Registration(matrix, "similarity", 50, 40, 0.3, 1.0, none, None)
    return Pairing(name, found, 0.0, 1.0, 1.0, (95.5, 71.5))


def view_of(image: np.ndarray) -> View:
    (embedding,) = EMBEDDER.embed([image])
    return as_it_is(embedding)


def compared(
    query: np.ndarray | View, references: list[Reference], *matrices, foreground=None, **options
) -> Comparison:
    view = query if isinstance(query, View) else view_of(query)
    pairings = {
        r.reference_id: pairing_of(r.reference_id, m)
        for r, m in zip(references, matrices, strict=True)
        if m is not None
    }
    ground = foreground or Foreground(np.ones(SIZE, np.bool_), 0.0, "estimated")
    return compare(view, references, pairings, foreground=ground, **options)


def maps_of(comparison: Comparison) -> dict[str, np.ndarray]:
    return {c.name: c.map for c in (*comparison.placed, *comparison.anywhere) if c.map is not None}


def scores_of(comparison: Comparison) -> dict[str, float]:
    return {c.name: c.score for c in (*comparison.placed, *comparison.anywhere)}


def peak(values: np.ndarray) -> tuple[int, int]:
    row, column = np.unravel_index(np.nanargmax(values), values.shape)
    return int(row), int(column)
