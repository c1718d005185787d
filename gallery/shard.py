"""A slice of the products on disk: LMDB for records, one .npy for global vectors.

    shards/<digest>/data.mdb       p: product record, r: reference records, x: step results
    shards/<digest>/vectors.npy    rows (key int64, vector float32 x D), in key order of the LMDB
    shards/<digest>/manifest.json  counts, digests, sha256 of both

Products go to shards by a hash of their ID, so a shard never depends on what else there is. The
folder's name is a digest of the shard's *content*: builds with the same content share the folder,
and a build that was killed finds its finished shards again. This is the only file that knows lmdb.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
from numpy.typing import NDArray

from embeddings.patches import Floats
from gallery import durable
from gallery.catalog import CatalogRow
from gallery.describe import Reference, from_record
from gallery.errors import DamagedGallery, StorageError
from gallery.index import require_unit
from gallery.records import Names, Record, pack, unpack

_MAP_SIZE = 1 << 38  # address space, not disk: LMDB files grow with what is put in
_PRODUCT, _REFERENCE, _EXTRA = b"p", b"r", b"x"
_TRANSACTION_BYTES = 64 << 20


@dataclass(frozen=True)
class StoredReference:
    """What a product's record says of one reference. `row`: its line in `vectors.npy`."""

    slot: int
    reference_id: str
    image: str
    mask: str | None
    view: str | None
    variant: str | None
    valid_from: str | None
    row: int
    vector_crc32: int


@dataclass(frozen=True)
class StoredProduct:
    product_id: str
    product_no: int
    references: tuple[StoredReference, ...]
    extras: tuple[str, ...]


def product_hash(product_id: str) -> bytes:
    """16 bytes that place a product: its shard, and its keys in it."""
    return hashlib.sha256(product_id.encode()).digest()[:16]


def shard_number(product_id: str, count: int) -> int:
    """Which of `count` shards (a power of two) holds a product: the hash's leading bits."""
    return int.from_bytes(product_hash(product_id)[:4]) * count >> 32


class ShardWriter:
    """Fills an empty folder with products in the order of `product_hash`. Final."""

    def __init__(self, folder: Path, *, dims: int, input_digest: str) -> None:
        self._folder, self._dims, self._input = folder, dims, input_digest
        self._content = hashlib.sha256(input_digest.encode())
        self._vectors: list[Any] = []
        self._products, self._references, self._sum = 0, 0, 0
        with _lmdb_errors(folder, writing=True):
            self._env = lmdb.open(
                str(folder), map_size=_MAP_SIZE, lock=False, sync=False, max_spare_txns=0
            )
        self._pending: list[tuple[bytes, bytes]] = []
        self._pending_bytes = 0

    def add_product(
        self,
        rows: Sequence[CatalogRow],
        records: Sequence[Record],
        vectors: Sequence[Floats],
        extras: Mapping[str, Record],
    ) -> None:
        """One product: its catalog rows in slot order, their records and vectors, step results.

        Raises `GalleryError` for a vector that is not finite and of unit length: a shard is found
        again by what it was made from, so a bad one must never be finished.
        """
        require_unit(np.stack(vectors))
        prefix = product_hash(rows[0].product_id)
        stored = [
            asdict(StoredReference(
                row.slot, row.reference_id, row.image, row.mask, row.view, row.variant,
                row.valid_from, len(self._vectors) + i, _crc(v),
            ))
            for i, (row, v) in enumerate(zip(rows, vectors, strict=True))
        ]  # fmt: skip
        meta = {
            "product_id": rows[0].product_id,
            "product_no": rows[0].product_no,
            "references": stored,
            "extras": sorted(extras),
        }
        self._put(prefix + _PRODUCT, Record("product", meta, {}))
        for row, record, vector in zip(rows, records, vectors, strict=True):
            self._put(prefix + _REFERENCE + row.slot.to_bytes(2), record)
            self._vectors.append((row.key, vector))
            self._content.update(np.ascontiguousarray(vector, np.float32).data)
        for name in sorted(extras):
            self._put(prefix + _EXTRA + name.encode(), extras[name])
        self._products += 1
        self._references += len(rows)
        head = [rows[0].product_id, rows[0].product_no, [row.slot for row in rows]]
        digest = _product_digest(
            head, [*records, *(extras[name] for name in sorted(extras))], vectors
        )
        self._sum = (self._sum + digest) % (1 << 256)

    def finish(self) -> dict[str, Any]:
        """Write what is left and the manifest, which is returned; the folder is then complete."""
        self._flush()
        with _lmdb_errors(self._folder, writing=True):
            self._env.sync(True)
            self._env.close()
        self._write_vectors(self._folder / "vectors.npy")
        manifest = {
            "format": durable.FORMAT,
            "input_digest": self._input,
            "content_digest": self._content.hexdigest(),
            "content_sum": f"{self._sum:064x}",
            "products": self._products,
            "references": self._references,
            "dims": self._dims,
            "files": describe_files(self._folder, ("data.mdb", "vectors.npy")),
        }
        durable.write_json(self._folder / "manifest.json", manifest)
        return manifest

    def abandon(self) -> None:
        """Close without finishing."""
        self._env.close()

    def _write_vectors(self, path: Path) -> None:
        """As `np.save`, whose C file doesn't notice that the last write failed: disk full."""
        table = np.array(self._vectors, dtype=vector_dtype(self._dims))
        with durable.storage_errors(path), path.open("wb") as file:
            head = np.lib.format.header_data_from_array_1_0(table)
            np.lib.format.write_array_header_1_0(file, head)
            file.write(table.tobytes())

    def _put(self, key: bytes, record: Record) -> None:
        value = pack(record)
        self._content.update(key + record.digest().encode())
        self._pending.append((key, value))
        self._pending_bytes += len(value)
        if self._pending_bytes >= _TRANSACTION_BYTES:
            self._flush()

    def _flush(self) -> None:
        with (
            _lmdb_errors(self._folder, writing=True),
            self._env.begin(write=True) as transaction,
        ):
            for key, value in self._pending:
                if not transaction.put(key, value, append=True):
                    raise AssertionError(f"keys out of order or repeated at {key!r}")
        self._pending, self._pending_bytes = [], 0


class Shard:
    """A finished shard, read-only; opened on first use, safe across threads and fork. Final."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pid = 0
        self._name: tuple[int, int] | None = None
        self._env: Any = None
        self._table: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["folder"])  # type: ignore[misc]

    def product(self, product_id: str) -> StoredProduct | None:
        """What is stored of a product, or None if it isn't here."""
        key = product_hash(product_id) + _PRODUCT
        record = self._get(key)
        if record is None:
            return None
        meta = record.meta
        if meta.get("product_id") != product_id:  # a damaged page led to another record
            raise DamagedGallery(f"{self.folder}/data.mdb: {product_id!r} has another's record")
        references = tuple(StoredReference(**entry) for entry in meta["references"])
        return StoredProduct(
            meta["product_id"], meta["product_no"], references, tuple(meta["extras"])
        )

    def record(
        self,
        product_id: str,
        reference: StoredReference,
        *,
        only: Names | None = None,
    ) -> Record:
        """The record of one reference, or `only` these arrays of it; raises `DamagedGallery` if it
        is absent or damaged."""
        key = product_hash(product_id) + _REFERENCE + reference.slot.to_bytes(2)
        record = self._get(key, only)
        if record is None:
            raise DamagedGallery(f"{self.folder}: reference {reference.reference_id} is missing")
        if record.meta.get("reference_id") != reference.reference_id:
            raise DamagedGallery(
                f"{self.folder}/data.mdb: reference {reference.reference_id} has another's record"
            )
        return record

    def vector(self, reference: StoredReference) -> Floats:
        """(D,) float32; raises `DamagedGallery` unless it is what was stored."""
        table = self.vectors()
        if reference.row >= len(table):
            raise DamagedGallery(f"{self.folder}/vectors.npy: row {reference.row} is missing")
        vector = np.array(table[reference.row]["vector"], np.float32)
        if _crc(vector) != reference.vector_crc32:
            raise DamagedGallery(
                f"{self.folder}/vectors.npy: the vector of reference {reference.reference_id} is "
                "not what was built (checksum differs); run `amiss check`"
            )
        return vector

    def reference(self, product_id: str, reference: StoredReference) -> Reference:
        return from_record(self.record(product_id, reference), self.vector(reference))

    def extra(self, product_id: str, name: str, *, only: Names | None = None) -> Record | None:
        """The result of the build step `name` for a product, or None; `only` these arrays of it."""
        return self._get(product_hash(product_id) + _EXTRA + name.encode(), only)

    def vectors(self) -> NDArray[np.void]:
        """(N,) rows of `key` and `vector`, mapped from disk, unverified."""
        if self._table is None:
            path = self.folder / "vectors.npy"
            try:
                with _opening:  # headers are parsed, which threads upset in 3.11 (cpython 106905)
                    table = np.load(path, mmap_mode="r", allow_pickle=False)
            except Exception as error:
                # A damaged header is evaluated as Python text: any error may come of it.
                raise DamagedGallery(f"{path}: can't be read ({error})") from error
            if table.ndim != 1 or table.dtype.names != ("key", "vector"):
                raise DamagedGallery(f"{path}: not a table of keys and vectors")
            self._table = table
        return self._table  # type: ignore[no-any-return]

    def product_digest(self, product: StoredProduct) -> int:
        """What the product adds to the shard's content sum."""
        name, references = product.product_id, product.references
        extras = [self.extra(name, step) for step in product.extras]
        records = [*(self.record(name, r) for r in references), *(e for e in extras if e)]
        head = [name, product.product_no, [r.slot for r in references]]
        return _product_digest(head, records, [self.vector(r) for r in references])

    def products(self) -> Iterator[StoredProduct]:
        """All products, in key order."""
        environment = self._opened()
        with _lmdb_errors(self.folder), environment.begin() as transaction:
            keys = [
                bytes(key)
                for key in transaction.cursor().iternext(keys=True, values=False)
                if key[16:17] == _PRODUCT
            ]
        for key in keys:
            record = self._get(key)
            assert record is not None
            found = self.product(record.meta["product_id"])
            assert found is not None
            yield found

    def close(self) -> None:
        """Let go of the files; the shard may be used again and then opens anew."""
        with _opening:
            if self._name is not None and self._pid == os.getpid():
                _release(self._name)
            self._name, self._env, self._table = None, None, None

    def _get(self, key: bytes, only: Names | None = None) -> Record | None:
        environment = self._opened()
        with _lmdb_errors(self.folder), environment.begin() as transaction:
            value = transaction.get(key)
        where = f"{self.folder}/data.mdb"
        return None if value is None else unpack(value, where=where, only=only)

    def _opened(self) -> Any:
        environment = self._env
        if environment is not None and self._pid == os.getpid():
            return environment
        with _opening:
            if self._env is None or self._pid != os.getpid():
                self._name = _acquire(self.folder)
                self._env, self._pid = _shared[self._name][0], os.getpid()
            return self._env


def vector_dtype(dims: int) -> np.dtype[np.void]:
    return np.dtype([("key", "<i8"), ("vector", "<f4", (dims,))])


def describe_files(folder: Path, names: Sequence[str]) -> dict[str, dict[str, str | int]]:
    """{name: {sha256, bytes}} of files in `folder`."""
    return {
        name: {
            "sha256": durable.file_digest(folder / name),
            "bytes": (folder / name).stat().st_size,
        }
        for name in names
    }


def _product_digest(
    head: list[object], records: Sequence[Record], vectors: Sequence[Floats]
) -> int:
    """sha256 over what is stored of a product, wherever it is. `head`: ID, number, slots."""
    digest = hashlib.sha256(json.dumps(head).encode())
    for record in records:
        digest.update(record.digest().encode())
    for vector in vectors:
        digest.update(np.ascontiguousarray(vector, np.float32).data)
    return int.from_bytes(digest.digest())


def _crc(vector: Floats) -> int:
    return zlib.crc32(np.ascontiguousarray(vector, np.float32).data)


# LMDB allows one environment per file and process; builds share shards, so readers share
# environments. By file, not by path: a damaged shard is replaced under its own name.
_shared: dict[tuple[int, int], list[Any]] = {}
_opening = threading.Lock()


def _forget_after_fork() -> None:
    """An environment must not be used across a fork: a child closes its copies and opens anew."""
    global _opening
    _opening = threading.Lock()
    for environment, _ in _shared.values():
        environment.close()
    _shared.clear()


os.register_at_fork(after_in_child=_forget_after_fork)


def _acquire(folder: Path) -> tuple[int, int]:
    """Count one more user of the folder's environment, opening it for the first; its key."""
    with _lmdb_errors(folder):
        status = (folder / "data.mdb").stat()
        name = (status.st_dev, status.st_ino)
        if name not in _shared:
            environment = lmdb.open(
                str(folder.resolve()), readonly=True, lock=False, create=False, readahead=False,
                max_spare_txns=8,
            )  # fmt: skip
            _shared[name] = [environment, 0]
    _shared[name][1] += 1
    return name


def _release(name: tuple[int, int]) -> None:
    entry = _shared.get(name)
    if entry is not None:
        entry[1] -= 1
        if entry[1] == 0:
            del _shared[name]
            entry[0].close()


@contextlib.contextmanager
def _lmdb_errors(folder: Path, *, writing: bool = False) -> Iterator[None]:
    try:
        yield
    except lmdb.DiskError as error:
        raise StorageError(f"{folder}/data.mdb: {error}") from error
    except (lmdb.MapFullError, OSError) as error:
        raise StorageError(f"{folder}/data.mdb: can't be written ({error})") from error
    except lmdb.Error as error:
        if writing:  # a new file can't be damaged; EIO has no class of its own
            raise StorageError(f"{folder}/data.mdb: can't be written ({error})") from error
        raise DamagedGallery(f"{folder}/data.mdb: not a readable database ({error})") from error
