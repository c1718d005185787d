"""Builds over time: differences, going back, letting old ones go."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gallery import Gallery, SourceRow, check, list_builds, open_catalog, publish, read_current
from gallery.durable import writer_lock
from gallery.errors import GalleryBusy, SourceError, UnknownBuild
from gallery.history import diff_builds, prune, rollback

Build = Callable[..., Any]


@pytest.fixture
def add(build_at: Build, make_png: Callable[[int], bytes]) -> Callable[..., str]:
    """Add a picture to a product, rebuild, publish; the new build's ID."""

    def grown(root: Path, seed: int, *, product_id: str = "product-00", **options: Any) -> str:
        path = root.parent / f"{seed}.png"
        path.write_bytes(make_png(seed))
        open_catalog(root).import_rows([SourceRow(product_id, path)])
        return build_at(root, **options).build_id

    return grown


def names(root: Path) -> list[str]:
    return [name for name, _ in list_builds(root)]


# What differs


def test_a_diff_names_products_and_references_of_either_side(
    gallery_copy: Path, add: Callable[..., str], build_at: Build
) -> None:
    old = read_current(gallery_copy).build
    add(gallery_copy, 77)
    add(gallery_copy, 78, product_id="a new one")
    with Gallery.open(gallery_copy) as gallery:
        (gone,) = [r for r in gallery.references("product-01") if r.reference_id][:1]
    open_catalog(gallery_copy).withdraw("product-01", gone.reference_id, deed="remove", why="old")
    new = build_at(gallery_copy).build_id
    found = diff_builds(gallery_copy, old, new)
    assert not found.same
    assert {k: len(v) for k, v in found.added.items()} == {"a new one": 1, "product-00": 1}
    assert found.removed == {"product-01": [gone.reference_id]}
    assert (found.products_added, found.products_removed) == (("a new one",), ())
    back = diff_builds(gallery_copy, new, old)
    assert (back.added, back.removed) == (found.removed, found.added)
    assert diff_builds(gallery_copy, old, old).same
    with pytest.raises(UnknownBuild):
        diff_builds(gallery_copy, old, "20200101T000000Z-0000000000000000")


# Going back


def test_rolling_back_serves_the_build_before_and_leaves_the_catalog(
    gallery_copy: Path, add: Callable[..., str]
) -> None:
    first = read_current(gallery_copy).build
    second = add(gallery_copy, 77)
    deeds = open_catalog(gallery_copy).seq
    assert rollback(gallery_copy).build == first == read_current(gallery_copy).build
    assert open_catalog(gallery_copy).seq == deeds
    assert rollback(gallery_copy, second).build == second
    assert check(gallery_copy).sound
    rollback(gallery_copy)
    with pytest.raises(UnknownBuild, match="no build before"):
        rollback(gallery_copy)
    assert read_current(gallery_copy).build == first


def test_a_build_that_failed_is_not_gone_back_to(
    gallery_copy: Path, add: Callable[..., str], build_at: Build
) -> None:
    first = read_current(gallery_copy).build
    catalog = open_catalog(gallery_copy)
    for row in catalog.rows()[:6]:
        catalog.withdraw(row.product_id, row.reference_id, deed="quarantine", why="test")
    assert not build_at(gallery_copy).passed
    for row in catalog.quarantined():
        catalog.withdraw(row.product_id, row.reference_id, deed="release", why="test")
    add(gallery_copy, 77)
    assert len(names(gallery_copy)) == 3
    assert rollback(gallery_copy).build == first


# Letting go


