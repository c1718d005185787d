"""Figures of rankings, and their bootstrap, against scikit-learn, loops and hand-worked cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from benchmarks.metrics import (
    Run,
    area_under_pr,
    area_under_roc,
    auroc,
    average_precision,
    average_precision_major,
    bootstrap_of_sets,
    box_recall,
    false_alarm_rate,
    paired_bootstrap,
    recall_at_fpr,
    recall_at_precision,
    sweep,
    top_k,
)

SCORED = st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=40).filter(
    lambda pairs: len({label for _, label in pairs}) == 2
)


def _split(pairs: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([s for s, _ in pairs], float), np.array([d for _, d in pairs])


@given(SCORED)
def test_auroc_and_ap_are_scikit_learns_ties_included(pairs: list[tuple[int, bool]]) -> None:
    score, damaged = _split(pairs)
    assert auroc(score, damaged) == pytest.approx(sklearn_metrics.roc_auc_score(damaged, score))
    expected = sklearn_metrics.average_precision_score(damaged, score)
    assert average_precision(score, damaged) == pytest.approx(expected)


@given(SCORED)
def test_operating_points_are_those_of_scikit_learns_curves(pairs: list[tuple[int, bool]]) -> None:
    score, damaged = _split(pairs)
    fpr, tpr, _ = sklearn_metrics.roc_curve(damaged, score, drop_intermediate=False)
    assert recall_at_fpr(score, damaged, limit=0.2) == pytest.approx(tpr[fpr <= 0.2].max())
    precision, recall, _ = sklearn_metrics.precision_recall_curve(damaged, score)
    assert recall_at_precision(score, damaged) == pytest.approx(recall[precision >= 0.5].max())


@given(SCORED)
def test_only_ranks_count_and_swapping_the_classes_mirrors(pairs: list[tuple[int, bool]]) -> None:
    score, damaged = _split(pairs)
    for measure in (auroc, average_precision, recall_at_fpr, recall_at_precision):
        assert measure(np.exp(score) * 7 - 3, damaged) == pytest.approx(measure(score, damaged))
    assert auroc(score, damaged) + auroc(score, ~damaged) == pytest.approx(1)
    assert auroc(score, damaged) + auroc(-score, damaged) == pytest.approx(1)


@given(SCORED, st.randoms(use_true_random=False))
def test_order_and_counted_weights_make_no_difference(
    pairs: list[tuple[int, bool]], random: object
) -> None:
    score, damaged = _split(pairs)
    weights = np.array([random.randrange(4) for _ in pairs])  # type: ignore[attr-defined]
    assume(len(set(damaged[weights > 0])) == 2)
    repeated = np.repeat(score, weights), np.repeat(damaged, weights)
    stacked = np.stack([weights, np.ones_like(weights)])
    for measure in (auroc, average_precision):
        both = measure(score, damaged, stacked)
        assert both.tolist() == pytest.approx(
            [float(measure(*repeated)), float(measure(score, damaged))]
        )
        order = np.random.default_rng(0).permutation(len(pairs))
        assert measure(score[order], damaged[order]) == pytest.approx(measure(score, damaged))


def test_hand_worked_ranking() -> None:
    score, damaged = [9, 8, 7, 6, 5], [1, 0, 1, 0, 0]
    assert auroc(score, damaged) == pytest.approx(5 / 6)
    assert average_precision(score, damaged) == pytest.approx((1 + 2 / 3) / 2)
    assert recall_at_fpr(score, damaged) == 0.5
    assert recall_at_precision(score, damaged, floor=0.6) == 1
    assert recall_at_fpr([1, 2], [1, 0]) == 0
    assert auroc([1, 1, 1], [1, 0, 0]) == 0.5


def test_what_has_no_meaning_is_nan() -> None:
    for measure in (auroc, average_precision, recall_at_fpr, recall_at_precision):
        assert math.isnan(measure([1.0, 2.0], [True, True]))
        assert math.isnan(measure([1.0, 2.0], [False, False]))
        assert math.isnan(measure([], []))
    assert math.isnan(top_k([], 1))
    assert math.isnan(box_recall([]))
    assert math.isnan(false_alarm_rate([], [1.0]))
    with pytest.raises(ValueError, match="finite"):
        auroc([1.0, math.nan], [True, False])
    with pytest.raises(ValueError, match="equal length"):
        auroc([1.0], [True, False])


def test_minor_damage_is_left_out_of_ap_major() -> None:
    score = [5.0, 4.0, 3.0, 2.0, 1.0]
    damaged, major = [True, True, False, True, False], [False, True, None, True, None]
    assert average_precision_major(score, damaged, major) == pytest.approx((1 + 2 / 3) / 2)
    assert math.isnan(average_precision_major(score, damaged, [None] * 5))


def test_false_alarms_are_counted_at_the_others_threshold() -> None:
    others = list(range(100))
    assert false_alarm_rate([98.5, 98, 200, 3], others) == 0.5  # one of 100 may be above: 99
    assert false_alarm_rate([98.5, 99, 200, 3], others, limit=0.0) == 0.25


def test_top_k() -> None:
    assert top_k([1, 2, 0, 5, 6], 1) == 0.2
    assert top_k([1, 2, 0, 5, 6], 5) == pytest.approx(0.6)


MEASURES = {"auroc": area_under_roc, "ap": area_under_pr}


def _runs(seeds: int, queries: int, gain: float) -> list[Run]:
    rng = np.random.default_rng(5)
    runs = []
    for _ in range(seeds):
        damaged, shared = rng.random(queries) < 0.5, rng.normal(size=queries)
        first = shared + (1 + gain) * damaged + 0.3 * rng.normal(size=queries)
        runs.append(Run(first, shared + damaged, damaged))
    return runs


def test_bootstrap_of_a_scorer_against_itself_is_zero() -> None:
    runs = [Run(run.first, run.first, run.damaged) for run in _runs(3, 40, 0)]
    for difference in paired_bootstrap(runs, MEASURES, rng=np.random.default_rng(0)).values():
        assert (difference.mean, difference.low, difference.high) == (0, 0, 0)


def test_bootstrap_mean_is_observed_and_signs_swap() -> None:
    runs = _runs(3, 80, 1.5)
    found = paired_bootstrap(runs, MEASURES, rng=np.random.default_rng(0), resamples=500)["auroc"]
    seen = [auroc(r.first, r.damaged) - auroc(r.second, r.damaged) for r in runs]
    assert found.mean == pytest.approx(np.mean(seen))
    assert 0 < found.low < found.mean < found.high
    swapped = [Run(run.second, run.first, run.damaged) for run in runs]
    other = paired_bootstrap(swapped, MEASURES, rng=np.random.default_rng(0), resamples=500)
    assert other["auroc"].low == pytest.approx(-found.high)
    assert other["auroc"].high == pytest.approx(-found.low)


def test_bootstrap_agrees_with_a_plain_loop() -> None:
    runs, rng = _runs(3, 50, 0.8), np.random.default_rng(1)
    means = []
    for _ in range(600):
        gaps = []
        for seed in rng.integers(3, size=3):
            run, drawn = runs[seed], rng.integers(50, size=50)
            label = run.damaged[drawn]
            gaps.append(auroc(run.first[drawn], label) - auroc(run.second[drawn], label))
        means.append(np.mean(gaps))
    found = paired_bootstrap(runs, MEASURES, rng=np.random.default_rng(0))["auroc"]
    low, high = np.quantile(means, [0.025, 0.975])
    assert found.low == pytest.approx(low, abs=0.012)
    assert found.high == pytest.approx(high, abs=0.012)


def test_the_mean_over_sets_weighs_sets_alike_and_agrees_with_a_plain_loop() -> None:
    sets, rng = [_runs(2, 40, 0.5), _runs(1, 120, 1.5)], np.random.default_rng(1)
    found = bootstrap_of_sets(sets, MEASURES, rng=np.random.default_rng(0))["auroc"]
    each = [
        np.mean([auroc(r.first, r.damaged) - auroc(r.second, r.damaged) for r in runs])
        for runs in sets
    ]
    assert found.mean == pytest.approx(np.mean(each))
    means = []
    for _ in range(600):
        of_sets = []
        for runs in sets:
            gaps = []
            for seed in rng.integers(len(runs), size=len(runs)):
                run = runs[seed]
                drawn = rng.integers(len(run.damaged), size=len(run.damaged))
                label = run.damaged[drawn]
                gaps.append(auroc(run.first[drawn], label) - auroc(run.second[drawn], label))
            of_sets.append(np.mean(gaps))
        means.append(np.mean(of_sets))
    low, high = np.quantile(means, [0.025, 0.975])
    assert found.low == pytest.approx(low, abs=0.012)
    assert found.high == pytest.approx(high, abs=0.012)


def test_sets_on_which_a_measure_means_nothing_do_not_count() -> None:
    runs = _runs(2, 40, 0.5)
    alike = [Run(run.first, run.second, np.ones_like(run.damaged)) for run in runs]
    both = bootstrap_of_sets([runs, alike, []], MEASURES, rng=np.random.default_rng(0))["auroc"]
    one = paired_bootstrap(runs, MEASURES, rng=np.random.default_rng(0))["auroc"]
    assert (both.mean, both.low) == pytest.approx((one.mean, one.low))


def test_pairing_narrows_the_interval() -> None:
    runs = _runs(1, 100, 0.5)
    shuffled = np.random.default_rng(0)
    unpaired = []
    for run in runs:
        second = run.second.copy()
        for kind in (True, False):
            second[run.damaged == kind] = shuffled.permutation(second[run.damaged == kind])
        unpaired.append(Run(run.first, second, run.damaged))
    rng = np.random.default_rng
    close = paired_bootstrap(runs, MEASURES, rng=rng(0), resamples=500)["auroc"]
    loose = paired_bootstrap(unpaired, MEASURES, rng=rng(0), resamples=500)["auroc"]
    assert loose.mean == pytest.approx(close.mean)
    assert loose.high - loose.low > 1.3 * (close.high - close.low)


def test_bootstrap_without_both_classes_is_nan() -> None:
    run = Run(np.ones(3), np.ones(3), np.zeros(3, bool))
    for runs in ([run], []):
        found = paired_bootstrap(runs, MEASURES, rng=np.random.default_rng(0), resamples=10)
        assert math.isnan(found["auroc"].mean)
        assert math.isnan(found["ap"].low)


@settings(max_examples=25)
@given(SCORED)
def test_sweeps_only_rise(pairs: list[tuple[int, bool]]) -> None:
    swept = sweep(*_split(pairs))
    assert (np.diff(swept.recall) >= 0).all()
    assert (np.diff(swept.fpr) >= 0).all()
    assert (np.diff(swept.threshold) < 0).all()
    assert swept.recall[-1] == swept.fpr[-1] == 1
