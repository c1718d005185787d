"""The studio: seeded photographs of products whose truth is known to the pixel."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest

from anomaly.errors import ConfigError
from anomaly.studio import (
    BACKGROUNDS,
    DAMAGES,
    FACE_DAMAGES,
    LABEL_DAMAGES,
    Damage,
    Face,
    Photograph,
    Product,
    Shot,
    draw_shot,
    face_to_frame,
    labelled_box,
    make_products,
    render,
)
from anomaly.studio.face import full_face

CALM = Shot(angle_deg=8, tilt_x_deg=4, tilt_y_deg=-5, noise_sigma=1.5, jpeg_quality=95)


@pytest.fixture(scope="module")
def products() -> tuple[Product, ...]:
    return make_products(seed=0)


def _named(products: tuple[Product, ...], word: str) -> Product:
    return next(product for product in products if product.product_id.endswith(word))


def _change(product: Product, damage: Damage, *, shot: Shot = CALM) -> tuple[Photograph, float]:
    """The damaged photograph, and how much more its truth changed than the rest."""
    before = render(product, shot=shot, seed=4)
    after = render(product, shot=shot, seed=4, damage=damage)
    moved = np.abs(after.image.astype(float) - before.image).mean(axis=2)
    near = cv2.dilate(after.damage_mask.astype(np.uint8), np.ones((33, 33))) > 0
    # A JPEG block and soft edges reach a little past the truth; beyond them nothing may change.
    assert moved[~near].mean() < 0.05
    return after, float(moved[after.damage_mask].mean())


def test_a_dozen_has_two_faced_products_of_many_kinds(products: tuple[Product, ...]) -> None:
    assert len(products) == len({product.product_id for product in products}) == 12
    kinds = {product.kind for product in products}
    assert kinds == {"carton", "razor set", "battery set", "bag", "sachet", "tube"}
    for product in products:
        assert set(product.faces) == {"front", "back"}
        for face in product.faces.values():
            assert face.colour.dtype == np.uint8
            assert face.colour.shape == (*face.alpha.shape, 3)
            assert face.alpha.dtype == np.float32
            assert 0 <= face.alpha.min() <= face.alpha.max() == 1
        front, back = product.faces["front"], product.faces["back"]
        assert np.abs(front.colour.astype(float) - back.colour).mean() > 20


def test_sets_have_equal_units_that_can_be_counted(products: tuple[Product, ...]) -> None:
    for word, count in (("razor-set", 3), ("battery-set", 4)):
        front = _named(products, word).faces["front"]
        assert len(front.units) == count
        assert len({int(unit.sum()) for unit in front.units}) == 1
        assert front.empty is not None
        differs = np.abs(front.colour.astype(int) - front.empty).max(axis=2) > 8
        assert not (differs & ~np.any(front.units, axis=0)).any()


def test_another_seed_prints_other_products_and_the_same_seed_the_same(
    products: tuple[Product, ...],
) -> None:
    again, other = make_products(seed=0), make_products(seed=1)
    for first, second, third in zip(products, again, other, strict=True):
        assert first.product_id == second.product_id != third.product_id
        mine, same, its = (p.faces["front"].colour for p in (first, second, third))
        assert np.array_equal(mine, same)
        shrunk = [cv2.resize(c, (64, 64), interpolation=cv2.INTER_AREA) for c in (mine, its)]
        assert np.abs(shrunk[0].astype(float) - shrunk[1]).mean() > 15


@pytest.mark.parametrize("kind", [None, *DAMAGES])
def test_equal_arguments_give_equal_bytes(products: tuple[Product, ...], kind: str | None) -> None:
    needs = {"missing_unit": "razor-set", "wrong_unit": "razor-set", "open_flap": "carton-1"}
    product = _named(products, needs.get(kind or "", "bag"))
    if kind in LABEL_DAMAGES:
        product = labelled_box(np.random.default_rng(0), product_id="box")
    damage = None if kind is None else Damage(kind)
    one, two = (render(product, shot=CALM, seed=9, damage=damage) for _ in range(2))
    assert one.image.tobytes() == two.image.tobytes()
    assert np.array_equal(one.damage_mask, two.damage_mask)
    other = render(product, shot=CALM, seed=10, damage=damage)
    assert other.image.tobytes() != one.image.tobytes()


def test_a_photograph_has_the_promised_form(products: tuple[Product, ...]) -> None:
    photo = render(products[0], shot=CALM, seed=1, size=(300, 420))
    assert photo.image.shape == (300, 420, 3)
    assert photo.image.dtype == np.uint8
    for mask in (photo.product_mask, photo.damage_mask):
        assert mask.shape == (300, 420)
        assert mask.dtype == np.bool_
    assert photo.kind is None
    assert not photo.damage_mask.any()


def test_the_product_lies_wholly_in_the_frame(products: tuple[Product, ...]) -> None:
    rng = np.random.default_rng(7)
    size, margin = (240, 320), 4
    for number in range(36):
        background = BACKGROUNDS[number % 2]
        shot = draw_shot(rng, difficulty=("easy", "normal", "hard")[number % 3])
        shot = replace(shot, background=background)
        mask = render(products[number % 12], shot=shot, seed=number, size=size).product_mask
        rows, columns = np.nonzero(mask)
        assert margin <= rows.min() <= rows.max() < size[0] - margin
        assert margin <= columns.min() <= columns.max() < size[1] - margin
        assert max(np.ptp(rows), np.ptp(columns)) > 0.42 * size[0]


@pytest.mark.parametrize("kind", [k for k in FACE_DAMAGES if not k.endswith(("_unit", "_label"))])
@pytest.mark.parametrize("word", ["wreck-carton", "bag", "tube"])
def test_damage_changes_the_product_where_its_truth_says(
    products: tuple[Product, ...], kind: str, word: str
) -> None:
    photo, moved = _change(_named(products, word), Damage(kind, 0.7, seed=3))
    assert photo.kind == kind
    assert not (photo.damage_mask & ~photo.product_mask).any()
    assert 0.03 < photo.damage_mask.sum() / photo.product_mask.sum() < 0.2
    assert moved > 8


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_a_spill_lies_beside_the_product(products: tuple[Product, ...], background: str) -> None:
    shot = replace(CALM, background=background)
    photo, moved = _change(products[1], Damage("spill", 0.7, seed=3), shot=shot)
    assert photo.damage_mask.any()
    assert not (photo.damage_mask & photo.product_mask).any()
    assert moved > 8


@pytest.mark.parametrize("word", ["razor-set", "battery-set"])
def test_a_missing_unit_shows_the_empty_card(products: tuple[Product, ...], word: str) -> None:
    photo, moved = _change(_named(products, word), Damage("missing_unit"))
    assert 0.02 < photo.damage_mask.sum() / photo.product_mask.sum() < 0.2
    assert moved > 20


def test_only_a_set_can_miss_a_unit(products: tuple[Product, ...]) -> None:
    with pytest.raises(ConfigError, match="without units; expected a set's front"):
        render(products[0], shot=CALM, seed=1, damage=Damage("missing_unit"))
    with pytest.raises(ConfigError, match="without units"):
        render(
            _named(products, "razor-set"),
            face="back",
            shot=CALM,
            seed=1,
            damage=Damage("missing_unit"),
        )


def test_stronger_damage_covers_more(products: tuple[Product, ...]) -> None:
    for kind in ("tear", "crush", "hole", "stain", "scuff", "spill"):
        weak, strong = (
            render(
                products[11], shot=CALM, seed=2, damage=Damage(kind, strength), size=(240, 320)
            ).damage_mask.sum()
            for strength in (0.2, 0.9)
        )
        assert strong > 1.5 * weak, kind


def test_a_seeded_damage_stays_when_the_photograph_changes(products: tuple[Product, ...]) -> None:
    damage = Damage("hole", 0.6, seed=5)
    masks = [render(products[0], shot=CALM, seed=s, damage=damage).damage_mask for s in (1, 2)]
    assert np.array_equal(*masks)
    loose = render(products[0], shot=CALM, seed=2, damage=Damage("hole", 0.6)).damage_mask
    assert not np.array_equal(loose, masks[0])


def test_landmarks_land_where_the_homography_says() -> None:
    height, width, half = 600, 450, 16
    rng = np.random.default_rng(3)
    spots = np.array([(70, 80), (380, 90), (225, 300), (60, 520), (390, 500)], np.float64)
    colour = np.full((height, width, 3), 20, np.uint8)
    for x, y in spots.astype(int):
        colour[y - half : y + half + 1, x - half : x + half + 1] = 250
    face = full_face(colour)
    product = Product("landmarks", "carton", {"front": face}, gloss=0.0)
    for number in range(6):
        shot = replace(draw_shot(rng), noise_sigma=0.0, blur_sigma=0.0, jpeg_quality=100)
        photo = render(product, shot=shot, seed=number)
        matrix = face_to_frame(face, shot, (480, 640))
        for spot in spots:
            x, y, w = matrix @ (*spot, 1.0)
            left, top = round(x / w) - 14, round(y / w) - 14
            patch = photo.image[top : top + 29, left : left + 29].mean(axis=2)
            weight = np.clip(patch - 60, 0, None)
            rows, columns = np.mgrid[top : top + 29, left : left + 29]
            found = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
            assert np.abs(found - (x / w, y / w)).max() < 0.35


def test_edges_blend_instead_of_stepping() -> None:
    white = full_face(np.full((400, 300, 3), 255, np.uint8))
    shot = Shot(angle_deg=13, noise_sigma=0, blur_sigma=0, jpeg_quality=100, background="belt")
    photo = render(Product("white", "carton", {"front": white}, gloss=0.0), shot=shot, seed=0)
    grey = photo.image.mean(axis=2)
    rim = cv2.morphologyEx(photo.product_mask.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3)))
    between = (grey > 110) & (grey < 215) & (rim > 0)
    assert between.sum() > 0.25 * (rim > 0).sum()


def test_wrong_requests_say_what_is_allowed(products: tuple[Product, ...]) -> None:
    with pytest.raises(ConfigError, match="'rust'; expected one of tear, crush"):
        Damage("rust")
    with pytest.raises(ConfigError, match="strength 0"):
        Damage("tear", 0.0)
    with pytest.raises(ConfigError, match="'lid' of s0-carton-0; expected one of back, front"):
        render(products[0], face="lid", shot=CALM, seed=1)
    with pytest.raises(ConfigError, match="'sand'; expected one of tray, belt"):
        Shot(background="sand")
    with pytest.raises(ConfigError, match="'mad'; expected one of easy"):
        draw_shot(np.random.default_rng(0), difficulty="mad")


def test_draw_shot_keeps_its_limits() -> None:
    rng = np.random.default_rng(1)
    shots = [draw_shot(rng, difficulty="hard", max_angle_deg=90, max_tilt_deg=6) for _ in range(99)]
    assert 30 < max(abs(shot.angle_deg) for shot in shots) <= 90
    assert np.mean([abs(shot.angle_deg) <= 25 for shot in shots]) > 0.6
    assert max(abs(shot.tilt_x_deg) for shot in shots) <= 6
    assert all(0.85 <= shot.scale <= 1.15 for shot in shots)


def test_importing_anomaly_leaves_the_studio_alone() -> None:
    code = "import sys, anomaly; assert not any('studio' in name for name in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_face_is_what_was_printed() -> None:
    face = Face(np.zeros((4, 5, 3), np.uint8), np.ones((4, 5), np.float32))
    assert face.units == ()
    assert face.empty is None
