"""Layouts told by tables: VisA (CSV) and Kaputt (Parquet)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.datasets import DatasetError, Sample, Split, errors, load, tiny
from benchmarks.datasets.tables import Row, read_csv, read_parquet

# ---- VisA


@pytest.fixture
def visa(tmp_path: Path) -> Path:
    tiny.write_visa(tmp_path / "VisA_20220922")
    return tmp_path


def edit_visa(root: Path, old: str, new: str) -> None:
    table = root / "VisA_20220922/split_csv/1cls.csv"
    text = table.read_text("utf-8")
    assert old in text
    table.write_text(text.replace(old, new, 1), "utf-8")


def test_visa_follows_its_table(visa: Path) -> None:
    candle, pcb = load("visa", visa, shots=3, seed=0)
    assert (candle.product_id, pcb.product_id) == ("candle", "pcb1")
    assert len(candle.references) == 3
    trained = {f"candle/Data/Images/Normal/000{n}.JPG" for n in range(5)}
    assert {r.sample_id for r in candle.references} < trained
    assert Counter(q.damaged for q in candle.queries) == {False: 3, True: 2}
    assert [q.read_mask is not None for q in candle.queries] == [q.damaged for q in candle.queries]


def test_visa_types_come_from_image_anno_where_there_is_one(visa: Path) -> None:
    candle, pcb = load("visa", visa, shots=1, seed=0)
    damaged = [q.defect_types for q in candle.queries if q.damaged]
    assert damaged == [("melt",), ("melt", "scratch")]
    assert all(not q.defect_types for q in pcb.queries)


PCB = "pcb1/Data/Images/"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("object,split", "object,part", "no column split; expected object, split, label"),
        (f"pcb1,test,normal,{PCB}Normal/0005", f"pcb1,test,normal,{PCB}Normal/9",
         r"line 17: names .*9\.JPG, which is no file; expected a picture"),
        ("pcb1,test,normal", "pcb1,tset,normal", r"line 17: split is 'tset'; expected train or"),
        ("pcb1,test,normal", "pcb1,test,fine", "line 17: label is 'fine'; expected normal or"),
        ("pcb1,test,normal", ",test,normal", "line 17: object is empty"),
        ("pcb1,test,normal", "pcb1,test", "line 17: expected 5 cells"),
        ("pcb1,test,normal,", "pcb1,test,normal,/", "line 17: .*leaves the set's folder"),
        ("pcb1,test,normal,", "pcb1,test,normal,../", "line 17: .*leaves the set's folder"),
        ("pcb1,test,anomaly", "pcb1,train,anomaly", "line 20: an anomaly in train"),
        ("Masks/Anomaly/001.png", "Masks/Anomaly/007.png", r"line 11: names .*007\.png.*mask"),
        (f"{PCB}Normal/0006", f"{PCB}Normal/0005", "line 18: this image has a row already"),
        (f"{PCB}Normal/0005", f"{PCB}Normal/0004", "line 17: this image has a row already"),
        (f"{PCB}Normal/0005.JPG,", f"{PCB}Normal/0005.JPG,{PCB}Normal/0005.JPG",
         "line 17: a normal picture with a mask"),
        ("pcb1,test,normal", '"pcb1"x,test,normal', "after line 16: not a CSV file"),
    ],
)  # fmt: skip
def test_visa_faults_name_the_line(old: str, new: str, words: str, visa: Path) -> None:
    edit_visa(visa, old, new)
    with pytest.raises(DatasetError, match=rf"1cls\.csv.*{words}"):
        load("visa", visa, shots=1, seed=0)


def test_visa_without_table_or_rows_or_mask_is_named(visa: Path) -> None:
    table = visa / "VisA_20220922/split_csv/1cls.csv"
    mask = ",candle/Data/Masks/Anomaly/000.png"
    edit_visa(visa, mask, ",")
    with pytest.raises(errors.MalformedRow, match="line 10: mask is empty"):
        load("visa", visa, shots=1, seed=0)
    table.write_text("object,split,label,image,mask\n")
    with pytest.raises(errors.MalformedRow, match="no rows"):
        load("visa", visa, shots=1, seed=0)
    table.write_text("")
    with pytest.raises(errors.MalformedRow, match="found none"):
        load("visa", visa, shots=1, seed=0)
    table.unlink()
    with pytest.raises(errors.MissingFile, match=r"1cls\.csv: no such file; expected a table"):
        load("visa", visa, shots=1, seed=0)


def test_visa_object_without_queries_is_named(visa: Path) -> None:
    table = visa / "VisA_20220922/split_csv/1cls.csv"
    kept = [line for line in table.read_text().splitlines() if not line.startswith("pcb1,test")]
    table.write_text("\n".join(kept))
    with pytest.raises(errors.TooFewPictures, match="object pcb1: no rows of split test"):
        load("visa", visa, shots=1, seed=0)


# ---- Kaputt


@pytest.fixture(params=["A", "B"])
def kaputt(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The data folder that holds kaputt/ in either layout."""
    tiny.write_kaputt(tmp_path / "kaputt", split="test", flat=request.param == "B")
    return tmp_path


