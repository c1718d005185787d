"""Stage 2: what do the references not explain in the query, and what of them is not there?

Forward: query patches that no pristine view explains (minimum over references). Backward: patches
of the product that have no counterpart in the query (minimum as well: what is missing is missing
against every reference, and a single one that is aligned a little off says nothing). Each
direction has a local answer, where the aligned reference is searched within a window, and a global
one, where place doesn't count. The per-patch sum of local and global distance finds more than
either; minimum and window as in position-bound matching (RAD, arXiv 2601.22763) but after aligning
the product.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly.bend import compare_bends
from anomaly.content import dense_in, searched
from anomaly.detail import compare_details
from anomaly.matched import lay_upon
from anomaly.outline import compare_outlines, draw_outline
from anomaly.results import Channel, Comparison, Pairing, View
from anomaly.rim import grown, placed_score, top_mean, within
from embeddings.foreground import Foreground
from embeddings.images import Mask, Pixels
from embeddings.metric import Metric, Metrics
from embeddings.on_product import TRUSTED
from embeddings.patches import Floats
from embeddings.registration import inverse, transform
from embeddings.threads import each
from gallery.describe import Reference

COMPARE_VERSION = 13
_RADIUS = 1  # cells of the window in the aligned reference
# Pristine faces reach 0.35 (rendered) and 0.52 (carton_top, small in its pictures); other faces
# with the same logo begin at 0.55, but agree on a twentieth of the product (at most a quarter).
_MOST_UNLIKE, _MOST_UNLIKE_WIDE = 0.54, 0.66
_WIDE = 0.15  # span of an alignment from which the second holds
_WHOLE = 0.9  # of the product, under which print can't be said to have moved
_STILL_PX = 0.05  # by which print always seems to move
_ON = 0.5  # share of a cell that must be product for the cell to count as product


def compare(
    view: View,
    references: Sequence[Reference],
    pairings: Mapping[str, Pairing],
    *,
    foreground: Foreground,
    metrics: Metrics | None = None,
    picture: Callable[[], Pixels] | None = None,
) -> Comparison:
    """Compare a view with references: place by place with those that `pairings` has, by reference
    ID, and by content alone with all.

    `foreground` is the query's, in the picture as given, which `picture` gives (`detail` and `bend`
    ask for it). `absent` is not measured under glare: what that hides is not gone.
    """
    products, own = each(_product_cells, references), _own_product(view, foreground)
    anywhere, there = (metrics.anywhere, metrics.placed) if metrics else (None, None)
    content = partial(_by_content, view, references, products, own, anywhere)
    dense = dense_in(view, references if pairings else (), there)
    usable = [
        _Aligned(reference, grid, product, pairings[reference.reference_id])
        for reference, grid, product in zip(references, dense.references, products, strict=False)
        if reference.reference_id in pairings
    ]
    placed = each(lambda one: _in_place(dense.query, one, view), usable)
    both = list(zip(usable, placed, strict=True))
    refuted = tuple(o.reference.reference_id for o, p in both if _refuted(o.pairing, p))
    sound = [(o, p) for o, p in both if o.reference.reference_id not in refuted]
    if not sound:
        return Comparison((), content, own, 0.0, refuted)
    pairs = [(one.reference, one.pairing) for one, _ in sound]
    bounded = any(reference.foreground.confidence >= TRUSTED for reference, _ in pairs)
    found_there = [p for _, p in sound]
    known = searched(view, dense, products).unexplained
    comparison = _with_places(content, known, found_there, view, refuted, bounded=bounded)
    finer = [
        *_outline_channel(foreground, pairs, view),
        *_pixel_channels(picture, pairs, view, comparison),
    ]
    return replace(comparison, placed=(*comparison.placed, *finer))


def _by_content(
    view: View,
    references: Sequence[Reference],
    products: Sequence[Mask],
    own: Mask,
    metric: Metric | None,
) -> tuple[Channel, ...]:
    """What no reference explains wherever it lies: on the product (`own`) and its rim, and beside
    it; and what of the references is absent."""
    found = searched(view, dense_in(view, references, metric), products)
    ring = grown(own)
    beside = np.where(ring, np.nan, found.unexplained)
    parts = {"anywhere": np.where(ring, found.unexplained, np.nan)}
    if np.isfinite(beside).any():
        parts["around"] = beside
    share = float(np.isfinite(found.unexplained).mean())
    channels = [Channel(name, part, top_mean(part), share) for name, part in parts.items()]
    absent = found.absent if not view.glare else float("nan")
    return (*channels, Channel("absent", None, absent, 1.0))


def _pixel_channels(
    picture: Callable[[], Pixels] | None,
    pairs: Sequence[tuple[Reference, Pairing]],
    view: View,
    comparison: Comparison,
) -> list[Channel]:
    """Roots, because what is usual varies with its size from product to product; logarithms where
    it varies in proportion: print of stiff and of soft products. A part of the product says too
    little of where the rest lies to ask for bends.
    """
    matched = lay_upon(picture(), view, pairs) if picture is not None else None
    if matched is None:
        return []
    found = []
    if (details := compare_details(matched)) is not None:
        excess = np.sqrt(details.excess)
        if comparison.bounded:
            excess = np.where(within(comparison.product), excess, np.float32(np.nan))
        found.append(Channel("detail", excess, placed_score(excess), details.share))
    if comparison.coverage >= _WHOLE and (bends := compare_bends(matched)) is not None:
        moved = np.log(bends.moved + _STILL_PX).astype(np.float32)
        found.append(Channel("bend", moved, math.log(bends.score + _STILL_PX), bends.share))
    return found


def _outline_channel(
    foreground: Foreground, pairs: Sequence[tuple[Reference, Pairing]], view: View
) -> list[Channel]:
    if view.partial and foreground.source != "given":
        return []  # estimates take the colours along the border for the background's
    outline = compare_outlines(foreground, pairs, picture_size=view.picture_size)
    if outline is None:
        return []
    cells = view.patches.cells_of(transform(view.matrix, outline.points_xy))
    drawn = draw_outline(outline, cells, view.patches.shape)
    return [Channel("outline", drawn, outline.score, outline.share)]


def _product_cells(reference: Reference) -> Mask:
    """(H, W) bool of the reference's grid: on the product, or everywhere when that is unknown."""
    mask = reference.foreground.mask.view(np.uint8) * np.uint8(255)
    # In bytes: five times as fast, and cells that are just half product are none, as everywhere.
    shares = cv2.resize(mask, reference.patches.shape[::-1], interpolation=cv2.INTER_AREA)
    cells = np.asarray(shares > math.ceil(255 * _ON))
    return cells if cells.any() else np.ones_like(cells)


