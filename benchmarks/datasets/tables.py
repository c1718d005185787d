"""Rows of CSV and Parquet tables that know where they stand, so that errors can say it."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.datasets.errors import MalformedRow
from benchmarks.datasets.listing import must_exist
from embeddings.images import printable


@dataclass(frozen=True)
class Row:
    """Cells by column. `where` is the table and the row in words."""

    where: str
    cells: Mapping[str, object]

    def text(self, column: str) -> str:
        """The cell as text without blanks around it; raises `MalformedRow` if it is empty."""
        value = self.optional(column)
        if not value:
            raise MalformedRow(self.where, f"{column} is empty; expected text")
        return value

    def optional(self, column: str) -> str:
        """The same, "" where the cell is empty, null, NaN or not there. Numbers become text."""
        value = self.cells.get(column)
        if value is None or value != value:
            return ""
        if not isinstance(value, str | int):
            raise MalformedRow(self.where, f"{column} is {value!r}; expected text")
        return str(value).strip()

    def listed(self, column: str) -> list[str]:
        """The comma-separated items of a cell (or a Parquet list's), empty ones left out."""
        value = self.cells.get(column)
        items = value if isinstance(value, list) else self.optional(column).split(",")
        return [str(item).strip() for item in items if item is not None and str(item).strip()]

    def flag(self, column: str) -> bool:
        """The cell as bool; 0 and 1 count. Raises `MalformedRow` for anything else."""
        value = self.cells.get(column)
        if isinstance(value, bool) or (isinstance(value, int) and value in (0, 1)):
            return bool(value)
        raise MalformedRow(self.where, f"{column} is {value!r}; expected true or false")

    def one_of(self, column: str, allowed: Sequence[str]) -> str:
        """The cell, one of `allowed`; else `MalformedRow`."""
        value = self.optional(column)
        if value not in allowed:
            raise MalformedRow(
                self.where, f"{column} is {value!r}; expected {' or '.join(allowed)}"
            )
        return value

    def file(self, home: Path, relative: str, what: str) -> Path:
        """The file at `relative`, which a cell says, under `home`. Raises if it isn't there."""
        path = PurePosixPath(relative)
        if path.is_absolute() or ".." in path.parts:
            raise MalformedRow(
                self.where, f"{relative!r} leaves the set's folder; expected a path below it"
            )
        return must_exist(home / path, what, row=self.where)


def read_csv(table: Path, *, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of a comma-separated table with a header, which must have `columns`."""
    must_exist(table, f"a table with the columns {', '.join(columns)}")
    line = 0
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            _check_columns(table, reader.fieldnames or (), columns)
            for cells in reader:
                line = reader.line_num
                where = f"{printable(table)} line {line}"
                if None in cells or None in cells.values():
                    count = len(reader.fieldnames or ())
                    raise MalformedRow(where, f"expected {count} cells, as the header has")
                yield Row(where, cells)
    except (csv.Error, UnicodeDecodeError) as error:
        where = f"{printable(table)} after line {line}"
        raise MalformedRow(where, f"not a CSV file in UTF-8 ({error})") from error


def read_parquet(table: Path, *, columns: Sequence[str]) -> list[Row]:
    """The rows of a Parquet table, which must have `columns`; row 1 is the first."""
    must_exist(table, f"a Parquet table with the columns {', '.join(columns)}")
    try:
        read = pq.ParquetFile(table).read()
    except (pa.ArrowException, OSError) as error:
        raise MalformedRow(table, f"not a Parquet file ({error})") from error
    _check_columns(table, read.column_names, columns)
    name = printable(table)
    return [Row(f"{name} row {n}", cells) for n, cells in enumerate(read.to_pylist(), start=1)]


def _check_columns(table: Path, found: Sequence[str], wanted: Sequence[str]) -> None:
    missing = [column for column in wanted if column not in found]
    if missing:
        raise MalformedRow(
            table,
            f"no column {', '.join(missing)}; expected {', '.join(wanted)}, "
            f"found {', '.join(found) or 'none'}",
        )
