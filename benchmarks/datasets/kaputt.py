"""Kaputt (Höfer et al., ICCV 2025, arXiv 2510.05903): items, each with one to three references.

Both published layouts; which one is seen by where the tables are. SPLIT is train, validation, test:

    A  datasets/{query,reference}-SPLIT.parquet            B  {query,reference}-SPLIT.parquet
       query-crop/data/SPLIT/query-data/crop/*.jpg            data/SPLIT/query-data/crop/*.jpg
       query-mask/data/SPLIT/query-data/mask/*.png            data/SPLIT/query-data/mask/*.png
       reference-crop/data/SPLIT/reference-data/...           data/SPLIT/reference-data/...

A table's paths begin at `data/`: in A they are relative to the folder of their kind, in B to the
set's. `sample-data/`, the public sample, is B with the split `sample`. Parts are `SPLIT` (crops, as
the challenge's baselines use) or `SPLIT/image` (whole pictures); without a part: `test`.

Protocol: the references of a query are those of its own **item**, never of the table at large. An
item has one to three; K of them are drawn by seed, all where there are fewer, never more than three
(the challenge's own loader). Each item is a split, its slice the item's material. A reference cell
may hold several paths, separated by commas.

The masks are **item** masks: there is no pixel truth of defects, so no pixel metric. `major` is set
for damage only: AP_major counts major damage against pristine items and leaves minor damage out.
Tables without label columns (Kaputt 2's test split) give unlabelled queries.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.datasets.errors import MalformedRow, MissingFile, UnknownSet
from benchmarks.datasets.listing import as_sample
from benchmarks.datasets.masks import read_product_mask
from benchmarks.datasets.protocol import draw_references
from benchmarks.datasets.sample import Sample, Split
from benchmarks.datasets.tables import Row, read_parquet
from gallery.kaputt import Layout

MAX_REFERENCES = 3  # `load` asks for no more
SPLITS = ("train", "validation", "test", "sample")
LABELS = ("defect", "major_defect", "defect_types")


@dataclass(frozen=True)
class _Place:
    """Where a split's tables are, and how their paths are to be read."""

    home: Path
    tables: Path
    prefixed: bool  # layout A
    split: str
    kind: str  # crop or image

    def table(self, role: str) -> Path:
        return self.tables / f"{role}-{self.split}.parquet"

    def file(self, row: Row, role: str, kind: str, relative: str) -> Path:
        home = Layout(self.home, self.tables, self.prefixed).folder(role, kind)
        what = f"{role}_{kind} of layout {'A' if self.prefixed else 'B'}"
        return row.file(home, relative, what)


def read_kaputt(
    home: Path, *, dataset: str, part: str | None, shots: int, seed: int
) -> list[Split]:
    """A split for each item of the part, in the order in which the query table names them."""
    place = _place(home, dataset, part)
    queries = _queries(place)
    references = _references(place, {s.sample_id for own in queries.values() for s in own})
    splits = []
    for item, samples in queries.items():
        if item not in references:
            raise MalformedRow(
                place.table("query"),
                f"item {item} ({samples[0].sample_id}) has no reference; expected a row of it in "
                f"{place.table('reference')}",
            )
        own = references[item]
        count = min(shots, len(own))
        drawn = draw_references(own, shots=count, seed=seed, where=item)
        chosen = tuple(own[path] for path in drawn)
        name = dataset if part is None else f"{dataset}/{part}"
        splits.append(Split(name, item, shots, seed, chosen, tuple(samples)))
    return splits


def _place(home: Path, dataset: str, part: str | None) -> _Place:
    split, _, kind = (part or "test").partition("/")
    if split not in SPLITS or kind not in ("", "image"):
        raise UnknownSet(
            f"{dataset}/{part}",
            f"no such part; expected {', '.join(SPLITS)}, or one of them with /image",
        )
    if split == "sample":
        home = home / "sample-data"
    flat, nested = home / f"query-{split}.parquet", home / "datasets" / f"query-{split}.parquet"
    if not flat.is_file() and not nested.is_file():
        raise MissingFile(nested, f"no such table, nor {flat}; expected one of the two layouts")
    tables = nested.parent if nested.is_file() else home
    return _Place(home, tables, nested.is_file(), split, kind or "crop")


def _queries(place: _Place) -> dict[str, list[Sample]]:
    """The query table's samples by item."""
    column = f"query_{place.kind}"
    rows = read_parquet(place.table("query"), columns=("item_identifier", column))
    found: dict[str, list[Sample]] = {}
    seen: set[Path] = set()
    for row in rows:
        path = place.file(row, "query", place.kind, row.text(column))
        if path in seen:
            raise MalformedRow(row.where, f"{column} has a row already; expected one for each")
        seen.add(path)
        masks = row.listed("query_mask")
        mask = place.file(row, "query", "mask", masks[0]) if masks else None
        item = row.text("item_identifier")
        known = {**_labels(row), "slice": row.optional("item_material")}
        found.setdefault(item, []).append(_sample(path, mask, place, item, **known))
    if not found:
        raise MalformedRow(place.table("query"), "no rows; expected the queries")
    return found


def _references(place: _Place, asked: Set[str]) -> dict[str, dict[Path, Sample]]:
    """The reference table's samples by item and path; none may be one of `asked`."""
    column = f"reference_{place.kind}"
    rows = read_parquet(place.table("reference"), columns=("item_identifier", column))
    found: dict[str, dict[Path, Sample]] = {}
    for row in rows:
        names, masks = row.listed(column), row.listed("reference_mask")
        if not names:
            raise MalformedRow(row.where, f"{column} is empty; expected a path, or several")
        if masks and len(masks) != len(names):
            raise MalformedRow(
                row.where, f"{len(names)} paths in {column}, {len(masks)} in reference_mask"
            )
        item = row.text("item_identifier")
        for name, mask_name in zip(names, masks or [""] * len(names), strict=True):
            path = place.file(row, "reference", place.kind, name)
            mask = place.file(row, "reference", "mask", mask_name) if mask_name else None
            sample = _sample(path, mask, place, item, damaged=False)
            if sample.sample_id in asked:
                raise MalformedRow(
                    row.where, f"{name} is a query as well; expected another picture"
                )
            found.setdefault(item, {})[path] = sample
    return found


def _sample(path: Path, mask: Path | None, place: _Place, item: str, **known: Any) -> Sample:
    read = partial(read_product_mask, mask, picture=path) if mask else None
    return as_sample(path, home=place.home, product_id=item, read_item_mask=read, **known)


def _labels(row: Row) -> dict[str, Any]:
    """damaged, major and defect types; nothing where the table has no label columns at all."""
    missing: Sequence[str] = [name for name in LABELS[:2] if name not in row.cells]
    if len(missing) == 2:
        return {}
    if missing:
        raise MalformedRow(row.where, f"no column {missing[0]}; expected defect and major_defect")
    damaged, major = row.flag("defect"), row.flag("major_defect")
    if major and not damaged:
        raise MalformedRow(row.where, "major_defect without defect; expected both or neither")
    types = tuple(row.listed("defect_types")) if damaged else ()
    return {"damaged": damaged, "major": major if damaged else None, "defect_types": types}
