"""How much of its reference's fine detail a picture shows, where both show the same print.

A picture that is out of focus, or has too few pixels, differs from its references all over and by
no damage. Blur takes from the finest detail first: what it leaves of that, in proportion to coarser
detail, is its share. Light and contrast change both alike; damage changes single places, so the
median over places tells.
"""

from __future__ import annotations

import cv2
import numpy as np

from embeddings.images import Mask, Pixels
from embeddings.patches import Floats

_FINE, _COARSE = 1.0, 3.0  # sigmas, pixels: detail below the one; between both
_AROUND = (17, 17)  # pixels over which it is averaged
_LEAST_PRINT = 9.0  # squared grey levels of coarser detail that a place of the reference must have
_LEAST = 20  # places
_NOISE = 0.05  # squared grey levels


def fine_detail(look: Pixels, there: Pixels, where: Mask, *, stride: int) -> float:
    """The query's share of fine detail over its reference's; 1 = as sharp, NaN where too little
    print tells.

    look, there  (h, w, 3) uint8 RGB: the picture of a view, and a reference moved there
    where        (H, W) bool, cells of the view, `stride` pixels wide, that show the product
    """
    inner = cv2.erode(where.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0) > 0
    ours, theirs = _detail(look, stride), _detail(there, stride)
    inner = inner[: ours.shape[1], : ours.shape[2]]
    known = inner & (theirs[1] >= _LEAST_PRINT)
    if known.sum() < _LEAST:
        return float("nan")
    fine, coarse = (ours[:, known] + _NOISE) / (theirs[:, known] + _NOISE)
    return float(np.sqrt(np.median(fine / coarse)))


def _detail(picture: Pixels, stride: int) -> Floats:
    """(2, H, W) mean square of fine and of coarser detail around the centre of each cell."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    calm = cv2.GaussianBlur(grey, (0, 0), _FINE)
    bands = (grey - calm, calm - cv2.GaussianBlur(calm, (0, 0), _COARSE))
    middle = slice(stride // 2, None, stride)
    return np.stack([cv2.blur(band * band, _AROUND)[middle, middle] for band in bands])
