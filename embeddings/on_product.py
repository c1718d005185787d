"""Which local features of a picture are on the product, as far as its foreground can be trusted."""

from __future__ import annotations

import cv2
import numpy as np

from embeddings.foreground import Foreground
from embeddings.images import Mask
from embeddings.keypoints import Keypoints

TRUSTED = 0.5
"""Foreground confidence from which features off the product are left out."""
_MASK_PX = 448  # longest side at which it is looked up whether a feature is on the product
_MARGIN = 0.012  # of the longer side: features sit on outlines, too


def trusted_points(points: Keypoints, ground: Foreground) -> Keypoints:
    """Those on the product where the foreground is trusted, else all: a belt agrees, too."""
    return on_product(points, ground) if ground.confidence >= TRUSTED else points


def on_product(points: Keypoints, ground: Foreground) -> Keypoints:
    """The keypoints on the product, or on what is guessed to be it."""
    # The mask has a size of its own, and needs no more than this one: compare in its pixels.
    mask = _shrunk(ground.mask)
    height, width = mask.shape
    scale = np.array([width / points.image_size[1], height / points.image_size[0]])
    x, y = np.rint((points.points_xy + 0.5) * scale - 0.5).astype(np.intp).T
    grown = _grown(mask)
    inside = grown[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
    return points.take(np.flatnonzero(inside))


def _shrunk(mask: Mask) -> Mask:
    if max(mask.shape) <= _MASK_PX:
        return mask
    scale = _MASK_PX / max(mask.shape)
    height, width = (max(1, round(scale * side)) for side in mask.shape)
    small = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    return np.asarray(small > 0)


def _grown(mask: Mask) -> Mask:
    size = 2 * max(1, round(_MARGIN * max(mask.shape))) + 1
    return np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((size, size), np.uint8)) > 0)
