"""Loose goods: alike in what they are, nowhere in the same place."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly.studio import Shot, lying, make_goods, render
from anomaly.studio.goods import Goods

CALM = Shot(noise_sigma=0, jpeg_quality=100)


def poured(goods: Goods, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    product = lying(goods, np.random.default_rng(seed))
    photograph = render(product, shot=CALM, seed=seed, size=(240, 320))
    return photograph.image, photograph.product_mask


@pytest.mark.parametrize("seed", range(6))
def test_the_same_draw_lies_the_same_and_another_elsewhere(seed: int) -> None:
    goods = make_goods(seed=seed)
    (first, mask), (again, _), (other, elsewhere) = (poured(goods, seed=n) for n in (1, 1, 2))
    assert np.array_equal(first, again)
    assert 0.02 < mask.mean() < 0.6
    both = mask & elsewhere
    # Where both draws show pieces, they show other ones: more than light and noise would change.
    assert np.abs(first[both].astype(float) - other[both]).mean() > 2
    # What they are made of is the same.
    tone, other_tone = first[mask].mean(axis=0), other[elsewhere].mean(axis=0)
    assert np.abs(tone - other_tone).max() < 30


def test_seeds_differ_in_number_size_and_colour() -> None:
    drawn = [make_goods(seed=seed) for seed in range(20)]
    assert {goods.count for goods in drawn} >= {1, 2, 3}
    assert max(goods.count for goods in drawn) <= 12
    shares = [poured(goods, seed=0)[1].mean() for goods in drawn]
    assert max(shares) > 2 * min(shares)
    tones = np.array([goods.tones[0] for goods in drawn], np.float32)
    assert tones.std(axis=0).min() > 20


def test_pieces_lie_wholly_within_their_face() -> None:
    for seed in range(12):
        face = lying(make_goods(seed=seed), np.random.default_rng(seed)).faces["front"]
        border = np.concatenate([face.alpha[[0, -1]].ravel(), face.alpha[:, [0, -1]].ravel()])
        assert not border.any()
        assert face.alpha.max() == 1
