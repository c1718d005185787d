"""Build step: how fine the finest detail of each reference is, for the audit of a gallery.

A photograph that is out of focus has no small local features: the size of its smallest ones tells
blur from the records alone, without reading a picture again. Siblings show the same print, so
their sharpness compares; another product's says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from embeddings.fingerprint import digest_json
from embeddings.patches import Floats
from gallery.describe import Reference
from gallery.errors import DamagedGallery
from gallery.records import Record

STEP = "sharpness"
SHARPNESS_VERSION = 1
_SMALL = 0.1  # quantile of sizes: the smallest ones, but no single one
_LEAST = 20  # features that tell; fewer on the product, and those beside it count, too


class SharpnessStep:
    """Stores `sharpness_of` of each reference, in their order. Final."""

    name = STEP
    fingerprint = digest_json([SHARPNESS_VERSION])

    def __call__(self, references: Sequence[Reference]) -> Record:
        found = [float(f"{sharpness_of(reference):.5g}") for reference in references]
        return Record(STEP, {"sharpness": found}, {})


def sharpness_of(reference: Reference) -> float:
    """1 / size of the product's smallest local features, as a share of the picture's longer side.

    0 where the picture has too few to tell.
    """
    points, mask = reference.keypoints, reference.foreground.mask
    if len(points) < _LEAST:
        return 0.0
    scale = np.array([mask.shape[1], mask.shape[0]]) / points.image_size[::-1]
    grown = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    x, y = np.rint((points.points_xy + 0.5) * scale - 0.5).astype(np.intp).T
    on = grown[np.clip(y, 0, mask.shape[0] - 1), np.clip(x, 0, mask.shape[1] - 1)]
    sizes = points.sizes_px[on] if on.sum() >= _LEAST else points.sizes_px
    return float(max(points.image_size) / np.quantile(sizes, _SMALL))


def read_sharpness(record: Record, *, count: int) -> Floats:
    """(count,) what the step stored. Raises `DamagedGallery` if it is not that."""
    try:
        found = np.asarray(record.meta["sharpness"], np.float32)
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedGallery(f"a product's sharpness is not one ({error!r})") from error
    if found.shape != (count,):
        raise DamagedGallery(f"sharpness of {found.size} references; the product has {count}")
    return found
