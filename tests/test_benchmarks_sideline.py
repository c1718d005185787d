"""Figures of the sideline benchmark on made-up scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.bench_sideline import Scored, evaluate, units

SLICE = "studio / tray"


def drawn(*, between: float, products: int = 60) -> list[Scored]:
    """20 calibrating and 20 judged pictures of a product, whose scores lie around its own place;
    damage 3 above."""
    draw, rows = np.random.default_rng(1), []
    for number in range(products):
        place = draw.normal(0, between)
        for role, count, shift in (
            ("calibration", 20, 0), ("pristine", 20, 0), ("damaged", 4, 3),
        ):  # fmt: skip
            scores = draw.normal(place + shift, 1, count)
            rows += [
                Scored(f"p{number:02d}", SLICE, 4, role, "placed", float(score)) for score in scores
            ]
    return rows


def test_rates_of_exchangeable_pictures_lie_in_the_interval() -> None:
    figures = evaluate(drawn(between=0))["4 references"]["overall"]
    assert (figures["products"], figures["calibration"], figures["in_place"]) == (60, 1200, 1200)
    assert [at["budget"] for at in figures["budgets"]] == [0.05, 0.02, 0.01, 0.005]
    for at in figures["budgets"]:
        low, high = at["interval"]
        assert low < at["budget"] < high
        assert all(low <= rate <= high for rate in at["rates"].values()), at


def test_products_that_differ_are_told_apart_by_their_own_pictures() -> None:
    """At equal budget more damage is found, and no product bears most of the false alarms."""
    (at, *_) = evaluate(drawn(between=3))["4 references"]["overall"]["budgets"]
    assert at["rates"]["hierarchy"] == pytest.approx(0.05, abs=0.02)
    assert at["recall"]["hierarchy"] > at["recall"]["few"] > at["recall"]["flat"] + 0.1
    assert at["worst_tenth"]["hierarchy"] < at["worst_tenth"]["flat"] / 2


def test_pictures_that_were_not_compared_in_place_are_never_sidelined() -> None:
    rows = drawn(between=0)
    lost = [Scored("p00", SLICE, 4, "damaged", "untrusted", 99.0)] * 240
    figures = evaluate(rows + lost)["4 references"]["slices"][SLICE]
    assert figures["damaged"] == 480
    assert figures["budgets"][0]["recall"]["flat"] < 0.5


def test_what_products_with_four_references_lend_those_with_one_is_shown() -> None:
    """Those score higher by 3, as their damage does with four."""
    many = drawn(between=0)
    one = [replace(row, shots=1, score=row.score + 3) for row in many]
    figures = evaluate(many + one)
    (five, _) = figures["lent"]
    assert five["rate"] > 0.8
    assert figures["1 references"]["overall"]["budgets"][0]["rates"]["others"] < 0.1
    assert evaluate(many)["lent"] == []


@pytest.mark.parametrize("kind", ["placed", "loose"])
def test_photographs_are_judged_by_their_other_half(kind: str) -> None:
    pristine = [Scored("c", "cookies", 4, "pristine", kind, float(n % 40)) for n in range(80)]
    damaged = [Scored("c", "cookies", 4, "damaged", kind, score) for score in (5.0, 50.0)]
    figures = evaluate(drawn(between=0) + pristine + damaged)["photographs"]["cookies"]
    assert (figures["evidence"], figures["judged"]) == (kind, 80)
    five, one = figures["budgets"]
    assert five["recall"] == 0.5
    assert one == {"budget": 0.01, "rate": None, "recall": None}


def test_units_are_distinct_and_calibrate_with_five_thousand() -> None:
    found = list(units("reported"))
    assert len({unit.name for unit in found}) == len(found)
    slices = {"pose": 11, "coverage": 3}
    count = sum(u.calibrating * slices.get(u.part or "", 1) for u in found if u.shots == 4)
    assert count >= 5000
    others = {unit.item for unit in units("development")}
    assert not others & {unit.item for unit in found}
