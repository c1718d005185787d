"""Products that lie in a fixture, with too little print for local features to register.

A camera over a fixture takes the same picture each time, but for a small shift. Where nothing
registers by local features, that is a hypothesis which pixels can test: phase correlation (Kuglin &
Hines 1975) proposes the shift, in whole pixels as later steps refine it, and the product must
correlate there as two pictures of one thing do. Belts and trays correlate whatever lies on them, so
that only the product is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from anomaly.looks import scaled
from anomaly.results import Alignment, Pairing
from embeddings.images import Pixels, fit_longest_side
from embeddings.patches import Floats
from embeddings.registration import Matrix, Registration, inverse
from gallery.describe import Reference

_SCALE = 0.5  # of the pictures that are embedded
_SIGMA = 6.0  # pixels of those, beyond which light is coarse and is not asked
_MOST_SHIFT = 0.05  # of the picture's longer side
_LEAST = 0.5  # correlation: one board with another of its design has 0.7 to 0.95, strangers 0.02
_LEAST_PX = 200  # of the product
_LEAST_SIDE_PX = 4  # of those that are embedded; a window over one row is none


def in_place(alignment: Alignment, image: Pixels, references: Sequence[Reference]) -> Alignment:
    """`alignment`, in which nothing registered, with those references in it that an (H, W, 3) uint8
    picture shows in the same place. Such pairings have a motion, and no inliers."""
    flats: dict[tuple[int, ...], Floats | None] = {}
    tried = []
    for pairing, reference in zip(alignment.pairings, references, strict=True):
        longest = max(reference.patches.working_size)
        small = fit_longest_side(image, longest)
        if small.shape[:2] not in flats:
            flats[small.shape[:2]] = _flat(small)
        tried.append(_tested(pairing, reference, image.shape[:2], flats[small.shape[:2]]))
    agreement = [agrees for _, agrees in tried]
    if not any(agreement):
        return alignment
    return Alignment(tuple(pairing for pairing, _ in tried), int(np.argmax(agreement)))


def _tested(
    pairing: Pairing, reference: Reference, size: tuple[int, ...], here: Floats | None
) -> tuple[Pairing, float]:
    """The pairing, in place if that holds, and how well it correlates; 0 where it doesn't hold."""
    if reference.thumbnail is None or here is None:
        return pairing, 0.0
    there = _flat(reference.thumbnail)
    if there is None or there.shape != here.shape:
        return pairing, 0.0
    x, y = _shift(there, here)
    if max(abs(x), abs(y)) > _MOST_SHIFT * max(here.shape):
        return pairing, 0.0
    shift = np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])
    correlation = _correlation(there, here, shift, reference)
    if correlation < _LEAST:
        return pairing, 0.0
    working = (reference.thumbnail.shape[0], reference.thumbnail.shape[1])
    onto = inverse(_to_working(size, working)) @ inverse(scaled(_SCALE)) @ shift @ scaled(_SCALE)
    found = Registration(
        matrix=np.asarray(onto @ reference.patches.to_working()), motion="similarity", matches=0,
        inliers=0, residual_px=float("nan"), overlap_fraction=_shown(shift, here.shape),
        inlier_rows=np.zeros((0, 2), np.intp), reason=None,
    )  # fmt: skip
    scale = max(size) / max(reference.patches.image_size)
    whole = replace(pairing, registration=found, turn_deg=0.0, scale=scale, zoom=1.0, span=1.0)
    return whole, correlation


def _shift(there: Floats, here: Floats) -> tuple[int, int]:
    """x, y in pixels by which `here` shows what `there` does."""
    window = cv2.createHanningWindow(here.shape[::-1], cv2.CV_32F)
    cross = np.fft.rfft2(here * window) * np.conj(np.fft.rfft2(there * window))
    peaks = np.fft.irfft2(cross / np.maximum(np.abs(cross), 1e-9), s=here.shape)
    row, column = np.unravel_index(int(np.argmax(peaks)), here.shape)
    height, width = here.shape
    return (
        int((column + width // 2) % width - width // 2),
        int((row + height // 2) % height - height // 2),
    )


def _correlation(there: Floats, here: Floats, shift: Matrix, reference: Reference) -> float:
    """Of the reference's product with what lies in its place."""
    size = there.shape[::-1]
    mask = reference.foreground.mask.astype(np.uint8)
    product = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST) if mask.any() else None
    on = np.ones(there.shape, np.uint8) if product is None else product
    moved = cv2.warpAffine(there, shift[:2], size, flags=cv2.INTER_LINEAR)
    seen = cv2.warpAffine(on, shift[:2], size, flags=cv2.INTER_NEAREST) > 0
    if seen.sum() < _LEAST_PX or min(moved[seen].std(), here[seen].std()) < 1e-6:
        return 0.0
    return float(np.corrcoef(moved[seen], here[seen])[0, 1])


def _flat(picture: Pixels) -> Floats | None:
    """(h, w) grey at half the size, less what is coarse; None of a strip too thin to be halved."""
    if min(picture.shape[:2]) < _LEAST_SIDE_PX:
        return None
    half = cv2.resize(picture, None, fx=_SCALE, fy=_SCALE, interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(half, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return np.asarray(grey - cv2.GaussianBlur(grey, (0, 0), _SIGMA), np.float32)


def _to_working(size: tuple[int, ...], working: tuple[int, int]) -> Matrix:
    """Pixels of a picture of (height, width) -> pixels of the size it is embedded at."""
    across, down = working[1] / size[1], working[0] / size[0]
    return np.array([[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2], [0, 0, 1]])


def _shown(shift: Matrix, size: tuple[int, ...]) -> float:
    across, down = 1 - abs(shift[0, 2]) / size[1], 1 - abs(shift[1, 2]) / size[0]
    return float(across * down)
