"""The catalog: what an import accepts, and who may write."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from catalog_files import journal, keys
from PIL import Image

from gallery import SourceRow, create_catalog, open_catalog
from gallery.errors import DamagedGallery, GalleryBusy, NotAGallery


@pytest.fixture
def root(tmp_path: Path) -> Path:
    create_catalog(tmp_path / "gallery")
    return tmp_path / "gallery"


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


@pytest.mark.parametrize(
    ("height", "width", "accepted"),
    [(1, 1, False), (17, 30, False), (31, 64, False), (10, 4000, False), (640, 39, False),
     (32, 32, True), (640, 40, True)],
)  # fmt: skip
def test_what_is_too_small_to_show_a_product_is_a_named_problem_and_the_others_come_in(
    root: Path, tmp_path: Path, row, height: int, width: int, accepted: bool
) -> None:
    path = tmp_path / "odd.png"
    Image.new("RGB", (width, height), "red").save(path)
    report = open_catalog(root).import_rows([SourceRow("p", path), row("p", 1)])
    assert report.added == 1 + accepted
    problems = [(p.code, "odd.png: " in p.message) for p in report.problems]
    assert problems == ([] if accepted else [("image_too_small", True)])
    if not accepted:
        assert f"{width}x{height}" in report.problems[0].message


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
