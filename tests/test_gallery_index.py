"""IVF indexes against brute force, whichever process, thread or device made them."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from indexed_products import DIMS, Array, brute, sha256, shop, unit

from gallery import GalleryError
from gallery.index import Index, training_device, write_index


def ivf_at(path: Path, keys: Array, vectors: Array, *, lists: int, probes: int) -> Index:
    write_index(path, keys, vectors, lists=lists)
    return Index(path, sha256(path), probes=probes)


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
