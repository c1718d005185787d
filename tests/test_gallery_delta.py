"""Deltas: what they answer is what a rebuild with the same content answers, and nothing is lost."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embeddings import fake_embedder
from gallery import (
    EmbeddingDescriber,
    Gallery,
    GateResult,
    Record,
    Reference,
    SourceRow,
    build,
    check,
    delta,
    durable,
    identify,
    open_catalog,
    publish,
    read_current,
)
from gallery.errors import (
    DamagedGallery,
    EmptyCatalog,
    GalleryBusy,
    NoDelta,
    StorageError,
    UnknownProduct,
)
from gallery.history import prune, rollback
from gallery.layer import list_deltas, read_delta

CONFIG = {"backbone": "fake", "size_px": 64}


class Audit:
    """A step whose finding depends on which references there are, and in which order. Final."""

    name, fingerprint = "audit", "audit/1"

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, references: Sequence[Reference]) -> Record:
        self.seen.append(references[0].product_id)
        vectors = np.stack([r.vector for r in references])
        meta = {"references": [r.reference_id for r in references]}
        return Record("audit", meta, {"cosines": vectors @ vectors.T})


class Shop:
    """A gallery with a catalog that is changed, rebuilt and updated. Final."""

    def __init__(self, root: Path, png: Callable[[int], bytes]) -> None:
        self.root, self._png, self.audit = root, png, Audit()

    def add(self, product_id: str, *seeds: int) -> None:
        rows = []
        for seed in seeds:
            path = self.root.parent / f"{seed}.png"
            path.write_bytes(self._png(seed))
            rows.append(SourceRow(product_id, path))
        assert open_catalog(self.root).import_rows(rows).problems == []

    def withdraw(self, product_id: str, *slots: int, deed: str = "remove") -> None:
        catalog = open_catalog(self.root)
        held = catalog.quarantined() if deed == "release" else catalog.rows()
        mine = [row for row in held if row.product_id == product_id]
        ids = [row.reference_id for row in mine if not slots or row.slot in slots]
        assert ids
        catalog.withdraw(product_id, ids, deed=deed, why="test")

    def describer(self) -> EmbeddingDescriber:
        return EmbeddingDescriber(open_catalog(self.root), fake_embedder(size_px=64), threads=2)

    def update(self, **options: Any) -> delta.DeltaReport:
        catalog = open_catalog(self.root)
        options.setdefault("describer", self.describer())
        return delta.update(catalog, steps=[self.audit], **options)

    def rebuild(self, *, full: bool = False) -> Any:
        """Past `count_delta`: much may be gone."""
        report = build(open_catalog(self.root), self.describer(), config=CONFIG,
                       steps=[self.audit], gates=(), full=full)  # fmt: skip
        publish(self.root, report.build_id)
        return report

    def answers(self, queries: np.ndarray[Any, Any]) -> dict[str, Any]:
        with Gallery.open(self.root) as gallery:
            return answers(gallery, queries)

    def copy(self, name: str) -> Shop:
        return Shop(Path(shutil.copytree(self.root, self.root.parent / name)), self._png)


def answers(gallery: Gallery, queries: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Everything that a gallery answers, to be compared for equality."""
    names = list(gallery.product_ids())
    found: dict[str, Any] = {
        "names": names,
        "counts": (len(gallery), gallery.reference_count, len(gallery.index)),
        "content": gallery.content_digest,
        "keys": (gallery.keys().tolist(), sorted(gallery.index.keys().tolist())),
        "steps": dict(gallery.manifest.steps),
    }
    for name in names:
        stored = gallery.stored(name)
        shard = gallery.shard_of(name)
        found[name] = (
            stored.product_no,
            [(r.slot, r.reference_id, shard.record(name, r).digest()) for r in stored.references],
            [r.patches.dense().tobytes() for r in gallery.references(name)],
            gallery.vectors(name).tobytes(),
            None if (extra := gallery.extra(name, "audit")) is None else extra.digest(),
            name in gallery,
        )
        keys = [stored.product_no << 16 | r.slot for r in stored.references]
        assert {gallery.product_id_of(key) for key in keys} == {name}
    for row, query in enumerate(queries):
        ranked = identify(gallery, query, fingerprint=gallery.fingerprint, top=7)
        found[f"query {row}"] = ranked.candidates
        near = gallery.index.search(query, count=9)
        found[f"search {row}"] = (near.keys.tolist(), near.cosine.tolist())
    return found


