"""The index and what is made of it: exact neighbours, one rank per product, nothing foreign."""

from __future__ import annotations

import hashlib
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embeddings.errors import FingerprintMismatch
from gallery import CatalogRow, Described, Gallery, GalleryError, Record, identify, open_catalog
from gallery.errors import DamagedGallery
from gallery.index import Index, write_index


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray[Any, Any]:
    vectors = rng.normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def index_at(path: Path, keys: np.ndarray[Any, Any], vectors: np.ndarray[Any, Any]) -> Index:
    write_index(path, keys, vectors)
    return Index(path, hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture
def opened(sound_gallery: Path):
    with Gallery.open(sound_gallery) as gallery:
        yield gallery


# Index


def test_neighbours_are_those_of_an_exhaustive_search(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    vectors, queries = unit(rng, 200, 16), unit(rng, 20, 16)
    keys = rng.permutation(10_000)[:200].astype(np.int64) << 16 | 3
    index = index_at(tmp_path / "i", keys, vectors)
    assert index.keys().tolist() == keys.tolist()
    for query in queries:
        cosine = vectors @ query
        order = np.argsort(-cosine)[:7]
        found = index.search(query, count=7)
        assert found.keys.tolist() == keys[order].tolist()
        np.testing.assert_allclose(found.cosine, cosine[order], atol=1e-6)


def test_more_neighbours_than_there_are_gives_all_of_them_once(tmp_path: Path) -> None:
    vectors = unit(np.random.default_rng(2), 5, 4)
    index = index_at(tmp_path / "i", np.arange(5, dtype=np.int64), vectors)
    assert sorted(index.search(vectors[0], count=50).keys.tolist()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("fault", ["nan", "inf", "long", "zero", "twice"])
def test_what_faiss_would_take_in_silence_is_refused(tmp_path: Path, fault: str) -> None:
    vectors, keys = unit(np.random.default_rng(3), 6, 4), np.arange(6, dtype=np.int64)
    if fault == "twice":
        keys[4] = keys[1]
    else:
        vectors[4] *= {"nan": np.nan, "inf": np.inf, "long": 1.01, "zero": 0.0}[fault]
    with pytest.raises(GalleryError, match="occur twice" if fault == "twice" else "row 4"):
        write_index(tmp_path / "i", keys, vectors)
    assert not (tmp_path / "i").exists()


@pytest.mark.parametrize("query", [np.ones(3), np.ones(5), np.full(4, np.nan)])
def test_a_query_of_another_length_or_not_finite_is_refused(
    tmp_path: Path, query: np.ndarray[Any, Any]
) -> None:
    vectors = unit(np.random.default_rng(3), 6, 4)
    index = index_at(tmp_path / "i", np.arange(6, dtype=np.int64), vectors)
    with pytest.raises(GalleryError, match=r"expected \[4\]"):
        index.search(query.astype(np.float32), count=1)


def test_an_index_is_searched_from_threads_and_after_pickling(tmp_path: Path) -> None:
    vectors = unit(np.random.default_rng(4), 60, 8)
    index = index_at(tmp_path / "i", np.arange(60, dtype=np.int64), vectors)
    copy = pickle.loads(pickle.dumps(index))

    def nearest(i: int) -> int:
        return int((index, copy)[i % 2].search(vectors[i], count=1).keys[0])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(nearest, range(60))) == list(range(60))


def test_a_flipped_byte_of_the_index_is_an_error_and_not_an_answer(
    gallery_copy: Path, flip
) -> None:
    path = next(gallery_copy.glob("builds/*/index.faiss"))
    size = path.stat().st_size
    for position in [0, 4, size // 2, size - 1, *np.random.default_rng(0).integers(0, size, 20)]:
        flip(path, int(position), 0x10)
        with Gallery.open(gallery_copy) as gallery, pytest.raises(DamagedGallery, match="index"):
            identify(gallery, gallery.vectors("product-00")[0], fingerprint=gallery.fingerprint)
        flip(path, int(position), 0x10)


# Identify


class Planted:
    """A describer whose vectors are given by (product, slot). Final."""

    dims = 6

    def __init__(self, fingerprint: Any, vectors: dict[tuple[str, int], Any]) -> None:
        self.fingerprint, self._vectors = fingerprint, vectors

    def describe(self, rows: list[CatalogRow]) -> Any:
        for row in rows:
            meta = {"reference_id": row.reference_id}
            vector = self._vectors[row.product_id, row.slot]
            yield Described(Record("reference", meta, {}), vector)


@pytest.fixture
def planted(tmp_path: Path, write_pictures, catalog_at, build_at, opened: Gallery):
    """A gallery with 12 references in one product and 2 in each of 5 others; and its vectors."""
    source = write_pictures(tmp_path / "source", products=6, references=2)
    write_pictures(source, products=1, references=12)
    root = catalog_at(tmp_path / "planted", source)
    rng = np.random.default_rng(11)
    centre = unit(rng, 6)
    vectors = {}
    for row in open_catalog(root).rows():
        crowd = row.product_id == "product-00"
        vector = (centre + 0.05 * rng.normal(size=6)) if crowd else unit(rng, 6)
        vectors[row.product_id, row.slot] = (vector / np.linalg.norm(vector)).astype(np.float32)
    assert build_at(root, describer=Planted(opened.fingerprint, vectors)).published
    with Gallery.open(root) as gallery:
        yield gallery, vectors, centre


def ranking(vectors: dict[tuple[str, int], Any], query: Any) -> list[tuple[str, float]]:
    """The oracle: every product by its best reference, the products' mean taken away."""
    products = sorted({product for product, _ in vectors})
    means = [np.mean([v for (p, _), v in vectors.items() if p == name], 0) for name in products]
    centre = np.mean(means, 0) * len(products) / (len(products) + 4)
    best: dict[str, float] = {}
    for (product, _), vector in vectors.items():
        a, b = vector - centre, query - centre
        cosine = float(a @ b) / float(np.linalg.norm(a) * np.linalg.norm(b))
        best[product] = min(best.get(product, 9.0), 1.0 - cosine)
    return sorted(best.items(), key=lambda pair: pair[1])


@pytest.mark.parametrize("top", [1, 2, 3, 5, 6, 100])
def test_products_rank_by_their_best_reference(planted, top: int) -> None:
    gallery, vectors, _ = planted
    for query in unit(np.random.default_rng(top), 10, 6):
        expected = ranking(vectors, query)[:top]
        found = identify(gallery, query, fingerprint=gallery.fingerprint, top=top)
        assert [c.product_id for c in found.candidates] == [name for name, _ in expected]
        assert [c.score for c in found.candidates] == pytest.approx(
            [score for _, score in expected], abs=1e-6
        )
        assert found.known is None
        assert {c.p_value for c in found.candidates} == {None}


@pytest.mark.parametrize("top", [1, 2, 6])
def test_a_product_with_many_references_does_not_crowd_out_the_others(planted, top: int) -> None:
    gallery, vectors, centre = planted
    found = identify(gallery, centre, fingerprint=gallery.fingerprint, top=top)
    names = [c.product_id for c in found.candidates]
    assert names == [name for name, _ in ranking(vectors, centre)[:top]]
    assert names[0] == "product-00"


def test_a_references_own_vector_finds_its_product_at_distance_zero(opened: Gallery) -> None:
    for name in opened.product_ids():
        for vector in opened.vectors(name):
            first = identify(opened, vector, fingerprint=opened.fingerprint).candidates[0]
            assert first.product_id == name
            assert first.score == pytest.approx(0, abs=1e-6)


def test_vectors_of_another_embedder_are_refused(opened: Gallery) -> None:
    vector = opened.vectors("product-00")[0]
    for change in ({"weights_sha256": "1" * 64}, {"codec": "none"}, {"preprocessing": "other"}):
        with pytest.raises(FingerprintMismatch, match=next(iter(change))):
            identify(opened, vector, fingerprint=replace(opened.fingerprint, **change))
    elsewhere = replace(opened.fingerprint, device_class="cuda")  # recorded, not refused
    assert identify(opened, vector, fingerprint=elsewhere).candidates


@pytest.mark.parametrize("top", [0, -1])
def test_asking_for_no_candidates_is_refused(opened: Gallery, top: int) -> None:
    with pytest.raises(GalleryError, match="at least 1"):
        identify(opened, opened.vectors("product-00")[0], fingerprint=opened.fingerprint, top=top)
