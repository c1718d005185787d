"""A product's references with their files and states, as `amiss list --product` shows them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gallery import open_catalog
from gallery.errors import NotAGallery, SourceError
from gallery.listing import list_references
from gallery.sources import SourceRow

NAME = "product-00"


def _states(root: Path) -> list[tuple[str, str]]:
    return [(row.name, row.state) for row in list_references(root, NAME)]


def test_every_state_is_told_and_what_was_removed_is_gone(
    gallery_copy: Path, make_png: Callable[..., bytes], tmp_path: Path
) -> None:
    catalog, names = open_catalog(gallery_copy), dict(_states(gallery_copy))
    first, second = list(names)[:2]
    assert set(names.values()) == {"serving"}
    catalog.withdraw(NAME, first, deed="quarantine", why="torn")
    catalog.withdraw(NAME, second, deed="remove", why="torn")
    (tmp_path / "new.png").write_bytes(make_png(77))
    catalog.import_rows([SourceRow(NAME, tmp_path / "new.png")])
    listed = dict(_states(gallery_copy))
    # The build still serves what was withdrawn.
    assert listed == {**names, first: "leaving", second: "leaving", "new.png": "pending"}
    (gallery_copy / "CURRENT").unlink()
    listed = dict(_states(gallery_copy))
    assert (listed[first], second in listed) == ("quarantined", False)
    rows = list_references(gallery_copy, f" {NAME} ")
    assert [row.reference_id for row in rows if row.state == "quarantined"] == [
        row.reference_id for row in open_catalog(gallery_copy).quarantined()
    ]
    assert all(row.added.endswith("+00:00") for row in rows)


def test_what_is_not_there_is_named(gallery_copy: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no product 'nobody'"):
        list_references(gallery_copy, "nobody")
    with pytest.raises(NotAGallery):
        list_references(tmp_path, NAME)
