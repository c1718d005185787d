"""The pictures that scorers are given: checked, in an order of their own, resized."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import cv2
import numpy as np

from anomaly.scorers.errors import NoReferences, NotAPicture
from embeddings.images import Pixels


def checked(picture: Pixels) -> Pixels:
    """`picture` itself; raises `NotAPicture` unless it is (H, W, 3) uint8 with pixels in it."""
    shape = getattr(picture, "shape", None)
    right = shape is not None and len(shape) == 3 and shape[2] == 3 and min(shape[:2]) > 0
    if not right or picture.dtype != np.uint8:
        came = f"{picture.dtype}{list(shape)}" if shape is not None else type(picture).__name__
        raise NotAPicture(f"got {came}; expected uint8 [H, W, 3], as `read_image` gives it")
    return picture


def checked_references(references: Sequence[Pixels]) -> list[Pixels]:
    """At least one picture, in the order given; raises `NoReferences`, `NotAPicture`."""
    if len(references) == 0:
        raise NoReferences("no references came; a scorer needs at least one pristine picture")
    return [checked(picture) for picture in references]


def in_own_order(references: Sequence[Pixels]) -> list[Pixels]:
    """Checked and sorted by content, so that ties don't hang on the order they came in."""
    return sorted(checked_references(references), key=lambda picture: digest(picture))


def digest(picture: Pixels, *, salt: int = 0) -> bytes:
    """32 bytes that hang on every pixel, on the shape and on `salt`."""
    found = hashlib.sha256(f"{salt} {picture.shape}".encode())
    found.update(np.ascontiguousarray(picture).data)
    return found.digest()


def squared(picture: Pixels, size_px: int) -> Pixels:
    """(H, W, 3) -> (size_px, size_px, 3), aspect lost: areas averaged where a side shrinks."""
    height, width = picture.shape[:2]
    shrunk = (min(width, size_px), min(height, size_px))
    # Asked for both at once, OpenCV drops the averaging as soon as one side grows.
    smaller = cv2.resize(picture, shrunk, interpolation=cv2.INTER_AREA)
    return np.asarray(
        cv2.resize(smaller, (size_px, size_px), interpolation=cv2.INTER_LINEAR), np.uint8
    )
