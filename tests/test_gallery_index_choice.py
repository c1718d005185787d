"""Which index a build gets, by an exhaustive search, and that its recall is gated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from indexed_products import DIMS, EACH, PRODUCTS, Array, brute, sha256, shop, unit

from embeddings import fake_embedder
from gallery import (
    CatalogRow,
    Described,
    Gallery,
    Record,
    build,
    create_catalog,
    identify,
    index_choice,
    publish,
)
from gallery.errors import UnsupportedFormat
from gallery.gates import Candidate, IndexExact
from gallery.index import FLAT, IVF, Index, common_direction
from gallery.index_choice import AIM, RECALL, Exhaustive, Trial, choose, list_count, make_index

# The oracle


def test_exhaustive_search_is_that_of_a_plain_sort_with_the_centre_taken_away() -> None:
    keys, vectors = shop(30)
    centre = common_direction(keys >> 16, vectors)
    index = Index(Path("nowhere"), "", centre=centre)
    order = np.random.default_rng(0).permutation(len(keys))
    bank = Exhaustive(keys[order], vectors[order], index.centred)
    queries = bank.queries(seed=3, most=20)
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1, atol=1e-6)
    moved = unit(vectors - centre)
    for query, best in zip(queries, bank.nearest(queries, count=7), strict=True):
        cosine = moved @ unit(query - centre)
        np.testing.assert_allclose(best, np.sort(cosine)[:-8:-1], atol=1e-6)
        np.testing.assert_allclose(bank.cosines(keys[[5, 60]], query), cosine[[5, 60]], atol=1e-6)
    assert bank.cosines(np.array([7 << 20]), queries[0]).tolist() == [-2]


def test_queries_lie_beside_the_references_also_where_products_have_one_each() -> None:
    keys, vectors = shop(50)
    for some in (slice(None), slice(None, None, EACH)):
        bank = Exhaustive(keys[some], vectors[some], lambda v: v)
        nearest = bank.nearest(bank.queries(seed=0), count=1)
        assert 0.5 < float(np.median(nearest)) < 0.9999


# The choice


def trial(probes: int, at_1: float, at_10: float, scanned: float) -> Trial:
    return Trial(probes, at_1, at_10, scanned, 1.0, 2.0)


def test_the_fewest_lists_that_find_enough_are_chosen() -> None:
    enough = trial(8, AIM, AIM, 0.1)
    trials = [trial(2, 1, 0.9, 0.02), trial(4, 0.99, 1, 0.05), enough, trial(16, 1, 1, 0.2)]
    assert choose(trials) == enough


def test_where_nothing_finds_enough_or_only_by_comparing_most_the_index_stays_exact() -> None:
    assert choose([]) is None
    assert choose([trial(2, 0.99, 0.99, 0.1), trial(4, 0.994, 1, 0.2)]) is None
    assert choose([trial(2, 0.9, 0.9, 0.4), trial(4, 1, 1, 0.41)]) is None


def test_no_more_is_tried_than_is_needed() -> None:
    def trials() -> Iterator[Trial]:
        yield trial(2, 1, 1, 0.1)
        raise AssertionError("tried on")

    assert choose(trials()) is not None


@pytest.mark.parametrize("count", [1, 2, 3, 10, 1200, 150_000, 3_000_000])
def test_lists_are_a_power_of_two_and_no_more_than_vectors(count: int) -> None:
    lists = list_count(count)
    assert lists & (lists - 1) == 0
    assert 1 <= lists <= count
    assert count < 100 or 2.5 < lists / np.sqrt(count) < 6


@pytest.mark.parametrize(("limit", "kind"), [(1200 * DIMS, FLAT), (1200 * DIMS - 1, IVF)])
def test_size_decides_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, kind: str
) -> None:
    keys, vectors = shop()
    monkeypatch.setattr(index_choice, "EXACT_VALUES", limit)
    found = make_index(tmp_path / "i", keys, vectors, centre=np.zeros(DIMS, np.float32))
    assert found.kind == kind
    if kind == IVF:
        assert found.chosen is not None
        assert found.chosen == found.trials[-1]
        assert min(found.chosen.recall_at_1, found.chosen.recall_at_10) >= AIM
        assert all(min(t.recall_at_1, t.recall_at_10) < AIM for t in found.trials[:-1])
        assert str(found.chosen.probes) in found.why


def test_vectors_that_no_lists_suit_stay_exact_and_the_report_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_choice, "EXACT_VALUES", 0)
    vectors = unit(np.random.default_rng(0).normal(size=(600, 64)))  # evenly on the sphere
    keys = np.arange(600, dtype=np.int64) << 16
    found = make_index(tmp_path / "i", keys, vectors, centre=np.zeros(64, np.float32))
    assert found.kind == FLAT
    assert found.chosen is None
    assert "within 40%" in found.why
    assert found.settings(np.zeros(64, np.float32)).keys() == {"kind", "centre"}
    index = Index(tmp_path / "i", sha256(tmp_path / "i"))
    assert index.search(vectors[7], count=9).keys.tolist() == brute(keys, vectors, vectors[7], 9)


# A gallery with an IVF index


class Rows:
    """The rows of a catalog without originals behind them. Final."""

    def __init__(self, root: Path, keys: Array) -> None:
        self.root, self.folder, self.seq, self._keys = root, create_catalog(root).folder, 1, keys

    def rows(self) -> list[CatalogRow]:
        return [
            CatalogRow(f"product {k >> 16}", int(k >> 16), int(k & 0xFFFF), f"{k:064x}"[::-1],
                       None, None, None, None, None, "planted")
            for k in self._keys
        ]  # fmt: skip


class Planted:
    """A describer of given vectors by key. Final."""

    dims = DIMS

    def __init__(self, keys: Array, vectors: Array) -> None:
        self._vectors = dict(zip(keys.tolist(), vectors, strict=True))
        self.fingerprint = fake_embedder().fingerprint(codec="planted")

    def describe(self, rows: Sequence[CatalogRow]) -> Iterator[Described]:
        for row in rows:
            record = Record("reference", {"reference_id": row.reference_id}, {})
            yield Described(record, self._vectors[row.key])


def gallery_at(root: Path) -> Any:
    keys, vectors = shop()
    report = build(Rows(root, keys), Planted(keys, vectors), config={})  # type: ignore[arg-type]
    publish(root, report.build_id)
    return report


@pytest.fixture(scope="module")
def approximate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A published gallery with an IVF index, and the report of its build. Never write to it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_choice, "EXACT_VALUES", 0)
        root = tmp_path_factory.mktemp("approximate") / "gallery"
        report = gallery_at(root)
    return root, report


def test_the_manifest_says_which_index_and_the_report_why(approximate) -> None:
    root, report = approximate
    with Gallery.open(root) as gallery:
        assert gallery.manifest.index["kind"] == IVF
        assert gallery.manifest.index["nlist"] == report.index.lists == 128
        assert gallery.manifest.index["nprobe"] == report.index.chosen.probes < 64
        page = (root / "builds" / gallery.build_id / "report.html").read_text("utf-8")
    assert IVF in page
    assert report.index.why in page


def test_the_content_digest_knows_nothing_of_the_kind_of_index(approximate, tmp_path: Path) -> None:
    exact = gallery_at(tmp_path / "exact")
    assert exact.index.kind == FLAT
    assert exact.content_digest == approximate[1].content_digest


def test_products_are_identified_as_by_brute_force(approximate) -> None:
    keys, vectors = shop()
    moved = vectors - common_direction(keys >> 16, vectors)
    right = 0
    with Gallery.open(approximate[0]) as gallery:
        bank = Exhaustive(keys, vectors, lambda v: v)
        queries = bank.queries(seed=9, most=300)
        for query in queries:
            cosine = unit(moved) @ unit(query - common_direction(keys >> 16, vectors))
            wanted = f"product {keys[cosine.argmax()] >> 16}"
            found = identify(gallery, query, fingerprint=gallery.fingerprint).candidates
            assert len(found) == 5
            right += found[0].product_id == wanted
        assert right >= RECALL * len(queries)
        everything = identify(gallery, queries[0], fingerprint=gallery.fingerprint, top=PRODUCTS)
    assert len(everything.candidates) == PRODUCTS


def test_too_few_lists_searched_do_not_pass_the_gate(approximate) -> None:
    with Gallery.open(approximate[0]) as opened:
        results = {}
        for probes in (1, opened.manifest.index["nprobe"]):
            manifest = replace(opened.manifest, index={**opened.manifest.index, "nprobe": probes})
            folder = opened.root / "builds" / opened.build_id
            with Gallery(opened.root, folder, manifest, lease=None) as gallery:
                results[probes] = IndexExact()(Candidate(gallery, None, []))
    crippled, tuned = results.values()
    assert tuned.passed
    assert tuned.figure is not None
    assert tuned.figure >= RECALL
    assert tuned.allowed == ">= 0.99"
    assert not crippled.passed
    assert crippled.figure is not None
    assert crippled.figure < 0.9


def test_an_index_of_a_kind_from_the_future_is_refused_by_name(approximate) -> None:
    with Gallery.open(approximate[0]) as opened:
        settings = {**opened.manifest.index, "kind": "hnsw"}
        manifest = replace(opened.manifest, index=settings)
        with pytest.raises(UnsupportedFormat, match="'hnsw'; this version reads"):
            Gallery(opened.root, opened.root / "builds" / opened.build_id, manifest, lease=None)
