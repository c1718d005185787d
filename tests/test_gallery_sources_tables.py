"""What a table says should be imported, Kaputt's too, and which product IDs are taken."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from gallery import Gallery, SourceRow, create_catalog, read_source
from gallery.errors import SourceError
from gallery.sources import MAX_ID_CHARACTERS, clean_product_id

DECOMPOSED, COMPOSED = "Cafe\u0301", "Caf\u00e9"
STRANGE_IDS = [
    "a/b/c",
    "/etc/passwd",
    "../../escape",
    "..",
    ".hidden",
    "C:\\temp\\x",
    "x" * 300,
    "\U0001f469\u200d\U0001f680 \U0001fa92",
    DECOMPOSED,
    "line\u2028separator",
    '"quotes", and; commas',
    "null",
    "0",
]


def pairs(rows: list[SourceRow]) -> list[tuple[str, str]]:
    return [(row.product_id, row.image.name) for row in rows]


def csv_at(folder: Path, text: str, *, encoding: str = "utf-8") -> Path:
    path = folder / "table.csv"
    path.write_bytes(text.encode(encoding))
    return path


def parquet_at(folder: Path, columns: dict[str, object]) -> Path:
    path = folder / "table.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


# Tables

ALL = {
    "product_id": "p",
    "image": "i/1.png",
    "mask": "m/1.png",
    "view": "front",
    "variant": "lot 2",
    "valid_from": "2024-05-06",
    "depth": "d/1.tif",
}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_with_all_columns_gives_every_field(tmp_path: Path, kind: str) -> None:
    columns = ALL | {"surplus": "ignored"}
    path = (
        csv_at(tmp_path, ",".join(columns) + "\n" + ",".join(columns.values()) + "\n")
        if kind == "csv"
        else parquet_at(tmp_path, {k: [v] for k, v in columns.items()})
    )
    (row,) = read_source(path).rows
    assert row == SourceRow(
        "p", tmp_path / "i/1.png", tmp_path / "m/1.png", "front", "lot 2", "2024-05-06",
        tmp_path / "d/1.tif", f"{path} row 1",
    )  # fmt: skip


def test_empty_and_missing_optional_cells_are_none(tmp_path: Path) -> None:
    path = csv_at(tmp_path, "product_id,image,mask,view\na,1.png,, \nb,2.png\n")
    assert read_source(path).problems == []
    for row in read_source(path).rows:
        assert (row.mask, row.view, row.variant, row.valid_from, row.depth) == (None,) * 5


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (",1.png", "empty"),
        ("   ,1.png", "empty"),
        ("a,", "image column"),
        ("a", "image column"),
        ("a,1.png,extra", "more cells"),
        ("a\x07b,1.png", "control"),
        ("x" * (MAX_ID_CHARACTERS + 1) + ",1.png", "1024"),
    ],
)
def test_a_bad_row_is_a_problem_that_names_the_row_and_the_others_are_read(
    tmp_path: Path, line: str, message: str
) -> None:
    path = csv_at(tmp_path, f"product_id,image\ngood,0.png\n{line}\nlast,9.png\n")
    source = read_source(path)
    assert pairs(source.rows) == [("good", "0.png"), ("last", "9.png")]
    (problem,) = source.problems
    assert (problem.code, problem.where) == ("bad_row", f"{path} row 2")
    assert message in problem.message


@pytest.mark.parametrize(("header", "missing"), [("product_id", "image"), ("sku,image", "product")])
def test_a_table_without_a_needed_column_is_refused(
    tmp_path: Path, header: str, missing: str
) -> None:
    with pytest.raises(SourceError, match=missing):
        read_source(csv_at(tmp_path, f"{header}\na,b\n"))
    with pytest.raises(SourceError, match=missing):
        read_source(parquet_at(tmp_path, {name: ["a"] for name in header.split(",")}))


def test_a_csv_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = csv_at(tmp_path, "product_id,image\na,1.png\n", encoding="utf-8-sig")
    assert pairs(read_source(path).rows) == [("a", "1.png")]


@pytest.mark.parametrize("text", ["product_id,image\ncafé,1.png\n", ""])
def test_a_csv_that_is_no_utf8_csv_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SourceError, match=r"table\.csv"):
        read_source(csv_at(tmp_path, text, encoding="latin-1"))


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    path.write_bytes(b"PAR1 but not really")
    with pytest.raises(SourceError, match="Parquet"):
        read_source(path)


def test_none_and_nan_cells_of_a_parquet_are_empty(tmp_path: Path) -> None:
    columns: dict[str, object] = {
        "product_id": ["a", "b", None],
        "image": ["1.png", None, "3.png"],
        "view": pyarrow.array([float("nan"), 1.0, 2.0]),
        "mask": pyarrow.nulls(3, pyarrow.string()),
    }
    source = read_source(parquet_at(tmp_path, columns))
    assert [(r.product_id, r.view, r.mask) for r in source.rows] == [("a", None, None)]
    assert [p.where.rpartition(" ")[2] for p in source.problems] == ["2", "3"]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (datetime.date(2024, 2, 29), "2024-02-29"),
        (datetime.datetime(2024, 2, 29, 12, 30), "2024-02-29T12:30:00"),
        ("2024-02-29T12:30:00+00:00", "2024-02-29T12:30:00+00:00"),
    ],
)
def test_dates_of_a_parquet_are_iso_text(tmp_path: Path, cell: object, expected: str) -> None:
    columns: dict[str, object] = {"product_id": ["a"], "image": ["1.png"], "valid_from": [cell]}
    (row,) = read_source(parquet_at(tmp_path, columns)).rows
    assert row.valid_from == expected


def test_a_valid_from_that_is_no_date_is_a_problem(tmp_path: Path) -> None:
    source = read_source(csv_at(tmp_path, "product_id,image,valid_from\na,1.png,30.02.2024\n"))
    assert (source.rows, [p.code for p in source.problems]) == ([], ["bad_row"])


def test_integer_product_ids_of_a_parquet_are_text_and_keep_their_digits(tmp_path: Path) -> None:
    big = 2**53 + 1
    columns: dict[str, object] = {"product_id": [7, big], "image": ["1.png", "2.png"]}
    assert [r.product_id for r in read_source(parquet_at(tmp_path, columns)).rows] == [
        "7",
        str(big),
    ]


def test_a_table_names_its_products_itself(tmp_path: Path) -> None:
    path = csv_at(tmp_path, "product_id,image\na,1.png\n")
    with pytest.raises(SourceError, match="leave the product ID out"):
        read_source(path, product_id="x")


def test_columns_that_nobody_reads_are_noted(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("product_id,image,veiw,colour\np,a.png,front,red\n")
    source = read_source(tmp_path / "t.csv")
    assert (len(source.rows), source.problems) == (1, [])
    (note,) = source.notes
    assert (note.code, "veiw, colour" in note.message) == ("unknown_column", True)


# Product IDs


@pytest.mark.parametrize("raw", ["", "  ", "\t", "a\x00b", "a\nb", "\udce9", "x" * 1025])
def test_ids_that_no_terminal_or_database_can_show_are_refused(raw: str) -> None:
    with pytest.raises(SourceError):
        clean_product_id(raw)


def test_strange_product_ids_round_trip_and_never_become_paths(
    tmp_path: Path, make_png, build_at
) -> None:
    """Through a CSV, the catalog, a build and its readers; the tree holds no folder of theirs."""
    lines = ["product_id,image"]
    for number, name in enumerate(STRANGE_IDS):
        (tmp_path / f"{number}.png").write_bytes(make_png(number))
        quoted = name.replace('"', '""')
        lines.append(f'"{quoted}",{number}.png')
    root = tmp_path / "deep" / "down" / "gallery"
    source = read_source(csv_at(tmp_path, "\n".join(lines)))
    assert create_catalog(root).import_rows(source.rows).added == len(STRANGE_IDS)
    before = {p for p in tmp_path.rglob("*") if root not in p.parents}
    assert build_at(root).published
    with Gallery.open(root) as gallery:
        expected = [COMPOSED if name == DECOMPOSED else name for name in STRANGE_IDS]
        assert list(gallery.product_ids()) == expected
        for number, name in enumerate(STRANGE_IDS):  # asked for as given, decomposed too
            (reference,) = gallery.references(name)
            assert reference.product_id == expected[number]
            assert gallery.vectors(name).shape == (1, 12)
    assert {p for p in tmp_path.rglob("*") if root not in p.parents} == before
    known = {"catalog", "originals", "builds", "shards"}
    digest = set("0123456789abcdefTZ-")
    assert all(p.name in known or set(p.name) <= digest for p in root.rglob("*") if p.is_dir())


# Kaputt, in both published layouts


def kaputt(home: Path, *, prefixed: bool, split: str = "test") -> Path:
    """Two items; the first has two references in one cell, the second one with a mask."""
    cells = [
        {"item_identifier": "item-1", "reference_crop": "data/x/a.jpg, data/x/b.jpg"},
        {"item_identifier": "item-2", "reference_crop": "data/x/c.jpg",
         "reference_mask": "data/x/c.png"},
    ]  # fmt: skip
    for name in ("a.jpg", "b.jpg", "c.jpg", "c.png"):
        kind = "mask" if name.endswith(".png") else "crop"
        path = (home / f"reference-{kind}" if prefixed else home) / "data/x" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not looked at")
    tables = home / "datasets" if prefixed else home
    tables.mkdir(exist_ok=True)
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist(cells[::-1]), tables / f"reference-{split}.parquet"
    )
    return home


@pytest.mark.parametrize("prefixed", [True, False])
def test_kaputts_references_are_read_by_item(tmp_path: Path, prefixed: bool) -> None:
    home = kaputt(tmp_path / "kaputt", prefixed=prefixed)
    source = read_source(home)
    assert [(r.product_id, r.image.name, r.mask and r.mask.name) for r in source.rows] == [
        ("item-2", "c.jpg", "c.png"), ("item-1", "a.jpg", None), ("item-1", "b.jpg", None),
    ]  # fmt: skip
    assert all(row.image.is_file() and (row.mask is None or row.mask.is_file())
               for row in source.rows)  # fmt: skip
    assert source.problems == []
    table = (home / "datasets" if prefixed else home) / "reference-test.parquet"
    assert read_source(table).rows == source.rows
    with pytest.raises(SourceError, match="leave the product ID out"):
        read_source(home, product_id="p")


def test_all_splits_of_kaputt_are_read_and_its_sample_where_it_is_alone(tmp_path: Path) -> None:
    home = kaputt(tmp_path / "kaputt", prefixed=True)
    kaputt(home, prefixed=True, split="train")
    assert len(read_source(home).rows) == 6
    kaputt(tmp_path / "other/sample-data", prefixed=False, split="sample")
    assert len(read_source(tmp_path / "other").rows) == 3


def test_kaputts_whole_pictures_are_taken_where_there_are_no_crops(tmp_path: Path) -> None:
    row = {"item_identifier": "i", "reference_crop": "data/a.jpg", "reference_image": "data/b.jpg",
           "reference_mask": "data/a.png"}  # fmt: skip
    (tmp_path / "datasets").mkdir()
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist([row]), tmp_path / "datasets/reference-test.parquet"
    )
    (found,) = read_source(tmp_path).rows
    assert (found.image, found.mask) == (tmp_path / "reference-image/data/b.jpg", None)


@pytest.mark.parametrize(
    "row",
    [
        {"item_identifier": "", "reference_crop": "data/a.jpg"},
        {"item_identifier": "i", "reference_crop": None},
        {"item_identifier": "i", "reference_crop": "../../a.jpg"},
    ],
)
def test_a_bad_row_of_kaputt_is_a_problem_that_names_it(tmp_path: Path, row: Any) -> None:
    good = {"item_identifier": "i", "reference_crop": "data/a.jpg"}
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist([row, good]), tmp_path / "reference-test.parquet"
    )
    source = read_source(tmp_path)
    assert [r.product_id for r in source.rows] == ["i"]
    (problem,) = source.problems
    assert problem.where.endswith("reference-test.parquet row 1")
