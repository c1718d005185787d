"""What should be imported: a folder per product, or a table of rows, as `SourceRow`s.

Nothing is read here but names and tables; whether a picture is good is the catalog's business.
Product IDs are text, never paths: slashes, dots, emoji and 300 characters are all fine.
"""

from __future__ import annotations

import csv
import datetime
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from embeddings.images import IMAGE_SUFFIXES, printable
from gallery.errors import SourceError
from gallery.kaputt import Layout, find_layout

MAX_ID_CHARACTERS = 1024
COLUMNS = ("product_id", "image", "mask", "view", "variant", "valid_from", "depth")
_TABLES = (".csv", ".parquet")


@dataclass(frozen=True)
class SourceRow:
    """One reference to import. `where` is what error messages call it."""

    product_id: str
    image: Path
    mask: Path | None = None
    view: str | None = None
    variant: str | None = None
    valid_from: str | None = None
    depth: Path | None = None
    where: str = ""


@dataclass(frozen=True)
class Problem:
    """Something that was not imported, or that deserves a look. `code` is stable."""

    where: str
    code: str
    message: str


@dataclass
class Source:
    """Rows in a stable order, problems found on the way, and files that are no pictures.

    notes  what was not read though nothing is wrong with it
    """

    rows: list[SourceRow] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)
    ignored: int = 0


def read_source(path: str | os.PathLike[str], *, product_id: str | None = None) -> Source:
    """List the references at `path`: a folder, a .csv or a .parquet, or Kaputt (`kaputt`).

    A folder holds one folder per product, named by its ID, pictures at any depth below. A folder
    that holds pictures itself is one product, named `product_id` or after the folder. Raises
    `SourceError` when there is nothing at `path` or it can't be understood as a whole; single bad
    rows become `Problem`s.
    """
    place = Path(path)
    found = find_layout(place)
    if found is not None:
        if product_id is not None:
            raise SourceError(f"{place}: Kaputt names its items itself; leave the product ID out")
        return _read_kaputt(found)
    if place.is_dir():
        return _read_folder(place, product_id)
    if not place.exists():
        raise SourceError(f"{place}: there is no such file or folder")
    if place.suffix.lower() not in _TABLES:
        raise SourceError(f"{place}: expected a folder, a .csv or a .parquet file")
    if product_id is not None:
        raise SourceError(f"{place}: a table names its products itself; leave the product ID out")
    source = Source()
    read = _csv_rows if place.suffix.lower() == ".csv" else _parquet_rows
    _read_table(place, read(place, source), source)
    return source


def clean_product_id(raw: str) -> str:
    """The ID as it is stored: Unicode NFC, no surrounding blanks. Raises `SourceError`."""
    if not isinstance(raw, str):
        kind = type(raw).__name__
        raise SourceError(f"the product ID {raw!r} is of type {kind}; give one product's ID, a str")
    name = unicodedata.normalize("NFC", raw.strip())
    if not name:
        raise SourceError("the product ID is empty")
    if len(name) > MAX_ID_CHARACTERS:
        raise SourceError(
            f"the product ID has {len(name)} characters; at most {MAX_ID_CHARACTERS} are allowed"
        )
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in name):
        raise SourceError(f"the product ID {name!r} has control characters")
    return name


def _read_folder(root: Path, product_id: str | None) -> Source:
    source = Source()
    entries = sorted(p for p in root.iterdir() if not p.name.startswith("."))
    for hidden in sorted(p for p in root.iterdir() if p.name.startswith(".") and p.is_dir()):
        if any(f.suffix.lower() in IMAGE_SUFFIXES for f in hidden.rglob("*")):
            message = "a hidden folder with pictures; name its product in a table to import them"
            source.problems.append(Problem(printable(hidden), "hidden_folder", message))
    loose = [p for p in entries if p.is_file() and p.suffix.lower() in IMAGE_SUFFIXES]
    folders = [p for p in entries if p.is_dir()]
    if loose and not folders:
        _add_product(source, root, product_id or root.resolve().name)
        return source
    if product_id is not None:
        raise SourceError(
            f"{root}: a product ID was given, but the folder holds {len(folders)} folders, each a "
            "product of its own; point at one of them"
        )
    for path in loose:
        message = "a picture beside product folders; move it into its product's folder"
        source.problems.append(Problem(printable(path), "stray_image", message))
    source.ignored += sum(p.is_file() for p in entries) - len(loose)
    for folder in folders:
        _add_product(source, folder, folder.name)
    return source


