"""How many alike units a set has, and how many of them are there.

What the reference shows where something is missing is looked for in the rest of the reference, by
normalised correlation of pixels: units of a set (blades, cells, bottles) correlate by 0.9 and more,
the next best place by 0.6 at most. Units that are turned against each other are not counted, and
nothing is said of what has no like: a label, one of two shoes.
"""

from __future__ import annotations

import cv2
import numpy as np

from anomaly.results import Finding, Units, View
from embeddings.images import Mask, Pixels
from embeddings.patches import Floats
from embeddings.registration import Matrix, transform

_SIDE_PX = 320  # the reference's longest side here
_ALIKE = 0.8
_LEAST_PX, _LEAST_CONTRAST = 8, 6.0  # a template smaller or plainer than that resembles anything
_CORE = 0.5  # share of the finding's score from which cells are surely of what is missing
_APART = 0.15  # by which units must correlate better than what is none
_LOST = 0.5  # share of a unit that is loud when it isn't there
_MOST_UNITS = 24  # more is a pattern


def count_units(
    finding: Finding,
    *,
    reference: Pixels,
    matrix: Matrix,
    view: View,
    heat: Floats,
) -> Units | None:
    """The units alike to what `reference` shows under `finding`, itself one that is not there.

    matrix  reference pixels -> picture pixels; heat: (H, W) evidence on the view's grid. None
    where there is no second unit, or no telling.
    """
    scale = min(1.0, _SIDE_PX / max(reference.shape))
    small = cv2.resize(reference, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    there, loud = _brought(small.shape[:2], scale, matrix, view, heat > _CORE * finding.score)
    assert finding.bbox_px is not None
    x0, y0, x1, y1 = finding.bbox_px
    x, y = there[..., 0], there[..., 1]
    mask = loud & (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if min(len(rows), len(columns)) < _LEAST_PX:
        return None
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    shape = mask[box]
    if float(small[box][shape].astype(np.float32).std(axis=0).max()) < _LEAST_CONTRAST:
        return None
    places = _places(small, small[box], shape, first=(int(rows[0]), int(columns[0])))
    if not 2 <= len(places) <= _MOST_UNITS:
        return None
    height, width = shape.shape
    others = [loud[top : top + height, left : left + width][shape] for top, left in places[1:]]
    return Units(sum(bool(cells.mean() <= _LOST) for cells in others), len(places))


def _brought(
    shape: tuple[int, ...], scale: float, matrix: Matrix, view: View, cells: Mask
) -> tuple[Floats, Mask]:
    """For each pixel of the small reference: its x, y in the picture, and the view's cell there."""
    rows, columns = np.indices(shape[:2])
    points = (np.stack([columns, rows], axis=2).reshape(-1, 2) + 0.5) / scale - 0.5
    there = transform(matrix, points)
    places = np.nan_to_num(view.patches.cells_of(transform(view.matrix, there)), nan=-9.0)
    at = np.clip(places, -9, 1e4).astype(np.float32).reshape(*shape[:2], 2)
    marked = cv2.remap(
        cells.astype(np.float32), at[..., 0], at[..., 1], cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT, borderValue=0.0,
    )  # fmt: skip
    return there.reshape(*shape[:2], 2).astype(np.float32), np.asarray(marked > 0.5)


def _places(
    image: Pixels, template: Pixels, mask: Mask, *, first: tuple[int, int]
) -> list[tuple[int, int]]:
    """Upper left pixels of places that look like the template, which lies at `first`."""
    weights = np.repeat(mask[:, :, None], 3, axis=2).astype(np.float32)
    found = cv2.matchTemplate(
        image.astype(np.float32), template.astype(np.float32), cv2.TM_CCOEFF_NORMED, mask=weights
    )
    likeness = np.where(np.isfinite(found) & (found <= 1.01), found, -1.0)
    height, width = mask.shape
    places: list[tuple[int, int]] = []
    at, lowest = first, 1.0
    while len(places) <= _MOST_UNITS:
        places.append(at)
        lowest = min(lowest, float(likeness[at]))
        top, left = max(0, at[0] - height // 2), max(0, at[1] - width // 2)
        likeness[top : at[0] + height // 2 + 1, left : at[1] + width // 2 + 1] = -1.0
        row, column = np.unravel_index(int(np.argmax(likeness)), likeness.shape)
        at = int(row), int(column)
        if likeness[at] < _ALIKE:
            return places if likeness[at] < lowest - _APART else []
    return places
