"""The same photograph twice: encoded again, resized, its borders cut. It adds nothing: what a
product's references say of each other (`profile`) would say that none ever differ, and two copies
of a bad picture would vouch for each other. So what is a copy for certain (`CERTAIN`) counts for
nothing while its original is there. Photographs from a steady rig may be nearly as alike: up to
`SAME` a person is told of them, and they count.

Exactly the same bytes are refused at import already. A photograph without local features to
register is known again only where its pixels stayed as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from embeddings.images import Pixels, read_image
from embeddings.patches import Floats
from embeddings.registration import Matrix, inverse, register, transform
from gallery.describe import Reference

SAME = 2.0
"""Mean difference in grey levels up to which two pictures may be one."""
CERTAIN = 0.4
"""The same up to which they are: JPEG of good quality makes less, photographs from a steady rig, by
their noise and their light, more."""
_WORST = 8.0  # grey levels that a place may differ by then
_ALIKE = 0.93  # cosine from which a pair is looked at: 3 % cut off cost up to 0.04
_MOST_PAIRS = 8  # nearest originals that each reference is held against
_KEPT = 4  # pictures in memory; one of 12 megapixels is 36 MB
_SCREENED = 3 * SAME  # of thumbnails, from which nobody needs to look at the pictures
_TURN, _STRETCH = 0.01, 0.02  # what is left of rotation and stretch in a copy
_SIDE = 160  # px at which copies are compared: encoding noise is gone, content isn't
_LEAST_OVERLAP = 0.8
_SLACK = 0.005  # of the longer side, by which a copy may seem to reach beyond its original
_SAMPLED = cv2.INTER_NEAREST_EXACT  # means over areas take as long as registering
_TRUSTED, _OVERLAPPING = 0.5, 0.6  # confidence in masks, and how far those of copies agree


Copies = Mapping[str, tuple[str, float, bool]]
"""By reference ID of a copy: its original's, how much they differ (`difference`), and whether it is
one for certain."""


def certain(alike: Mapping[str, Sequence[Any]]) -> Copies:
    """Those that are copies for certain."""
    return {name: (of, gap, sure) for name, (of, gap, sure) in alike.items() if sure}


def find_copies(references: Sequence[Reference], picture: Callable[[str], bytes]) -> Copies:
    """The copies among a product's references, certain or not; of two, the one of fewer pixels,
    then bytes, or that came later, is the copy. `picture` gives the original of a reference, by
    its ID; it is asked only where vectors are alike."""
    vectors = np.stack([reference.vector for reference in references])
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -1)
    alike = likeness >= _ALIKE

    def worth(row: int) -> tuple[int, int]:
        height, width = references[row].patches.image_size
        return height * width, len(picture(references[row].reference_id))

    pixels = lru_cache(_KEPT)(lambda name: read_image(picture(name)))
    originals: list[int] = []
    found: dict[str, tuple[str, float, bool]] = {}
    for row in sorted(np.flatnonzero(alike.any(axis=1)).tolist(), key=worth, reverse=True):
        near = sorted((o for o in originals if alike[row, o]), key=lambda o: -likeness[row, o])
        for original in near[:_MOST_PAIRS]:
            one, other = references[row], references[original]
            motion = _motion(one, other)
            if motion is None:
                continue
            off = _off(pixels(one.reference_id), pixels(other.reference_id), motion)
            if (gap := _mean(*off)) <= SAME:
                worst = float(cv2.blur(off[0], (3, 3))[off[1]].max())  # a scratch is small
                sure = gap <= CERTAIN and worst <= _WORST
                found[one.reference_id] = other.reference_id, float(f"{gap:.5g}"), sure
                break
        else:
            originals.append(row)
    return found


def _motion(one: Reference, other: Reference) -> Matrix | None:
    """`copy_motion`, unless thumbnails tell that the pictures can't be copies."""
    motion = copy_motion(one, other)
    small = one.thumbnail, other.thumbnail
    if motion is not None and small[0] is not None and small[1] is not None:
        scaled = _to_thumbnail(other) @ motion @ np.linalg.inv(_to_thumbnail(one))
        if difference(small[0], small[1], scaled) > _SCREENED:
            return None
    return motion


def _to_thumbnail(reference: Reference) -> Matrix:
    """(3, 3) pixels of the picture -> of its thumbnail."""
    assert reference.thumbnail is not None
    small, whole = reference.thumbnail.shape, reference.patches.image_size
    return np.diag([small[1] / whole[1], small[0] / whole[0], 1.0])


def copy_motion(one: Reference, other: Reference) -> Matrix | None:
    """(3, 3) motion from one to the other if it only scales and shifts, and one of the frames lies
    within the other; else None. Further photographs of a product that was moved show more each."""
    if not _same_place(one, other):
        return None
    if _same_thumbnail(one, other):
        return np.eye(3)
    found = register(one.keypoints, other.keypoints)
    if found.matrix is None:
        return None
    matrix: Matrix = found.matrix / found.matrix[2, 2]
    scale = float(matrix[0, 0])
    turned = max(abs(float(matrix[0, 1])), abs(float(matrix[1, 0]))) > _TURN * abs(scale)
    if scale <= 0 or turned or abs(float(matrix[1, 1]) / scale - 1) > _STRETCH:
        return None
    sizes = one.patches.image_size, other.patches.image_size
    inside = _inside(matrix, *sizes) or _inside(inverse(matrix), *sizes[::-1])
    return matrix if inside else None


def _inside(motion: Matrix, size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether the frame of a picture lies within another's; sizes as (height, width)."""
    corners = transform(motion, np.array([[0, 0], size[::-1]], np.float64))
    slack = _SLACK * max(other)
    return bool(((corners >= -slack) & (corners <= np.array(other[::-1]) + slack)).all())


def _same_thumbnail(one: Reference, other: Reference) -> bool:
    same = one.patches.image_size == other.patches.image_size
    codes = one.coded_thumbnail, other.coded_thumbnail
    return same and codes[0] is not None and np.array_equal(codes[0], codes[1])  # type: ignore[arg-type]


def _same_place(one: Reference, other: Reference) -> bool:
    """Whether the product lies about where it lies in the other; true where that isn't known.

    Tells most pairs apart in a hundredth of the time that registering them takes.
    """
    if min(one.foreground.confidence, other.foreground.confidence) < _TRUSTED:
        return True
    masks = [
        cv2.resize(r.foreground.mask.view(np.uint8), (64, 64), interpolation=_SAMPLED) > 0
        for r in (one, other)
    ]
    return float((masks[0] & masks[1]).sum()) >= _OVERLAPPING * float((masks[0] | masks[1]).sum())


def difference(one: Pixels, other: Pixels, motion: Matrix) -> float:
    """Mean difference in grey levels where the moved picture covers the other; infinite where it
    covers less than four fifths of it, or of itself."""
    return _mean(*_off(one, other, motion))


def _mean(off: Floats, covered: NDArray[np.bool_]) -> float:
    return float(off[covered].mean()) if covered.any() else float("inf")


def _off(one: Pixels, other: Pixels, motion: Matrix) -> tuple[Floats, NDArray[np.bool_]]:
    """(h, w) of the other's frame: difference, and where it is covered; nowhere where too little
    is."""
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
        covered[:] = False
    return np.abs(small - there), covered


def _grey(image: Pixels) -> Floats:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.float32)
