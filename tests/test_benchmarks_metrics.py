"""Figures against scikit-learn, brute force and hand-worked cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn import metrics as sklearn_metrics

from benchmarks.metrics import (
    Heated,
    HeatView,
    Run,
    area_under_pr,
    area_under_roc,
    aupro,
    auroc,
    average_precision,
    average_precision_major,
    bootstrap_of_sets,
    box_recall,
    count_boxes,
    cut_heat,
    false_alarm_rate,
    false_regions,
    paired_bootstrap,
    pixel_auroc,
    pixel_average_precision,
    pixel_evidence,
    recall_at_fpr,
    recall_at_precision,
    sweep,
    top_k,
)
from benchmarks.metrics_pixel import upsample

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


def _pictures(seed: int, count: int, smooth: float) -> tuple[HeatView, ...]:
    rng = np.random.default_rng(seed)
    views = []
    for number in range(count):
        heat = np.exp(ndimage.gaussian_filter(rng.normal(size=(96, 128)), smooth) * 9)
        mask = np.zeros((96, 128), bool)
        for _ in range(number % 4):
            y, x, h, w = rng.integers([0, 0, 2, 2], [80, 100, 17, 27])
            mask[y : y + h, x : x + w] = True
        heat[mask] *= rng.uniform(1, 6)
        views.append(HeatView(heat.astype(np.float32), mask))
    return tuple(views)


@pytest.mark.parametrize(("seed", "smooth"), [(0, 0.5), (1, 2.0), (2, 4.0)])
def test_pixel_figures_from_histograms_are_nearly_exact(seed: int, smooth: float) -> None:
    views = _pictures(seed, 8, smooth)
    heat = np.concatenate([view.heat.ravel() for view in views])
    mask = np.concatenate([view.mask.ravel() for view in views])
    evidence = pixel_evidence(views)
    exact = sklearn_metrics.roc_auc_score(mask, heat)
    assert pixel_auroc(evidence) == pytest.approx(exact, abs=0.001)
    exact = sklearn_metrics.average_precision_score(mask, heat)
    assert pixel_average_precision(evidence) == pytest.approx(exact, abs=0.004)
    assert aupro(evidence) == pytest.approx(_brute_aupro(views), abs=0.002)


def _brute_aupro(views: tuple[HeatView, ...], limit: float = 0.3) -> float:
    """Every threshold, one after another, on the maps themselves."""
    labelled = [ndimage.label(view.mask, np.ones((3, 3)))[0] for view in views]
    sound = np.sort(np.concatenate([view.heat[~view.mask] for view in views]))
    regions = [
        np.sort(view.heat[labels == number])
        for view, labels in zip(views, labelled, strict=True)
        for number in range(1, labels.max() + 1)
    ]
    rates = np.linspace(0, limit, 3001)
    thresholds = np.quantile(sound, 1 - rates, method="higher")
    overlap = np.mean(
        [1 - np.searchsorted(region, thresholds) / region.size for region in regions], 0
    )
    return float(np.trapezoid(overlap, rates) / limit)


def test_rare_defects_in_the_tail_keep_their_precision() -> None:
    rng = np.random.default_rng(0)
    heat, mask = rng.exponential(size=(1000, 1000)), np.zeros((1000, 1000), bool)
    mask[500:520, 500:510] = True
    heat[mask] += 6
    evidence = pixel_evidence([HeatView(heat.astype(np.float32), mask)])
    exact = sklearn_metrics.average_precision_score(mask.ravel(), heat.ravel())
    assert pixel_average_precision(evidence) == pytest.approx(exact, abs=0.004)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4000), st.floats(0.001, 0.5))
def test_ties_and_crowded_values_cost_little(seed: int, levels: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((60, 80)) < share
    assume(mask.any())
    heat = np.floor(rng.random((60, 80)) ** 3 * levels + mask * rng.random() * levels / 2)
    exact = float(auroc(heat.ravel(), mask.ravel()))
    found = pixel_auroc(pixel_evidence([HeatView(heat.astype(np.float32), mask)]))
    assert found == pytest.approx(exact, abs=0.0012)


def test_evidence_fits_into_a_record_and_counts_every_pixel() -> None:
    views = _pictures(3, 6, 1.0)
    for view, one in zip(views, pixel_evidence(views), strict=True):
        assert one.counts.sum() == view.mask.size
        assert one.counts[0].sum() == (~view.mask).sum()
        assert one.counts.shape == one.shape
        assert one.counts.shape[0] == 1 + ndimage.label(view.mask, np.ones((3, 3)))[1]
        assert one.shape[1] <= 1026
        assert len(one.packed) < 4000


def test_hand_worked_aupro() -> None:
    # Two regions of 1 and 4 pixels, 10 sound pixels: overlap 0.5 at once, 1 from a rate of 0.2.
    heat = np.array([[9, 3, 3, 3, 3, 8, 2, 2, 2, 2, 2, 2, 2, 2, 2]], np.float32)
    mask = np.zeros((1, 15), bool)
    mask[0, [0, 11, 12, 13, 14]] = True
    heat[0, 11:] = 5
    heat[0, 1:3] = 6  # with 8: three of ten sound pixels above the larger region
    assert aupro(pixel_evidence([HeatView(heat, mask)])) == pytest.approx(0.5)
    assert aupro(pixel_evidence([HeatView(heat, mask)]), limit=1.0) == pytest.approx(0.15 + 0.7)
    # Cut within a step: one tie of all sound pixels and the region below it.
    flat = HeatView(np.zeros((1, 15), np.float32), mask)
    assert aupro(pixel_evidence([flat])) == pytest.approx(0.15)
    assert pixel_auroc(pixel_evidence([flat])) == 0.5


def test_regions_are_connected_over_corners() -> None:
    mask = np.eye(4, dtype=bool)
    (one,) = pixel_evidence([HeatView(np.zeros((4, 4), np.float32), mask)])
    assert one.shape[0] == 2


def test_unmeasured_pixels_are_not_pointed_at() -> None:
    mask = np.zeros((2, 4), bool)
    mask[0] = True
    heat = np.array([[np.nan, np.nan, 5, 5], [1, 1, 1, 1]], np.float32)
    evidence = pixel_evidence([HeatView(heat, mask)])
    assert pixel_auroc(evidence) == 0.5  # half found above all, half below all
    nothing = pixel_evidence([HeatView(np.full((2, 4), np.nan, np.float32), mask)])
    assert pixel_auroc(nothing) == 0.5


def test_pixel_figures_without_both_kinds_are_nan_and_bins_are_not_mixed() -> None:
    sound = HeatView(np.ones((2, 2), np.float32), np.zeros((2, 2), bool))
    evidence = pixel_evidence([sound])
    for measure in (pixel_auroc, pixel_average_precision, aupro):
        assert math.isnan(measure(evidence))
        assert math.isnan(measure(()))
    assert pixel_evidence([]) == ()
    other = pixel_evidence([HeatView(np.full((2, 2), 3, np.float32), np.ones((2, 2), bool))])
    with pytest.raises(ValueError, match="each split by itself"):
        pixel_auroc([*evidence, *other])


def test_heat_of_cells_lies_over_the_picture_evenly() -> None:
    heat = np.array([[0, 1], [2, 3]], np.float32)
    up = upsample(heat, (4, 6))
    assert up.shape == (4, 6)
    assert up[0, 0] == 0
    assert up[3, 5] == 3
    np.testing.assert_allclose(up[1:3, 2:4].mean(), 1.5)
    heat[0, 0] = np.nan
    up = upsample(heat, (4, 6))
    assert np.isnan(up[:2, :3]).all()
    assert np.isfinite(up).sum() == 18
    assert up[0, 5] == 1
    with pytest.raises(ValueError, match="finite or NaN"):
        upsample(np.array([[np.inf]]), (2, 2))


def test_heat_is_cut_where_most_boxes_are_hit_within_half_a_false_region() -> None:
    """Two pictures: boxes at heat 5 and 3, noise at 4 in one and at 2 in four other places."""
    first, second = np.zeros((10, 20), np.float32), np.zeros((10, 20), np.float32)
    first[2:4, 2:4], second[6:8, 12:14] = 5, 3
    first[9, 19] = 4
    first[0, 19] = first[9, 0] = second[0, 0] = second[0, 19] = 2
    second[4, 4] = np.nan
    boxes = [[(20, 20, 40, 40)], [(120, 60, 140, 80)]]
    pictures = [Heated(h, (100, 200), b) for h, b in zip((first, second), boxes, strict=True)]
    counts = cut_heat(pictures)
    assert [(c.truth, c.hit, c.regions, c.false) for c in counts] == [(1, 1, 2, 1), (1, 1, 1, 0)]
    strict = cut_heat(pictures, most_false=0.0)  # the noise at 4 must go, and the second box
    assert [c.hit for c in strict] == [1, 0]
    nothing = Heated(np.full((3, 3), np.nan, np.float32), (30, 30), [(0, 0, 9, 9)])
    assert [(c.hit, c.regions) for c in cut_heat([nothing])] == [(0, 0)]
    assert cut_heat([]) == []
    flat = Heated(np.ones((10, 10), np.float32), (100, 100), [(0, 0, 9, 9)])
    assert [c.regions for c in cut_heat([flat])] == [0]  # not: everything, and so every box


def test_boxes_by_hand() -> None:
    truth = [(0, 0, 10, 10), (100, 100, 120, 120)]
    counts = count_boxes(truth, [(0, 0, 10, 3), (25, 0, 30, 5)])
    assert (counts.truth, counts.hit, counts.regions, counts.false) == (2, 1, 2, 1)
    assert count_boxes(truth, [(0, 0, 10, 2.9)]).hit == 1  # wholly inside
    assert count_boxes(truth, [(5, 0, 15, 2)]).hit == 1  # half inside
    assert count_boxes(truth, [(6, 0, 16, 2)]).hit == 0  # 40 % inside, covers 8 %
    assert count_boxes(truth, [(17, 0, 30, 5)]).false == 0  # within 8 px
    assert count_boxes(truth, [(18, 0, 30, 5)]).false == 1
    assert count_boxes(truth, [(0, 0, 200, 200)]).hit == 2
    assert count_boxes([], [(0, 0, 1, 1)]).false == 1
    assert count_boxes(truth, []).hit == 0
    both = [counts, count_boxes(truth, [(0, 0, 200, 200)])]
    assert box_recall(both) == 0.75
    assert false_regions(both) == 0.5
    with pytest.raises(ValueError, match="region box"):
        count_boxes(truth, [(5, 5, 5, 9)])


def test_regions_together_dont_add_up_to_a_hit() -> None:
    slivers = [(float(x), -20.0, x + 1.0, 10.0) for x in range(3)]  # 10 % each, a third inside
    assert count_boxes([(0, 0, 10, 10)], slivers).hit == 0


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
