"""What a build consists of: counts, fingerprint, shards, and the sha256 of every file.

A build's ID ends in the first 16 hex digits of its manifest's own sha256, so a flipped byte in the
manifest shows as well as one in any file that the manifest lists.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from embeddings.errors import FingerprintMismatch
from embeddings.fingerprint import EmbeddingFingerprint, digest_json
from gallery import durable
from gallery.errors import DamagedGallery, UnknownBuild

FileTable = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class ShardEntry:
    """One shard of a build: number, digest (= folder name), counts, files with sha256.

    `content_sum`: hex of the products' digests added up modulo 2^256 (a multiset hash: Bellare &
    Micciancio, EUROCRYPT 1997), so it doesn't depend on which shard a product is in.
    """

    number: int
    digest: str
    products: int
    references: int
    content_sum: str
    files: FileTable


@dataclass(frozen=True)
class Manifest:
    """`files`: {name in the build's folder: {sha256, bytes}}; `content_digest`: `content_of`.

    `index`: {kind, centre[, nlist, nprobe]}, see `Index.of_build` and `index.common_direction`.
    `steps`: {name: fingerprint} of what was learned per product.
    """

    gallery_id: str
    parent: str | None
    created: str
    catalog_seq: int
    content_digest: str
    fingerprint: EmbeddingFingerprint
    config: Mapping[str, Any]
    dims: int
    shard_count: int
    shards: tuple[ShardEntry, ...]
    products: int
    references: int
    files: FileTable
    index: Mapping[str, Any]
    steps: Mapping[str, str]
    versions: Mapping[str, str]
    format: int = durable.FORMAT

    def all_files(self, build_id: str) -> dict[str, Mapping[str, Any]]:
        """{path relative to the gallery: {sha256, bytes}} of build and shards."""
        own = {f"builds/{build_id}/{name}": entry for name, entry in self.files.items()}
        for shard in self.shards:
            own |= {f"shards/{shard.digest}/{name}": entry for name, entry in shard.files.items()}
        return own

    def encode(self) -> bytes:
        text = json.dumps(asdict(self), indent=1, sort_keys=True, ensure_ascii=False)
        return text.encode() + b"\n"

    def build_id(self) -> str:
        """`<UTC time>-<16 hex of the manifest's sha256>`."""
        stamp = datetime.datetime.fromisoformat(self.created).strftime("%Y%m%dT%H%M%SZ")
        return f"{stamp}-{hashlib.sha256(self.encode()).hexdigest()[:16]}"


def content_of(
    fingerprint: EmbeddingFingerprint, shards: Sequence[ShardEntry], *, less: int = 0
) -> str:
    """sha256 over what the records say; equal for equal catalogs, whenever and however built.

    `less`: digests, added up, of products in the shards that don't count.
    """
    total = (sum(int(shard.content_sum, 16) for shard in shards) - less) % (1 << 256)
    return digest_json([fingerprint.digest, f"{total:064x}"])


def read_manifest(root: Path, build_id: str) -> Manifest:
    """The manifest of a build, after its checksum. Raises `UnknownBuild` or `DamagedGallery`."""
    path = root / "builds" / build_id / "manifest.json"
    if not path.parent.is_dir():
        raise UnknownBuild(f"{root}: there is no build {build_id!r}; `amiss list` shows them")
    value = durable.read_json(path, what="build manifest")
    if hashlib.sha256(path.read_bytes()).hexdigest()[:16] != build_id.rpartition("-")[2]:
        raise DamagedGallery(f"{path}: the manifest is not what was built (sha256 differs)")
    try:
        expected = {f.name for f in fields(Manifest)}
        known: dict[str, Any] = {k: v for k, v in value.items() if k in expected}
        known["fingerprint"] = EmbeddingFingerprint.from_dict(known["fingerprint"])
        known["shards"] = tuple(ShardEntry(**entry) for entry in known["shards"])
        return Manifest(**known)
    except (TypeError, KeyError, FingerprintMismatch) as error:
        raise DamagedGallery(f"{path}: not a build manifest ({error})") from error
