"""The benchmark page: read back with a parser, as a browser would."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.evaluate import Result, Spread, evaluate
from benchmarks.metrics import average_precision
from benchmarks.records import Provenance, Record, Records
from benchmarks.report import Exhibit, Notable, notable, write_report
from benchmarks.report.curves import (
    Series,
    chart,
    level_axis,
    level_order,
    log_axis,
    pr_curve,
    roc_curve,
    stress,
    stress_series,
    unit_axis,
)

EVIL = "<script>alert('x')</script>\"&"


def _records(names: tuple[str, ...] = ("amiss", "ssim", EVIL)) -> Records:
    rng = np.random.default_rng(0)
    rows = []
    for name, gain in zip(names, (2.0, 1.0, 0.0), strict=False):
        for shots in (1, 4, 16):
            for seed in (0, 1):
                for i in range(24):
                    part = f"rotation {i // 2 % 3 * 45}"
                    score = float(rng.normal() + gain * (i % 2))
                    rows.append(
                        Record(
                            name, "studio", "p", shots, seed, f"{i:02d}{EVIL}", score, part,
                            i % 2 == 1, defect_types=(EVIL,) if i % 2 else (), total_ms=10.0 + i,
                        )
                    )  # fmt: skip
    provenance = [
        Provenance(n, {"size_px": 448, "weights": {"name": EVIL}}, {"k": EVIL}, {"torch": "2.4"},
                   {"processor": "EPYC", "cores": 2}, "2026-11-23", f"run {EVIL}", 99.0)
        for n in names
    ]  # fmt: skip
    return Records(tuple(sorted(rows, key=lambda r: (r.scorer, r.query))), tuple(provenance))


def _jpeg() -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(data, "JPEG")
    return data.getvalue()


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


def _write(path: Path, records: Records, **options: object) -> _Page:
    write_report(path, records, evaluate(records, resamples=50), **options)  # type: ignore[arg-type]
    return _Page(path)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> _Page:
    records = _records()
    shown = notable(records, scorer="amiss", dataset="studio", shots=4, seed=0)
    exhibits = [Exhibit(one, _jpeg()) for one in shown]
    return _write(tmp_path_factory.mktemp("r") / "r.html", records, exhibits=exhibits)


def test_the_page_holds_every_part(page: _Page) -> None:
    titles = [a["aria-label"] for a in page.all("svg") if "aria-label" in a]
    assert titles == [
        "ROC curves, studio, 4 references",
        "PR curves, studio, 4 references",
        "AUROC against latency, studio",
        "AUROC against rotation, studio, 4 references",
    ]
    for words in ("2026-11-23", "EPYC, 2 cores", "144 queries over 2 seeds"[3:], "16 references",
                  "By slice, 4 references", "By type of damage", "rotation 45", "weights.name",
                  "amiss minus this, AUROC", "How it was made"):  # fmt: skip
        assert words in page.text


def test_nothing_runs_and_nothing_is_loaded(page: _Page) -> None:
    assert not page.all("script")
    assert not page.all("link")
    assert "http://" not in page.source
    assert "https://" not in page.source
    assert page.source.count("alert('x')") == 0
    assert page.text.count(EVIL) > 10
    assert any("default-src 'none'" in str(a.get("content")) for a in page.all("meta"))


def test_pictures_are_in_the_page_with_their_rank(page: _Page) -> None:
    images = page.all("img")
    assert images
    kind, _, data = str(images[0]["src"]).partition(",")
    assert kind == "data:image/jpeg;base64"
    assert base64.b64decode(data) == _jpeg()
    assert (images[0]["width"], images[0]["height"]) == ("30", "20")
    assert "Clearly found" in page.text
    assert re.search(r"above \d+% of the pristine", page.text)


def test_light_and_dark_define_the_same_colours(page: _Page) -> None:
    style = page.source.partition("<style>")[2].partition("</style>")[0]
    light, dark = style.split("prefers-color-scheme: dark")
    names = [set(re.findall(r"(--\w+): #", part)) for part in (light, dark)]
    assert names[0] == names[1]
    assert {f"--s{i}" for i in range(8)} <= names[0]


def test_every_chart_is_well_formed_and_inside_its_frame(page: _Page) -> None:
    for text in re.findall(r"<svg viewBox=.*?</svg>", page.source, re.DOTALL):
        drawing = ElementTree.fromstring(text)
        _, _, width, height = map(float, drawing.attrib["viewBox"].split())
        for path in drawing.iter("path"):
            if path.get("class") == "line":
                pairs = re.findall(r"([\d.]+) ([\d.]+)", path.attrib["d"])
                assert all(0 <= float(x) <= width and 0 <= float(y) <= height for x, y in pairs)


def test_same_arguments_same_bytes_and_no_records_a_page(tmp_path: Path) -> None:
    records = _records(("amiss", "ssim"))
    first = _write(tmp_path / "a.html", records).source
    assert first == _write(tmp_path / "b.html", records).source
    assert "No records" in _write(tmp_path / "c.html", Records((), ())).text


def test_asked_for_references_are_shown(tmp_path: Path) -> None:
    records = _records(("amiss",))
    assert "Curves: 16 references" in _write(tmp_path / "a.html", records, shots=16).text
    assert "Curves: 4 references" in _write(tmp_path / "b.html", records, shots=7).text


def _scores(pairs: list[tuple[float, bool]], seed: int = 0) -> list[Record]:
    return [
        Record("amiss", "set", "p", 1, seed, f"{i:03d}", score, damaged=label)
        for i, (score, label) in enumerate(pairs)
    ]


def test_curves_by_hand() -> None:
    rows = _scores([(4, True), (3, False), (2, True), (1, False)])
    x, y = roc_curve(rows)
    np.testing.assert_allclose(y[[0, 100, 200]], [0.5, 1, 1])
    np.testing.assert_allclose(np.interp(0.25, x, y), 0.75)
    x, y = pr_curve(rows)
    np.testing.assert_allclose(np.interp([0.3, 0.5, 0.8], x, y), [1, 1, 2 / 3])
    both = rows + _scores([(1, True), (2, False)], seed=1)
    np.testing.assert_allclose(pr_curve(both)[1][10], (1 + 0.5) / 2)
    assert roc_curve(_scores([(1, True)]))[1].size == 0


def test_the_area_below_the_pr_curve_is_average_precision() -> None:
    rng = np.random.default_rng(1)
    pairs = [(float(rng.normal() + label), bool(label)) for label in rng.random(300) < 0.4]
    _, y = pr_curve(_scores(pairs))
    expected = average_precision([s for s, _ in pairs], [d for _, d in pairs])
    assert y.mean() == pytest.approx(float(expected), abs=0.01)


def test_axes_hold_their_ends_and_ticks() -> None:
    axis = log_axis("ms", [5.0, 200.0, 0.0])
    assert 0 < axis.place(5.0) < axis.place(30.0) < axis.place(200.0) < 1
    assert [text for _, text in axis.ticks] == ["10", "30", "100", "300"]
    assert axis.place(0.0) == 0
    assert [text for _, text in unit_axis("x").ticks] == ["1", "0.8", "0.6", "0.4", "0.2", "0"]
    assert unit_axis("x", low=0.9).place(0.95) == pytest.approx(0.5)
    assert len(level_axis("degrees", range(0, 190, 10)).ticks) <= 7
    assert log_axis("ms", [0.0]).ticks


def test_marks_and_bars_are_drawn() -> None:
    one = Series(EVIL, 9, [0.0, 1.0], [0.5, 0.9], spread=[0.1, 0.0], radii=[2, 5])
    text = chart([one], unit_axis("x"), unit_axis("y"), title=EVIL, points=True)
    drawing = ElementTree.fromstring(text)
    assert [c.get("r") for c in drawing.iter("circle")] == ["2", "5"]
    assert sum(p.get("class") == "bar" for p in drawing.iter("path")) == 1
    assert drawing.attrib["aria-label"] == EVIL
    assert 's1"' in text  # colours come round again


def test_numbered_slices_are_levels_of_a_family() -> None:
    figures = {f"rotation {d}": {"auroc": Spread(1 - d / 360, 0.01)} for d in (180, 0, 45)} | {
        "perspective 0.1": {"auroc": Spread(0.9, None)},
        "glare": {"auroc": Spread(0.5, None)},
    }
    result = Result("studio", "amiss", 4, (0,), 9, 3, {}, figures, {}, {"median": 1.0}, 1.0)
    assert list(stress([result])) == ["rotation"]  # one level of perspective is no curve
    series = stress_series(result, "rotation", 0)
    assert series.x == [0, 45, 180]
    assert series.y == [1, 0.875, 0.5]
    names = ["rotation 135", "glare", "rotation 45", "rotation 0"]
    assert sorted(names, key=level_order) == ["glare", *names[:1:-1], names[0]]


def test_notable_queries_are_the_best_and_the_worst() -> None:
    pairs = [(9, True), (5, True), (1, True), (7, False), (2, False), (0, False)]
    records = Records(tuple(_scores([(float(s), d) for s, d in pairs])), ())
    asked = {"scorer": "amiss", "dataset": "set", "shots": 1, "seed": 0}
    shown = notable(records, **asked, count=2)  # type: ignore[arg-type]
    assert [(one.kind, one.record.score) for one in shown] == [
        ("found", 9), ("found", 5), ("missed", 1), ("missed", 5), ("alarmed", 7), ("alarmed", 2),
    ]  # fmt: skip
    assert [round(one.share, 2) for one in shown] == [1, 0.67, 0.33, 0.67, 0.67, 0.33]
    clean = Records(tuple(_scores([(2.0, True), (1.0, False)])), ())
    assert [one.kind for one in notable(clean, **asked)] == ["found"]  # type: ignore[arg-type]
    assert notable(records, scorer="amiss", dataset="set", shots=1, seed=7) == ()
    assert isinstance(shown[0], Notable)
