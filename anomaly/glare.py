"""Glare: light that a glossy product mirrors, which hides what lies under it and damages nothing.

A lamp's mirror image is clipped at its core, and fades into a veil of white light that reaches far
beyond. Where references are aligned, both show as light that was added to every colour: what is
clipped here and white nowhere in the references may be a seed, as may a veil that rises as smoothly
as light does. It is one if there still is light around it, as lamps fade; paper bared by a tear is
as white, and ends. All that is connected to a seed, clipped or veiled, is hidden from features,
but for what is darker there, in some colour, than in every reference (a hole, a stain), and the
cells around: light takes from no colour, and a shadow not from one alone.
Pixels see through a veil (`detail`), so that only what is nearly white is hidden from those.
Without alignment, only the clipped core and a halo can be told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from anomaly.looks import darkest, onto_look, scaled, warped, warped_mask
from anomaly.results import Pairing, View
from embeddings.images import Mask, Pixels
from embeddings.patches import Floats
from embeddings.threads import each
from gallery.describe import Reference

GLARE_VERSION = 8
_MOST = 0.75  # of the product: beyond, it is the exposure, or print that is nearly white, no lamp
# Without alignment: pixels that a cell sees, share of them that hides it, cells of the halo.
_CELL_PX, _CLIPPED_SHARE, _MOST_CORE = 9, 0.25, 0.2
_HALO = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
# With: at half of the look's size.
_TRUSTED = 0.5  # foreground confidence
_SCALE = 0.5
_CLIPPED, _WHITE = 246, 215  # of 255, all colours
_VEIL = 12  # grey levels added to every colour
_UNEVEN = 1.1  # times as bright as usual: light that falls unevenly is no veil
# Of the product's own light, and grey levels less, in any colour: no lamp makes that. Nor does a
# shadow within its light: what it leaves of all colours, grey levels that it may be off.
_DARK, _DARKER = 0.75, 30
_DEEPEST, _ALIKE = 0.4, 10
_DARK_SHARE, _LEAST_LIT = 0.25, 100  # of a cell; pixels, fewer of which don't tell the light
_REACH = np.ones((3, 3), np.uint8)  # pixels that an aligned reference may be off
_JOINT = np.ones((5, 5), np.uint8)  # lobes nearer than that are one: white print divides them
_LEAST_SEEDS = 3
_SMOOTH_PEAK, _SMOOTH_AREA = 25, 100  # grey levels, and pixels, from which a veil alone is a seed
_SMOOTH_SLOPE = 0.2  # of its peak per pixel, half way up: what rises faster is no light
# Around a seed: from where and up to where, grey levels of light, share of pixels that have it.
_NEAR_SEED, _FAR_SEED = (cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (n, n)) for n in (5, 11))
_FADED_CORE, _FADED_VEIL, _FADED_SHARE = 10.0, 5.0, 0.5
_LEAST_AROUND = 10  # pixels, under which nothing is known
_HIDDEN_SHARE = 0.3  # of a cell
_AWAY = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (17, 17))  # pixels that veils still reach
# Cells around what is hidden, which see it too: fewer where so much of the product were left out.
_RIMS = [cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)) for side in (5, 3, 1)]


def without_core(view: View, clipped: Mask) -> View:
    """The view without the cells where `clipped` (of the picture, any size) is, and their halo.

    So much of it that it must be the exposure, and not a mirrored lamp, hides nothing.
    """
    height, width = clipped.shape
    near = cv2.blur(clipped.astype(np.float32), (_CELL_PX, _CELL_PX))
    scale = np.array([width / view.picture_size[1], height / view.picture_size[0]])
    places = ((view.centres_in_picture() + 0.5) * scale - 0.5).astype(np.float32)[None]
    share = cv2.remap(near, places[..., 0], places[..., 1], cv2.INTER_LINEAR)
    core = (share > _CLIPPED_SHARE).reshape(view.measured.shape) & view.measured
    if core.mean() > _MOST_CORE:
        return view
    return _without(view, core, _HALO)


def without_glare(
    view: View, look: Pixels, references: Sequence[tuple[Reference, Pairing]]
) -> View:
    """The view without the cells that glare hides, as its aligned references tell.

    look  (h, w, 3) uint8, what the view was embedded from (`looks.look_of`)
    """
    size = (max(1, round(_SCALE * look.shape[0])), max(1, round(_SCALE * look.shape[1])))
    small = cv2.resize(look, size[::-1], interpolation=cv2.INTER_AREA)
    calm = cv2.GaussianBlur(small, (0, 0), 1.0)
    added = each(lambda pair: _light_added(small, calm, *pair, view), references)
    lit = [one for one in added if one is not None]
    if not lit:
        return view
    clipped = darkest(small) >= _CLIPPED
    veil = np.minimum.reduce([one.veil for one in lit])
    product = np.logical_or.reduce([one.product for one in lit])
    white = np.mean([one.white for one in lit], axis=0) >= 0.5
    around = _Around(np.stack([one.light for one in lit]), ~white & ~clipped, product)
    cores = _cores(clipped & ~white, around)
    tops = _tops(np.where(product, veil, 0), around)
    hidden = _connected((veil > _VEIL) | clipped, cores | tops)
    cells = (_shares(hidden, view) > _HIDDEN_SHARE) & view.measured
    if not cells.any():
        return view
    clear = cv2.dilate(hidden.astype(np.uint8), _AWAY) == 0
    dark = np.logical_and.reduce([one.darkened(small, clear) for one in lit])
    plain = cv2.dilate((_shares(dark, view) > _DARK_SHARE).astype(np.uint8), _REACH) > 0
    without = _sparing(view, cells, _shares(product, view) > 0.5, plain)
    if without is view:
        return view
    white = (_shares(darkest(small) >= _WHITE, view) > _HIDDEN_SHARE).astype(np.uint8)
    through = view.measured & ~without.measured & ~(cv2.dilate(white, _RIMS[0]) > 0)
    return replace(without, veiled=through)


def _sparing(view: View, cells: Mask, product: Mask, plain: Mask) -> View:
    """The view without `cells` and the widest rim that leaves enough of the product, but with
    those that are `plain` to see."""
    enough = (1 - _MOST) * (view.measured & product).sum()
    for rim in _RIMS:
        without = _without(view, cells, rim, plain)
        if (without.measured & product).sum() >= enough:
            return without
    return view


@dataclass(frozen=True)
class _Around:
    """What is known of places around lit ones: (K, h, w) `light` that is added against each of K
    references, and (h, w) where it can `tell`; on the `product` rather than beside it, where
    references show another place."""

    light: Floats
    tell: Mask
    product: Mask

    def fades(self, part: Mask, *, above: float) -> bool:
        """Whether light goes on around (h, w) `part`, as a lamp's does, or nothing is known."""
        grown = part.astype(np.uint8)
        near, far = (cv2.dilate(grown, kernel) > 0 for kernel in (_NEAR_SEED, _FAR_SEED))
        around = far & ~near & self.tell
        ring = around & self.product
        if ring.sum() < _LEAST_AROUND:
            ring = around
        if ring.sum() < _LEAST_AROUND:
            return True
        return bool((np.median(self.light[:, ring], axis=0) > above).mean() >= _FADED_SHARE)


