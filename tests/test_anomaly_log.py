"""The log: what was appended is read back, by many processes, after crashes and bit flips."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from anomaly.errors import LogError
from anomaly.log import InspectionLog
from anomaly.results import Inspection, Reason
from anomaly.schema import as_json
from gallery.errors import StorageError

RESULT = Inspection(
    "abcd0001", "in/7.jpg", "razor-3", "claimed", "ok", Reason("like_references", "all explained"),
    "b1", 9, "c0", score=1.0, p_value=0.4, threshold=3.0,
)  # fmt: skip
WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_anomaly_log import RESULT
from dataclasses import replace
from anomaly.log import InspectionLog
log = InspectionLog(Path({folder!r}))
print("ready", flush=True)
sys.stdin.readline()
for k in range(25):
    log.append(replace(RESULT, inspection_id=f"{name}-{{k:04d}}"), b"same picture")
"""


@pytest.fixture
def log(tmp_path: Path) -> InspectionLog:
    log = InspectionLog(tmp_path / "log")
    for name in ("abcd0001", "abcd0002", "ffff0003"):
        log.append(replace(RESULT, inspection_id=name), name.encode())
    return log


def _file(log: InspectionLog) -> Path:
    return log.folder / "log.jsonl"


def _ids(log: InspectionLog) -> list[str]:
    return [entry.inspection_id for entry in log.entries()]


def test_what_was_appended_is_read_back(log: InspectionLog) -> None:
    first = next(log.entries())
    assert first.result == as_json(RESULT)
    assert first.label is None
    assert first.time.endswith("+00:00")
    assert first.image_sha256 == hashlib.sha256(b"abcd0001").hexdigest()
    assert log.read_image(first.image_sha256) == b"abcd0001"
    assert _ids(log) == ["abcd0001", "abcd0002", "ffff0003"]


def test_the_mask_of_an_inspection_is_kept_and_lines_without_one_stay_as_they_were(
    log: InspectionLog,
) -> None:
    assert {entry.mask_sha256 for entry in log.entries()} == {None}
    assert b"mask" not in _file(log).read_bytes()
    log.append(replace(RESULT, inspection_id="ffff0004"), b"picture", mask_bytes=b"mask")
    last = list(log.entries())[-1]
    assert last.mask_sha256 is not None
    assert log.read_image(last.mask_sha256) == b"mask"
    assert log.read_image(last.image_sha256) == b"picture"


def test_lines_are_json_with_a_format_and_a_check(log: InspectionLog) -> None:
    log.confirm("ffff0003", "damaged", kind="spill", by="ada")
    lines = [json.loads(line) for line in _file(log).read_text("ascii").splitlines()]
    assert all(line["format"] == 1 and len(line["check"]) == 16 for line in lines)
    assert [line["kind"] for line in lines] == ["inspection"] * 3 + ["label"]


def test_a_later_label_wins(log: InspectionLog) -> None:
    log.confirm("abcd0001", "pristine")
    log.confirm("abcd0001", "damaged", kind="missing", by="ada")
    label = next(log.entries()).label
    assert label is not None
    assert (label.label, label.kind, label.by) == ("damaged", "missing", "ada")
    assert [entry.label for entry in log.entries()][1:] == [None, None]


def test_an_inspection_appended_again_is_kept_and_yielded_once(log: InspectionLog) -> None:
    log.confirm("abcd0001", "pristine")
    log.append(replace(RESULT, verdict="review"), b"abcd0001")
    assert len(_file(log).read_bytes().splitlines()) == 5
    assert _ids(log) == ["abcd0002", "ffff0003", "abcd0001"]
    last = list(log.entries())[-1]
    assert last.result["verdict"] == "review"
    assert last.label is not None
    assert len([p for p in (log.folder / "images").rglob("*") if p.is_file()]) == 3


def test_the_start_of_an_id_is_enough_when_it_fits_one(log: InspectionLog) -> None:
    log.confirm("ffff", "pristine")
    assert [entry.label is not None for entry in log.entries()] == [False, False, True]
    with pytest.raises(LogError, match="'abcd' fits 2 of the log, among them abcd0001, abcd0002"):
        log.confirm("abcd", "pristine")
    with pytest.raises(LogError, match="give at least 4 characters"):
        log.confirm("f", "pristine")


def test_an_id_that_starts_another_is_itself(log: InspectionLog) -> None:
    log.append(replace(RESULT, inspection_id="ffff"), b"x")
    log.confirm("ffff", "pristine")
    assert [entry.inspection_id for entry in log.entries() if entry.label] == ["ffff"]


