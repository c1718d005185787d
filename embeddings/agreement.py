"""Two keypoint sets -> how many of their matches agree on one motion, however few they are.

`registration` asks for a motion exact enough to compare patches by, and fails where it can't vouch
for it. Whether two pictures show the same print is a weaker question: small, blurred and slanted
pictures give a dozen matches in a hundred, which no ratio test tells from the rest. Each match of
two SIFT features is a motion by itself (place, turn and scale); the one that most others agree with
wins (fast spatial matching: Philbin et al., CVPR 2007; weak geometric consistency: Jegou, Douze &
Schmid, ECCV 2008). Every hypothesis is tried, so there is nothing random.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embeddings.keypoints import Keypoints
from embeddings.registration import root_sift

AGREEMENT_VERSION = 1
_PLACE = 0.1  # of the source's longer side: parallax and slant are in it
_LOG_SCALE = 0.7  # natural logarithm: a factor of 2 either way
_TURN_DEG = 34.0


def agreeing(source: Keypoints, target: Keypoints) -> int:
    """Matches of `source` and `target` that agree on a similarity; 0 when there is none.

    Matches are mutual nearest neighbours by descriptor, whether or not they are distinct: chance
    matches don't agree. A single match agrees with itself.
    """
    if min(len(source), len(target)) == 0:
        return 0
    rows = _nearest_both_ways(source, target)
    start, end = _complex(source, rows[:, 0]), _complex(target, rows[:, 1])
    motion = _motion(source, target, rows)
    # [i, j]: what match i as a motion says of match j.
    off = np.abs(end[:, None] + motion[:, None] * (start - start[:, None]) - end)
    near = off < _PLACE * max(source.image_size) * np.abs(motion)[:, None]
    change = motion / motion[:, None]
    near &= np.abs(np.log(np.abs(change))) < _LOG_SCALE
    near &= np.abs(np.angle(change, deg=True)) < _TURN_DEG
    return int(near.sum(axis=1).max(initial=0))


def _nearest_both_ways(source: Keypoints, target: Keypoints) -> NDArray[np.intp]:
    likeness = root_sift(source.descriptors) @ root_sift(target.descriptors).T
    forward, backward = likeness.argmax(axis=1), likeness.argmax(axis=0)
    first = np.flatnonzero(backward[forward] == np.arange(len(source)))
    return np.stack([first, forward[first]], axis=1)


def _complex(points: Keypoints, rows: NDArray[np.intp]) -> NDArray[np.complex128]:
    x, y = points.points_xy[rows].T.astype(np.float64)
    return np.asarray(x + 1j * y, np.complex128)


def _motion(source: Keypoints, target: Keypoints, rows: NDArray[np.intp]) -> NDArray[np.complex128]:
    """(M,) complex: scale and turn of each match."""
    scale = target.sizes_px[rows[:, 1]] / source.sizes_px[rows[:, 0]].astype(np.float64)
    turn = np.radians(target.angles_deg[rows[:, 1]] - source.angles_deg[rows[:, 0]])
    return np.asarray(scale * np.exp(1j * turn), np.complex128)
