"""Every gate passes a good candidate, and fails the fault that it is there for."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from gallery import Candidate, Gallery, default_gates, open_catalog, read_current
from gallery.gates import CountDelta
from gallery.manifest import Manifest, read_manifest

GATES = {gate.name: gate for gate in default_gates()}


@dataclass
class Stage:
    """A candidate that can be spoilt before it is judged."""

    root: Path
    folder: Path
    manifest: Manifest
    keys: np.ndarray[Any, Any]
    vectors: np.ndarray[Any, Any]
    opened: list[Gallery] = field(default_factory=list)

    def set_index(self, keys: np.ndarray[Any, Any], vectors: np.ndarray[Any, Any]) -> None:
        """Write an index past the guards of `write_index`, and vouch for its bytes."""
        index = faiss.IndexIDMap2(faiss.IndexFlatIP(vectors.shape[1]))
        centred = vectors - np.asarray(self.manifest.index["centre"], np.float32)
        centred /= np.linalg.norm(centred, axis=1, keepdims=True)
        index.add_with_ids(np.ascontiguousarray(centred, np.float32), keys)
        faiss.write_index(index, str(self.folder / "index.faiss"))
        data = (self.folder / "index.faiss").read_bytes()
        entry = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        files = {**self.manifest.files, "index.faiss": entry}
        self.manifest = replace(self.manifest, files=files)

    def spoil_vector(self, row: int, change: Callable[[Any], Any]) -> None:
        path = next((self.root / "shards").glob("*/vectors.npy"))
        table = np.load(path)
        table["vector"][row] = change(table["vector"][row])
        np.save(path, table)

    def candidate(self) -> Candidate:
        gallery = Gallery(self.root, self.folder, self.manifest, lease=None)
        self.opened.append(gallery)
        return Candidate(gallery, None, open_catalog(self.root).rows())


@pytest.fixture
def stage(gallery_copy: Path, tmp_path: Path):
    build_id = read_current(gallery_copy).build
    folder = Path(shutil.copytree(gallery_copy / "builds" / build_id, tmp_path / "candidate"))
    table = np.load(next((gallery_copy / "shards").glob("*/vectors.npy")))
    manifest = read_manifest(gallery_copy, build_id)
    stage = Stage(gallery_copy, folder, manifest, table["key"].copy(), table["vector"].copy())
    yield stage
    for gallery in stage.opened:
        gallery.close()


def failing(candidate: Candidate) -> set[str]:
    return {name for name, gate in GATES.items() if not gate(candidate).passed}


def test_a_good_candidate_passes_every_gate(stage: Stage) -> None:
    results = [gate(stage.candidate()) for gate in default_gates()]
    assert [r.name for r in results] == list(GATES)
    assert [r.name for r in results if not r.passed] == []
    assert {r.name: r.figure for r in results if r.name.endswith(("al", "exact"))} == {
        "self_retrieval": 1.0,
        "index_exact": 1.0,
    }


def test_a_missing_vector_in_the_index_is_found(stage: Stage) -> None:
    stage.set_index(stage.keys[1:], stage.vectors[1:])
    assert {"counts_agree", "self_retrieval"} <= failing(stage.candidate())


def test_a_surplus_vector_in_the_index_is_found(stage: Stage) -> None:
    extra = stage.vectors[:1][:, ::-1]
    keys = np.append(stage.keys, np.int64(99 << 16))
    stage.set_index(keys, np.concatenate([stage.vectors, extra]))
    assert "counts_agree" in failing(stage.candidate())


def test_a_key_that_is_twice_in_the_index_is_found(stage: Stage) -> None:
    keys, vectors = np.append(stage.keys, stage.keys[0]), stage.vectors
    stage.set_index(keys, np.concatenate([vectors, vectors[:1]]))
    assert "counts_agree" in failing(stage.candidate())


def test_shuffled_keys_are_found_although_all_are_there(stage: Stage) -> None:
    stage.set_index(np.roll(stage.keys, 1), stage.vectors)
    assert failing(stage.candidate()) == {"self_retrieval", "index_exact"}


def test_an_index_of_other_vectors_is_found(stage: Stage) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=stage.vectors.shape)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    stage.set_index(stage.keys, vectors)
    assert {"self_retrieval", "index_exact"} <= failing(stage.candidate())


@pytest.mark.parametrize(
    "change",
    [lambda v: v * np.nan, lambda v: v * np.inf, lambda v: v * 1.01, lambda v: v * 0],
    ids=["nan", "inf", "long", "zero"],
)
def test_a_vector_that_is_not_finite_and_unit_is_found(
    stage: Stage, change: Callable[[Any], Any]
) -> None:
    with np.errstate(invalid="ignore"):
        stage.spoil_vector(4, change)
        assert not GATES["vectors_unit"](stage.candidate()).passed


@pytest.mark.parametrize("name", ["data.mdb", "vectors.npy", "manifest.json"])
def test_a_flipped_byte_in_a_new_shard_is_found(stage: Stage, flip, name: str) -> None:
    path = next((stage.root / "shards").glob(f"*/{name}"))
    flip(path, path.stat().st_size - 20)
    result = GATES["files_intact"](stage.candidate())
    assert (result.passed, result.figure) == (False, 1)
    assert str(path) in result.message


def test_a_catalog_row_that_is_not_in_the_build_is_found(stage: Stage) -> None:
    candidate = stage.candidate()
    fewer = replace(candidate, rows=candidate.rows[:-1])
    more = replace(
        candidate,
        rows=[*candidate.rows, replace(candidate.rows[0], slot=40)],
    )
    assert GATES["counts_agree"](candidate).passed
    assert not GATES["counts_agree"](fewer).passed
    assert not GATES["counts_agree"](more).passed


@pytest.mark.parametrize(
    ("products", "references", "passed"),
    [
        ((10, 10), (100, 100), True),
        ((10, 8), (100, 90), True),
        ((10, 7), (100, 100), False),
        ((10, 10), (100, 79), False),
        ((10, 20), (100, 300), True),
        ((10, 20), (100, 50), False),
    ],
)
def test_losing_more_than_a_fifth_of_products_or_references_fails(
    stage: Stage, products: tuple[int, int], references: tuple[int, int], passed: bool
) -> None:
    manifests = [
        replace(stage.manifest, products=p, references=r)
        for p, r in zip(products, references, strict=True)
    ]
    old, new = (Gallery(stage.root, stage.folder, m, lease=None) for m in manifests)
    assert CountDelta(most_lost=0.2)(Candidate(new, old, [])).passed is passed
