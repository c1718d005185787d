"""What the export pass writes and the evaluation reads: one Parquet file for each scorer's run.

    records = records_of("amiss", split, scored)          # one split: one model, its queries
    write_records(path, records, provenance)
    read = read_records(paths)                            # refuses mixed configurations

A row is one query scored by one model; a file holds one scorer (any sets, shots and seeds) and, as
metadata, where its rows come from. Everything the evaluation needs is in these files.

    RecordsError
    ├── UnreadableRecords       not a file of this format, or damaged
    ├── MixedConfigurations     rows that were not made alike; names files and keys
    ├── DuplicateRecords        the same query scored twice
    ├── UnpairedRecords         scorers that didn't answer the same queries
    └── UnsuitableScore         what a scorer returned can't be recorded; names the query
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.metrics_box import BoxCounts, count_boxes
from benchmarks.metrics_pixel import HeatView, PixelEvidence, pixel_evidence

if TYPE_CHECKING:
    from anomaly.scorers import Score
    from benchmarks.datasets.sample import Sample, Split

FORMAT = 1
_KEY = b"amiss.benchmark"
_MACHINE = ("processor", "cores", "device", "threads")  # what latencies depend on


class RecordsError(Exception):
    code = "records_error"


class UnreadableRecords(RecordsError):
    code = "unreadable_records"


class MixedConfigurations(RecordsError):
    code = "mixed_configurations"


class DuplicateRecords(RecordsError):
    code = "duplicate_records"


class UnpairedRecords(RecordsError):
    code = "unpaired_records"


class UnsuitableScore(RecordsError):
    code = "unsuitable_score"


@dataclass(frozen=True)
class Provenance:
    """Where the rows of a file come from; all of it is JSON.

    config      what must be the same for any two rows to be compared: picture size, weights,
                limits; not which sets or scorers were asked for
    settings    the scorer's own settings
    versions    of the libraries that the scorer runs on
    machine     processor, cores, system; device and threads if they were chosen
    points_at_regions   whether the scorer gives boxes; without, no box figure is measured
    """

    scorer: str
    config: Mapping[str, Any]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    machine: Mapping[str, Any]
    date: str
    command: str
    peak_memory_mib: float
    points_at_regions: bool = False

    def digest(self) -> str:
        """sha256 hex of all that must be equal between files of this scorer."""
        value = {**_common(self), **_own(self)}
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Record:
    """One query, scored by a model of `shots` references.

    damaged, major   None: not labelled
    score            finite; higher = more anomalous
    timings_ms       disjoint stages; total_ms was measured around them
    rank             of the true product among candidates: 1 is the first, 0 not among them;
                     None: nothing was to be identified
    boxes, pixels    None: the picture has no such truth, or the scorer no such answer
    cut              boxes hit by heat above the set's best threshold (`metrics_box.cut_heat`)
    """

    scorer: str
    dataset: str
    product_id: str
    shots: int
    seed: int
    sample_id: str
    score: float
    slice: str = ""
    damaged: bool | None = None
    major: bool | None = None
    defect_types: tuple[str, ...] = ()
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    total_ms: float = 0.0
    rank: int | None = None
    boxes: BoxCounts | None = None
    cut: BoxCounts | None = None
    pixels: PixelEvidence | None = None

    @property
    def query(self) -> tuple[str, int, int, str, str]:
        """What was asked, whoever answered: set, shots, seed, product, sample."""
        return self.dataset, self.shots, self.seed, self.product_id, self.sample_id


@dataclass(frozen=True)
class Records:
    """Rows in a fixed order, and the provenance of each file."""

    rows: tuple[Record, ...]
    provenance: tuple[Provenance, ...]


@dataclass(frozen=True)
class Scored:
    """A query and its answer. size: (H, W) of the picture as given to the scorer."""

    sample: Sample
    score: Score
    size: tuple[int, int]
    total_ms: float
    rank: int | None = None


def records_of(scorer: str, split: Split, scored: Sequence[Scored]) -> tuple[Record, ...]:
    """The rows of one split: all its queries by one model. Raises `UnsuitableScore`.

    If any query has a defect mask, pristine queries have an empty one; a damaged query without a
    marked pixel gives no pixel evidence. The same with boxes.
    """
    masked = any(one.sample.read_mask is not None for one in scored)
    boxed = any(one.sample.boxes for one in scored)
    views = [_view(one) if masked else None for one in scored]
    evidence = iter(pixel_evidence([view for view in views if view is not None]))
    rows = []
    for one, view in zip(scored, views, strict=True):
        if not math.isfinite(one.score.score):
            raise UnsuitableScore(
                f"{scorer} gave {one.score.score} for {one.sample.sample_id} of {split.dataset};"
                " a score must be finite"
            )
        rows.append(
            Record(
                scorer, split.dataset, one.sample.product_id, split.shots, split.seed,
                one.sample.sample_id, float(one.score.score), one.sample.slice,
                one.sample.damaged, one.sample.major, tuple(one.sample.defect_types),
                dict(one.score.timings_ms), one.total_ms, one.rank,
                boxes=count_boxes(one.sample.boxes, one.score.regions) if boxed else None,
                pixels=None if view is None else next(evidence),
            )
        )  # fmt: skip
    return tuple(rows)


def _view(one: Scored) -> HeatView | None:
    """Heat and defect mask, where both are known."""
    sample = one.sample
    if one.score.heat is None or (sample.read_mask is None and sample.damaged is not False):
        return None
    mask = np.zeros(one.size, bool) if sample.read_mask is None else sample.read_mask()
    if mask.shape != tuple(one.size):
        raise UnsuitableScore(
            f"{sample.sample_id}: mask {mask.shape} beside a picture of {tuple(one.size)} rows and"
            " columns; they must be the same"
        )
    return HeatView(one.score.heat, mask) if sample.damaged is False or mask.any() else None


def write_records(path: Path, records: Sequence[Record], provenance: Provenance) -> None:
    """Write one file, whole or not at all; raises `RecordsError` if a row is another scorer's."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    others = {row.scorer for row in records} - {provenance.scorer}
    if others:
        raise MixedConfigurations(
            f"{path}: rows of {', '.join(sorted(others))} in a file of {provenance.scorer};"
            " write one file for each scorer"
        )
    _refuse_duplicates(records)
    meta = json.dumps({"format": FORMAT, **dataclasses.asdict(provenance)}, sort_keys=True)
    schema = _schema().with_metadata({_KEY: meta.encode()})
    table = pa.Table.from_pylist([_as_row(row) for row in records], schema)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    try:
        pq.write_table(table, unfinished, compression="zstd")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def read_records(paths: Sequence[Path]) -> Records:
    """All rows of some files, sorted. Raises `RecordsError`; mixed configurations are refused.

    Between all files `config` and what latencies depend on of `machine` must be equal; between
    files of one scorer its settings and versions too.
    """
    if not paths:
        raise UnreadableRecords("no file of records; run the export first")
    files = [_read(Path(path)) for path in sorted(paths, key=str)]
    _refuse_mixtures([(path, provenance) for path, provenance, _ in files])
    rows = [row for _, _, rows in files for row in rows]
    _refuse_duplicates(rows)
    rows.sort(key=lambda row: (row.scorer, row.query))
    return Records(tuple(rows), tuple(provenance for _, provenance, _ in files))


