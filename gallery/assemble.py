"""Makes the shard of a plan: `make_shard`, which any process on this gallery's disk can run.

In a shard that changed only the references that are new are described, and only the products that
changed are learned from again; the records of the others are copied from the parent build.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from embeddings.embedder import Embedder
from embeddings.fingerprint import EmbeddingFingerprint
from embeddings.patches import Floats
from embeddings.threads import one_blas_thread, one_opencv_thread, threads_here
from gallery import durable
from gallery.catalog import Catalog, CatalogRow
from gallery.describe import (
    RECORD_CODEC,
    Description,
    Reference,
    describe_originals,
    from_record,
    to_record,
)
from gallery.errors import DamagedGallery
from gallery.found import set_aside_if_damaged
from gallery.originals import read_original
from gallery.plan import ShardPlan
from gallery.reader import Gallery
from gallery.records import Record, packed
from gallery.shard import ShardWriter, StoredReference
from gallery.stopwatch import busy

_CHUNK = 16  # pictures decoded at a time; a 12-megapixel picture is 36 MB


class ProductStep(Protocol):
    """Something learned per product at build time, supplied from above (profiles, audits).

    `fingerprint` changes whenever the step would find something else from the same references. It
    is pickled for a build with several processes.
    """

    name: str
    fingerprint: str

    def __call__(self, references: Sequence[Reference]) -> Record: ...


@dataclass(frozen=True)
class Described:
    """A reference ready to be stored: its record and its unit vector."""

    record: Record
    vector: Floats


class Describer(Protocol):
    """Turns catalog rows into records. `fingerprint` covers everything that shapes them.

    It is pickled for a build with several processes.
    """

    @property
    def fingerprint(self) -> EmbeddingFingerprint: ...

    @property
    def dims(self) -> int: ...

    def describe(self, rows: Sequence[CatalogRow]) -> Iterator[Described]: ...


class EmbeddingDescriber:
    """The real describer: originals from the catalog through an embedder. Final."""

    def __init__(self, catalog: Catalog, embedder: Embedder, *, threads: int) -> None:
        self._root, self._embedder, self._threads = catalog.root, embedder, threads

    @property
    def fingerprint(self) -> EmbeddingFingerprint:
        return self._embedder.fingerprint(codec=RECORD_CODEC)

    @property
    def dims(self) -> int:
        return self._embedder.dims

    def describe(self, rows: Sequence[CatalogRow]) -> Iterator[Described]:
        """Results in the order of `rows`, the same whatever the number of threads."""
        read, threads = functools.partial(read_original, self._root), threads_here(self._threads)
        with busy("load"):
            self._embedder.load()
        with self._embedder.repeatable(), ThreadPoolExecutor(threads) as pool:
            for chunk in _chunks(rows):
                originals = [(read(r.image), read(r.mask) if r.mask else None) for r in chunk]
                found = describe_originals(originals, self._embedder, pool)
                yield from pool.map(_described, chunk, found)


def _described(row: CatalogRow, found: Description) -> Described:
    with busy("compress"):
        return Described(packed(to_record(row, found)), found.vector)


@dataclass(frozen=True)
class ShardTask:
    """All that `make_shard` needs, to be pickled and sent to where it runs.

    parent  the build whose records are copied where nothing changed; None: describe all
    """

    root: Path
    plan: ShardPlan
    describer: Describer
    steps: tuple[ProductStep, ...]
    parent: Gallery | None


@dataclass(frozen=True)
class ShardMade:
    """The folder `shards/<digest>` is on the disk. `seconds`: by stage, over all threads."""

    digest: str
    embedded: int
    copied: int
    mended: int
    seconds: Mapping[str, float]


@dataclass
class Tally:
    """How the references of a build came to be in it.

    mended          embedded because what the parent holds of them is damaged
    shards_damaged  found on the disk, not as they were written
    seconds         of work by stage, over all threads and processes
    """

    embedded: int = 0
    copied: int = 0
    mended: int = 0  # embedded because what the parent holds of them is damaged
    shards_shared: int = 0
    shards_written: int = 0
    shards_damaged: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, made: ShardMade) -> None:
        self.embedded += made.embedded
        self.copied += made.copied
        self.mended += made.mended
        self.shards_written += 1
        for stage, spent in made.seconds.items():
            self.seconds[stage] = round(self.seconds.get(stage, 0.0) + spent, 3)


def make_shard(task: ShardTask, *, told: Callable[[int], None] = lambda done: None) -> ShardMade:
    """Write the shard of a plan under its content's digest. `told`: references done so far.

    All that a pool or a cluster runs, where the gallery's disk is. The content doesn't depend on
    where, beside what, or with how many threads that is.
    """
    before = busy.seconds()
    job = _Job(task, told)
    # One thread each inside the libraries: there are as many pictures at work as threads.
    with one_blas_thread, one_opencv_thread, durable.staging_folder(task.root / "shards") as folder:
        manifest = job.write(folder)
        target = task.root / "shards" / manifest["content_digest"]
        with busy("store"):
            if target.exists():  # rebuilt in full, or its manifest was damaged: same content
                set_aside_if_damaged(target)
            if not target.exists():
                durable.settle(folder, target)
    return ShardMade(target.name, job.embedded, job.copied, job.mended, busy.since(before))


class _Job:
    """One `make_shard`: what it copies, and how much it did."""

    def __init__(self, task: ShardTask, told: Callable[[int], None]) -> None:
        self._task, self._told, self._done = task, told, 0
        self._plan, self._parent = task.plan, task.parent
        self.embedded = self.copied = self.mended = 0
        parent = task.parent
        if parent is not None and parent.fingerprint != task.describer.fingerprint:
            self._parent = None
        built = self._parent.manifest if self._parent else None
        # What a delta holds of a product was not made by the steps that the manifest names.
        self._own = {task.root / "shards" / s.digest for s in built.shards} if built else set()
        self._steps = dict(built.steps) if built else {}

    def write(self, folder: Path) -> dict[str, Any]:
        dims = self._task.describer.dims
        writer = ShardWriter(folder, dims=dims, input_digest=self._plan.input_digest)
        try:
            for group in self._described():
                rows = [row for row, _ in group]
                records = [made.record for _, made in group]
                vectors = [made.vector for _, made in group]
                extras = self._learned(rows, records, vectors)
                with busy("store"):
                    writer.add_product(rows, records, vectors, extras)
                self._done += len(rows)
                self._told(self._done)
            with busy("store"):
                return writer.finish()
        except BaseException:
            writer.abandon()
            raise

    def _described(self) -> Iterator[list[tuple[CatalogRow, Described]]]:
        """Rows with their records, a product at a time, in order."""
        rows = self._plan.rows
        kept = {row.key: old for row in rows if (old := self._kept(row)) is not None}
        fresh = self._task.describer.describe([row for row in rows if row.key not in kept])
        if len(kept) == len(rows):
            fresh = iter(())  # never start the describer: it would load the network
        self.copied, self.embedded = len(kept), len(rows) - len(kept)
        for _, group in itertools.groupby(rows, key=lambda row: row.product_no):
            yield [
                (row, self._kept_or_anew(row, kept[row.key]) if row.key in kept else next(fresh))
                for row in group
            ]

    def _kept(self, row: CatalogRow) -> StoredReference | None:
        """The parent's entry for the same picture and mask in the same place, if comparable."""
        if self._parent is None:
            return None
        try:
            if row.product_id not in self._parent:
                return None
            found = self._parent.stored(row.product_id)
        except DamagedGallery:
            self.mended += 1
            return None
        for old in found.references:
            if (old.slot, old.image, old.mask) == (row.slot, row.image, row.mask):
                return old
        return None

    def _kept_or_anew(self, row: CatalogRow, old: StoredReference) -> Described:
        try:
            return self._copy(row, old)
        except DamagedGallery:
            self.mended += 1
            self.copied -= 1
            self.embedded += 1
            (made,) = self._task.describer.describe([row])
            return made

    def _copy(self, row: CatalogRow, old: StoredReference) -> Described:
        assert self._parent is not None
        with busy("copy"):
            shard = self._parent.shard_of(row.product_id)
            record = shard.record(row.product_id, old)
            told = {"view": row.view, "variant": row.variant, "valid_from": row.valid_from}
            if any(record.meta[key] != value for key, value in told.items()):
                record = Record(record.kind, {**record.meta, **told}, record.arrays)
            return Described(record, shard.vector(old))

    def _learned(
        self, rows: Sequence[CatalogRow], records: Sequence[Record], vectors: Sequence[Floats]
    ) -> dict[str, Record]:
        """What the steps find, or found when the parent was built from the same references."""
        found = {step.name: self._known(step, rows) for step in self._task.steps}
        if any(record is None for record in found.values()):
            # From what was stored, not from what was embedded: readers will see the same.
            references = [from_record(r, v) for r, v in zip(records, vectors, strict=True)]
            for step in self._task.steps:
                if found[step.name] is None:
                    with busy(step.name):
                        found[step.name] = step(references)
        return {name: record for name, record in found.items() if record is not None}

    def _known(self, step: ProductStep, rows: Sequence[CatalogRow]) -> Record | None:
        parent, product_id = self._parent, rows[0].product_id
        if parent is None or self._steps.get(step.name) != step.fingerprint:
            return None
        with contextlib.suppress(DamagedGallery):  # then it is learned again
            if product_id in parent and parent.shard_of(product_id).folder in self._own:
                seen = [_seen_by_steps(r) for r in parent.stored(product_id).references]
                if seen == [_seen_by_steps(row) for row in rows]:
                    return parent.extra(product_id, step.name)
        return None


def _seen_by_steps(row: CatalogRow | StoredReference) -> tuple[object, ...]:
    return (row.slot, row.image, row.mask, row.view, row.variant, row.valid_from)


def _chunks(rows: Sequence[CatalogRow]) -> Iterator[Sequence[CatalogRow]]:
    return (rows[k : k + _CHUNK] for k in range(0, len(rows), _CHUNK))
