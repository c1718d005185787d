"""Builds that must not be published, and galleries that must be repaired."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gallery import (
    Gallery,
    GalleryError,
    GateResult,
    check,
    create_catalog,
    default_gates,
    list_builds,
    open_catalog,
    publish,
    read_current,
    read_source,
)
from gallery.errors import DamagedGallery, EmptyCatalog, GateFailed, NotAGallery
from gallery.history import prune


def partials(root: Path) -> list[Path]:
    return list(root.rglob(".partial-*"))


def add(root: Path, folder: Path) -> None:
    assert open_catalog(root).import_rows(read_source(folder).rows).problems == []


# Failing closed


class Verdict:
    name = "verdict"

    def __init__(self, passed: bool) -> None:
        self._passed = passed

    def __call__(self, candidate: object) -> GateResult:
        return GateResult(self.name, self._passed, 0.5, "1.0", "because")


def test_a_failing_gate_leaves_current_and_the_build_is_listed_and_not_publishable(
    tmp_path: Path, eight: Path, build_at, make_png
) -> None:
    build_at(eight)
    before = (eight / "CURRENT").read_bytes()
    (tmp_path / "late").mkdir()
    (tmp_path / "late/1.png").write_bytes(make_png(5))
    add(eight, tmp_path / "late")
    report = build_at(eight, gates=[Verdict(True), Verdict(False)])
    assert (report.passed, report.published) == (False, False)
    assert (eight / "CURRENT").read_bytes() == before
    assert report.build_id in [name for name, _ in list_builds(eight)]
    with pytest.raises(GateFailed, match="verdict"):
        publish(eight, report.build_id)
    assert (eight / "CURRENT").read_bytes() == before
    assert "because" in (eight / "builds" / report.build_id / "report.html").read_text()
    assert check(eight).sound


def test_losing_many_products_stops_the_build_unless_it_is_allowed(eight: Path, build_at) -> None:
    published = build_at(eight).build_id
    for row in open_catalog(eight).rows()[:6]:  # 3 of 8 products
        open_catalog(eight).withdraw(row.product_id, row.reference_id, deed="remove", why="test")
    report = build_at(eight)
    failed = [(g.name, g.figure) for g in report.gates if not g.passed]
    assert failed == [("count_delta", pytest.approx(3 / 8))]
    assert read_current(eight).build == published
    assert build_at(eight, gates=default_gates(most_lost=0.375)).published


@pytest.mark.parametrize("spoil", [float("nan"), float("inf"), 1.01, 0.0])
def test_a_vector_that_is_not_finite_and_unit_is_caught(
    eight: Path, build_at: Callable[..., Any], spoil: float, counting
) -> None:
    try:
        passed = build_at(eight, describer=counting(eight, spoil=spoil)).passed
    except GalleryError:
        passed = False
    assert not passed
    assert not (eight / "CURRENT").exists()


def test_a_spoiled_vector_does_not_outlive_the_describer_that_made_it(
    eight: Path, build_at, counting
) -> None:
    with pytest.raises(GalleryError):
        build_at(eight, describer=counting(eight, spoil=float("nan")))
    assert build_at(eight, describer=counting(eight)).published


def test_a_damaged_original_stops_the_build_and_is_named(eight: Path, build_at, flip) -> None:
    row = open_catalog(eight).rows()[9]
    flip(open_catalog(eight).original_path(row.image), 300)
    with pytest.raises(DamagedGallery, match=row.image):
        build_at(eight)
    assert not (eight / "CURRENT").exists()
    assert partials(eight) == []


def test_an_empty_catalog_is_not_built(tmp_path: Path, build_at) -> None:
    create_catalog(tmp_path / "gallery")
    with pytest.raises(EmptyCatalog):
        build_at(tmp_path / "gallery")


def test_two_builds_within_a_second_do_not_collide(eight: Path, build_at) -> None:
    reports = [build_at(eight, full=True, gates=[Verdict(False)]) for _ in range(2)]
    for report in reports:
        assert (eight / "builds" / report.build_id / "manifest.json").is_file()


# A damaged parent


def flip_records(root: Path, name: str, flip: Callable[..., None]) -> int:
    """Flip a byte of every stored value (or vector) of every shard of the gallery."""
    count = 0
    for path in (root / "shards").glob(f"*/{name}"):
        data = path.read_bytes()
        places = [i + 30 for i in range(len(data)) if data.startswith(b"AMR1", i)]
        for place in places if name == "data.mdb" else range(128 + 8, len(data), 8 + 12 * 4):
            flip(path, place)
            count += 1
    return count


# Where a product's record is damaged nobody knows that its newest reference is not in it.
@pytest.mark.parametrize("name", ["data.mdb", "vectors.npy"])
def test_what_is_damaged_in_the_parent_is_made_anew_and_not_copied(
    tmp_path: Path, make_gallery, build_at, make_png, flip, name: str, snapshot
) -> None:
    root = make_gallery(products=3)
    before = snapshot(root)
    assert flip_records(root, name, flip) >= 6
    damaged = {found.path for found in check(root).damaged}
    (tmp_path / "product-00").mkdir()
    (tmp_path / "product-00/new.png").write_bytes(make_png(123))
    add(root, tmp_path / "product-00")
    report = build_at(root)
    assert report.published
    assert (report.tally.mended, report.tally.copied, report.tally.embedded) == (6, 0, 7)
    assert before.items() <= snapshot(root).items()
    prune(root, keep=1)
    assert damaged
    assert check(root).sound


def test_only_the_damaged_record_is_made_anew(
    tmp_path: Path, make_gallery, build_at, make_png, flip, snapshot
) -> None:
    root = make_gallery(products=3)
    before = snapshot(root)
    path = next((root / "shards").glob("*/vectors.npy"))
    flip(path, path.stat().st_size - 1)
    (tmp_path / "product-00").mkdir()
    (tmp_path / "product-00/new.png").write_bytes(make_png(123))
    add(root, tmp_path / "product-00")
    report = build_at(root)
    assert (report.tally.mended, report.tally.copied, report.tally.embedded) == (1, 5, 2)
    assert before.items() <= snapshot(root).items()


@pytest.mark.parametrize("name", ["data.mdb", "vectors.npy", "manifest.json"])
def test_a_full_rebuild_of_an_unchanged_catalog_makes_a_damaged_gallery_sound(
    make_gallery, build_at, flip, name: str, snapshot
) -> None:
    root = make_gallery(products=3)
    before = snapshot(root)
    if name == "manifest.json":
        flip(next((root / "shards").glob("*/manifest.json")), 40)
    else:
        flip_records(root, name, flip)
    assert not check(root).sound
    assert build_at(root, full=True).published
    assert check(root).damaged == []
    assert snapshot(root) == before


def test_a_repair_is_seen_by_galleries_opened_afterwards_while_an_old_reader_lives(
    make_gallery, build_at, flip, snapshot
) -> None:
    root = make_gallery(products=3)
    before = snapshot(root)
    flip_records(root, "data.mdb", flip)
    with Gallery.open(root) as old:
        with pytest.raises(DamagedGallery):
            old.references("product-00")
        assert build_at(root, full=True).published
        assert snapshot(root) == before


@pytest.mark.parametrize(
    "kind",
    [
        "CURRENT",
        "builds/*/manifest.json",
        "builds/*/index.faiss",
        "builds/*/products.parquet",
        "builds/*/gates.json",
        "builds/*/report.html",
        "builds/*/lease",
        "shards/*/data.mdb",
        "shards/*/vectors.npy",
        "shards/*/manifest.json",
    ],
)
@pytest.mark.parametrize("how", ["half", "empty", "missing"])
def test_a_cut_or_missing_file_never_answers_wrongly_and_a_full_rebuild_serves_again(
    make_gallery, build_at, kind: str, how: str, snapshot
) -> None:
    root = make_gallery(products=2)
    before = snapshot(root)
    path = next(root.glob(kind))
    data = path.read_bytes()
    path.unlink() if how == "missing" else path.write_bytes(
        data[: len(data) // 2 * (how == "half")]
    )
    refusal = None
    try:
        assert snapshot(root) == before
    except GalleryError as error:
        refusal = error
    assert refusal is None or path.name in str(refusal) or isinstance(refusal, NotAGallery)
    report = build_at(root, full=True, config={"made": "again"})  # within the same second
    assert report.published
    assert snapshot(root) == before
    assert read_current(root).build == report.build_id
    with Gallery.open(root) as gallery:
        served = {str(root / name) for name in gallery.manifest.all_files(gallery.build_id)}
    assert served.isdisjoint(found.path for found in check(root).damaged)