def table_of(root: Path, role: str) -> Path:
    (found,) = (root / "kaputt").rglob(f"{role}-test.parquet")
    return found


def edit(root: Path, role: str, row: int, **cells: Any) -> None:
    """Change cells of one row of a table."""
    table = table_of(root, role)
    rows = pq.ParquetFile(table).read().to_pylist()
    rows[row].update(cells)
    tiny.write_parquet(table, rows)


def without(root: Path, role: str, *columns: str) -> None:
    table = table_of(root, role)
    pq.write_table(pq.ParquetFile(table).read().drop_columns(list(columns)), table)


def stems(samples: tuple[Sample, ...]) -> list[str]:
    return sorted(Path(s.sample_id).stem for s in samples)


def by_item(splits: list[Split]) -> Mapping[str, Split]:
    return {split.product_id: split for split in splits}


def test_kaputt_references_are_those_of_the_item(kaputt: Path) -> None:
    splits = by_item(load("kaputt", kaputt, shots=16, seed=0))
    own = {item: stems(split.references) for item, split in splits.items()}
    assert own == {"B00A": ["r1", "r2", "r4"], "B00B": ["r3"], "B00C": ["r5", "r6"]}
    asked = {item: stems(split.queries) for item, split in splits.items()}
    assert asked == {"B00A": ["c1", "c2"], "B00B": ["c3", "c4"], "B00C": ["c5"]}
    assert {split.shots for split in splits.values()} == {3}


def test_kaputt_draws_as_many_references_as_asked_or_there_are(kaputt: Path) -> None:
    splits = by_item(load("kaputt", kaputt, shots=2, seed=0))
    assert [len(split.references) for split in splits.values()] == [2, 1, 2]
    drawn = {
        tuple(stems(by_item(load("kaputt", kaputt, shots=1, seed=s))["B00A"].references))
        for s in range(8)
    }
    assert drawn == {("r1",), ("r2",), ("r4",)}


def test_kaputt_flags_let_ap_major_leave_minor_damage_out(kaputt: Path) -> None:
    queries = [q for split in load("kaputt", kaputt, shots=1, seed=0) for q in split.queries]
    known = {Path(q.sample_id).stem: (q.damaged, q.major) for q in queries}
    assert known == {
        "c1": (False, None), "c2": (True, True), "c3": (True, False),
        "c4": (False, None), "c5": (False, None),
    }  # fmt: skip
    positives = {stem for stem, (_, major) in known.items() if major}
    negatives = {stem for stem, (damaged, _) in known.items() if not damaged}
    assert (positives, negatives) == ({"c2"}, {"c1", "c4", "c5"})
    types = {Path(q.sample_id).stem: q.defect_types for q in queries}
    assert types["c2"] == ("spillage", "deconstruction")
    assert types["c1"] == ()
    assert {q.slice for q in queries} == {"cardboard"}


def test_kaputt_masks_are_item_masks_whatever_their_range(kaputt: Path) -> None:
    expected = np.zeros((tiny.HEIGHT_PX, tiny.WIDTH_PX), bool)
    expected[10:38, 12:52] = True
    for split in load("kaputt", kaputt, shots=3, seed=0):
        for sample in (*split.references, *split.queries):
            assert sample.read_mask is None
            assert sample.read_item_mask is not None
            np.testing.assert_array_equal(sample.read_item_mask(), expected)


def test_kaputt_gives_crops_unless_images_are_asked_for(kaputt: Path) -> None:
    for part, kind in (("kaputt", "/crop/"), ("kaputt/test/image", "/image/")):
        for split in load(part, kaputt, shots=3, seed=0):
            assert split.dataset == part
            assert all(kind in s.sample_id for s in (*split.references, *split.queries))


def test_kaputt_sample_lies_in_a_folder_of_its_own(tmp_path: Path) -> None:
    tiny.write_kaputt(tmp_path / "kaputt/sample-data", split="sample", flat=True)
    splits = load("kaputt/sample", tmp_path, shots=3, seed=0)
    assert [split.product_id for split in splits] == ["B00A", "B00B", "B00C"]
    with pytest.raises(errors.MissingFile, match=r"query-test\.parquet.*one of the two layouts"):
        load("kaputt", tmp_path, shots=3, seed=0)


def test_kaputt_without_labels_or_masks_is_unlabelled(kaputt: Path) -> None:
    without(kaputt, "query", "defect", "major_defect", "defect_types", "query_mask")
    without(kaputt, "reference", "reference_mask")
    for split in load("kaputt", kaputt, shots=3, seed=0):
        assert all((q.damaged, q.major) == (None, None) for q in split.queries)
        assert all(s.read_item_mask is None for s in (*split.references, *split.queries))


