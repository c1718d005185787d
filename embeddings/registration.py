"""Two keypoint sets -> the motion between their pictures, as simple as the evidence allows.

Mutual nearest neighbours under a ratio test (Lowe 2004) propose matches; robust fits propose a
similarity, an affine map and a homography; the geometric robust information criterion (Torr,
"An assessment of information criteria for motion model selection", CVPR 1997) picks one; an
a-contrario test (Moisan & Stival, IJCV 57(3), 2004) decides whether the inliers could be chance.
A failure is a result with a reason, never a made-up motion.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from embeddings.keypoints import DETECTION_PX, Keypoints
from embeddings.patches import Floats

Matrix = NDArray[np.float64]

MIN_INLIERS = 8
_RATIO = 0.8
_TOLERANCE = 0.006  # inlier radius as a share of the target's longer side: 3.8 px of 640
_MAX_LOG10_NFA = -3.0  # at most one false alarm in a thousand pairs, were matches independent
_MAX_SCALE, _MAX_ANISOTROPY = 8.0, 4.0
_PARAMETERS = {"similarity": 4, "affine": 6, "homography": 8}
_SAMPLE = {"similarity": 2, "affine": 3, "homography": 4}


@dataclass(frozen=True)
class Registration:
    """The motion that brings `source` pixels to `target` pixels.

    matrix            (3, 3) float64, homogeneous; None when failed
    motion            similarity | affine | homography; None when failed
    matches, inliers  counts, after repeated points were merged
    residual_px       root mean square distance of the inliers, in target pixels; NaN when failed
    overlap_fraction  share of the source's frame that lands inside the target's; NaN when failed
    inlier_rows       (inliers, 2) rows of source and target keypoints
    reason            None, or too_few_keypoints | too_few_matches | too_few_inliers |
                      chance_agreement | implausible_motion
    """

    matrix: Matrix | None
    motion: str | None
    matches: int
    inliers: int
    residual_px: float
    overlap_fraction: float
    inlier_rows: NDArray[np.intp]
    reason: str | None

    @property
    def ok(self) -> bool:
        return self.reason is None


@dataclass(frozen=True)
class _Fit:
    motion: str
    matrix: Matrix
    errors_px: NDArray[np.float64]
    criterion: float


def register(source: Keypoints, target: Keypoints) -> Registration:
    """Find the motion from `source` to `target`; same input, same answer, on any thread."""
    if min(len(source), len(target)) < MIN_INLIERS:
        return _failed("too_few_keypoints", 0, 0)
    rows = match(source, target)
    if len(rows) < MIN_INLIERS:
        return _failed("too_few_matches", len(rows), 0)
    start, end = source.points_xy[rows[:, 0]], target.points_xy[rows[:, 1]]
    radius = max(2.0, _TOLERANCE * max(target.image_size))
    fits = [f for motion in _PARAMETERS if (f := _fit(motion, start, end, radius)) is not None]
    if not fits:
        return _failed("too_few_inliers", len(rows), 0)
    best = min(fits, key=lambda fit: fit.criterion)
    inside = best.errors_px <= radius
    inliers = int(inside.sum())
    if inliers < MIN_INLIERS:
        return _failed("too_few_inliers", len(rows), inliers)
    area = float(target.image_size[0] * target.image_size[1])
    if log10_nfa(len(rows), inliers, _SAMPLE[best.motion], radius, area) > _MAX_LOG10_NFA:
        return _failed("chance_agreement", len(rows), inliers)
    corners = _frame(source.image_size)
    if not _plausible(best.matrix, corners, _shrunk(target) / _shrunk(source)):
        return _failed("implausible_motion", len(rows), inliers)
    return Registration(
        matrix=best.matrix,
        motion=best.motion,
        matches=len(rows),
        inliers=inliers,
        residual_px=float(np.sqrt(np.mean(best.errors_px[inside] ** 2))),
        overlap_fraction=_overlap(best.matrix, corners, target.image_size),
        inlier_rows=rows[inside],
        reason=None,
    )


def match(source: Keypoints, target: Keypoints) -> NDArray[np.intp]:
    """(M, 2) rows of mutual nearest neighbours that pass the ratio test both ways.

    Points repeated at one place (SIFT gives one per orientation) count once: they are no further
    evidence.
    """
    if min(len(source), len(target)) < 2:
        return np.zeros((0, 2), np.intp)
    likeness = root_sift(source.descriptors) @ root_sift(target.descriptors).T
    forward, ahead = _best(likeness)
    backward, behind = _best(likeness.T)
    rows = np.arange(len(source))
    good = (backward[forward] == rows) & ahead & behind[forward]
    pairs = np.stack([rows[good], forward[good]], axis=1)
    places = np.rint(np.hstack([source.points_xy[pairs[:, 0]], target.points_xy[pairs[:, 1]]]))
    _, first = np.unique(places, axis=0, return_index=True)
    return cast(NDArray[np.intp], pairs[np.sort(first)])


def transform(matrix: Matrix, points_xy: NDArray[np.floating]) -> NDArray[np.float64]:
    """Apply a (3, 3) homogeneous matrix to (N, 2) points; points at infinity come out as NaN."""
    lifted = points_xy.astype(np.float64) @ matrix[:, :2].T + matrix[:, 2]
    depth = np.where(np.abs(lifted[:, 2:]) > 1e-9, lifted[:, 2:], np.nan)
    return lifted[:, :2] / depth


def inverse(matrix: Matrix) -> Matrix:
    """The motion back."""
    return cast(Matrix, np.linalg.inv(matrix))


def log10_nfa(matches: int, inliers: int, sample: int, radius_px: float, area_px: float) -> float:
    """log10 of the expected number of motions that chance alone gives as many inliers.

    A random match falls within `radius_px` of its predicted place with probability
    pi r^2 / area; every subset of matches and every minimal `sample` in it was a trial.
    """
    chance = min(1.0, math.pi * radius_px**2 / area_px)
    trials = math.log10(max(1, matches - sample))
    subsets = _log10_choose(matches, inliers) + _log10_choose(inliers, sample)
    return trials + subsets + (inliers - sample) * math.log10(chance)


def _failed(reason: str, matches: int, inliers: int) -> Registration:
    none = np.zeros((0, 2), np.intp)
    return Registration(None, None, matches, inliers, math.nan, math.nan, none, reason)


def root_sift(descriptors: NDArray[np.uint8]) -> Floats:
    """(N, 128) float32 unit vectors whose products compare SIFT descriptors (see `keypoints`)."""
    values = descriptors.astype(np.float32)
    sums = np.maximum(values.sum(axis=1, keepdims=True), 1.0)
    return np.asarray(np.sqrt(values / sums), dtype=np.float32)


def _best(likeness: Floats) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Each row's nearest column, and whether it is clearly nearer than the second."""
    rows = np.arange(len(likeness))
    first = likeness.argmax(axis=1)
    best = likeness[rows, first]
    likeness = likeness.copy()
    likeness[rows, first] = -np.inf
    near, far = 2 - 2 * best, 2 - 2 * likeness.max(axis=1)  # squared distances
    return first, np.asarray(near < _RATIO**2 * far, dtype=np.bool_)


