"""Photographs of anything, taken again: what light, focus and a camera do to real textures.

Rendered products show flat print; photographs do not. Pieces of the photographs that scikit-image
has in its wheel are seen from a little aside, in other light and through another camera. What moved
is known, so the counterpart of a cell is the nearest patch about its place, as in
`benchmarks.differences`.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from skimage import data

from anomaly.placed import sampled
from benchmarks.differences import in_window
from embeddings import Embedder, Pixels
from embeddings.images import fit_longest_side
from embeddings.patches import Floats, PatchGrid
from embeddings.registration import Matrix, transform

PHOTOGRAPHS = (
    "astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel", "horse",
    "hubble_deep_field", "immunohistochemistry", "moon", "page", "retina", "rocket", "text",
)  # fmt: skip
_PIECES, _TAKES = 6, 2  # of each photograph; of each piece
_PIECE = (0.45, 1.0)  # of a photograph's height and width
_LONGEST_PX = 448
_ASIDE = 0.035  # of height and width, by which corners move
_GAIN, _GRADIENT, _CAST = (0.75, 1.12), (0.05, 0.35), 0.06
_BLUR, _NOISE, _JPEG = (0.3, 1.0), (1.0, 5.0), (65, 93)
BORDER = 3  # cells


def retaken(embedder: Embedder) -> Floats:
    """(N, D) differences of patches from their counterparts."""
    rng = np.random.default_rng(0)
    with embedder.repeatable():
        return np.concatenate(list(_differences(rng, embedder)))


def _differences(rng: np.random.Generator, embedder: Embedder) -> Iterator[Floats]:
    for name in PHOTOGRAPHS:
        photograph = _colour(getattr(data, name)())
        for _ in range(_PIECES):
            piece = _piece(rng, photograph)
            before = embedder.embed([piece])[0].patches
            for _ in range(_TAKES):
                image, motion = retake(rng, piece)
                apart = from_nearest(before, embedder.embed([image])[0].patches, motion)
                yield apart.reshape(-1, apart.shape[2])


def _colour(image: np.ndarray) -> Pixels:
    image = np.asarray(image if image.dtype == np.uint8 else image * 255.0, np.uint8)
    return np.repeat(image[:, :, None], 3, axis=2) if image.ndim == 2 else image[:, :, :3]


def _piece(rng: np.random.Generator, photograph: Pixels) -> Pixels:
    height, width = (round(rng.uniform(*_PIECE) * side) for side in photograph.shape[:2])
    top = rng.integers(photograph.shape[0] - height + 1)
    left = rng.integers(photograph.shape[1] - width + 1)
    return fit_longest_side(photograph[top : top + height, left : left + width], _LONGEST_PX)


def retake(rng: np.random.Generator, image: Pixels) -> tuple[Pixels, Matrix]:
    """Another photograph of it, and how its pixels moved."""
    height, width = image.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    moved = corners + rng.uniform(-_ASIDE, _ASIDE, (4, 2)) * [width, height]
    motion = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
    seen = cv2.warpPerspective(image, motion, (width, height), borderMode=cv2.BORDER_REPLICATE)
    y, x = np.mgrid[-0.5 : 0.5 : height * 1j, -0.5 : 0.5 : width * 1j]
    turn = rng.uniform(0, 2 * np.pi)
    slope = rng.uniform(*_GRADIENT) * (np.cos(turn) * x + np.sin(turn) * y)
    light = rng.uniform(*_GAIN) * (1 + slope[:, :, None]) * (1 + rng.uniform(-_CAST, _CAST, 3))
    focused = cv2.GaussianBlur(seen * light, (0, 0), rng.uniform(*_BLUR))
    noisy = focused + rng.normal(0, rng.uniform(*_NOISE), seen.shape)
    taken = np.clip(noisy, 0, 255).astype(np.uint8)
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(*_JPEG))]
    stored = cv2.imdecode(cv2.imencode(".jpg", taken, quality)[1], cv2.IMREAD_COLOR)
    return np.asarray(stored, np.uint8), motion


def from_nearest(before: PatchGrid, after: PatchGrid, motion: Matrix) -> Floats:
    """(H, W, D): at each place of a piece, the later patch less the nearest about it before.
    Without `BORDER` cells on each side, some of which came from beyond the picture."""
    here = before.dense()
    places = after.cells_of(transform(motion, before.centres_px().reshape(-1, 2)))
    there = sampled(after.dense(), places.reshape(*here.shape[:2], 2))
    _, nearest = in_window(there, here, np.ones(here.shape[:2], np.bool_))
    return (there - nearest)[BORDER:-BORDER, BORDER:-BORDER]
