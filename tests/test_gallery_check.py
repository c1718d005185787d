"""`check` names every damaged file, whatever byte it is, and says what is pending or left over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gallery import SourceRow, check, durable, open_catalog, read_current
from gallery.catalog import FIRST_SETTINGS
from gallery.errors import NotAGallery

FILES = {
    "build manifest": "builds/*/manifest.json",
    "index": "builds/*/index.faiss",
    "product table": "builds/*/products.parquet",
    "gate report": "builds/*/gates.json",
    "report": "builds/*/report.html",
    "records": "shards/*/data.mdb",
    "vectors": "shards/*/vectors.npy",
    "shard manifest": "shards/*/manifest.json",
    "pointer": "CURRENT",
    "catalog head": "catalog/catalog.json",
    "journal": "catalog/journal.jsonl",
    "original": "catalog/originals/*/*",
}


def positions(path: Path, count: int = 12) -> list[int]:
    """First, last and seeded bytes between them."""
    size = path.stat().st_size
    return sorted({0, size - 1, *np.random.default_rng(size).integers(0, size, count).tolist()})


def test_a_fresh_gallery_is_sound_and_all_its_files_were_looked_at(sound_gallery: Path) -> None:
    report = check(sound_gallery)
    assert (report.sound, report.damaged, report.orphans) == (True, [], [])
    assert (report.pending, report.builds) == (0, 1)
    assert report.files == 4 + 3 + 12  # of the build, of its shard, originals


def test_every_kind_of_file_is_tried_below(sound_gallery: Path) -> None:
    tried = {p for pattern in FILES.values() for p in sound_gallery.glob(pattern)}
    others = {p.name for p in sound_gallery.rglob("*") if p.is_file() and p not in tried}
    assert others == {"lease", "lock"}


@pytest.mark.parametrize("kind", FILES)
def test_a_flipped_byte_is_found_in_the_file_where_it_is(
    gallery_copy: Path, flip, kind: str
) -> None:
    path = sorted(gallery_copy.glob(FILES[kind]))[0]
    missed = []
    for position in positions(path):
        for mask in (0x01, 0x80):
            flip(path, position, mask)
            report = check(gallery_copy)
            if str(path) not in [finding.path for finding in report.damaged]:
                missed.append((position, mask))
            flip(path, position, mask)
    assert missed == []
    assert check(gallery_copy).sound


def test_a_flipped_byte_of_the_first_settings_is_found(gallery_copy: Path, flip) -> None:
    path = gallery_copy / "catalog" / FIRST_SETTINGS
    durable.write_sealed(path, {"backbone": "fake", "size_px": 64})
    assert check(gallery_copy).sound
    flip(path, path.read_bytes().index(b"fake"), 0x01)
    (finding,) = check(gallery_copy).damaged
    assert finding.path == str(path)
    assert "checksum" in finding.message


@pytest.mark.parametrize("kind", ["vectors", "records"])
def test_a_flipped_byte_anywhere_in_a_header_is_reported_and_not_raised(
    gallery_copy: Path, flip, kind: str
) -> None:
    path = next(gallery_copy.glob(FILES[kind]))
    for position in range(128):
        flip(path, position)
        assert str(path) in [finding.path for finding in check(gallery_copy).damaged]
        flip(path, position)


@pytest.mark.parametrize("kind", [k for k in FILES if k not in ("pointer",)])
@pytest.mark.parametrize("how", ["missing", "empty"])
def test_a_missing_or_empty_file_is_found(gallery_copy: Path, kind: str, how: str) -> None:
    path = sorted(gallery_copy.glob(FILES[kind]))[0]
    path.unlink() if how == "missing" else path.write_bytes(b"")
    assert str(path) in [finding.path for finding in check(gallery_copy).damaged]


def test_a_journal_that_ends_before_the_published_build_is_found(gallery_copy: Path) -> None:
    path = gallery_copy / "catalog/journal.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert [f.path for f in check(gallery_copy).damaged] == [str(path)]


def test_one_damaged_file_is_one_finding(gallery_copy: Path, flip) -> None:
    """Nobody should have to look at CURRENT because a manifest it leads to is damaged."""
    path = next(gallery_copy.glob(FILES["build manifest"]))
    flip(path, 200)
    assert {f.path for f in check(gallery_copy).damaged} == {str(path)}


def test_pending_counts_what_catalog_and_build_do_not_share(
    tmp_path: Path, gallery_copy: Path, make_png, build_at
) -> None:
    for seed in (501, 502):
        (tmp_path / f"{seed}.png").write_bytes(make_png(seed))
    rows = [SourceRow("product-00", tmp_path / "501.png"), SourceRow("new", tmp_path / "502.png")]
    catalog = open_catalog(gallery_copy)
    catalog.import_rows(rows)
    assert check(gallery_copy).pending == 2
    first = catalog.rows()[0]
    catalog.withdraw(first.product_id, first.reference_id, deed="quarantine", why="test")
    assert check(gallery_copy).pending == 3
    assert build_at(gallery_copy).published
    assert (check(gallery_copy).pending, check(gallery_copy).sound) == (0, True)


def test_nothing_is_pending_where_nothing_is_published(
    tmp_path: Path, write_pictures, catalog_at
) -> None:
    root = catalog_at(tmp_path / "g", write_pictures(tmp_path / "source"))
    report = check(root)
    assert (report.sound, report.pending, report.builds) == (True, None, 0)
    assert (report.serves, report.idle) == (None, False)


def test_builds_of_which_none_serves_are_told_from_a_gallery_that_serves(
    gallery_copy: Path,
) -> None:
    serving = read_current(gallery_copy).build
    assert (check(gallery_copy).serves, check(gallery_copy).idle) == (serving, False)
    (gallery_copy / "CURRENT").unlink()
    report = check(gallery_copy)
    assert (report.sound, report.serves, report.idle, report.pending) == (True, None, True, None)


def test_a_folder_that_is_no_gallery_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAGallery):
        check(tmp_path)


def test_complete_files_that_nothing_refers_to_are_orphans_and_no_damage(
    gallery_copy: Path, build_at
) -> None:
    catalog = open_catalog(gallery_copy)
    gone = catalog.rows()[0]
    catalog.withdraw(gone.product_id, gone.reference_id, deed="remove", why="test")
    assert build_at(gallery_copy).published
    (gallery_copy / "shards" / ("0" * 64)).mkdir()
    (gallery_copy / "builds/.partial-xyz").mkdir()
    report = check(gallery_copy)
    assert report.sound
    assert set(report.orphans) == {
        str(catalog.original_path(gone.image)),
        str(gallery_copy / "shards" / ("0" * 64)),
        str(gallery_copy / "builds/.partial-xyz"),
    }


def test_quarantined_originals_are_kept_and_checked(gallery_copy: Path, flip) -> None:
    catalog = open_catalog(gallery_copy)
    row = catalog.rows()[3]
    catalog.withdraw(row.product_id, row.reference_id, deed="quarantine", why="test")
    assert check(gallery_copy).orphans == []
    flip(catalog.original_path(row.image), 50)
    assert [f.path for f in check(gallery_copy).damaged] == [str(catalog.original_path(row.image))]


def test_a_lease_with_content_is_found(gallery_copy: Path) -> None:
    path = gallery_copy / "builds" / read_current(gallery_copy).build / "lease"
    path.write_bytes(b"x")
    assert [f.path for f in check(gallery_copy).damaged] == [str(path)]
