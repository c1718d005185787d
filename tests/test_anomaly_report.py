"""The page of a batch: read back with a parser, as a browser would."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomaly.batch_report import BatchReport
from anomaly.report import Row, matches_truth, report_row, write_report
from anomaly.results import (
    AlignmentSummary,
    Calibration,
    Finding,
    Inspection,
    Picture,
    Reason,
    Unreadable,
    Verdict,
)

PIXELS = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
EVIL = "<script>alert('x')</script>\"&"


def _result(verdict: Verdict, score: float | None = 1.0, *, image: str = "a.jpg") -> Inspection:
    return Inspection(
        f"id-{image}", image, "razor-3", "claimed", verdict, Reason("some_code", "it is so"),
        "build-1", 9, "c0", score=score, p_value=None if score is None else 0.25,
        threshold=None if score is None else 2.0, calibration=Calibration("pooled", 3, 0.25),
        findings=(Finding("added", (1, 2, 11, 22), 200, 4.0, None),),
        alignment=AlignmentSummary("aligned", "aa", 40, 0.7, 0.9), timings_ms={"a": 3, "b": 4},
        picture=Picture(PIXELS, PIXELS, np.zeros((48, 64), np.float32)),
    )  # fmt: skip


UNREADABLE = Unreadable("z.jpg", "truncated_image", "z.jpg: ends too early")


class _Page(HTMLParser):
    """Tags with their attributes, and the text of the page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.source = path.read_text("utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def rows(self) -> list[dict[str, str | None]]:
        return [a for a in self.all("tr") if "data-outcome" in a]


def _page(tmp_path: Path, *results: Inspection | Unreadable, **options: object) -> _Page:
    path = tmp_path / "report.html"
    rows = [report_row(result) for result in results]
    write_report(path, rows, title="Line 3", **options)  # type: ignore[arg-type]
    return _Page(path)


def test_a_row_keeps_a_thumbnail_and_drops_the_picture() -> None:
    row = report_row(_result("ok"))
    assert row.thumbnail is not None
    with Image.open(io.BytesIO(row.thumbnail)) as image:
        assert image.format == "JPEG"
        assert image.size == row.size
        assert image.width == pytest.approx(900, abs=30)
    assert "picture" not in row.result
    assert report_row(replace(_result("ok"), picture=None)).thumbnail is None


def test_the_most_suspicious_come_first(tmp_path: Path) -> None:
    order: tuple[Verdict, ...] = (
        "ok", "unknown_product", "wrong_product", "cannot_compare", "review", "damaged",
    )  # fmt: skip
    results = [_result(verdict) for verdict in order]
    page = _page(tmp_path, *results, UNREADABLE, _result("damaged", 9.0), _result("ok", None))
    outcomes = [row["data-outcome"] for row in page.rows()]
    assert outcomes == ["damaged", *order[:0:-1], "error", "ok", "ok"]
    assert [row["data-score"] for row in page.rows()][:2] == ["9.0", "1.0"]
    assert page.rows()[-1]["data-score"] == ""


def test_counts_are_chips_that_filter(tmp_path: Path) -> None:
    page = _page(tmp_path, _result("ok"), _result("ok"), _result("review"), UNREADABLE)
    chips = [a["data-filter"] for a in page.all("button") if "data-filter" in a]
    assert chips == ["review", "error", "ok"]
    assert re.search(r"2\s*ok", page.text)
    assert "4 pictures · build build-1" in page.text


def test_a_row_says_what_the_result_says(tmp_path: Path) -> None:
    page = _page(tmp_path, _result("damaged"))
    for words in ("It is so.", "razor-3", "10 x 20 px at 1, 2", "threshold 2", "pooled, 3",
                  "7 ms", "aligned, 40 inliers, 0.7 px off, 90% shown", "id-a.jpg"):  # fmt: skip
        assert words in page.text
    assert "width:25.0%" in page.source  # 1 of 2, on a bar that ends at 4


def test_nothing_is_loaded_from_outside_and_pictures_have_words(tmp_path: Path) -> None:
    page = _page(tmp_path, _result("ok"))
    assert not page.all("link")
    assert "http://" not in page.source
    assert "https://" not in page.source
    thumbnail = next(image for image in page.all("img") if "src" in image)
    kind, _, data = str(thumbnail["src"]).partition(",")
    assert kind == "data:image/jpeg;base64"
    assert base64.b64decode(data) == report_row(_result("ok")).thumbnail
    assert str(thumbnail["alt"]).startswith("a.jpg")
    headers = [a for a in page.all("th") if "aria-sort" in a]
    assert [a["aria-sort"] for a in headers].count("ascending") == 1
    assert len(headers) == 5
    script = page.source.partition("<script>")[2].partition("</script>")[0]
    assert len(script.splitlines()) < 60


def test_whatever_a_name_holds_stays_text(tmp_path: Path) -> None:
    evil = replace(_result("ok", image=EVIL), product_id=EVIL, reason=Reason("x", EVIL))
    page = _page(tmp_path, evil, Unreadable(EVIL, "x", EVIL), truth={EVIL: EVIL})
    assert len(page.all("script")) == 1
    assert page.rows()[0]["data-product"] is not None
    assert page.source.count("alert('x')") == 0
    assert page.text.count(EVIL) >= 5


def test_names_that_are_no_unicode_are_escaped(tmp_path: Path) -> None:
    page = _page(tmp_path, replace(_result("ok", image="a\udcff.jpg"), product_id="\ud800刀"))
    assert "a\\udcff.jpg" in page.text
    assert "\\ud800刀" in page.text


def test_truth_is_compared(tmp_path: Path) -> None:
    truth = {"a.jpg": "pristine", "b.jpg": "damaged (hole)", "c.jpg": "whatever"}
    results = [_result("ok", image=name) for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg")]
    page = _page(tmp_path, *results, truth=truth)
    assert "1 of 2 as expected" in page.text
    assert page.text.count("✓ as expected") == page.text.count("✗ not as expected") == 1
    assert [row["data-expected"] for row in page.rows()] == ["1", "0", "2", "2"]
    assert {"data-filter": "missed"}.items() <= page.all("button")[1].items()
    assert "expected" not in _page(tmp_path, *results).text.partition("</script>")[0].lower()[:400]


@pytest.mark.parametrize(
    ("outcome", "expected", "matched"),
    [
        ("ok", "pristine", True),
        ("ok", "damaged", False),
        ("review", "damaged or review", True),
        ("review", "damaged|review", True),
        ("damaged", "Damaged (a blade is missing)", True),
        ("wrong_product", "wrong product", True),
        ("error", "unreadable", True),
        ("ok", "who knows", None),
        ("ok", "", None),
    ],
)
def test_what_matches(outcome: str, expected: str, matched: bool | None) -> None:
    assert matches_truth(outcome, expected) is matched


def test_the_same_rows_give_the_same_bytes_and_none_give_a_page(tmp_path: Path) -> None:
    first = _page(tmp_path, _result("ok"), date="2025-01-03").source
    assert first == _page(tmp_path, _result("ok"), date="2025-01-03").source
    assert "2025-01-03" in first
    assert "0 pictures" in _page(tmp_path).text


def test_a_negative_score_and_a_threshold_of_zero_have_no_bar_to_break(tmp_path: Path) -> None:
    page = _page(tmp_path, _result("ok", -3.0), replace(_result("ok"), threshold=0.0))
    assert page.source.count("width:0.0%") == 1


def test_a_row_may_be_made_of_json() -> None:
    assert Row({"error": {"code": "x", "message": "y"}, "image": "a"}).outcome == "error"


def test_overlays_are_named_without_control_characters(tmp_path: Path) -> None:
    report = BatchReport(tmp_path)
    report.add(_result("ok", image="shots/new\nline\x1b[2J.jpg"))
    report.add(_result("ok", image="\udcff" * 90))
    report.finish("both")
    names = sorted(path.name for path in tmp_path.glob("*.png"))
    assert names == ["0000-new\\nline\\x1b[2J.png", "0001-" + "\\xff" * 20 + ".png"]
