"""Builds: equal for equal catalogs, incremental, resumable, and failing closed."""

from __future__ import annotations

import hashlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gallery import (
    Gallery,
    Record,
    Reference,
    check,
    create_catalog,
    index,
    list_builds,
    open_catalog,
    plan,
    read_source,
)

TESTS = Path(__file__).parent


class Audit:
    """A step that says how many references there are and how far apart. Final."""

    name = "audit"

    def __init__(self, fingerprint: str = "audit/1") -> None:
        self.fingerprint, self.calls = fingerprint, 0

    def __call__(self, references: Sequence[Reference]) -> Record:
        self.calls += 1
        vectors = np.stack([r.vector for r in references])
        meta = {"by": self.fingerprint, "product": references[0].product_id}
        return Record("audit", meta, {"cosines": vectors @ vectors.T})


def partials(root: Path) -> list[Path]:
    return list(root.rglob(".partial-*"))


def add(root: Path, folder: Path) -> None:
    assert open_catalog(root).import_rows(read_source(folder).rows).problems == []


# Equal catalogs, equal builds

SCRIPT = """
import sys; from pathlib import Path
sys.path.insert(0, sys.argv[1])
from gallery import create_catalog, read_source
from conftest import _build_at
root, source, threads = Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
create_catalog(root).import_rows(read_source(source).rows, threads=threads)
print(_build_at(root, threads=threads).content_digest)
"""


def test_two_processes_build_the_same_content(tmp_path: Path, write_pictures) -> None:
    source = write_pictures(tmp_path / "source", products=3)
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(TESTS), str(tmp_path / f"g{n}"), str(source), n],
            stdout=subprocess.PIPE, text=True, cwd=TESTS.parent,
        )
        for n in ("1", "4")
    ]  # fmt: skip
    outputs = [job.communicate(timeout=60)[0].strip() for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0]
    assert len(outputs[0]) == 64
    assert outputs[0] == outputs[1]


def test_the_number_of_threads_does_not_change_the_content(
    tmp_path: Path, write_pictures, catalog_at, build_at
) -> None:
    source = write_pictures(tmp_path / "source", products=3, references=7, suffix=".jpg")
    digests = {
        build_at(catalog_at(tmp_path / f"g{n}", source), threads=n).content_digest
        for n in (1, 2, 4)
    }
    assert len(digests) == 1


def test_the_order_of_imports_changes_no_references_content(
    tmp_path: Path, write_pictures, build_at, snapshot
) -> None:
    """Numbers and slots follow the order of import; what is stored of a picture does not."""
    rows = read_source(write_pictures(tmp_path / "source", products=4)).rows
    for name, ordered in (("forward", rows), ("backward", rows[::-1])):
        create_catalog(tmp_path / name).import_rows(ordered)
        assert build_at(tmp_path / name).published
    assert snapshot(tmp_path / "forward") == snapshot(tmp_path / "backward")


def test_an_import_in_pieces_builds_what_one_import_builds(
    tmp_path: Path, write_pictures, build_at
) -> None:
    rows = read_source(write_pictures(tmp_path / "source", products=3)).rows
    create_catalog(tmp_path / "whole").import_rows(rows)
    create_catalog(tmp_path / "pieces")
    for row in rows:
        open_catalog(tmp_path / "pieces").import_rows([row])
    assert (
        build_at(tmp_path / "whole").content_digest == build_at(tmp_path / "pieces").content_digest
    )


