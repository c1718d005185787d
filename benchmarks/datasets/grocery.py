"""Which product is it? A folder for each product, of references and of queries: `grocery`.

    gallery/PRODUCT/*.jpg    photographs; the references
    iconic/PRODUCT/*.jpg     one clean picture each; the references of the part `iconic`
    query/PRODUCT/*.jpg      photographs; the queries

A subset of the Grocery Store Dataset (Klasson et al., WACV 2019). Protocol: all references of all
products, all queries: nothing is drawn, so there is no seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.datasets.errors import MissingFile, UnknownSet
from benchmarks.datasets.listing import as_sample, folders, pictures
from benchmarks.datasets.protocol import balanced
from benchmarks.datasets.sample import Sample

GALLERIES = ("gallery", "iconic")


@dataclass(frozen=True)
class Identification:
    """References by product, and queries whose `product_id` is the one to be found."""

    dataset: str
    references: Mapping[str, tuple[Sample, ...]]
    queries: tuple[Sample, ...]

    def limited(self, limit: int) -> Identification:
        """The same with at most `limit` queries, products in turn (`protocol.balanced`)."""
        products = [query.product_id for query in self.queries]
        chosen = balanced([None] * len(products), products, limit=limit)
        return replace(self, queries=tuple(self.queries[i] for i in chosen))


def read_grocery(home: Path, *, dataset: str, part: str | None) -> Identification:
    """References of the folder `part` (without one: `gallery`), queries of `query`.

    Products may have references without queries; a query without references is an error.
    """
    if part is not None and part not in GALLERIES:
        raise UnknownSet(f"{dataset}/{part}", f"no such part; expected {' or '.join(GALLERIES)}")
    gallery = home / (part or GALLERIES[0])
    references = _products(gallery, home)
    asked = _products(home / "query", home)
    for product in asked:
        if product not in references:
            raise MissingFile(
                gallery / product, "no such folder; expected the references of a queried product"
            )
    queries = tuple(query for samples in asked.values() for query in samples)
    return Identification(f"{dataset}/{part}" if part else dataset, references, queries)


def _products(folder: Path, home: Path) -> dict[str, tuple[Sample, ...]]:
    return {
        product.name: tuple(
            as_sample(path, home=home, product_id=product.name) for path in pictures(product)
        )
        for product in folders(folder)
    }
