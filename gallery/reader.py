"""`Gallery`: a published build, with the delta that lies over it, open for reading.

Immutable after opening, safe to share between threads, survives fork and pickling (both reopen).
It holds leases, and keeps serving what it opened when something newer is published.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embeddings.fingerprint import EmbeddingFingerprint
from embeddings.keypoints import Keypoints
from embeddings.patches import Floats
from embeddings.unlikeness import Cells
from gallery.describe import (
    CELL_ARRAYS,
    KEYPOINT_ARRAYS,
    Reference,
    cells_from,
    keypoints_from,
    trusted_points_from,
)
from gallery.errors import DamagedGallery, SourceError, UnknownProduct
from gallery.index import Index, Keys
from gallery.layer import Layer, LayeredIndex, read_delta
from gallery.manifest import FileTable, Manifest, ShardEntry, read_manifest
from gallery.naming import did_you_mean
from gallery.products import ProductTable, read_products
from gallery.publish import Lease, read_current
from gallery.records import Names, Record
from gallery.shard import Shard, StoredProduct, StoredReference, shard_number
from gallery.sources import clean_product_id

_TRIES = 5  # builds and deltas that may be published and pruned while one is opened


class Gallery:
    """Products and their references, as build and delta say. Final; see `Gallery.open`.

    `manifest` is the build's alone. `delta_id` is None without a delta.
    """

    def __init__(
        self,
        root: Path,
        folder: Path,
        manifest: Manifest,
        *,
        lease: Lease | None,
        layer: Layer | None = None,
    ) -> None:
        """`folder` holds the build's index and product table; use `open` for published builds."""
        self.root, self.manifest = root, manifest
        self.build_id = folder.name
        self.delta_id = layer.delta_id if layer else None
        self._folder = folder
        self._lease, self._layer = lease, layer
        self._shards = {
            entry.number: Shard(root / "shards" / entry.digest) for entry in manifest.shards
        }
        digest = self._file("index.faiss")["sha256"]
        index = Index.of_build(folder / "index.faiss", digest, manifest.index)
        self.index: Index | LayeredIndex = layer.index_over(index) if layer else index
        self._names: ProductTable | None = None

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], *, build: str | None = None, delta: str | None = None
    ) -> Gallery:
        """Open what serves at `path`, build and delta, or the named build, with the named delta.

        Verifies the manifest and every file's presence and size; checksums are verified per
        record as they are read, and all together by `amiss check`. Raises `NotAGallery`,
        `UnknownBuild`, `UnsupportedFormat` or `DamagedGallery`, which name the file.
        """
        root = Path(path)
        held = _leased(root, build, delta)  # before looking: from here on nothing is pruned
        manifest = read_manifest(root, held.build)
        _require_sizes(root, manifest.all_files(held.build))
        layer = None
        if held.delta is not None:
            above = read_delta(root, held.delta)
            if above.base != held.build:
                raise DamagedGallery(f"{root}/delta/{held.delta}: made for build {above.base}")
            _require_sizes(root, above.all_files(held.delta))
            layer = Layer(root, root / "delta" / held.delta, above, lease=held.leases[1])
        return cls(root, root / "builds" / held.build, manifest, lease=held.leases[0], layer=layer)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.root, "build": self.build_id, "delta": self.delta_id}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = Gallery.open(**state).__dict__

    def __enter__(self) -> Gallery:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Number of products."""
        return self._layer.manifest.product_count if self._layer else self.manifest.products

    @property
    def reference_count(self) -> int:
        return self._layer.manifest.reference_count if self._layer else self.manifest.references

    @property
    def content_digest(self) -> str:
        """What is served, wherever it is stored: see `manifest.content_of`."""
        return self._layer.manifest.content_digest if self._layer else self.manifest.content_digest

    @property
    def shard_entries(self) -> tuple[ShardEntry, ...]:
        """The shards that it is made of, those of the delta last."""
        own = self._layer.manifest.shards if self._layer else ()
        return self.manifest.shards + own

    @property
    def catalog_seq(self) -> int:
        """Number of the last catalog deed that was looked at."""
        return self._layer.manifest.catalog_seq if self._layer else self.manifest.catalog_seq

    @property
    def fingerprint(self) -> EmbeddingFingerprint:
        """What a query's vectors must match to be compared with this gallery's."""
        return self.manifest.fingerprint

    def __contains__(self, product_id: str) -> bool:
        return self._find(product_id) is not None

    def product_ids(self) -> Iterator[str]:
        """All product IDs, in the order in which the catalog first saw them."""
        return iter(self._table().names)

    def product_id_of(self, key: int) -> str:
        """The product that a reference key of the index belongs to."""
        return self._table().name_of(key >> 16)

    def stored(self, product_id: str) -> StoredProduct:
        """Which references a product has, without reading them. Raises `UnknownProduct`."""
        found = self._find(product_id)
        if found is None:
            raise UnknownProduct(
                f"{product_id!r} is not among the {len(self)} products of build {self.build_id}"
                + did_you_mean(product_id, self.product_ids())
            )
        return found

    def references(self, product_id: str) -> list[Reference]:
        """All references of a product, in slot order. Raises `UnknownProduct`."""
        product, shard = self.stored(product_id), self.shard_of(product_id)
        return [shard.reference(product.product_id, r) for r in product.references]

    def reference(self, product_id: str, reference_id: str) -> Reference:
        """One reference. Raises `UnknownProduct` for a product or reference that isn't there."""
        product, shard = self.stored(product_id), self.shard_of(product_id)
        for stored in product.references:
            if stored.reference_id == reference_id:
                return shard.reference(product.product_id, stored)
        raise UnknownProduct(f"{product_id!r} has no reference {reference_id!r}")

    def keypoints(
        self, product_id: str, stored: StoredReference, *, own: bool = False
    ) -> Keypoints:
        """The local features of one of a product's references, its grid left alone; with `own`
        those on the product alone, where its foreground can be trusted."""
        only = (*KEYPOINT_ARRAYS, "mask") if own else KEYPOINT_ARRAYS
        record = self._record(product_id, stored, only)
        return trusted_points_from(record) if own else keypoints_from(record)

    def cells(self, product_id: str, stored: StoredReference) -> Cells:
        """What the patches of one of a product's references are like (`embeddings.unlikeness`)."""
        return cells_from(self._record(product_id, stored, CELL_ARRAYS))

    def vectors(self, product_id: str) -> Floats:
        """(K, D) global vectors of a product's references, in slot order, without their grids."""
        product, shard = self.stored(product_id), self.shard_of(product_id)
        return np.stack([shard.vector(r) for r in product.references])

    def extra(self, product_id: str, step: str, *, only: Names | None = None) -> Record | None:
        """What the build step `step` found out about a product, or None; `only` these arrays."""
        product = self.stored(product_id)
        shard = self.shard_of(product_id)
        if step not in product.extras:
            return None
        return shard.extra(product.product_id, step, only=only)

    def shard_of(self, product_id: str) -> Shard:
        """The shard that holds a product, or would. Raises `UnknownProduct` if there is none."""
        name = clean_product_id(product_id)
        if self._layer is not None and self._layer.decides(name):
            shard = self._layer.shard_of(name)
        else:
            shard = self._shards.get(shard_number(name, self.manifest.shard_count))
        if shard is None:
            raise UnknownProduct(f"{product_id!r} is not among the products of {self.build_id}")
        return shard

    def keys(self) -> Keys:
        """(N,) int64 keys of all references, ascending."""
        tables = self.vector_tables()
        return np.sort(np.concatenate([np.asarray(t["key"], np.int64) for t in tables]))

    def vector_tables(self) -> list[NDArray[np.void]]:
        """Rows of `key` and `vector` of all references, unverified, a table a shard."""
        tables = [self._shards[number].vectors() for number in sorted(self._shards)]
        return self._layer.tables_over(tables) if self._layer else tables

    def close(self) -> None:
        """Let go of files and leases."""
        if self._layer is not None:
            self._layer.close()
        for shard in self._shards.values():
            shard.close()
        if self._lease is not None:
            self._lease.close()

    def _find(self, product_id: str) -> StoredProduct | None:
        try:
            name = clean_product_id(product_id)
            found = self.shard_of(name).product(name)
        except (UnknownProduct, SourceError):
            return None
        if found is None and name in self._table():
            raise DamagedGallery(f"{self.shard_of(name).folder}/data.mdb: {name!r} is missing")
        return found

    def _record(self, product_id: str, stored: StoredReference, only: Names) -> Record:
        name = clean_product_id(product_id)
        return self.shard_of(name).record(name, stored, only=only)

    def _file(self, name: str) -> Any:
        if name not in self.manifest.files:
            raise DamagedGallery(f"{self._folder}: the manifest lists no {name}")
        return self.manifest.files[name]

    def _table(self) -> ProductTable:
        if self._names is None:
            path = self._folder / "products.parquet"
            names = read_products(path, self._file("products.parquet")["sha256"])
            self._names = self._layer.names_over(names) if self._layer else names
        return self._names


