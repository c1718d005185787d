"""Overlays show what they are given: colours, boxes and what is missing are looked at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from anomaly.overlay import (
    KIND_COLOURS,
    VERDICT_COLOURS,
    _drawable,
    draw_overlay,
    draw_panels,
    write_overlay,
)
from anomaly.results import (
    AlignmentSummary,
    Finding,
    Inspection,
    Kind,
    Picture,
    Reason,
    Verdict,
)

GREY = np.full((300, 400, 3), 120, np.uint8)
OK = Inspection(
    "3fa9", "in/7.jpg", "razor-3", "claimed", "ok", Reason("like_references", "all explained"),
    "b1", 9, "c0", score=1.0, p_value=0.4, threshold=3.0, references=("aa" * 16,),
    alignment=AlignmentSummary("aligned", "aa" * 16, 40, 0.7, 0.9),
)  # fmt: skip


def _picture(heat: float = 0.0) -> Picture:
    return Picture(GREY, GREY, np.full((300, 400), heat, np.float32))


def _panel(strip: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """The picture in a panel of 420 x 315 px, without caption and foot."""
    left = 8 + number * 428
    return strip[24 : 24 + 315, left : left + 420]


def _has(pixels: NDArray[np.uint8], colour: tuple[int, int, int]) -> bool:
    return bool((pixels == np.array(colour)).all(axis=2).any())


def test_a_strip_is_a_picture_and_the_same_each_time() -> None:
    strip = draw_overlay(OK, _picture())
    assert strip.dtype == np.uint8
    assert strip.shape[1:] == (4 * 428 + 8, 3)
    np.testing.assert_array_equal(strip, draw_overlay(OK, _picture()))
    np.testing.assert_array_equal(_panel(draw_panels(OK, _picture()), 0), 120)


@pytest.mark.parametrize("verdict", get_args(Verdict))
def test_the_header_has_the_colour_of_the_verdict(verdict: Verdict) -> None:
    header = draw_overlay(replace(OK, verdict=verdict), _picture())[:66]
    assert _has(header, VERDICT_COLOURS[verdict])


def test_the_scale_of_evidence_is_fixed_and_ends_at_twice_the_threshold() -> None:
    def shown(heat: float) -> NDArray[np.uint8]:
        middle: NDArray[np.uint8] = _panel(draw_panels(OK, _picture(heat)), 2)[100, 100]
        return middle

    lightness = [int(shown(heat).sum()) for heat in (0.0, 0.5, 0.9, 1.4, 2.0)]
    assert lightness == sorted(set(lightness))
    np.testing.assert_array_equal(shown(2.0), shown(50.0))
    np.testing.assert_array_equal(shown(-1.0), shown(0.0))


def test_evidence_stays_where_it_is_whatever_lies_beside_it() -> None:
    alone, beside = np.zeros((300, 400), np.float32), np.zeros((300, 400), np.float32)
    beside[:, 300:] = 1.8
    panels = [_panel(draw_panels(OK, Picture(GREY, GREY, h)), 2) for h in (alone, beside)]
    np.testing.assert_array_equal(panels[0][:, :300], panels[1][:, :300])


def test_what_was_not_measured_does_not_look_like_zero() -> None:
    heat = np.zeros((300, 400), np.float32)
    heat[:, 200:] = np.nan
    panel = _panel(draw_panels(OK, Picture(GREY, GREY, heat)), 2).astype(int)
    zero, unmeasured = panel[20:300, 10:200], panel[20:300, 220:400]
    assert unmeasured.mean() > zero.mean() + 60
    assert len(np.unique(zero)) <= 3
    assert unmeasured.std() > 10  # hatched


def test_a_finding_has_a_box_in_its_kinds_colour_at_its_place() -> None:
    finding = Finding("spill", (100, 100, 200, 200), 1e4, 5.0, None)
    panel = _panel(draw_panels(replace(OK, findings=(finding,)), _picture()), 3)
    rows, columns = np.nonzero((panel == np.array(KIND_COLOURS["spill"])).all(axis=2)[106:])
    assert (columns.min(), columns.max()) == pytest.approx((105, 210), abs=2)
    assert rows.max() + 106 == pytest.approx(210, abs=2)


@pytest.mark.parametrize("kind", get_args(Kind))
def test_a_finding_without_a_place_is_named(kind: Kind) -> None:
    finding = Finding(kind, None, None, 5.0, None)
    panel = _panel(draw_panels(replace(OK, findings=(finding,)), _picture()), 3)
    assert _has(panel, KIND_COLOURS[kind])


def test_boxes_that_leave_the_picture_and_crowds_of_them_are_drawn() -> None:
    boxes = [(-50.0, -50.0, 500.0, 400.0), (399.0, 299.0, 400.0, 300.0)]
    boxes += [(10.0 + k, 10.0, 20.0 + k, 20.0) for k in range(30)]
    findings = tuple(Finding("added", box, 1.0, 3.0 + k, None) for k, box in enumerate(boxes))
    draw_overlay(replace(OK, findings=findings), _picture())


@pytest.mark.parametrize("shape", [(1, 1), (900, 30), (30, 900), (2000, 1500)])
def test_any_size_fits(shape: tuple[int, int]) -> None:
    picture = Picture(np.zeros((*shape, 3), np.uint8), GREY, np.zeros(shape, np.float32))
    assert draw_overlay(OK, picture).shape[1] <= 4 * 428 + 8


def test_what_is_absent_is_said_not_left_out() -> None:
    bare = replace(OK, score=None, p_value=None, threshold=None, references=(), alignment=None)
    nothing = draw_panels(bare, Picture(GREY, None, None))
    card = np.array((34, 38, 44))
    for number in (1, 2):
        panel = _panel(nothing, number)
        assert (panel == card).all(axis=2).mean() > 0.9
        assert not (panel == card).all()  # the words
    unread = draw_panels(OK, Picture(GREY, None, None))
    assert not np.array_equal(_panel(unread, 1), _panel(nothing, 1))


def test_other_alphabets_are_told_apart() -> None:
    assert [_drawable(c) for c in "aü刀\n"] == ["a", "u", "\\u5200", "\\u000a"]
    names = ("刀片", "刀刀", "a\nb", "\udcff", None, "x" * 5000)
    strips = [draw_overlay(replace(OK, product_id=name), _picture())[:40] for name in names]
    assert len({strip.tobytes() for strip in strips}) == len(names)


def test_it_is_written_as_png(tmp_path: Path) -> None:
    path = tmp_path / "new" / "7.png"
    write_overlay(path, OK, _picture())
    with Image.open(path) as image:
        assert image.format == "PNG"
        np.testing.assert_array_equal(np.asarray(image), draw_overlay(OK, _picture()))
    assert [p.name for p in path.parent.iterdir()] == ["7.png"]


def test_a_long_reason_goes_on_in_a_second_line() -> None:
    short, long = (
        draw_overlay(replace(OK, reason=Reason("c", "because " * words)), _picture())
        for words in (2, 60)
    )
    more = long.shape[0] - short.shape[0]
    assert 10 < more < 30
    assert not (long[60 : 60 + more, 8:200] == long[60, 0]).all()  # something stands there
