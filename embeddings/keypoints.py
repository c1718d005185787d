"""Local features: SIFT keypoints of a picture, the strongest and best spread ones kept.

SIFT (Lowe 2004) because it needs no weights and both OpenCV 4 and 5 have it. Coordinates are
float32 pixel centres of the picture as given; descriptors are OpenCV's, exact as uint8, and are
compared as RootSIFT (Arandjelovic & Zisserman 2012).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from embeddings.images import Mask, Pixels, fit_longest_side, scale_points
from embeddings.patches import Floats

KEYPOINTS_VERSION = 1
MAX_STORED = 500
DETECTION_PX = 640
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
    limit: int = MAX_STORED,
) -> Keypoints:
    """Up to `limit` keypoints of an (H, W, 3) uint8 RGB picture, strongest and well spread first.

    With `mask` ((H, W) bool) only points on the product are returned. With `prefer`, a guess at the
    same, half of the places go to points on it first: a small product isn't outnumbered by its
    surroundings, and a wrong guess loses little. The picture is searched at
    a longest side of 640 px at most; coordinates refer to the picture as given.
    """
    height, width = image.shape[:2]
    shrunk = fit_longest_side(image, min(DETECTION_PX, max(height, width)))
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
    order = np.lexsort((*everything.points_xy.T, everything.angles_deg, -response))
    if mask is not None:
        order = order[_on(mask, everything.points_xy[order])]
    order = order[_spread(everything.points_xy[order], (height, width))]
    if prefer is not None:
        on = np.flatnonzero(_on(prefer, everything.points_xy[order]))[: limit // 2]
        order = np.r_[order[on], np.delete(order, on)]
    return everything.take(order[:limit])


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
