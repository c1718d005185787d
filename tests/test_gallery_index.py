"""Exact and IVF indexes against brute force; which one a build gets, and that recall is gated."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from embeddings import fake_embedder
from gallery import (
    CatalogRow,
    Described,
    Gallery,
    GalleryError,
    Record,
    build,
    create_catalog,
    identify,
    index_choice,
    publish,
)
from gallery.errors import UnsupportedFormat
from gallery.gates import Candidate, IndexExact
from gallery.index import FLAT, IVF, Index, common_direction, training_device, write_index
from gallery.index_choice import AIM, RECALL, Exhaustive, Trial, choose, list_count, make_index

PRODUCTS, EACH, DIMS = 400, 3, 16
Array = np.ndarray[Any, Any]


def unit(vectors: Array) -> Array:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def shop(products: int = PRODUCTS, *, seed: int = 0, flat_dims: int = 3) -> tuple[Array, Array]:
    """Keys and vectors of products that spread over few of the dimensions, as real ones do."""
    rng = np.random.default_rng(seed)
    anchors = rng.normal(size=(products, flat_dims)) @ rng.normal(size=(flat_dims, DIMS))
    vectors = np.repeat(anchors, EACH, 0) + 0.1 * rng.normal(size=(products * EACH, DIMS))
    numbers = np.arange(products, dtype=np.int64)
    return (numbers[:, None] << 16 | np.arange(EACH)).ravel(), unit(vectors)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def ivf_at(path: Path, keys: Array, vectors: Array, *, lists: int, probes: int) -> Index:
    write_index(path, keys, vectors, lists=lists)
    return Index(path, sha256(path), probes=probes)


def brute(keys: Array, vectors: Array, query: Array, count: int) -> list[int]:
    return [int(k) for k in keys[np.argsort(-(vectors @ query), kind="stable")[:count]]]


# The IVF index


def test_with_all_lists_searched_ivf_is_an_exhaustive_search(tmp_path: Path) -> None:
    keys, vectors = shop()
    index = ivf_at(tmp_path / "i", keys, vectors, lists=32, probes=32)
    assert not index.exact
    assert index.scanned(vectors[:5]) == 1
    assert sorted(index.keys().tolist()) == keys.tolist()
    assert len(index) == len(keys)
    for query in unit(np.random.default_rng(1).normal(size=(20, DIMS))):
        found = index.search(query, count=12)
        assert found.keys.tolist() == brute(keys, vectors, query, 12)
        np.testing.assert_allclose(found.cosine, np.sort(vectors @ query)[:-13:-1], atol=1e-6)


def test_more_lists_find_more_and_compare_more(tmp_path: Path) -> None:
    keys, vectors = shop()
    index = ivf_at(tmp_path / "i", keys, vectors, lists=32, probes=1)
    queries = unit(np.random.default_rng(1).normal(size=(100, DIMS)))
    right, scanned = [], []
    for probes in (1, 4, 16, 32):
        tried = index.with_probes(probes)
        pairs = [(tried.search(q, count=1).keys[0], brute(keys, vectors, q, 1)[0]) for q in queries]
        right.append(sum(a == b for a, b in pairs))
        scanned.append(tried.scanned(queries))
    assert right == sorted(right)
    assert right[0] < right[-1] == 100
    assert scanned == sorted(scanned)
    assert scanned[0] < 0.2


@pytest.mark.parametrize("count", [1, 40, 200, 1200, 5000])
def test_lists_that_run_out_are_joined_by_others_until_there_are_enough(
    tmp_path: Path, count: int
) -> None:
    keys, vectors = shop()
    index = ivf_at(tmp_path / "i", keys, vectors, lists=64, probes=1)
    raw = faiss.read_index(str(tmp_path / "i"))
    assert (raw.search(vectors[:1], 1200)[1] == -1).any()  # what must not be passed on
    for query in vectors[::150]:
        found = index.search(query, count=count).keys.tolist()
        assert len(found) == len(set(found)) == min(count, len(keys))
        assert set(found) <= set(keys.tolist())
        if count >= len(keys):
            assert found[:20] == brute(keys, vectors, query, 20)


def test_vectors_that_are_all_alike_leave_lists_empty_and_are_found(tmp_path: Path) -> None:
    keys = np.arange(8, dtype=np.int64)
    vectors = np.repeat(unit(np.eye(4))[:2], 4, axis=0)
    index = ivf_at(tmp_path / "i", keys, vectors, lists=8, probes=2)
    assert sorted(index.keys().tolist()) == keys.tolist()
    assert sorted(index.search(vectors[0], count=8).keys.tolist()) == keys.tolist()


def test_more_lists_than_vectors_and_repeated_keys_are_refused(tmp_path: Path) -> None:
    keys, vectors = shop(2)
    with pytest.raises(GalleryError, match="7 lists for 6 vectors"):
        write_index(tmp_path / "i", keys, vectors, lists=7)
    with pytest.raises(GalleryError, match="occur twice"):
        write_index(tmp_path / "i", keys * 0, vectors, lists=2)
    assert not (tmp_path / "i").exists()


@pytest.mark.parametrize("lists", [0, 8])
def test_a_search_leaves_its_threads_number_as_it_was(tmp_path: Path, lists: int) -> None:
    """torch may share FAISS's OpenMP: the network ran on one thread after the first search."""
    keys, vectors = shop()
    write_index(tmp_path / "i", keys, vectors, lists=lists)
    index = Index(tmp_path / "i", sha256(tmp_path / "i"), probes=2 if lists else None)
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(3)
    try:
        index.search(vectors[0], count=4)
        assert faiss.omp_get_max_threads() == 3
    finally:
        faiss.omp_set_num_threads(before)


