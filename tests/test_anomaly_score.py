"""Nulls and studentised scores, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from anomaly.results import Channel, Null
from anomaly.score import Prior, fit_null, score, shared

NAN = math.nan
UNIT = Null(0.0, 1.0)
NULLS = dict.fromkeys(("product", "surroundings", "missing", "anywhere", "absent"), UNIT)


# Nulls


def test_without_a_prior_the_null_is_the_sample() -> None:
    null = fit_null([1.0, 2.0, 6.0], None)
    assert null.centre == pytest.approx(3.0)
    assert null.spread == pytest.approx(math.sqrt((4 + 1 + 9) / 2))


def test_a_single_value_or_equal_ones_have_a_spread_all_the_same() -> None:
    for values in ([2.0], [2.0, 2.0, 2.0]):
        assert fit_null(values, None) == Null(2.0, pytest.approx(0.05 * 2.0))
    assert fit_null([0.0], None).spread > 0


def test_with_a_prior_the_null_is_drawn_towards_it() -> None:
    # Mean: 3 values for themselves, the prior for 1. Variance: 2 degrees of freedom and 12; a new
    # picture differs by that and by the mean's own error, which is that of 4 values.
    null = fit_null([1.0, 2.0, 3.0], Prior(centre=11.0, spread=0.5, between=3.0))
    assert null.centre == pytest.approx((6 + 11) / 4)
    assert null.spread == pytest.approx(math.sqrt((2 + 12 * 0.25) / 14 * (1 + 1 / 4)))


def test_a_value_beyond_three_spreads_counts_as_three() -> None:
    # Spread: that of three values by their median deviation of 1, and 12 times the prior's.
    prior = Prior(centre=11.0, spread=0.5, between=3.0)
    edge = 2.0 + 3.0 * math.sqrt((3 * 1.4826**2 + 12 * 0.25) / 15)
    assert edge < 6.0
    assert fit_null([1.0, 2.0, 6.0], prior) == fit_null([1.0, 2.0, edge], prior)


def test_one_odd_value_neither_moves_the_null_nor_widens_it() -> None:
    # It counts for a value three spreads out: the sixteen others' and the prior's, which agree.
    rng, prior = np.random.default_rng(0), Prior(centre=5.0, spread=0.1, between=1.0)
    usual = rng.normal(5.0, 0.1, 16).tolist()
    alone, odd, edge = (fit_null([*usual, *more], prior) for more in ([], [9.0], [5.3]))
    assert odd.centre == pytest.approx(edge.centre, abs=0.01)
    assert odd.spread == pytest.approx(edge.spread, rel=0.1)
    assert odd.spread < 1.2 * alone.spread


def test_values_that_all_lie_wide_are_believed() -> None:
    values = np.random.default_rng(0).normal(5.0, 2.0, 200)
    null = fit_null(values.tolist(), Prior(centre=5.0, spread=0.5, between=1.0))
    assert null.spread == pytest.approx(values.std(), rel=0.15)


def test_the_more_values_the_less_the_prior_says() -> None:
    rng, prior = np.random.default_rng(0), Prior(centre=50.0, spread=9.0, between=1.0)
    values = rng.normal(5.0, 2.0, 4000)
    null = fit_null(values.tolist(), prior)
    assert null.centre == pytest.approx(values.mean(), abs=0.05)
    assert null.spread == pytest.approx(values.std(), abs=0.15)


def test_only_a_prior_knows_no_more_than_where_other_products_lie() -> None:
    assert fit_null([], Prior(1.0, 3.0, 4.0)) == Null(1.0, pytest.approx(5.0), guessed=True)
    assert fit_null([NAN], Prior(1.0, 3.0, 4.0)) == Null(1.0, pytest.approx(5.0), guessed=True)


def test_neither_value_nor_prior_is_no_null() -> None:
    assert fit_null([], None) is None
    assert fit_null([NAN, math.inf], None) is None


def test_what_was_not_measured_is_left_out() -> None:
    assert fit_null([1.0, NAN, 3.0], None) == fit_null([1.0, 3.0], None)


# The score


def channel(name: str, value: float, cells: list[list[float]] | None = None) -> Channel:
    found = None if cells is None else np.asarray(cells, np.float32)
    return Channel(name, found, value, 1.0)


def length(*values: float) -> float:
    return float(sum(value**4 for value in values) ** 0.25)


def test_each_channel_counts_in_its_own_spreads_and_loud_ones_add_up() -> None:
    channels = [channel("product", 5.0), channel("missing", 30.0)]
    scored = score(channels, {"product": Null(1.0, 0.5), "missing": Null(20.0, 4.0)})
    assert scored.by_channel == {"product": pytest.approx(8.0), "missing": pytest.approx(2.5)}
    assert scored.score == pytest.approx(length(8.0, 2.5))
    quiet = score(channels, {"product": Null(7.0, 0.5), "missing": Null(40.0, 4.0)})
    assert quiet.score == pytest.approx(-2.5)  # the highest, where nothing lies above pristine


def test_guessed_channels_rank_pictures_whatever_the_constants_they_are_off_by() -> None:
    raw = [
        {"product": 1.0, "bend": 2.0},
        {"product": 2.0, "bend": 0.5},
        {"product": 0.0, "bend": 2.6},
    ]
    orders = set()
    for off in (-4.0, 0.0, 7.0):
        nulls = {"product": Null(off, 1.0, guessed=True), "bend": Null(0.0, 0.5, guessed=True)}
        found = [score([channel(n, v) for n, v in r.items()], nulls).score for r in raw]
        orders.add(tuple(np.argsort(found)))
    assert orders == {(1, 0, 2)}


def test_guessed_channels_count_as_one_beside_the_others() -> None:
    nulls = {"product": UNIT, "bend": Null(0.0, 1.0, guessed=True),
             "detail": Null(0.0, 1.0, guessed=True)}  # fmt: skip
    found = score([channel("product", 3.0), channel("bend", 5.0), channel("detail", -1.0)], nulls)
    assert found.score == pytest.approx(length(3.0, 4.0 / math.sqrt(2)))


@pytest.mark.parametrize("guessed", [False, True])
@pytest.mark.parametrize("name", ["product", "missing"])
def test_more_in_any_channel_never_scores_less(name: str, guessed: bool) -> None:
    nulls = {"product": Null(1.0, 0.5, guessed), "missing": Null(20.0, 4.0, guessed)}
    last = -math.inf
    for value in np.linspace(-5, 60, 40):
        values = {"product": 3.0, "missing": 21.0, name: float(value)}
        found = score([channel(n, v) for n, v in values.items()], nulls).score
        assert found >= last
        last = found
    # `missing` ends 10 spreads up, beside `product` at 4; `product` far beyond.
    assert last >= (14 / math.sqrt(2) if guessed else 10)


def test_what_lies_beyond_the_knee_counts_by_the_channel_s_tail() -> None:
    heavy = {"bend": Null(1.0, 2.0, tail=0.35), "product": UNIT}
    for raw, expected in ((-3.0, -2.0), (1.0, 0.0), (6.0, 2.5), (8.0, 2.85), (26.0, 6.0)):
        scored = score([channel("bend", raw, [[raw, NAN]])], heavy)
        assert scored.by_channel["bend"] == pytest.approx(expected)
        np.testing.assert_allclose(scored.heat, [[expected, NAN]], rtol=1e-6)
    beside = score([channel("bend", 26.0), channel("product", 10.0)], heavy)
    assert beside.score == pytest.approx(length(6.0, 10.0))


def test_the_heat_adds_up_cell_by_cell() -> None:
    channels = [
        channel("product", 5.0, [[2.0, NAN, NAN], [3.0, 1.0, 5.0]]),
        channel("missing", 5.0, [[8.0, 6.0, NAN], [2.0, NAN, 4.0]]),
        channel("absent", 5.0),
    ]
    nulls = {"product": Null(1.0, 0.5), "missing": Null(2.0, 2.0), "absent": UNIT}
    scored = score(channels, nulls)
    # product: [2, -, -], [4, 0, 8]; missing: [3, 2, -], [0, -, 1]
    expected = [[length(2, 3), 2, NAN], [4, 0, length(8, 1)]]
    np.testing.assert_allclose(scored.heat, expected, atol=1e-6)
    assert scored.heat.dtype == np.float32


def test_a_cell_is_as_loud_as_what_lies_around_it_and_peaks_stay() -> None:
    """A ring of evidence with a hole: the hole is part of the defect."""
    values = np.full((15, 15), -1.0, np.float32)
    values[5:10, 5:10] = 4.0
    values[7, 7] = -1.0
    values[0, 0] = NAN
    heat = shared(values)
    assert np.nanmax(heat) == 4.0
    assert 1.5 < heat[7, 7] < 4.0
    assert np.isnan(heat[0, 0])
    assert (heat >= values)[np.isfinite(values)].all()
    assert heat[0, 14] < 0.02


def test_quiet_cells_are_still_told_apart() -> None:
    heat = shared(np.array([[-3.0, -1.0, -2.0]], np.float32))
    assert heat[0, 0] < heat[0, 2] < heat[0, 1] <= 0


def test_a_channel_without_a_null_or_a_measured_value_does_not_count() -> None:
    channels = [
        channel("product", 2.0, [[1.0]]),
        channel("a new one", 1e9, [[1e9]]),
        channel("missing", NAN, [[1e9]]),
    ]
    scored = score(channels, {"product": UNIT, "missing": UNIT})
    assert scored.score == 2.0
    assert dict(scored.by_channel) == {"product": 2.0}
    np.testing.assert_array_equal(scored.heat, [[1.0]])


def test_a_channel_that_no_one_knew_of_needs_only_a_null() -> None:
    scored = score([channel("colour", 7.0, [[7.0]])], {"colour": Null(1.0, 2.0)})
    assert scored.score == 3.0
    np.testing.assert_array_equal(scored.heat, [[3.0]])


@pytest.mark.parametrize("channels", [[], [channel("product", NAN, [[1.0]])]])
def test_with_nothing_left_there_is_no_score(channels) -> None:
    scored = score(channels, NULLS)
    assert math.isnan(scored.score)
    assert scored.heat.shape == (0, 0)
    assert dict(scored.by_channel) == {}


def test_only_channels_without_a_place_leave_no_heat() -> None:
    scored = score([channel("absent", 4.0)], NULLS)
    assert (scored.score, scored.heat.shape) == (4.0, (0, 0))