def test_pruning_keeps_the_newest_and_removes_what_only_the_others_used(
    gallery_copy: Path, add: Callable[..., str]
) -> None:
    builds = [read_current(gallery_copy).build, *(add(gallery_copy, 77 + n) for n in range(3))]
    planned = prune(gallery_copy, keep=2, dry_run=True)
    assert names(gallery_copy) == builds
    gone = prune(gallery_copy, keep=2)
    assert gone == planned
    assert (gone.builds, gone.held) == (tuple(builds[:2]), ())
    assert gone.shards
    assert gone.bytes > 0
    assert names(gallery_copy) == builds[2:]
    report = check(gallery_copy)
    assert report.sound
    assert report.orphans == []
    with Gallery.open(gallery_copy) as gallery:
        assert sum(len(gallery.references(name)) for name in gallery.product_ids()) == 15
    assert prune(gallery_copy, keep=2).builds == ()


def test_what_serves_stays_however_old_it_is(gallery_copy: Path, add: Callable[..., str]) -> None:
    first = read_current(gallery_copy).build
    second, third = add(gallery_copy, 77), add(gallery_copy, 78)
    publish(gallery_copy, first)
    assert prune(gallery_copy, keep=1).builds == (second,)
    assert names(gallery_copy) == [first, third]
    assert check(gallery_copy).sound


def test_a_build_that_a_reader_holds_stays_whole_until_it_lets_go(
    gallery_copy: Path, add: Callable[..., str]
) -> None:
    first = read_current(gallery_copy).build
    reader = Gallery.open(gallery_copy)
    add(gallery_copy, 77)
    gone = prune(gallery_copy, keep=1)
    assert (gone.builds, gone.held) == ((), (first,))
    assert len(reader.references("product-00")) > 0  # its shards are there, too
    reader.close()
    assert prune(gallery_copy, keep=1).builds == (first,)


def test_nothing_is_pruned_while_a_build_is_made(gallery_copy: Path) -> None:
    with writer_lock(gallery_copy / "builds"), pytest.raises(GalleryBusy):
        prune(gallery_copy, keep=1)
    with pytest.raises(ValueError, match="at least 1"):
        prune(gallery_copy, keep=0)


def test_readers_open_what_serves_while_builds_come_and_go(
    gallery_copy: Path, add: Callable[..., str]
) -> None:
    stop, failures, opened = threading.Event(), [], set()

    def read() -> None:
        while not stop.is_set():
            try:
                with Gallery.open(gallery_copy) as gallery:
                    opened.add(gallery.build_id)
                    assert len(gallery.references("product-02")) > 0
            except Exception as error:
                failures.append(error)
                return

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for seed in range(80, 86):
        add(gallery_copy, seed)
        prune(gallery_copy, keep=1)
    stop.set()
    for reader in readers:
        reader.join()
    assert failures == []
    assert read_current(gallery_copy).build in names(gallery_copy)


def test_a_build_without_its_lease_file_stops_pruning(
    gallery_copy: Path, add: Callable[..., str]
) -> None:
    first = read_current(gallery_copy).build
    add(gallery_copy, 77)
    (gallery_copy / "builds" / first / "lease").unlink()
    with pytest.raises(Exception, match="lease file is missing"):
        prune(gallery_copy, keep=1)
    shutil.rmtree(gallery_copy / "builds" / first)


# Withdrawing many


def test_a_whole_product_is_withdrawn_in_one_deed_each_and_only_once(gallery_copy: Path) -> None:
    catalog = open_catalog(gallery_copy)
    mine = [row for row in catalog.rows() if row.product_id == "product-00"]
    done = catalog.withdraw("product-00", None, deed="quarantine", why="new design", by="ana")
    assert done == mine
    seq = catalog.seq
    assert catalog.withdraw("product-00", None, deed="quarantine", why="again") == []
    assert catalog.seq == seq
    by_name = [mine[0].name, mine[1].reference_id[:8]]
    assert catalog.withdraw("product-00", by_name, deed="release", why="fine") == mine[:2]
    with pytest.raises(SourceError, match="no reference 'zz'"):
        catalog.withdraw("product-00", [mine[0].name, "zz"], deed="remove", why="typo")
    assert open_catalog(gallery_copy).seq == catalog.seq
