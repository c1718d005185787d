"""Which build serves, and what a reader holds on to."""

from __future__ import annotations

import fcntl
import json
import os
import pickle
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from embeddings import fake_embedder, read_image
from gallery import (
    Gallery,
    GalleryError,
    describe,
    list_builds,
    open_catalog,
    publish,
    read_current,
)
from gallery.compress import encode_layer
from gallery.durable import write_sealed
from gallery.errors import (
    DamagedGallery,
    GalleryBusy,
    NotAGallery,
    UnknownBuild,
    UnknownProduct,
    UnsupportedFormat,
)


@pytest.fixture
def opened(sound_gallery: Path):
    with Gallery.open(sound_gallery) as gallery:
        yield gallery


def grow(root: Path, data: bytes, build_at) -> str:
    """Add a reference to `product-00`, rebuild and publish; the new build's ID."""
    from gallery import SourceRow

    path = root.parent / "grown.png"
    path.write_bytes(data)
    open_catalog(root).import_rows([SourceRow("product-00", path)])
    report = build_at(root)
    assert report.published
    return report.build_id


# CURRENT


def test_current_is_one_file_that_names_the_build_and_the_catalog(sound_gallery: Path) -> None:
    current = read_current(sound_gallery)
    assert [name for name, _ in list_builds(sound_gallery)] == [current.build]
    assert (current.calibration, current.catalog_seq) == (None, 12)


def test_publishing_an_older_build_rolls_back(gallery_copy: Path, build_at, make_png) -> None:
    old = read_current(gallery_copy).build
    new = grow(gallery_copy, make_png(77), build_at)
    assert read_current(gallery_copy).build == new != old
    publish(gallery_copy, old)
    with Gallery.open(gallery_copy) as gallery:
        assert (gallery.build_id, gallery.manifest.references) == (old, 12)
    with Gallery.open(gallery_copy, build=new) as gallery:
        assert gallery.manifest.references == 13


def test_readers_of_current_see_the_old_build_or_the_new_one_and_nothing_else(
    gallery_copy: Path, build_at, make_png
) -> None:
    old = read_current(gallery_copy).build
    new = grow(gallery_copy, make_png(77), build_at)
    seen, stop = set(), threading.Event()

    def read() -> None:
        while not stop.is_set():
            try:
                seen.add(read_current(gallery_copy).build)
            except GalleryError as error:
                seen.add(str(error))

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(30):
        publish(gallery_copy, (old, new)[turn % 2])
    stop.set()
    reader.join()
    assert seen <= {old, new}
    assert [p.name for p in gallery_copy.glob(".partial-*")] == []


