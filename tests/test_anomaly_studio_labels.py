"""Labelled boxes: a label that is missing or comes off in part, and what shows in its place."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly.errors import ConfigError
from anomaly.studio import Damage, Face, Product, Shot, labelled_box, make_products, render
from anomaly.studio.damage import damage_face

CALM = Shot(angle_deg=8, tilt_x_deg=4, tilt_y_deg=-5, noise_sigma=1.5, jpeg_quality=95)
SEEDS = range(4)


def box(seed: int = 0) -> Product:
    return labelled_box(np.random.default_rng(seed), product_id=f"box-{seed}")


def hurt(kind: str, seed: int, *, area: float = 0.05) -> tuple[Face, Face, np.ndarray]:
    """The front before and after, and the truth."""
    before = box(seed).faces["front"]
    rng = np.random.default_rng([seed, 1])
    after, truth = damage_face(rng, before, damage=Damage(kind, area=area))
    return before, after, truth


@pytest.mark.parametrize("seed", SEEDS)
def test_a_box_is_plain_but_for_its_label(seed: int) -> None:
    front = box(seed).faces["front"]
    (label,) = front.units
    assert 0.08 < label.mean() < 0.35
    assert front.empty is not None
    assert np.array_equal(front.colour[~label], front.empty[~label])
    assert np.abs(front.colour[label].astype(float) - front.empty[label]).mean() > 30
    assert front.empty.astype(float).std(axis=(0, 1)).max() < 20


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["peeled_label", "torn_label"])
def test_a_part_of_the_label_comes_off_and_nothing_else(kind: str, seed: int) -> None:
    before, after, truth = hurt(kind, seed)
    (label,) = before.units
    assert not (truth & ~label).any()
    assert truth.sum() == pytest.approx(0.05 * (before.alpha > 0.5).sum(), rel=0.1)
    assert np.array_equal(after.colour[~truth], before.colour[~truth])


@pytest.mark.parametrize("seed", SEEDS)
def test_the_box_shows_where_a_label_was_peeled_and_white_paper_where_it_split(seed: int) -> None:
    before, peeled, truth = hurt("peeled_label", seed)
    assert before.empty is not None
    assert np.array_equal(peeled.colour[truth], before.empty[truth])
    _, torn, truth = hurt("torn_label", seed)
    assert torn.colour[truth].min(axis=1).mean() > 200


def test_some_of_the_label_stays_however_much_is_asked_for() -> None:
    before, _, truth = hurt("torn_label", 1, area=0.3)
    assert 0.05 < (before.units[0] & ~truth).sum() / before.units[0].sum() < 0.5


def test_a_box_that_was_never_labelled_is_a_set_without_its_unit() -> None:
    plain = render(box(), shot=CALM, seed=1, damage=Damage("missing_unit"))
    whole = render(box(), shot=CALM, seed=1)
    assert 0.05 < plain.damage_mask.sum() / plain.product_mask.sum() < 0.4
    moved = np.abs(plain.image.astype(float) - whole.image)[plain.damage_mask].mean()
    assert moved > 20


def test_other_products_have_no_label_to_tear() -> None:
    bag = next(p for p in make_products(seed=0) if p.product_id.endswith("bag"))
    with pytest.raises(ConfigError, match="0 units; expected one label"):
        render(bag, shot=CALM, seed=1, damage=Damage("torn_label"))
