"""Where a photograph says little because there was more light than the sensor takes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from embeddings.images import Mask, Pixels, fit_longest_side
from embeddings.patches import PatchGrid

EXPOSURE_VERSION = 1
_SIZE_PX = 448
_CLIPPED = 246  # 255 less the noise that clipping, a lens and a JPEG leave
_BRIGHT = 230  # what a little more light would clip
_BRIGHT_SHARE = 0.75  # of a cell


@dataclass(frozen=True)
class Exposure:
    """`clipped`: share of the picture's pixels that are clipped; `bright`: (H, W) bool of the patch
    grid, cells that are white or nearly so."""

    clipped: float
    bright: Mask


def exposure_of(image: Pixels, grid: PatchGrid) -> Exposure:
    """How the picture that `grid` was made from is exposed."""
    x0, y0, x1, y1 = (round(side) for side in grid.box_px)
    white = _above(image[y0:y1, x0:x1], _BRIGHT).astype(np.uint8) * np.uint8(255)
    shares = cv2.resize(white, grid.shape[::-1], interpolation=cv2.INTER_AREA)
    return Exposure(float(clipped_pixels(image).mean()), np.asarray(shares > 255 * _BRIGHT_SHARE))


def clipped_pixels(image: Pixels) -> Mask:
    """(h, w) bool of the picture at 448 px on its longest side, or as given if it is smaller:
    where all three colours are clipped, as in a lamp's mirror image."""
    if max(image.shape[:2]) <= _SIZE_PX:
        return _above(image, _CLIPPED)
    if not _above(image, _CLIPPED).any():  # most pictures: shrinking costs more than looking
        scale = _SIZE_PX / max(image.shape[:2])
        height, width = (max(1, round(scale * side)) for side in image.shape[:2])
        return np.zeros((height, width), np.bool_)
    return _above(fit_longest_side(image, _SIZE_PX), _CLIPPED)


def _above(image: Pixels, level: int) -> Mask:
    """(H, W) bool: where all colours are."""
    return np.asarray(cv2.inRange(image, (level,) * 3, (255,) * 3) > 0)
