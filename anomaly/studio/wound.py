"""Where damage lies and how much of a face it covers: what all kinds of damage share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from anomaly.studio.face import Face, Mask, Real
from anomaly.studio.fields import largest_share


@dataclass(frozen=True)
class Wound:
    """Where in the window, (x, y), over how many pixels, and how strong."""

    centre: tuple[float, float]
    area: float
    strength: float

    @property
    def radius(self) -> float:
        return float(np.sqrt(self.area / np.pi))


Cut = Callable[[np.random.Generator, Face, Wound], tuple[Real, Mask]]


def share_at(strength: float) -> float:
    return 0.03 + 0.12 * strength


def shape_of(face: Face) -> tuple[int, int]:
    return face.alpha.shape[0], face.alpha.shape[1]


def spot_inside(rng: np.random.Generator, face: Face, *, inset_px: int) -> tuple[float, float]:
    """A random (x, y) at least `inset_px` inside the silhouette."""
    solid = np.pad((face.alpha > 0.5).astype(np.uint8), 1)
    deep = cv2.distanceTransform(solid, cv2.DIST_L2, 3)[1:-1, 1:-1]
    rows, columns = np.nonzero(deep >= min(inset_px, 0.9 * deep.max()))
    pick = int(rng.integers(rows.size))
    return float(columns[pick]), float(rows[pick])


def level_covering(field: Real, solid: Mask, *, area: float) -> float:
    """The level above which about `area` solid pixels lie."""
    return largest_share(field, solid, share=min(0.9, area / float(solid.sum())))
