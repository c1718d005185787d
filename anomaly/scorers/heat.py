"""Values on a patch grid -> heat that covers the picture as given, evenly.

The grid of an embedding reaches a little beyond the picture where its size is no multiple of the
stride, and the grid of a turned view lies askew; heat does neither.
"""

from __future__ import annotations

import math

import numpy as np

from anomaly.placed import sample
from embeddings.patches import Floats, PatchGrid
from embeddings.registration import Matrix, transform


def over_picture(
    values: Floats,
    patches: PatchGrid,
    *,
    picture_size: tuple[int, int] | None = None,
    matrix: Matrix | None = None,
) -> Floats:
    """(H, W) values on the grid of `patches` -> (h, w) float32, cells of about the same size.

    picture_size  (height, width) of the picture as given; that of `patches` by default
    matrix        (3, 3) picture pixels -> pixels of what was embedded; the same by default
    Values are interpolated; cells that lie off the grid, or mostly on NaN, are NaN.
    """
    height, width = patches.image_size if picture_size is None else picture_size
    view = np.eye(3) if matrix is None else matrix
    rows, columns = _cells(patches, height, width, math.sqrt(abs(np.linalg.det(view[:2, :2]))))
    x, y = np.meshgrid(np.arange(columns), np.arange(rows))
    centres = np.stack([(x + 0.5) * width / columns, (y + 0.5) * height / rows], axis=2) - 0.5
    places = patches.cells_of(transform(view, centres.reshape(-1, 2)))
    known = np.isfinite(values)
    filled = np.stack([np.where(known, values, 0.0), known], axis=2).astype(np.float32)
    found, inside = sample(filled, places)
    seen = inside & (found[:, 1] >= 0.5)
    heat = np.where(seen, found[:, 0] / np.maximum(found[:, 1], 0.5), np.nan)
    return heat.astype(np.float32).reshape(rows, columns)


def _cells(patches: PatchGrid, height: int, width: int, zoom: float) -> tuple[int, int]:
    """How many rows and columns of cells cover the picture, at `zoom` view pixels per pixel."""
    x0, y0, x1, y1 = patches.box_px
    stride = patches.layers[0].stride_px
    across = stride * (x1 - x0) / patches.working_size[1] / zoom
    down = stride * (y1 - y0) / patches.working_size[0] / zoom
    return max(1, math.ceil(height / down - 1e-6)), max(1, math.ceil(width / across - 1e-6))
