"""The catalog: what an import accepts, what the journal remembers, who may write."""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gallery import Catalog, SourceRow, create_catalog, open_catalog
from gallery.errors import DamagedGallery, GalleryBusy, NotAGallery, SourceError, StorageError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    create_catalog(tmp_path / "gallery")
    return tmp_path / "gallery"


@pytest.fixture
def row(tmp_path: Path, make_png):
    """(product_id, seed, **fields) -> a source row with a picture of that seed."""

    def make(product_id: str, seed: int, **fields: Any) -> SourceRow:
        path = tmp_path / "pictures" / f"{seed}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(make_png(seed))
        return SourceRow(product_id, path, where=f"{product_id}:{seed}", **fields)

    return make


def journal(root: Path) -> Path:
    return root / "catalog" / "journal.jsonl"


def keys(catalog: Catalog) -> list[tuple[str, int, int]]:
    return [(r.product_id, r.product_no, r.slot) for r in catalog.rows()]


# Importing


def test_originals_are_stored_byte_for_byte_under_their_sha256(root: Path, row) -> None:
    source = row("p", 1)
    open_catalog(root).import_rows([source])
    (found,) = open_catalog(root).rows()
    data = source.image.read_bytes()
    assert found.image == hashlib.sha256(data).hexdigest()
    path = root / "catalog" / "originals" / found.image[:2] / found.image
    assert path.read_bytes() == data == open_catalog(root).read_original(found.image)
    assert (found.name, found.reference_id) == ("1.png", found.image[:32])


def test_importing_again_adds_nothing_and_leaves_the_journal_alone(root: Path, row) -> None:
    rows = [row("p", 1), row("p", 2), row("q", 3)]
    first = open_catalog(root).import_rows(rows)
    before, state = journal(root).read_bytes(), open_catalog(root).rows()
    again = open_catalog(root).import_rows(rows)
    assert (first.added, again.added, again.duplicates) == (3, 0, 3)
    assert again.problems == []
    assert journal(root).read_bytes() == before
    assert open_catalog(root).rows() == state
    assert again.catalog_seq == first.catalog_seq == 3


def test_a_reopened_catalog_says_what_the_one_that_wrote_it_says(root: Path, row) -> None:
    catalog = open_catalog(root)
    catalog.import_rows([row("p", 1, view="front", variant="v", valid_from="2024-01-01")])
    catalog.import_rows([row("q", 2), row("p", 3)])
    assert open_catalog(root).rows() == catalog.rows()
    assert (catalog.rows()[0].view, catalog.rows()[0].valid_from) == ("front", "2024-01-01")
    assert keys(catalog) == [("p", 0, 0), ("p", 0, 1), ("q", 1, 0)]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_image"),
        (b"no picture at all", "not_an_image"),
        ("truncated", "truncated_image"),
        (None, "image_error"),
    ],
)
def test_an_unreadable_file_among_good_ones_is_a_named_problem_and_the_others_come_in(
    root: Path, row, content: bytes | str | None, code: str
) -> None:
    good, bad, last = row("p", 1), row("p", 2), row("p", 3)
    if content == "truncated":
        content = bad.image.read_bytes()[:-400]
    bad.image.unlink() if content is None else bad.image.write_bytes(content)
    report = open_catalog(root).import_rows([good, bad, last])
    assert report.added == 2
    (problem,) = report.problems
    assert (problem.code, problem.where) == (code, "p:2")
    assert "2.png" in problem.message
    assert [r.name for r in open_catalog(root).rows()] == ["1.png", "3.png"]


def test_a_path_with_a_null_character_is_a_problem_and_the_others_come_in(root: Path, row) -> None:
    report = open_catalog(root).import_rows([SourceRow("p", Path("a\0b.png")), row("p", 1)])
    assert (report.added, len(report.problems)) == (1, 1)