def _cores(clipped: Mask, around: _Around) -> Mask:
    """(h, w) those of the clipped pixels that a lamp clipped."""
    count, parts = cv2.connectedComponents(cv2.dilate(clipped.astype(np.uint8), _JOINT))
    cores = np.zeros(clipped.shape, np.bool_)
    for number in range(1, count):
        own = clipped & (parts == number)
        if own.sum() >= _LEAST_SEEDS and around.fades(own, above=_FADED_CORE):
            cores |= own
    return cores


def _tops(veil: Floats, around: _Around) -> Mask:
    """(h, w) the tops of light that rises smoothly."""
    calm = cv2.GaussianBlur(veil, (0, 0), 1.0)
    count, parts, boxes, _ = cv2.connectedComponentsWithStats((calm > _VEIL).astype(np.uint8))
    tops = np.zeros(calm.shape, np.bool_)
    for number in range(1, count):
        x, y, wide, tall, area = boxes[number]
        if area < _SMOOTH_AREA:
            continue
        where = slice(y, y + tall), slice(x, x + wide)
        own, height = parts[where] == number, calm[where]
        peak = height[own].max()
        flank = own & (height > 0.25 * peak) & (height < 0.75 * peak)
        if peak < _SMOOTH_PEAK or not flank.any():
            continue
        steep = np.median(np.hypot(*np.gradient(height))[flank]) >= _SMOOTH_SLOPE * peak
        if not steep and around.fades(parts == number, above=_FADED_VEIL):
            tops[where] |= own & (height > 0.9 * peak)
    return tops


@dataclass(frozen=True)
class _Lit:
    """One aligned reference `there`, (h, w, 3) uint8, at half of the look's size; (h, w) where its
    picture (`inside`) and its `product` lie, light added to every colour, at least (`veil`) and
    most likely (`light`), and where it is white itself."""

    there: Pixels
    inside: Mask
    product: Mask
    veil: Floats
    light: Floats
    white: Mask

    def darkened(self, small: Pixels, clear: Mask) -> Mask:
        """(h, w) where the query is darker, in some colour, than its product would be in the light
        that falls on it where it is `clear` of glare: nothing that a lamp adds does that, nor does
        a shadow take from one colour alone."""
        own = clear & self.product
        if own.sum() < _LEAST_LIT:
            own = clear & self.inside
        if not own.any():
            return np.zeros(clear.shape, np.bool_)
        ours, theirs = (_grey(picture)[own] + np.float32(8) for picture in (small, self.there))
        light = np.float32(np.median(ours / theirs))
        least = np.minimum(cv2.erode(self.there, _REACH) * light, 255)
        dark = (small < np.minimum(_DARK * least, least - _DARKER)).any(axis=2)
        return np.asarray(dark & ~_shaded(small, least) & self.product)


