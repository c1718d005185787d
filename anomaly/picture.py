"""What needs the reference's picture: overlays (the best reference in the query's place, evidence
per pixel), and counting units."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from anomaly.pipeline import Judgement
from anomaly.pose import to_picture
from anomaly.results import Evidence, Pairing, Picture, Units, View
from anomaly.score import shared
from anomaly.units import count_units
from embeddings.errors import EmbeddingsError
from embeddings.images import Pixels, read_image
from embeddings.patches import Floats
from embeddings.registration import Matrix
from gallery.errors import DamagedGallery
from gallery.originals import read_reference_picture

_BESIDE = 128  # grey, where the reference doesn't reach


def draw_picture(
    image: Pixels, evidence: Evidence, judged: Judgement, *, root: Path, threshold: float | None
) -> Picture:
    """Bring reference and evidence to the pixels of `image`; `root` is the gallery's folder.

    A reference whose original can't be read is left out, as the overlay then says.
    """
    return Picture(
        image, _reference(image, evidence, root), _heat(evidence.view, judged, threshold)
    )


def units_left(evidence: Evidence, judged: Judgement, *, root: Path) -> Units | None:
    """Where something is missing of an aligned product: how many units like it are there.

    None as `count_units` says, and where the reference's original can't be read.
    """
    best = _fitting(evidence)
    gone = [f for f in judged.findings if f.kind == "missing" and f.bbox_px is not None]
    if best is None or best.registration.matrix is None or not gone:
        return None
    try:
        pixels = read_image(read_reference_picture(root, best.reference_id))
    except (DamagedGallery, EmbeddingsError):
        return None
    return count_units(
        gone[0], reference=pixels, view=evidence.view,
        matrix=to_picture(evidence.shown, best.registration.matrix),
        heat=judged.scored.heat,
    )  # fmt: skip


def _fitting(evidence: Evidence) -> Pairing | None:
    """The best reference, unless the patches refute its alignment."""
    best = evidence.alignment.fitting if evidence.alignment else None
    refuted = best is not None and best.reference_id in evidence.comparison.refuted
    return None if refuted else best


def _reference(image: Pixels, evidence: Evidence, root: Path) -> Pixels | None:
    best = _fitting(evidence)
    name = best.reference_id if best else evidence.reference_ids[0]
    try:
        pixels = read_image(read_reference_picture(root, name))
    except (DamagedGallery, EmbeddingsError):
        return None
    if best is None or best.registration.matrix is None:
        return pixels
    height, width = image.shape[:2]
    return np.asarray(cv2.warpPerspective(
        pixels, to_picture(evidence.shown, best.registration.matrix), (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT, borderValue=(_BESIDE,) * 3,
    ))  # fmt: skip


def _heat(view: View, judged: Judgement, threshold: float | None) -> Floats | None:
    heat = shared(judged.scored.heat)
    if threshold is None or threshold <= 0 or not heat.size:
        return None
    height, width = view.picture_size
    to_cells = _to_cells(view) @ view.matrix  # picture pixels -> cells
    known = np.isfinite(heat)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    values = cv2.warpPerspective(
        np.where(known, heat, 0).astype(np.float32), to_cells,
        (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    weight = cv2.warpPerspective(
        known.astype(np.float32), to_cells, (width, height), flags=flags,
        borderMode=cv2.BORDER_CONSTANT, borderValue=0.0,
    )  # fmt: skip
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.where(weight > 0.5, values / np.maximum(weight, 1e-6) / threshold, np.nan)
    return np.asarray(spread, np.float32)


def _to_cells(view: View) -> Matrix:
    """View pixels -> cells of the grid, 0 at the first cell's centre."""
    grid = view.patches
    points = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    cells = grid.cells_of(points)
    matrix = np.eye(3)
    matrix[:2, 0], matrix[:2, 1] = cells[1] - cells[0], cells[2] - cells[0]
    matrix[:2, 2] = cells[0]
    return matrix