def test_a_publish_that_the_disk_refuses_leaves_current_as_it_was(
    gallery_copy: Path, build_at, make_png, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(gallery_copy, make_png(77), build_at)
    before, first = (gallery_copy / "CURRENT").read_bytes(), list_builds(gallery_copy)[0][0]

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(GalleryError, match="No space"):
        publish(gallery_copy, first)
    assert (gallery_copy / "CURRENT").read_bytes() == before
    assert list(gallery_copy.glob(".partial-*")) == []


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff\xfe", b'{"format": 1}', b"null"])
def test_a_damaged_current_is_named(gallery_copy: Path, content: bytes) -> None:
    (gallery_copy / "CURRENT").write_bytes(content)
    for read in (read_current, Gallery.open):
        with pytest.raises(DamagedGallery, match="CURRENT"):
            read(gallery_copy)


def test_a_current_of_a_later_format_is_refused_as_such(gallery_copy: Path) -> None:
    path = gallery_copy / "CURRENT"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    with pytest.raises(UnsupportedFormat, match="format 2"):
        Gallery.open(gallery_copy)


def test_a_current_that_names_no_build_is_an_unknown_build(gallery_copy: Path) -> None:
    body: dict[str, object] = {"build": "20240101T000000Z-0", "calibration": None, "catalog_seq": 1}
    write_sealed(gallery_copy / "CURRENT", body)
    with pytest.raises(UnknownBuild, match="20240101T000000Z-0"):
        Gallery.open(gallery_copy)


def test_publishing_an_unknown_build_leaves_current_alone(gallery_copy: Path) -> None:
    before = (gallery_copy / "CURRENT").read_bytes()
    with pytest.raises(UnknownBuild):
        publish(gallery_copy, "no-such-build")
    assert (gallery_copy / "CURRENT").read_bytes() == before


# Opening


@pytest.mark.parametrize("made", ["absent", "empty", "catalog"])
def test_what_is_no_published_gallery_is_refused(
    tmp_path: Path, sound_gallery: Path, made: str
) -> None:
    root = tmp_path / "g"
    if made == "empty":
        root.mkdir()
    if made == "catalog":
        shutil.copytree(sound_gallery / "catalog", root / "catalog")
    with pytest.raises(NotAGallery, match="rebuild" if made == "catalog" else "not a gallery"):
        Gallery.open(root)
    if made == "absent":
        assert not root.exists()


def test_a_missing_or_short_file_is_named_at_opening(gallery_copy: Path) -> None:
    with Gallery.open(gallery_copy) as gallery:
        names = list(gallery.manifest.all_files(gallery.build_id))
    assert len(names) == 7
    for name in names:
        path = gallery_copy / name
        data = path.read_bytes()
        for content in (None, data[:-1]):
            path.unlink() if content is None else path.write_bytes(content)
            with pytest.raises(DamagedGallery, match=path.name):
                Gallery.open(gallery_copy)
            path.write_bytes(data)
    Gallery.open(gallery_copy).close()


def test_a_published_gallery_is_read_without_a_single_write(sound_gallery: Path) -> None:
    """Tests may run as root, whom modes don't stop: compare what is on the disk instead."""

    def state() -> list[tuple[str, int, int]]:
        found = ((str(p), p.stat()) for p in sorted(sound_gallery.rglob("*")))
        return [(name, s.st_size, s.st_mtime_ns) for name, s in found]

    before = state()
    with Gallery.open(sound_gallery) as gallery:
        for name in gallery.product_ids():
            gallery.references(name)
        gallery.index.search(gallery.vectors("product-00")[0], count=3)
    assert state() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write wherever it likes")
def test_a_read_only_folder_is_enough_to_read(gallery_copy: Path) -> None:
    everything = [gallery_copy, *gallery_copy.rglob("*")]
    for path in everything:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        with Gallery.open(gallery_copy) as gallery:
            assert len(gallery.references("product-01")) == 3
    finally:
        for path in everything:
            path.chmod(0o755)


# Reading


def test_references_are_what_describing_the_originals_gives(opened: Gallery) -> None:
    catalog = open_catalog(opened.root)
    embedder = fake_embedder(size_px=64)
    for row in catalog.rows():
        image = read_image(catalog.read_original(row.image))
        expected = describe(image, embedder)
        found = opened.reference(row.product_id, row.reference_id)
        np.testing.assert_array_equal(found.vector, expected.vector)
        np.testing.assert_array_equal(found.keypoints.points_xy, expected.keypoints.points_xy)
        np.testing.assert_array_equal(found.foreground.mask, expected.foreground.mask)
        for was, now in zip(expected.patches.layers, found.patches.layers, strict=True):
            half = encode_layer(was).step / 2
            assert np.abs(was.features - now.features).max() <= half * (1 + 1e-5)


def test_references_come_in_slot_order_with_their_vectors(opened: Gallery) -> None:
    rows = open_catalog(opened.root).rows()
    for name in opened.product_ids():
        references = opened.references(name)
        assert [r.reference_id for r in references] == [
            r.reference_id for r in rows if r.product_id == name
        ]
        np.testing.assert_array_equal(opened.vectors(name), [r.vector for r in references])


def test_an_unknown_product_or_reference_is_refused_by_name(opened: Gallery) -> None:
    for ask in (opened.stored, opened.references, opened.vectors):
        with pytest.raises(UnknownProduct, match="razor"):
            ask("razor")
    known = opened.stored("product-01").references[0].reference_id
    with pytest.raises(UnknownProduct, match=known):
        opened.reference("product-00", known)
    assert opened.reference("product-01", known).product_id == "product-01"


@pytest.mark.parametrize("name", ["razor", "", "a\nb", "x" * 2000, "product-0"])
def test_containment_is_a_question_that_always_has_an_answer(opened: Gallery, name: str) -> None:
    assert name not in opened
    assert "product-00" in opened


def test_a_reader_keeps_its_build_when_a_newer_one_is_published(
    gallery_copy: Path, build_at, make_png
) -> None:
    with Gallery.open(gallery_copy) as old:
        before = old.vectors("product-00")
        new = grow(gallery_copy, make_png(77), build_at)
        assert old.build_id != new
        np.testing.assert_array_equal(old.vectors("product-00"), before)
        assert len(old.index) == 12
        with Gallery.open(gallery_copy) as later:
            assert (later.build_id, len(later.references("product-00"))) == (new, 4)
        assert len(old.references("product-00")) == 3  # closing one takes nothing from the other


def test_a_pickled_gallery_opens_its_own_build_and_not_the_newest(
    gallery_copy: Path, build_at, make_png
) -> None:
    with Gallery.open(gallery_copy) as gallery:
        data, build_id = pickle.dumps(gallery), gallery.build_id
    grow(gallery_copy, make_png(77), build_at)
    with pickle.loads(data) as copy:
        assert copy.build_id == build_id
        assert len(copy.references("product-00")) == 3


def test_a_lease_is_held_exactly_while_the_gallery_is_open(gallery_copy: Path) -> None:
    path = gallery_copy / "builds" / read_current(gallery_copy).build / "lease"

    def taken() -> bool:
        handle = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False

    assert not taken()
    with Gallery.open(gallery_copy), Gallery.open(gallery_copy) as second:
        second.close()
        assert taken()
    assert not taken()


def test_a_flipped_byte_in_the_product_table_is_an_error_and_not_an_answer(
    gallery_copy: Path, flip
) -> None:
    build = gallery_copy / "builds" / read_current(gallery_copy).build
    size = (build / "products.parquet").stat().st_size
    for position in range(0, size, 97):
        flip(build / "products.parquet", position)
        with Gallery.open(gallery_copy) as gallery, pytest.raises(DamagedGallery, match="parquet"):
            gallery.product_id_of(0)
        flip(build / "products.parquet", position)


def test_a_build_cut_short_before_publishing_is_published_by_the_next_run(
    make_gallery, build_at
) -> None:
    root = make_gallery()
    build_id = read_current(root).build
    (root / "CURRENT").unlink()
    report = build_at(root)
    assert (report.build_id, report.unchanged, report.published) == (build_id, False, True)
    assert read_current(root).build == build_id
    assert build_at(root).unchanged


def test_publishing_over_another_build_than_the_parent_is_refused(
    make_gallery,
) -> None:
    root = make_gallery()
    serving = read_current(root).build
    with pytest.raises(GalleryBusy, match=serving):
        publish(root, serving, replacing="another")
    assert read_current(root).build == serving
    assert publish(root, serving, replacing=serving).build == serving