def _shrunk(mask: Mask, shape: tuple[int, int]) -> Floats:
    return np.asarray(
        cv2.resize(mask.astype(np.float32), shape[::-1], interpolation=cv2.INTER_AREA)
    )


@dataclass(frozen=True)
class _Aligned:
    """A reference that registered: its dense grid, its cells on the product, where it lies."""

    reference: Reference
    grid: Floats
    product: Mask
    pairing: Pairing


@dataclass(frozen=True)
class _Placed:
    """One aligned reference on the view's grid; NaN where it says nothing.

    forward   distance of a query patch to the nearest within the window
    backward  the same for the reference's patch that belongs here
    lies      cells of the picture where its product lies, and those of them that are measured: on
    coverage  the share of its product that the view shows
    unlike    median backward distance over that of patches which have nothing to do with each other
    """

    forward: Floats
    backward: Floats
    lies: Mask
    on: Mask
    coverage: float
    unlike: float


def _in_place(query: Floats, aligned: _Aligned, view: View) -> _Placed:
    pairing, product = aligned.pairing, aligned.product
    assert pairing.registration.matrix is not None
    back = inverse(pairing.registration.matrix)
    places = aligned.reference.patches.cells_of(transform(back, view.centres_in_picture()))
    shape = query.shape[:2]
    share, inside = _sample(product[:, :, None].astype(np.float32), places)
    lies = (inside & (share[:, 0] > _ON)).reshape(shape) & view.shown
    on = lies & view.measured
    forward = np.full(shape, np.nan, np.float32)
    backward, unlike = forward.copy(), 1.0
    if on.any():
        rows, columns = _box(on, _RADIUS)
        within = places.reshape(*shape, 2)[rows, columns]
        warped, _ = _sample(aligned.grid, within.reshape(-1, 2))
        moved = warped.reshape(*within.shape[:2], -1)
        near, far = _windows(
            query[rows, columns], moved, on[rows, columns], view.measured[rows, columns]
        )
        forward[rows, columns] = np.where(on[rows, columns], near, np.nan)
        backward[rows, columns] = far
        strangers = _between_strangers(query[on], moved[on[rows, columns]])
        unlike = float(np.nanmedian(backward[on])) / max(strangers, 1e-6)
    coverage = _coverage(aligned.reference, product, pairing, view)
    return _Placed(forward, backward, lies, on, coverage, unlike)


def _refuted(pairing: Pairing, placed: _Placed) -> bool:
    """Shared print (a logo, a barcode) registers, too: the patches must bear an alignment out."""
    return placed.unlike > (_MOST_UNLIKE_WIDE if pairing.span >= _WIDE else _MOST_UNLIKE)


def _between_strangers(some: Floats, others: Floats) -> float:
    """Root mean square distance between any of some (N, D) and any of other (M, D) patches."""
    own = float(np.einsum("nd,nd->", some, some)) / len(some)
    theirs = float(np.einsum("nd,nd->", others, others)) / len(others)
    return math.sqrt(max(0.0, own + theirs - 2 * float(some.mean(axis=0) @ others.mean(axis=0))))