def test_a_file_name_that_is_no_unicode_does_not_stop_the_import(
    root: Path, tmp_path: Path, row, make_png
) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.png")  # as an old Latin-1 archive unpacks
    path.write_bytes(make_png(5))
    report = open_catalog(root).import_rows([SourceRow("p", path), row("p", 1)])
    assert report.added + len(report.problems) == 2
    assert "1.png" in [r.name for r in open_catalog(root).rows()]


def test_the_same_picture_twice_in_a_product_is_one_reference_and_a_note(root: Path, row) -> None:
    report = open_catalog(root).import_rows([row("p", 1), row("p", 1)])
    assert (report.added, report.duplicates) == (1, 1)
    assert [n.code for n in report.notes] == ["duplicate_image"]
    assert report.problems == []


def test_the_same_picture_with_another_view_is_a_problem(root: Path, row) -> None:
    report = open_catalog(root).import_rows([row("p", 1, view="front"), row("p", 1, view="back")])
    assert [p.code for p in report.problems] == ["conflicting_row"]
    assert open_catalog(root).rows()[0].view == "front"


def test_the_same_picture_in_two_products_is_imported_and_noted(root: Path, row) -> None:
    report = open_catalog(root).import_rows([row("p", 1), row("q", 1)])
    assert (report.added, report.problems) == (2, [])
    (note,) = report.notes
    assert (note.code, note.where) == ("shared_image", "q:1")
    assert "'p'" in note.message
    later = open_catalog(root).import_rows([row("r", 1)])  # remembered over a reopening
    assert [n.code for n in later.notes] == ["shared_image"]


@pytest.mark.parametrize(
    ("size", "level", "accepted"), [((48, 64), 9, True), ((64, 48), 9, False), ((48, 64), 0, False)]
)
def test_a_mask_must_have_its_pictures_size_and_mark_something(
    root: Path, tmp_path: Path, row, size: tuple[int, int], level: int, accepted: bool
) -> None:
    from PIL import Image

    Image.fromarray(np.full(size, level, np.uint8)).save(tmp_path / "mask.png")
    report = open_catalog(root).import_rows([row("p", 1, mask=tmp_path / "mask.png")])
    assert report.added == int(accepted)
    assert [p.code for p in report.problems] == ([] if accepted else ["mask_error"])


def test_an_import_does_not_depend_on_threads_or_on_how_it_was_cut(tmp_path: Path, row) -> None:
    rows = [row(f"p{n % 3}", n) for n in range(9)]
    whole, pieces = create_catalog(tmp_path / "whole"), create_catalog(tmp_path / "pieces")
    whole.import_rows(rows, threads=4)
    for start in range(0, 9, 2):
        pieces.import_rows(rows[start : start + 2], threads=1)
    assert whole.rows() == pieces.rows()


def test_progress_is_told_every_row_once(root: Path, row) -> None:
    told: list[int] = []
    open_catalog(root).import_rows([row("p", n) for n in range(5)], progress=told.append)
    assert told == [1, 2, 3, 4, 5]


def test_a_damaged_original_is_healed_by_importing_the_picture_again(root: Path, row, flip) -> None:
    catalog = open_catalog(root)
    catalog.import_rows([row("p", 1)])
    digest = catalog.rows()[0].image
    flip(catalog.original_path(digest), 100)
    with pytest.raises(DamagedGallery, match=digest):
        catalog.read_original(digest)
    catalog.import_rows([row("p", 1)])
    assert hashlib.sha256(catalog.read_original(digest)).hexdigest() == digest


# Withdrawing


def test_numbers_and_slots_are_never_used_again(root: Path, row) -> None:
    catalog = open_catalog(root)
    catalog.import_rows([row("p", 1), row("p", 2), row("q", 3)])
    for r in catalog.rows():
        catalog.withdraw(r.product_id, r.reference_id, deed="remove", why="test")
    assert open_catalog(root).rows() == []
    catalog = open_catalog(root)
    catalog.import_rows([row("r", 4), row("p", 2), row("q", 3)])
    assert keys(catalog) == [("p", 0, 2), ("q", 1, 1), ("r", 2, 0)]
    assert open_catalog(root).rows() == catalog.rows()


