"""Makes the shard of a plan, or finds it: the parent's, or one that a killed run left.

In a shard that changed only the references that are new are described; the records of the others
are copied from the parent build.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from embeddings.embedder import Embedder
from embeddings.fingerprint import EmbeddingFingerprint
from embeddings.patches import Floats
from gallery import durable
from gallery.catalog import Catalog, CatalogRow
from gallery.describe import RECORD_CODEC, Reference, describe_originals, from_record, to_record
from gallery.errors import DamagedGallery
from gallery.manifest import ShardEntry
from gallery.plan import ShardPlan
from gallery.reader import Gallery
from gallery.records import Record
from gallery.shard import ShardWriter, StoredReference, describe_files

_CHUNK = 16  # pictures decoded at a time; a 12-megapixel picture is 36 MB


class ProductStep(Protocol):
    """Something learned per product at build time, supplied from above (profiles, audits).

    `fingerprint` changes whenever the step would find something else from the same references.
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
    """Turns catalog rows into records. `fingerprint` covers everything that shapes them."""

    @property
    def fingerprint(self) -> EmbeddingFingerprint: ...

    @property
    def dims(self) -> int: ...

    def describe(self, rows: Sequence[CatalogRow]) -> Iterator[Described]: ...


class EmbeddingDescriber:
    """The real describer: originals from the catalog through an embedder. Final."""

    def __init__(self, catalog: Catalog, embedder: Embedder, *, threads: int) -> None:
        self._catalog, self._embedder, self._threads = catalog, embedder, threads

    @property
    def fingerprint(self) -> EmbeddingFingerprint:
        return self._embedder.fingerprint(codec=RECORD_CODEC)

    @property
    def dims(self) -> int:
        return self._embedder.dims

    def describe(self, rows: Sequence[CatalogRow]) -> Iterator[Described]:
        """Results in the order of `rows`, the same whatever the number of threads."""
        read = self._catalog.read_original
        with self._embedder.repeatable(), ThreadPoolExecutor(self._threads) as pool:
            for chunk in _chunks(rows):
                originals = [(read(r.image), read(r.mask) if r.mask else None) for r in chunk]
                found = describe_originals(originals, self._embedder, pool)
                for row, one in zip(chunk, found, strict=True):
                    yield Described(to_record(row, one), one.vector)


@dataclass
class Tally:
    """How the references of a build came to be in it."""

    embedded: int = 0
    copied: int = 0
    mended: int = 0  # embedded because what the parent holds of them is damaged
    shards_shared: int = 0
    shards_written: int = 0


