"""Studentised scores by hand, and regions whose place is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from anomaly.results import Channel, Comparison, Null, View
from anomaly.score import Prior, fit_null, regions, score, shared
from embeddings.patches import PatchGrid, PatchLayer

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
    # Mean: 3 values for themselves, the prior for 1. Variance: 2 degrees of freedom and 24; a new
    # picture differs by that and by the mean's own error, which is that of 4 values.
    null = fit_null([1.0, 2.0, 3.0], Prior(centre=11.0, spread=0.5, between=3.0))
    assert null.centre == pytest.approx((6 + 11) / 4)
    assert null.spread == pytest.approx(math.sqrt((2 + 24 * 0.25) / 26 * (1 + 1 / 4)))


def test_a_value_beyond_three_spreads_counts_as_three() -> None:
    # Spread: that of three values by their median deviation of 1, and 24 times the prior's.
    prior = Prior(centre=11.0, spread=0.5, between=3.0)
    edge = 2.0 + 3.0 * math.sqrt((3 * 1.4826**2 + 24 * 0.25) / 27)
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


# Regions

SHAPE = (12, 16)  # cells of 8 working pixels


def view_of(*, image: tuple[int, int] = (96, 128), matrix=None, picture=None) -> View:
    layer = PatchLayer(np.zeros((*SHAPE, 1), np.float32), 8, 0.1)
    grid = PatchGrid((layer,), image, (96, 128), (0.0, 0.0, float(image[1]), float(image[0])))
    return View(
        patches=grid,
        vector=np.ones(1, np.float32),
        matrix=np.eye(3) if matrix is None else np.asarray(matrix, np.float64),
        turn_deg=0.0,
        zoom=1.0,
        picture_size=picture or image,
        measured=np.ones(SHAPE, np.bool_),
    )


def cells(rows: slice, columns: slice, value: float = 10.0, ground: float = 0.0) -> np.ndarray:
    made = np.full(SHAPE, ground, np.float32)
    made[rows, columns] = value
    return made


def comparison_of(*, product=None, missing=None, anywhere=None, surroundings=None) -> Comparison:
    """The product fills columns 4 to 11."""
    on = cells(slice(0, 12), slice(4, 12)) > 0
    nothing = np.zeros(SHAPE, np.float32)
    maps = {
        "product": np.where(on, nothing if product is None else product, np.nan),
        "surroundings": np.where(on, np.nan, nothing if surroundings is None else surroundings),
        "missing": np.where(on, nothing if missing is None else missing, np.nan),
    }
    placed = tuple(
        Channel(name, values.astype(np.float32), float(np.fmax.reduce(values, axis=None)), 1.0)
        for name, values in maps.items()
    )
    free = nothing if anywhere is None else anywhere
    return Comparison(placed, (Channel("anywhere", free, float(free.max()), 1.0),), on, 1.0)


def found(comparison: Comparison, *, view: View | None = None, threshold: float = 4.0):
    scored = score(comparison.channels, NULLS)
    return regions(
        scored, comparison, NULLS, view=view or view_of(), threshold=threshold, reference_id="r0"
    )


ROWS, COLUMNS = slice(3, 5), slice(6, 9)  # 2 x 3 cells


def test_the_box_is_where_the_cells_lie_in_the_picture() -> None:
    (one,) = found(comparison_of(product=cells(ROWS, COLUMNS)))
    assert one.bbox_px == pytest.approx((48.0, 24.0, 72.0, 40.0))
    assert one.area_px == pytest.approx(2 * 3 * 64)
    assert (one.score, one.reference_id) == (10.0, "r0")


def test_a_picture_larger_than_its_working_size_has_larger_boxes() -> None:
    view = view_of(image=(192, 256))
    (one,) = found(comparison_of(product=cells(ROWS, COLUMNS)), view=view)
    assert one.bbox_px == pytest.approx((96.0, 48.0, 144.0, 80.0))
    assert one.area_px == pytest.approx(2 * 3 * 256)


def test_the_box_of_a_turned_view_lies_in_the_picture_as_given() -> None:
    """The view shows a 128 x 96 (h x w) picture turned by a quarter: x' = 127 - y, y' = x."""
    view = view_of(matrix=[[0, -1, 127], [1, 0, 0], [0, 0, 1]], picture=(128, 96))
    (one,) = found(comparison_of(product=cells(ROWS, COLUMNS)), view=view)
    # View pixels 48 to 71 across are rows 127 - 71 to 127 - 48; 24 to 39 down are columns.
    assert one.bbox_px == pytest.approx((24.0, 56.0, 40.0, 80.0))
    assert one.area_px == pytest.approx(2 * 3 * 64)


def test_the_box_of_an_enlarged_view_is_that_much_smaller() -> None:
    # Twice as large by pixel centres: picture edges 0 and 1 become view edges 0 and 2.
    view = view_of(matrix=[[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1]], picture=(48, 64))
    (one,) = found(comparison_of(product=cells(ROWS, COLUMNS)), view=view)
    assert one.bbox_px == pytest.approx((24.0, 12.0, 36.0, 20.0))
    assert one.area_px == pytest.approx(2 * 3 * 16)


def test_the_box_ends_where_the_picture_ends() -> None:
    # The working size isn't always a multiple of the stride: the last cells reach beyond it.
    (one,) = found(
        comparison_of(surroundings=cells(slice(11, 12), slice(13, 16))),
        view=view_of(picture=(90, 125)),
    )
    assert one.bbox_px == pytest.approx((104.0, 88.0, 125.0, 90.0))


def test_outside_of_the_product_is_a_spill() -> None:
    (one,) = found(comparison_of(surroundings=cells(ROWS, slice(0, 3))))
    assert one.kind == "spill"


def test_where_the_product_ends_is_a_guess_nothing_is_a_spill() -> None:
    one = comparison_of(surroundings=cells(ROWS, slice(0, 3)))
    (finding,) = found(replace(one, bounded=False))
    assert finding.kind == "changed"


def test_content_that_is_gone_and_replaced_by_known_content_is_missing() -> None:
    (one,) = found(comparison_of(missing=cells(ROWS, COLUMNS)))
    assert one.kind == "missing"


def test_new_content_over_nothing_that_is_missed_is_added() -> None:
    mark = cells(ROWS, COLUMNS)
    (one,) = found(comparison_of(product=mark, anywhere=mark))
    assert one.kind == "added"


def test_new_content_in_place_of_the_product_s_is_changed() -> None:
    mark = cells(ROWS, COLUMNS)
    (one,) = found(comparison_of(product=mark, anywhere=mark, missing=mark))
    assert one.kind == "changed"


def test_known_content_at_another_place_is_changed() -> None:
    """Neither new anywhere nor gone: only its place is amiss."""
    (one,) = found(comparison_of(product=cells(ROWS, COLUMNS)))
    assert one.kind == "changed"


def test_without_an_aligned_reference_what_is_there_has_changed() -> None:
    one = comparison_of(anywhere=cells(ROWS, COLUMNS))
    (finding,) = found(replace(one, placed=()))
    assert finding.kind == "changed"
    assert finding.bbox_px == pytest.approx((48.0, 24.0, 72.0, 40.0))


def test_a_region_grows_down_to_a_share_of_the_threshold_and_not_further() -> None:
    around = cells(slice(2, 6), slice(5, 10), 0.61 * 4.0)
    around[ROWS, COLUMNS] = 10.0
    (one,) = found(comparison_of(product=around))
    assert one.bbox_px == pytest.approx((40.0, 16.0, 80.0, 48.0))
    around[around < 5] = 0.59 * 4.0 * (around[around < 5] > 0)
    (one,) = found(comparison_of(product=around))
    assert one.bbox_px == pytest.approx((48.0, 24.0, 72.0, 40.0))


def test_what_never_passes_the_threshold_is_no_region_of_its_own() -> None:
    marks = cells(ROWS, slice(4, 6)) + cells(slice(8, 10), slice(9, 11), 3.9)
    (one,) = found(comparison_of(product=marks))
    assert one.score == 10.0


@pytest.mark.parametrize("threshold", [10.0, 11.0])
def test_at_or_below_the_threshold_there_is_no_region(threshold: float) -> None:
    assert found(comparison_of(product=cells(ROWS, COLUMNS)), threshold=threshold) == ()


def test_a_single_hot_cell_under_a_usual_score_is_no_region() -> None:
    """The score is a mean of the highest cells: only where that is suspicious, cells are."""
    comparison = comparison_of(product=cells(ROWS, COLUMNS))
    usual = tuple(replace(one, score=2.0) for one in comparison.placed)
    assert found(replace(comparison, placed=usual)) == ()


def test_a_score_beyond_the_threshold_by_less_than_float32_knows_still_has_a_region() -> None:
    """The heat is float32, the score isn't: the highest cell stands for it all the same."""
    comparison, null = comparison_of(product=cells(ROWS, COLUMNS)), Null(0.1, 0.3)
    nulls = {**NULLS, "product": null}
    scored = score(comparison.channels, nulls)
    threshold = float(np.nextafter(scored.score, 0))
    assert scored.heat[3, 6] < threshold < scored.score
    (one,) = regions(
        scored, comparison, nulls, view=view_of(), threshold=threshold, reference_id=None
    )
    assert one.bbox_px == pytest.approx((48.0, 24.0, 72.0, 40.0))
    assert one.reference_id is None


