"""Fine differences: pixels of the query against aligned pictures of the references.

A scratch, a pinhole or a wrong colour is small in a patch of features and plain in the picture
itself. Each reference's picture is laid upon the query, moved by what is left of the registration's
error, and brought to the query's light; then a pixel may lie anywhere between the darkest and the
lightest that the reference has within a pixel's reach. (Tolerance bands around a template: the
variation model of industrial inspection, Steger, Ulrich & Wiedemann, Machine Vision Algorithms and
Applications, section 3.4; here the band comes from neighbouring pixels, as there are few pictures.)

Light is a gain common to all colours, smooth but for the edges of shadows: the running median of
the ratio of both pictures follows such edges and passes over what is smaller than half its window.
Or it is mirrored by the product, and adds to all colours alike: then the running median of the
difference, in linear light, is what the veil adds. The better of both explanations counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from anomaly.looks import onto_look, warped, warped_mask
from anomaly.results import Pairing, View
from embeddings.images import Mask, Pixels
from embeddings.patches import Floats
from embeddings.registration import Matrix, inverse
from gallery.describe import Reference

_TRUSTED = 0.5  # foreground confidence from which what lies off the product is left out
_LEAST_PX = 400  # of the product in the view, under which it says nothing
_CELL = 8  # pixels of the gain's grid; crops begin at multiples of it
# Opponent planes (Y, R - Y, B - Y) in bytes; chroma, which light hardly moves, counts more.
_PLANES = np.array(
    [[1 / 3, 1 / 3, 1 / 3, 0], [0.5, -0.25, -0.25, 128], [-0.25, -0.25, 0.5, 128]], np.float64
)
_CHROMA = 3.33
_SLACK = 0.2  # of the band's width that a pixel may lie beyond it: edges are never as sharp again
_DARK = 8.0  # grey levels added before ratios are taken
_COARSE = 2  # view pixels per pixel in which light and rest motion are estimated
_WINDOW = 21  # of the running median, in those pixels
_LOG_STEPS = 80.0  # of the gain's logarithm, per unit, so that it fits a byte
_GAMMA = 2.2  # of a byte: light adds up in its power
_LEAST_VEIL = 8.0  # of 255, linear: under it, none is looked for
_COARSEST = 6.0  # sigma in those pixels of what correlating them passes over
_MOST_MOVED = 12.0  # view pixels at the frame's corners: beyond, the refinement went astray
_STEPS = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 12, 1e-4)
# An uncertain foreground's surroundings agree: 0.9-quantile of their excess, over the product's.
_FIXED, _FIXED_SLACK = 2.0, 5.0
_SEEN = 0.6  # share of a cell's pixels that must be compared


_LINEAR = (255 * (np.arange(256) / 255) ** _GAMMA).astype(np.float32)


@dataclass(frozen=True)
class Details:
    """`excess`: (H, W) float32 on the view's grid, grey levels beyond what the references allow at
    a cell's worst place; NaN where nothing was compared. `share` of the product compared."""

    excess: Floats
    share: float


def compare_details(
    look: Pixels, view: View, references: Sequence[tuple[Reference, Pairing]]
) -> Details | None:
    """Compare the picture of a view with aligned references' pictures, pixel by pixel.

    `look`: (h, w, 3) uint8 RGB, what the view was embedded from (`looks.look_of`). The least
    excess over the references counts. None where none holds a picture or lies in the view.
    """
    known = [(r, p) for r, p in references if r.thumbnail is not None]
    query = _Query(look, view)
    beyond = [one for r, p in known if (one := _beyond(query, r, p)) is not None]
    if not beyond:
        return None
    least = np.minimum.reduce([one.excess for one in beyond])
    seen = np.logical_or.reduce([one.seen for one in beyond])
    excess = _by_cell(least, seen, view)
    return Details(excess, float(np.isfinite(excess).mean())) if _any(excess) else None


class _Query:
    """The query's picture, and what of it is asked for again with each reference."""

    def __init__(self, look: Pixels, view: View) -> None:
        self.look = _calmed(look)
        self.grey = cv2.cvtColor(self.look, cv2.COLOR_RGB2GRAY)
        self.size: tuple[int, int] = (look.shape[0], look.shape[1])
        self.view = view


@dataclass(frozen=True)
class _Beyond:
    """(h, w) of the look: uint8 excess, 255 where `seen` is False."""

    excess: Pixels
    seen: Mask


