"""How light falls off across a picture, as far as the ground along its borders tells.

A white carton in the dark half of a picture is no brighter than a grey belt in its bright half. The
ground is much the same all round, so what changes along the borders slowly, or in one step and
back, is taken for light: a plane or a paraboloid of its logarithm, fitted so that a neighbour that
touches the border doesn't pull it, or a shadow with a straight edge, which cuts the ring of borders
in two arcs. Each is a guess; who asks must find out which of them tells the product best.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from embeddings.background import DARKEST, border_bands
from embeddings.patches import Floats

_Places = NDArray[np.float64]
_Basis = Callable[[_Places, _Places], _Places]
_STRETCHES = 24  # of each border
_QUANTILES = (0.25, 0.5, 0.75)  # of a stretch's lightness: a belt has links and gaps
_ROUNDS, _FINEST, _LOOSE = 12, 0.004, 2.0  # of reweighting; least spread; spreads that count less
# Of what the borders vary by, left unexplained; logarithms: by what even ground still varies, which
# clutter is beyond, and how much light falls off at least.
_CHANGED, _EVEN, _SLIGHT = 0.7, 0.035, 0.02
_LEAST_ARC, _MOST_STEP, _LEAST_STEP = 6, 0.25, 0.03  # stretches; logarithms
_CLIPPED = float(np.log(254 - DARKEST[0]))  # ground that says nothing
_HARD, _SOFT = 0.01, 0.03  # of the picture's sides: width of a shadow's edge


@dataclass(frozen=True)
class Falloff:
    """`surface`: logarithm of the cube root of light at x, y, both -0.5 to 0.5 across the
    picture."""

    surface: Callable[[_Places, _Places], _Places]

    def taken_off(
        self,
        colours: Floats,
        rows: tuple[float, float] = (0.0, 1.0),
        columns: tuple[float, float] = (0.0, 1.0),
    ) -> Floats:
        """(H, W, 3) CIELAB colours as even light would show them; `rows` and `columns` say which
        part of the picture they are, in shares of it."""
        height, width = colours.shape[:2]
        x, y = np.meshgrid(_centres(columns, width), _centres(rows, height))
        gain = np.exp(-self.surface(x, y)).astype(np.float32)[:, :, None]
        return np.asarray((colours - DARKEST) * gain + DARKEST)


def falloffs(colours: Floats) -> Iterator[Falloff]:
    """What may be light in (H, W, 3) CIELAB colours, if anything; the simplest first. Nothing where
    the ground is clipped: that of a catalogue's pictures doesn't tell."""
    places, lightness = _ring(colours)
    if (lightness >= _CLIPPED).mean() > 0.5:
        return
    for basis in (_plane, _paraboloid):
        if (slopes := _fitted(basis(places[:, 0], places[:, 1]), lightness)) is not None:
            yield Falloff(partial(_sloping, basis, slopes))
    if (shadow := _shadow(places, lightness)) is not None:
        yield from (Falloff(partial(shadow.at, width)) for width in (_HARD, _SOFT))


def _centres(span: tuple[float, float], count: int) -> _Places:
    return np.linspace(*span, 2 * count + 1)[1::2] - 0.5


def _ring(colours: Floats) -> tuple[_Places, _Places]:
    """(N, 2) centres of stretches all round the picture, clockwise from its corner, and (N, 3)
    quantiles of the logarithm of their lightness."""
    lightness = np.log(colours[:, :, 0] - DARKEST[0])
    height, width = lightness.shape
    x, y = np.meshgrid(_centres((0.0, 1.0), width), _centres((0.0, 1.0), height))
    top, bottom, left, right = border_bands((height, width))
    places, found = [], []
    for band, axis, order in ((top, 1, 1), (right, 0, 1), (bottom, 1, -1), (left, 0, -1)):
        parts = (
            np.array_split(values[band], _STRETCHES, axis)[::order] for values in (x, y, lightness)
        )
        for across, down, own in zip(*parts, strict=True):
            if own.size:
                places.append((across.mean(), down.mean()))
                found.append(
                    np.sort(own, axis=None)[[round(q * (own.size - 1)) for q in _QUANTILES]]
                )
    return np.array(places), np.array(found)


def _sloping(basis: _Basis, slopes: _Places, x: _Places, y: _Places) -> _Places:
    return np.asarray(basis(x, y) @ slopes)


def _plane(x: _Places, y: _Places) -> _Places:
    return np.stack([x, y], axis=-1)


def _paraboloid(x: _Places, y: _Places) -> _Places:
    return np.stack([x, y, x * x, y * y, x * y], axis=-1)


def _fitted(basis: _Places, lightness: _Places) -> _Places | None:
    """Slopes that all (N, K) quantiles have in common along (N, D) `basis`, by least squares with
    Cauchy weights; None where they explain too little, or there is little to explain."""
    count, kinds = lightness.shape
    levels = np.repeat(np.eye(kinds), count, axis=0)
    design = np.hstack([np.tile(basis, (kinds, 1)), levels])
    ridge = np.diag(np.r_[np.full(basis.shape[1], 1e-3), np.full(kinds, 1e-9)])
    values = lightness.T.ravel()
    weights = np.ones(len(values))
    for _ in range(_ROUNDS):
        weighted = design.T * weights
        found = np.linalg.solve(weighted @ design + ridge, weighted @ values)
        off = (values - design @ found).reshape(kinds, count)
        spread = np.maximum(1.4826 * np.median(np.abs(off), axis=1, keepdims=True), _FINEST)
        weights = (1 / (1 + (off / spread / _LOOSE) ** 2)).ravel()
    before, after = _variation(lightness), np.median(np.abs(off), axis=1)
    best, slopes = after.argmin(), found[: basis.shape[1]]
    explained = after[best] <= min(_EVEN, _CHANGED * before[best])
    return slopes if explained and np.ptp(basis @ slopes) >= _SLIGHT else None


def _variation(lightness: _Places) -> _Places:
    """(K,) median distance of (N, K) quantiles from their medians."""
    return np.asarray(np.median(np.abs(lightness - np.median(lightness, axis=0)), axis=0))


@dataclass(frozen=True)
class _Shadow:
    """Beyond a straight line, where `normal` @ (x, y) > `offset`, light is another by `step`."""

    normal: _Places
    offset: float
    step: float

    def at(self, width: float, x: _Places, y: _Places) -> _Places:
        beyond = (self.normal[0] * x + self.normal[1] * y - self.offset) / width
        return np.asarray(self.step / (1 + np.exp(-np.clip(beyond, -30, 30))))


def _shadow(places: _Places, lightness: _Places) -> _Shadow | None:
    """The two arcs of the ring that differ most within, least in themselves."""
    count = len(places)
    levels = np.median(lightness, axis=0)
    off = np.clip(lightness - levels, -_MOST_STEP, _MOST_STEP)
    sums = np.vstack([np.zeros(off.shape[1]), np.cumsum(np.vstack([off, off]), axis=0)])
    lengths = np.arange(_LEAST_ARC, count - _LEAST_ARC + 1)
    starts = np.arange(count)
    if len(lengths) == 0:
        return None
    own = sums[starts[:, None] + lengths] - sums[starts][:, None]  # (starts, lengths, kinds)
    size = lengths[None, :, None]
    between = own**2 / size + (off.sum(axis=0) - own) ** 2 / (count - size)
    rest = 1 - between / np.maximum((off**2).sum(axis=0), 1e-9)
    start, length, _ = np.unravel_index(rest.argmin(), rest.shape)
    arc = (int(start) + np.arange(int(lengths[length]))) % count
    inside = np.isin(starts, arc)
    steps = np.median(lightness[inside], axis=0) - np.median(lightness[~inside], axis=0)
    step = float(np.median(steps))
    even = _variation(lightness - inside[:, None] * steps).min() <= _EVEN
    if not even or rest.min() > _CHANGED or abs(step) < _LEAST_STEP:
        return None
    first, last = (0.5 * (places[one] + places[one - 1]) for one in (arc[0], (arc[-1] + 1) % count))
    along = last - first
    normal = np.array([-along[1], along[0]]) / max(1e-6, float(np.hypot(*along)))
    if (places[arc[len(arc) // 2]] - first) @ normal < 0:
        normal = -normal
    return _Shadow(normal, float(first @ normal), step)
