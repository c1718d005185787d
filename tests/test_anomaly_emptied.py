"""Whether a place lost what belongs there: on drawn sets with known truth, and on rendered ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from anomaly import Inspector
from anomaly.emptied import Emptied
from anomaly.studio import Damage, Photograph

SET = "s0-razor-set"
CELL, GRID = 8, (20, 32)
UNIT = (slice(6, 14), slice(4, 8))  # rows and columns of the cells of the first of three
PITCH = 9
CARD = np.array([60, 110, 70], np.uint8)


def card(*, units: tuple[int, ...] = (0, 1, 2), ridges: bool = True) -> np.ndarray:
    """Striped units on a green card with a headline; an empty place shows the card's hollow."""
    picture = np.full((GRID[0] * CELL, GRID[1] * CELL, 3), CARD, np.uint8)
    cv2.putText(picture, "RAZORS", (40, 34), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (240, 230, 60), 3)
    for place in range(3):
        left, top = (UNIT[1].start + PITCH * place) * CELL + 4, UNIT[0].start * CELL + 4
        box = (slice(top, top + 56), slice(left, left + 24))
        if place in units:
            picture[box] = (30, 30, 160)
            picture[box][::8] = (230, 230, 230)
        elif ridges:
            picture[box] = 0.85 * CARD
    return picture


def unit(place: int = 0) -> np.ndarray:
    cells = np.zeros(GRID, np.bool_)
    cells[UNIT[0], slice(UNIT[1].start + PITCH * place, UNIT[1].stop + PITCH * place)] = True
    return cells


def emptied(
    query: np.ndarray,
    *,
    cells: np.ndarray | None = None,
    amiss: np.ndarray | None = None,
    reference: np.ndarray | None = None,
    product: np.ndarray | None = None,
) -> bool:
    cells = unit() if cells is None else cells
    reference = card() if reference is None else reference
    product = np.ones(GRID, np.bool_) if product is None else product
    told = Emptied(query, reference, product, stride=CELL)
    return told(cells, amiss=cells if amiss is None else amiss)


def with_place(paint: Callable[[np.ndarray], None]) -> np.ndarray:
    """The whole set, with something painted upon the pixels of the first unit's cells."""
    picture = card()
    paint(picture[tuple(slice(s.start * CELL, s.stop * CELL) for s in UNIT)])
    return picture


def test_a_unit_that_is_gone_leaves_its_place_empty() -> None:
    assert emptied(card(units=(1, 2)))
    assert emptied(card(units=(1, 2), ridges=False))
    assert emptied(card(units=(0, 1)), cells=unit(2))


def test_what_is_there_is_not_gone() -> None:
    assert not emptied(card())


def test_an_empty_place_that_was_filled_is_not_emptied() -> None:
    assert not emptied(card(), reference=card(units=(1, 2)))


def hole(place: np.ndarray) -> None:
    place[6:-6, 4:-4] = (15, 10, 12)


def bare_board(place: np.ndarray) -> None:
    place[:, 2:-2] = (190, 150, 110)


def other_unit(place: np.ndarray) -> None:
    place[4:-4, 8:-8] = (200, 40, 40)
    place[4:-4:8, 8:-8] = (250, 220, 60)


def stain(place: np.ndarray) -> None:
    place[:] = 0.5 * place + (60, 40, 20)


def crush(place: np.ndarray) -> None:
    shade = np.abs(np.subtract.outer(np.arange(len(place)), np.arange(place.shape[1]))) % 24
    place[:] = place * (0.6 + shade / 40)[..., None]


@pytest.mark.parametrize("damage", [hole, bare_board, other_unit, stain, crush])
def test_other_damage_is_not_an_empty_place(damage: Callable[[np.ndarray], None]) -> None:
    assert not emptied(with_place(damage))


@pytest.mark.parametrize("light", [0.7, 1.3])
def test_light_changes_nothing(light: float) -> None:
    def lit(picture: np.ndarray) -> np.ndarray:
        return np.clip(picture * light, 0, 255).astype(np.uint8)

    assert emptied(lit(card(units=(1, 2))))
    assert not emptied(lit(card()))
    assert not emptied(lit(with_place(other_unit)))


def test_a_picture_out_of_focus_is_not_an_empty_one() -> None:
    """Everything is plainer then: a place must be plainer than the rest has become."""
    assert not emptied(cv2.GaussianBlur(card(), (0, 0), 4.0))
    assert emptied(cv2.GaussianBlur(card(units=(1, 2)), (0, 0), 2.0))


def test_each_of_several_that_are_gone_is() -> None:
    gone = unit(0) | unit(1)
    for place in (0, 1):
        assert emptied(card(units=(2,)), cells=unit(place), amiss=gone)
    assert not emptied(card(units=(2,)), cells=unit(2), amiss=gone)


def test_nothing_is_said_where_nothing_of_the_product_lies_around() -> None:
    assert not emptied(card(units=(1, 2)), product=unit())
    assert not emptied(card(units=(1, 2)), cells=np.ones(GRID, np.bool_))


def test_all_else_may_be_amiss() -> None:
    assert emptied(card(units=(1, 2)), amiss=np.ones(GRID, np.bool_))


def test_a_part_may_be_small() -> None:
    """One cell is too few to be shrunk to its core."""
    whole, one = card(), np.zeros(GRID, np.bool_)
    whole[129:135, 201:207] = (230, 40, 200)
    one[16, 25] = True
    assert emptied(card(), reference=whole, cells=one)
    assert not emptied(whole, reference=whole, cells=one)


def test_the_last_cells_may_reach_beyond_the_picture() -> None:
    cut, last = (slice(0, -6), slice(0, -6)), np.zeros(GRID, np.bool_)
    last[:, -1] = True
    assert emptied(card(units=(1, 2))[cut], reference=card()[cut])
    whole = card()
    whole[:, 249:] = (230, 40, 200)
    assert emptied(card()[cut], reference=whole[cut], cells=last)


@pytest.mark.parametrize("take", [5, 6])
def test_rendered_damage_of_a_set_is_named_as_what_it_is(
    take: int, shop: Path, shoot: Callable[..., Photograph]
) -> None:
    with Inspector.open(shop, budget=0.03) as inspector:
        for kind, name in (("missing_unit", "missing"), ("tear", "changed")):
            photograph = shoot(SET, take, damage=Damage(kind))
            result = inspector.inspect(photograph.image, product_id=SET)
            assert result.findings, kind
            assert result.findings[0].kind == name, result.findings
