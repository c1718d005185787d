"""What counts as a product's rim, and means of a map's highest values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from anomaly.rim import grown, placed_score, top_mean, within


def rectangle(rows: slice, columns: slice, shape: tuple[int, int] = (50, 60)) -> np.ndarray:
    cells = np.zeros(shape, np.bool_)
    cells[rows, columns] = True
    return cells


@pytest.mark.parametrize(
    ("side", "width"), [(3, 0), (4, 0), (6, 1), (14, 1), (16, 2), (30, 2), (44, 2)]
)
def test_a_rim_is_two_cells_wide_and_narrower_on_small_products(side: int, width: int) -> None:
    product = rectangle(slice(3, 3 + side), slice(4, 4 + side))
    inner = rectangle(slice(3 + width, 3 + side - width), slice(4 + width, 4 + side - width))
    np.testing.assert_array_equal(within(product), inner)


def test_the_picture_s_border_is_no_rim() -> None:
    np.testing.assert_array_equal(within(np.ones((40, 50), np.bool_)), np.ones((40, 50)))
    along = within(rectangle(slice(0, 30), slice(0, 30)))
    np.testing.assert_array_equal(along, rectangle(slice(0, 28), slice(0, 28)))


def test_nothing_has_no_rim() -> None:
    nothing = np.zeros((8, 9), np.bool_)
    assert not within(nothing).any()
    assert not grown(nothing).any()


def test_a_grown_product_has_the_cells_that_touch_it() -> None:
    product = rectangle(slice(3, 6), slice(4, 5))
    np.testing.assert_array_equal(grown(product), rectangle(slice(2, 7), slice(3, 6)))


def test_top_mean_is_the_mean_of_the_highest_hundredth() -> None:
    values = np.random.default_rng(0).permutation(300).astype(np.float32)
    assert top_mean(values.reshape(15, 20)) == pytest.approx((299 + 298 + 297) / 3)
    assert top_mean(values, share=0.1) == pytest.approx(np.arange(270, 300).mean())
    assert top_mean(values[:49]) == values[:49].max()  # at least one
    holes = np.full(1000, np.nan, np.float32)
    holes[:200] = np.arange(200)
    assert top_mean(holes) == pytest.approx((199 + 198) / 2)  # a hundredth of what was measured
    assert math.isnan(top_mean(np.full(9, np.nan, np.float32)))
    assert math.isnan(top_mean(np.zeros(0, np.float32)))


def test_a_placed_map_scores_by_the_mean_of_its_highest_two_hundredth() -> None:
    values = np.random.default_rng(0).permutation(600).astype(np.float32)
    assert placed_score(values) == pytest.approx((599 + 598 + 597) / 3)
    assert math.isnan(placed_score(np.full((3, 4), np.nan, np.float32)))
