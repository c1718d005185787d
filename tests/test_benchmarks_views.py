"""The arithmetic of `bench_views` and `bench_naming`, on rows whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly.results import Finding
from benchmarks.bench_naming import named, table
from benchmarks.bench_views import VIEWS, Scored, evaluate


def _rows(*, shift: float) -> list[Scored]:
    """4000 calibration scores, 500 pristine items, 500 whose views lie higher by `shift`."""
    draw = np.random.default_rng(1)
    rows = [
        Scored(f"c{n}", "calibration", 0, 0, None, "placed", float(draw.normal()))
        for n in range(4000)
    ]
    for number in range(500):
        for item, (role, more) in enumerate((("pristine", 0.0), ("damaged", shift))):
            rows += [
                Scored(f"p{number}", role, item, view, None, "placed", more + draw.normal())
                for view in range(VIEWS)
            ]
    return rows


def test_items_meet_the_budget_and_uncorrected_ones_do_not() -> None:
    figures = evaluate(_rows(shift=9.0))
    assert figures["calibration"] == {"placed": 4000, "anywhere": 0, "loose": 0}
    for row in figures["budgets"]:
        low, high = row["interval"]
        assert low <= row["budget"] <= high
        assert row["pristine"]["items"] == 500
        assert low <= row["pristine"]["simes"] <= high
        assert row["pristine"]["bonferroni"] <= row["pristine"]["simes"]
        assert row["damage_in_every_view"]["simes"] == 1.0
        assert row["damage_in_one_view"]["bonferroni"] == 1.0
    assert figures["budgets"][0]["pristine"]["uncorrected"] > 0.14  # 1 - 0.95 ** 4 = 0.185


def test_damage_in_several_views_needs_less_of_each() -> None:
    (row,) = evaluate(_rows(shift=2.0))["budgets"][:1]
    seen = row["damage_in_every_view"]
    assert seen["simes"] > seen["bonferroni"] > seen["one_view"]
    assert row["damage_in_one_view"]["simes"] < seen["one_view"]


def test_untrusted_views_sideline_nothing() -> None:
    rows = [
        Scored(r.product, r.role, r.item, r.view, None, "untrusted", r.score)
        if r.role == "damaged" else r
        for r in _rows(shift=9.0)
    ]  # fmt: skip
    assert evaluate(rows)["budgets"][0]["damage_in_every_view"]["simes"] == 0.0


def test_the_finding_that_holds_most_of_the_truth_names_it() -> None:
    truth = np.zeros((40, 40), np.bool_)
    truth[10:20, 10:20] = True
    some = Finding("changed", (10, 10, 14, 20), 40, 9.0, None)
    most = Finding("missing", (12, 8, 22, 22), 40, 2.0, None)
    beside = Finding("spill", (30, 30, 38, 38), 40, 9.0, None)
    assert named([some, most, beside], truth) == "missing"
    assert named([beside, Finding("missing", None, None, 3.0, None)], truth) == "not_found"


def test_the_table_counts_right_names_among_what_was_found() -> None:
    rows = [("tear", "changed"), ("tear", "missing"), ("tear", "not_found"), ("spill", "spill")]
    figures = table(rows)
    assert figures["named"]["tear"] == {"changed": 1, "missing": 1, "not_found": 1}
    assert figures["right_of_found"] == {"spill": 1.0, "tear": pytest.approx(0.5)}
