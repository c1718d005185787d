"""`amiss calibrate` as a shell sees it, and what `inspect` says of a calibration."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from anomaly.cli import app
from gallery import read_current
from gallery.calibrations import adopt_calibration, calibration_path, read_calibration
from tests.conftest import SHOP, _encoded


def _run(*arguments: str) -> Any:
    return CliRunner().invoke(app, arguments)


def test_a_calibration_is_made_served_and_followed(shop_copy: Path, tmp_path: Path) -> None:
    done = _run("calibrate", str(shop_copy), "--budget", "0.1", "--review", "0.3", "--json")
    assert done.exit_code == 0, done.output
    row = json.loads(done.stdout)
    assert row["schema"] == "amiss.calibrate/2"
    assert row["calibration_id"] == read_current(shop_copy).calibration
    assert row["counts"] == {"left_out": 12, "normals": 0, "log": 0, "damaged": 0}
    assert (row["attained"], row["points"]) == (True, [])
    (in_place,) = (found for found in row["attainable"] if found["kind"] == "placed")
    assert (in_place["references"], in_place["products"]) == (3, 3)
    assert in_place["rate"] == pytest.approx(1 / 13, abs=1e-6)
    assert _run("check", str(shop_copy)).exit_code == 0
    picture = tmp_path / "picture.png"
    shutil.copy(next((shop_copy / "catalog" / "originals").glob("*/*")), picture)
    seen = _run("inspect", str(shop_copy), str(picture), "--json")
    calibration = json.loads(seen.stdout)["calibration"]
    assert calibration["calibration_id"] == row["calibration_id"]
    assert (calibration["budget"], calibration["review"]) == (0.1, 0.3)


def test_what_cannot_be_promised_is_said(shop_copy: Path) -> None:
    done = _run("calibrate", str(shop_copy), "--budget", "0.005")
    assert done.exit_code == 0, done.output
    assert "0.005" in done.stdout
    assert ".html" in done.stdout
    assert "can't promise the budget" in done.stderr


def _pictures(folder: Path, shoot: Any, product: str) -> Path:
    (folder / product).mkdir(parents=True)
    for take in (31, 32):
        data = _encoded(shoot(SHOP[0], take).image)
        (folder / product / f"{take}.png").write_bytes(data)
    return folder


def test_what_a_new_calibration_forgets_is_said(
    shop_copy: Path, shoot: Any, tmp_path: Path
) -> None:
    normals = _pictures(tmp_path / "normals", shoot, SHOP[0])
    full = ("--budget", "0.1", "--review", "0.3", "--normals", str(normals))
    for _ in range(2):  # the second forgets nothing
        done = _run("calibrate", str(shop_copy), *full)
        assert (done.exit_code, "replaces" in done.stderr) == (0, False), done.output
    before = read_current(shop_copy).calibration
    done = _run("calibrate", str(shop_copy), "--budget", "0.1")
    said = " ".join(done.stderr.split())
    assert f"replaces calibration {before}, which had 2 pristine pictures (now 0)" in said
    assert "a review band of 0.3 (now none)" in said
    before = read_current(shop_copy).calibration
    row = json.loads(_run("calibrate", str(shop_copy), "--budget", "0.2", "--json").stdout)
    assert row["replaced"] == {"calibration_id": before, "normals": 0, "log": 0, "review": None}


@pytest.mark.parametrize("fault", ["unreadable", "unknown"])
def test_pictures_that_cannot_count_are_named_and_make_an_exit_code(
    shop_copy: Path, shoot: Any, tmp_path: Path, fault: str
) -> None:
    unknown = fault == "unknown"
    normals = _pictures(tmp_path / "normals", shoot, "a stranger" if unknown else SHOP[0])
    (normals / SHOP[1]).mkdir()
    reference = next((shop_copy / "catalog" / "originals").glob("*/*"))
    shutil.copy(reference, normals / SHOP[1] / "reference.png")
    options = ("--budget", "0.1", "--normals", str(normals))
    if fault == "unreadable":
        assert _run("calibrate", str(shop_copy), *options).exit_code == 0
        (normals / SHOP[0] / "broken.png").write_bytes(b"no picture")
    done = _run("calibrate", str(shop_copy), *options)
    assert done.exit_code == 4, done.output
    said = "".join(done.stderr.split())
    assert ("astranger" if unknown else "broken.png") in said
    assert read_current(shop_copy).calibration is not None


def test_one_of_another_scoring_is_told_of(shop_copy: Path, tmp_path: Path) -> None:
    assert _run("calibrate", str(shop_copy), "--budget", "0.1").exit_code == 0
    name = read_current(shop_copy).calibration
    assert name is not None
    adopt_calibration(shop_copy, read_calibration(shop_copy, name) | {"scoring": "another"})
    picture = tmp_path / "picture.png"
    shutil.copy(next((shop_copy / "catalog" / "originals").glob("*/*")), picture)
    seen = _run("inspect", str(shop_copy), str(picture), "--json")
    assert "made under another scoring" in seen.stderr
    assert json.loads(seen.stdout)["calibration"]["calibration_id"] is None


def test_usage_errors_leave_what_served(shop_copy: Path) -> None:
    assert _run("calibrate", str(shop_copy)).exit_code == 2
    for options in (
        ("--budget", "0.1", "--review", "0.05"),
        ("--budget", "0"),
        ("--budget", "0.1", "--normals", str(shop_copy / "nowhere")),
        ("--budget", "0.1", "--log", str(shop_copy / "nowhere")),
    ):
        done = _run("calibrate", str(shop_copy), *options)
        assert done.exception is not None, options
    assert read_current(shop_copy).calibration is None
    assert not calibration_path(shop_copy, "any").parent.exists()