@pytest.fixture
def make_shop(tmp_path: Path, catalog_at: Any, write_pictures: Any, make_png: Any) -> Any:
    """(products) -> a published gallery of that many products with 3 references each."""

    def make(products: int = 6) -> Shop:
        source = write_pictures(tmp_path / "source", products=products, references=3)
        shop = Shop(catalog_at(tmp_path / "gallery", source), make_png)
        shop.rebuild()
        return shop

    return make


@pytest.fixture
def shop(make_shop: Any) -> Shop:
    made: Shop = make_shop()
    return made


@pytest.fixture
def queries() -> np.ndarray[Any, Any]:
    """(20, D) unit vectors of pictures, of which some are references."""
    embedder = fake_embedder(size_px=64)
    from tests.conftest import _picture

    return np.stack([embedder.embed([_picture(s)])[0].vector for s in (0, 1, 2001, 9001, 9002)])


def turmoil(shop: Shop) -> None:
    """All that can happen to products, before and after a first update."""
    shop.add("product-00", 9001)
    shop.withdraw("product-01", 0)
    shop.withdraw("product-02", 1, deed="quarantine")
    shop.withdraw("product-03")
    shop.add("a new one", 9002, 9003)
    shop.add("gone at once", 9004)
    assert shop.update().published
    shop.withdraw("product-02", 1, deed="release")
    shop.withdraw("product-02", 2, deed="quarantine")
    shop.withdraw("gone at once")
    shop.add("a new one", 9005)
    shop.withdraw("product-04", 0, 1)


# Equal to a rebuild


@pytest.mark.parametrize(("products", "covers_all"), [(6, True), (70, False)])
def test_build_and_delta_answer_as_rebuilds_of_the_same_content(
    make_shop: Any, queries: Any, products: int, covers_all: bool
) -> None:
    shop = make_shop(products)
    before = shop.answers(queries)
    turmoil(shop)
    report = shop.update()
    assert (report.published, report.pending, report.gone) == (True, 0, 1)
    manifest = read_delta(shop.root, report.delta_id)
    assert manifest.covers_all == covers_all  # both ways of searching are tried
    incremental, full = shop.copy("incremental"), shop.copy("full")
    built = incremental.rebuild()
    assert built.tally.embedded == 0  # the delta's records are taken over
    assert full.rebuild(full=True).tally.embedded == report.references
    for other in (incremental, full):
        assert read_current(other.root).delta is None
        assert other.answers(queries) == shop.answers(queries)
    assert report.content_digest == built.content_digest
    assert shop.answers(queries) != before
    assert check(shop.root).sound
    assert check(shop.root).pending == 0


def test_what_nothing_changed_in_is_left_alone(shop: Shop, queries: Any) -> None:
    before = (shop.root / "CURRENT").read_bytes()
    assert shop.update().unchanged
    shop.add("product-00", 9001)
    first = shop.update()
    assert (first.tally.embedded, first.tally.copied, first.overlaid) == (1, 3, 4)
    served = shop.answers(queries)
    again = shop.update()
    assert (again.unchanged, again.published, again.delta_id) == (True, False, first.delta_id)
    shop.withdraw("product-00", 3)
    back = shop.update()
    assert (back.published, back.delta_id) == (True, None)
    assert (shop.root / "CURRENT").read_bytes() == before
    assert shop.answers(queries) != served


def test_products_that_did_not_change_since_the_last_delta_are_not_looked_at_again(
    shop: Shop,
) -> None:
    shop.add("product-00", 9001)
    shop.update()
    shop.audit.seen.clear()
    shop.add("product-01", 9002)
    report = shop.update()
    assert shop.audit.seen == ["product-01"]
    assert (report.tally.embedded, report.tally.shards_shared) == (1, 1)