@dataclass(frozen=True)
class _Hold:
    """`leases`: the build's, then the delta's if there is one."""

    build: str
    delta: str | None
    leases: tuple[Lease, ...]


def _leased(root: Path, build: str | None, delta: str | None) -> _Hold:
    """A hold on what is named, or on what serves, even if that is pruned in between."""
    if build is not None:
        read_manifest(root, build)  # `UnknownBuild` rather than a missing lease
        return _hold(root, build, delta)
    for _ in range(_TRIES):
        now = read_current(root)
        with contextlib.suppress(DamagedGallery):
            return _hold(root, now.build, now.delta)
        if read_current(root) == now:
            break
    read_manifest(root, now.build)
    return _hold(root, now.build, now.delta)


def _hold(root: Path, build: str, delta: str | None) -> _Hold:
    folders = [root / "builds" / build] + ([root / "delta" / delta] if delta else [])
    leases = tuple(Lease(folder) for folder in folders)
    for folder in folders:
        if not (folder / "manifest.json").is_file():  # pruned before it could be held
            raise DamagedGallery(f"{folder}/manifest.json: the manifest is missing")
    return _Hold(build, delta, leases)


def _require_sizes(root: Path, files: FileTable) -> None:
    for name, expected in files.items():
        try:
            size = (root / name).stat().st_size
        except OSError as error:
            raise DamagedGallery(f"{root / name}: the file is missing") from error
        if size != expected["bytes"]:
            raise DamagedGallery(f"{root / name}: {size} bytes, expected {expected['bytes']}")