def _fit(motion: str, start: Floats, end: Floats, radius: float) -> _Fit | None:
    matrix = _ESTIMATORS[motion](start, end, radius)
    if matrix is None or not np.isfinite(matrix).all():
        return None
    errors = np.linalg.norm(transform(matrix, start) - end, axis=1)
    errors = np.nan_to_num(errors, nan=np.inf)
    # Torr's criterion: residuals in units of sigma, cut off at 2 degrees of freedom x 2, plus
    # log(4n) per parameter. The terms that all three motions share are left out.
    cost = np.minimum((errors / (radius / 2)) ** 2, 4.0).sum()
    criterion = float(cost + _PARAMETERS[motion] * math.log(4 * len(start)))
    return _Fit(motion, matrix, errors, criterion)


def _similarity(start: Floats, end: Floats, radius: float) -> Matrix | None:
    found, _ = cv2.estimateAffinePartial2D(
        start, end, method=cv2.RANSAC, ransacReprojThreshold=radius, maxIters=3000, confidence=0.999
    )
    return None if found is None else np.vstack([found, [0.0, 0.0, 1.0]])


def _affine(start: Floats, end: Floats, radius: float) -> Matrix | None:
    found, _ = cv2.estimateAffine2D(
        start, end, method=cv2.RANSAC, ransacReprojThreshold=radius, maxIters=3000, confidence=0.999
    )
    return None if found is None else np.vstack([found, [0.0, 0.0, 1.0]])


def _homography(start: Floats, end: Floats, radius: float) -> Matrix | None:
    found, _ = cv2.findHomography(
        start, end, method=cv2.USAC_MAGSAC, ransacReprojThreshold=radius, maxIters=3000
    )
    return None if found is None else cast(Matrix, np.asarray(found, np.float64))


_ESTIMATORS: dict[str, Callable[[Floats, Floats, float], Matrix | None]] = {
    "similarity": _similarity,
    "affine": _affine,
    "homography": _homography,
}


def _log10_choose(n: int, k: int) -> float:
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(10)


def _shrunk(points: Keypoints) -> float:
    """Size at which a picture was searched, of its own."""
    return min(1.0, DETECTION_PX / max(points.image_size))


def _frame(image_size: tuple[int, int]) -> NDArray[np.float64]:
    height, width = image_size
    edges = [[0, 0], [width, 0], [width, height], [0, height]]
    return np.asarray(edges, np.float64) - 0.5


def _plausible(matrix: Matrix, corners: NDArray[np.float64], searched: float) -> bool:
    """A camera's view of a flat face: no mirror, no fold, no extreme scale or slant. Between
    the pictures as they were searched, the scale is `searched` times what it is: a camera with more
    pixels shows the same."""
    depth = np.c_[corners, np.ones(4)] @ matrix[2]
    if depth.min() * depth.max() <= 0:
        return False
    moved = transform(matrix, corners)
    sides = np.roll(moved, -1, axis=0) - moved
    turned = np.roll(sides, -1, axis=0)
    if (sides[:, 0] * turned[:, 1] - sides[:, 1] * turned[:, 0]).min() <= 0:
        return False
    centre = corners.mean(axis=0)
    steps = transform(matrix, centre + np.array([[0, 0], [1, 0], [0, 1]]))
    stretch = np.linalg.svd((steps[1:] - steps[0]).T, compute_uv=False)
    scale, anisotropy = math.sqrt(stretch[0] * stretch[1]), stretch[0] / max(stretch[1], 1e-9)
    nearest = min(abs(math.log(max(one, 1e-9))) for one in (scale, scale * searched))
    return bool(nearest <= math.log(_MAX_SCALE) and anisotropy <= _MAX_ANISOTROPY)


def _overlap(matrix: Matrix, corners: NDArray[np.float64], target_size: tuple[int, int]) -> float:
    moved = transform(matrix, corners).astype(np.float32)
    shared, _ = cv2.intersectConvexConvex(moved, _frame(target_size).astype(np.float32))
    whole = float(cv2.contourArea(moved))
    return float(np.clip(shared / whole, 0.0, 1.0)) if whole > 0 else 0.0
