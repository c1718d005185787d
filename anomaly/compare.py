"""Stage 2: what do the references not explain in the query, and what of them is not there?

Forward: query patches that no pristine view explains (minimum over references). Backward: patches
of the product that have no counterpart in the query (minimum as well: what is missing is missing
against every reference, and a single one that is aligned a little off says nothing). Each
direction has a local answer, where the aligned reference is searched within a window (minimum and
window as in position-bound matching, RAD, arXiv 2601.22763, but after aligning the product), and a
global one, where place doesn't count: what is `novel` is so wherever it lies. They are channels of
their own, because they fail apart: content that is known elsewhere is missed by the global one, and
a bottle that was turned about its axis fits no place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import cv2
import numpy as np

from anomaly.bend import compare_bends
from anomaly.content import Dense, dense_in, searched, unexplained
from anomaly.detail import compare_details
from anomaly.looks import scaled, to_look, warped_mask
from anomaly.matched import lay_upon
from anomaly.outline import compare_outlines, draw_outline
from anomaly.placed import Aligned, Placed, placed_on, product_cells
from anomaly.results import OF_PLACES, Channel, Comparison, Pairing, View
from anomaly.rim import grown, placed_score, top_mean, within
from embeddings.foreground import Foreground
from embeddings.images import Mask, Pixels
from embeddings.metric import Metric, Metrics
from embeddings.on_product import TRUSTED
from embeddings.patches import Floats
from embeddings.registration import transform
from embeddings.threads import each
from gallery.describe import Reference

COMPARE_VERSION = 20
# Pristine faces reach 0.43 (rendered) and 0.61 (carton_top, small in its pictures); other faces
# with the same logo begin at 0.58, but agree on a tenth of the product (at most a quarter).
_MOST_UNLIKE, _MOST_UNLIKE_WIDE = 0.54, 0.68
_WIDE = 0.15  # span of an alignment from which the second holds
_SEAM = 4  # cells on each side of the picture's border
_WHOLE = 0.9  # of the product, under which print can't be said to have moved
_STILL_PX = 0.05  # by which print always seems to move
# Range of the light's logarithm up to which pristine scores don't hang on it (rendered), and
# references that tell: what one or two don't show else goes with the light.
_UNEVEN, _LEAST_LIT = 0.4, 3
_LEAST_RIM = 1e-3  # distance of patches that are one and the same
_GLIDES = 0.01  # of the product, more than a cell beyond the other's bounds, on both sides
_SLIDES = 0.1  # the same, on either side: of pristine pictures no flat product's have half of it


def compare(
    view: View,
    references: Sequence[Reference],
    pairings: Mapping[str, Pairing],
    *,
    foreground: Foreground,
    metrics: Metrics | None = None,
    picture: Callable[[], Pixels] | None = None,
    form: bool = False,
    turning: bool = False,
) -> Comparison:
    """Compare a view with references: place by place with those that `pairings` has, by reference
    ID, and by content alone with all.

    `foreground` is the query's, in the picture as given, which `picture` gives (`detail` and `bend`
    ask for it). `absent` is not measured under glare: what that hides is not gone. `form`: whether
    the product has one; then a picture of it that fits no reference is asked for what is `novel`.
    `turning`: whether it is a body that turns about its axis; then no reference tells where print
    lies, and the product's bounds are the query's own.
    """
    products = [product_cells(r.foreground.mask, r.patches.shape) for r in references]
    own = _own_product(view, foreground)
    spaces = (metrics.anywhere, metrics.placed, metrics.beside) if metrics else (None, None, None)
    content = partial(_by_content, view, references, products, own, spaces[0])
    dense = dense_in(view, references if pairings else (), spaces[1])
    both = _in_place(view, references, products, pairings, dense)
    refuted = tuple(o.reference.reference_id for o, p in both if _refuted(o.pairing, p))
    sound = [(o, p) for o, p in both if o.reference.reference_id not in refuted]
    if not sound:
        besides = partial(_novel, view, references, products, own, spaces[1])
        asked = besides if form and foreground.confidence >= TRUSTED else tuple
        return Comparison((), content, own, 0.0, refuted, besides=asked, form=form)
    fit, product, bounded, gliding = _bounds(sound, own, foreground, turning=turning)
    known = unexplained(view, dense, products, where=grown(product))
    coverage, inside = max(p.coverage for _, p in sound), ~_seam(view)
    channels = (
        *_product_channels(known, [p for _, p in fit], product, inside, coverage, bounded=bounded),
        _beside(view, references, products, inside & ~grown(product), spaces[2]),
    )
    places = {one.reference.reference_id: p.places for one, p in sound}
    found = Comparison(channels, content, product, coverage, refuted, bounded, places,
                       gliding=gliding, turning=turning)  # fmt: skip
    if turning:
        return replace(found, placed=tuple(c for c in channels if c.name not in OF_PLACES))
    found = _with_pixels(
        found, [(o.reference, o.pairing) for o, _ in fit], view, foreground, picture
    )
    return replace(found, relit=found.relit and len(references) >= _LEAST_LIT)


def _with_pixels(
    found: Comparison,
    pairs: Sequence[tuple[Reference, Pairing]],
    view: View,
    foreground: Foreground,
    picture: Callable[[], Pixels] | None,
) -> Comparison:
    """With the channels that are finer than patches."""
    outline = _outline_channel(foreground, pairs, view)
    pixels, uneven = _pixel_channels(picture, pairs, view, found)
    relit = _UNEVEN < uneven < math.inf
    return replace(found, placed=(*found.placed, *outline, *pixels), relit=relit)


def _in_place(
    view: View,
    references: Sequence[Reference],
    products: Sequence[Mask],
    pairings: Mapping[str, Pairing],
    dense: Dense,
) -> list[tuple[Aligned, Placed]]:
    usable = [
        Aligned(reference, grid, product, pairings[reference.reference_id])
        for reference, grid, product in zip(references, dense.references, products, strict=False)
        if reference.reference_id in pairings
    ]
    placed = each(lambda one: placed_on(view, one, dense.query), usable)
    return list(zip(usable, placed, strict=True))


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


def _novel(
    view: View,
    references: Sequence[Reference],
    products: Sequence[Mask],
    own: Mask,
    metric: Metric | None,
) -> tuple[Channel, ...]:
    """What is novel in the query's `own` product, asked as of pictures that fit."""
    core = within(own)
    found = unexplained(view, dense_in(view, references, metric), products, where=core)
    share = float((core & view.measured).sum() / max(1, core.sum()))
    return (Channel("novel", found, placed_score(found), share),)


