"""What the studio gained for benchmarks: damage of the outline, nuisances, art, difficulty."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import cv2
import numpy as np
import pytest

from anomaly.errors import ConfigError
from anomaly.studio import (
    ART,
    DOZEN,
    LEVELS,
    NUISANCES,
    Damage,
    Nuisance,
    Photograph,
    Product,
    Shot,
    art_carton,
    design_variant,
    draw_shot,
    face_to_frame,
    level,
    make_product,
    render,
    tilt_for,
)
from anomaly.studio.face import full_face
from anomaly.studio.scene import project

CALM = Shot(angle_deg=8, tilt_x_deg=4, tilt_y_deg=-5, noise_sigma=0, jpeg_quality=100)
SIZE = (300, 400)


@pytest.fixture(scope="module")
def products() -> dict[str, Product]:
    return {word: make_product(word, seed=2) for word in ("carton-1", "bag", "razor-set", "tube")}


def shoot(product: Product, damage: Damage | None = None, **options: object) -> Photograph:
    arguments = {"shot": CALM, "seed": 4, "size": SIZE} | options
    return render(product, damage=damage, **arguments)  # type: ignore[arg-type]


def moved(first: Photograph, second: Photograph) -> np.ndarray:
    return np.abs(first.image.astype(float) - second.image).mean(axis=2)


def near(mask: np.ndarray, *, px: int) -> np.ndarray:
    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * px + 1, 2 * px + 1))) > 0


def test_one_of_a_dozen_can_be_made_alone() -> None:
    assert len(DOZEN) == 12
    with pytest.raises(ConfigError, match="'cup'; expected one of carton-0"):
        make_product("cup")
    assert make_product("tube", seed=5).product_id == "s5-tube"


CASES = [
    ("dent", "carton-1"), ("dent", "bag"), ("dent", "tube"), ("open_flap", "carton-1"),
    ("wrong_unit", "razor-set"), ("dirt", "bag"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "word"), CASES)
@pytest.mark.parametrize("seed", [1, 2])
def test_pixels_change_where_the_truth_says_and_nowhere_else(
    products: dict[str, Product], kind: str, word: str, seed: int
) -> None:
    before = shoot(products[word])
    after = shoot(products[word], Damage(kind, 0.7, seed=seed, area=0.05))
    change = moved(before, after)
    assert after.kind == kind
    assert change[after.damage_mask].mean() > 6
    # Beyond the truth there is only the shadow of what bulges or bursts out.
    assert change[~near(after.damage_mask, px=16)].mean() < 0.05
    outside = after.product_mask ^ before.product_mask
    assert not (outside & ~near(after.damage_mask, px=3)).any()
    share = after.damage_mask.sum() / before.product_mask.sum()
    assert 0.01 < share < 0.25


def test_dents_and_flaps_move_the_outline_and_crushing_does_not(
    products: dict[str, Product],
) -> None:
    whole = shoot(products["carton-1"]).product_mask
    lost, gained = [], []
    for seed in range(6):
        damage = Damage("dent", 0.8, seed=seed, area=0.05)
        mask = shoot(products["carton-1"], damage).product_mask
        lost.append(int((whole & ~mask).sum()))
        gained.append(int((mask & ~whole).sum()))
    assert max(lost) > 60
    assert max(gained) > 60
    flap = shoot(products["carton-1"], Damage("open_flap", seed=0, area=0.06)).product_mask
    assert (flap & ~whole).sum() > 0.02 * whole.sum()
    crushed = shoot(products["carton-1"], Damage("crush", seed=0)).product_mask
    assert np.array_equal(crushed, whole)


def test_a_wrong_unit_is_in_one_place_and_none_is_missing(products: dict[str, Product]) -> None:
    front = products["razor-set"].faces["front"]
    assert len(front.swaps) == 2
    assert front.empty is not None
    for swap in front.swaps:
        assert len(swap.units) == len(front.units)
        for own, other in zip(front.units, swap.units, strict=True):
            changed = own | other
            assert np.abs(swap.colour.astype(float) - front.colour)[changed].mean() > 10
            assert np.abs(swap.colour.astype(float) - front.empty)[changed].mean() > 10
        rest = ~np.any((*front.units, *swap.units), axis=0)
        # Elsewhere only shadows' faint rims differ, as far as they reach.
        assert np.abs(swap.colour.astype(int) - front.colour)[rest].max() <= 6


def test_damage_takes_the_area_that_is_asked_for(products: dict[str, Product]) -> None:
    for kind in ("tear", "hole", "stain", "scuff", "dirt", "spill"):
        small, large = (
            shoot(products["carton-1"], Damage(kind, 0.5, seed=3, area=area))
            for area in (0.01, 0.04)
        )
        assert 2 < large.damage_mask.sum() / small.damage_mask.sum() < 9, kind
        share = small.damage_mask.sum() / small.product_mask.sum()
        assert 0.004 < share < 0.025, kind


@pytest.mark.parametrize("kind", NUISANCES)
def test_nuisances_change_the_picture_and_mark_nothing(
    products: dict[str, Product], kind: str
) -> None:
    plain = shoot(products["bag"])
    one, two = (shoot(products["bag"], nuisances=[Nuisance(kind, 0.8)]) for _ in range(2))
    assert one.image.tobytes() == two.image.tobytes()
    assert one.nuisances == (kind,)
    assert one.kind is None
    assert not one.damage_mask.any()
    assert np.array_equal(one.product_mask, plain.product_mask)
    change = moved(plain, one)
    assert (change > 8).sum() > 100
    if kind != "shadow":  # a shadow falls on the ground as well
        assert change[~near(plain.product_mask, px=4)].max() < 3
    other = shoot(products["bag"], nuisances=[Nuisance(kind, 0.8, seed=9)])
    assert other.image.tobytes() != one.image.tobytes()


def test_nuisances_leave_damage_and_its_truth_alone(products: dict[str, Product]) -> None:
    damage = Damage("hole", 0.6, seed=5)
    bare = shoot(products["carton-1"], damage)
    kinds = [Nuisance(kind) for kind in ("lot_code", "shadow", "glare")]
    busy = shoot(products["carton-1"], damage, nuisances=kinds)
    assert np.array_equal(bare.damage_mask, busy.damage_mask)


def test_a_lot_code_has_its_place_and_a_new_text_each_time(products: dict[str, Product]) -> None:
    product = products["carton-1"]
    plain = shoot(product).image.astype(float)
    changed = []
    for seed in (1, 2):
        coded = shoot(product, nuisances=[Nuisance("lot_code", seed=seed)])
        changed.append((np.abs(coded.image - plain).mean(axis=2) > 6, coded.image))
    (first, one), (second, two) = changed
    assert (first & second).sum() > 0.6 * (first | second).sum()
    text = np.abs(one.astype(float) - two).mean(axis=2) > 12
    assert 20 < text.sum() < (first | second).sum()
    assert not (text & ~near(first | second, px=3)).any()


@pytest.mark.parametrize("art", ART)
def test_printed_art_is_pristine_and_its_own(art: str) -> None:
    one, two = (art_carton(np.random.default_rng(3), product_id="a", art=art) for _ in range(2))
    assert np.array_equal(one.faces["front"].colour, two.faces["front"].colour)
    other = art_carton(np.random.default_rng(4), product_id="b", art=art)
    assert not np.array_equal(one.faces["front"].colour, other.faces["front"].colour)
    assert not shoot(one).damage_mask.any()


def test_a_design_variant_is_the_same_product_in_another_print(
    products: dict[str, Product],
) -> None:
    product = products["razor-set"]
    variant = design_variant(product)
    assert design_variant(product, number=0) is product
    assert (variant.product_id, variant.kind) == (product.product_id, product.kind)
    for name, face in product.faces.items():
        own = variant.faces[name]
        assert np.array_equal(own.alpha, face.alpha)
        assert np.abs(own.colour.astype(float) - face.colour).mean() > 4
    front = variant.faces["front"]
    assert front.empty is not None
    rest = ~np.any(front.units, axis=0)
    assert np.abs(front.colour[rest].astype(int) - front.empty[rest]).max() <= 8


def test_levels_grow_harder() -> None:
    spreads = []
    for name in ("easy", "medium", "hard"):
        rng = np.random.default_rng(1)
        shots = [level(name).draw(rng, background="belt") for _ in range(80)]
        assert {shot.background for shot in shots} == {"belt"}
        spreads.append(
            [
                float(np.mean([abs(s.angle_deg) for s in shots])),
                float(np.mean([abs(s.tilt_x_deg) / s.camera_distance for s in shots])),
                float(np.mean([s.noise_sigma + s.blur_sigma for s in shots])),
                float(np.mean([-s.jpeg_quality for s in shots])),
                float(np.mean([-s.scale for s in shots])),
            ]
        )
    assert np.all(np.diff(spreads, axis=0) > 0)
    assert list(LEVELS) == ["easy", "medium", "hard"]


def test_perspective_is_how_much_shorter_the_far_side_is() -> None:
    face = full_face(np.zeros((400, 400, 3), np.uint8))
    corners = np.array([[0, 0], [400, 0], [400, 400], [0, 400]]) - 0.5
    for perspective in (0.0, 0.15, 0.3, 0.45):
        tilt = tilt_for(perspective, camera_distance=1.2)
        shot = Shot(tilt_x_deg=tilt, camera_distance=1.2)
        left_top, right_top, right_low, left_low = project(
            face_to_frame(face, shot, (480, 640)), corners
        )
        sides = sorted([right_top[0] - left_top[0], right_low[0] - left_low[0]])
        assert 1 - sides[0] / sides[1] == pytest.approx(perspective, abs=0.01)


def test_overhang_lets_part_of_the_product_leave_the_frame(products: dict[str, Product]) -> None:
    shot = replace(CALM, centre=(1.3, 0.5), overhang=0.4)
    whole, part = (shoot(products["carton-1"], shot=s).product_mask for s in (CALM, shot))
    assert part[:, -1].any()
    assert 0.5 < part.sum() / whole.sum() < 0.75


def test_what_existed_before_is_byte_identical_without_the_new_options() -> None:
    """Old arguments draw old pictures: a new option's default adds nothing, in any stream."""
    product = make_product("carton-0", seed=0)
    shot = draw_shot(np.random.default_rng(5))
    for damage in (None, Damage("tear", 0.4), Damage("spill", 0.4)):
        plain = render(product, shot=shot, seed=3, damage=damage, size=SIZE)
        explicit = replace(shot, camera_distance=4.0, overhang=0.0)
        same = render(product, shot=explicit, seed=3, damage=damage, size=SIZE, nuisances=())
        digests = {hashlib.sha256(p.image.tobytes()).hexdigest() for p in (plain, same)}
        assert len(digests) == 1


