"""How well scores rank damaged pictures above pristine ones. Higher score = more anomalous.

Every figure is read off one sweep of the threshold from the highest score down. Pictures with the
same score pass together, so no figure depends on the order of ties. A figure that has no meaning
(one of the classes is empty) is NaN. Weights may carry leading dimensions: a whole bootstrap is
evaluated as one array.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]
_CHUNK = 2_000_000  # weights held at once in a bootstrap


@dataclass(frozen=True)
class Sweep:
    """Counts above each of G thresholds, from the strictest to the loosest.

    tp, fp     (..., G) damaged and pristine at or above the threshold; the last entries are all
    threshold  (G,) falling
    """

    tp: Floats
    fp: Floats
    threshold: Floats

    @property
    def recall(self) -> Floats:
        """(..., G) share of the damaged that is found; NaN where there is none."""
        return _ratio(self.tp, self.tp[..., -1:])

    @property
    def fpr(self) -> Floats:
        """(..., G) share of the pristine that is flagged; NaN where there is none."""
        return _ratio(self.fp, self.fp[..., -1:])

    @property
    def precision(self) -> Floats:
        """(..., G) share of the flagged that is damaged; NaN before the first."""
        return _ratio(self.tp, self.tp + self.fp)


def sweep(scores: ArrayLike, damaged: ArrayLike, weights: ArrayLike | None = None) -> Sweep:
    """scores (N,) finite, damaged (N,) bool, weights (..., N): how often each picture counts."""
    score, positive = np.asarray(scores, float), np.asarray(damaged, bool)
    if score.ndim != 1 or score.shape != positive.shape or not np.isfinite(score).all():
        raise ValueError(
            f"scores {score.shape} and labels {positive.shape}: give two lists of equal length"
            " and finite scores"
        )
    if not score.size:
        return Sweep(np.zeros(1), np.zeros(1), np.full(1, np.inf))
    order = np.argsort(-score, kind="stable")
    score, positive = score[order], positive[order]
    ends = np.flatnonzero(np.append(score[1:] != score[:-1], True))
    weight = np.ones(score.size) if weights is None else np.asarray(weights, float)[..., order]
    tp = np.cumsum(weight * positive, -1)[..., ends]
    fp = np.cumsum(weight * ~positive, -1)[..., ends]
    return Sweep(tp, fp, score[ends])


def area_under_roc(swept: Sweep) -> Floats:
    """(...,) chance that a damaged picture scores above a pristine one; ties count half."""
    zero = np.zeros((*swept.tp.shape[:-1], 1))
    tp, fp = np.concatenate([zero, swept.tp], -1), np.concatenate([zero, swept.fp], -1)
    area = (np.diff(fp, axis=-1) * (tp[..., 1:] + tp[..., :-1]) / 2).sum(-1)
    return _ratio(area, swept.tp[..., -1] * swept.fp[..., -1])


def area_under_pr(swept: Sweep) -> Floats:
    """(...,) average precision: precision at each threshold, weighted by the recall it adds.

    The step-wise sum, as scikit-learn has it; linear interpolation would flatter (Davis and
    Goadrich, "The relationship between precision-recall and ROC curves", ICML 2006).
    """
    gained = np.diff(swept.tp, axis=-1, prepend=0)
    area = (gained * np.nan_to_num(swept.precision)).sum(-1)
    both = (swept.tp[..., -1] > 0) & (swept.fp[..., -1] > 0)
    return np.where(both, _ratio(area, swept.tp[..., -1]), np.nan)


def auroc(scores: ArrayLike, damaged: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """(...,) area under the ROC curve; NaN unless both classes are there."""
    return area_under_roc(sweep(scores, damaged, weights))


def average_precision(
    scores: ArrayLike, damaged: ArrayLike, weights: ArrayLike | None = None
) -> Floats:
    """(...,) average precision; NaN unless both classes are there."""
    return area_under_pr(sweep(scores, damaged, weights))


def recall_at_fpr(scores: ArrayLike, damaged: ArrayLike, *, limit: float = 0.01) -> float:
    """The most damage found by a threshold that flags at most `limit` of the pristine."""
    swept = sweep(scores, damaged)
    if not swept.tp[-1] or not swept.fp[-1]:
        return float("nan")
    return float(swept.recall[swept.fpr <= limit].max(initial=0.0))


def recall_at_precision(scores: ArrayLike, damaged: ArrayLike, *, floor: float = 0.5) -> float:
    """The most damage found by a threshold of whose alarms at least `floor` are right."""
    swept = sweep(scores, damaged)
    if not swept.tp[-1] or not swept.fp[-1]:
        return float("nan")
    return float(swept.recall[swept.precision >= floor].max(initial=0.0))


def average_precision_major(
    scores: ArrayLike, damaged: ArrayLike, major: Sequence[bool | None]
) -> float:
    """Average precision of major damage against pristine; minor damage is left out altogether.

    AP_major of Kaputt (Höfer et al., ICCV 2025). Damage whose gravity is unknown (None) is left
    out too.
    """
    positive = np.array([value is True for value in major], bool) & np.asarray(damaged, bool)
    kept = positive | ~np.asarray(damaged, bool)
    return float(average_precision(np.asarray(scores, float)[kept], positive[kept]))


def false_alarm_rate(scores: ArrayLike, ordinary: ArrayLike, *, limit: float = 0.01) -> float:
    """Share of pristine `scores` flagged by the loosest threshold that flags <= `limit` of others.

    `ordinary`: scores of the pristine pictures that the threshold is set by. NaN if either is
    empty. A rate far above `limit` says that these pictures are hard for the scorer.
    """
    others, asked = np.sort(np.asarray(ordinary, float))[::-1], np.asarray(scores, float)
    if not others.size or not asked.size:
        return float("nan")
    allowed = int(np.floor(limit * others.size + 1e-9))  # the first one that must not be flagged
    return float((asked > others[min(allowed, others.size - 1)]).mean())


def top_k(ranks: Sequence[int], k: int) -> float:
    """Share of queries whose true product is among the first k; rank 0 = not among candidates."""
    if not ranks:
        return float("nan")
    return float(np.mean([1 <= rank <= k for rank in ranks]))


@dataclass(frozen=True)
class Run:
    """One seed's queries, scored by two scorers: scores (N,) each, damaged (N,)."""

    first: Floats
    second: Floats
    damaged: Bools