def _pixel_channels(
    picture: Callable[[], Pixels] | None,
    pairs: Sequence[tuple[Reference, Pairing]],
    view: View,
    comparison: Comparison,
) -> tuple[list[Channel], float]:
    """And how uneven the light is, 0 where nothing tells. Roots, because what is usual varies with
    its size from product to product; logarithms where it varies in proportion: print of stiff and
    of soft products. A part of the product says too little of where the rest lies to ask for bends.
    """
    matched = lay_upon(picture(), view, pairs) if picture is not None else None
    if matched is None:
        return [], 0.0
    found, uneven = [], 0.0
    if (details := compare_details(matched)) is not None:
        uneven = details.uneven
        excess = np.sqrt(details.excess)
        if comparison.bounded:
            excess = np.where(within(comparison.product), excess, np.float32(np.nan))
        found.append(Channel("detail", excess, placed_score(excess), details.share))
    if comparison.coverage >= _WHOLE and (bends := compare_bends(matched)) is not None:
        moved = np.log(bends.moved + _STILL_PX).astype(np.float32)
        found.append(Channel("bend", moved, math.log(bends.score + _STILL_PX), bends.share))
    return found, uneven


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


def _refuted(pairing: Pairing, placed: Placed) -> bool:
    """Shared print (a logo, a barcode) registers, too: the patches must bear an alignment out."""
    return placed.unlike > (_MOST_UNLIKE_WIDE if pairing.span >= _WIDE else _MOST_UNLIKE)


def _bounds(
    sound: Sequence[tuple[Aligned, Placed]], own: Mask, foreground: Foreground, *, turning: bool
) -> tuple[list[tuple[Aligned, Placed]], Mask, bool, int]:
    """References that tell where the product lies, its cells, whether those are more than a guess,
    and how many references' print went round a body."""
    bounded = any(one.reference.foreground.confidence >= TRUSTED for one, _ in sound)
    if not bounded or foreground.confidence < TRUSTED:
        return list(sound), np.any([p.lies for _, p in sound], axis=0), bounded, 0
    fit = [] if turning else _fitting(sound, own)
    lies = [p.lies for _, p in fit] + ([own] if len(fit) < len(sound) else [])
    gliding = sum(_slides(placed, own) for _, placed in sound)
    return fit, np.any(lies, axis=0), bounded, gliding


