"""The calibration's page: everything said, nothing drawn that isn't known, names escaped."""

from __future__ import annotations

import re

from anomaly.calibration_report import calibration_page
from anomaly.calibrator import Attainable, CalibrationReport
from anomaly.operating import OperatingPoint
from gallery.sources import Problem


def report(*points: OperatingPoint, budget: float = 0.01) -> CalibrationReport:
    return CalibrationReport(
        "C", budget, 0.05, 14, {"left_out": 56, "normals": 780, "log": 12, "damaged": 120},
        [Attainable("placed", 1, 2, 0.2), Attainable("placed", 3, 12, 1 / 780),
         Attainable("anywhere", 1, 14, None)], list(points),
        [Problem("a <b>.png", "seen_before", "is a reference, or came before")],
    )  # fmt: skip


def points(*rates: float, promised: int = 100) -> list[OperatingPoint]:
    return [OperatingPoint(rate, 120, promised, 10 + n) for n, rate in enumerate(rates)]


def test_points_lie_on_a_logarithmic_axis_with_recall_upwards() -> None:
    text = calibration_page(report(*points(0.001, 0.01, 0.1)), build="B")
    (line,) = re.findall(r'<polyline points="([^"]+)"', text)
    places = [tuple(map(float, pair.split(","))) for pair in line.split()]
    assert places[1][0] - places[0][0] == places[2][0] - places[1][0]
    assert places[0][1] > places[1][1] > places[2][1]
    assert "10 of 120" in text
    assert text.count('class="own"') == 1  # the budget's row; no point at the review rate


def test_what_cannot_be_promised_is_not_drawn() -> None:
    known = [*points(0.001, promised=0), *points(0.01, 0.1)]
    text = calibration_page(report(*known), build="B")
    (line,) = re.findall(r'<polyline points="([^"]+)"', text)
    assert len(line.split()) == 2
    assert "too few pristine scores" in text
    none = calibration_page(report(*points(0.001, 0.01, promised=0)), build="B")
    assert "<svg" not in none
    assert none.count("too few pristine scores") == 2


def test_what_can_be_promised_is_said_by_how_many_references_there_are() -> None:
    text = calibration_page(report(), build="B")
    (one,) = re.findall("Compared in place with one reference.*", text)
    (many,) = re.findall("Compared in place with three references or more.*", text)
    assert "can't promise the budget" in one
    assert "can't promise the budget" not in many


def test_labels_that_would_run_into_each_other_are_left_out() -> None:
    text = calibration_page(report(*points(0.001, 0.0011, 0.1)), build="B")
    assert ">0.001<" in text
    assert ">0.0011<" not in text


def test_names_are_escaped_and_no_damage_is_said() -> None:
    text = calibration_page(report(), build="<B>")
    assert "a &lt;b&gt;.png" in text
    assert "<B>" not in text
    assert "--damaged DIR" in text
