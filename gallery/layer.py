"""A delta as readers meet it: the products that differ from a build, laid over that build.

    delta/<catalog seq>-<16 hex of the manifest's sha256>/
        manifest.json, gates.json, lease, index.faiss (unless the delta only takes away)

Whole products are overruled: what a delta says of one counts, and the build's word on it doesn't.
Their records are in shards like any other's, so the next build copies them. Immutable, like a
build.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embeddings.patches import Floats
from gallery import durable
from gallery.errors import DamagedGallery
from gallery.index import Index, Keys, Neighbours
from gallery.manifest import FileTable, ShardEntry
from gallery.products import ProductTable
from gallery.publish import Lease
from gallery.shard import Shard, shard_number


@dataclass(frozen=True)
class DeltaManifest:
    """What a delta consists of.

    base             ID of the build that it lies over
    products         {ID: number} of the products that it holds
    gone             {ID: number} of the build's products that are no more
    hidden           references of the build that are overruled
    product_count    products of build and delta together; `reference_count` likewise
    content_digest   of build and delta together: that of a rebuild with the same content
    centre           what is taken away from vectors (see `index.common_direction`)
    covers_all       whether the index holds all references; if not, those of `products`
    """

    base: str
    created: str
    catalog_seq: int
    content_digest: str
    products: Mapping[str, int]
    gone: Mapping[str, int]
    hidden: int
    product_count: int
    reference_count: int
    shard_count: int
    shards: tuple[ShardEntry, ...]
    centre: tuple[float, ...]
    covers_all: bool
    files: FileTable
    format: int = durable.FORMAT

    def all_files(self, delta_id: str) -> dict[str, Mapping[str, Any]]:
        """{path relative to the gallery: {sha256, bytes}} of the delta and its shards."""
        own = {f"delta/{delta_id}/{name}": entry for name, entry in self.files.items()}
        for shard in self.shards:
            own |= {f"shards/{shard.digest}/{name}": entry for name, entry in shard.files.items()}
        return own

    def encode(self) -> bytes:
        text = json.dumps(asdict(self), indent=1, sort_keys=True, ensure_ascii=False)
        return text.encode() + b"\n"

    def delta_id(self) -> str:
        return f"{self.catalog_seq}-{hashlib.sha256(self.encode()).hexdigest()[:16]}"


def read_delta(root: Path, delta_id: str) -> DeltaManifest:
    """The manifest of a delta, after its checksum. Raises `DamagedGallery`."""
    path = root / "delta" / delta_id / "manifest.json"
    value = durable.read_json(path, what="delta manifest")
    if hashlib.sha256(path.read_bytes()).hexdigest()[:16] != delta_id.rpartition("-")[2]:
        raise DamagedGallery(f"{path}: the manifest is not what was made (sha256 differs)")
    try:
        expected = {f.name for f in fields(DeltaManifest)}
        known: dict[str, Any] = {k: v for k, v in value.items() if k in expected}
        known["shards"] = tuple(ShardEntry(**entry) for entry in known["shards"])
        known["centre"] = tuple(known["centre"])
        return DeltaManifest(**known)
    except (TypeError, KeyError) as error:
        raise DamagedGallery(f"{path}: not a delta manifest ({error})") from error


def list_deltas(root: Path) -> list[str]:
    """IDs of all complete deltas, in the order of their names."""
    folder = root / "delta"
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(p.name for p in found if p.is_dir() and not durable.is_partial(p))


class Layer:
    """An open delta. Final."""

    def __init__(
        self, root: Path, folder: Path, manifest: DeltaManifest, *, lease: Lease | None
    ) -> None:
        self.manifest, self.delta_id = manifest, folder.name
        self._lease = lease
        self._shards = {e.number: Shard(root / "shards" / e.digest) for e in manifest.shards}
        self._overruled = np.array(
            sorted([*manifest.products.values(), *manifest.gone.values()]), np.int64
        )
        found = manifest.files.get("index.faiss")
        centre = np.asarray(manifest.centre, np.float32)
        self._index = (
            Index(folder / "index.faiss", str(found["sha256"]), centre=centre) if found else None
        )

    def decides(self, product_id: str) -> bool:
        """Whether the delta, and not the build, says what there is of a product."""
        return product_id in self.manifest.products or product_id in self.manifest.gone

    def shard_of(self, product_id: str) -> Shard | None:
        """The shard that holds a product; None if it is gone."""
        if product_id in self.manifest.gone:
            return None
        return self._shards[shard_number(product_id, self.manifest.shard_count)]

    def tables_over(self, tables: Sequence[NDArray[np.void]]) -> list[NDArray[np.void]]:
        """Vector tables of build and delta together, from those of the build."""
        seen = []
        for table in tables:
            hidden = np.isin(np.asarray(table["key"]) >> 16, self._overruled)
            seen.append(table[~hidden] if hidden.any() else table)
        return seen + self.tables()

    def tables(self) -> list[NDArray[np.void]]:
        """The delta's own vector tables."""
        return [self._shards[number].vectors() for number in sorted(self._shards)]

    def names_over(self, table: ProductTable) -> ProductTable:
        """The products of build and delta together, from those of the build."""
        known = dict(zip(table.numbers.tolist(), table.names, strict=True))
        for number in self.manifest.gone.values():
            del known[number]
        known |= {number: name for name, number in self.manifest.products.items()}
        numbers = np.array(sorted(known), np.int64)
        return ProductTable(numbers, [known[number] for number in numbers.tolist()])

    def index_over(self, base: Index) -> Index | LayeredIndex:
        """What searches build and delta together, from the build's index."""
        if self.manifest.covers_all:
            assert self._index is not None
            return self._index
        return LayeredIndex(base, self._index, self._overruled, hidden=self.manifest.hidden)

    def close(self) -> None:
        """Let go of files and lease."""
        for shard in self._shards.values():
            shard.close()
        if self._lease is not None:
            self._lease.close()


class LayeredIndex:
    """A build's index and a delta's, as if they were one. Final; searching is thread-safe.

    `overruled`: (N,) ascending numbers of the products whose `hidden` references in `base` don't
    count. That many more are asked for, so that enough are left whatever a query is near to.
    """

    def __init__(self, base: Index, above: Index | None, overruled: Keys, *, hidden: int) -> None:
        self._base, self._above = base, above
        self._overruled, self._hidden = overruled, hidden

    @property
    def exact(self) -> bool:
        """As `Index.exact`: the delta's own always is."""
        return self._base.exact

    def search(self, vector: Floats, *, count: int) -> Neighbours:
        """As `Index.search`."""
        below = self._base.search(vector, count=count + self._hidden)
        seen = self._seen(below.keys)
        keys, cosine = below.keys[seen], below.cosine[seen]
        if self._above is not None:
            found = self._above.search(vector, count=count)
            keys, cosine = np.r_[keys, found.keys], np.r_[cosine, found.cosine]
        order = np.lexsort((keys, -cosine))[:count]
        return Neighbours(keys[order], cosine[order])

    def centred(self, vectors: Floats) -> Floats:
        """As `Index.centred`."""
        return self._base.centred(vectors)

    def __len__(self) -> int:
        return len(self._base) - self._hidden + (len(self._above) if self._above else 0)

    def keys(self) -> Keys:
        """(N,) all reference keys, in no order."""
        below = self._base.keys()
        own = self._above.keys() if self._above is not None else np.zeros(0, np.int64)
        return np.concatenate([below[self._seen(below)], own])

    def _seen(self, keys: Keys) -> NDArray[np.bool_]:
        return np.logical_not(np.isin(keys >> 16, self._overruled))