@dataclass(frozen=True)
class Difference:
    """First minus second; `low` to `high` hold 95 % of the resampled differences."""

    mean: float
    low: float
    high: float


def paired_bootstrap(
    runs: Sequence[Run],
    measures: Mapping[str, Callable[[Sweep], Floats]],
    *,
    rng: np.random.Generator,
    resamples: int = 2000,
) -> dict[str, Difference]:
    """Difference of each measure between two scorers on the same queries: mean over seeds.

    Hierarchical (Efron and Tibshirani, "An introduction to the bootstrap", 1993, ch. 8): each
    resample draws as many seeds as there are, with replacement, and within each draw as many
    queries as it has; both scorers see the same draw. Draws that hold one class only are left
    out. `measures`: such as `area_under_roc`, by name.
    """
    return bootstrap_of_sets([runs], measures, rng=rng, resamples=resamples)


def bootstrap_of_sets(
    sets: Sequence[Sequence[Run]],
    measures: Mapping[str, Callable[[Sweep], Floats]],
    *,
    rng: np.random.Generator,
    resamples: int = 2000,
) -> dict[str, Difference]:
    """`paired_bootstrap` of the mean over sets, which are drawn independently of one another and
    count alike; the sets themselves are fixed. One on which a measure has no meaning doesn't count.
    """
    if not any(sets):
        return {name: Difference(math.nan, math.nan, math.nan) for name in measures}
    found = [_of_one_set(runs, measures, rng, resamples) for runs in sets if runs]
    observed = _mean_of_finite(np.stack([seen for seen, _ in found], -1))
    resampled = _mean_of_finite(np.stack([drawn for _, drawn in found], -1))
    return {
        name: _difference(seen, drawn)
        for name, seen, drawn in zip(measures, observed, resampled, strict=True)
    }


def _of_one_set(
    runs: Sequence[Run],
    measures: Mapping[str, Callable[[Sweep], Floats]],
    rng: np.random.Generator,
    resamples: int,
) -> tuple[Floats, Floats]:
    """(measures,) the differences seen, and (measures, resamples) those of resamples."""
    observed = np.stack([_gaps(run, measures, np.ones(run.damaged.size)) for run in runs], -1)
    drawn = rng.integers(len(runs), size=(resamples, len(runs)))
    gaps = np.full((len(measures), *drawn.shape), np.nan)
    for number, run in enumerate(runs):
        count = int((drawn == number).sum())
        gaps[:, drawn == number] = _resampled(run, measures, rng, count)
    return _mean_of_finite(observed), _mean_of_finite(gaps)


def _difference(observed: float, resampled: Floats) -> Difference:
    finite = resampled[np.isfinite(resampled)]
    if not finite.size:
        return Difference(float(observed), math.nan, math.nan)
    low, high = np.quantile(finite, [0.025, 0.975])
    return Difference(float(observed), float(low), float(high))


def _resampled(
    run: Run,
    measures: Mapping[str, Callable[[Sweep], Floats]],
    rng: np.random.Generator,
    draws: int,
) -> Floats:
    """(measures, draws) differences, each of another draw of the run's queries."""
    size = run.damaged.size
    step = max(1, _CHUNK // max(size, 1))
    parts: list[Floats] = [np.zeros((len(measures), 0))]
    for start in range(0, draws if size else 0, step):
        count = min(step, draws - start)
        picked = rng.integers(size, size=(count, size)) + np.arange(count)[:, None] * size
        counts = np.bincount(picked.ravel(), minlength=count * size).reshape(count, size)
        parts.append(_gaps(run, measures, counts.astype(float)))
    return np.concatenate(parts, -1) if size else np.full((len(measures), draws), np.nan)


def _gaps(run: Run, measures: Mapping[str, Callable[[Sweep], Floats]], weights: Floats) -> Floats:
    """(measures, ...) differences under weights (..., N)."""
    first = sweep(run.first, run.damaged, weights)
    second = sweep(run.second, run.damaged, weights)
    return np.stack([measure(first) - measure(second) for measure in measures.values()])


def _mean_of_finite(values: Floats) -> Floats:
    """Mean along the last axis of what is finite; NaN where nothing is."""
    finite = np.isfinite(values)
    return _ratio(np.where(finite, values, 0).sum(-1), finite.sum(-1))


def _ratio(above: ArrayLike, below: ArrayLike) -> Floats:
    above, below = np.broadcast_arrays(np.asarray(above, float), np.asarray(below, float))
    out: Floats = np.full(above.shape, np.nan)
    return np.asarray(np.divide(above, below, out=out, where=below > 0))