def test_an_ivf_index_is_searched_from_threads_and_after_pickling(tmp_path: Path) -> None:
    keys, vectors = shop()
    index = ivf_at(tmp_path / "i", keys, vectors, lists=32, probes=3)
    copy = pickle.loads(pickle.dumps(index))
    expected = [index.search(v, count=5).keys.tolist() for v in vectors[:200]]

    def found(i: int) -> list[int]:
        return list((index, copy)[i % 2].search(vectors[i], count=5).keys)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(found, range(200))) == expected


_BUILD = """
import sys
from pathlib import Path
import numpy as np
from gallery.index import write_index
table = np.load(sys.argv[1])
write_index(Path(sys.argv[2]), table["keys"], table["vectors"], lists=64)
"""


def test_the_same_vectors_give_the_same_index_in_any_process(tmp_path: Path) -> None:
    keys, vectors = shop(2000)
    np.savez(tmp_path / "table.npz", keys=keys, vectors=vectors)
    for threads in ("1", "2"):
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        words = [str(tmp_path / "table.npz"), str(tmp_path / threads)]
        subprocess.run([sys.executable, "-c", _BUILD, *words], check=True, env=environment)
    assert sha256(tmp_path / "1") == sha256(tmp_path / "2")


def test_where_there_is_a_gpu_it_finds_the_nearest_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, vectors = shop()
    write_index(tmp_path / "cpu", keys, vectors, lists=32)
    asked: list[int] = []

    class OnGpu(faiss.IndexFlatIP):  # type: ignore[misc]
        def search(self, x: Array, k: int) -> Any:
            asked.append(len(x))
            return super().search(x, k)

    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_all_gpus", lambda index: OnGpu(index.d), raising=False)
    assert training_device() == "gpu"
    write_index(tmp_path / "gpu", keys, vectors, lists=32)
    assert sum(asked) == len(keys)
    assert sha256(tmp_path / "gpu") == sha256(tmp_path / "cpu")


@pytest.mark.skipif(training_device() == "cpu", reason="FAISS sees no GPU here")
def test_an_index_made_on_a_gpu_finds_what_one_made_on_a_cpu_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, vectors = shop()
    on_gpu = ivf_at(tmp_path / "gpu", keys, vectors, lists=32, probes=12)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    on_cpu = ivf_at(tmp_path / "cpu", keys, vectors, lists=32, probes=12)
    pairs = [[i.search(v, count=1).keys[0] for i in (on_gpu, on_cpu)] for v in vectors]
    assert np.mean([a == b for a, b in pairs]) >= 0.99


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
