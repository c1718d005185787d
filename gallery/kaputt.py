"""Where Kaputt's published folders keep their pictures (Höfer et al., ICCV 2025, arXiv 2510.05903).

Two layouts; which one is seen by where the tables are. SPLIT is train, validation, test or sample:

    A  datasets/{query,reference}-SPLIT.parquet            B  {query,reference}-SPLIT.parquet
       reference-crop/data/SPLIT/reference-data/...           data/SPLIT/reference-data/{crop,...}

A table's paths begin at `data/`: in A they are relative to the folder of their kind, in B to the
set's. The references of an item become those of a product of its name; queries are nobody's
business here. Crops are taken where they are, else the whole pictures; masks go with crops.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from gallery.errors import SourceError

ITEM = "item_identifier"
_SAMPLE = "sample-data"


@dataclass(frozen=True)
class KaputtReference:
    """A reference picture of an item; `where` is its table and row."""

    item: str
    image: Path
    mask: Path | None
    where: str


@dataclass(frozen=True)
class Layout:
    """`home`: the set's folder; `tables`: where its tables are; `prefixed`: layout A.

    only  the one table that is meant; None: all of them
    """

    home: Path
    tables: Path
    prefixed: bool
    only: Path | None = None

    def folder(self, role: str, kind: str) -> Path:
        """What the paths of a table's column ROLE_KIND are relative to."""
        return self.home / f"{role}-{kind}" if self.prefixed else self.home

    def references(self) -> Iterator[KaputtReference | str]:
        """Every reference of the tables, in their order; text: what is wrong with a row."""
        tables = [self.only] if self.only else sorted(self.tables.glob("reference-*.parquet"))
        for table in tables:
            for number, cells in enumerate(_rows(table), start=1):
                yield from self._of_row(cells, f"{table} row {number}")

    def _of_row(self, cells: Mapping[str, Any], where: str) -> Iterator[KaputtReference | str]:
        crops = _listed(cells.get("reference_crop"))
        kind = "crop" if crops and self._file("crop", crops[0]).is_file() else "image"
        names = crops if kind == "crop" else _listed(cells.get("reference_image")) or crops
        masks = _listed(cells.get("reference_mask")) if kind == "crop" else []
        item = str(cells.get(ITEM) or "").strip()
        if not item or not names:
            yield f"{where}: expected an item and a picture of it"
        elif masks and len(masks) != len(names):
            yield f"{where}: {len(names)} pictures, but {len(masks)} masks"
        elif any(_leaves(name) for name in (*names, *masks)):
            yield f"{where}: a path that leaves the set's folder"
        else:
            for name, mask in zip(names, masks or [""] * len(names), strict=True):
                drawn = self._file("mask", mask) if mask else None
                yield KaputtReference(item, self._file(kind, name), drawn, where)

    def _file(self, kind: str, name: str) -> Path:
        return self.folder("reference", kind) / name


def find_layout(place: Path) -> Layout | None:
    """The layout at `place`, Kaputt's folder or one of its reference tables; None: not Kaputt."""
    if place.is_file():
        if not (place.name.startswith("reference-") and place.suffix == ".parquet"):
            return None
        prefixed = place.parent.name == "datasets"
        home = place.parent.parent if prefixed else place.parent
        return Layout(home, place.parent, prefixed, only=place) if _is_kaputt(place) else None
    for home in (place, place / _SAMPLE):
        for tables, prefixed in ((home / "datasets", True), (home, False)):
            found = sorted(tables.glob("reference-*.parquet")) if tables.is_dir() else []
            if found and _is_kaputt(found[0]):
                return Layout(home, tables, prefixed)
    return None


def _is_kaputt(table: Path) -> bool:
    import pyarrow
    import pyarrow.parquet

    try:
        names = pyarrow.parquet.read_schema(table).names
    except (pyarrow.ArrowException, OSError):
        return False
    return ITEM in names and "product_id" not in names


def _rows(table: Path) -> Iterator[Mapping[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(table)
        wanted = [n for n in file.schema_arrow.names if n == ITEM or n.startswith("reference_")]
        for batch in file.iter_batches(columns=wanted):
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise SourceError(f"{table}: not a readable Parquet file ({error})") from error


def _listed(cell: Any) -> list[str]:
    """A path, several with commas between them, or a list of them."""
    if cell is None or cell != cell:
        return []
    parts = cell if isinstance(cell, list) else str(cell).split(",")
    return [str(part).strip() for part in parts if part is not None and str(part).strip()]


def _leaves(name: str) -> bool:
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts
