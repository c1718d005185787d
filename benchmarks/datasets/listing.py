"""Which pictures lie where. Names only: nothing is opened here."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.datasets.errors import MalformedRow, MissingFile, TooFewPictures
from benchmarks.datasets.sample import Sample
from embeddings.images import IMAGE_SUFFIXES, printable, read_image


def pictures(folder: Path) -> list[Path]:
    """The pictures directly in `folder`, sorted by name. Raises if there is none."""
    found = [p for p in _entries(folder) if p.is_file() and p.suffix.lower() in IMAGE_SUFFIXES]
    if not found:
        kinds = ", ".join(sorted(IMAGE_SUFFIXES))
        raise TooFewPictures(folder, f"no pictures here; expected at least one of {kinds}")
    return found


def folders(folder: Path) -> list[Path]:
    """The folders directly in `folder`, sorted by name. Raises if there is none."""
    found = [p for p in _entries(folder) if p.is_dir()]
    if not found:
        raise MissingFile(folder, "no folders here; expected one for each product or category")
    return found


def by_stem(files: Iterable[Path]) -> dict[str, Path]:
    """Files by name without suffix. Raises where two share one."""
    found: dict[str, Path] = {}
    for file in files:
        if file.stem in found:
            raise MalformedRow(file, f"shares its name with {found[file.stem].name}; rename one")
        found[file.stem] = file
    return found


def must_exist(path: Path, what: str, *, row: str = "") -> Path:
    """`path`, or `MissingFile` that names it and `what` it should be (and the table's row)."""
    if not path.is_file():
        if row:
            raise MissingFile(row, f"names {printable(path)}, which is no file; expected {what}")
        raise MissingFile(path, f"no such file; expected {what}")
    return path


def match_stems(
    wanted: dict[str, Path], found: dict[str, Path], *, folder: Path, what: str
) -> None:
    """Raise `MissingFile` unless `found` in `folder` has one file for each one `wanted`."""
    for stem, file in wanted.items():
        if stem not in found:
            raise MissingFile(folder / stem, f"no such file; expected {what} of {printable(file)}")
    for stem, file in found.items():
        if stem not in wanted:
            raise MissingFile(file, f"{what} of a picture that is missing; add it or remove this")


def as_sample(path: Path, *, home: Path, product_id: str, **known: Any) -> Sample:
    """The picture at `path`, a file of the set in `home`; `known` are fields of `Sample`."""
    name = printable(path.relative_to(home).as_posix())
    return Sample(name, product_id, partial(read_image, path), **known)


def _entries(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise MissingFile(folder, "no such folder; see this layout's docstring for what it holds")
    return sorted(
        (p for p in folder.iterdir() if not p.name.startswith(".")), key=lambda path: path.name
    )
