"""The products of a build by number: what turns an index key back into a product ID."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gallery import durable
from gallery.errors import DamagedGallery


@dataclass(frozen=True)
class ProductTable:
    """`numbers`: (N,) int64, ascending. `names`: N product IDs."""

    numbers: NDArray[np.int64]
    names: Sequence[str]

    def __contains__(self, product_id: str) -> bool:
        return product_id in self._known

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.names)

    def name_of(self, product_no: int) -> str:
        """Raises `DamagedGallery` for a number that no product of the build has."""
        place = int(np.searchsorted(self.numbers, product_no))
        if place >= len(self.names) or self.numbers[place] != product_no:
            raise DamagedGallery(f"the index names product number {product_no}, the build does not")
        return self.names[place]


def write_products(path: Path, table: ProductTable) -> None:
    import pyarrow
    import pyarrow.parquet

    columns = {"product_no": table.numbers, "product_id": list(table.names)}
    with durable.storage_errors(path):
        pyarrow.parquet.write_table(pyarrow.table(columns), path)


def read_products(path: Path, sha256: str) -> ProductTable:
    """The table at `path`, after its checksum. Raises `DamagedGallery`."""
    import pyarrow.parquet

    if durable.file_digest(path) != sha256:
        raise DamagedGallery(f"{path}: not what was built (sha256 differs); run `amiss check`")
    # Through a buffer of our own: a mapped file would outlive the build's folder.
    # Arrow's threads may abort a process that ends soon after (apache/arrow, issues 33975, 39862).
    file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(path.read_bytes()), pre_buffer=False)
    table = file.read(use_threads=False)
    numbers = table["product_no"].to_numpy().astype(np.int64)
    return ProductTable(numbers, table["product_id"].to_pylist())