@pytest.mark.parametrize("quiet", [0.0, 0.001, 2.3])
def test_what_is_absent_lends_its_score_to_no_quiet_place(quiet: float) -> None:
    free = comparison_of(anywhere=cells(ROWS, COLUMNS, quiet)).anywhere
    comparison = replace(comparison_of(), placed=(), anywhere=(*free, channel("absent", 6.0)))
    (one,) = found(comparison)
    assert (one.bbox_px, one.score) == (None, 6.0)


def test_what_is_absent_has_no_place() -> None:
    comparison = Comparison((), (channel("absent", 6.0),), np.zeros(SHAPE, np.bool_), 0.0)
    (one,) = found(comparison)
    assert (one.kind, one.bbox_px, one.area_px, one.score) == ("missing", None, None, 6.0)
    assert found(comparison, threshold=6.0) == ()


def test_the_highest_score_comes_first_with_or_without_a_place() -> None:
    marks = cells(ROWS, slice(4, 6), 6.0) + cells(slice(8, 10), slice(9, 11), 9.0)
    comparison = comparison_of(anywhere=marks)
    free = (*comparison.anywhere, channel("absent", 7.0))
    answer = found(replace(comparison, placed=(), anywhere=free))
    assert [one.score for one in answer] == [9.0, 7.0, 6.0]
    assert answer[1].bbox_px is None


