"""Which shard holds what: the plan of a build, and the digests that let shards be shared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from embeddings.fingerprint import EmbeddingFingerprint, digest_json
from gallery import durable
from gallery.catalog import CatalogRow
from gallery.shard import product_hash, shard_number

PRODUCTS_PER_SHARD = 512


@dataclass(frozen=True)
class ShardPlan:
    """`rows` in the order in which the shard stores them; `input_digest` names its content."""

    number: int
    rows: tuple[CatalogRow, ...]
    input_digest: str


def plan_shards(
    rows: Sequence[CatalogRow],
    count: int,
    fingerprint: EmbeddingFingerprint,
    steps: Sequence[tuple[str, str]],
) -> list[ShardPlan]:
    """One plan per shard that has products. `steps`: (name, fingerprint) of each build step."""
    slices: dict[int, list[CatalogRow]] = {}
    for row in rows:
        slices.setdefault(shard_number(row.product_id, count), []).append(row)
    made_by = [durable.FORMAT, fingerprint.digest, [list(s) for s in steps]]
    plans = []
    for number, chosen in sorted(slices.items()):
        chosen.sort(key=lambda row: (product_hash(row.product_id), row.slot))
        content = [_identity(row) for row in chosen]
        plans.append(ShardPlan(number, tuple(chosen), digest_json([made_by, content])))
    return plans


def _identity(row: CatalogRow) -> dict[str, object]:
    """What of a row shapes its records; how its file was called doesn't."""
    return {key: value for key, value in asdict(row).items() if key != "name"}


def shard_count(products: int, *, parent_count: int | None) -> int:
    """A power of two; the parent's while it is within a factor of two of the wanted size."""
    wanted = 1
    while wanted * PRODUCTS_PER_SHARD < products:
        wanted *= 2
    if parent_count is not None and wanted / 2 <= parent_count <= wanted * 2:
        return parent_count
    return wanted
