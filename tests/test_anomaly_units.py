"""Counting alike units: on drawn sets with known truth, and end to end on rendered ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anomaly import Inspector, as_json
from anomaly.results import Finding, Units
from anomaly.studio import Damage, Photograph
from anomaly.units import count_units
from embeddings import fake_embedder

SET = "s0-razor-set"
SIZE = (240, 320)


def _drawn(places: list[int], *, seed: int = 3) -> Any:
    """A striped unit at each x, on a plain ground."""
    unit = np.random.default_rng(seed).integers(0, 255, (80, 40, 3), dtype=np.uint8)
    picture = np.full((*SIZE, 3), 120, np.uint8)
    for left in places:
        picture[80:160, left : left + 40] = unit
    return picture


def _counted(reference: Any, gone: list[int], *, box: tuple[int, int, int, int]) -> Units | None:
    """With evidence on the 40 x 80 px at each x of `gone`; the finding has `box`."""
    from anomaly.view import as_it_is

    (embedding,) = fake_embedder(size_px=320).embed([reference])
    view = as_it_is(embedding)
    centres = view.centres_in_picture().reshape(*view.patches.shape, 2)
    inside = (centres[..., 1] > 80) & (centres[..., 1] < 160)
    heat = np.zeros(view.patches.shape, np.float32)
    for left in gone:
        heat[inside & (centres[..., 0] > left) & (centres[..., 0] < left + 40)] = 9.0
    finding = Finding("missing", tuple(map(float, box)), 3200.0, 9.0, "r")  # type: ignore[arg-type]
    return count_units(finding, reference=reference, matrix=np.eye(3), view=view, heat=heat)


@pytest.mark.parametrize("total", [2, 3, 4])
def test_alike_units_are_counted(total: int) -> None:
    places = [20 + 70 * number for number in range(total)]
    for row, left in enumerate(places):
        found = _counted(_drawn(places), [left], box=(left, 80, left + 40, 160))
        assert found == Units(total - 1, total), row


def test_two_are_gone() -> None:
    assert _counted(_drawn([20, 90, 160]), [20, 160], box=(20, 80, 60, 160)) == Units(1, 3)


def test_nothing_is_said_of_what_has_no_like_or_looks_like_anything() -> None:
    assert _counted(_drawn([90]), [90], box=(90, 80, 130, 160)) is None
    assert _counted(_drawn([20, 90]), [200], box=(200, 80, 240, 160)) is None  # plain ground
    assert _counted(_drawn([20, 90]), [20], box=(20, 80, 24, 84)) is None  # too small to tell


def test_a_rendered_set_says_how_many_are_left(
    shop: Path, shoot: Callable[..., Photograph]
) -> None:
    with Inspector.open(shop, budget=0.03) as inspector:
        photograph = shoot(SET, 5, damage=Damage("missing_unit"))
        result = inspector.inspect(photograph.image, product_id=SET)
        other = inspector.inspect(shoot(SET, 2).image, product_id=SET)
    assert result.units == Units(2, 3), result
    assert "2 of 3 units found" in result.reason.text
    assert as_json(result)["units"] == {"found": 2, "total": 3}
    assert other.units is None