def _shaded(small: Pixels, least: Floats) -> Mask:
    """(h, w) where a shadow, and light that a lamp adds to all colours, make `small` of `least`:
    the share of it that is left, by least squares over the three colours, and what was added."""
    ours = small.astype(np.float32)
    mean, mean_least = ours.mean(axis=2, keepdims=True), least.mean(axis=2, keepdims=True)
    off = least - mean_least
    share = (off * ours).sum(axis=2, keepdims=True) / ((off**2).sum(axis=2, keepdims=True) + 50)
    left = np.clip(share, _DEEPEST, 1) * least
    added = np.maximum(mean - left.mean(axis=2, keepdims=True), 0)
    return np.asarray(np.abs(ours - left - added).max(axis=2) <= _ALIKE)


def _light_added(
    small: Pixels, calm: Pixels, reference: Reference, pairing: Pairing, view: View
) -> _Lit | None:
    """`calm`: the query's `small` picture without noise."""
    if reference.thumbnail is None:
        return None
    size = (small.shape[0], small.shape[1])
    motion = scaled(_SCALE) @ onto_look(reference, pairing, view)
    there = warped(reference.thumbnail, motion, size)
    inside = warped_mask(np.ones(reference.thumbnail.shape[:2], np.uint8), motion, size) > 0
    if not inside.any():
        return None
    gain = (_usual(there, inside) + 8) / (_usual(small, inside) + 8)
    brightest = cv2.dilate(there, _REACH)
    lit = cv2.convertScaleAbs(brightest, alpha=_UNEVEN)
    alike = cv2.convertScaleAbs(small, alpha=float(gain))
    added = cv2.subtract(alike, lit)
    veil = cv2.blur(darkest(added), (3, 3)).astype(np.float32)
    veil[~inside] = 0
    usual = cv2.GaussianBlur(there, (0, 0), 1.0)
    light = darkest(cv2.addWeighted(calm, gain, usual, -1.0, 0.0, dtype=cv2.CV_32F))
    mask = reference.foreground.mask
    if reference.foreground.confidence >= _TRUSTED and mask.any():
        shown = reference.thumbnail.shape[1::-1]
        small_mask = cv2.resize(mask.astype(np.uint8), shown, interpolation=cv2.INTER_NEAREST)
        product = (warped_mask(small_mask, motion, size) > 0) & inside
    else:
        product = inside
    white = (darkest(brightest) >= _WHITE) & inside
    return _Lit(there, inside, product, veil, light, white)


def _usual(picture: Pixels, inside: Mask) -> float:
    """Median brightness, 0 to 255."""
    counts = cv2.calcHist([_grey(picture)], [0], inside.view(np.uint8), [256], [0, 256]).cumsum()
    low, high = np.searchsorted(counts, [(counts[-1] - 1) // 2, counts[-1] // 2], side="right")
    return float(low + high) / 2


def _grey(picture: Pixels) -> Pixels:
    return np.asarray(cv2.transform(picture, np.full((1, 3), 1 / 3)))


def _connected(lit: Mask, seeds: Mask) -> Mask:
    """The parts of `lit` that hold seeds; parts that nearly touch are one."""
    count, parts = cv2.connectedComponents(cv2.dilate(lit.astype(np.uint8), _JOINT))
    seeded = np.bincount(parts[seeds], minlength=count) >= _LEAST_SEEDS
    return np.asarray(seeded[parts] & lit)


def _shares(hidden: Mask, view: View) -> Floats:
    """(H, W) share of each cell that is hidden."""
    rows, columns = view.patches.shape
    side = round(_SCALE * view.patches.layers[0].stride_px)
    room = np.zeros((rows * side, columns * side), np.float32)
    part = hidden[: room.shape[0], : room.shape[1]]
    room[: part.shape[0], : part.shape[1]] = part
    return np.asarray(cv2.resize(room, (columns, rows), interpolation=cv2.INTER_AREA))


def _without(view: View, cells: Mask, rim: Pixels, plain: Mask | None = None) -> View:
    if not cells.any():
        return view
    hidden = cv2.dilate(cells.astype(np.uint8), rim) > 0
    if plain is not None:
        hidden &= ~plain
    return replace(view, measured=view.measured & ~hidden, hidden=hidden)