def test_equal_scores_come_in_a_fixed_order_and_twenty_are_enough() -> None:
    marks = np.zeros(SHAPE, np.float32)
    marks[::3, 4:12:2] = 9.0
    marks[1::3, 4:12:2] = 0.0
    everything = np.zeros(SHAPE, np.float32)
    everything[::2, ::2] = 9.0
    few, many = found(comparison_of(product=marks)), found(
        replace(comparison_of(anywhere=everything), placed=())
    )  # fmt: skip
    assert len(few) == 16
    assert [one.bbox_px for one in few] == sorted(one.bbox_px for one in few)
    assert len(many) == 20


def test_what_was_not_measured_is_no_region() -> None:
    mark = cells(ROWS, COLUMNS)
    mark[:, 7:] = np.nan
    (one,) = found(comparison_of(product=mark, missing=np.full(SHAPE, np.nan)))
    assert one.bbox_px == pytest.approx((48.0, 24.0, 56.0, 40.0))


def named_by(empty: bool, *, gone: int = 6, **marks: np.ndarray) -> str:
    comparison = comparison_of(**marks)
    asked = []

    def emptied(some: np.ndarray, *, amiss: np.ndarray) -> bool:
        asked.append((int(some.sum()), int(amiss.sum())))
        return empty

    (one,) = regions(
        score(comparison.channels, NULLS), comparison, NULLS, view=view_of(), threshold=4.0,
        reference_id="r0", emptied=emptied,
    )  # fmt: skip
    assert asked == ([(gone, 6)] if "missing" in marks else [])
    return one.kind


def test_where_pictures_tell_they_say_whether_what_is_gone_is_missing() -> None:
    mark = cells(ROWS, COLUMNS)
    assert named_by(True, product=mark, anywhere=mark, missing=mark) == "missing"
    assert named_by(False, missing=mark) == "changed"  # known content, but its place isn't empty
    part = cells(ROWS, slice(6, 7))  # other evidence reaches beyond what is gone: it isn't asked of
    assert named_by(True, gone=2, product=mark, missing=part) == "missing"
    # ... and may be most of the region, where nothing is gone.
    ground = cells(ROWS, slice(6, 7), ground=-9.0)
    assert named_by(True, gone=2, product=mark, anywhere=mark, missing=ground) == "missing"


def test_nothing_is_missing_where_nothing_is_gone() -> None:
    mark = cells(ROWS, COLUMNS)
    assert named_by(True, product=mark, anywhere=mark) == "added"
    assert named_by(True, surroundings=cells(ROWS, slice(0, 3))) == "spill"