class ShardMaker:
    """Finds or makes the shard of a plan: parent's, left by a killed run, or new."""

    def __init__(
        self,
        root: Path,
        describer: Describer,
        steps: Sequence[ProductStep],
        parent: Gallery | None,
        full: bool,
        progress: Callable[[int], None],
    ) -> None:
        self._root, self._describer, self._steps = root, describer, steps
        self._parent, self._full = parent, full
        self._progress, self._done = progress, 0
        self.tally = Tally()
        self._known = {} if full else _shards_by_input(root)

    def entry(self, plan: ShardPlan) -> ShardEntry:
        known = self._known.get(plan.input_digest)
        if known is not None:
            self.tally.shards_shared += 1
            self._advance(len(plan.rows))
            return _entry(self._root, plan.number, known)
        manifest = self._write(plan)
        self.tally.shards_written += 1
        return _entry(self._root, plan.number, manifest)

    def _write(self, plan: ShardPlan) -> dict[str, Any]:
        with durable.staging_folder(self._root / "shards") as folder:
            writer = ShardWriter(folder, dims=self._describer.dims, input_digest=plan.input_digest)
            try:
                for group in self._described(plan.rows):
                    rows = [row for row, _ in group]
                    records = [made.record for _, made in group]
                    vectors = [made.vector for _, made in group]
                    writer.add_product(rows, records, vectors, self._learn(records, vectors))
                    self._advance(len(rows))
                manifest = writer.finish()
            except BaseException:
                writer.abandon()
                raise
            target = self._root / "shards" / manifest["content_digest"]
            if target.exists():  # rebuilt in full, or its manifest was damaged: same content
                _set_aside_if_damaged(target)
            if not target.exists():
                durable.settle(folder, target)
            return _read_shard_manifest(target)

    def _described(
        self, rows: Sequence[CatalogRow]
    ) -> Iterator[list[tuple[CatalogRow, Described]]]:
        """Rows with their records, a product at a time, in order."""
        kept = {row.key: old for row in rows if (old := self._kept(row)) is not None}
        fresh = self._describer.describe([row for row in rows if row.key not in kept])
        if len(kept) == len(rows):
            fresh = iter(())  # never start the describer: it would load the network
        self.tally.copied += len(kept)
        self.tally.embedded += len(rows) - len(kept)
        for _, group in itertools.groupby(rows, key=lambda row: row.product_no):
            yield [
                (row, self._kept_or_anew(row, kept[row.key]) if row.key in kept else next(fresh))
                for row in group
            ]

    def _kept(self, row: CatalogRow) -> StoredReference | None:
        """The parent's entry for the same picture and mask in the same place, if comparable."""
        parent = self._parent
        if parent is None or self._full or parent.fingerprint != self._describer.fingerprint:
            return None
        try:
            if row.product_id not in parent:
                return None
            found = parent.stored(row.product_id)
        except DamagedGallery:
            self.tally.mended += 1
            return None
        for old in found.references:
            if (old.slot, old.image, old.mask) == (row.slot, row.image, row.mask):
                return old
        return None

    def _kept_or_anew(self, row: CatalogRow, old: StoredReference) -> Described:
        try:
            return self._copy(row, old)
        except DamagedGallery:
            self.tally.mended += 1
            self.tally.copied -= 1
            self.tally.embedded += 1
            (made,) = self._describer.describe([row])
            return made

    def _copy(self, row: CatalogRow, old: StoredReference) -> Described:
        assert self._parent is not None
        shard = self._parent.shard_of(row.product_id)
        record = shard.record(row.product_id, old)
        meta = {**record.meta, "view": row.view, "variant": row.variant}
        meta["valid_from"] = row.valid_from
        return Described(Record(record.kind, meta, record.arrays), shard.vector(old))

    def _learn(self, records: Sequence[Record], vectors: Sequence[Floats]) -> dict[str, Record]:
        if not self._steps:
            return {}
        # From what was stored, not from what was embedded: readers will see the same.
        references = [from_record(r, v) for r, v in zip(records, vectors, strict=True)]
        return {step.name: step(references) for step in self._steps}

    def _advance(self, count: int) -> None:
        self._done += count
        self._progress(self._done)


def _shards_by_input(root: Path) -> dict[str, dict[str, Any]]:
    """Manifests of all complete shards by the digest of the plan they were made for."""
    found = {}
    for path in (root / "shards").glob("*/manifest.json"):
        if not durable.is_partial(path.parent):
            with contextlib.suppress(DamagedGallery):  # a damaged shard is made again
                manifest = _read_shard_manifest(path.parent)
                found[str(manifest["input_digest"])] = manifest
    return found


def _read_shard_manifest(folder: Path) -> dict[str, Any]:
    manifest = durable.read_json(folder / "manifest.json", what="shard manifest")
    for name, entry in manifest["files"].items():  # type: ignore[attr-defined]
        path = folder / name
        if not path.is_file() or path.stat().st_size != entry["bytes"]:
            raise DamagedGallery(f"{path}: missing or of another size than its manifest says")
    if manifest["content_digest"] != folder.name:
        raise DamagedGallery(f"{folder}/manifest.json: belongs to another shard")
    return manifest


def _set_aside_if_damaged(folder: Path) -> None:
    """Rename a shard whose bytes are not what its manifest says, so that it can be replaced."""
    try:
        for name, entry in _read_shard_manifest(folder)["files"].items():
            if durable.file_digest(folder / name) != entry["sha256"]:
                raise DamagedGallery(f"{folder / name}: sha256 differs")
    except (DamagedGallery, KeyError, TypeError):
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S%f")
        with durable.storage_errors(folder):
            shutil.move(folder, folder.with_name(f"damaged-{stamp}-{folder.name}"))


def _entry(root: Path, number: int, manifest: Mapping[str, Any]) -> ShardEntry:
    folder = root / "shards" / manifest["content_digest"]
    files = {**manifest["files"], **describe_files(folder, ("manifest.json",))}
    return ShardEntry(
        number,
        manifest["content_digest"],
        manifest["products"],
        manifest["references"],
        manifest["content_sum"],
        files,
    )


def _chunks(rows: Sequence[CatalogRow]) -> Iterator[Sequence[CatalogRow]]:
    return (rows[k : k + _CHUNK] for k in range(0, len(rows), _CHUNK))
