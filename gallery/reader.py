"""`Gallery`: a published build, open for reading.

Immutable after opening, safe to share between threads, survives fork and pickling (both reopen).
It holds a lease, and keeps serving its build when a newer one is published.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from embeddings.fingerprint import EmbeddingFingerprint
from embeddings.patches import Floats
from gallery.describe import Reference
from gallery.errors import DamagedGallery, SourceError, UnknownProduct
from gallery.index import Index
from gallery.manifest import Manifest, read_manifest
from gallery.products import ProductTable, read_products
from gallery.publish import Lease, read_current
from gallery.records import Record
from gallery.shard import Shard, StoredProduct, shard_number
from gallery.sources import clean_product_id

_TRIES = 5  # builds that may be published and pruned while one is opened


class Gallery:
    """Products and their references in one build. Final; see `Gallery.open`."""

    def __init__(
        self, root: Path, folder: Path, manifest: Manifest, *, lease: Lease | None
    ) -> None:
        """`folder` holds the build's index and product table; use `open` for published builds."""
        self.root, self.manifest = root, manifest
        self.build_id = folder.name
        self._folder = folder
        self._lease = lease
        self._shards = {
            entry.number: Shard(root / "shards" / entry.digest) for entry in manifest.shards
        }
        digest = self._file("index.faiss")["sha256"]
        self.index = Index.of_build(folder / "index.faiss", digest, manifest.index)
        self._names: ProductTable | None = None

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, build: str | None = None) -> Gallery:
        """Open the published build of the gallery at `path`, or the named one.

        Verifies the manifest and every file's presence and size; checksums are verified per
        record as they are read, and all together by `amiss check`. Raises `NotAGallery`,
        `UnknownBuild`, `UnsupportedFormat` or `DamagedGallery`, which name the file.
        """
        root = Path(path)
        build_id, lease = _leased(root, build)  # before looking: from here on nothing is pruned
        manifest = read_manifest(root, build_id)
        for name, expected in manifest.all_files(build_id).items():
            try:
                size = (root / name).stat().st_size
            except OSError as error:
                raise DamagedGallery(f"{root / name}: the file is missing") from error
            if size != expected["bytes"]:
                raise DamagedGallery(f"{root / name}: {size} bytes, expected {expected['bytes']}")
        return cls(root, root / "builds" / build_id, manifest, lease=lease)

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "build": self.build_id}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = Gallery.open(state["root"], build=state["build"]).__dict__

    def __enter__(self) -> Gallery:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Number of products."""
        return self.manifest.products

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

    def vectors(self, product_id: str) -> Floats:
        """(K, D) global vectors of a product's references, in slot order, without their grids."""
        product, shard = self.stored(product_id), self.shard_of(product_id)
        return np.stack([shard.vector(r) for r in product.references])

    def extra(self, product_id: str, step: str) -> Record | None:
        """What the build step `step` found out about a product, or None."""
        product = self.stored(product_id)
        shard = self.shard_of(product_id)
        return shard.extra(product.product_id, step) if step in product.extras else None

    def shard_of(self, product_id: str) -> Shard:
        """The shard that holds a product, or would. Raises `UnknownProduct` if there is none."""
        number = shard_number(clean_product_id(product_id), self.manifest.shard_count)
        if number not in self._shards:
            raise UnknownProduct(f"{product_id!r} is not among the products of {self.build_id}")
        return self._shards[number]

    def shards(self) -> list[Shard]:
        """The shards in the order of their numbers."""
        return [self._shards[number] for number in sorted(self._shards)]

    def close(self) -> None:
        """Let go of files and lease."""
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

    def _file(self, name: str) -> Any:
        if name not in self.manifest.files:
            raise DamagedGallery(f"{self._folder}: the manifest lists no {name}")
        return self.manifest.files[name]

    def _table(self) -> ProductTable:
        if self._names is None:
            path = self._folder / "products.parquet"
            self._names = read_products(path, self._file("products.parquet")["sha256"])
        return self._names


def _leased(root: Path, build: str | None) -> tuple[str, Lease]:
    """A hold on the named build, or on the one that serves, even if it is pruned in between."""
    if build is not None:
        read_manifest(root, build)  # `UnknownBuild` rather than a missing lease
        return build, Lease(root, build)
    for _ in range(_TRIES):
        name = read_current(root).build
        with contextlib.suppress(DamagedGallery):
            lease = Lease(root, name)
            if (root / "builds" / name / "manifest.json").is_file():
                return name, lease
            lease.close()
        if read_current(root).build == name:
            break
    read_manifest(root, name)
    return name, Lease(root, name)