def _read(path: Path) -> tuple[Path, Provenance, list[Record]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # ParquetFile, not read_table: a folder named scorer=... must not become a column.
        with pq.ParquetFile(path) as file:
            table = file.read()
        meta = json.loads((table.schema.metadata or {})[_KEY])
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise UnreadableRecords(
            f"{path}: not a file of benchmark records ({error}); export it again"
        ) from error
    if meta.pop("format") != FORMAT:
        raise UnreadableRecords(f"{path}: another format than {FORMAT}; export it again")
    try:
        table = table.cast(_schema())
        shared: dict[bytes, bytes] = {}  # edges of a split, kept once
        rows = [_as_record(row, shared) for row in table.to_pylist(maps_as_pydicts="strict")]
        return path, Provenance(**meta), rows
    except (ValueError, TypeError, KeyError, pa.ArrowException) as error:
        raise UnreadableRecords(
            f"{path}: columns are not what format {FORMAT} has: {error}"
        ) from error


def _schema() -> Any:
    import pyarrow as pa

    text, whole, real = pa.string(), pa.int64(), pa.float64()
    columns = {
        "scorer": text, "set": text, "slice": text, "product_id": text, "shots": whole,
        "seed": whole, "sample_id": text, "damaged": pa.bool_(), "major": pa.bool_(),
        "defect_types": pa.list_(text), "score": real, "timings_ms": pa.map_(text, real),
        "total_ms": real, "rank": whole, "boxes": whole, "boxes_hit": whole, "regions": whole,
        "false_regions": whole, "cut": pa.list_(whole, 4), "pixel_regions": whole,
        "pixel_bins": whole,
        "pixel_counts": pa.binary(), "pixel_edges": pa.binary(),
    }  # fmt: skip
    return pa.schema(list(columns.items()))


def _as_row(record: Record) -> dict[str, Any]:
    row = {item.name: getattr(record, item.name) for item in dataclasses.fields(record)}
    boxes, pixels = row.pop("boxes"), row.pop("pixels")
    row["set"] = row.pop("dataset")
    row["cut"] = None if record.cut is None else list(dataclasses.astuple(record.cut))
    row["timings_ms"] = sorted(record.timings_ms.items())
    if boxes is not None:
        row |= {"boxes": boxes.truth, "boxes_hit": boxes.hit}
        row |= {"regions": boxes.regions, "false_regions": boxes.false}
    if pixels is not None:
        row |= {"pixel_regions": pixels.shape[0] - 1, "pixel_bins": pixels.shape[1]}
        row |= {"pixel_counts": pixels.packed, "pixel_edges": pixels.edges}
    return row


def _as_record(row: dict[str, Any], shared: dict[bytes, bytes]) -> Record:
    boxes = [row.pop(name) for name in ("boxes", "boxes_hit", "regions", "false_regions")]
    regions, bins = row.pop("pixel_regions"), row.pop("pixel_bins")
    counts, edges = row.pop("pixel_counts"), row.pop("pixel_edges")
    pixels = None
    if counts is not None:
        pixels = PixelEvidence((regions + 1, bins), counts, shared.setdefault(edges, edges))
    row["defect_types"] = tuple(row["defect_types"])
    row["cut"] = None if row["cut"] is None else BoxCounts(*row["cut"])
    return Record(
        dataset=row.pop("set"), **row, pixels=pixels,
        boxes=None if boxes[0] is None else BoxCounts(*boxes),
    )  # fmt: skip


def _refuse_duplicates(rows: Sequence[Record]) -> None:
    seen = set()
    for row in rows:
        key = (row.scorer, *row.query)
        if key in seen:
            raise DuplicateRecords(
                f"{row.scorer} scored {row.sample_id} (set {row.dataset}, product"
                f" {row.product_id}, {row.shots} shots, seed {row.seed}) twice; read each export"
                " once, and give samples of a set different names"
            )
        seen.add(key)


def _common(provenance: Provenance) -> dict[str, Any]:
    machine = {k: v for k, v in provenance.machine.items() if k in _MACHINE}
    return _flat({"config": dict(provenance.config), "machine": machine})


def _own(provenance: Provenance) -> dict[str, Any]:
    value = {"settings": dict(provenance.settings), "versions": dict(provenance.versions)}
    return _flat({**value, "points_at_regions": provenance.points_at_regions})


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys, joined by dots."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            flat |= _flat(item, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = json.loads(json.dumps(item))
    return flat


def _refuse_mixtures(files: Sequence[tuple[Path, Provenance]]) -> None:
    """Compare each file with the first one, and with the first one of its scorer."""
    first: dict[str, tuple[Path, Provenance]] = {}
    lines = []
    for path, provenance in files:
        pairs = [(files[0], _common)]
        pairs.append((first.setdefault(provenance.scorer, (path, provenance)), _own))
        for (other, reference), part in pairs:
            mine, theirs = part(provenance), part(reference)
            lines += [
                f"  {key}: {_named(theirs, key)} in {other}, {_named(mine, key)} in {path}"
                for key in sorted({*mine, *theirs})
                if _named(mine, key) != _named(theirs, key)
            ]
    if lines:
        raise MixedConfigurations(
            "these files were not made alike, so their figures can't stand in one table:\n"
            + "\n".join(lines)
            + "\nexport them again with one configuration, or read fewer of them"
        )


def _named(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key], sort_keys=True) if key in values else "nothing"
