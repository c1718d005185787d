"""A product's references as people look for them: which file each was, its state, since when."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gallery.catalog import open_catalog
from gallery.errors import SourceError
from gallery.journal import journal_lines
from gallery.reader import Gallery
from gallery.sources import clean_product_id

State = Literal["serving", "pending", "quarantined", "leaving"]
"""In service; in the catalog, and served by the next update or rebuild; withheld; withdrawn, but
in service until then (a build that was gone back to serves as it was built)."""


@dataclass(frozen=True)
class ListedReference:
    """`name`: of the file that it came from; `added`: when, by the catalog's journal, UTC."""

    product_id: str
    reference_id: str
    name: str
    state: State
    added: str


def list_references(root: Path, product_id: str) -> list[ListedReference]:
    """All that the catalog holds or the gallery serves of a product, in the order of their slots.

    Raises `NotAGallery`, `DamagedGallery`, and `SourceError` for a product that has none.
    """
    product_id = clean_product_id(product_id)
    catalog = open_catalog(root)
    kept = {row.key for row in catalog.rows() if row.product_id == product_id}
    held = {row.key for row in catalog.quarantined() if row.product_id == product_id}
    served = _served(root, product_id)
    found = []
    for _, entry in journal_lines(catalog.folder / "journal.jsonl"):
        if entry["product_id"] != product_id or entry["deed"] not in ("add", "replace"):
            continue
        key = int(str(entry["product_no"])) << 16 | int(str(entry["slot"]))
        state: State = "leaving"
        if key in kept:
            state = "serving" if key in served else "pending"
        elif key not in served:
            if key not in held:
                continue  # removed
            state = "quarantined"
        reference_id, name = str(entry["image"])[:32], str(entry["name"])
        found.append(
            ListedReference(product_id, reference_id, name, state, added=str(entry["time"]))
        )
    if not found:
        raise SourceError(f"the catalog has no product {product_id!r}")
    return found


def _served(root: Path, product_id: str) -> set[int]:
    if not (root / "CURRENT").exists():
        return set()
    with Gallery.open(root) as gallery:
        if product_id not in gallery:
            return set()
        stored = gallery.stored(product_id)
        return {stored.product_no << 16 | reference.slot for reference in stored.references}
