"""How unlike two pictures' patches are, wherever these lie."""

from __future__ import annotations

import numpy as np
import pytest

from embeddings import PatchGrid
from embeddings.patches import PatchLayer
from embeddings.unlikeness import Cells, cells_of, unlikeness


def features(seed: int, rows: int = 6, columns: int = 5, dims: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, columns, dims)).astype(np.float32)


def grid(*layers: tuple[np.ndarray, int], floor: float = 0.0) -> PatchGrid:
    made = tuple(PatchLayer(values, stride, floor) for values, stride in layers)
    rows, columns = layers[0][0].shape[:2]
    size = (rows * layers[0][1], columns * layers[0][1])
    return PatchGrid(made, size, size, (0, 0, size[1], size[0]))


def everything(values: np.ndarray) -> Cells:
    return cells_of(grid((values, 8)), np.ones(values.shape[:2], np.bool_))


def by_hand(one: Cells, other: Cells) -> float:
    def way(a: Cells, b: Cells) -> float:
        best = [max(float(x @ y) for y in b.features) for x in a.features[a.product]]
        return 1 - sum(best) / len(best)

    return way(one, other) * way(other, one)


def test_it_is_what_a_search_by_hand_finds_either_way() -> None:
    mask = np.zeros((6, 5), np.bool_)
    mask[1:4, 2:] = True
    one, other = cells_of(grid((features(1), 8)), mask), everything(features(2, rows=4))
    assert unlikeness(one, other) == pytest.approx(by_hand(one, other), rel=1e-5)
    assert unlikeness(other, one) == pytest.approx(unlikeness(one, other), rel=1e-5)


def test_the_same_patches_elsewhere_are_the_same() -> None:
    values = features(3)
    shuffled = np.random.default_rng(0).permutation(values.reshape(-1, 16)).reshape(5, 6, 16)
    assert unlikeness(everything(values), everything(shuffled)) == pytest.approx(0, abs=1e-6)
    assert unlikeness(everything(values), everything(features(4))) > 0.1


def test_what_lies_around_the_product_is_forgiven_what_it_lacks_is_not() -> None:
    product, shelf = features(5, rows=3), features(6, rows=3)
    mask = np.repeat([True, False], 3)[:, None] & np.ones((6, 5), np.bool_)
    crowded = cells_of(grid((np.concatenate([product, shelf]), 8)), mask)
    assert unlikeness(crowded, everything(product)) == pytest.approx(0, abs=1e-6)
    half = cells_of(grid((np.concatenate([product[:1], shelf]), 8)), np.ones((4, 5), np.bool_))
    assert unlikeness(half, everything(product)) > 0.05


def test_layers_are_joined_at_the_cells_of_the_coarsest() -> None:
    fine, coarse = features(7, rows=6, columns=8), features(8, rows=3, columns=4, dims=3)
    found = grid((fine, 8), (coarse, 16), floor=2.0).coarse()
    expected = []
    for values in (fine[1::2, 1::2], coarse):
        length = np.sqrt((values**2).sum(axis=2, keepdims=True) + 4.0)
        expected.append(values / length)
    np.testing.assert_allclose(found, np.concatenate(expected, axis=2), rtol=1e-6)


def test_blank_pictures_and_masks_give_numbers() -> None:
    blank = everything(np.zeros((3, 3, 4), np.float32))
    assert unlikeness(blank, blank) == 1.0
    nowhere = cells_of(grid((features(9), 8)), np.zeros((12, 10), np.bool_))
    assert nowhere.product.all()
