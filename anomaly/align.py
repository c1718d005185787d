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
from embeddings.on_product import TRUSTED, on_product
from embeddings.patches import Floats
from embeddings.registration import Matrix, register, transform
from embeddings.threads import each
from gallery.describe import Reference

ALIGN_VERSION = 5


def features(pixels: Pixels, foreground: Foreground, *, mask: Mask | None = None) -> Keypoints:
    """The local features of an (H, W, 3) uint8 RGB query that `align` may ask for.

    `mask`: the product's, where it was given. Those of the scene are asked for only where the
    foreground isn't trusted.
    """
    return detect_keypoints(
        pixels, mask=mask, prefer=foreground.mask, scene=foreground.confidence < TRUSTED
    )


def align(
    query: Keypoints, references: Sequence[Reference], *, foreground: Foreground
) -> Alignment:
    """Register every reference with the query; `foreground` is the query's."""
    own = on_product(query, foreground)
    trusted = foreground.confidence >= TRUSTED
    pairings = tuple(each(lambda reference: _pair(reference, query, own, trusted), references))
    counts = [p.registration.inliers if p.ok else 0 for p in pairings]
    best = int(np.argmax(counts)) if any(counts) else None
    return Alignment(pairings, best)


def _pair(reference: Reference, query: Keypoints, own: Keypoints, trusted: bool) -> Pairing:
    ground = reference.foreground
    source = on_product(reference.keypoints, ground)
    found = register(source, own)
    if not found.ok and not (trusted and ground.confidence >= TRUSTED):
        # A guess at the product may be wrong: then all features speak.
        source = reference.keypoints if ground.confidence < TRUSTED else source
        found = register(source, own if trusted else query)
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


def _centre(reference: Reference) -> tuple[float, float]:
    """Centre of the product in reference pixels: of the mask's box where it is trusted."""
    height, width = reference.patches.image_size
    mask = reference.foreground.mask
    if reference.foreground.confidence < TRUSTED or not mask.any():
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
