"""What is photographed: faces (flat prints with a silhouette) and the products they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Colour = NDArray[np.uint8]  # (h, w, 3) RGB
Real = NDArray[np.float32]
Mask = NDArray[np.bool_]
FACE_PX = 720  # longest side of a face: twice what it measures in the largest photograph


@dataclass(frozen=True, eq=False)
class Face:
    """One flat side: `colour` (h, w, 3) uint8 RGB, `alpha` (h, w) float32, 1 on the product.

    A set has `units`, one (h, w) bool mask for each unit and its shadow, and `empty`, the
    (h, w, 3) colour it would have with every unit gone. `swaps` are its likes with every unit
    replaced by another product's, in the same places.
    """

    colour: Colour
    alpha: Real
    units: tuple[Mask, ...] = ()
    empty: Colour | None = None
    swaps: tuple[Face, ...] = ()


@dataclass(frozen=True, eq=False)
class Product:
    """`softness`: how far its skin moves between photographs, in face pixels. `gloss`: 0 to 1."""

    product_id: str
    kind: str
    faces: Mapping[str, Face]
    softness: float = 0.0
    gloss: float = 0.3


def full_face(colour: Colour, *, corner_px: float = 0.0) -> Face:
    """A face that fills its rectangle, its corners rounded by `corner_px`."""
    return Face(colour, rounded_rectangle(colour.shape[:2], corner_px=corner_px))


def rounded_rectangle(shape: tuple[int, ...], *, corner_px: float) -> Real:
    """(h, w) float32 coverage of a rectangle with rounded corners that fills `shape`."""
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    half_h, half_w = (shape[0] - 1) / 2, (shape[1] - 1) / 2
    over_y = np.maximum(np.abs(rows - half_h) - (half_h - corner_px), 0)
    over_x = np.maximum(np.abs(columns - half_w) - (half_w - corner_px), 0)
    inside = corner_px + 0.5 - np.hypot(over_x, over_y)
    return np.asarray(np.clip(inside, 0, 1), dtype=np.float32)
