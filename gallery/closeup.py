"""The product itself, in as many pixels as its picture has: what fine comparisons look at.

A picture is embedded whole, so that a product far from the camera is a few cells there. Its
close-up doesn't hang on the camera's distance: the product's box with a margin, at the picture's
own resolution or `CLOSE_UP_PX` on the longest side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from embeddings.foreground import Foreground
from embeddings.images import Pixels, fit_longest_side
from embeddings.on_product import TRUSTED
from gallery.compress import decode_thumbnail, encode_thumbnail

CLOSE_UP_PX = 384
CLOSE_UPS = f"{CLOSE_UP_PX} px/1"
_MARGIN = 0.06  # of the product's longest side
_WORTH = 1.15  # times the embedded picture's resolution, under which its thumbnail says the same


@dataclass(frozen=True)
class CloseUp:
    """`coded`: (n,) uint8, a JPEG; `box_px`: (x0, y0, x1, y1) of the picture that it shows, whole
    pixels, half-open."""

    coded: NDArray[np.uint8]
    box_px: tuple[int, int, int, int]

    @cached_property
    def picture(self) -> Pixels:
        """(H, W, 3) uint8 RGB. Raises `DamagedGallery`."""
        return decode_thumbnail(self.coded)

    def to_close(self) -> NDArray[np.float64]:
        """(3, 3) pixels of the picture as given -> pixels of the close-up."""
        x0, y0, x1, y1 = self.box_px
        height, width = self.picture.shape[:2]
        across, down = width / (x1 - x0), height / (y1 - y0)
        return np.array([
            [across, 0, (0.5 - x0) * across - 0.5], [0, down, (0.5 - y0) * down - 0.5], [0, 0, 1]
        ])  # fmt: skip


def close_up(image: Pixels, foreground: Foreground, *, embedded_px: int) -> CloseUp | None:
    """The close-up of an (H, W, 3) picture; None where its product isn't known, or hardly larger
    than in the whole picture with a longest side of `embedded_px`. The mask may have any size."""
    mask = foreground.mask
    if foreground.confidence < TRUSTED or not mask.any():
        return None
    height, width = image.shape[:2]
    x, y, wide, tall = cv2.boundingRect(mask.astype(np.uint8))
    scale = np.array([width / mask.shape[1], height / mask.shape[0]] * 2)
    x0, y0, x1, y1 = np.array([x, y, x + wide, y + tall]) * scale
    margin = _MARGIN * max(x1 - x0, y1 - y0)
    box = (
        max(0, math.floor(x0 - margin)), max(0, math.floor(y0 - margin)),
        min(width, math.ceil(x1 + margin)), min(height, math.ceil(y1 + margin)),
    )  # fmt: skip
    longest = max(box[2] - box[0], box[3] - box[1])
    if min(1.0, CLOSE_UP_PX / longest) < _WORTH * embedded_px / max(height, width):
        return None
    part = np.ascontiguousarray(image[box[1] : box[3], box[0] : box[2]])
    fitted = fit_longest_side(part, CLOSE_UP_PX) if longest > CLOSE_UP_PX else part
    return CloseUp(encode_thumbnail(fitted), box)
