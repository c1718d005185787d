"""Floors: the reference is laid over the picture and pixels are compared, nothing learned.

`ssim`: 1 - structural similarity (Wang et al., "Image quality assessment: from error visibility to
structural similarity", IEEE TIP 13(4), 2004; scikit-image's, 7 px windows, mean over colours).
`difference`: mean absolute difference, as a share of white.

The reference is brought to the picture by our own registration of local features of the product
(`embeddings.registration`), as our engine does. Of several the one with most inliers is compared;
where none registers, each as it is, stretched to the picture's size, and the most alike counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from anomaly.pipeline import StageClock
from anomaly.scorers.pictures import checked, in_own_order
from anomaly.scorers.protocol import Score
from embeddings.foreground import estimate_foreground
from embeddings.images import Mask, Pixels, fit_longest_side
from embeddings.keypoints import Keypoints, detect_keypoints
from embeddings.patches import Floats
from embeddings.registration import Matrix, register
from embeddings.threads import one_blas_thread

WORKING_PX = 448
_TRUSTED = 0.5  # foreground confidence from which only features of the product register
_WINDOW = 7  # pixels of SSIM's window
_LEAST_SHARE = 0.05  # of the picture that a reference must cover to be compared

Measure = Callable[[Pixels, Pixels], Floats]
"""Two (H, W, 3) pictures -> (H, W) float32, higher = less alike."""


@dataclass(frozen=True)
class Floor:
    """The scorer; `measure` says how unlike two pictures are, pixel by pixel. Final."""

    name: str
    measure: Measure

    def fit(self, references: Sequence[Pixels], *, seed: int) -> FloorModel:
        """Keep pictures and their local features; nothing is drawn. Raises `NoReferences`."""
        found = [Seen.of(picture) for picture in in_own_order(references)]
        return FloorModel(self.measure, tuple(found))


@dataclass(frozen=True)
class Seen:
    """A picture at working size, and its local features in the picture as given."""

    working: Pixels
    keypoints: Keypoints

    @staticmethod
    def of(picture: Pixels) -> Seen:
        ground = estimate_foreground(picture)
        on_product = ground.mask if ground.confidence >= _TRUSTED else None
        points = detect_keypoints(picture, mask=on_product, prefer=ground.mask)
        return Seen(fit_longest_side(picture, WORKING_PX), points)


@dataclass(frozen=True)
class FloorModel:
    measure: Measure
    references: tuple[Seen, ...]

    def score(self, query: Pixels) -> Score:
        """Mean over what the best reference covers; beyond it heat is NaN. Raises `NotAPicture`."""
        clock = StageClock()
        with one_blas_thread:
            with clock("keypoints"):
                seen = Seen.of(checked(query))
            with clock("align"):
                laid = self._aligned(seen) or [_stretched(r, seen) for r in self.references]
            with clock("compare"):
                heats = [
                    np.where(one.covered, self.measure(seen.working, one.picture), np.nan)
                    for one in laid
                ]
                values = [float(np.nanmean(heat, dtype=np.float64)) for heat in heats]
                best = int(np.argmin(values))
        return Score(values[best], heats[best].astype(np.float32), clock.milliseconds)

    def _aligned(self, query: Seen) -> list[Laid]:
        """The references that register best, brought to the query; none where none does."""
        found = [register(r.keypoints, query.keypoints) for r in self.references]
        most = max((f.inliers for f in found if f.ok), default=0)
        moved = [
            _moved(reference, query, registration.matrix)
            for reference, registration in zip(self.references, found, strict=True)
            if registration.ok and registration.inliers == most and registration.matrix is not None
        ]
        return [one for one in moved if one.covered.mean() >= _LEAST_SHARE]


@dataclass(frozen=True)
class Laid:
    """A reference in the query's frame; `covered`: (H, W) bool, where it shows something."""

    picture: Pixels
    covered: Mask


def _moved(reference: Seen, query: Seen, matrix: Matrix) -> Laid:
    """`matrix`: reference pixels -> query pixels, both as given."""
    height, width = query.working.shape[:2]
    there = _resizing(query) @ matrix @ np.linalg.inv(_resizing(reference))
    size = (width, height)
    picture = cv2.warpPerspective(reference.working, there, size, borderMode=cv2.BORDER_REPLICATE)
    everything = np.ones(reference.working.shape[:2], np.uint8)
    covered = cv2.warpPerspective(everything, there, size, flags=cv2.INTER_NEAREST)
    return Laid(np.asarray(picture, np.uint8), np.asarray(covered > 0))


def _stretched(reference: Seen, query: Seen) -> Laid:
    height, width = query.working.shape[:2]
    picture = cv2.resize(reference.working, (width, height), interpolation=cv2.INTER_LINEAR)
    return Laid(np.asarray(picture, np.uint8), np.ones((height, width), np.bool_))


def _resizing(seen: Seen) -> Matrix:
    """(3, 3) pixels of the picture as given -> pixels at working size, by pixel centres."""
    down = seen.working.shape[0] / seen.keypoints.image_size[0]
    across = seen.working.shape[1] / seen.keypoints.image_size[1]
    return np.array([
        [across, 0.0, across / 2 - 0.5], [0.0, down, down / 2 - 0.5], [0.0, 0.0, 1.0]
    ])  # fmt: skip


def unlike_structure(some: Pixels, other: Pixels) -> Floats:
    """(H, W) 1 - SSIM around each pixel, mean over colours: 0 alike, up to 2."""
    from skimage.metrics import structural_similarity  # slow to import

    height, width = some.shape[:2]
    down, right = max(0, _WINDOW - height), max(0, _WINDOW - width)
    padded = [
        np.pad(p, ((0, down), (0, right), (0, 0)), mode="edge").astype(np.float32)
        for p in (some, other)
    ]
    _, alike = structural_similarity(
        *padded, win_size=_WINDOW, channel_axis=2, data_range=255.0, full=True
    )
    return np.asarray(1 - alike.mean(axis=2)[:height, :width], np.float32)


def unlike_pixels(some: Pixels, other: Pixels) -> Floats:
    """(H, W) absolute difference, mean over colours, as a share of 255."""
    return np.asarray(cv2.absdiff(some, other).mean(axis=2) / 255, np.float32)


def ssim() -> Floor:
    """1 - structural similarity after alignment."""
    return Floor("ssim", unlike_structure)


def difference() -> Floor:
    """Absolute pixel difference after alignment."""
    return Floor("difference", unlike_pixels)
