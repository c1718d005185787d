"""What is called damaged by the shipped scores, by hand."""

from __future__ import annotations

import numpy as np

from anomaly.calibrate import NullScores
from anomaly.nulls import Nulls
from benchmarks.bench_first_day import rates


def null(highest: float, count: int = 199) -> NullScores:
    return NullScores("shipped", np.linspace(0, highest, count, dtype=np.float32))


SHIPPED = Nulls(
    {},
    shipped={
        "placed": {1: null(8.0), 2: null(6.0), 3: null(2.0)},
        "relit": {3: null(5.0)},
        "turning": {1: null(2.0)},
        "anywhere": {1: null(4.0, 50)},
        "loose": {2: null(9.0), 3: null(3.0)},
    },
)


def test_scores_are_held_against_those_of_as_many_references_and_such_light_or_against_all() -> (
    None
):
    judged = [("placed", 1.0, False), ("placed", 2.5, False), ("relit", 4.0, False),
              ("placed", 7.0, True), ("relit", 5.5, True), ("untrusted", 99.0, True)]  # fmt: skip
    many, one = rates(judged, SHIPPED, 4), rates(judged, SHIPPED, 1)
    assert (many["pristine"], many["damaged"]) == (3, 3)
    assert many["shipped, 0.01"] == {"sidelined": 0.3333, "recall": 0.6667}
    assert one["by references, 0.01"] == {"sidelined": 0.0, "recall": 0.0}
    # Threshold 4.9 of both: the highest 3 of 398 lie at 4.97 and above.
    assert many["by references, 0.01"] == {"sidelined": 0.0, "recall": 0.6667}
    assert many["one pool, 0.05"] == one["one pool, 0.05"] == {"sidelined": 0.0, "recall": 0.3333}


def test_loose_goods_with_one_reference_are_none() -> None:
    judged = [("loose", 1.0, False), ("loose", 4.0, True)]
    found = {count: rates(judged, SHIPPED, count) for count in (1, 2, 4)}
    recall = {count: one["by references, 0.01"]["recall"] for count, one in found.items()}
    assert recall == {1: 0.0, 2: 0.0, 4: 1.0}


def test_what_too_few_scores_can_t_promise_is_not_called() -> None:
    found = rates([("anywhere", 9.0, True), ("turning", 9.0, False)], SHIPPED, 3)
    assert found["shipped, 0.01"] == {"sidelined": 1.0, "recall": 0.0}
    assert found["shipped, 0.05"] == {"sidelined": 1.0, "recall": 1.0}