def test_a_product_that_is_gone_needs_no_describer_and_no_step(shop: Shop) -> None:
    class Unwilling:
        fingerprint, dims = shop.describer().fingerprint, shop.describer().dims

        def describe(self, rows: Any) -> Any:
            raise AssertionError("nothing must be described")

    shop.withdraw("product-01")
    shop.audit.seen.clear()
    report = shop.update(describer=Unwilling())
    assert (report.published, report.overlaid, report.gone) == (True, 0, 1)
    assert shop.audit.seen == []
    with Gallery.open(shop.root) as gallery:
        assert "product-01" not in gallery
        with pytest.raises(UnknownProduct):
            gallery.references("product-01")
        assert "product-00" in gallery


def test_a_step_that_the_build_does_not_have_waits_for_the_rebuild(shop: Shop) -> None:
    shop.audit.fingerprint = "audit/2"
    shop.audit.seen.clear()
    shop.add("product-00", 9001)
    assert shop.update().published
    assert shop.audit.seen == []
    with Gallery.open(shop.root) as gallery:
        assert gallery.extra("product-00", "audit") is None
        assert gallery.extra("product-01", "audit") is not None


# Only what was withdrawn


def test_withdrawals_let_nothing_in_but_what_is_named(shop: Shop) -> None:
    shop.add("product-00", 9001)
    shop.add("a new one", 9002)
    shop.withdraw("product-01", 0, deed="quarantine")
    report = shop.update(withdrawals=True)
    assert (report.published, report.pending, report.tally.embedded) == (True, 2, 0)
    with Gallery.open(shop.root) as gallery:
        counts = {name: len(gallery.references(name)) for name in gallery.product_ids()}
    assert (counts["product-00"], counts["product-01"], "a new one" in counts) == (3, 2, False)
    assert check(shop.root).pending == 2
    shop.withdraw("product-01", 0, deed="release")
    (back,) = [r.key for r in open_catalog(shop.root).rows()
               if (r.product_id, r.slot) == ("product-01", 0)]  # fmt: skip
    report = shop.update(withdrawals=True, also=[back])
    assert (report.delta_id, report.pending) == (None, 2)
    assert shop.update().pending == 0


def test_going_back_takes_the_delta_away_and_withdrawals_bring_nothing_back(shop: Shop) -> None:
    first = read_current(shop.root).build
    shop.add("product-00", 9001)
    shop.rebuild()
    shop.add("product-02", 9002)
    shop.update()
    assert rollback(shop.root).build == first
    assert read_current(shop.root).delta is None
    shop.withdraw("product-05")
    assert shop.update(withdrawals=True).published
    with Gallery.open(shop.root) as gallery:
        assert (gallery.build_id, len(gallery), gallery.reference_count) == (first, 5, 15)
        assert len(gallery.references("product-00")) == 3


# Readers


def test_a_reader_keeps_what_it_opened_and_the_next_one_sees_the_delta(shop: Shop) -> None:
    with Gallery.open(shop.root) as old:
        shop.add("product-00", 9001)
        shop.update()
        with Gallery.open(shop.root) as one:
            data = pickle.dumps(one)
            shop.withdraw("product-00", 0, 1)
            shop.update()
            with Gallery.open(shop.root) as two, pickle.loads(data) as again:
                assert [len(g.references("product-00")) for g in (old, one, two, again)] == [
                    3, 4, 2, 4,
                ]  # fmt: skip
                assert old.delta_id is None
                assert again.delta_id == one.delta_id != two.delta_id
                assert two.build_id == old.build_id
                assert two.catalog_seq > one.catalog_seq


def test_equally_near_references_come_in_the_order_of_a_rebuild(
    make_shop: Any, queries: Any
) -> None:
    shop = make_shop(70)
    shop.add("twin", 0, 1)  # pictures of product-00
    shop.add("product-50", 0)
    shop.update()
    rebuilt = shop.copy("rebuilt")
    rebuilt.rebuild()
    assert shop.answers(queries) == rebuilt.answers(queries)


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
