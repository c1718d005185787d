"""What holds for every dataset: one contract over all layouts, `load`, limits, masks, errors."""

from __future__ import annotations

import inspect
import pickle
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.datasets import (
    SETS,
    DatasetError,
    Split,
    distinct_seeds,
    distinct_shots,
    errors,
    load,
    tiny,
)
from benchmarks.datasets.masks import read_defect_mask, read_product_mask
from benchmarks.datasets.protocol import balanced, draw_references

NAMES = [*SETS, "mvtec/screw", "visa/pcb1", "kaputt/test/image", "kaputt/sample"]
SEEDED = ["carton_top", "cookies", "mvtec", "visa", "kaputt"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All tiny sets. Never write to it."""
    return tiny.write_tiny(tmp_path_factory.mktemp("sets"))


def ids(splits: list[Split]) -> list[tuple[str, list[str], list[str]]]:
    return [
        (s.product_id, [r.sample_id for r in s.references], [q.sample_id for q in s.queries])
        for s in splits
    ]


@pytest.mark.parametrize("name", NAMES)
def test_references_are_pristine_and_never_among_queries(name: str, root: Path) -> None:
    splits = load(name, root, shots=2, seed=0)
    assert splits
    asked = [query.sample_id for split in splits for query in split.queries]
    assert len(set(asked)) == len(asked)
    assert len({split.product_id for split in splits}) == len(splits)
    for split in splits:
        assert split.seed == 0
        assert 1 <= len(split.references) <= split.shots <= 2
        assert split.queries
        assert not {r.sample_id for r in split.references} & set(asked)
        assert not any(r.damaged for r in split.references)
        assert {s.product_id for s in (*split.references, *split.queries)} == {split.product_id}


@pytest.mark.parametrize("name", NAMES)
def test_pixels_masks_and_boxes_are_those_of_the_picture(name: str, root: Path) -> None:
    x0, y0, x1, y1 = tiny.PATCH
    for split in load(name, root, shots=2, seed=0):
        for sample in (*split.references, *split.queries):
            sample = pickle.loads(pickle.dumps(sample))
            pixels = sample.read()
            assert pixels.shape == (tiny.HEIGHT_PX, tiny.WIDTH_PX, 3)
            assert pixels.dtype == np.uint8
            dark = pixels[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1].mean() < 60
            assert dark == (sample.damaged is True)
            if sample.read_mask is not None:
                expected = np.zeros(pixels.shape[:2], bool)
                expected[y0:y1, x0:x1] = True
                np.testing.assert_array_equal(sample.read_mask(), expected)
            if sample.boxes:
                assert sample.boxes[0] == (x0, y0, x1, y1)


@pytest.mark.parametrize("name", NAMES)
def test_listing_opens_no_picture(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a picture was opened")

    monkeypatch.setattr("PIL.Image.open", refuse)
    assert load(name, root, shots=2, seed=0)


@pytest.mark.parametrize("name", SEEDED)
def test_seeds_decide_the_references_and_are_reproducible(name: str, root: Path) -> None:
    runs = [ids(load(name, root, shots=2, seed=seed)) for seed in (0, 0, 1, 2, 3)]
    assert runs[0] == runs[1]
    drawn = {str([references for _, references, _ in run]) for run in runs}
    assert len(drawn) > 1
    if name not in ("carton_top", "cookies"):
        assert len({str([queries for *_, queries in run]) for run in runs}) == 1


@pytest.mark.parametrize("name", SEEDED)
def test_references_of_fewer_shots_are_the_first_of_more(name: str, root: Path) -> None:
    few, more = (load(name, root, shots=shots, seed=1) for shots in (1, 3))
    for one, three in zip(few, more, strict=True):
        assert ids([one])[0][1] == ids([three])[0][1][:1]


def test_draw_is_the_shuffle_of_the_sorted_list() -> None:
    pictures = [Path(name) for name in "dcbae"]
    # random.Random(0) shuffles five items to positions 2, 1, 0, 4, 3.
    assert [p.name for p in draw_references(pictures, shots=3, seed=0, where="")] == list("cba")


@pytest.mark.parametrize("name", ["cookies", "mvtec", "visa", "kaputt", "deeppcb"])
def test_limits_are_balanced_nested_and_the_same_each_time(name: str, root: Path) -> None:
    whole = {q.sample_id for s in load(name, root, shots=1, seed=0) for q in s.queries}
    last: set[str] = set()
    for limit in range(1, len(whole) + 2):
        splits = load(name, root, shots=1, seed=0, limit=limit)
        again = load(name, root, shots=1, seed=0, limit=limit)
        queries = [q for s in splits for q in s.queries]
        assert all(s.queries for s in splits)
        assert ids(splits) == ids(again)
        assert len(queries) == min(limit, len(whole))
        chosen = {q.sample_id for q in queries}
        assert last <= chosen <= whole
        last = chosen
        labels = Counter(q.damaged for q in queries)
        if name != "deeppcb" and limit <= 4:
            assert labels[True] - labels[False] in (0, 1)


def test_limits_choose_the_same_queries_for_every_seed(root: Path) -> None:
    one, two = (load("mvtec", root, shots=1, seed=seed, limit=5) for seed in (0, 1))
    assert [queries for *_, queries in ids(one)] == [queries for *_, queries in ids(two)]


def test_limits_spread_over_products() -> None:
    labels = [True] * 6 + [False] * 6
    products = list("aaaabc" * 2)
    chosen = balanced(labels, products, limit=6)
    assert chosen == sorted(chosen)
    assert Counter((labels[i], products[i]) for i in chosen) == Counter(
        (label, product) for label in (True, False) for product in "abc"
    )
    assert balanced(labels, products, limit=99) == list(range(12))
    assert balanced([], [], limit=3) == []


def test_names_with_parts_choose_one_product(root: Path) -> None:
    assert [s.product_id for s in load("mvtec/screw", root, shots=1, seed=0)] == ["screw"]
    assert [s.product_id for s in load("visa/pcb1", root, shots=1, seed=0)] == ["pcb1"]
    assert {s.dataset for s in load("visa/pcb1", root, shots=1, seed=0)} == {"visa"}


def test_distinct_shots_are_those_that_a_set_can_give() -> None:
    assert distinct_shots("cookies", [16, 1, 4]) == [1, 4, 16]
    assert distinct_shots("kaputt/sample", [1, 4, 16]) == [1, 3]
    assert distinct_shots("deeppcb", [1, 4, 16]) == [1]
    assert distinct_shots("my own", [4, 4]) == [4]
    assert distinct_seeds("cookies", [2, 0]) == [2, 0]
    assert distinct_seeds("studio/pose", [0, 1]) == [0, 1]
    assert distinct_seeds("deeppcb", [2, 0]) == [2]  # each query has its one template


def test_any_folder_of_the_folder_layout_is_a_set(tmp_path: Path) -> None:
    tiny.write_folder(tmp_path / "my own", normal=3, anomalous=2)
    (split,) = load("my own", tmp_path, shots=1, seed=0)
    assert (split.dataset, len(split.queries)) == ("my own", 4)
    for name in ("", ".", "..", "/my own"):
        with pytest.raises(errors.UnknownSet):
            load(name, tmp_path / "my own", shots=1, seed=0)


@pytest.mark.parametrize(
    ("name", "options", "kind", "words"),
    [
        ("cups", {}, errors.UnknownSet, "cups: no such set; expected carton_top, cookies"),
        ("", {}, errors.UnknownSet, "no such set"),
        ("..", {}, errors.UnknownSet, "no such set"),
        ("cookies/a", {}, errors.UnknownSet, "cookies has no parts"),
        ("mvtec/cup", {}, errors.UnknownSet, "there is bottle, screw"),
        ("visa/cup", {}, errors.UnknownSet, "there is candle, pcb1"),
        ("kaputt/cup", {}, errors.UnknownSet, "train, validation, test, sample"),
        ("kaputt/test/mask", {}, errors.UnknownSet, "/image"),
        ("cookies", {"shots": 0}, errors.BadRequest, "0 shots; expected 1"),
        ("cookies", {"limit": 0}, errors.BadRequest, "limit 0; expected 1"),
        ("cookies", {"shots": 9}, errors.TooFewPictures, "at most 8 references"),
        ("mvtec", {"shots": 7}, errors.TooFewPictures, "6 pictures for 7 references"),
        ("visa", {"shots": 6}, errors.TooFewPictures, "object candle, split train"),
    ],
)
def test_what_cannot_be_asked_is_said(
    name: str, options: dict[str, int], kind: type[DatasetError], words: str, root: Path
) -> None:
    with pytest.raises(kind, match=re.escape(words)):
        load(name, root, **{"shots": 1, "seed": 0, **options})


@pytest.mark.parametrize("name", SETS)
def test_a_set_that_is_not_there_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(errors.MissingFile, match=f"{tmp_path}/{name}: no such folder"):
        load(name, tmp_path, shots=1, seed=0)


def test_every_error_stands_in_the_tree() -> None:
    drawn = set(re.findall(r"[├└]── (\w+)", errors.__doc__ or ""))
    defined = {n: e for n, e in vars(errors).items() if inspect.isclass(e)}
    assert drawn == set(defined) - {"DatasetError"}
    assert len({e.code for e in defined.values()}) == len(defined)
    assert errors.MissingFile(Path("a/b"), "gone").where == "a/b"


def test_defect_masks_count_any_value(tmp_path: Path) -> None:
    tiny.write_picture(tmp_path / "a/b/c.png")
    for value in (1, 2, 255):
        tiny.write_mask(tmp_path / "mask.png", value=value)
        mask = read_defect_mask(tmp_path / "mask.png", picture=tmp_path / "a/b/c.png")
        assert mask.dtype == np.bool_
        assert mask.sum() == 12 * 10


def test_item_masks_are_read_by_their_own_range(tmp_path: Path) -> None:
    tiny.write_picture(tmp_path / "a/b/c.png")
    for value in (1, 3, 255):
        tiny.write_mask(tmp_path / "mask.png", box=tiny.BOX, value=value)
        mask = read_product_mask(tmp_path / "mask.png", picture=tmp_path / "a/b/c.png")
        assert mask.sum() == 40 * 28


@pytest.mark.parametrize("read", [read_defect_mask, read_product_mask])
def test_masks_that_cannot_be_right_are_named(read: object, tmp_path: Path) -> None:
    assert callable(read)
    tiny.write_picture(tmp_path / "a/b/c.png")
    tiny.write_mask(tmp_path / "black.png", value=0)
    tiny.write_picture(tmp_path / "a/b/turned.png")
    with pytest.raises(errors.MalformedMask, match=r"black\.png.*all black"):
        read(tmp_path / "black.png", picture=tmp_path / "a/b/c.png")
    Image.new("L", (48, 64), 255).save(tmp_path / "upright.png")
    with pytest.raises(errors.MalformedMask, match=r"upright\.png.*48x64.*64x48"):
        read(tmp_path / "upright.png", picture=tmp_path / "a/b/c.png")