def test_a_quarantined_reference_is_withheld_until_it_is_released(root: Path, row) -> None:
    catalog = open_catalog(root)
    catalog.import_rows([row("p", 1), row("p", 2)])
    first, second = catalog.rows()
    catalog.withdraw("p", first.reference_id, deed="quarantine", why="looks torn")
    for seen in (catalog, open_catalog(root)):
        assert (seen.rows(), seen.quarantined()) == ([second], [first])
    assert catalog.import_rows([row("p", 1)]).added == 0  # not a way back in
    catalog.withdraw("p", first.reference_id, deed="release", why="it was the light")
    assert open_catalog(root).rows() == [first, second]
    assert open_catalog(root).quarantined() == []


def test_a_removed_reference_is_out_of_quarantine_when_it_comes_back(root: Path, row) -> None:
    catalog = open_catalog(root)
    catalog.import_rows([row("p", 1)])
    reference_id = catalog.rows()[0].reference_id
    for deed in ("quarantine", "remove"):
        catalog.withdraw("p", reference_id, deed=deed, why="test")
    catalog.import_rows([row("p", 1)])
    assert [r.reference_id for r in open_catalog(root).rows()] == [reference_id]
    assert open_catalog(root).quarantined() == []


@pytest.mark.parametrize(
    ("product_id", "known", "deed"),
    [("q", True, "remove"), ("p", False, "remove"), ("p", True, "add"), ("p", True, "burn")],
)
def test_withdrawing_what_is_not_there_changes_nothing(
    root: Path, row, product_id: str, known: bool, deed: str
) -> None:
    catalog = open_catalog(root)
    catalog.import_rows([row("p", 1)])
    before = journal(root).read_bytes()
    reference_id = catalog.rows()[0].reference_id if known else "0" * 32
    with pytest.raises(SourceError):
        catalog.withdraw(product_id, reference_id, deed=deed, why="test")
    assert journal(root).read_bytes() == before


def test_the_journal_says_who_when_and_why(root: Path, row) -> None:
    catalog = open_catalog(root)
    catalog.import_rows([row("p", 1)], why="first batch", by="ana")
    catalog.withdraw("p", catalog.rows()[0].reference_id, deed="remove", why="torn", by="bo")
    lines = journal(root).read_bytes().splitlines()
    deeds = [json.loads(line.partition(b" ")[2]) for line in lines]
    assert [(d["seq"], d["deed"], d["by"], d["why"]) for d in deeds] == [
        (1, "add", "ana", "first batch"),
        (2, "remove", "bo", "torn"),
    ]
    assert all(d["time"].endswith("+00:00") for d in deeds)


# Damage


@pytest.mark.parametrize("kept", [1, 40, -1])
def test_a_torn_last_line_is_dropped_and_the_next_import_goes_on(
    root: Path, row, kept: int
) -> None:
    catalog = open_catalog(root)
    catalog.import_rows([row("p", 1), row("p", 2)])
    data = journal(root).read_bytes()
    last = data.index(b"\n") + 1
    journal(root).write_bytes(data[:last] + data[last:][:kept])
    assert [r.name for r in open_catalog(root).rows()] == ["1.png"]
    open_catalog(root).import_rows([row("p", 3), row("p", 2)])
    reopened = open_catalog(root)
    assert [(r.name, r.slot) for r in reopened.rows()] == [("1.png", 0), ("3.png", 1), ("2.png", 2)]
    assert reopened.seq == 3


def test_a_last_line_torn_at_any_byte_is_no_part_of_the_journal(root: Path, row) -> None:
    open_catalog(root).import_rows([row("p", 1), row("p", 2)])
    data = journal(root).read_bytes()
    last = data.index(b"\n") + 1
    for end in range(last, len(data)):
        journal(root).write_bytes(data[:end])
        catalog = open_catalog(root)
        assert ([r.name for r in catalog.rows()], catalog.seq) == (["1.png"], 1)
        assert catalog.unfinished_bytes() == end - last


