"""Pictures in the frame of a view, at the size that was embedded: the query's and references'."""

from __future__ import annotations

import math
from typing import TypeVar

import cv2
import numpy as np

from anomaly.results import Pairing, View
from embeddings.images import Pixels
from embeddings.patches import Floats
from embeddings.registration import Matrix, inverse
from gallery.describe import Reference

_Picture = TypeVar("_Picture", Pixels, Floats)


def look_of(image: Pixels, view: View) -> Pixels:
    """(h, w, 3) uint8: the picture as given -> what the view's patches were computed from."""
    height, width = view.patches.working_size
    matrix = to_look(view)
    scale = 1 / math.sqrt(abs(float(np.linalg.det(matrix[:2, :2]))))
    if np.array_equal(view.matrix, np.eye(3)):
        how = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(image, (width, height), interpolation=how))
    if scale > 1.2:  # what the smaller picture can't show would come back as aliasing
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), 0.4 * scale))
    return warped(image, matrix, (height, width))


def to_look(view: View) -> Matrix:
    """Pixels of the picture as given -> pixels of the look."""
    return np.asarray(view.patches.to_working() @ view.matrix)


def onto_look(reference: Reference, pairing: Pairing, view: View) -> Matrix:
    """Pixels of the reference's thumbnail -> pixels of the view's look. It must have registered."""
    assert pairing.registration.matrix is not None
    to_picture = pairing.registration.matrix @ inverse(reference.patches.to_working())
    return np.asarray(to_look(view) @ to_picture)


def warped(picture: Pixels, motion: Matrix, size: tuple[int, int]) -> Pixels:
    """(h, w, 3): `picture` moved; its edge goes on beyond it."""
    return np.asarray(
        cv2.warpPerspective(
            picture, motion, size[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
    )


def part_of(image: Pixels, motion: Matrix, size: tuple[int, int]) -> Pixels:
    """(h, w, 3): what a motion from the picture as given brings into a frame of `size`; reads no
    more of a large picture than that shows."""
    scale = 1 / math.sqrt(abs(float(np.linalg.det(motion[:2, :2]))))
    height, width = size
    corners = np.array([[-1, width, -1, width], [-1, -1, height, height], [1, 1, 1, 1]])
    there = inverse(motion) @ corners
    there = there[:2] / there[2]
    margin = 2 * scale + 2
    x0, y0 = (max(0, math.floor(low - margin)) for low in there.min(axis=1))
    x1, y1 = (math.ceil(high + margin) for high in there.max(axis=1))
    part = image[min(y0, image.shape[0] - 1) : max(1, y1), min(x0, image.shape[1] - 1) : max(1, x1)]
    x0, y0 = min(x0, image.shape[1] - 1), min(y0, image.shape[0] - 1)
    if scale > 1.2:  # what the smaller picture can't show would come back as aliasing
        part = np.asarray(cv2.GaussianBlur(part, (0, 0), 0.4 * scale))
    return warped(part, motion @ np.array([[1, 0, x0], [0, 1, y0], [0, 0, 1]]), size)


def warped_mask(mask: Pixels, motion: Matrix, size: tuple[int, int]) -> Pixels:
    """(h, w) uint8: a mask moved, 0 beyond it."""
    return np.asarray(cv2.warpPerspective(mask, motion, size[::-1], flags=cv2.INTER_NEAREST))


def scaled(factor: float) -> Matrix:
    """Pixels -> pixels of the picture `factor` times as large."""
    rest = (factor - 1) / 2
    return np.array([[factor, 0, rest], [0, factor, rest], [0, 0, 1]])


def darkest(picture: _Picture) -> _Picture:
    """(h, w): the darkest of each pixel's three colours."""
    red, green, blue = cv2.split(picture)
    return np.asarray(cv2.min(cv2.min(red, green), blue))
