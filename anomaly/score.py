"""Stage 3: channels -> one score, and the regions that it points at.

Every channel is studentised by what it gives on the product's own pristine pictures, so channels
of different kinds, and products of different gloss, speak in one unit: spreads above pristine.
Where pristine pictures now and then reach far, what lies beyond a knee counts for less: such a
channel alone would set the threshold for all others.
The loudest lead (a 4-norm); where their nulls are guesses, all add up plainly. No channel is known
here by name, except where a region is named after what fired.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly.emptied import Emptied
from anomaly.results import Channel, Comparison, Finding, Kind, Null, Scored, View
from embeddings.images import Mask
from embeddings.patches import Floats
from embeddings.registration import inverse

SCORE_VERSION = 11
_MEAN_WEIGHT = 1.0  # pristine pictures that the prior's centre counts for
_SPREAD_WEIGHT = 12.0  # and its spread: a handful of scores says little about theirs
_FAR = 3.0  # spreads from the median: one odd reference doesn't widen what the others say
_NORMAL = 1.4826  # standard deviations of a normal in one median absolute deviation
_NORM = 4
_KNEE = 2.5  # spreads beyond which a heavy tail counts for less
_NEAR = 2.0  # cells: sigma of a cell's surroundings
_QUIET = 0.01  # of what a cell lies below pristine still shows when its surroundings are drawn
_LOW = 0.6  # a region reaches down to this share of the threshold from where it passed it
_SMALLEST = 0.05  # spread as a share of the centre, where nothing else is known
_CLEAR = 1.0  # spreads above pristine from which a region's mean evidence names it
_LOST = 0.25  # of a region, in which content must be gone for it to be missing
_EBBING = 0.3  # of what is gone at a region's worst place: patches beside it see it as well
_KNOWN = 0.45  # of what is gone: what is less new than that is known content
_MOST_FINDINGS = 20


@dataclass(frozen=True)
class Prior:
    """What the same channel does on other products: mean and spread of their centres (`between`),
    pooled spread within one."""

    centre: float
    spread: float
    between: float


def fit_null(values: Sequence[float], prior: Prior | None) -> Null | None:
    """Centre and predictive spread of raw scores, drawn towards a prior as far as they are few.

    None when there is neither a value nor a prior. Conjugate estimates of mean and variance with
    pseudo-counts (Gelman et al., Bayesian Data Analysis, section 3.3), without the shift term, of
    values drawn in to where most lie (winsorised: Huber 1981, Robust Statistics, section 1.7).
    """
    found = [value for value in values if math.isfinite(value)]  # few: lists beat arrays
    if not found:
        if prior is None:
            return None
        return Null(prior.centre, math.hypot(prior.spread, prior.between), guessed=True)
    if prior is not None:
        found = _drawn_in(found, prior)
    mean, count = math.fsum(found) / len(found), len(found)
    squares = math.fsum((value - mean) ** 2 for value in found)
    if prior is None:
        spread = math.sqrt(squares / max(1, count - 1))
        return Null(mean, max(spread, _SMALLEST * abs(mean), 1e-6))
    centre = (count * mean + _MEAN_WEIGHT * prior.centre) / (count + _MEAN_WEIGHT)
    variance = (squares + _SPREAD_WEIGHT * prior.spread**2) / (count - 1 + _SPREAD_WEIGHT)
    # A new picture differs from the centre by its own spread and by the centre's error.
    return Null(centre, math.sqrt(variance * (1 + 1 / (count + _MEAN_WEIGHT))))


def _drawn_in(values: Sequence[float], prior: Prior) -> list[float]:
    """Values no further from their median than `_FAR` spreads, shared between theirs and the
    prior's as `fit_null` shares them."""
    middle = median(values)
    own = _NORMAL * median(abs(value - middle) for value in values)
    weight = len(values) / (len(values) + _SPREAD_WEIGHT)
    reach = _FAR * math.sqrt(weight * own**2 + (1 - weight) * prior.spread**2)
    return [min(max(value, middle - reach), middle + reach) for value in values]


def score(channels: Sequence[Channel], nulls: Mapping[str, Null]) -> Scored:
    """Combine channels; one without a null or a measured value doesn't count.

    With no channel left, `score` is NaN and `heat` empty.
    """
    scores = studentised({channel.name: channel.score for channel in channels}, nulls)
    if not scores:
        return Scored(math.nan, np.zeros((0, 0), np.float32), {})
    maps = [
        np.asarray(_above(channel.map, nulls[channel.name]), np.float32)
        for channel in channels
        if channel.name in scores and channel.map is not None
    ]
    heat = _together(maps) if maps else np.zeros((0, 0), np.float32)
    return Scored(combine(scores, nulls), heat, scores)


