"""Patches searched wherever they lie: what of the view no reference explains, what is absent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anomaly.results import View
from anomaly.rim import grown, top_mean
from embeddings.images import Mask
from embeddings.metric import Metric
from embeddings.patches import Floats
from embeddings.threads import each
from gallery.describe import Reference

_CHUNK = 588  # query patches per matrix product: a few megabytes of distances


@dataclass(frozen=True)
class Searched:
    """Nearest patches of all references without regard to place.

    unexplained  (H, W) distance of a query patch to the nearest; NaN where none was measured
    absent       of a reference's product from the query, top mean; of the reference that it suits
    """

    unexplained: Floats
    absent: float


@dataclass(frozen=True)
class Dense:
    """(H, W, D) dense grids in one metric: the view's, and one of each reference."""

    query: Floats
    references: list[Floats]


def dense_in(view: View, references: Sequence[Reference], metric: Metric | None) -> Dense:
    return Dense(
        view.patches.dense(metric),
        each(lambda reference: reference.patches.dense(metric), references),
    )


def searched(
    view: View, dense: Dense, products: Sequence[Mask], *, where: Mask | None = None
) -> Searched:
    """Search all references for every measured cell of the view (`where` it is asked for), and the
    view for `products`, the cells of each reference's."""
    asked = view.measured if where is None else view.measured & where
    unexplained = np.full(asked.shape, np.nan, np.float32)
    if not asked.any():
        return Searched(unexplained, float("nan"))
    query = dense.query[asked]
    found = []
    for product, grid in zip(products, dense.references, strict=True):
        cells = kept(product)
        forward, gone = nearest_patches(query, grid[cells])
        found.append((forward, top_mean(gone[product[cells]])))
    unexplained[asked] = np.min([forward for forward, _ in found], axis=0)
    return Searched(unexplained, min(absent for _, absent in found))


def kept(product: Mask) -> Mask:
    """Cells of a reference that are searched: its product, what touches it, and of the rest, which
    repeats itself, every second row and column. A third of the time where the product is small."""
    cells = grown(product)
    cells[::2, ::2] = True
    return cells


def nearest_patches(some: Floats, others: Floats) -> tuple[Floats, Floats]:
    """Distance of each of some (N, D) patches to the nearest of others (M, D), and back.

    One product per chunk gives whole squared distances, [-2a, |a|^2, 1] . [b, 1, |b|^2], small
    enough to stay in the cache until both minima are taken.
    """
    import torch  # its threads are those of the network: one setting for both

    left = torch.from_numpy(np.c_[-2 * some, _squares(some), np.ones(len(some), np.float32)])
    right = torch.from_numpy(np.c_[others, np.ones(len(others), np.float32), _squares(others)])
    forward = np.empty(len(some), np.float32)
    backward = np.full(len(others), np.inf, np.float32)
    squared = torch.empty(min(_CHUNK, len(some)), len(others))
    for start in range(0, len(some), _CHUNK):
        part = slice(start, min(start + _CHUNK, len(some)))
        chunk = squared[: part.stop - start]
        torch.mm(left[part], right.T, out=chunk)
        forward[part] = chunk.amin(dim=1).numpy()
        np.minimum(backward, chunk.amin(dim=0).numpy(), out=backward)
    return np.sqrt(np.maximum(forward, 0)), np.sqrt(np.maximum(backward, 0))


def _squares(rows: Floats) -> Floats:
    return np.asarray(np.einsum("nd,nd->n", rows, rows))
