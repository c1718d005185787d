"""Figures of pixels and boxes, against scikit-learn, brute force and hand-worked cases."""

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
    aupro,
    auroc,
    box_recall,
    count_boxes,
    cut_heat,
    false_regions,
    pixel_auroc,
    pixel_average_precision,
    pixel_evidence,
)
from benchmarks.metrics_pixel import upsample


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
