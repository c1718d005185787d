"""Calibrations on disk: kept whole, served by CURRENT, carried over, checked, let go."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gallery import check, durable, open_catalog, publish, read_current
from gallery.calibrations import (
    adopt_calibration,
    calibration_path,
    list_calibrations,
    read_calibration,
)
from gallery.errors import DamagedGallery, GalleryBusy, NotAGallery, UnknownCalibration
from gallery.history import prune, rollback


def stamped(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, dict[str, Any]], str]:
    """Adopts with a later second each time."""
    import datetime

    import gallery.calibrations as module

    class Clock(datetime.datetime):
        second_now = 0

        @classmethod
        def now(cls, tz: Any = None) -> datetime.datetime:
            cls.second_now += 1
            return datetime.datetime(2026, 1, 1, 0, 0, cls.second_now, tzinfo=tz)

    monkeypatch.setattr(module.datetime, "datetime", Clock)
    return lambda root, body: adopt_calibration(root, body, page="<p>")


def test_one_is_kept_sealed_with_its_page_and_serves(gallery_copy: Path) -> None:
    before = read_current(gallery_copy)
    name = adopt_calibration(gallery_copy, {"budget": 0.005}, page="<html>")
    assert read_calibration(gallery_copy, name)["budget"] == 0.005
    assert (gallery_copy / "calibrations" / f"{name}.html").read_text() == "<html>"
    now = read_current(gallery_copy)
    assert (now.calibration, now.build) == (name, before.build)
    assert check(gallery_copy).sound


def test_where_nothing_is_published_nothing_is_kept(tmp_path: Path) -> None:
    with pytest.raises(NotAGallery):
        adopt_calibration(tmp_path, {"budget": 0.1})
    assert list_calibrations(tmp_path) == []


def test_another_writer_is_waited_for_and_then_named(
    gallery_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gallery.calibrations._WAIT_S", 0.0)
    with durable.writer_lock(gallery_copy / "builds"), pytest.raises(GalleryBusy, match="process"):
        adopt_calibration(gallery_copy, {"budget": 0.1})


def test_publishing_and_rolling_back_keep_it(gallery_copy: Path, build_at: Any) -> None:
    first = read_current(gallery_copy).build
    name = adopt_calibration(gallery_copy, {"budget": 0.1})
    open_catalog(gallery_copy).withdraw("product-00", "00.png", deed="remove", why="test")
    second = build_at(gallery_copy).build_id
    assert second != first
    now = read_current(gallery_copy)
    assert (now.build, now.calibration) == (second, name)
    before = rollback(gallery_copy)
    assert (before.build, before.calibration) == (first, name)
    assert publish(gallery_copy, second).calibration == name


@pytest.mark.parametrize("content", [b"", b"{}", None])
def test_damage_is_an_error_and_check_names_the_file(
    gallery_copy: Path, content: bytes | None
) -> None:
    name = adopt_calibration(gallery_copy, {"budget": 0.005})
    path = calibration_path(gallery_copy, name)
    if content is None:
        value = json.loads(path.read_text())
        content = json.dumps({**value, "budget": 0.5}).encode()
    path.write_bytes(content)
    with pytest.raises(DamagedGallery, match=name):
        read_calibration(gallery_copy, name)
    assert [finding.path for finding in check(gallery_copy).damaged] == [str(path)]


def test_one_that_is_gone_is_missed(gallery_copy: Path) -> None:
    name = adopt_calibration(gallery_copy, {"budget": 0.005}, page="<html>")
    calibration_path(gallery_copy, name).unlink()
    with pytest.raises(UnknownCalibration, match="amiss calibrate"):
        read_calibration(gallery_copy, name)
    report = check(gallery_copy)
    assert [finding.path for finding in report.damaged] == [str(gallery_copy / "CURRENT")]
    assert [Path(orphan).name for orphan in report.orphans] == [f"{name}.html"]


def test_pruning_keeps_the_one_that_serves_and_the_one_before(
    gallery_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopt = stamped(monkeypatch)
    names = [adopt(gallery_copy, {"budget": 0.1 + n}) for n in range(4)]
    assert prune(gallery_copy, keep=1, dry_run=True).calibrations == tuple(names[:2])
    assert list_calibrations(gallery_copy) == names
    assert prune(gallery_copy, keep=1).calibrations == tuple(names[:2])
    left = sorted(path.name for path in (gallery_copy / "calibrations").iterdir())
    assert left == sorted(f"{n}.{end}" for n in names[2:] for end in ("html", "json"))
    assert check(gallery_copy).sound