def test_what_cannot_be_confirmed_says_why_and_writes_nothing(log: InspectionLog) -> None:
    before = _file(log).read_bytes()
    with pytest.raises(LogError, match="among the log's 3; the nearest: abcd000"):
        log.confirm("abcd0009", "pristine")
    with pytest.raises(LogError, match="the last: abcd0001, abcd0002, ffff0003"):
        log.confirm("zzzzzz", "pristine")
    with pytest.raises(LogError, match="label 'fine'; expected pristine or damaged"):
        log.confirm("abcd0001", "fine")
    with pytest.raises(LogError, match="expected one of added, missing, changed, spill"):
        log.confirm("abcd0001", "damaged", kind="scratch")
    with pytest.raises(LogError, match="goes with damaged only"):
        log.confirm("abcd0001", "pristine", kind="spill")
    assert _file(log).read_bytes() == before


def test_what_is_no_log_is_refused(tmp_path: Path) -> None:
    absent = InspectionLog(tmp_path / "new")
    for ask in (lambda: absent.confirm("abcd", "pristine"), lambda: list(absent.entries())):
        with pytest.raises(LogError, match=r"not a log \(no log.jsonl\)"):
            ask()
    assert not absent.folder.exists()
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(LogError, match="not empty and not a log"):
        InspectionLog(tmp_path)
    with pytest.raises(LogError, match="a file, not a log"):
        InspectionLog(tmp_path / "holiday.jpg")


def test_processes_append_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    tests = str(Path(__file__).parent)
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER.format(tests=tests, folder=str(folder), name=name)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for name in ("first", "second")
    ]  # fmt: skip
    for writer in writers:  # both are up before either is let go
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    ids = _ids(InspectionLog(folder))
    assert sorted(ids) == sorted(
        f"{name}-{k:04d}" for name in ("first", "second") for k in range(25)
    )


@pytest.mark.parametrize("kept", [1, 40, -1])
def test_a_torn_last_line_is_no_part_of_the_log(log: InspectionLog, kept: int) -> None:
    whole = _file(log).read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    _file(log).write_bytes(whole + last[:kept])
    assert len(_ids(log)) == 3
    log.append(replace(RESULT, inspection_id="eeee0004"), b"y")
    assert _file(log).read_bytes().startswith(whole)
    assert _ids(log)[-1] == "eeee0004"
    assert len(_ids(log)) == 4


def test_a_first_line_that_is_torn_leaves_an_empty_log(log: InspectionLog) -> None:
    _file(log).write_bytes(b"x" * 200_000)  # longer than what is read at once
    assert _ids(log) == []
    log.append(RESULT, b"y")
    assert _ids(log) == ["abcd0001"]


def test_every_flipped_byte_is_found_and_its_line_named(log: InspectionLog) -> None:
    whole = _file(log).read_bytes()
    lines = whole.splitlines(keepends=True)
    start = len(lines[0])
    for at in range(start, start + len(lines[1]), 7):
        damaged = bytearray(whole)
        damaged[at] ^= 4
        _file(log).write_bytes(damaged)
        with pytest.raises(LogError, match=r"log\.jsonl line 2: the line is damaged"):
            list(log.entries())


def test_a_log_of_a_later_version_is_not_guessed_at(log: InspectionLog) -> None:
    from anomaly.log import _sealed

    _file(log).write_bytes(_sealed({"format": 2, "kind": "inspection"}))
    with pytest.raises(LogError, match="line 1: written in format 2, this version reads 1"):
        list(log.entries())


def test_names_that_are_no_unicode_go_through(log: InspectionLog) -> None:
    log.append(replace(RESULT, inspection_id="e1", image="a\udcff刀.jpg"), b"x")
    assert list(log.entries())[-1].result["image"] == "a\udcff刀.jpg"


def test_a_damaged_picture_is_found_and_healed(log: InspectionLog) -> None:
    digest = hashlib.sha256(b"abcd0001").hexdigest()
    log.image_path(digest).write_bytes(b"other")
    with pytest.raises(LogError, match="sha256 differs"):
        log.read_image(digest)
    log.append(RESULT, b"abcd0001")
    assert log.read_image(digest) == b"abcd0001"
    with pytest.raises(LogError, match="can't be read"):
        log.read_image("0" * 64)


def test_readers_see_what_was_whole_when_they_began(log: InspectionLog) -> None:
    entries = log.entries()
    next(entries)
    log.append(replace(RESULT, inspection_id="eeee0004"), b"y")
    assert [entry.inspection_id for entry in entries] == ["abcd0002", "ffff0003"]


def test_a_disk_that_takes_half_a_line_is_told(
    log: InspectionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr("anomaly.log.os.write", lambda handle, data: write(handle, data[:50]))
        with pytest.raises(StorageError, match="is it full"):
            log.confirm("ffff0003", "pristine")
    log.confirm("ffff0003", "damaged")
    labels = [entry.label.label for entry in log.entries() if entry.label]
    assert labels == ["damaged"]
