"""Deltas: where they are refused, and that nothing is lost on the way."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from delta_shop import Shop

from embeddings import fake_embedder
from gallery import (
    EmbeddingDescriber,
    Gallery,
    GateResult,
    check,
    delta,
    durable,
    open_catalog,
    read_current,
)
from gallery.errors import DamagedGallery, EmptyCatalog, GalleryBusy, NoDelta, StorageError
from gallery.history import prune
from gallery.layer import list_deltas, read_delta


@pytest.fixture
def shop(make_shop: Any) -> Shop:
    made: Shop = make_shop()
    return made


# Refused


def test_a_delta_is_refused_where_only_a_rebuild_will_do(shop: Shop, tmp_path: Path) -> None:
    before = (shop.root / "CURRENT").read_bytes()
    shop.add("product-00", 9001)
    with pytest.raises(NoDelta, match="amiss rebuild"):
        shop.update(most=3)
    other = EmbeddingDescriber(open_catalog(shop.root), fake_embedder(size_px=32), threads=2)
    with pytest.raises(NoDelta, match="another model"):
        shop.update(describer=other)
    for product in sorted({row.product_id for row in open_catalog(shop.root).rows()}):
        shop.withdraw(product)
    with pytest.raises(EmptyCatalog, match="still serves"):
        shop.update()
    assert (shop.root / "CURRENT").read_bytes() == before
    assert list_deltas(shop.root) == []


def test_a_delta_that_fails_a_gate_is_not_served_and_says_why(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Never(delta.CountsAgree):
        def __call__(self, candidate: Any) -> GateResult:
            return GateResult(self.name, False, 1, "0 differences", "for the test")

    monkeypatch.setattr(delta, "CountsAgree", Never)
    before = (shop.root / "CURRENT").read_bytes()
    shop.add("product-00", 9001)
    report = shop.update()
    assert (report.published, report.passed, report.delta_id) == (False, False, None)
    assert [g.message for g in report.gates if not g.passed] == ["for the test"]
    assert (shop.root / "CURRENT").read_bytes() == before
    assert list_deltas(shop.root) == []


def test_gates_of_a_delta_find_what_a_writer_got_wrong(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index whose keys are shuffled must not serve."""
    original = delta.write_index

    def shuffled(path: Path, keys: Any, vectors: Any, **options: Any) -> None:
        original(path, np.roll(keys, 1), vectors, **options)

    monkeypatch.setattr(delta, "write_index", shuffled)
    shop.add("product-00", 9001)
    report = shop.update()
    assert {g.name for g in report.gates if not g.passed} == {"self_retrieval"}
    assert not report.published


# Nothing is lost


def test_a_delta_waits_a_little_for_other_writers(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delta, "_PATIENCE_S", 0.1)
    with durable.writer_lock(shop.root / "builds"), pytest.raises(GalleryBusy):
        shop.update()


