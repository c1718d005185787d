"""VisA (Zou et al., ECCV 2022) as published, by its one-class table; parts are objects.

    split_csv/1cls.csv             object,split,label,image,mask; paths relative to the set's folder
    OBJECT/Data/Images/Normal/*.JPG, OBJECT/Data/Images/Anomaly/*.JPG
    OBJECT/Data/Masks/Anomaly/*.png         pixels hold the number of the defect's class, 0 = none
    OBJECT/image_anno.csv                   optional; image,label,mask: label names types of defect

Few-shot protocol: K references of the rows `train` by seed (`protocol.draw_references`); all rows
`test` are asked, the same for every seed.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from benchmarks.datasets.errors import MalformedRow, TooFewPictures, UnknownSet
from benchmarks.datasets.listing import as_sample
from benchmarks.datasets.masks import read_defect_mask
from benchmarks.datasets.protocol import draw_references
from benchmarks.datasets.sample import Sample, Split
from benchmarks.datasets.tables import Row, read_csv

TABLE = "split_csv/1cls.csv"
COLUMNS = ("object", "split", "label", "image", "mask")


def read_visa(home: Path, *, dataset: str, part: str | None, shots: int, seed: int) -> list[Split]:
    """A split for each object of the table, or for the object `part` alone."""
    rows: dict[str, list[Row]] = {}
    for row in read_csv(home / TABLE, columns=COLUMNS):
        rows.setdefault(row.text("object"), []).append(row)
    if not rows:
        raise MalformedRow(home / TABLE, "no rows; expected one for each picture")
    if part is not None and part not in rows:
        raise UnknownSet(f"{dataset}/{part}", f"no such object; there is {', '.join(rows)}")
    wanted = [part] if part is not None else list(rows)
    return [
        _object(name, rows[name], home=home, dataset=dataset, shots=shots, seed=seed)
        for name in wanted
    ]


def _object(
    name: str, rows: list[Row], *, home: Path, dataset: str, shots: int, seed: int
) -> Split:
    types = _defect_types(home / name / "image_anno.csv")
    samples: dict[str, dict[Path, Sample]] = {"train": {}, "test": {}}
    seen: set[Path] = set()
    for row in rows:
        path = row.file(home, row.text("image"), "a picture")
        if path in seen:
            raise MalformedRow(row.where, "this image has a row already; expected one for each")
        seen.add(path)
        split = row.one_of("split", ("train", "test"))
        samples[split][path] = _sample(row, path, types, home=home)
        if split == "train" and samples[split][path].damaged:
            raise MalformedRow(row.where, "an anomaly in train; the one-class table has none there")
    where = f"{home / TABLE}, object {name}"
    if not samples["test"]:
        raise TooFewPictures(where, "no rows of split test; expected the queries")
    drawn = draw_references(samples["train"], shots=shots, seed=seed, where=f"{where}, split train")
    references = tuple(samples["train"][path] for path in drawn)
    return Split(dataset, name, shots, seed, references, tuple(samples["test"].values()))


def _sample(row: Row, path: Path, types: dict[str, tuple[str, ...]], *, home: Path) -> Sample:
    name = row.text("object")
    if row.one_of("label", ("normal", "anomaly")) == "normal":
        if row.optional("mask"):
            raise MalformedRow(row.where, "a normal picture with a mask; expected the cell empty")
        return as_sample(path, home=home, product_id=name, damaged=False)
    mask = row.file(home, row.text("mask"), "its defect mask")
    return as_sample(
        path, home=home, product_id=name, damaged=True,
        defect_types=types.get(row.text("image"), ()),
        read_mask=partial(read_defect_mask, mask, picture=path),
    )  # fmt: skip


def _defect_types(table: Path) -> dict[str, tuple[str, ...]]:
    """What `image_anno.csv` says of each damaged image, by its path as tables write it."""
    if not table.exists():
        return {}
    rows = read_csv(table, columns=("image", "label"))
    return {
        row.text("image"): tuple(row.listed("label"))
        for row in rows
        if row.text("label") != "normal"
    }
