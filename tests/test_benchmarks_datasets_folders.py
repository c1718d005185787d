"""Layouts told by folders: folder, MVTec AD, pairs, grocery."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.datasets import DatasetError, errors, load, load_identification, tiny
from benchmarks.datasets.pairs import read_boxes


def names(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir())


# ---- folder


def test_folder_protocol_is_the_published_one(tmp_path: Path) -> None:
    home = tmp_path / "cookies"
    tiny.write_folder(home, normal=50, anomalous=45)
    for seed in (0, 1):
        (split,) = load("cookies", tmp_path, shots=4, seed=seed)
        normal = [f"normal/{name}" for name in names(home / "normal")]
        anomalous = [f"anomalous/{name}" for name in names(home / "anomalous")]
        rng = random.Random(seed)
        rng.shuffle(normal)
        rng.shuffle(anomalous)
        assert [r.sample_id for r in split.references] == normal[:4]
        assert [q.sample_id for q in split.queries] == [*normal[4:44], *anomalous[:40]]
        assert [q.damaged for q in split.queries] == [False] * 40 + [True] * 40
        assert (split.product_id, split.shots, split.seed) == ("cookies", 4, seed)


def test_folder_masks_belong_to_damaged_pictures_and_are_optional(tmp_path: Path) -> None:
    tiny.write_tiny(tmp_path)
    (with_masks,) = load("cookies", tmp_path, shots=1, seed=0)
    assert [q.read_mask is not None for q in with_masks.queries] == [
        q.damaged for q in with_masks.queries
    ]
    (without,) = load("carton_top", tmp_path, shots=1, seed=0)
    assert all(q.read_mask is None for q in without.queries)


def test_folder_ignores_what_is_no_picture(tmp_path: Path) -> None:
    tiny.write_folder(tmp_path / "cookies", normal=3, anomalous=2)
    (tmp_path / "cookies/normal/notes.txt").write_text("x")
    (tmp_path / "cookies/normal/.hidden.jpg").write_text("x")
    (split,) = load("cookies", tmp_path, shots=1, seed=0)
    assert len(split.queries) == 4


def drop(path: str) -> Callable[[Path], None]:
    return lambda root: (root / path).unlink()


def empty(path: str) -> Callable[[Path], None]:
    def remove(root: Path) -> None:
        for file in (root / path).iterdir():
            file.unlink()

    return remove


@pytest.mark.parametrize(
    ("name", "spoil", "kind", "words"),
    [
        ("cookies", empty("cookies/anomalous"), errors.TooFewPictures, "cookies/anomalous: no"),
        (
            "cookies",
            drop("cookies/masks/anomaly-3.png"),
            errors.MissingFile,
            r"masks/anomaly-3: no such file; expected the defect mask of .*anomaly-3\.jpg",
        ),
        (
            "cookies",
            drop("cookies/anomalous/anomaly-3.jpg"),
            errors.MissingFile,
            r"masks/anomaly-3\.png: the defect mask of a picture that is missing",
        ),
        (
            "mvtec",
            drop("mvtec/bottle/ground_truth/broken/001_mask.png"),
            errors.MissingFile,
            r"ground_truth/broken/001_mask: no such file; expected .*test/broken/001\.png",
        ),
        (
            "mvtec",
            drop("mvtec/screw/test/bent/000.png"),
            errors.MissingFile,
            r"bent/000_mask\.png: the defect mask of a picture",
        ),
        ("mvtec", empty("mvtec/screw/train/good"), errors.TooFewPictures, "screw/train/good"),
        (
            "deeppcb",
            drop("deeppcb/temp/00041201.jpg"),
            errors.MissingFile,
            r"temp/00041201: no such file; expected the template of .*test/00041201\.jpg",
        ),
        (
            "deeppcb",
            drop("deeppcb/test/00041201.jpg"),
            errors.MissingFile,
            r"temp/00041201\.jpg: the template of a picture that is missing",
        ),
        (
            "deeppcb",
            drop("deeppcb/boxes/00041202.txt"),
            errors.MissingFile,
            r"boxes/00041202\.txt: no such file; expected the query's boxes",
        ),
    ],
)
def test_what_is_missing_is_named(
    name: str, spoil: Callable[[Path], None], kind: type[DatasetError], words: str, tmp_path: Path
) -> None:
    tiny.write_tiny(tmp_path)
    spoil(tmp_path)
    with pytest.raises(kind, match=words):
        load(name, tmp_path, shots=1, seed=0)


def test_two_pictures_of_one_name_are_named(tmp_path: Path) -> None:
    tiny.write_tiny(tmp_path)
    tiny.write_picture(tmp_path / "cookies/anomalous/anomaly-1.png")
    with pytest.raises(errors.MalformedRow, match=r"anomaly-1\.png: shares its name"):
        load("cookies", tmp_path, shots=1, seed=0)


# ---- MVTec AD


def test_mvtec_asks_all_of_test_and_learns_from_train(tmp_path: Path) -> None:
    tiny.write_mvtec(tmp_path / "mvtec_anomaly_detection")
    bottle, screw = load("mvtec", tmp_path, shots=4, seed=0)
    assert (bottle.dataset, bottle.product_id, screw.product_id) == ("mvtec", "bottle", "screw")
    assert len(bottle.references) == 4
    assert all(r.sample_id.startswith("bottle/train/good/") for r in bottle.references)
    assert Counter((q.damaged, q.defect_types) for q in bottle.queries) == {
        (False, ()): 3, (True, ("broken",)): 2, (True, ("contamination",)): 2,
    }  # fmt: skip
    assert [q.read_mask is not None for q in screw.queries] == [q.damaged for q in screw.queries]
    assert "screw/test/bent/001.png" in {q.sample_id for q in screw.queries}


def test_mvtec_folder_that_is_no_category_is_named(tmp_path: Path) -> None:
    tiny.write_mvtec(tmp_path / "mvtec")
    (tmp_path / "mvtec/extra").mkdir()
    with pytest.raises(errors.MissingFile, match="extra/train/good: no such folder"):
        load("mvtec", tmp_path, shots=1, seed=0)


# ---- pairs


def test_pairs_are_one_template_a_query(tmp_path: Path) -> None:
    tiny.write_pairs(tmp_path / "deeppcb")
    splits = load("deeppcb", tmp_path, shots=16, seed=5)
    assert len(splits) == 3
    for split in splits:
        (reference,), (query,) = split.references, split.queries
        assert (split.shots, split.seed) == (1, 5)
        assert reference.sample_id == f"temp/{split.product_id}.jpg"
        assert query.sample_id == f"test/{split.product_id}.jpg"
        assert (query.damaged, query.read_mask) == (True, None)
        assert len(query.boxes) == len(query.defect_types)
    assert splits[2].queries[0].boxes == ((20, 16, 32, 26), (40, 12, 44, 16))
    assert splits[2].queries[0].defect_types == ("open", "mousebite")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 2 3 4 1\n1 2 3 4\n", r"x\.txt line 2: '1 2 3 4'; expected five whole numbers"),
        ("1 2 3 4.5 1\n", "line 1: .*expected five whole numbers"),
        ("1,2,3,4,1\n", "line 1: .*expected five whole numbers"),
        ("5 2 3 4 1\n", "line 1: .*is no box"),
        ("-1 2 3 4 1\n", "line 1: .*is no box"),
        ("\n1 2 3 4 7\n", "line 2: type 7; expected 1 to 6"),
        ("\n\n", r"x\.txt: no boxes"),
    ],
)
def test_bad_box_lines_are_named(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text(text)
    with pytest.raises(errors.MalformedRow, match=words):
        read_boxes(tmp_path / "x.txt")


def test_box_file_of_bytes_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(errors.MalformedRow, match=r"x\.txt: not a text file"):
        read_boxes(tmp_path / "x.txt")


# ---- grocery


def test_grocery_gives_references_by_product_and_labelled_queries(tmp_path: Path) -> None:
    tiny.write_grocery(tmp_path / "grocery")
    found = load_identification("grocery", tmp_path)
    assert {name: len(own) for name, own in found.references.items()} == {
        "Juice": 2, "Milk": 2, "Oat-Milk": 2,
    }  # fmt: skip
    assert Counter(q.product_id for q in found.queries) == {"Milk": 1, "Oat-Milk": 2, "Juice": 3}
    assert all(q.damaged is None for q in found.queries)
    references = {r.sample_id for own in found.references.values() for r in own}
    assert not references & {q.sample_id for q in found.queries}
    assert all(q.sample_id.startswith(f"query/{q.product_id}/") for q in found.queries)


def test_grocery_iconic_has_one_reference_each(tmp_path: Path) -> None:
    tiny.write_grocery(tmp_path / "grocery")
    found = load_identification("grocery/iconic", tmp_path)
    assert found.dataset == "grocery/iconic"
    assert [len(own) for own in found.references.values()] == [1, 1, 1]
    assert len(found.queries) == 6


def test_grocery_limit_takes_products_in_turn(tmp_path: Path) -> None:
    tiny.write_grocery(tmp_path / "grocery")
    found = load_identification("grocery", tmp_path, limit=3)
    assert Counter(q.product_id for q in found.queries) == {"Milk": 1, "Oat-Milk": 1, "Juice": 1}
    again = load_identification("grocery", tmp_path, limit=3)
    assert [q.sample_id for q in found.queries] == [q.sample_id for q in again.queries]
    assert len(found.references) == 3


@pytest.mark.parametrize(
    ("name", "spoil", "words"),
    [
        ("grocery", lambda home: tiny.write_picture(home / "query/Tea/t.jpg"), "gallery/Tea: no"),
        ("grocery", empty("gallery/Milk"), "gallery/Milk: no pictures"),
        ("grocery/shelf", lambda home: None, "expected gallery or iconic"),
        ("cookies", lambda home: None, "expected grocery or grocery/iconic"),
    ],
)
def test_grocery_faults_are_named(
    name: str, spoil: Callable[[Path], None], words: str, tmp_path: Path
) -> None:
    tiny.write_grocery(tmp_path / "grocery")
    spoil(tmp_path / "grocery")
    with pytest.raises(DatasetError, match=words):
        load_identification(name, tmp_path)


def test_grocery_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.MissingFile, match="grocery: no such folder"):
        load_identification("grocery", tmp_path)
    with pytest.raises(errors.BadRequest, match="limit 0"):
        load_identification("grocery", tmp_path, limit=0)
