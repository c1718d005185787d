"""Where a product ends, evidence says less: its rim, and means of the highest values elsewhere.

Within two cells of the outline the product's edge, its shadow, and what lies beneath it meet, and
alignment of a solid body fits least: four of five pristine pictures have their loudest cell there.
So the rim is a channel of its own, and what lies within is set against what is usual within.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from embeddings.images import Mask
from embeddings.patches import Floats

_WIDTH = 0.1  # of the root of the product's area
_MOST = 2  # cells
_SHARE = 0.005  # of a placed map whose mean is its score: a defect is small


def grown(product: Mask) -> Mask:
    """(H, W) the product and the cells that touch it."""
    return np.asarray(cv2.dilate(product.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)


def within(product: Mask) -> Mask:
    """(H, W) cells of the product that are none of its rim. The picture's border is no rim."""
    width = min(_MOST, round(_WIDTH * math.sqrt(float(product.sum()))))
    if width == 0:
        return product
    core = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    return np.asarray(cv2.erode(product.astype(np.uint8), core) > 0)


def top_mean(values: Floats, *, share: float = 0.01) -> float:
    """Mean of the highest `share` of the measured values, at least one; NaN if there is none.

    Top 1 %: the aggregation of AnomalyDINO (arXiv 2405.14529) and others.
    """
    measured = values[np.isfinite(values)]
    if measured.size == 0:
        return float("nan")
    count = max(1, round(share * measured.size))
    return float(np.partition(measured, measured.size - count)[-count:].mean())


def placed_score(values: Floats) -> float:
    """The score of a map that was compared place by place."""
    return top_mean(values, share=_SHARE)
