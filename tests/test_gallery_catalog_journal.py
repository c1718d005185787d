"""The catalog's journal: what it remembers of withdrawals and replacements, and its damage."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from catalog_files import journal, keys

from gallery import create_catalog, open_catalog
from gallery.errors import DamagedGallery, SourceError, StorageError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    create_catalog(tmp_path / "gallery")
    return tmp_path / "gallery"


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
