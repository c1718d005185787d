"""Regions of a score whose place and kind are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anomaly.results import Channel, Comparison, Null, View
from anomaly.score import regions, score
from embeddings.patches import PatchGrid, PatchLayer

UNIT = Null(0.0, 1.0)
NULLS = dict.fromkeys(("product", "surroundings", "missing", "anywhere", "absent"), UNIT)
SHAPE = (12, 16)  # cells of 8 working pixels


def channel(name: str, value: float, cells: list[list[float]] | None = None) -> Channel:
    found = None if cells is None else np.asarray(cells, np.float32)
    return Channel(name, found, value, 1.0)


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
    content = (Channel("anywhere", free, float(free.max()), 1.0),)
    return Comparison(placed, lambda: content, on, 1.0)


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


def test_a_crack_of_what_lies_anyhow_is_no_spill_but_what_lies_beside_it_is() -> None:
    halves = np.zeros(SHAPE, np.bool_)
    halves[2:10, 3:6] = halves[2:10, 9:12] = True

    def named(where: np.ndarray, *, product: np.ndarray = halves, placed: bool = False) -> str:
        content = (Channel("anywhere", where, float(where.max()), 1.0),)
        first = (channel("product", 10.0, where.tolist()),) if placed else ()
        found = Comparison(first, lambda: content, product, 0.0)
        scored = score(found.channels, NULLS)
        view, name = view_of(), None
        (one,) = regions(scored, found, NULLS, view=view, threshold=5, reference_id=name)
        return one.kind

    crack, beside = cells(slice(4, 8), slice(6, 9)), cells(slice(4, 8), slice(13, 16))
    assert named(crack) == "changed"
    assert named(beside) == "spill"
    # References tell where a product ends that lies as they do.
    assert named(crack, placed=True) == "spill"
    # No product was found at all.
    assert named(crack, product=np.zeros(SHAPE, np.bool_)) == "spill"


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


def test_new_content_of_a_product_of_which_nobody_knows_what_is_gone_is_changed() -> None:
    """A torn label on a bottle that turns: places say nothing there."""
    mark = cells(ROWS, COLUMNS)
    unknown = comparison_of(product=mark, anywhere=mark, missing=np.full(SHAPE, np.nan))
    (one,) = found(unknown)
    assert one.kind == "changed"


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
    free = (*comparison_of(anywhere=cells(ROWS, COLUMNS, quiet)).anywhere, channel("absent", 6.0))
    comparison = replace(comparison_of(), placed=(), content=lambda: free)
    (one,) = found(comparison)
    assert (one.bbox_px, one.score) == (None, 6.0)


def test_what_is_absent_has_no_place() -> None:
    comparison = Comparison((), lambda: (channel("absent", 6.0),), np.zeros(SHAPE, np.bool_), 0.0)
    (one,) = found(comparison)
    assert (one.kind, one.bbox_px, one.area_px, one.score) == ("missing", None, None, 6.0)
    assert found(comparison, threshold=6.0) == ()


def test_the_highest_score_comes_first_with_or_without_a_place() -> None:
    marks = cells(ROWS, slice(4, 6), 6.0) + cells(slice(8, 10), slice(9, 11), 9.0)
    comparison = comparison_of(anywhere=marks)
    free = (*comparison.anywhere, channel("absent", 7.0))
    answer = found(replace(comparison, placed=(), content=lambda: free))
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
    # Patches beside what is gone see a little of it, and aren't asked either.
    for beside, gone in ((2.9, 2), (3.1, 6)):
        seen = np.maximum(part, np.where(mark > 0, np.float32(beside), 0))
        assert named_by(True, gone=gone, product=mark, missing=seen) == "missing"


def test_nothing_is_missing_where_nothing_is_gone() -> None:
    mark = cells(ROWS, COLUMNS)
    assert named_by(True, product=mark, anywhere=mark) == "added"
    assert named_by(True, surroundings=cells(ROWS, slice(0, 3))) == "spill"
