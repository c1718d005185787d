"""Stage 1: where is the product of each reference in the query?

Local features of the *product* decide, not those of the scene: a belt or a tray registers too, and
hides the product's own motion. The reference's foreground says which features belong to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly.results import Alignment, Pairing
from embeddings.foreground import Foreground
from embeddings.images import Mask, Pixels
from embeddings.keypoints import Keypoints, detect_keypoints
from embeddings.patches import Floats
from embeddings.registration import Matrix, register, transform
from gallery.describe import Reference

ALIGN_VERSION = 2
_TRUSTED = 0.5  # foreground confidence from which features off the product are left out
_MASK_PX = 448  # longest side at which it is looked up whether a feature is on the product
_MARGIN = 0.012  # of the longer side: features sit on outlines, too


def features(pixels: Pixels, foreground: Foreground, *, mask: Mask | None = None) -> Keypoints:
    """The local features of an (H, W, 3) uint8 RGB query that `align` may ask for.

    `mask`: the product's, where it was given. Those of the scene are asked for only where the
    foreground isn't trusted.
    """
    return detect_keypoints(
        pixels, mask=mask, prefer=foreground.mask, scene=foreground.confidence < _TRUSTED
    )


def align(
    query: Keypoints, references: Sequence[Reference], *, foreground: Foreground
) -> Alignment:
    """Register every reference with the query; `foreground` is the query's."""
    on_product = _on_product(query, foreground)
    pairings = tuple(
        _pair(reference, query, on_product, foreground.confidence >= _TRUSTED)
        for reference in references
    )
    counts = [p.registration.inliers if p.ok else 0 for p in pairings]
    best = int(np.argmax(counts)) if any(counts) else None
    return Alignment(pairings, best)


def _pair(reference: Reference, query: Keypoints, on_product: Keypoints, trusted: bool) -> Pairing:
    ground = reference.foreground
    source = _on_product(reference.keypoints, ground)
    found = register(source, on_product)
    if not found.ok and not (trusted and ground.confidence >= _TRUSTED):
        # A guess at the product may be wrong: then all features speak.
        source = reference.keypoints if ground.confidence < _TRUSTED else source
        found = register(source, on_product if trusted else query)
    centre = _centre(reference)
    if found.matrix is None:
        return Pairing(reference.reference_id, found, 0.0, 1.0, 1.0, centre)
    turn, scale = _turn_and_scale(found.matrix, centre)
    zoom = scale * max(reference.patches.image_size) / max(query.image_size)
    span = _span(source.points_xy[found.inlier_rows[:, 0]], reference)
    return Pairing(reference.reference_id, found, turn, scale, zoom, centre, span)


def _span(points_xy: Floats, reference: Reference) -> float:
    """Area of the convex hull of (N, 2) points over that of the reference's product."""
    if len(points_xy) < 3:
        return 0.0
    hull = cv2.contourArea(cv2.convexHull(points_xy.astype(np.float32)))
    height, width = reference.patches.image_size
    return float(hull / max(1.0, reference.foreground.mask.mean() * height * width))


def _on_product(points: Keypoints, ground: Foreground) -> Keypoints:
    """The keypoints on the product, or on what is guessed to be it."""
    # The mask has a size of its own, and needs no more than this one: compare in its pixels.
    mask = _shrunk(ground.mask)
    height, width = mask.shape
    scale = np.array([width / points.image_size[1], height / points.image_size[0]])
    x, y = np.rint((points.points_xy + 0.5) * scale - 0.5).astype(np.intp).T
    grown = _grown(mask)
    inside = grown[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
    return points.take(np.flatnonzero(inside))


def _shrunk(mask: Mask) -> Mask:
    if max(mask.shape) <= _MASK_PX:
        return mask
    scale = _MASK_PX / max(mask.shape)
    height, width = (max(1, round(scale * side)) for side in mask.shape)
    small = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    return np.asarray(small > 0)


def _grown(mask: Mask) -> Mask:
    size = 2 * max(1, round(_MARGIN * max(mask.shape))) + 1
    return np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((size, size), np.uint8)) > 0)


def _centre(reference: Reference) -> tuple[float, float]:
    """Centre of the product in reference pixels: of the mask's box where it is trusted."""
    height, width = reference.patches.image_size
    mask = reference.foreground.mask
    if reference.foreground.confidence < _TRUSTED or not mask.any():
        return (width - 1) / 2, (height - 1) / 2
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x = (columns[0] + columns[-1] + 1) / 2 * width / mask.shape[1] - 0.5
    y = (rows[0] + rows[-1] + 1) / 2 * height / mask.shape[0] - 0.5
    return float(x), float(y)


def _turn_and_scale(matrix: Matrix, centre: tuple[float, float]) -> tuple[float, float]:
    """Rotation in degrees and scale of a motion at a point, by its nearest similarity."""
    around = np.asarray(centre) + np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    moved = transform(matrix, around)
    jacobian: NDArray[np.float64] = (moved[1:] - moved[0]).T
    left, stretch, right = np.linalg.svd(jacobian)
    rotation = left @ right
    turn = math.degrees(math.atan2(rotation[1, 0], rotation[0, 0]))
    return turn, float(math.sqrt(stretch[0] * stretch[1]))
