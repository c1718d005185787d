"""Patches searched wherever they lie: what of the view no reference explains, what is absent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anomaly.results import View
from anomaly.rim import grown, top_mean
from embeddings.images import Mask
from embeddings.metric import Metric
from embeddings.patches import Floats
from embeddings.threads import each
from gallery.describe import Reference

if TYPE_CHECKING:
    from torch import Tensor

_CHUNK = 588  # query patches per matrix product: a few megabytes of distances


@dataclass(frozen=True)
class Searched:
    """Nearest patches of all references without regard to place.

    unexplained  see `unexplained`
    absent       of a reference's product from the view, top mean; of the reference that it suits
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


def searched(view: View, dense: Dense, products: Sequence[Mask]) -> Searched:
    """Search all references for every measured cell of the view, and the view for `products`, the
    cells of each reference's."""
    if not view.measured.any():
        return Searched(_spread([], view.measured), float("nan"))
    query, distances, absent = dense.query[view.measured], [], []
    for product, grid in zip(products, dense.references, strict=True):
        cells = kept(product)
        forward, gone = nearest_patches(query, grid[cells])
        distances.append(forward)
        absent.append(top_mean(gone[product[cells]]))
    return Searched(_spread(distances, view.measured), min(absent))


def unexplained(view: View, dense: Dense, products: Sequence[Mask], *, where: Mask) -> Floats:
    """(H, W) distance of the view's patches `where` they are asked for to the nearest of any
    reference; NaN where none was measured."""
    asked = view.measured & where
    if not asked.any():
        return _spread([], asked)
    query, pairs = dense.query[asked], zip(products, dense.references, strict=True)
    return _spread(
        [nearest_distances(query, grid[kept(product)]) for product, grid in pairs], asked
    )


def _spread(distances: Sequence[Floats], asked: Mask) -> Floats:
    """The least of (N,) distances each, upon the (H, W) cells asked for."""
    found = np.full(asked.shape, np.nan, np.float32)
    if distances:
        found[asked] = np.minimum.reduce(distances)
    return found


def kept(product: Mask) -> Mask:
    """Cells of a reference that are searched: its product, what touches it, and of the rest, which
    repeats itself, every second row and column. A third of the time where the product is small."""
    cells = grown(product)
    cells[::2, ::2] = True
    return cells


def nearest_patches(some: Floats, others: Floats) -> tuple[Floats, Floats]:
    """Distance of each of some (N, D) patches to the nearest of others (M, D), and back."""
    forward, backward = [], np.full(len(others), np.inf, np.float32)
    for squared in _squared(some, others):
        forward.append(squared.amin(dim=1).numpy())
        np.minimum(backward, squared.amin(dim=0).numpy(), out=backward)
    return _roots(np.concatenate(forward)), _roots(backward)


def nearest_distances(some: Floats, others: Floats) -> Floats:
    """The first of both alone."""
    return _roots(np.concatenate([s.amin(dim=1).numpy() for s in _squared(some, others)]))


def _squared(some: Floats, others: Floats) -> Iterator[Tensor]:
    """Squared distances of `some`, a chunk at a time, in memory that is used again.

    One product per chunk gives them whole, [-2a, |a|^2, 1] . [b, 1, |b|^2], small enough to stay in
    the cache until the minima are taken.
    """
    import torch  # its threads are those of the network: one setting for both

    left = torch.from_numpy(np.c_[-2 * some, _squares(some), np.ones(len(some), np.float32)])
    right = torch.from_numpy(np.c_[others, np.ones(len(others), np.float32), _squares(others)])
    squared = torch.empty(min(_CHUNK, len(some)), len(others))
    for start in range(0, len(some), _CHUNK):
        part = left[start : start + _CHUNK]
        yield torch.mm(part, right.T, out=squared[: len(part)])


def _roots(squared: Floats) -> Floats:
    return np.sqrt(np.maximum(squared, 0))


def _squares(rows: Floats) -> Floats:
    return np.asarray(np.einsum("nd,nd->n", rows, rows))