def test_progress_rises_to_the_number_of_references(eight: Path, build_at) -> None:
    told: list[tuple[int, int]] = []
    build_at(eight, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (16, 16)
    assert [d for d, _ in told] == sorted({d for d, _ in told})


# Incremental


def test_one_new_reference_is_embedded_and_the_rest_is_copied_or_shared(
    tmp_path: Path, eight: Path, build_at, make_png, counting, snapshot
) -> None:
    build_at(eight)
    (tmp_path / "more/product-03").mkdir(parents=True)
    (tmp_path / "more/product-03/new.png").write_bytes(make_png(99))
    add(eight, tmp_path / "more/product-03")
    describer = counting(eight)
    report = build_at(eight, describer=describer)
    assert describer.described == [hashlib.sha256(make_png(99)).hexdigest()[:32]]
    assert report.tally.embedded == 1
    assert report.tally.shards_written == 1
    assert report.tally.shards_shared > 0
    shared = snapshot(eight)
    assert report.published
    assert len(shared) == 17
    shutil.copytree(eight / "catalog", tmp_path / "fresh/catalog")
    # The same catalog from scratch, in as many shards, is the same content.
    assert build_at(tmp_path / "fresh").content_digest == report.content_digest
    assert snapshot(tmp_path / "fresh") == shared


def test_a_removed_reference_is_gone_and_nothing_is_embedded(
    eight: Path, build_at, snapshot
) -> None:
    build_at(eight)
    before = snapshot(eight)
    gone = open_catalog(eight).rows()[5]
    open_catalog(eight).withdraw(gone.product_id, gone.reference_id, deed="remove", why="test")
    report = build_at(eight)
    assert report.published
    assert report.tally.embedded == 0
    del before[f"{gone.product_id} {gone.reference_id}"]
    assert snapshot(eight) == before
    with Gallery.open(eight) as gallery:
        assert gone.key not in gallery.index.keys().tolist()
        assert len(gallery.index) == gallery.manifest.references == 15


def test_a_product_without_references_is_no_product_of_the_build(eight: Path, build_at) -> None:
    build_at(eight)
    for row in open_catalog(eight).rows()[:2]:
        open_catalog(eight).withdraw("product-00", row.reference_id, deed="quarantine", why="test")
    assert build_at(eight).published
    with Gallery.open(eight) as gallery:
        assert "product-00" not in gallery
        assert len(gallery) == len(list(gallery.product_ids())) == 7


def test_an_unchanged_catalog_makes_no_new_build(eight: Path, build_at, counting) -> None:
    first = build_at(eight)
    describer = counting(eight)
    again = build_at(eight, describer=describer)
    assert (again.unchanged, again.build_id) == (True, first.build_id)
    assert describer.described == []
    assert len(list_builds(eight)) == 1
    assert partials(eight) == []


def test_another_fingerprint_copies_nothing(eight: Path, build_at, counting) -> None:
    build_at(eight)
    describer = counting(eight)
    describer.fingerprint = replace(describer.fingerprint, weights_sha256="1" * 64)
    report = build_at(eight, describer=describer)
    assert (report.tally.embedded, report.tally.copied, report.tally.shards_shared) == (16, 0, 0)


# Killed in the middle


def test_a_build_that_fails_midway_resumes_from_its_finished_shards(
    tmp_path: Path, eight: Path, build_at, counting
) -> None:
    with pytest.raises(RuntimeError, match="power cut"):
        build_at(eight, describer=counting(eight, stop_after=9))
    assert not (eight / "CURRENT").exists()
    assert partials(eight) == []
    finished = {p.name for p in (eight / "shards").iterdir()}
    assert finished
    describer = counting(eight)
    report = build_at(eight, describer=describer)
    assert report.tally.shards_shared == len(finished)
    assert 16 - 9 <= len(describer.described) < 16
    assert finished <= {p.name for p in (eight / "shards").iterdir()}
    shutil.copytree(eight / "catalog", tmp_path / "fresh/catalog")
    assert build_at(tmp_path / "fresh").content_digest == report.content_digest


KILLED = """
import os, signal, sys; from pathlib import Path
sys.path.insert(0, sys.argv[1])
from gallery import plan
from conftest import _build_at
plan.PRODUCTS_PER_SHARD = 2
kill = lambda done, total: os.kill(os.getpid(), signal.SIGKILL) if done >= 9 else None
_build_at(Path(sys.argv[2]), progress=kill)
"""


def test_what_a_killed_build_left_is_swept_by_the_next_one(eight: Path, build_at) -> None:
    command = [sys.executable, "-c", KILLED, str(TESTS), str(eight)]
    assert subprocess.run(command, cwd=TESTS.parent, timeout=60).returncode == -signal.SIGKILL
    assert len(partials(eight)) == 1
    report = build_at(eight)
    assert report.published
    assert report.tally.shards_shared > 0
    assert partials(eight) == []
    assert check(eight).sound


# The common direction


@pytest.mark.parametrize("full", [False, True])
def test_a_build_keeps_its_parents_common_direction_while_it_is_nearly_right(
    tmp_path: Path, make_gallery, build_at, make_png, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    root = make_gallery(products=4)
    (tmp_path / "more/new").mkdir(parents=True)
    (tmp_path / "more/new/0.png").write_bytes(make_png(5))
    add(root, tmp_path / "more")
    kept, moved = (shutil.copytree(root, tmp_path / name) for name in ("kept", "moved"))
    for place, limit in ((kept, 10.0), (moved, 0.0)):
        monkeypatch.setattr(index, "_SETTLED", limit)
        assert build_at(place, full=full).published
    with Gallery.open(root) as old, Gallery.open(kept) as same, Gallery.open(moved) as other:
        assert same.manifest.index["centre"] == old.manifest.index["centre"]
        tables = np.concatenate(other.vector_tables())
        fresh = index.common_direction(tables["key"] >> 16, tables["vector"])
        np.testing.assert_allclose(other.manifest.index["centre"], fresh, atol=1e-6)
        assert np.abs(fresh - old.manifest.index["centre"]).max() > 1e-3


def test_a_common_direction_settles_within_its_limit() -> None:
    fresh = np.array([0.5, 0.5], np.float32)
    near, far = fresh + np.float32(0.01), fresh + np.float32(0.02)
    assert index.settled_direction(fresh, parent=None) is fresh
    assert index.settled_direction(fresh, parent=near) is near
    assert index.settled_direction(fresh, parent=far) is fresh


# Steps


def test_a_steps_result_is_stored_and_read_back(eight: Path, build_at) -> None:
    step = Audit()
    assert build_at(eight, steps=[step]).published
    assert step.calls == 8
    with Gallery.open(eight) as gallery:
        for name in gallery.product_ids():
            audit = gallery.extra(name, "audit")
            assert audit is not None
            assert audit.meta == {"by": "audit/1", "product": name}
            vectors = gallery.vectors(name)
            np.testing.assert_array_equal(audit.arrays["cosines"], vectors @ vectors.T)
            assert gallery.extra(name, "profile") is None


@pytest.mark.parametrize(
    ("steps", "calls"), [([Audit("audit/2")], 8), ([Audit("audit/1")], 0), ([], 0)]
)
def test_a_changed_step_is_run_again_without_embedding(
    eight: Path, build_at, steps: list[Audit], calls: int, counting
) -> None:
    build_at(eight, steps=[Audit("audit/1")])
    for step in steps:
        step.calls = 0
    describer = counting(eight)
    build_at(eight, steps=steps, describer=describer)
    assert describer.described == []
    assert sum(step.calls for step in steps) == calls
    with Gallery.open(eight) as gallery:
        audit = gallery.extra("product-00", "audit")
        assert (audit.meta["by"] if audit else None) == (steps[0].fingerprint if steps else None)


def test_the_content_digest_knows_neither_shards_nor_file_names(
    tmp_path: Path, write_pictures, catalog_at, build_at, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_pictures(tmp_path / "source", products=6, references=2)
    one = build_at(catalog_at(tmp_path / "one", source))
    for path in sorted(source.rglob("*.png")):
        path.rename(path.with_name(f"renamed-{path.name}"))
    monkeypatch.setattr(plan, "PRODUCTS_PER_SHARD", 2)
    many = build_at(catalog_at(tmp_path / "many", source))
    assert (one.tally.shards_written, many.tally.shards_written > 1) == (1, True)
    assert one.content_digest == many.content_digest