def _beyond(query: _Query, reference: Reference, pairing: Pairing) -> _Beyond | None:
    assert reference.thumbnail is not None
    motion = onto_look(reference, pairing, query.view)
    trusted = reference.foreground.confidence >= _TRUSTED
    product = _product(reference)
    known = product if trusted else np.ones_like(product)
    box = _box(warped_mask(known, motion, query.size))
    if box is None:
        return None
    rows, columns = box
    motion = _shift(-columns.start, -rows.start) @ motion
    size = (rows.stop - rows.start, columns.stop - columns.start)
    calm = _calmed(reference.thumbnail)
    motion = _refined(motion, calm, query.grey[box], warped_mask(known, motion, size))
    there = warped(calm, motion, size)
    on = warped_mask(known, motion, size)
    excess = _off_band(_in_light_of(query.look[box], there, on), there)
    lifted = _unveiled(query.look[box], there, on)
    if lifted is not None:
        excess = cv2.min(excess, _off_band(lifted, there))
    if not trusted:
        on = _fixed(excess, on, warped_mask(product, motion, size))
    whole, seen = np.full(query.size, 255, np.uint8), np.zeros(query.size, np.bool_)
    whole[box] = np.where(on > 0, excess, 255)
    seen[box] = on > 0
    return _Beyond(whole, seen)


def _calmed(picture: Pixels) -> Pixels:
    """Noise and the blocks of JPEGs smoothed, both pictures alike."""
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 1.0))


def _product(reference: Reference) -> Pixels:
    assert reference.thumbnail is not None
    mask = reference.foreground.mask
    size = reference.thumbnail.shape[1::-1]
    return np.asarray(
        cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        if mask.any()
        else np.ones(size[::-1], np.uint8)
    )


