"""What a candidate build must pass before it may be published.

A gate looks at the candidate and its parent and returns a figure beside what is allowed. Gates
that need scoring (contamination, regression) are supplied from above through the same protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from embeddings.patches import Floats
from gallery import durable
from gallery.catalog import CatalogRow
from gallery.errors import GalleryError
from gallery.index import Keys, require_unit
from gallery.index_choice import RECALL, SAMPLE, Exhaustive, recall_of
from gallery.reader import Gallery

_SAMPLE = 500
_ROUNDING = 1e-5
MAX_LOST = 0.2


@dataclass(frozen=True)
class Candidate:
    """A finished build that isn't published: `rows` is what it should hold, in key order."""

    gallery: Gallery
    parent: Gallery | None
    rows: Sequence[CatalogRow]


@dataclass(frozen=True)
class GateResult:
    """`figure` was measured (None: it could not be); `allowed` says in words what it may be."""

    name: str
    passed: bool
    figure: float | None
    allowed: str
    message: str


class Gate(Protocol):
    """Raises nothing for a bad candidate: it returns a result that did not pass."""

    name: str

    def __call__(self, candidate: Candidate) -> GateResult: ...


class FilesIntact:
    """Every file that the build does not share with its parent reads back as it was written."""

    name = "files_intact"

    def __call__(self, candidate: Candidate) -> GateResult:
        gallery, parent = candidate.gallery, candidate.parent
        trusted = {s.digest for s in parent.shard_entries} if parent else set()
        bad, looked_at = [], 0
        for shard in gallery.shard_entries:
            for name, entry in shard.files.items() if shard.digest not in trusted else ():
                path = gallery.root / "shards" / shard.digest / name
                looked_at += 1
                if durable.file_digest(path) != entry["sha256"]:
                    bad.append(str(path))
        message = f"{looked_at} new files read back" + (f"; damaged: {bad}" if bad else "")
        return GateResult(self.name, not bad, len(bad), "0 damaged files", message)


class CountsAgree:
    """Catalog, manifest, product table, vectors and index hold the same references."""

    name = "counts_agree"

    def __call__(self, candidate: Candidate) -> GateResult:
        gallery = candidate.gallery
        expected = np.array([row.key for row in candidate.rows], np.int64)
        stored = np.sort(_vectors(gallery).keys)
        indexed = np.sort(gallery.index.keys())
        differing = sum(
            len(np.setxor1d(expected, other)) + abs(len(expected) - len(other))
            for other in (stored, indexed)
        )
        names = {row.product_id for row in candidate.rows}
        differing += len(names.symmetric_difference(gallery.product_ids()))
        differing += abs(gallery.reference_count - len(expected))
        message = f"{len(expected)} references of {len(names)} products expected"
        return GateResult(self.name, differing == 0, differing, "0 differences", message)


class VectorsUnit:
    """Global vectors are finite and of unit length."""

    name = "vectors_unit"

    def __call__(self, candidate: Candidate) -> GateResult:
        vectors = _vectors(candidate.gallery).vectors
        try:
            require_unit(vectors)
        except GalleryError as error:
            return GateResult(self.name, False, 1, "all finite and unit", str(error))
        length = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
        worst = float(np.abs(length - 1).max())
        return GateResult(self.name, True, worst, "length 1 within 1e-3", f"{len(vectors)} vectors")


class SelfRetrieval:
    """A reference's own vector retrieves it, or one that is as near to within rounding.

    Asked of up to `most` references, of those `among` them where keys are given.
    """

    name = "self_retrieval"

    def __init__(self, *, among: Keys | None = None, most: int = _SAMPLE) -> None:
        self._among, self._most = among, most

    def __call__(self, candidate: Candidate) -> GateResult:
        table = _vectors(candidate.gallery)
        keys = table.keys if self._among is None else self._among
        rows = np.flatnonzero(np.isin(table.keys, keys))
        rows = rows[_sample(len(rows), most=self._most)]
        found = 0
        index = candidate.gallery.index
        bank = Exhaustive(table.keys, table.vectors, index.centred)
        for row in rows:
            nearest = index.search(table.vectors[row], count=1).keys
            # What the index calls nearest must be that near by the stored vectors: shuffled keys
            # fail, burst shots of one pose pass.
            found += int((bank.cosines(nearest, table.vectors[row]) >= 1 - _ROUNDING).sum())
        share = found / len(rows) if len(rows) else 1.0
        return GateResult(self.name, share == 1, share, "1.0", f"{len(rows)} references tried")


class IndexExact:
    """The index finds what an exhaustive search finds, ties allowed for: all of it where it
    compares every vector, at least `index_choice.RECALL` of it where it is approximate.
    """

    name = "index_exact"

    def __call__(self, candidate: Candidate) -> GateResult:
        table, index = _vectors(candidate.gallery), candidate.gallery.index
        bank = Exhaustive(table.keys, table.vectors, index.centred)
        # Others than those that an approximate index was tuned on.
        queries = bank.queries(seed=1, most=100 if index.exact else SAMPLE)
        found = recall_of(index, bank, queries, bank.nearest(queries))
        figure, minimum = min(found.at_1, found.at_10), 1.0 if index.exact else RECALL
        message = (
            f"{len(queries)} queries against an exhaustive search: {found.at_1:.4f} of the "
            f"nearest, {found.at_10:.4f} of the ten nearest"
        )
        return GateResult(self.name, figure >= minimum, figure, f">= {minimum}", message)


class CountDelta:
    """The build did not lose a large part of its parent's products or references."""

    name = "count_delta"

    def __init__(self, *, most_lost: float = MAX_LOST) -> None:
        self._most = most_lost

    def __call__(self, candidate: Candidate) -> GateResult:
        allowed = f"<= {self._most:.0%} lost"
        if candidate.parent is None:
            return GateResult(self.name, True, 0, allowed, "no parent build to compare with")
        old, new = candidate.parent.manifest, candidate.gallery.manifest
        pairs = [(old.products, new.products), (old.references, new.references)]
        lost = max(max(0.0, (was - now) / was) for was, now in pairs)
        message = (
            f"{old.products} -> {new.products} products, "
            f"{old.references} -> {new.references} references"
        )
        if lost > self._most:
            message += "; if that is meant, `amiss rebuild --approve`"
        return GateResult(self.name, lost <= self._most, lost, allowed, message)


def default_gates(*, most_lost: float = MAX_LOST) -> tuple[Gate, ...]:
    """The gates that need nothing from above, in the order in which they are asked."""
    return (
        FilesIntact(),
        CountsAgree(),
        VectorsUnit(),
        SelfRetrieval(),
        IndexExact(),
        CountDelta(most_lost=most_lost),
    )


@dataclass(frozen=True)
class _Vectors:
    keys: Keys
    vectors: Floats


def _vectors(gallery: Gallery) -> _Vectors:
    tables = gallery.vector_tables()
    keys = [np.asarray(t["key"], np.int64) for t in tables]
    vectors = [np.asarray(t["vector"], np.float32) for t in tables]
    return _Vectors(np.concatenate(keys), np.concatenate(vectors))


def _sample(count: int, *, most: int = _SAMPLE) -> Keys:
    """Up to `most` rows, the same ones for the same count."""
    return np.sort(np.random.default_rng(count).permutation(count)[:most]).astype(np.int64)
