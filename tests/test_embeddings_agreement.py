"""How many matches agree on one motion: known motions, noise around them, nothing in common."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from embeddings.agreement import agreeing
from embeddings.keypoints import Keypoints, empty_keypoints


def points(seed: int, count: int = 120) -> Keypoints:
    draw = np.random.default_rng(seed)
    return Keypoints(
        (draw.random((count, 2)) * [640, 480]).astype(np.float32),
        draw.uniform(3, 12, count).astype(np.float32),
        draw.uniform(0, 360, count).astype(np.float32),
        draw.integers(0, 256, (count, 128)).astype(np.uint8),
        (480, 640),
    )


def moved(one: Keypoints, *, scale: float, turn_deg: float) -> Keypoints:
    """The same features in a picture turned about its centre and scaled."""
    turn = np.radians(turn_deg)
    matrix = scale * np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    centre = np.array([320.0, 240.0])
    return replace(
        one,
        points_xy=((one.points_xy - centre) @ matrix + centre).astype(np.float32),
        sizes_px=(one.sizes_px * scale).astype(np.float32),
        angles_deg=((one.angles_deg + turn_deg) % 360).astype(np.float32),
    )


@pytest.mark.parametrize(("scale", "turn"), [(1.0, 0.0), (0.4, 30.0), (2.5, 175.0), (1.0, 300.0)])
def test_all_features_of_a_moved_picture_agree(scale: float, turn: float) -> None:
    one = points(0)
    assert agreeing(one, moved(one, scale=scale, turn_deg=turn)) == len(one)


def test_features_in_the_wrong_place_scale_or_turn_do_not_agree() -> None:
    one, rows = points(1), np.arange(120) < 50
    other = moved(one, scale=1.5, turn_deg=20)
    draw = np.random.default_rng(9)
    shuffled = other.points_xy.copy()
    shuffled[~rows] = draw.permutation(shuffled[~rows])
    placed = agreeing(one, replace(other, points_xy=shuffled))
    assert 50 <= placed < 62
    big = np.where(rows, other.sizes_px, other.sizes_px * 2.2).astype(np.float32)
    assert agreeing(one, replace(other, sizes_px=big)) == 50
    turned = np.where(rows, other.angles_deg, other.angles_deg + 40).astype(np.float32)
    assert agreeing(one, replace(other, angles_deg=turned)) == 50


def test_small_errors_are_forgiven() -> None:
    one = points(2)
    draw = np.random.default_rng(3)
    other = moved(one, scale=0.8, turn_deg=45)
    shaken = other.points_xy + draw.normal(0, 8, other.points_xy.shape).astype(np.float32)
    assert agreeing(one, replace(other, points_xy=shaken)) > 100


def test_strangers_agree_on_little() -> None:
    assert max(agreeing(points(10 + i), points(50 + i)) for i in range(10)) <= 6


def test_without_features_nothing_agrees() -> None:
    none, one = empty_keypoints((480, 640)), points(4)
    assert agreeing(none, one) == agreeing(one, none) == agreeing(none, none) == 0