def _add_product(source: Source, folder: Path, raw_id: str) -> None:
    files = sorted(
        Path(base) / name
        for base, _, names in os.walk(folder)
        if not any(part.startswith(".") for part in Path(base).relative_to(folder).parts)
        for name in names
        if not name.startswith(".")
    )
    pictures = [f for f in files if f.suffix.lower() in IMAGE_SUFFIXES]
    source.ignored += len(files) - len(pictures)
    if not pictures:
        message = f"no pictures ({', '.join(sorted(IMAGE_SUFFIXES))}) in this product's folder"
        source.problems.append(Problem(printable(folder), "empty_product", message))
        return
    try:
        name = clean_product_id(raw_id)
    except SourceError as error:
        source.problems.append(Problem(printable(folder), "bad_product_id", str(error)))
        return
    source.rows += [SourceRow(name, file, where=printable(file)) for file in pictures]


def _read_kaputt(layout: Layout) -> Source:
    source = Source()
    for found in layout.references():
        if isinstance(found, str):
            source.problems.append(Problem(found.partition(": ")[0], "bad_row", found))
            continue
        try:
            name = clean_product_id(found.item)
        except SourceError as error:
            source.problems.append(Problem(found.where, "bad_row", str(error)))
            continue
        source.rows.append(SourceRow(name, found.image, mask=found.mask, where=found.where))
    return source


def _read_table(table: Path, rows: Iterable[Mapping[str, object]], source: Source) -> None:
    for number, cells in enumerate(rows, start=1):
        where = f"{table} row {number}"
        try:
            source.rows.append(_table_row(table, cells, where))
        except SourceError as error:
            source.problems.append(Problem(where, "bad_row", str(error)))


def _table_row(table: Path, cells: Mapping[str, object], where: str) -> SourceRow:
    if None in cells:
        raise SourceError("more cells than the header has columns")
    text = {name: _text(cells.get(name)) for name in COLUMNS}
    if not text["image"]:
        raise SourceError("the image column is empty")
    if text["valid_from"]:
        try:
            datetime.datetime.fromisoformat(text["valid_from"])
        except ValueError as error:
            raise SourceError(f"valid_from {text['valid_from']!r} is no ISO 8601 date") from error
    files = {k: table.parent / text[k] if text[k] else None for k in ("mask", "depth")}
    return SourceRow(
        product_id=clean_product_id(text["product_id"]),
        image=table.parent / text["image"],
        view=text["view"] or None,
        variant=text["variant"] or None,
        valid_from=text["valid_from"] or None,
        where=where,
        **files,
    )


def _text(cell: object) -> str:
    if cell is None or (isinstance(cell, float) and cell != cell):
        return ""
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)  # a column of numbers with gaps: 123.0 was 123
    if isinstance(cell, bytes):
        cell = cell.decode("utf-8", "replace")
    return cell.isoformat() if isinstance(cell, datetime.date) else str(cell).strip()


def _csv_rows(table: Path, source: Source) -> Iterator[Mapping[str, object]]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            _check_columns(table, reader.fieldnames or [], source)
            yield from reader
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{table}: not a UTF-8 CSV file ({error})") from error


def _parquet_rows(table: Path, source: Source) -> Iterator[Mapping[str, object]]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(table, pre_buffer=False)
        _check_columns(table, file.schema_arrow.names, source)
        names = [n for n in file.schema_arrow.names if n in COLUMNS]
        for batch in file.iter_batches(columns=names, use_threads=False):
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise SourceError(f"{table}: not a readable Parquet file ({error})") from error


def _check_columns(table: Path, found: Sequence[str], source: Source) -> None:
    """Raises `SourceError` where a needed column is missing; notes the ones that nobody reads."""
    unknown = [name for name in found if name not in COLUMNS]
    if unknown:
        text = f"not read: column {', '.join(unknown)}; columns are {', '.join(COLUMNS)}"
        source.notes.append(Problem(printable(table), "unknown_column", text))
    missing = [name for name in ("product_id", "image") if name not in list(found)]
    if missing:
        raise SourceError(
            f"{table}: no column {' and '.join(missing)}; found {list(found)}, expected "
            "product_id,image[,mask][,view][,variant][,valid_from][,depth]"
        )