def studentised(raw: Mapping[str, float], nulls: Mapping[str, Null]) -> dict[str, float]:
    """Spreads above pristine by channel, of those that were measured and have a null."""
    return {
        name: float(_above(value, nulls[name]))
        for name, value in raw.items()
        if name in nulls and math.isfinite(value)
    }


def _above(value: float | Floats, null: Null) -> NDArray[np.floating]:
    """Spreads above pristine, of which those beyond the knee count by the channel's tail."""
    spreads = np.asarray((value - null.centre) / null.spread)
    beyond = np.maximum(spreads - _KNEE, 0)
    return np.asarray(spreads - (1 - null.tail) * beyond)


def combine(scores: Mapping[str, float], nulls: Mapping[str, Null]) -> float:
    """One score of several: the length of what lies above pristine, or the highest if nothing does.

    Channels that are each a little loud count for more than one of them; silence cancels nothing.
    Guessed nulls are each off by a constant that is the product's: a length would weigh channels
    by it, and only a plain sum ranks the product's pictures as if it were known. So guessed ones
    count as one, by their sum in its own spreads.
    """
    values = [value for name, value in scores.items() if not nulls[name].guessed]
    guessed = [value for name, value in scores.items() if nulls[name].guessed]
    if guessed:
        values.append(sum(guessed) / math.sqrt(len(guessed)))
    loud = sum(max(0.0, value) ** _NORM for value in values) ** (1 / _NORM)
    return loud or max(values)


def shared(heat: Floats) -> Floats:
    """(H, W) heat as it is drawn: no cell is quieter than its surroundings' Gaussian mean of what
    lies above pristine. Peaks stay; cells within a defect that look right share its evidence.
    Quiet ones are still told apart, a little."""
    if not heat.size:
        return heat
    known = np.isfinite(heat)
    weights = known.astype(np.float32)
    loud = cv2.GaussianBlur(
        np.where(known, np.maximum(heat, 0), 0).astype(np.float32), (0, 0), _NEAR
    )
    around = loud / np.maximum(cv2.GaussianBlur(weights, (0, 0), _NEAR), 1e-6)
    around += _QUIET * np.minimum(np.nan_to_num(heat, nan=0.0), 0)
    return np.where(known, np.fmax(heat, around), np.nan).astype(np.float32)


def regions(
    scored: Scored,
    comparison: Comparison,
    nulls: Mapping[str, Null],
    *,
    view: View,
    threshold: float,
    reference_id: str | None,
    emptied: Emptied | None = None,
) -> tuple[Finding, ...]:
    """Where the evidence passes `threshold`, largest score first; what is missing may have no
    place.

    `emptied` says from the pictures whether cells lost what belongs there (`emptied.Emptied`);
    without it known content does, in place of what is gone.
    """
    from skimage import filters, measure  # slow to import, and only needed here

    heat = np.nan_to_num(scored.heat, nan=-np.inf, neginf=-np.inf)
    found = []
    # Channels that fire in different places add up to a score that no cell has: then the highest
    # cell leads, unless it is quiet, as when only what has no place fired.
    if scored.score > threshold and heat.size and heat.max() > _LOW * threshold:
        peak = np.nextafter(np.float32(min(threshold, heat.max())), np.float32(-np.inf))
        marked = filters.apply_hysteresis_threshold(heat, _LOW * peak, peak)
        labels = measure.label(marked, connectivity=2)
        evidence = _evidence(comparison, nulls, heat.shape)
        product = _enclosed(comparison) if comparison.bounded else None
        lost = None if emptied is None else partial(emptied, amiss=marked)
        for number in range(1, int(labels.max()) + 1):
            cells = labels == number
            kind = _kind(cells, comparison, evidence, lost, product)
            box, area = _place(cells, view)
            found.append(Finding(kind, box, area, float(heat[cells].max()), reference_id))
    absent = scored.by_channel.get("absent", -math.inf)
    if absent > threshold:
        found.append(Finding("missing", None, None, absent, reference_id))
    found.sort(key=lambda finding: (-finding.score, finding.bbox_px or ()))
    return tuple(found[:_MOST_FINDINGS])


def _together(maps: Sequence[Floats]) -> Floats:
    """The length of what lies above pristine, cell by cell, guessed or not: a sum would let quiet
    channels hide a place. NaN only where none was measured."""
    stack = np.stack(maps)
    best = np.where(np.isfinite(stack), stack, -np.inf).max(axis=0)
    loud = (np.maximum(np.nan_to_num(stack, nan=0.0), 0.0) ** _NORM).sum(axis=0) ** (1 / _NORM)
    return np.where(np.isfinite(best), np.where(loud > 0, loud, best), np.nan).astype(np.float32)


@dataclass(frozen=True)
class _Evidence:
    """(H, W) spreads above pristine: content no reference has, and content that is gone; NaN where
    it wasn't measured."""

    novel: Floats
    gone: Floats


def _evidence(
    comparison: Comparison, nulls: Mapping[str, Null], shape: tuple[int, ...]
) -> _Evidence:
    maps = {}
    for channel in (*comparison.placed, *comparison.anywhere):
        null = nulls.get(channel.name)
        if channel.map is not None and null is not None:
            maps[channel.name] = (channel.map - null.centre) / null.spread
    nothing = np.full(shape, np.nan, np.float32)
    novel = np.fmax(maps.get("anywhere", nothing), maps.get("around", nothing))
    return _Evidence(novel, maps.get("missing", nothing))


def _kind(
    cells: Mask,
    comparison: Comparison,
    evidence: _Evidence,
    lost: Callable[[Mask], bool] | None,
    product: Mask | None,
) -> Kind:
    """spill: outside a product whose bounds are known; missing: content is gone and left its place
    empty; added: new content over nothing that is missed; changed: all else.

    lost  whether cells lost what belongs there, from the pictures; asked where content is gone, if
          that is enough of them, as evidence that reaches beyond widens regions
    product  (H, W) its cells; None where its bounds aren't known
    """
    if product is not None and float(product[cells].mean()) < 0.5:
        return "spill"
    if not comparison.placed:
        return "changed"
    novel, gone = _mean(evidence.novel[cells]), _mean(evidence.gone[cells])
    if lost is None:
        missing = gone > _CLEAR and novel < max(_CLEAR, _KNOWN * gone)
    else:
        worst = float(np.fmax.reduce(evidence.gone[cells]))
        core = cells & (evidence.gone > max(_CLEAR, _EBBING * worst))
        missing = core.sum() >= _LOST * cells.sum() and lost(core)
    if missing:
        return "missing"
    told = np.isfinite(evidence.gone).any()  # else what is new may well lie over what is gone
    return "added" if told and novel > _CLEAR >= gone else "changed"


def _enclosed(comparison: Comparison) -> Mask:
    """(H, W) cells of the product. Where only the picture itself tells its outline, with what that
    encloses: a crack or a bite, and gaps between pieces, don't lie beside it."""
    from skimage import morphology

    product = comparison.product
    if comparison.placed or not product.any():
        return product
    hull: Mask = morphology.convex_hull_image(product)
    return hull


def _mean(values: Floats) -> float:
    """Of those that were measured; 0 where none was."""
    measured = values[np.isfinite(values)]
    return float(measured.mean()) if measured.size else 0.0


def _place(cells: Mask, view: View) -> tuple[tuple[float, float, float, float], float]:
    """Box in the picture as given, clipped to it, and area in its pixels."""
    stride = view.patches.layers[0].stride_px
    rows, columns = np.nonzero(cells)
    x0, y0, x1, y1 = view.patches.box_px
    scale = ((x1 - x0) / view.patches.working_size[1], (y1 - y0) / view.patches.working_size[0])
    outline = np.concatenate([
        np.stack([columns + dx, rows + dy], axis=1) for dx in (0, 1) for dy in (0, 1)
    ]).astype(np.float64)  # fmt: skip
    corners = outline * stride * np.asarray(scale) - 0.5 + [x0, y0]
    back = inverse(view.matrix)
    there = cv2.perspectiveTransform(corners[None].astype(np.float64), back)[0] + 0.5
    width, height = view.picture_size[1], view.picture_size[0]
    low = np.clip(there.min(axis=0), 0, [width, height])
    high = np.clip(there.max(axis=0), 0, [width, height])
    cell = (stride * scale[0]) * (stride * scale[1]) * abs(float(np.linalg.det(back[:2, :2])))
    box = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
    return box, float(cells.sum()) * cell
