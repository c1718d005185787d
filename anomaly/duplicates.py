"""The same photograph twice: encoded again, resized, its borders cut. It adds nothing, and two
copies of a bad picture vouch for each other.

Exactly the same bytes are refused at import already.
"""

from __future__ import annotations

import cv2
import numpy as np

from embeddings.images import Pixels
from embeddings.patches import Floats
from embeddings.registration import Matrix, register
from gallery.describe import Reference

SAME = 2.0
"""Mean difference in grey levels up to which two pictures are one."""
_ALIKE = 0.93  # cosine from which a pair is looked at: 3 % cut off cost up to 0.04
_MOST_PAIRS = 8  # nearest siblings that each reference is held against
_TURN, _STRETCH = 0.01, 0.02  # what is left of rotation and stretch in a copy
_SIDE = 160  # px at which copies are compared: encoding noise is gone, content isn't
_LEAST_OVERLAP = 0.8
_TRUSTED, _OVERLAPPING = 0.5, 0.6  # confidence in masks, and how far those of copies agree


def alike_pairs(vectors: Floats) -> list[tuple[int, int]]:
    """Pairs of rows of (K, D) unit vectors that may be copies: (earlier, later)."""
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -1)
    nearest = np.argsort(-likeness, axis=1, kind="stable")[:, :_MOST_PAIRS]
    return sorted(
        {(min(a, int(b)), max(a, int(b)))
         for a, row in enumerate(nearest) for b in row if likeness[a, b] >= _ALIKE}
    )  # fmt: skip


def copy_motion(one: Reference, other: Reference) -> Matrix | None:
    """(3, 3) motion from one to the other if it only scales and shifts, else None."""
    if not _same_place(one, other):
        return None
    found = register(one.keypoints, other.keypoints)
    if found.matrix is None:
        return None
    matrix: Matrix = found.matrix / found.matrix[2, 2]
    scale = float(matrix[0, 0])
    turned = max(abs(float(matrix[0, 1])), abs(float(matrix[1, 0]))) > _TURN * abs(scale)
    if scale <= 0 or turned or abs(float(matrix[1, 1]) / scale - 1) > _STRETCH:
        return None
    return matrix


def _same_place(one: Reference, other: Reference) -> bool:
    """Whether the product lies about where it lies in the other; true where that isn't known.

    Tells most pairs apart in a hundredth of the time that registering them takes.
    """
    if min(one.foreground.confidence, other.foreground.confidence) < _TRUSTED:
        return True
    masks = [
        cv2.resize(r.foreground.mask.astype(np.uint8), (64, 64), interpolation=cv2.INTER_AREA) > 0
        for r in (one, other)
    ]
    return float((masks[0] & masks[1]).sum()) >= _OVERLAPPING * float((masks[0] | masks[1]).sum())


def difference(one: Pixels, other: Pixels, motion: Matrix) -> float:
    """Mean difference in grey levels where the moved picture covers the other; infinite where it
    covers less than four fifths of it, or of itself."""
    height, width = other.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    size = max(1, round(scale * width)), max(1, round(scale * height))
    small = cv2.resize(_grey(other), size, interpolation=cv2.INTER_AREA)
    # Warp at the other's full size, then shrink: shrinking is what takes the noise away.
    there = cv2.warpPerspective(_grey(one), motion, (width, height), flags=cv2.INTER_LINEAR)
    inside = cv2.warpPerspective(np.ones(one.shape[:2], np.float32), motion, (width, height))
    there = cv2.resize(there, size, interpolation=cv2.INTER_AREA)
    covered = cv2.resize(inside, size, interpolation=cv2.INTER_AREA) > 0.999
    own = float(inside.sum()) / (float(np.linalg.det(motion[:2, :2])) * one.shape[0] * one.shape[1])
    if covered.mean() < _LEAST_OVERLAP or own < _LEAST_OVERLAP:
        return float("inf")
    return float(np.abs(small - there)[covered].mean())


def _grey(image: Pixels) -> Floats:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.float32)
