"""What a catalog holds on disk and in its rows, for the tests of both."""

from __future__ import annotations

from pathlib import Path

from gallery import Catalog


def journal(root: Path) -> Path:
    return root / "catalog" / "journal.jsonl"


def keys(catalog: Catalog) -> list[tuple[str, int, int]]:
    return [(r.product_id, r.product_no, r.slot) for r in catalog.rows()]
