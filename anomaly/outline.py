"""Does the product's outline lie where its references' outlines do? Dents, bulges, torn edges and
open flaps move it while print and texture stay as they were.

Every point of the query's outline is carried to each aligned reference and its distance to that
reference's outline is taken there; the nearest reference speaks. Distances are shares of the
product's size (the square root of its area), so they don't depend on the camera's distance. Their
noise is multiplicative (a crisp carton's are a tenth of a loose bag's), so evidence is the
logarithm. What lies farther off than a twentieth is no dent but something beside the product, which
other channels see, or a mask that failed: it counts as much and no more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly.results import Pairing
from embeddings.foreground import Foreground
from embeddings.images import Mask
from embeddings.patches import Floats
from embeddings.registration import inverse, transform
from gallery.describe import Reference

_TRUSTED = 0.5  # foreground confidence from which a mask's outline is the product's
_POINTS = 512  # of an outline, at most
_EDGE = 0.015  # of the longer side: an outline that near the picture's edge is cut off there
_LEAST = 16  # points under which an outline says nothing
TOP = 0.1  # share of the outline that a dent takes
_FINEST, _MOST = 0.002, 0.05  # distances that are told apart


@dataclass(frozen=True)
class Outline:
    """points_xy  (N, 2) float64 pixels of the query's outline
    off         (N,) float32 distance to the nearest reference's outline over the product's size,
                0.05 at most
    score       natural logarithm of the mean of the highest tenth of `off`
    share       of the outline's points that some reference speaks of
    """

    points_xy: NDArray[np.float64]
    off: Floats
    score: float
    share: float


def compare_outlines(
    foreground: Foreground,
    references: Sequence[tuple[Reference, Pairing]],
    *,
    picture_size: tuple[int, int],
) -> Outline | None:
    """How far the query's outline is off its aligned references'; None where nothing can be said:
    no trusted mask on one of both sides, or an outline that is cut off by the picture.

    `foreground` is the query's; its mask may have any size.
    """
    if foreground.confidence < _TRUSTED:
        return None
    points = _points(foreground.mask, picture_size)
    trusted = [
        pair
        for pair in references
        if pair[0].foreground.confidence >= _TRUSTED and pair[0].foreground.mask.any()
    ]
    if len(points) < _LEAST or not trusted:
        return None
    found = [_off(points, reference, pairing) for reference, pairing in trusted]
    off: Floats = np.fmin.reduce(np.stack(found), axis=0)  # NaN only where every reference is
    known = np.isfinite(off)
    if known.sum() < _LEAST:
        return None
    share = float(known.mean())
    off, points = np.clip(off[known], _FINEST, _MOST), points[known]
    count = max(1, round(TOP * len(off)))
    score = math.log(np.partition(off, len(off) - count)[-count:].mean())
    return Outline(points, off, score, share)


def draw_outline(outline: Outline, cells_xy: NDArray[np.float64], shape: tuple[int, int]) -> Floats:
    """(H, W) map of the largest distance per cell, as logarithms; NaN off the outline.

    `cells_xy`: (N, 2) cell coordinates of its points.
    """
    drawn = np.full(shape, -np.inf, np.float32)
    places = np.rint(np.nan_to_num(cells_xy, nan=-9.0)).astype(np.intp)
    inside = (places >= 0).all(axis=1) & (places < [shape[1], shape[0]]).all(axis=1)
    np.maximum.at(drawn, (places[inside, 1], places[inside, 0]), outline.off[inside])
    return np.log(np.where(np.isfinite(drawn), drawn, np.nan)).astype(np.float32)


def _points(mask: Mask, picture_size: tuple[int, int]) -> NDArray[np.float64]:
    """(N, 2) pixels of the picture along the mask's outlines, evenly, off the picture's edge."""
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not outlines:
        return np.zeros((0, 2))
    points = np.concatenate([outline[:, 0] for outline in outlines]).astype(np.float64)
    height, width = mask.shape
    edge = max(1.0, _EDGE * max(height, width))
    kept = points[_away(points, (height, width), edge)]
    kept = kept[:: max(1, -(-len(kept) // _POINTS))]
    scale = np.array([picture_size[1] / width, picture_size[0] / height])
    return np.asarray((kept + 0.5) * scale - 0.5, np.float64)


def _off(points: NDArray[np.float64], reference: Reference, pairing: Pairing) -> Floats:
    """(N,) distance of query points to a reference's outline; NaN where that is cut off."""
    assert pairing.registration.matrix is not None
    mask = reference.foreground.mask
    height, width = reference.patches.image_size
    scale = np.array([mask.shape[1] / width, mask.shape[0] / height])
    there = (transform(inverse(pairing.registration.matrix), points) + 0.5) * scale - 0.5
    there = np.where(np.isfinite(there), there, -1e4)
    size = math.sqrt(max(1, int(mask.sum())))
    rows, columns = _near(mask, math.ceil(_MOST * size) + 2)
    signed = _from_outline(mask[rows, columns])
    x, y = (there - [columns.start, rows.start]).astype(np.float32).T
    found = cv2.remap(signed, x[None], y[None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    edge = max(1.0, _EDGE * max(mask.shape[0], mask.shape[1]))
    known = _away(there, (mask.shape[0], mask.shape[1]), edge)
    return np.where(known, np.abs(found[0]) / size, np.nan).astype(np.float32)


def _near(mask: Mask, margin: int) -> tuple[slice, slice]:
    """The product and a margin: beyond it the border stands for what is too far to be told."""
    rows, columns = (
        slice(max(0, int(found[0]) - margin), int(found[-1]) + margin + 1)
        for found in (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    )
    return rows, columns


def _from_outline(mask: Mask) -> Floats:
    """(H, W) distance of each pixel's centre to the mask's outline, negative outside. Centres lie
    half a pixel inside or outside: the outline runs between them."""
    inner = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    outer = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    return np.asarray(np.where(mask, inner - 0.5, 0.5 - outer), np.float32)


def _away(points: NDArray[np.float64], size: tuple[int, ...], edge: float) -> Mask:
    x, y = points.T
    inside = (x >= edge) & (x <= size[1] - 1 - edge) & (y >= edge) & (y <= size[0] - 1 - edge)
    return np.asarray(inside, np.bool_)