def _fitting(sound: Sequence[tuple[Aligned, Placed]], own: Mask) -> list[tuple[Aligned, Placed]]:
    """References whose product lies where the query's `own` does. Print that goes round a body (a
    bottle, a can) takes the bounds of its reference along, and it is foreshortened otherwise: where
    those leave some of the own product out and reach beyond it as well, place says nothing. A spill
    only adds to bounds, and what is torn off only takes from them.
    """
    return [(one, p) for one, p in sound if min(_beyond(p, own)) <= _GLIDES]


def _slides(placed: Placed, own: Mask) -> bool:
    """Whether print went round the body, of a reference and a picture that are both pristine: on
    one side alone as well, where perspective brought its print into less room."""
    less, more = sorted(_beyond(placed, own))
    return less > _GLIDES or more > _SLIDES


def _beyond(placed: Placed, own: Mask) -> tuple[float, float]:
    """How much of the own product lies more than a cell beyond the reference's, and the reverse,
    as shares of the own."""
    left_out, reached = own & ~grown(placed.lies), placed.lies & ~grown(own)
    whole = max(1, int(own.sum()))  # a view may show no cell of it
    return int(left_out.sum()) / whole, int(reached.sum()) / whole


def _product_channels(
    unexplained: Floats, found: Sequence[Placed], product: Mask, inside: Mask, coverage: float, *,
    bounded: bool,
) -> tuple[Channel, ...]:  # fmt: skip
    """`unexplained` wherever it lies; rims only `inside`, of both answers together, in logarithms,
    as what is usual there varies in proportion. A product whose bounds are a guess has no rim, and
    details are asked for beyond them."""
    near, gone = (_least(maps, product.shape) for maps in (
        [p.forward for p in found], [p.backward for p in found],
    ))  # fmt: skip
    # Where no aligned reference speaks, the global answer stands for both.
    near = np.where(np.isfinite(near), near, unexplained)
    ring = grown(product)
    core = within(product) if bounded else ring
    inner, novel = np.where(core, near, np.nan), np.where(core, unexplained, np.nan)
    edge = np.where(ring & ~core & inside, unexplained + near, np.nan)
    rim = np.log(np.maximum(edge, _LEAST_RIM)).astype(np.float32)
    gone = np.where(core, gone, np.nan)
    return (
        Channel("product", inner, placed_score(inner), coverage),
        Channel("novel", novel, placed_score(novel), coverage),
        Channel("rim", rim, placed_score(rim), coverage),
        Channel("missing", gone, placed_score(gone), coverage),
    )


def _seam(view: View) -> Mask:
    """(H, W) cells that what was filled in beyond the picture reaches: the product goes on there as
    it is in the reference, what lies beside it doesn't."""
    if not view.partial:
        return np.zeros(view.measured.shape, np.bool_)
    reach = np.ones((2 * _SEAM + 1, 2 * _SEAM + 1), np.uint8)
    return np.asarray(cv2.dilate((~view.shown).astype(np.uint8), reach) > 0)


def _beside(
    view: View, references: Sequence[Reference], products: Sequence[Mask], where: Mask,
    metric: Metric | None,
) -> Channel:  # fmt: skip
    """What lies beside the product (`where`): in place of nothing, so in a metric of its own."""
    found = np.full(where.shape, np.nan, np.float32)
    if (view.measured & where).any():  # products that fill the picture are not projected twice
        dense = dense_in(view, references, metric)
        found = unexplained(view, dense, products, where=where)
    return Channel("surroundings", found, placed_score(found), float(view.measured.mean()))


def _least(maps: Sequence[Floats], shape: tuple[int, ...]) -> Floats:
    """(H, W) the lowest value at each cell; NaN where none is measured."""
    stack = np.reshape(np.asarray(maps, np.float32), (-1, *shape))
    found = np.where(np.isfinite(stack), stack, np.inf).min(axis=0, initial=np.inf)
    return np.where(np.isfinite(found), found, np.nan).astype(np.float32)


def _own_product(view: View, foreground: Foreground) -> Mask:
    """Cells of the product by the query's own foreground; where that is a guess, all."""
    if foreground.confidence < TRUSTED:
        return view.measured
    shape, mask = view.patches.shape, foreground.mask
    if np.array_equal(view.matrix, np.eye(3)):
        return product_cells(mask, shape)
    onto = scaled(1 / view.patches.layers[0].stride_px) @ to_look(view)
    return warped_mask(mask.astype(np.uint8), onto, shape).astype(np.bool_)
