"""Local features: SIFT keypoints of a picture, the strongest and best spread ones kept.

SIFT (Lowe 2004) because it needs no weights and both OpenCV 4 and 5 have it. Coordinates are
float32 pixel centres of the picture as given; descriptors are OpenCV's, exact as uint8, and are
compared as RootSIFT (Arandjelovic & Zisserman 2012).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from embeddings.images import Mask, Pixels, fit_longest_side, scale_points
from embeddings.patches import Floats

KEYPOINTS_VERSION = 3
MAX_STORED = 500
DETECTION_PX = 640
_SCENE_PX = 320  # where the product is searched apart: in case the guess is wrong
_CLOSE = 0.67  # of the picture's longer side: what the part must fit in to be searched apart
_MARGIN = 0.15  # around the product, as a share of its longer side
_BUCKETS = 8  # keypoints are drawn evenly from _BUCKETS x _BUCKETS parts of the picture


@dataclass(frozen=True)
class Keypoints:
    """N local features of a picture of `image_size` (height, width).

    points_xy   (N, 2) float32 pixels
    sizes_px    (N,) float32 diameter of the described neighbourhood's core
    angles_deg  (N,) float32 orientation, clockwise from x
    descriptors (N, 128) uint8
    """

    points_xy: Floats
    sizes_px: Floats
    angles_deg: Floats
    descriptors: NDArray[np.uint8]
    image_size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.points_xy)

    def take(self, rows: NDArray[np.intp]) -> Keypoints:
        return Keypoints(
            self.points_xy[rows],
            self.sizes_px[rows],
            self.angles_deg[rows],
            self.descriptors[rows],
            self.image_size,
        )


def detect_keypoints(
    image: Pixels,
    *,
    mask: Mask | None = None,
    prefer: Mask | None = None,
    scene: bool = True,
    limit: int = MAX_STORED,
) -> Keypoints:
    """Up to `limit` keypoints of an (H, W, 3) uint8 RGB picture, strongest and well spread first.

    With `mask` ((H, W) bool) only points on the product are returned. With `prefer`, a guess at the
    same, half of the places go to points on it first: a small product isn't outnumbered by its
    surroundings, and a wrong guess loses little. Where the product fills a small part of the
    picture, that part is searched in its own resolution and the whole at 320 px (not without
    `scene`); else the whole at a longest side of 640 px at most. Coordinates refer to the picture
    as given.
    """
    height, width = image.shape[:2]
    box = None if prefer is None else _close_up(prefer)
    if prefer is None or box is None:
        found = _detect(image, DETECTION_PX)
        order = _ranked(found, mask)
        if prefer is not None:
            on = np.flatnonzero(_on(prefer, found.points_xy[order]))[: limit // 2]
            order = np.r_[order[on], np.delete(order, on)]
        return found.take(order[:limit])
    near = _moved(_detect(image[box], DETECTION_PX), box, (height, width))
    near = near.take(_ranked(near, mask))
    first = np.flatnonzero(_on(prefer, near.points_xy))
    if not scene:
        return near.take(np.r_[first, np.flatnonzero(~_on(prefer, near.points_xy))][:limit])
    first = first[: limit // 2]
    far = _detect(image, _SCENE_PX)
    # A feature that is there twice is its own rival in the ratio test.
    far = far.take(np.flatnonzero(~_on(prefer, far.points_xy)))
    return _joined(near.take(first), far.take(_ranked(far, mask)[: limit - len(first)]))


def _close_up(guess: Mask) -> tuple[slice, slice] | None:
    """The part of the picture around a product, or None if a look at the whole is as good."""
    if not guess.any():
        return None
    spans = []
    for axis in (1, 0):
        found = np.flatnonzero(guess.any(axis=axis))
        spans.append((int(found[0]), int(found[-1]) + 1))
    margin = round(_MARGIN * max(stop - start for start, stop in spans))
    rows, columns = (
        slice(max(0, start - margin), min(side, stop + margin))
        for (start, stop), side in zip(spans, guess.shape, strict=True)
    )
    longest = max(rows.stop - rows.start, columns.stop - columns.start)
    return (rows, columns) if longest <= _CLOSE * max(guess.shape) else None


def _detect(image: Pixels, longest_px: int) -> Keypoints:
    """All SIFT keypoints of a picture searched at `longest_px` at most, strongest first."""
    height, width = image.shape[:2]
    shrunk = fit_longest_side(image, min(longest_px, max(height, width)))
    grey = cv2.cvtColor(shrunk, cv2.COLOR_RGB2GRAY)
    # Without precise upscaling OpenCV's points lie a quarter of a pixel off, in x and y.
    found, descriptors = cv2.SIFT_create(enable_precise_upscale=True).detectAndCompute(grey, None)
    if not found or descriptors is None:
        return empty_keypoints((height, width))
    scale = (width / shrunk.shape[1], height / shrunk.shape[0])
    everything = Keypoints(
        scale_points(np.array([k.pt for k in found], np.float32), scale),
        np.array([k.size for k in found], np.float32) * np.float32(max(scale)),
        np.array([k.angle for k in found], np.float32),
        np.asarray(descriptors, np.float32).astype(np.uint8),
        (height, width),
    )
    response = np.array([k.response for k in found], np.float64)
    return everything.take(np.lexsort((*everything.points_xy.T, everything.angles_deg, -response)))


def _ranked(points: Keypoints, mask: Mask | None) -> NDArray[np.intp]:
    """Rows of strength-sorted points that lie on the product, well spread ones first."""
    order = np.arange(len(points))
    if mask is not None:
        order = order[_on(mask, points.points_xy)]
    return order[_spread(points.points_xy[order], points.image_size)]


def _moved(points: Keypoints, box: tuple[slice, slice], image_size: tuple[int, int]) -> Keypoints:
    """Points of a part of a picture as points of the whole."""
    corner = np.array([box[1].start, box[0].start], np.float32)
    return replace(points, points_xy=points.points_xy + corner, image_size=image_size)


def _joined(first: Keypoints, second: Keypoints) -> Keypoints:
    return Keypoints(
        np.concatenate([first.points_xy, second.points_xy]),
        np.concatenate([first.sizes_px, second.sizes_px]),
        np.concatenate([first.angles_deg, second.angles_deg]),
        np.concatenate([first.descriptors, second.descriptors]),
        first.image_size,
    )


def empty_keypoints(image_size: tuple[int, int]) -> Keypoints:
    none = np.zeros(0, np.float32)
    return Keypoints(
        np.zeros((0, 2), np.float32), none, none, np.zeros((0, 128), np.uint8), image_size
    )


def _on(mask: Mask, points_xy: Floats) -> NDArray[np.bool_]:
    x, y = np.rint(points_xy).astype(np.intp).T
    inside = mask[np.clip(y, 0, mask.shape[0] - 1), np.clip(x, 0, mask.shape[1] - 1)]
    return np.asarray(inside, dtype=np.bool_)


def _spread(points_xy: Floats, image_size: tuple[int, int]) -> NDArray[np.intp]:
    """Order strength-sorted points so that every prefix draws evenly from all parts."""
    sides = np.array([image_size[1], image_size[0]], np.float32)
    cells = np.clip((points_xy / sides * _BUCKETS).astype(np.intp), 0, _BUCKETS - 1)
    bucket = cells[:, 1] * _BUCKETS + cells[:, 0]
    by_bucket = np.argsort(bucket, kind="stable")
    starts = np.r_[0, np.flatnonzero(np.diff(bucket[by_bucket])) + 1]
    lengths = np.diff(np.r_[starts, len(bucket)])
    turn = np.empty(len(bucket), np.intp)
    turn[by_bucket] = np.arange(len(bucket)) - np.repeat(starts, lengths)
    return np.argsort(turn, kind="stable")
