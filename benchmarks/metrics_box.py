"""Boxes that a scorer points at, against boxes of the truth. All boxes: x0 y0 x1 y1 px, half-open.

A box is hit when one region covers at least 30 % of it, or lies at least 50 % inside it: a scorer
may point at a defect generously, or at its clearest part. A region is false when it touches no box
grown by 8 px to each side.

`count_boxes` counts regions that a scorer chose itself. Scorers that only give heat are cut at one
threshold for a whole set, the one at which most boxes are hit with no more than half a false region
in a picture (`cut_heat`): the best operating point that hindsight can find, for every scorer alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]
Heat = NDArray[np.float32]
MOST_FALSE = 0.5  # regions per picture
_COVERED, _INSIDE, _GROWN_PX = 0.3, 0.5, 8.0
_THRESHOLDS, _MOST_MARKED = 60, 0.1


@dataclass(frozen=True)
class BoxCounts:
    """One picture: boxes of the truth, those that are hit, regions pointed at, false ones."""

    truth: int
    hit: int
    regions: int
    false: int


def count_boxes(truth: Sequence[Box], regions: Sequence[Box]) -> BoxCounts:
    """Raises `ValueError` naming a box that isn't finite or has no area."""
    boxes, pointed = _array(truth, "truth"), _array(regions, "region")
    shared = _shared_area(boxes, pointed)
    hit = (shared >= _COVERED * _area(boxes)[:, None]) | (shared >= _INSIDE * _area(pointed)[None])
    grown = boxes + np.array([-_GROWN_PX, -_GROWN_PX, _GROWN_PX, _GROWN_PX])
    touched = (_shared_area(grown, pointed) > 0).any(0)
    return BoxCounts(len(boxes), int(hit.any(1).sum()), len(pointed), int((~touched).sum()))


@dataclass(frozen=True)
class Heated:
    """A picture of `size` (height, width) px: its heat (h, w), evenly over it, and its boxes."""

    heat: Heat
    size: tuple[int, int]
    truth: Sequence[Box]


def cut_heat(pictures: Sequence[Heated], *, most_false: float = MOST_FALSE) -> list[BoxCounts]:
    """Counts for each picture at the threshold that hits most boxes with at most `most_false`
    false regions per picture; of equals, the highest. NaN is no heat.

    Thresholds are quantiles of all the heat, geometrically closer towards its top, that mark a
    tenth of it at most: to point at everything hits every box. Above all heat nothing is pointed
    at, so there is always an answer.
    """
    if not pictures:
        return []
    known = np.concatenate([p.heat[np.isfinite(p.heat)] for p in pictures])
    tried = [np.inf]
    if known.size:
        tops = np.geomspace(1 / known.size, _MOST_MARKED, _THRESHOLDS)
        levels = np.unique(np.quantile(known, 1 - tops))[::-1]
        tried += [x for x in levels.tolist() if (known >= x).mean() <= _MOST_MARKED]
    best: list[BoxCounts] = []
    for threshold in tried:
        counts = [count_boxes(p.truth, regions_above(p, threshold)) for p in pictures]
        hits = sum(count.hit for count in counts)
        if false_regions(counts) <= most_false and (
            not best or hits > sum(count.hit for count in best)
        ):
            best = counts
    return best


def regions_above(picture: Heated, threshold: float) -> list[Box]:
    """Boxes around what is connected (8 neighbours) and at or above the threshold."""
    with np.errstate(invalid="ignore"):
        hot = (picture.heat >= threshold).astype(np.uint8)
    if not hot.any():
        return []
    _, _, stats, _ = cv2.connectedComponentsWithStats(hot, connectivity=8)
    down, right = picture.size[0] / hot.shape[0], picture.size[1] / hot.shape[1]
    return [
        (x * right, y * down, (x + wide) * right, (y + tall) * down)
        for x, y, wide, tall, _ in stats[1:].tolist()
    ]


def box_recall(counts: Sequence[BoxCounts]) -> float:
    """Share of all boxes that is hit; NaN if there is none."""
    total = sum(count.truth for count in counts)
    return sum(count.hit for count in counts) / total if total else float("nan")


def false_regions(counts: Sequence[BoxCounts]) -> float:
    """False regions per picture; NaN without pictures."""
    return sum(count.false for count in counts) / len(counts) if counts else float("nan")


def _array(boxes: Sequence[Box], kind: str) -> NDArray[np.float64]:
    array = np.asarray(boxes, np.float64).reshape(-1, 4)
    for box in array:
        if not np.isfinite(box).all() or box[2] <= box[0] or box[3] <= box[1]:
            raise ValueError(
                f"{kind} box {box.tolist()}: give finite x0 y0 x1 y1 with x0 < x1 and y0 < y1"
            )
    return array


def _area(boxes: NDArray[Any]) -> NDArray[Any]:
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))


def _shared_area(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    """(A, B) areas that boxes (A, 4) and (B, 4) have in common."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    return np.asarray(np.clip(high - low, 0, None).prod(-1))