def test_wrong_requests_say_what_is_allowed(products: dict[str, Product]) -> None:
    with pytest.raises(ConfigError, match="'open_flap' of a bag; expected a carton"):
        shoot(products["bag"], Damage("open_flap"))
    with pytest.raises(ConfigError, match="'wrong_unit' of a face without units"):
        shoot(products["bag"], Damage("wrong_unit"))
    with pytest.raises(ConfigError, match=r"area 0\.5; expected above 0, at most 0\.3"):
        Damage("tear", area=0.5)
    with pytest.raises(ConfigError, match="'fog'; expected one of lot_code"):
        Nuisance("fog")
    with pytest.raises(ConfigError, match="strength 0"):
        Nuisance("glare", 0.0)
    with pytest.raises(ConfigError, match="twice"):
        shoot(products["bag"], nuisances=[Nuisance("glare"), Nuisance("glare", 0.9)])
    with pytest.raises(ConfigError, match="'odd'; expected one of easy"):
        level("odd")
    with pytest.raises(ConfigError, match="'rust'; expected one of tear"):
        art_carton(np.random.default_rng(0), product_id="a", art="rust")
    with pytest.raises(ConfigError, match=r"perspective 0\.9.*expected 0 to 0\.59"):
        tilt_for(0.9, camera_distance=1.2)
    with pytest.raises(ConfigError, match=r"distance 0\.5; expected at least 1"):
        Shot(camera_distance=0.5)
    with pytest.raises(ConfigError, match=r"overhang 2; expected 0 to 0\.9"):
        Shot(overhang=2)