def test_kaputt_lists_may_be_parquet_lists(kaputt: Path) -> None:
    table = table_of(kaputt, "query")
    rows = pq.ParquetFile(table).read().to_pylist()
    for row in rows:
        row["defect_types"] = (row["defect_types"] or "").split(",")
    tiny.write_parquet(table, rows)
    queries = by_item(load("kaputt", kaputt, shots=1, seed=0))["B00A"].queries
    assert [q.defect_types for q in queries] == [(), ("spillage", "deconstruction")]


@pytest.mark.parametrize(
    ("role", "row", "cells", "words"),
    [
        ("query", 2, {"query_crop": "data/test/x.jpg"},
         r"query-test\.parquet row 3: names .*x\.jpg, which is no file; expected query_crop"),
        ("query", 2, {"query_crop": None}, "row 3: query_crop is empty"),
        ("query", 2, {"query_mask": "data/x.png"}, "row 3: names .*expected query_mask"),
        ("query", 2, {"item_identifier": ""}, "row 3: item_identifier is empty"),
        ("query", 2, {"defect": None}, "row 3: defect is None; expected true or false"),
        ("query", 3, {"major_defect": True}, "row 4: major_defect without defect"),
        ("query", 4, {"item_identifier": "B00D"}, r"item B00D \(.*c5\.jpg\) has no reference"),
        ("reference", 1, {"reference_crop": "data/x.jpg"},
         r"reference-test\.parquet row 2: names .*expected reference_crop"),
        ("reference", 1, {"reference_crop": " , "}, "row 2: reference_crop is empty"),
        ("reference", 0, {"reference_mask": "data/x.png"}, "row 1: 2 paths in .*, 1 in"),
        ("reference", 1, {"reference_crop": "/data/x.jpg"}, "row 2: .*leaves the set's folder"),
    ],
)  # fmt: skip
def test_kaputt_faults_name_the_row(
    role: str, row: int, cells: dict[str, Any], words: str, kaputt: Path
) -> None:
    edit(kaputt, role, row, **cells)
    with pytest.raises(DatasetError, match=words):
        load("kaputt", kaputt, shots=1, seed=0)


def test_kaputt_doubles_and_leaks_are_named(tmp_path: Path) -> None:
    tiny.write_kaputt(tmp_path / "kaputt", split="test", flat=True)
    leaked = "data/test/query-data/crop/c1.jpg"
    edit(tmp_path, "query", 3, query_crop=leaked)
    with pytest.raises(errors.MalformedRow, match="row 4: query_crop has a row already"):
        load("kaputt", tmp_path, shots=1, seed=0)
    tiny.write_kaputt(tmp_path / "kaputt", split="test", flat=True)
    edit(tmp_path, "reference", 1, reference_crop=leaked)
    with pytest.raises(errors.MalformedRow, match=r"row 2: .*c1\.jpg is a query as well"):
        load("kaputt", tmp_path, shots=1, seed=0)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda root: without(root, "query", "query_crop"), "no column query_crop; expected"),
        (lambda root: without(root, "query", "major_defect"), "row 1: no column major_defect"),
        (lambda root: without(root, "reference", "item_identifier"), "no column item_identifier"),
        (lambda root: table_of(root, "reference").unlink(), r"reference-test\.parquet: no such"),
        (lambda root: table_of(root, "query").write_bytes(b"PAR"), "not a Parquet file"),
    ],
)
def test_kaputt_tables_that_cannot_be_used_are_named(
    spoil: Callable[[Path], None], words: str, kaputt: Path
) -> None:
    spoil(kaputt)
    with pytest.raises(DatasetError, match=words):
        load("kaputt", kaputt, shots=1, seed=0)


# ---- tables


def test_cells_are_read_strictly() -> None:
    row = Row("t row 1", {"n": 7, "x": " a ", "nan": float("nan"), "f": 1.5, "one": 1})
    assert (row.text("n"), row.text("x"), row.optional("nan"), row.optional("gone")) == (
        "7", "a", "", "",
    )  # fmt: skip
    assert row.flag("one") is True
    with pytest.raises(errors.MalformedRow, match=re.escape("t row 1: f is 1.5; expected text")):
        row.text("f")
    with pytest.raises(errors.MalformedRow, match="n is 7; expected true or false"):
        row.flag("n")


def test_tables_in_odd_encodings(tmp_path: Path) -> None:
    (tmp_path / "bom.csv").write_bytes(b"\xef\xbb\xbfa,b\r\n1,2\r\n")
    (row,) = read_csv(tmp_path / "bom.csv", columns=("a", "b"))
    assert (row.text("a"), row.where) == ("1", f"{tmp_path / 'bom.csv'} line 2")
    (tmp_path / "latin.csv").write_bytes(b"a,b\n\xe9,2\n")
    with pytest.raises(errors.MalformedRow, match=r"latin\.csv.*not a CSV file in UTF-8"):
        list(read_csv(tmp_path / "latin.csv", columns=("a", "b")))
    tiny.write_parquet(tmp_path / "t.parquet", [{"a": 1}])
    (cells,) = read_parquet(tmp_path / "t.parquet", columns=("a",))
    assert cells.where.endswith("t.parquet row 1")
