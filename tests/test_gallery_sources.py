"""What a folder says should be imported."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gallery import SourceRow, read_source
from gallery.errors import SourceError

DECOMPOSED, COMPOSED = "Cafe\u0301", "Caf\u00e9"


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"not looked at")
    return path


def pairs(rows: list[SourceRow]) -> list[tuple[str, str]]:
    return [(row.product_id, row.image.name) for row in rows]


def test_a_folder_per_product_is_read_at_any_depth_in_a_stable_order(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/front/deep/1.JPG", "a/z.webp", "a/a.tiff"):
        touch(tmp_path / name)
    source = read_source(tmp_path)
    assert pairs(source.rows) == [("a", "a.tiff"), ("a", "z.webp"), ("b", "2.png"), ("b", "1.JPG")]
    assert source.problems == []
    assert source.ignored == 0


def test_files_that_are_no_pictures_are_ignored_and_counted(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/notes.txt", "a/deep/Thumbs.db", "a/no_suffix", "readme.md"):
        touch(tmp_path / name)
    source = read_source(tmp_path)
    assert pairs(source.rows) == [("a", "1.png")]
    assert source.ignored == 4


@pytest.mark.parametrize("hidden", ["a/.1.png", "a/._1.png", ".0.png"])
def test_hidden_files_and_product_folders_are_no_pictures(tmp_path: Path, hidden: str) -> None:
    touch(tmp_path / "a/1.png")
    touch(tmp_path / hidden)
    source = read_source(tmp_path)
    assert pairs(source.rows) == [("a", "1.png")]
    assert source.problems == []


def test_a_hidden_folder_with_pictures_is_a_problem_not_a_silence(tmp_path: Path) -> None:
    touch(tmp_path / "a/1.png")
    touch(tmp_path / ".5mm-drill/2.png")
    (tmp_path / ".git").mkdir()
    source = read_source(tmp_path)
    assert pairs(source.rows) == [("a", "1.png")]
    assert [(p.code, Path(p.where).name) for p in source.problems] == [
        ("hidden_folder", ".5mm-drill")
    ]


def test_pictures_in_a_hidden_folder_of_a_product_are_not_imported(tmp_path: Path) -> None:
    touch(tmp_path / "a/1.png")
    touch(tmp_path / "a/.thumbnails/1.png")
    assert [row.image for row in read_source(tmp_path).rows] == [tmp_path / "a/1.png"]


def test_a_picture_beside_product_folders_is_a_problem_and_the_products_are_read(
    tmp_path: Path,
) -> None:
    touch(tmp_path / "a/1.png")
    stray = touch(tmp_path / "stray.png")
    source = read_source(tmp_path)
    assert pairs(source.rows) == [("a", "1.png")]
    assert [(p.code, p.where) for p in source.problems] == [("stray_image", str(stray))]
    assert source.ignored == 0


def test_a_product_without_pictures_is_a_problem_that_names_its_folder(tmp_path: Path) -> None:
    touch(tmp_path / "a/1.png")
    touch(tmp_path / "empty/notes.txt")
    source = read_source(tmp_path)
    assert [(p.code, p.where) for p in source.problems] == [
        ("empty_product", str(tmp_path / "empty"))
    ]
    assert source.ignored == 1


@pytest.mark.parametrize(("given", "expected"), [(None, "razor-3"), ("my/id", "my/id")])
def test_a_folder_of_pictures_is_one_product(
    tmp_path: Path, given: str | None, expected: str
) -> None:
    touch(tmp_path / "razor-3/1.png")
    touch(tmp_path / "razor-3/2.png")
    source = read_source(tmp_path / "razor-3", product_id=given)
    assert pairs(source.rows) == [(expected, "1.png"), (expected, "2.png")]


def test_a_folder_of_pictures_named_by_a_relative_path_is_named_after_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path / "razor-3/1.png")
    monkeypatch.chdir(tmp_path / "razor-3")
    assert read_source(".").rows[0].product_id == "razor-3"


def test_a_product_id_for_a_folder_of_products_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "a/1.png")
    touch(tmp_path / "b/1.png")
    with pytest.raises(SourceError, match="holds 2 folders"):
        read_source(tmp_path, product_id="x")


def test_a_folder_name_that_is_no_product_id_is_a_problem_and_the_others_are_read(
    tmp_path: Path,
) -> None:
    touch(tmp_path / "good/1.png")
    touch(tmp_path / "bad\nname/1.png")
    touch(tmp_path / os.fsdecode(b"latin\xe9") / "1.png")
    source = read_source(tmp_path)
    assert pairs(source.rows) == [("good", "1.png")]
    assert [p.code for p in source.problems] == ["bad_product_id"] * 2


def test_folder_names_that_differ_only_in_unicode_form_are_one_product(tmp_path: Path) -> None:
    touch(tmp_path / DECOMPOSED / "1.png")
    touch(tmp_path / COMPOSED / "2.png")
    assert sorted(pairs(read_source(tmp_path).rows)) == [(COMPOSED, "1.png"), (COMPOSED, "2.png")]


@pytest.mark.parametrize("name", ["absent", "file.txt", "file.xlsx"])
def test_what_is_neither_folder_nor_table_is_refused_by_name(tmp_path: Path, name: str) -> None:
    if name != "absent":
        touch(tmp_path / name)
    with pytest.raises(SourceError, match=name):
        read_source(tmp_path / name)