def _sample(grid: Floats, places: NDArray[np.float64]) -> tuple[Floats, Mask]:
    """Bilinear values of an (H, W, D) grid at (N, 2) cell coordinates, and which are inside."""
    height, width, dims = grid.shape
    x, y = np.nan_to_num(places, nan=-9.0, posinf=-9.0, neginf=-9.0).T
    inside = (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    left, top = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
    right, below = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    fx, fy = (x - left).astype(np.float32)[:, None], (y - top).astype(np.float32)[:, None]
    flat = grid.reshape(-1, dims)
    upper = flat[top * width + left] * (1 - fx) + flat[top * width + right] * fx
    lower = flat[below * width + left] * (1 - fx) + flat[below * width + right] * fx
    return upper * (1 - fy) + lower * fy, inside


def _box(on: Mask, margin: int) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(on.any(axis=1)), np.flatnonzero(on.any(axis=0))
    return (
        slice(max(0, rows[0] - margin), rows[-1] + margin + 1),
        slice(max(0, columns[0] - margin), columns[-1] + margin + 1),
    )


def _windows(query: Floats, moved: Floats, on: Mask, measured: Mask) -> tuple[Floats, Floats]:
    """Nearest patch within the window, both ways; NaN where there is none to compare."""
    height, width = on.shape
    forward = np.full((height, width), np.inf, np.float32)
    backward = forward.copy()
    query_norms = np.einsum("hwd,hwd->hw", query, query)
    query_norms[~measured] = np.inf
    moved_norms = np.einsum("hwd,hwd->hw", moved, moved)
    moved_norms[~on] = np.inf
    for down in range(-_RADIUS, _RADIUS + 1):
        for right in range(-_RADIUS, _RADIUS + 1):
            q = _overlap(height, down), _overlap(width, right)
            m = _overlap(height, -down), _overlap(width, -right)
            dots = np.einsum("hwd,hwd->hw", query[q], moved[m])
            squared = query_norms[q] + moved_norms[m] - 2 * dots
            np.minimum(forward[q], squared, out=forward[q])
            np.minimum(backward[m], squared, out=backward[m])
    return _roots(forward), _roots(backward)


def _overlap(length: int, shift: int) -> slice:
    """Where an axis has a partner when the other picture is shifted by `shift`."""
    return slice(max(0, shift), length + min(0, shift))


def _roots(squared: Floats) -> Floats:
    return np.where(np.isfinite(squared), np.sqrt(np.maximum(squared, 0)), np.nan)


def _coverage(reference: Reference, product: Mask, pairing: Pairing, view: View) -> float:
    """Share of the reference's product cells that land in what the view shows of the picture."""
    assert pairing.registration.matrix is not None
    centres = reference.patches.centres_px().reshape(-1, 2)[product.ravel()]
    there = transform(view.matrix, transform(pairing.registration.matrix, centres))
    cells = np.rint(np.nan_to_num(view.patches.cells_of(there), nan=-9.0)).astype(np.intp)
    height, width = view.patches.shape
    inside = (cells >= 0).all(axis=1) & (cells < [width, height]).all(axis=1)
    shown = view.shown[cells[inside, 1], cells[inside, 0]]
    return float(shown.sum() / max(1, len(centres)))


def _with_places(
    content: Callable[[], tuple[Channel, ...]],
    unexplained: Floats,
    found: Sequence[_Placed],
    view: View,
    refuted: tuple[str, ...],
    *,
    bounded: bool,
) -> Comparison:
    """A product whose bounds are a guess has no rim, and details are asked for beyond them."""
    near = _least(np.stack([p.forward for p in found]))
    product = np.any([p.lies for p in found], axis=0)
    # Where no aligned reference speaks, the global answer stands for both.
    both = unexplained + np.where(np.isfinite(near), near, unexplained)
    ring = grown(product)
    core = within(product) if bounded else ring
    inner, rim = np.where(core, both, np.nan), np.where(ring & ~core, both, np.nan)
    outer = np.where(ring, np.nan, both)
    gone = np.where(core, _least(np.stack([p.backward for p in found])), np.nan)
    coverage = max(p.coverage for p in found)
    placed = (
        Channel("product", inner, placed_score(inner), coverage),
        Channel("rim", rim, placed_score(rim), coverage),
        Channel("surroundings", outer, top_mean(outer), float(view.measured.mean())),
        Channel("missing", gone, placed_score(gone), coverage),
    )
    return Comparison(placed, content, product, coverage, refuted, bounded)


def _least(stack: Floats) -> Floats:
    found = np.where(np.isfinite(stack), stack, np.inf).min(axis=0)
    return np.where(np.isfinite(found), found, np.nan).astype(np.float32)


def _own_product(view: View, foreground: Foreground) -> Mask:
    """Cells of the product by the query's own foreground."""
    if foreground.confidence < TRUSTED or view.turn_deg:
        return view.measured
    cells = _shrunk(foreground.mask, view.patches.shape) > _ON
    return cells if cells.any() else view.measured