def faults(monkeypatch: pytest.MonkeyPatch, name: str, at: int) -> Callable[[], int]:
    """Let the `at`-th call of an os function fail; returns how many were made."""
    import os

    calls, original = [0], getattr(os, name)

    def failing(*words: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == at:
            raise OSError(28, "No space left on device")
        return original(*words, **named)

    monkeypatch.setattr(f"gallery.durable.os.{name}", failing)
    return lambda: calls[0]


@pytest.mark.parametrize("name", ["fsync", "rename", "replace"])
def test_whatever_fails_on_the_way_the_old_serves_and_the_next_update_completes(
    shop: Shop, queries: Any, name: str
) -> None:
    shop.add("product-00", 9001)
    shop.withdraw("product-01")
    undisturbed = shop.copy("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        count = faults(patch, name, at=-1)
        assert undisturbed.update().published
        total = count()
    assert total >= 2
    before, raised = shop.answers(queries), 0
    for at in range(1, total + 1):
        trial = shop.copy(f"trial-{at}")
        with pytest.MonkeyPatch.context() as patch:
            faults(patch, name, at=at)
            try:
                trial.update()
            except StorageError:
                raised += 1
        now = trial.answers(queries)
        if read_current(trial.root).delta is None:  # else CURRENT had moved already
            assert now == before
        assert trial.update().passed
        assert trial.answers(queries) == undisturbed.answers(queries)
        report = check(trial.root)
        assert report.damaged == []
        shutil.rmtree(trial.root)
    # A lease that can't be told to other hosts stops nobody: pruning must work on a full disk.
    assert raised >= total - (name == "fsync")


@pytest.mark.parametrize("name", ["manifest.json", "index.faiss"])
def test_a_damaged_delta_is_named_and_an_update_or_a_rebuild_replaces_it(
    shop: Shop, flip: Callable[..., None], queries: Any, name: str
) -> None:
    shop.add("product-00", 9001)
    report = shop.update()
    whole = shop.answers(queries)
    path = shop.root / "delta" / str(report.delta_id) / name
    flip(path, 60)
    assert [f.path for f in check(shop.root).damaged] == [str(path)]
    with pytest.raises(DamagedGallery, match="delta"):
        shop.answers(queries)
    rebuilt = shop.copy("rebuilt")
    rebuilt.rebuild()
    assert rebuilt.answers(queries) == whole
    if name == "index.faiss":  # found when it is searched, not when it is opened
        return
    assert shop.update().published
    assert shop.answers(queries) == whole


@pytest.mark.parametrize("lost", ["manifest", "shard"])
def test_a_withdrawal_over_a_damaged_delta_takes_away_nothing_else(
    shop: Shop, queries: Any, lost: str
) -> None:
    """What the delta had added served no more, and the withdrawal reported success."""
    shop.add("a new one", 9001, 9002)
    shop.add("product-00", 9003)
    shop.withdraw("product-01")
    shop.update()
    whole = shop.copy("whole")
    for one in (whole, shop):
        one.add("later", 9004)
        one.withdraw("a new one", 0, deed="quarantine")
    (name,) = list_deltas(shop.root)
    if lost == "manifest":
        (shop.root / "delta" / name / "manifest.json").write_text("{")
    else:
        shutil.rmtree(shop.root / "shards" / read_delta(shop.root, name).shards[0].digest)
    report = shop.update(withdrawals=True)
    assert (report.published, report.pending) == (True, 1)
    assert whole.update(withdrawals=True).pending == 1
    assert shop.answers(queries) == whole.answers(queries)
    with Gallery.open(shop.root) as gallery:
        assert len(gallery.references("a new one")) == 1
        assert ("product-01" in gallery, "later" in gallery) == (False, False)


def test_pruning_keeps_the_live_delta_with_its_shards_and_what_readers_hold(
    shop: Shop, queries: Any
) -> None:
    shop.add("product-00", 9001)
    shop.update()
    with Gallery.open(shop.root) as reader:
        shop.add("product-01", 9002)
        shop.update()
        held = reader.delta_id
        shop.withdraw("product-01", 0, deed="quarantine")
        live = shop.update().delta_id
        middle = set(list_deltas(shop.root)) - {held, live}
        served = shop.answers(queries)
        planned = prune(shop.root, keep=1, dry_run=True)
        gone = prune(shop.root, keep=1)
        assert gone == planned
        assert (set(gone.deltas), gone.held, gone.builds) == (middle, (held,), ())
        assert len(gone.shards) == 1  # product-01 as only the middle one had it
        assert len(reader.references("product-00")) == 4
    assert prune(shop.root, keep=1).deltas == (held,)
    assert shop.answers(queries) == served
    assert check(shop.root).sound
    assert check(shop.root).orphans == []
    shop.rebuild()
    assert prune(shop.root, keep=1).deltas == (live,)


def test_check_names_a_delta_that_is_not_there(shop: Shop) -> None:
    shop.add("product-00", 9001)
    report = shop.update()
    assert check(shop.root).deltas == 1
    shutil.rmtree(shop.root / "delta" / str(report.delta_id))
    assert [f.path for f in check(shop.root).damaged] == [str(shop.root / "CURRENT")]


def test_a_pointer_of_before_there_were_deltas_reads(shop: Shop) -> None:
    body = {k: v for k, v in asdict(read_current(shop.root)).items() if k != "delta"}
    durable.write_sealed(shop.root / "CURRENT", body)
    assert read_current(shop.root).delta is None
    with Gallery.open(shop.root) as gallery:
        assert len(gallery) == 6
