"""`amiss inspect`, `confirm` and `demo` as a shell sees them: stdout, exit codes, files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import pytest
from typer.testing import CliRunner

import anomaly.inspector
from anomaly import load_item_schema, load_schema
from anomaly.cli import app, main
from anomaly.demo import run_demo
from anomaly.errors import ConfigError
from anomaly.log import InspectionLog
from anomaly.studio import Damage

CARTON, SET = "s0-carton-0", "s0-razor-set"


@pytest.fixture(scope="session")
def shots(tmp_path_factory: pytest.TempPathFactory, shoot: Callable[..., Any]) -> dict[str, str]:
    """Names of picture files: pristine, torn, gone (a unit), other, broken."""
    home = tmp_path_factory.mktemp("shots")
    taken = {
        "pristine": shoot(CARTON, 1),
        "torn": shoot(CARTON, 3, damage=Damage("tear", strength=0.8)),
        "other": shoot(SET, 1),
    }
    for name, photograph in taken.items():
        cv2.imwrite(str(home / f"{name}.png"), photograph.image[:, :, ::-1])
    (home / "broken.png").write_bytes(b"nothing")
    return {name: str(home / f"{name}.png") for name in (*taken, "broken")}


def _run(*arguments: str) -> Any:
    return CliRunner().invoke(app, arguments)


def _lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_json_lines_follow_the_schema_in_argument_order(shop: Path, shots: dict[str, str]) -> None:
    pictures = [shots[n] for n in ("torn", "pristine", "broken", "other")]
    done = _run("inspect", str(shop), *pictures, "--product", CARTON, "--json")
    assert done.exit_code == 4, done.output  # wins over 1
    rows = _lines(done.stdout)
    assert [row["image"] for row in rows] == pictures
    checker = jsonschema.Draft202012Validator(load_schema())
    for row in rows:
        checker.validate(row)
    assert [row.get("verdict") for row in rows] == ["damaged", "ok", None, "wrong_product"]
    assert rows[2]["error"]["code"]
    assert "broken.png" in rows[2]["error"]["message"]


@pytest.mark.parametrize(("name", "code"), [("pristine", 0), ("torn", 1)])
def test_exit_codes_say_whether_something_is_damaged(
    shop: Path, shots: dict[str, str], name: str, code: int
) -> None:
    done = _run("inspect", str(shop), shots[name], "--product", CARTON)
    assert done.exit_code == code
    assert ("damaged" if code else "ok") in done.stdout
    build = json.loads((shop / "CURRENT").read_text("utf-8"))["build"]
    assert f"({CARTON})" in done.stdout
    assert f"build {build}]" in done.stdout
    said = " ".join(done.stdout.split())
    assert said.count(", threshold ") == said.count("score ") == 1


def test_another_process_gives_the_same_bytes(shop: Path, shots: dict[str, str]) -> None:
    command = [sys.executable, "-m", "anomaly.cli", "inspect", str(shop), shots["torn"],
               shots["pristine"], "--json"]  # fmt: skip
    outputs = []
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 1, done.stderr
        rows = _lines(done.stdout)
        assert all(row.pop("timings_ms") for row in rows)
        outputs.append(json.dumps(rows))
    assert outputs[0] == outputs[1]


def test_out_holds_an_overlay_per_picture_and_one_page(
    shop: Path, shots: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    pictures = [shots["torn"], shots["broken"]]
    assert _run("inspect", str(shop), *pictures, "--out", str(out)).exit_code == 4
    (overlay,) = out.glob("*.png")
    assert cv2.imread(str(overlay)).shape[1] > 800
    page = (out / "report.html").read_text("utf-8")
    assert "damaged" in page
    assert "broken.png" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_log_and_confirm(shop: Path, shots: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = _run("inspect", str(shop), shots["torn"], shots["pristine"], "--log", str(log), "--json")
    rows = _lines(done.stdout)
    name = rows[0]["inspection_id"]
    confirmed = _run("confirm", str(log), name[:8], "damaged", "--kind", "changed")
    assert confirmed.exit_code == 0, confirmed.output
    assert name in confirmed.stdout
    entries = {entry.inspection_id: entry for entry in InspectionLog(log).entries()}
    assert set(entries) == {row["inspection_id"] for row in rows}
    label = entries[name].label
    assert label is not None
    assert (label.label, label.kind) == ("damaged", "changed")
    assert InspectionLog(log).read_image(entries[name].image_sha256)


def test_usage_errors(shop: Path, shots: dict[str, str], tmp_path: Path) -> None:
    both = [shots["torn"], shots["pristine"]]
    assert _run("inspect", str(shop), *both, "--mask", shots["torn"]).exit_code == 2
    command = [sys.executable, "-m", "anomaly.cli"]
    for arguments, code in (
        (["inspect", str(tmp_path), shots["torn"]], 3),
        (["inspect", str(shop), shots["torn"], "--budget", "2"], 2),
        (["confirm", str(tmp_path / "none"), "abcd", "pristine"], 2),
    ):
        done = subprocess.run([*command, *arguments], capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        assert done.stdout == ""
        assert done.stderr.startswith("error ")


def test_the_demo_is_right_about_every_picture(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    outcomes = list(run_demo(out))
    wrong = [outcome.cells() for outcome in outcomes if not outcome.as_expected]
    assert not wrong
    assert len(outcomes) > 35
    page = (out / "report.html").read_text("utf-8")
    assert "unseen-face" in page
    gone = [o for o in outcomes if "razor-set-missing" in o.result.image]
    pristine = [o for o in outcomes if "razor-set-pristine" in o.result.image]
    assert gone[0].result.score > max(o.result.score for o in pristine)  # type: ignore[union-attr]


def test_the_demo_overwrites_nothing_that_is_not_its_own(tmp_path: Path) -> None:
    kept = tmp_path / "kept.txt"
    kept.write_text("mine")
    with pytest.raises(ConfigError, match="something else"):
        next(run_demo(tmp_path))
    assert kept.read_text() == "mine"


def test_views_give_one_line_and_one_row_per_item(
    shop: Path, shots: dict[str, str], tmp_path: Path
) -> None:
    pictures = [shots[n] for n in ("pristine", "torn", "pristine", "broken")]
    out, log = tmp_path / "out", tmp_path / "log"
    command = ["inspect", str(shop), *pictures, "--product", CARTON, "--views", "2"]
    done = _run(*command, "--json", "--out", str(out), "--log", str(log))
    assert done.exit_code == 4, done.output
    rows = _lines(done.stdout)
    checker = jsonschema.Draft202012Validator(load_item_schema())
    for row in rows:
        checker.validate(row)
    assert [row["verdict"] for row in rows] == ["damaged", "cannot_compare"]
    assert [view["image"] for row in rows for view in row["views"]] == pictures
    assert len(list(out.glob("*.png"))) == 3
    page = (out / "report.html").read_text("utf-8")
    assert "4 pictures · 2 items" in page
    assert page.count("<tr data-place") == 2
    assert page.count('<img loading="lazy"') == 3
    assert len(list(InspectionLog(log).entries())) == 2  # the same picture twice is one inspection
    shown = _run(*command)
    assert "view 2 of 2" in shown.stdout
    assert _run("inspect", str(shop), *pictures[:3], "--views", "2").exit_code == 2


@pytest.mark.parametrize("views", [(), ("--views", "2")])
def test_what_was_inspected_before_an_unforeseen_error_is_reported(
    shop: Path,
    shots: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    views: tuple[str, ...],
) -> None:
    monkeypatch.setattr(anomaly.inspector, "inspect_picture", _fails_at(shots["other"]))
    pictures = [shots[n] for n in ("torn", "pristine", "other", "pristine")]
    out, log = tmp_path / "out", tmp_path / "log"
    words = ["inspect", str(shop), *pictures, "--out", str(out), "--log", str(log), *views]
    monkeypatch.setattr(sys, "argv", ["amiss", *words, "--product", CARTON])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 3
    said = capsys.readouterr().err
    assert "ended early: 2 of 4 pictures were inspected" in said
    assert "internal error ValueError: no such thing; while " in said
    assert shots["other"] in said
    page = (out / "report.html").read_text("utf-8")
    assert "Inspection of 2 of 4 pictures" in page
    assert "torn.png" in page
    assert len(list(out.glob("*.png"))) == len(list(InspectionLog(log).entries())) == 2


def _fails_at(picture: str) -> Callable[..., Any]:
    inspect = anomaly.inspector.inspect_picture

    def instead(request: Any, *arguments: Any, **options: Any) -> Any:
        if request.name == picture:
            raise ValueError("no such thing")
        return inspect(request, *arguments, **options)

    return instead
