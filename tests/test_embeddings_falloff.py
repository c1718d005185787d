"""How light falls off is read from the ground along the borders, and from nothing else."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage import data

from embeddings.background import lab
from embeddings.falloff import falloffs

SIZE = (120, 160)
Y, X = np.mgrid[-0.5 : 0.5 : SIZE[0] * 1j, -0.5 : 0.5 : SIZE[1] * 1j]


def ground() -> np.ndarray:
    """A warm grey with light and dark stripes."""
    picture = np.full((*SIZE, 3), (150.0, 140.0, 125.0))
    picture[:, (np.arange(SIZE[1]) // 5) % 3 == 0] *= 0.6
    return picture + np.random.default_rng(1).normal(0, 2, picture.shape)


def colours(picture: np.ndarray) -> np.ndarray:
    return lab(picture.clip(0, 255).astype(np.uint8), 1.2)


def off(one: np.ndarray, other: np.ndarray) -> float:
    """How far colours lie apart, but for how bright both are: 95 % quantile."""
    ratio = np.median((one[..., 0] + 40.8) / (other[..., 0] + 40.8))
    origin = np.array([-40.8, 128, 128])
    return float(np.quantile(np.abs((other - origin) * ratio + origin - one), 0.95))


LIGHTS = {
    "plane": np.exp(0.6 * X - 0.4 * Y),
    "paraboloid": np.exp(-1.2 * (X - 0.1) ** 2 - 1.5 * Y**2),
    "shadow": np.where(X + 0.5 * Y > 0.15, 0.55, 1.0),
}


@pytest.mark.parametrize("kind", LIGHTS)
def test_light_is_taken_off_as_if_it_had_been_even(kind: str) -> None:
    even, seen = colours(ground()), colours(ground() * LIGHTS[kind][..., None])
    assert off(even, seen) > 10
    best = min(off(even, one.taken_off(seen)) for one in falloffs(seen))
    assert best < (12 if kind == "shadow" else 4)  # of the shadow's edge, its blur stays


def test_a_part_of_the_picture_gets_its_own_part_of_the_light() -> None:
    seen = colours(ground() * LIGHTS["plane"][..., None])
    one = next(falloffs(seen))
    whole = one.taken_off(seen)
    part = one.taken_off(seen[30:90, 40:120], (0.25, 0.75), (0.25, 0.75))
    np.testing.assert_allclose(part, whole[30:90, 40:120], atol=1e-3)


def test_what_a_neighbour_does_to_the_border_is_no_light() -> None:
    picture = ground() * LIGHTS["plane"][..., None]
    picture[:25, :30] = (240, 230, 60)
    seen, even = colours(picture), colours(ground())
    flat = next(falloffs(seen)).taken_off(seen)
    assert off(even[30:], flat[30:]) < 5


@pytest.mark.parametrize("picture", [ground(), np.full((*SIZE, 3), 128.0)], ids=["even", "plain"])
def test_even_light_is_left_alone(picture: np.ndarray) -> None:
    assert list(falloffs(colours(picture))) == []


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee"])
def test_clutter_is_not_explained_by_light(name: str) -> None:
    picture = cv2.resize(getattr(data, name)(), SIZE[::-1], interpolation=cv2.INTER_AREA)
    assert list(falloffs(colours(picture))) == []


@pytest.mark.parametrize("size", [(8, 8), (8, 160), (120, 9)])
def test_tiny_and_thin_pictures_are_no_error(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(2).uniform(0, 255, (*size, 3))
    for light in falloffs(colours(picture)):
        assert np.isfinite(light.taken_off(colours(picture))).all()
