"""Which pixels are the product: a mask that was given, or an estimate with a confidence.

The estimate compares each pixel's colour with the colours along each of the four borders (a
background prior, as in Wei et al., "Geodesic saliency using background priors", ECCV 2012) and
splits the distances in two classes (Otsu 1979). Its confidence falls when the classes need much
tidying, when outlines are ragged, when the "product" runs along the border, or when its area is
implausible: then callers fall back to the picture's centre.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from embeddings.errors import MaskError
from embeddings.images import Mask, Pixels, fit_longest_side

FOREGROUND_VERSION = 1
_WORKING_PX = 160
_BORDER = 0.06  # width of the border bands, as a share of the picture's sides
_MIN_SIDE = 8
_MIN_AREA, _MAX_AREA = 0.01, 0.85


@dataclass(frozen=True)
class Foreground:
    """`mask`: (H, W) bool, True on the product. `confidence`: 0 (a guess) to 1 (given)."""

    mask: Mask
    confidence: float
    source: str  # given | estimated


def given_foreground(mask: Mask) -> Foreground:
    """A supplied mask, trusted. Raises `MaskError` if it marks nothing."""
    if mask.ndim != 2 or mask.dtype != np.bool_ or not mask.any():
        raise MaskError(
            f"mask {mask.dtype}{list(mask.shape)} with {int(np.count_nonzero(mask))} product "
            "pixels; expected (H, W) bool with at least one"
        )
    return Foreground(mask, 1.0, "given")


def estimate_foreground(image: Pixels) -> Foreground:
    """Guess the product's pixels in an (H, W, 3) uint8 RGB picture; see the module's text."""
    height, width = image.shape[:2]
    if min(height, width) < _MIN_SIDE:
        return Foreground(np.ones((height, width), np.bool_), 0.0, "estimated")
    small = fit_longest_side(image, min(_WORKING_PX, max(height, width)))
    colours = cv2.cvtColor(cv2.GaussianBlur(small, (0, 0), 1.2), cv2.COLOR_RGB2LAB)
    unlike = _distance_from_borders(colours.astype(np.float32))
    if float(unlike.max() - unlike.min()) < 1e-6:
        return Foreground(np.ones((height, width), np.bool_), 0.0, "estimated")
    raw = _upper_class(unlike)
    mask = _tidy(raw)
    confidence = _confidence(raw, mask)
    full = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    if not full.any():
        return Foreground(np.ones((height, width), np.bool_), 0.0, "estimated")
    return Foreground(full.astype(np.bool_), confidence, "estimated")


def _bands(shape: tuple[int, int]) -> list[tuple[slice, slice]]:
    rows, columns = (max(2, round(_BORDER * side)) for side in shape)
    every = slice(None)
    return [
        (slice(0, rows), every),
        (slice(-rows, None), every),
        (every, slice(0, columns)),
        (every, slice(-columns, None)),
    ]


def _distance_from_borders(colours: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W) log distance to the nearest of the four borders' colour distributions."""
    distances = []
    for rows, columns in _bands(colours.shape[:2]):
        band = colours[rows, columns].reshape(-1, 3)
        # 3 grey levels of noise keep the distribution of a uniform border finite.
        spread = np.cov(band, rowvar=False) + 9.0 * np.eye(3)
        centred = colours - band.mean(axis=0)
        distances.append(np.einsum("hwc,cd,hwd->hw", centred, np.linalg.inv(spread), centred))
    return cast(NDArray[np.float32], np.log1p(np.min(distances, axis=0)).astype(np.float32))


def _upper_class(unlike: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Otsu's upper class of a map, as 0/1."""
    spread = float(unlike.max() - unlike.min())
    levels = ((unlike - unlike.min()) * (255 / spread)).astype(np.uint8)
    return cast(NDArray[np.uint8], cv2.threshold(levels, 0, 1, cv2.THRESH_OTSU)[1])


def _tidy(mask: NDArray[np.uint8]) -> Mask:
    """Close gaps, fill holes, drop thin threads and specks: parts under a tenth of the largest."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
    closed = cv2.morphologyEx(np.pad(mask, 8), cv2.MORPH_CLOSE, disc)
    outside = closed.copy()
    cv2.floodFill(outside, None, (0, 0), 1)
    solid = cv2.morphologyEx(closed | (1 - outside), cv2.MORPH_OPEN, disc)[8:-8, 8:-8]
    _, labels, stats, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(solid))
    areas = stats[:, cv2.CC_STAT_AREA].astype(np.int64)
    areas[0] = 0
    keep = np.flatnonzero(areas >= max(1.0, 0.1 * areas.max()))
    return np.asarray(np.isin(labels, keep), dtype=np.bool_)


def _confidence(raw: NDArray[np.uint8], mask: Mask) -> float:
    """Product of three doubts, each 0 to 1: ragged classes, ragged outlines, border contact."""
    if not _MIN_AREA <= float(mask.mean()) <= _MAX_AREA:
        return 0.0
    agreement = float((mask & (raw > 0)).sum() / (mask | (raw > 0)).sum())
    border = np.ones(mask.shape, np.bool_)
    border[1:-1, 1:-1] = False
    touching = float(mask[border].mean())
    # Clutter needs much tidying and has outlines full of bays; a "product" along a quarter of the
    # border is more likely the background's other half.
    tidy = np.clip((agreement - 0.5) / 0.3, 0, 1)
    convex = np.clip((_solidity(mask) - 0.6) / 0.25, 0, 1)
    return float(tidy * convex * np.clip(1 - touching / 0.25, 0, 1))


def _solidity(mask: Mask) -> float:
    """Area over convex area, each part against its own hull: 1 for any set of convex things."""
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hulls = sum(cv2.contourArea(cv2.convexHull(outline)) for outline in outlines)
    return min(1.0, sum(cv2.contourArea(o) for o in outlines) / hulls) if hulls > 0 else 0.0