@pytest.mark.parametrize("place", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_a_flipped_byte_in_a_middle_line_is_damage_that_names_the_line(
    root: Path, row, flip, place: float
) -> None:
    open_catalog(root).import_rows([row("p", n) for n in (1, 2, 3)])
    lines = journal(root).read_bytes().splitlines(keepends=True)
    flip(journal(root), len(lines[0]) + round(place * (len(lines[1]) - 1)))
    with pytest.raises(DamagedGallery, match=r"journal\.jsonl line 2"):
        open_catalog(root)


@pytest.mark.parametrize("place", [0.0, 0.5, 0.9])
def test_a_flipped_byte_in_a_whole_last_line_is_damage_and_not_a_crash_to_forget(
    root: Path, row, flip, place: float
) -> None:
    """A line that a crash cut short has no end; this one has, and an import reported it."""
    open_catalog(root).import_rows([row("p", n) for n in (1, 2)])
    lines = journal(root).read_bytes().splitlines(keepends=True)
    flip(journal(root), len(lines[0]) + round(place * (len(lines[1]) - 1)))
    with pytest.raises(DamagedGallery, match=r"journal\.jsonl line 2"):
        open_catalog(root)


def test_a_missing_middle_line_is_damage(root: Path, row) -> None:
    open_catalog(root).import_rows([row("p", n) for n in (1, 2, 3)])
    lines = journal(root).read_bytes().splitlines(keepends=True)
    journal(root).write_bytes(lines[0] + lines[2])
    with pytest.raises(DamagedGallery, match="deed 2 is missing"):
        open_catalog(root)


def test_a_folder_that_is_no_gallery_is_refused_and_left_alone(tmp_path: Path) -> None:
    with pytest.raises(NotAGallery):
        open_catalog(tmp_path)
    (tmp_path / "holiday.txt").write_text("mine")
    with pytest.raises(NotAGallery, match="not empty"):
        create_catalog(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.txt"]


# Two writers


def _import_and_wait(root: Path, rows: list[SourceRow], started: Any) -> None:
    """In another process: import, and stop for good after the first row, lock in hand."""

    def hold(done: int) -> None:
        started.set()
        signal.pause()

    open_catalog(root).import_rows(rows, progress=hold)


def test_a_second_importer_is_told_who_is_busy_and_a_killed_one_blocks_nobody(
    root: Path, row
) -> None:
    open_catalog(root).import_rows([row("p", 1)])
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    other = context.Process(target=_import_and_wait, args=(root, [row("p", 2)], started))
    other.start()
    try:
        assert started.wait(30)
        with pytest.raises(GalleryBusy, match=f"process {other.pid}"):
            open_catalog(root).import_rows([row("p", 3)])
        first = open_catalog(root).rows()[0]
        with pytest.raises(GalleryBusy):
            open_catalog(root).withdraw("p", first.reference_id, deed="remove", why="test")
        assert [r.name for r in open_catalog(root).rows()] == ["1.png"]  # reading needs no lock
    finally:
        other.kill()
        other.join(30)
        other.close()
    assert open_catalog(root).import_rows([row("p", 3)]).added == 1
    assert [r.name for r in open_catalog(root).rows()] == ["1.png", "3.png"]


def test_an_import_sees_what_another_one_added_since_the_catalog_was_opened(
    root: Path, row
) -> None:
    early = open_catalog(root)
    open_catalog(root).import_rows([row("p", 1)])
    early.import_rows([row("q", 2)])
    assert keys(open_catalog(root)) == keys(early) == [("p", 0, 0), ("q", 1, 0)]


# Replacing


def test_a_replaced_reference_is_gone_and_its_view_goes_to_the_new_one(root: Path, row) -> None:
    catalog = open_catalog(root)
    catalog.import_rows([row("p", 1, view="front"), row("p", 2)])
    done = catalog.replace("1.png", row("p", 3), why="sharper", by="ana")
    assert [r.name for r in done.removed] == ["1.png"]
    for seen in (catalog, open_catalog(root)):
        assert [(r.name, r.view, r.slot) for r in seen.rows()] == [
            ("2.png", None, 1), ("3.png", "front", 2),
        ]  # fmt: skip
    last = json.loads(journal(root).read_bytes().splitlines()[-1].partition(b" ")[2])
    assert (last["seq"], last["deed"], last["by"], last["why"]) == (3, "replace", "ana", "sharper")


def test_replacing_again_changes_nothing(root: Path, row) -> None:
    catalog = open_catalog(root)
    catalog.import_rows([row("p", 1)])
    first = catalog.replace("1.png", row("p", 3), why="sharper")
    before = journal(root).read_bytes()
    again = open_catalog(root).replace("1.png", row("p", 3), why="sharper")
    assert (again.removed, again.row) == ((), first.row)
    assert journal(root).read_bytes() == before


def test_a_replaced_reference_leaves_quarantine_with_its_picture(root: Path, row) -> None:
    catalog = open_catalog(root)
    catalog.import_rows([row("p", 1)])
    catalog.withdraw("p", "1.png", deed="quarantine", why="torn")
    catalog.replace("1.png", row("p", 3), why="whole")
    assert [r.name for r in open_catalog(root).rows()] == ["3.png"]
    assert open_catalog(root).quarantined() == []


@pytest.mark.parametrize(
    ("product_id", "old", "seed", "message"),
    [
        ("q", "1.png", 3, "no product"),
        ("p", "9.png", 3, "no reference"),
        ("p", "1.png", 2, "is reference"),
        ("p", "1.png", None, "can't be read"),
    ],
)
def test_a_replacement_that_makes_no_sense_is_refused_and_changes_nothing(
    root: Path, row, product_id: str, old: str, seed: int | None, message: str
) -> None:
    catalog = open_catalog(root)
    catalog.import_rows([row("p", 1), row("p", 2)])
    before = journal(root).read_bytes()
    new = row(product_id, 3 if seed is None else seed)
    if seed is None:
        new.image.unlink()
    with pytest.raises(SourceError, match=message):
        catalog.replace(old, new, why="test")
    assert journal(root).read_bytes() == before
    assert [r.name for r in open_catalog(root).rows()] == ["1.png", "2.png"]


@pytest.mark.parametrize("kept", [1, 40, -1])
def test_a_replacement_cut_short_leaves_the_old_reference_in_service(
    root: Path, row, kept: int
) -> None:
    catalog = open_catalog(root)
    catalog.import_rows([row("p", 1)])
    before = len(journal(root).read_bytes())
    catalog.replace("1.png", row("p", 3), why="sharper")
    data = journal(root).read_bytes()
    journal(root).write_bytes(data[: before + kept] if kept > 0 else data[:kept])
    assert [r.name for r in open_catalog(root).rows()] == ["1.png"]


def test_pipes_and_devices_among_pictures_are_problems_and_hold_nothing_up(
    root: Path, row, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    rows = [
        row("p", 1),
        SourceRow("p", tmp_path / "pipe.png"),
        SourceRow("p", Path("/dev/zero")),
        SourceRow("p", row("p", 2).image, mask=tmp_path / "pipe.png"),
    ]
    report = open_catalog(root).import_rows(rows)
    assert report.added == 1
    assert ["no regular file" in problem.message for problem in report.problems] == [True] * 3


def test_what_could_not_be_written_is_not_remembered_either(
    root: Path, row, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog, rows = open_catalog(root), [row("a", 1), row("a", 2)]
    real = os.fsync

    def full(handle: int) -> None:
        if os.path.samestat(os.fstat(handle), journal(root).stat()):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StorageError):
            catalog.import_rows(rows)
    journal(root).write_bytes(b"")  # what a full disk may leave of it
    assert catalog.import_rows(rows).added == 2
    assert len(open_catalog(root).rows()) == 2