def _box(mask: Pixels) -> tuple[slice, slice] | None:
    """Rows and columns of what is not zero, beginning and ending at multiples of a cell."""
    if int(cv2.countNonZero(mask)) < _LEAST_PX:
        return None
    x, y, wide, tall = cv2.boundingRect(mask)
    return (
        slice(y // _CELL * _CELL, min(mask.shape[0], -(-(y + tall) // _CELL) * _CELL)),
        slice(x // _CELL * _CELL, min(mask.shape[1], -(-(x + wide) // _CELL) * _CELL)),
    )


def _shift(x: float, y: float) -> Matrix:
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def _refined(motion: Matrix, picture: Pixels, grey: Pixels, on: Pixels) -> Matrix:
    """`motion` after an affine correction that makes both pictures correlate best (ECC, Evangelidis
    & Psarakis, PAMI 2008); as it was where that fails or goes astray."""
    small = (max(1, grey.shape[1] // _COARSE), max(1, grey.shape[0] // _COARSE))
    down = np.diag([small[0] / grey.shape[1], small[1] / grey.shape[0], 1.0])
    down[:2, 2] = (np.diag(down)[:2] - 1) / 2
    there = _flat(warped(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), down @ motion, small[::-1]))
    here = _flat(cv2.resize(grey, small, interpolation=cv2.INTER_AREA))
    mask = cv2.resize(on, small, interpolation=cv2.INTER_NEAREST)
    try:
        _, found = cv2.findTransformECC(
            here, there, np.eye(2, 3, dtype=np.float32), cv2.MOTION_AFFINE, _STEPS, mask, 5
        )
    except cv2.error:  # it doesn't converge, or there is nothing to correlate
        return motion
    rest = inverse(down) @ np.vstack([found, [0, 0, 1]]) @ down
    tall, wide = grey.shape
    corners = np.array([[0, wide, 0, wide], [0, 0, tall, tall], [1, 1, 1, 1]])
    moved = np.abs((rest @ corners - corners)[:2]).max()
    return inverse(rest) @ motion if moved <= _MOST_MOVED else motion


def _flat(grey: Pixels) -> Floats:
    """(h, w) less what is coarse: shadows on one of both pictures would pull them together."""
    values = grey.astype(np.float32)
    return np.asarray(values - cv2.GaussianBlur(values, (0, 0), _COARSEST), np.float32)


def _in_light_of(query: Pixels, there: Pixels, on: Pixels) -> Pixels:
    """The query's picture as the reference's light would show it."""
    small = (max(1, on.shape[1] // _COARSE), max(1, on.shape[0] // _COARSE))
    grey, other, mask = (
        cv2.resize(one, small, interpolation=cv2.INTER_AREA).astype(np.float32)
        for one in (
            cv2.transform(query, _PLANES[:1]), cv2.transform(there, _PLANES[:1]), on * np.uint8(255)
        )
    )  # fmt: skip
    brighter = _running_median(np.log((grey + _DARK) / (other + _DARK)), mask > 127)
    gain = cv2.resize(np.exp(-brighter), on.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    lit = cv2.multiply(query, cv2.merge([gain] * 3), dtype=cv2.CV_8U)
    rest = cv2.merge([(gain - 1) * np.float32(_DARK)] * 3)
    return np.asarray(cv2.add(lit, rest, dtype=cv2.CV_8U))


def _unveiled(query: Pixels, there: Pixels, on: Pixels) -> Pixels | None:
    """The query's picture without light that was added over more than half a window; None where
    there is next to none."""
    small = (max(1, on.shape[1] // _COARSE), max(1, on.shape[0] // _COARSE))
    inside = cv2.resize(on * np.uint8(255), small, interpolation=cv2.INTER_AREA) > 127
    if not inside.any():
        return None
    here, other = (
        _LINEAR[cv2.resize(one, small, interpolation=cv2.INTER_AREA)].mean(axis=2)
        for one in (query, there)
    )
    exposure = float(np.exp(-np.median(np.log((here + 2) / (other + 2))[inside])))
    veil = _windowed(np.maximum(here * exposure - other, 0), inside)
    if veil[inside].max() < _LEAST_VEIL:
        return None
    veil = cv2.resize(veil, on.shape[1::-1], interpolation=cv2.INTER_LINEAR)[:, :, None]
    linear = np.maximum(_LINEAR[query] * np.float32(exposure) - veil, 0)
    return np.asarray(np.minimum(255 * (linear / 255) ** (1 / _GAMMA), 255), np.uint8)


def _running_median(values: Floats, inside: Mask) -> Floats:
    """Median in a window of (h, w) logarithms, which are continued smoothly beyond `inside`."""
    median = _windowed(values * np.float32(_LOG_STEPS) + 128, inside)
    return np.asarray((median - 128) / _LOG_STEPS, np.float32)


def _windowed(values: Floats, inside: Mask) -> Floats:
    """Running median of (h, w) values in bytes' range, continued smoothly beyond `inside`."""
    weights, sigma = inside.astype(np.float32), _WINDOW / 2.6
    around = cv2.GaussianBlur(values * weights, (0, 0), sigma) / (
        cv2.GaussianBlur(weights, (0, 0), sigma) + 1e-3
    )
    coded = np.clip(np.rint(np.where(inside, values, around)), 0, 255).astype(np.uint8)
    return np.asarray(cv2.medianBlur(coded, _WINDOW), np.float32)


def _off_band(query: Pixels, there: Pixels) -> Pixels:
    """(h, w) uint8: how far opponent colours lie beyond those within a pixel's reach."""
    ours, theirs = cv2.transform(query, _PLANES), cv2.transform(there, _PLANES)
    reach = np.ones((3, 3), np.uint8)
    high, low = cv2.dilate(theirs, reach), cv2.erode(theirs, reach)
    beyond = cv2.max(cv2.subtract(ours, high), cv2.subtract(low, ours))
    beyond = cv2.addWeighted(beyond, 1.0, cv2.subtract(high, low), -_SLACK, 0)
    light, red, blue = cv2.split(beyond)
    chroma = cv2.convertScaleAbs(cv2.max(red, blue), alpha=_CHROMA)
    return np.asarray(cv2.blur(cv2.max(light, chroma), (3, 3)))


def _fixed(excess: Pixels, on: Pixels, product: Pixels) -> Pixels:
    """Where an uncertain foreground may be compared: all over, if what lies beside it agrees as
    well as it does itself (a fixture moves with its product); else where the guess is."""
    inner = (on > 0) & (product > 0)
    outer = (on > 0) & ~inner
    if inner.sum() < _LEAST_PX or outer.sum() < _LEAST_PX:
        return on
    within, beside = np.quantile(excess[inner], 0.9), np.quantile(excess[outer], 0.9)
    return on if beside <= _FIXED * within + _FIXED_SLACK else np.asarray(inner, np.uint8)


def _by_cell(excess: Pixels, seen: Mask, view: View) -> Floats:
    """(H, W) the highest excess of each cell of which enough was seen."""
    rows, columns = view.patches.shape
    stride = view.patches.layers[0].stride_px
    height, width = min(rows * stride, seen.shape[0]), min(columns * stride, seen.shape[1])
    room = np.zeros((2, rows * stride, columns * stride), np.uint8)
    room[0, :height, :width] = np.where(seen, excess, 0)[:height, :width]
    room[1, :height, :width] = seen[:height, :width]
    cells = room.reshape(2, rows, stride, columns, stride)
    share = cells[1].mean(axis=(1, 3), dtype=np.float32)
    worst = cells[0].max(axis=(1, 3)).astype(np.float32)
    shown = view.measured if view.veiled is None else view.measured | view.veiled
    return np.where((share >= _SEEN) & shown, worst, np.nan).astype(np.float32)


def _any(values: Floats) -> bool:
    return bool(np.isfinite(values).any())
