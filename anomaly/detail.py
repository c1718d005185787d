"""Fine differences: pixels of the query against aligned pictures of the references.

A scratch, a pinhole or a wrong colour is small in a patch of features and plain in the picture
itself. Each reference that was laid upon the query (`matched`) is brought to its light; then a
pixel may lie anywhere between the darkest and the lightest that the reference has within a pixel's
reach. (Tolerance bands around a template: the variation model of industrial inspection, Steger,
Ulrich & Wiedemann, Machine Vision Algorithms and Applications, section 3.4; here the band comes
from neighbouring pixels, as there are few pictures.)

Light is a gain common to all colours, smooth but for the edges of shadows: the running median of
the ratio of both pictures follows such edges and passes over what is smaller than half its window.
Or it is mirrored by the product, and adds to all colours alike: then what the veil adds is the
running median of the difference, in linear light, or where that passes over a small veil, what
rises and falls no steeper than light does; paper bared by a tear has edges. The better of both
explanations counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from anomaly.looks import darkest
from anomaly.matched import Laid, Matched, coarse_size
from embeddings.images import Mask, Pixels
from embeddings.patches import Floats
from embeddings.threads import each

_LEAST_PX = 400  # of product, and of what lies beside it, to ask whether both agree
# Opponent planes (Y, R - Y, B - Y) in bytes; chroma, which light hardly moves, counts more.
_PLANES = np.array(
    [[1 / 3, 1 / 3, 1 / 3, 0], [0.5, -0.25, -0.25, 128], [-0.25, -0.25, 0.5, 128]], np.float64
)
_CHROMA = 3.33
_SLACK = 0.2  # of the band's width that a pixel may lie beyond it: edges are never as sharp again
_DARK = 8.0  # grey levels added before ratios are taken
_WINDOW = 21  # of the running median, in pixels of `coarse_size`
_SIGMA = _WINDOW / 2.6  # beyond the product, where it is continued
_LOG_STEPS = 80.0  # of the gain's logarithm, per unit, so that it fits a byte
_ENDS = (0.02, 0.98)  # quantiles between which light is called uneven
_EXPLAINED = 16  # grey levels beyond the band up to which light is all that differs
_GAMMA = 2.2  # of a byte: light adds up in its power
_LEAST_VEIL = 8.0  # of 255, linear: under it, none is looked for
_STEEPEST = 0.2  # of a small veil's peak per pixel of `coarse_size`: more is no light
_NEAR_PEAK = np.ones((13, 13), np.uint8)
_NEXT = np.ones((3, 3), np.uint8)
_CLIPPED = 240  # from which a colour may have been any brighter
# An uncertain foreground's surroundings agree: 0.9-quantile of their excess, over the product's.
_FIXED, _FIXED_SLACK = 2.0, 5.0
_LINEAR = (255 * (np.arange(256) / 255) ** _GAMMA).astype(np.float32)
_FINE = 128  # steps of linear light in 16 bits
_BRIGHT = 255 * (np.arange(65536) / (255 * _FINE)) ** (1 / _GAMMA)
_TO_BYTE = np.minimum(_BRIGHT, 255).astype(np.uint8)


@dataclass(frozen=True)
class Details:
    """`excess`: (H, W) float32 on the view's grid, grey levels beyond what the references allow at
    a cell's worst place; NaN where nothing was compared. `share` of the product compared. `uneven`:
    by how much, as a natural logarithm, the query's light over that of the reference which is lit
    most alike differs between its brightest and its darkest places; infinite where light explains
    nothing."""

    excess: Floats
    share: float
    uneven: float


def compare_details(matched: Matched) -> Details | None:
    """Compare the query with the references that were laid upon it, pixel by pixel.

    The least excess over the references counts. None where nothing can be compared.
    """
    coarse = _coarse(matched.query)
    beyond = each(lambda laid: _beyond(matched.query, coarse, laid), matched.laid)
    least = np.minimum.reduce([one.excess for one in beyond])
    seen = np.logical_or.reduce([one.seen for one in beyond])
    excess = matched.by_cell(least, seen)
    known = np.isfinite(excess)
    uneven = min(one.uneven for one in beyond)
    return Details(excess, float(known.mean()), uneven) if known.any() else None


@dataclass(frozen=True)
class _Beyond:
    """(h, w): uint8 excess, 255 where `seen` is False; see `Details` for `uneven`."""

    excess: Pixels
    seen: Mask
    uneven: float


def _beyond(query: Pixels, coarse: Pixels, laid: Laid) -> _Beyond:
    """`coarse`: the query, shrunk as `_coarse` does."""
    there, on = laid.picture, laid.known
    inside = _coarse(on * np.uint8(255)) > 127
    if not inside.any():
        return _Beyond(np.full(on.shape, 255, np.uint8), np.zeros(on.shape, np.bool_), np.inf)
    explained, band = _Light(coarse, _coarse(there), inside), _band(there)
    excess = _off_band(explained.as_gain(query), *band)
    if (lifted := explained.as_veil(query, there)) is not None:
        excess = cv2.min(excess, _off_band(lifted, *band))
    if not laid.trusted:
        on = _fixed(excess, on, laid.product)
    seen = np.asarray(on > 0)
    uneven = explained.uneven(_coarse(excess) <= _EXPLAINED)
    return _Beyond(np.where(seen, excess, np.uint8(255)), seen, uneven)


def _coarse(picture: Pixels) -> Pixels:
    return np.asarray(cv2.resize(picture, coarse_size(picture.shape), interpolation=cv2.INTER_AREA))


@dataclass(frozen=True)
class _Light:
    """How the light of two pictures differs: both coarse (h, w, 3), and (h, w) where they may be
    compared."""

    here: Pixels
    there: Pixels
    inside: Mask

    def as_gain(self, query: Pixels) -> Pixels:
        """The query's picture as the reference's light would show it."""
        gain = _as_large(np.exp(-self._brighter), query)
        lit = cv2.multiply(query, cv2.merge([gain] * 3), dtype=cv2.CV_8U)
        rest = cv2.merge([(gain - 1) * np.float32(_DARK)] * 3)
        return np.asarray(cv2.add(lit, rest, dtype=cv2.CV_8U))

    def uneven(self, explained: Mask) -> float:
        """The range of the gain's logarithm where light is all that differs, but for its outermost
        fiftieths; what a tear bares is brighter as well."""
        found = self._brighter[self.inside & explained]
        if not found.size:
            return np.inf
        low, high = np.quantile(found, _ENDS)
        return float(high - low)

    @cached_property
    def _brighter(self) -> Floats:
        """(h, w) logarithm of the query's light over the reference's."""
        grey, other = (_grey(one.astype(np.float32)) for one in (self.here, self.there))
        ratio = np.log((grey + _DARK) / (other + _DARK))
        median = self._median(ratio * np.float32(_LOG_STEPS) + 128)
        return np.asarray((median - 128) / _LOG_STEPS, np.float32)

    def as_veil(self, query: Pixels, there: Pixels) -> Pixels | None:
        """The query's picture without light that was added to it; None where there is next to none.
        Colours that are clipped are those of `there`, the reference, if light could hide them."""
        here, other = (cv2.LUT(one, _LINEAR) for one in (self.here, self.there))
        ours, theirs = _grey(here), _grey(other)
        exposure = float(np.exp(-np.median(np.log((ours + 2) / (theirs + 2))[self.inside])))
        veil = self._median(np.maximum(ours * exposure - theirs, 0))
        veil = np.maximum(veil, self._small_veils(here * np.float32(exposure) - other))
        if veil[self.inside].max() < _LEAST_VEIL:
            return None
        lit = np.minimum(_LINEAR * (exposure * _FINE), 65535).astype(np.uint16)
        less = cv2.merge([(_as_large(veil, query) * _FINE).astype(np.uint16)] * 3)
        lifted = _TO_BYTE.take(cv2.subtract(cv2.LUT(query, lit), less))  # never below 0
        hides = cv2.threshold(query, _CLIPPED - 1, 255, cv2.THRESH_BINARY)[1]
        return np.asarray(cv2.max(lifted, cv2.bitwise_and(there, hides)))

    def _median(self, values: Floats) -> Floats:
        """Running median of (h, w) values in bytes' range, continued smoothly beyond `inside`."""
        weights, blurred = self._weights
        around = cv2.GaussianBlur(values * weights, (0, 0), _SIGMA) / (blurred + 1e-3)
        coded = np.clip(np.rint(np.where(self.inside, values, around)), 0, 255).astype(np.uint8)
        return np.asarray(cv2.medianBlur(coded, _WINDOW), np.float32)

    @cached_property
    def _weights(self) -> tuple[Floats, Floats]:
        """(h, w) of what is inside, and its Gaussian mean."""
        weights = self.inside.astype(np.float32)
        return weights, np.asarray(cv2.GaussianBlur(weights, (0, 0), _SIGMA))

    def _small_veils(self, added: Floats) -> Floats:
        """(h, w) the most of (h, w, 3) `added` light that no colour lacks, and that is smooth."""
        least = darkest(np.where(self.here >= _CLIPPED, np.float32(np.inf), added))
        least[~self.inside | np.isinf(least)] = 0
        veil = cv2.medianBlur(np.clip(least, 0, 255).astype(np.uint8), 5).astype(np.float32)
        steps = _STEEPEST * cv2.dilate(veil, _NEAR_PEAK) + 1
        for _ in range(round(2 / _STEEPEST)):
            before, veil = veil, cv2.min(veil, cv2.erode(veil, _NEXT) + steps)
            if np.array_equal(before, veil):
                break
        return np.asarray(cv2.GaussianBlur(veil, (0, 0), 1.0))


def _grey(colours: Floats) -> Floats:
    return np.asarray(cv2.transform(colours, _PLANES[:1]))


def _as_large(values: Floats, picture: Pixels) -> Floats:
    size = picture.shape[1::-1]
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_LINEAR))


def _band(there: Pixels) -> tuple[Pixels, Pixels]:
    """(h, w, 3) the lowest and highest opponent colours within a pixel's reach."""
    theirs, reach = cv2.transform(there, _PLANES), np.ones((3, 3), np.uint8)
    return cv2.erode(theirs, reach), cv2.dilate(theirs, reach)


def _off_band(query: Pixels, low: Pixels, high: Pixels) -> Pixels:
    """(h, w) uint8: how far opponent colours lie beyond those of the band."""
    ours = cv2.transform(query, _PLANES)
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
