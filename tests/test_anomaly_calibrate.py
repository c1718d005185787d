"""p-values against counting by hand, and the promise that they make."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest

from anomaly.calibrate import NullScores, calibrate
from anomaly.results import Calibrated

SourceName = Literal["product", "pooled", "shipped"]


def scores(*values: float, source: SourceName = "product") -> NullScores:
    return NullScores(source, np.asarray(values, np.float32))


def spread(count: int, source: SourceName) -> NullScores:
    """1, 2, ..., `count`."""
    return scores(*range(1, count + 1), source=source)


def found(score: float, *sources: NullScores, budget: float = 0.05) -> Calibrated:
    answer = calibrate(score, sources, budget=budget)
    assert answer is not None
    return answer


# p-values


@pytest.mark.parametrize(
    ("score", "wanted"),
    [(9.0, 1 / 5), (4.0, 2 / 5), (3.5, 2 / 5), (3.0, 3 / 5), (2.5, 3 / 5), (1.0, 1.0), (-7.0, 1.0)],
)
def test_p_is_one_plus_those_that_score_as_high_over_one_more_than_all(score, wanted) -> None:
    assert found(score, scores(2, 4, 1, 3)).p_value == pytest.approx(wanted, abs=1e-15)


def test_every_tie_counts_against_the_score() -> None:
    null = scores(2, 2, 2, 1, 5)
    assert found(2.0, null).p_value == pytest.approx(5 / 6)
    assert found(np.nextafter(2.0, 3), null).p_value == pytest.approx(2 / 6)


def test_a_p_value_is_never_zero_and_a_score_never_clamped() -> None:
    answer = found(1e30, spread(99, "shipped"))
    assert answer.p_value == pytest.approx(1 / 100)
    assert answer.p_value == answer.calibration.attainable
    assert found(-1e30, spread(99, "shipped")).p_value == 1.0


def test_infinity_and_nan_are_no_scores() -> None:
    for score in (math.nan, math.inf, -math.inf):
        assert calibrate(score, [spread(99, "shipped")], budget=0.05) is None


# Which source


def test_the_most_specific_source_that_can_attain_the_budget_is_taken() -> None:
    sources = [spread(4, "product"), spread(19, "pooled"), spread(500, "shipped")]
    answer = found(10.0, *sources, budget=0.05)
    assert (answer.calibration.source, answer.calibration.n) == ("pooled", 19)  # 1/20 is 0.05
    assert answer.calibration.attainable == pytest.approx(0.05)
    assert answer.p_value == pytest.approx((1 + 10) / 20)
    assert answer.entitled
    assert found(10.0, *sources, budget=0.2).calibration.source == "product"
    assert found(10.0, *sources, budget=0.049).calibration.source == "shipped"


def test_where_none_attains_the_budget_the_largest_is_taken_and_entitles_to_nothing() -> None:
    sources = [spread(4, "product"), spread(9, "pooled"), spread(7, "shipped")]
    beyond, within = found(9.5, *sources, budget=0.01), found(9.0, *sources, budget=0.01)
    assert (beyond.calibration.source, beyond.calibration.n) == ("pooled", 9)
    assert (beyond.suspicious, beyond.entitled) == (True, False)
    assert (within.suspicious, within.entitled) == (False, False)  # as high is not beyond
    assert beyond.threshold == within.threshold == 9.0
    assert beyond.p_value == pytest.approx(0.1)  # above the budget, and said so


def test_of_two_equally_large_the_more_specific_is_taken() -> None:
    sources = [spread(5, "product"), spread(5, "pooled")]
    assert found(1.0, *sources, budget=0.01).calibration.source == "product"


def test_empty_sources_say_nothing() -> None:
    assert calibrate(1.0, [], budget=0.05) is None
    assert calibrate(1.0, [scores(), scores(source="pooled")], budget=0.05) is None
    answer = found(1.0, scores(), spread(3, "shipped"))
    assert (answer.calibration.source, answer.calibration.n) == ("shipped", 3)


@pytest.mark.parametrize(
    ("item_budget", "views", "count"),
    [(0.0048, 3, 624), (0.0375, 3, 79), (0.075, 3, 39), (0.15, 3, 19)],
)
def test_a_views_share_of_a_budget_is_attained_by_as_many_scores_as_its_inverse(
    item_budget: float, views: int, count: int
) -> None:
    """0.0048 / 3 is 1 / 625 but for its last digit."""
    answer = found(1e9, spread(count, "pooled"), budget=item_budget / views)
    assert (answer.suspicious, answer.entitled) == (True, True)
    assert not found(1e9, spread(count - 1, "pooled"), budget=item_budget / views).entitled


# The threshold


@pytest.mark.parametrize("seed", range(8))
def test_beyond_the_threshold_is_the_same_as_a_p_value_within_the_budget(seed: int) -> None:
    rng = np.random.default_rng(seed)
    both = set()
    for _ in range(200):
        count = int(rng.integers(1, 120))
        # A coarse scale: many ties, also with the score itself.
        null = scores(*np.round(rng.normal(size=count), 1))
        least = null.attainable
        budget = float(rng.choice([least, 0.01, 0.05, 0.1, rng.uniform(0.001, 0.999)]))
        if least > budget:
            continue
        score = float(np.float32(round(rng.normal(), 1)))
        answer = found(score, null, budget=budget)
        within = answer.p_value <= budget + 1e-12
        assert (score > answer.threshold) == within == answer.suspicious
        assert answer.entitled
        both.add(within)
    assert both == {True, False}


def test_a_threshold_by_hand() -> None:
    # Of 39 scores, a rate of 0.05 allows 1 above: 2 / 40. So the second highest is the threshold.
    answer = found(38.5, spread(39, "product"), budget=0.05)
    assert answer.threshold == 38.0
    assert answer.suspicious
    assert not found(38.0, spread(39, "product"), budget=0.05).suspicious
    # In binary 0.29 * 100 is 28.999999999999996: twenty-nine are allowed all the same.
    assert found(0.0, spread(99, "product"), budget=0.29).threshold == 99.0 - 28


@pytest.mark.parametrize("budget", [0.5, 0.9, 0.99])
def test_a_generous_budget_is_honoured(budget: float) -> None:
    null = spread(9, "product")
    for score in np.arange(0, 11, 0.5):
        answer = found(float(score), null, budget=budget)
        assert answer.suspicious == (answer.p_value <= budget + 1e-12)


def test_the_order_of_the_scores_does_not_matter_and_they_are_left_alone() -> None:
    values = np.array([3, 1, 2, 9, 5], np.float32)
    null = NullScores("product", values)
    assert found(4.0, null) == found(4.0, scores(9, 5, 3, 2, 1))
    np.testing.assert_array_equal(values, [3, 1, 2, 9, 5])


# The promise


@pytest.mark.parametrize("count", [19, 50, 99])
def test_exchangeable_scores_pass_the_budget_as_rarely_as_promised(count: int) -> None:
    """Validity (Vovk et al. 2005): 2000 pictures that are as pristine as those of the null."""
    rng = np.random.default_rng(count)
    draws = rng.gamma(2.0, size=(2000, count + 1)).astype(np.float32)
    answers = [found(float(row[0]), scores(*row[1:]), budget=0.05) for row in draws]
    share = np.mean([answer.p_value <= 0.05 + 1e-12 for answer in answers])
    exact = math.floor(0.05 * (count + 1) + 1e-9) / (count + 1)
    # Four standard errors of a share among 2000.
    assert abs(share - exact) < 4 * math.sqrt(exact * (1 - exact) / 2000)
    assert share <= 0.05 + 0.02
    assert np.mean([answer.suspicious for answer in answers]) == share
