"""One writer at a time, on this host by the kernel's lock, between hosts by a lease."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from gallery import create_catalog, open_catalog
from gallery.durable import writer_lock
from gallery.errors import GalleryBusy, GalleryExists, NotAGallery
from gallery.lease import EXPIRES_S, Lease, leased, read_lease, renew, require_lease
from gallery.sources import SourceRow

ELSEWHERE = Lease(4711, "packer-2", "another-kernel", 1000.0)


@contextmanager
def lock_file(folder: Path, holder: Lease | None = None) -> Iterator[int]:
    folder.mkdir(exist_ok=True)
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
    if holder is not None:
        os.write(handle, json.dumps(asdict(holder)).encode())
    try:
        yield handle
    finally:
        os.close(handle)


def test_another_hosts_lease_counts_until_it_runs_out(tmp_path: Path) -> None:
    with lock_file(tmp_path, ELSEWHERE) as handle:
        with (
            pytest.raises(GalleryBusy, match=r"packer-2 .*1970-01-01 00:16:40"),
            leased(handle, tmp_path, clock=lambda: 999.9),
        ):
            pass
        assert read_lease(tmp_path) == ELSEWHERE
        with leased(handle, tmp_path, clock=lambda: 1000.0):
            mine = read_lease(tmp_path)
            assert mine is not None
            assert (mine.process, mine.until) == (os.getpid(), 1000.0 + EXPIRES_S)
        assert read_lease(tmp_path) is None


def test_a_lease_of_this_kernel_counts_for_nothing_once_its_lock_is_free(tmp_path: Path) -> None:
    """The kernel dropped it, so whoever held it is dead, whatever the file says."""
    with lock_file(tmp_path) as handle, leased(handle, tmp_path, clock=lambda: 0.0):
        mine = read_lease(tmp_path)
    assert mine is not None
    dead = Lease(mine.process + 1, mine.host, mine.boot, 1e12)
    with lock_file(tmp_path, dead) as handle, leased(handle, tmp_path, clock=lambda: 0.0):
        assert mine.same_holder(read_lease(tmp_path))


def test_a_lease_is_renewed_and_not_taken_back(tmp_path: Path) -> None:
    now = [0.0]
    with lock_file(tmp_path) as handle, leased(handle, tmp_path, clock=lambda: now[0]):
        now[0] = 60.0
        assert renew(handle, tmp_path, clock=lambda: now[0])
        mine = read_lease(tmp_path)
        assert mine is not None
        assert mine.until == 60.0 + EXPIRES_S
        (tmp_path / "lock").write_text(json.dumps(asdict(ELSEWHERE)))  # it was taken over
        assert not renew(handle, tmp_path, clock=lambda: now[0])
        assert read_lease(tmp_path) == ELSEWHERE
        with pytest.raises(GalleryBusy, match="took over"):
            require_lease(tmp_path)
    assert read_lease(tmp_path) == ELSEWHERE


@pytest.mark.parametrize("text", ["", "process 12 on old-host\n", '{"process": 1}', '{"proc'])
def test_a_lock_file_that_says_nothing_holds_nobody_up(tmp_path: Path, text: str) -> None:
    (tmp_path / "lock").write_text(text)
    with writer_lock(tmp_path):
        assert read_lease(tmp_path) is not None


def test_a_writer_that_was_taken_over_leaves_the_journal_alone(tmp_path: Path, make_png) -> None:
    root = tmp_path / "gallery"
    create_catalog(root)
    (tmp_path / "1.png").write_bytes(make_png(1))

    def overtaken(done: int) -> None:
        (root / "catalog" / "lock").write_text(json.dumps(asdict(ELSEWHERE)))

    rows = [SourceRow("p", tmp_path / "1.png")]
    with pytest.raises(GalleryBusy, match="packer-2 took over"):
        open_catalog(root).import_rows(rows, progress=overtaken)
    assert (root / "catalog" / "journal.jsonl").read_bytes() == b""
    assert open_catalog(root).import_rows(rows).added == 1  # the lease ran out long ago


def _create(root: Path, begin: Any, results: Any) -> None:
    begin.wait(30)
    try:
        create_catalog(root)
        results.put("made")
    except (GalleryBusy, GalleryExists, NotAGallery):
        results.put("told")


def test_of_two_that_make_the_same_gallery_one_does_and_the_other_is_told(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    begin, results = context.Event(), context.Queue()
    jobs = [context.Process(target=_create, args=(tmp_path / "g", begin, results)) for _ in "ab"]
    for job in jobs:
        job.start()
    begin.set()
    assert sorted(results.get(timeout=60) for _ in jobs) == ["made", "told"]
    for job in jobs:
        job.join(30)
    assert open_catalog(tmp_path / "g").rows() == []


def test_a_gallery_made_in_between_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "g"

    @contextmanager
    def late(folder: Path) -> Iterator[None]:
        monkeypatch.undo()
        create_catalog(root)
        with writer_lock(folder):
            yield

    monkeypatch.setattr("gallery.durable.writer_lock", late)
    with pytest.raises(GalleryExists, match="another process"):
        create_catalog(root)
    assert open_catalog(root).rows() == []
