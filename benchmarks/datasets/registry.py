"""Sets by name: where they lie below the data folder, and what reads them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.datasets.errors import BadRequest, MissingFile, UnknownSet
from benchmarks.datasets.folder import read_folder
from benchmarks.datasets.grocery import Identification, read_grocery
from benchmarks.datasets.kaputt import MAX_REFERENCES, read_kaputt
from benchmarks.datasets.mvtec import read_mvtec
from benchmarks.datasets.pairs import read_pairs
from benchmarks.datasets.protocol import limit_queries
from benchmarks.datasets.sample import Split
from benchmarks.datasets.studio import PARTS, read_studio
from benchmarks.datasets.visa import read_visa


class Read(Protocol):
    """(home, *, dataset, part, shots, seed) -> the splits of the set whose folder is `home`."""

    def __call__(
        self, home: Path, *, dataset: str, part: str | None, shots: int, seed: int
    ) -> list[Split]: ...


@dataclass(frozen=True)
class Layout:
    """How a set is read.

    folders      names below the data folder under which it is looked for, the first that exists
    parts        what may follow its name and a slash; "": nothing
    max_shots    the most references that a product can have; None: as many as there are pictures
    """

    read: Read
    folders: tuple[str, ...]
    parts: str = ""
    max_shots: int | None = None


SETS: dict[str, Layout] = {
    "carton_top": Layout(read_folder, ("carton_top",)),
    "cookies": Layout(read_folder, ("cookies",)),
    "deeppcb": Layout(read_pairs, ("deeppcb",), max_shots=1),
    "kaputt": Layout(read_kaputt, ("kaputt",), "SPLIT or SPLIT/image", MAX_REFERENCES),
    "mvtec": Layout(read_mvtec, ("mvtec", "mvtec_anomaly_detection"), "CATEGORY"),
    "visa": Layout(read_visa, ("visa", "VisA", "VisA_20220922"), "OBJECT"),
}
# Rendered when read: they need no folder, and their parts are sets of their own.
RENDERED: dict[str, Read] = dict.fromkeys(
    ("studio", *(f"studio/{part}" for part in PARTS)), read_studio
)
IDENTIFICATION_SETS = ("grocery", "grocery/iconic")


def load(
    name: str, root: str | os.PathLike[str], *, shots: int, seed: int, limit: int | None = None
) -> list[Split]:
    """The splits of an anomaly set that lies below `root`; nothing is downloaded or decoded.

    name     a key of `SETS`, with a part where it has parts ("mvtec/bottle"), one of `RENDERED`,
             or a folder below `root` that has the layout of `folder`
    shots    references of each product, at least 1; at most `Layout.max_shots` are given
    seed     which references (and, in `folder`, which queries); equal seeds give equal splits
    limit    most queries of all splits together: labels, then products in turn, the same queries
             for every seed where the set's queries are; splits left without any are dropped

    Raises a `DatasetError` that names the file, row or set and what was expected there.
    """
    if shots < 1:
        raise BadRequest(name, f"{shots} shots; expected 1 reference or more")
    _check_limit(name, limit)
    if name in RENDERED:
        own = name.partition("/")[2] or None
        rendered = RENDERED[name](Path(root), dataset=name, part=own, shots=shots, seed=seed)
        return limit_queries(rendered, limit)
    home, layout, part = _find(name, Path(root))
    asked = shots if layout.max_shots is None else min(shots, layout.max_shots)
    dataset = name if part is None else name.partition("/")[0]
    return limit_queries(
        layout.read(home, dataset=dataset, part=part, shots=asked, seed=seed), limit
    )


def distinct_shots(name: str, shots: Sequence[int]) -> list[int]:
    """Of the shots asked for, those that make a difference for this set: [1] for pairs."""
    layout = SETS.get(name.partition("/")[0])
    most = layout.max_shots if layout else None
    return sorted({count if most is None else min(count, most) for count in shots})


def distinct_seeds(name: str, seeds: Sequence[int]) -> list[int]:
    """Of the seeds asked for, those that make a difference for this set: the first for pairs."""
    layout = SETS.get(name.partition("/")[0])
    drawn = layout is None or layout.max_shots != 1
    return list(seeds) if drawn else list(seeds[:1])


def load_identification(
    name: str, root: str | os.PathLike[str], *, limit: int | None = None
) -> Identification:
    """An identification set below `root`: one of `IDENTIFICATION_SETS`. Raises `DatasetError`."""
    _check_limit(name, limit)
    dataset, _, part = name.partition("/")
    if dataset != "grocery":
        raise UnknownSet(name, f"no such set; expected {' or '.join(IDENTIFICATION_SETS)}")
    home = _home(name, Path(root), (dataset,))
    found = read_grocery(home, dataset=dataset, part=part or None)
    return found if limit is None else found.limited(limit)


def _find(name: str, root: Path) -> tuple[Path, Layout, str | None]:
    dataset, _, part = name.partition("/")
    layout = SETS.get(dataset)
    if layout is None:
        if dataset in ("", ".", "..") or part or not (root / dataset / "normal").is_dir():
            raise UnknownSet(
                name,
                f"no such set; expected {', '.join((*SETS, *RENDERED))}, or a folder in {root} "
                "that holds normal/ and anomalous/",
            )
        layout = Layout(read_folder, (dataset,))
    if part and not layout.parts:
        raise UnknownSet(name, f"{dataset} has no parts; expected {dataset}")
    return _home(name, root, layout.folders), layout, part or None


def _home(name: str, root: Path, names: Sequence[str]) -> Path:
    for folder in names:
        if (root / folder).is_dir():
            return root / folder
    raise MissingFile(root / names[0], f"no such folder; expected the set {name} there")


def _check_limit(name: str, limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise BadRequest(name, f"limit {limit}; expected 1 query or more, or none for all")
