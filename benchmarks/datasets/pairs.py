"""Pairs of an aligned template and a query, with boxes around defects: `deeppcb`.

    temp/NAME.jpg    the pristine template
    test/NAME.jpg    the query; same place, same scale
    boxes/NAME.txt   a line for each defect: x0 y0 x1 y1 type (pixels; type 1 to 6, see `TYPES`)

A subset of DeepPCB (Tang et al., 2019). Protocol: each query is a product of its own with its one
template as the only reference, whatever shots and seed are. All queries are damaged, so only boxes
can be measured: no AUROC.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.datasets.errors import MalformedRow
from benchmarks.datasets.listing import as_sample, by_stem, match_stems, must_exist, pictures
from benchmarks.datasets.sample import Split
from embeddings.images import printable

TYPES = {1: "open", 2: "short", 3: "mousebite", 4: "spur", 5: "copper", 6: "pin-hole"}
Box = tuple[float, float, float, float]


def read_pairs(home: Path, *, dataset: str, part: str | None, shots: int, seed: int) -> list[Split]:
    """A split for each query, in the order of names, with shots = 1. It has no parts."""
    assert part is None
    queries = by_stem(pictures(home / "test"))
    templates = by_stem(pictures(home / "temp"))
    match_stems(queries, templates, folder=home / "temp", what="the template")
    splits = []
    for name, path in queries.items():
        defects = read_boxes(must_exist(home / "boxes" / f"{name}.txt", "the query's boxes"))
        reference = as_sample(templates[name], home=home, product_id=name, damaged=False)
        query = as_sample(
            path, home=home, product_id=name, damaged=True,
            defect_types=tuple(kind for _, kind in defects),
            boxes=tuple(box for box, _ in defects),
        )  # fmt: skip
        splits.append(Split(dataset, name, 1, seed, (reference,), (query,)))
    return splits


def read_boxes(file: Path) -> list[tuple[Box, str]]:
    """The boxes of one query, each with its type. Raises `MalformedRow`, naming the line."""
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MalformedRow(file, f"not a text file ({error})") from error
    found = [
        _box(line, f"{printable(file)} line {number}")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not found:
        raise MalformedRow(file, "no boxes; expected a line for each defect, at least one")
    return found


def _box(line: str, where: str) -> tuple[Box, str]:
    try:
        x0, y0, x1, y1, kind = (int(word) for word in line.split())
    except ValueError as error:
        raise MalformedRow(
            where, f"{line!r}; expected five whole numbers: x0 y0 x1 y1 type"
        ) from error
    if not (0 <= x0 < x1 and 0 <= y0 < y1):
        raise MalformedRow(where, f"{line!r} is no box; expected 0 <= x0 < x1 and 0 <= y0 < y1")
    if kind not in TYPES:
        raise MalformedRow(where, f"type {kind}; expected {min(TYPES)} to {max(TYPES)}")
    return (float(x0), float(y0), float(x1), float(y1)), TYPES[kind]
