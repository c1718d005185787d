"""Why a product that somebody names does not serve: withdrawn, not served yet, or a slip."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from gallery.catalog import Catalog, open_catalog
from gallery.errors import GalleryError
from gallery.naming import did_you_mean
from gallery.sources import clean_product_id


def why_absent(root: Path, product_id: str, *, served: Iterable[str]) -> str:
    """What is known of a product that is not among the `served`, for the end of a message; empty
    where nothing is. Reads the whole journal: seconds for a large gallery, so for people only.
    """
    try:
        told = _withdrawn(open_catalog(root), clean_product_id(product_id))
    except GalleryError:  # a build may be served without its catalog, and a slip be no ID
        told = ""
    return told or did_you_mean(product_id, served)


def _withdrawn(catalog: Catalog, product_id: str) -> str:
    if product_id not in catalog.product_ids():
        return ""
    if any(row.product_id == product_id for row in catalog.rows()):
        return "; the catalog has it, `amiss update` or `amiss rebuild` serves it"
    held = sum(row.product_id == product_id for row in catalog.quarantined())
    if held:
        return f"; all its references, {held}, are quarantined (`amiss release` lets them in again)"
    return "; it was removed, and its references with it"
