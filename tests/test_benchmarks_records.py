"""What is written is read back; what doesn't belong together is refused."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.metrics import BoxCounts, pixel_auroc
from benchmarks.records import (
    DuplicateRecords,
    MixedConfigurations,
    Provenance,
    Record,
    Scored,
    UnreadableRecords,
    UnsuitableScore,
    read_records,
    records_of,
    write_records,
)


def _provenance(scorer: str = "amiss", **changed: Any) -> Provenance:
    usual = Provenance(
        scorer,
        config={"size_px": 448, "weights": {"name": "lite0", "sha256": "ab"}},
        settings={"window": 2},
        versions={"torch": "2.4"},
        machine={"processor": "EPYC", "cores": 2, "system": "Linux"},
        date="2026-11-23",
        command="python -m benchmarks export",
        peak_memory_mib=512.5,
    )
    return dataclasses.replace(usual, **changed)


def _sample(name: str, **known: Any) -> Any:
    usual: dict[str, Any] = {
        "sample_id": name, "product_id": "p/1 ü", "damaged": None, "major": None,
        "defect_types": (), "read_mask": None, "boxes": (), "slice": "",
    }  # fmt: skip
    return SimpleNamespace(**{**usual, **known})


def _scored(sample: Any, score: float = 1.0, **answer: Any) -> Scored:
    usual = {"score": score, "heat": None, "timings_ms": {"b": 2.5, "a": 1.0}, "regions": ()}
    return Scored(sample, SimpleNamespace(**{**usual, **answer}), (8, 12), 4.25)


SPLIT: Any = SimpleNamespace(dataset="set", product_id="p/1 ü", shots=4, seed=1)
MASK = np.zeros((8, 12), bool)
MASK[2:4, 3:6] = True
HEAT = np.arange(24, dtype=np.float32).reshape(4, 6)


def _masked_split() -> list[Scored]:
    return [
        _scored(_sample("good", damaged=False), heat=HEAT),
        _scored(_sample("torn", damaged=True, read_mask=lambda: MASK, major=True), heat=HEAT),
        _scored(_sample("no mask", damaged=True, major=False), heat=HEAT),
        _scored(_sample("empty mask", damaged=True, read_mask=lambda: ~MASK & MASK), heat=HEAT),
        _scored(_sample("no heat", damaged=False)),
    ]


def test_rows_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    rows = (
        *records_of("amiss", SPLIT, _masked_split()),
        Record(
            "amiss",
            "ids",
            "x",
            1,
            0,
            "q.jpg",
            0.5,
            rank=0,
            boxes=BoxCounts(3, 2, 4, 1),
            cut=BoxCounts(3, 3, 5, 0),
        ),
        Record("amiss", "ids", "x", 1, 0, "r.jpg", -math.pi, "pose 90", defect_types=("a", "b")),
    )
    write_records(tmp_path / "deep" / "a.parquet", rows, _provenance())
    read = read_records([tmp_path / "deep" / "a.parquet"])
    assert read.rows == tuple(sorted(rows, key=lambda row: row.query))
    assert read.provenance == (_provenance(),)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.parquet"]


def test_a_folder_name_is_no_column(tmp_path: Path) -> None:
    path = tmp_path / "scorer=other" / "a.parquet"
    write_records(path, [Record("amiss", "s", "p", 1, 0, "q", 1.0)], _provenance())
    assert read_records([path]).rows[0].scorer == "amiss"


def test_pixel_evidence_is_kept_where_truth_and_heat_are_known() -> None:
    rows = {row.sample_id: row for row in records_of("amiss", SPLIT, _masked_split())}
    assert {name for name, row in rows.items() if row.pixels} == {"good", "torn"}
    good, torn = rows["good"].pixels, rows["torn"].pixels
    assert good is not None
    assert torn is not None
    assert good.counts.sum() == torn.counts.sum() == MASK.size
    assert good.shape[0] == 1
    assert torn.counts[1:].sum() == MASK.sum()
    assert 0 < pixel_auroc([good, torn]) < 1
    unmasked = records_of("amiss", SPLIT, _masked_split()[:1])
    assert unmasked[0].pixels is None  # a set without masks


def test_boxes_are_counted_where_a_split_has_them() -> None:
    pointed = _scored(_sample("a", boxes=((0, 0, 4, 4),)), regions=((0, 0, 4, 2), (50, 50, 60, 60)))
    rows = records_of("amiss", SPLIT, [pointed, _scored(_sample("b"))])
    assert rows[0].boxes == BoxCounts(1, 1, 2, 1)
    assert rows[1].boxes == BoxCounts(0, 0, 0, 0)
    assert records_of("amiss", SPLIT, [_scored(_sample("b"))])[0].boxes is None


def test_what_cannot_be_recorded_names_the_query() -> None:
    with pytest.raises(UnsuitableScore, match=r"gave nan for a of set"):
        records_of("amiss", SPLIT, [_scored(_sample("a"), math.nan)])
    small = _sample("a", damaged=True, read_mask=lambda: MASK[:4])
    with pytest.raises(UnsuitableScore, match=r"a: mask \(4, 12\) beside a picture of \(8, 12\)"):
        records_of("amiss", SPLIT, [_scored(small, heat=HEAT)])


def test_a_file_holds_one_scorer_and_each_query_once(tmp_path: Path) -> None:
    row = Record("ssim", "s", "p", 1, 0, "q", 1.0)
    with pytest.raises(MixedConfigurations, match="rows of ssim in a file of amiss"):
        write_records(tmp_path / "a.parquet", [row], _provenance())
    with pytest.raises(DuplicateRecords, match=r"ssim scored q \(set s, product p, 1 shots"):
        write_records(tmp_path / "a.parquet", [row, row], _provenance("ssim"))
    assert not list(tmp_path.iterdir())
    for name in ("a", "b"):
        write_records(tmp_path / f"{name}.parquet", [row], _provenance("ssim"))
    with pytest.raises(DuplicateRecords, match="twice"):
        read_records(sorted(tmp_path.iterdir()))


def _two(tmp_path: Path, first: Provenance, second: Provenance) -> list[Path]:
    paths = [tmp_path / "one.parquet", tmp_path / "two.parquet"]
    for number, (path, provenance) in enumerate(zip(paths, (first, second), strict=True)):
        row = Record(provenance.scorer, f"set {number}", "p", 1, 0, "q", 1.0)
        write_records(path, [row], provenance)
    return paths


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"config": {"size_px": 768}}, "config.size_px: 448 in"),
        ({"config": {"size_px": 768}}, 'config.weights.sha256: "ab" in'),
        ({"config": {"size_px": 448, "limit": 5}}, "config.limit: nothing in"),
        ({"machine": {"processor": "M2", "cores": 2}}, 'machine.processor: "EPYC" in'),
        ({"settings": {"window": 3}}, "settings.window: 2 in"),
        ({"versions": {"torch": "2.5"}}, 'versions.torch: "2.4" in'),
    ],
)
def test_mixed_configurations_are_refused_by_file_and_key(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    paths = _two(tmp_path, _provenance(), _provenance(**changed))
    with pytest.raises(MixedConfigurations) as caught:
        read_records(paths)
    assert said in str(caught.value)
    assert "one.parquet" in str(caught.value)
    assert "two.parquet" in str(caught.value)
    assert _provenance().digest() != _provenance(**changed).digest()


def test_what_may_differ_does(tmp_path: Path) -> None:
    later = _provenance(date="2026-12-01", command="again", peak_memory_mib=9.0)
    assert later.digest() == _provenance().digest()
    assert len(read_records(_two(tmp_path, _provenance(), later)).rows) == 2
    other = _provenance("ssim", settings={"k": 1}, versions={"skimage": "1"})
    assert len(read_records(_two(tmp_path, _provenance(), other)).provenance) == 2


def test_foreign_and_broken_files_are_named(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.parquet"
    pq.write_table(pa.table({"a": [1]}), foreign)
    with pytest.raises(UnreadableRecords, match=r"foreign\.parquet: not a file of benchmark"):
        read_records([foreign])
    with pytest.raises(UnreadableRecords, match=r"gone\.parquet"):
        read_records([tmp_path / "gone.parquet"])
    good = tmp_path / "good.parquet"
    write_records(good, [Record("amiss", "s", "p", 1, 0, "q", 1.0)], _provenance())
    table = pq.read_table(good)
    pq.write_table(table.drop_columns(["score"]), foreign)
    with pytest.raises(UnreadableRecords, match="columns are not what format 1 has"):
        read_records([foreign])
    meta = table.schema.metadata[b"amiss.benchmark"].replace(b'"format": 1', b'"format": 9')
    pq.write_table(table.replace_schema_metadata({b"amiss.benchmark": meta}), foreign)
    with pytest.raises(UnreadableRecords, match="another format than 1"):
        read_records([foreign])
    good.write_bytes(good.read_bytes()[:-40])
    with pytest.raises(UnreadableRecords, match="good"):
        read_records([good])
    with pytest.raises(UnreadableRecords, match="run the export first"):
        read_records([])


def test_no_rows_make_a_file_all_the_same(tmp_path: Path) -> None:
    write_records(tmp_path / "a.parquet", [], _provenance())
    assert read_records([tmp_path / "a.parquet"]).rows == ()
