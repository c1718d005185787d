"""Which pixels are the product: found where it is plain to see, doubted where it is not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage import data

from embeddings.background import lab
from embeddings.errors import MaskError
from embeddings.falloff import Falloff
from embeddings.foreground import Foreground, estimate_foreground, given_foreground

SIZE = (300, 400)


def backgrounds() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    height, width = SIZE
    y, x = np.mgrid[:height, :width]
    plain = np.full((height, width, 3), (205, 200, 190))
    return {
        "plain": plain,
        "noisy": plain + rng.normal(0, 8, plain.shape),
        "lit-from-one-side": plain * (0.75 + 0.25 * x / width)[:, :, None],
        "striped": plain - 25 * ((x // 8) % 2)[:, :, None],
        "chequered": plain - 20 * ((x // 10 + y // 10) % 2)[:, :, None],
    }


def ellipse() -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    cv2.ellipse(mask, (190, 150), (90, 60), 20, 0, 360, 1, -1)
    return mask.astype(np.bool_)


def rectangle() -> np.ndarray:
    mask = np.zeros(SIZE, np.bool_)
    mask[70:220, 110:330] = True
    return mask


def two_parts() -> np.ndarray:
    mask = np.zeros(SIZE, np.bool_)
    mask[80:220, 60:170] = True
    mask[90:210, 230:330] = True
    return mask


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize("ground", backgrounds())
@pytest.mark.parametrize("shape", [ellipse, rectangle, two_parts])
def test_a_product_on_a_regular_background_is_found_with_confidence(shape, ground: str) -> None:
    truth, picture = shape(), backgrounds()[ground].copy()
    texture = cv2.resize(data.astronaut()[:200, :200], SIZE[::-1]).astype(float)
    picture[truth] = (0.5 * texture + [60, 0, 0])[truth]
    found = estimate_foreground(picture.clip(0, 255).astype(np.uint8))
    assert found.mask.shape == SIZE
    assert found.mask.dtype == np.bool_
    assert found.source == "estimated"
    assert iou(found.mask, truth) > 0.85
    assert 0.5 < found.confidence <= 1


def test_a_hole_in_the_product_belongs_to_it() -> None:
    picture, truth = backgrounds()["plain"].copy(), rectangle()
    picture[truth] = (40, 60, 120)
    picture[130:160, 200:240] = backgrounds()["plain"][130:160, 200:240]
    found = estimate_foreground(picture.astype(np.uint8)).mask
    assert found[130:160, 200:240].all()
    assert iou(found, truth) > 0.9


def test_the_mask_follows_the_picture_when_it_is_turned() -> None:
    picture, truth = backgrounds()["plain"].copy(), ellipse()
    picture[truth] = (40, 60, 120)
    picture = picture.astype(np.uint8)
    turned = estimate_foreground(np.ascontiguousarray(np.rot90(picture)))
    assert iou(turned.mask, np.rot90(truth)) > 0.9


def belt(pitch: int = 40) -> np.ndarray:
    """Light links between dark gaps: of both together, white is not far."""
    picture = np.full((*SIZE, 3), (150, 152, 165), np.float64)
    for y in range(0, SIZE[0], pitch):
        picture[y : y + pitch // 4] = (35, 38, 50)
        for x in range((y // pitch % 2) * pitch // 2, SIZE[1], pitch):
            picture[y : y + pitch, x : x + pitch // 4] = (35, 38, 50)
    return picture + np.random.default_rng(3).normal(0, 3, picture.shape)


@pytest.mark.parametrize("top", [90, 180], ids=["inside", "at the border"])
def test_a_white_carton_on_a_belt_is_found_whole(top: int) -> None:
    picture, truth = belt(), np.zeros(SIZE, np.bool_)
    truth[top : top + 120, 120:240] = True
    picture[truth] = (205, 208, 220)
    picture[top : top + 120, 200:240] = (60, 190, 150)  # the loud part is not all of it
    found = estimate_foreground(picture.clip(0, 255).astype(np.uint8))
    assert iou(found.mask, truth) > 0.85
    assert found.confidence > 0.6


def lit(kind: str) -> np.ndarray:
    """(H, W, 1) how bright light is that falls off, or is in shadow."""
    y, x = np.mgrid[-0.5 : 0.5 : SIZE[0] * 1j, -0.5 : 0.5 : SIZE[1] * 1j]
    if kind == "slanting":
        return (0.95 + 0.5 * x - 0.25 * y)[..., None]
    if kind == "dark in the corners":
        return (1.15 - 1.2 * (x**2 + y**2))[..., None]
    return (1.0 - 0.3 / (1 + np.exp(-(x + 0.4 * y + 0.1) / 0.008)))[..., None]


@pytest.mark.parametrize("light", ["slanting", "dark in the corners", "half in shadow"])
def test_a_white_carton_is_found_whole_in_uneven_light(light: str) -> None:
    """In the dark it is no brighter than the belt in the light."""
    picture, truth = belt(pitch=20), np.zeros(SIZE, np.bool_)
    truth[90:210, 120:240] = True
    picture[truth] = (205, 208, 220)
    picture[90:210, 200:240] = (60, 190, 150)
    found = estimate_foreground((picture * lit(light)).clip(0, 255).astype(np.uint8))
    assert iou(found.mask, truth) > 0.85
    assert found.confidence > 0.6


def test_light_that_would_take_half_of_a_sure_product_away_is_not_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its coloured end alone stands farther apart from the ground than all of it."""
    picture, truth = belt(pitch=20), np.zeros(SIZE, np.bool_)
    truth[60:240, 100:300] = True
    picture[truth] = (178, 181, 194)
    picture[60:240, 240:300] = (60, 190, 150)
    lightness = lab(np.uint8([[(178, 181, 194), (150, 152, 165)]]), 0.1)[0, :, 0] + 40.8
    step = np.log(lightness[0] / lightness[1])

    def guess(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return step * ((x > -0.25) & (x < 0.1) & (np.abs(y) < 0.3))

    monkeypatch.setattr("embeddings.foreground.falloffs", lambda colours: [Falloff(guess)])
    found = estimate_foreground(picture.clip(0, 255).astype(np.uint8))
    assert iou(found.mask, truth) > 0.85


def test_a_shadow_that_runs_to_the_border_is_not_product() -> None:
    picture, truth = backgrounds()["noisy"].copy(), np.zeros(SIZE, np.bool_)
    shade = np.zeros(SIZE)
    shade[140:200, 250:] = 1
    picture *= (1 - 0.5 * cv2.GaussianBlur(shade, (0, 0), 4))[..., None]
    truth[100:230, 120:270] = True
    picture[truth] = (60, 110, 70)
    picture[130:160, 140:220] = (200, 180, 60)
    found = estimate_foreground(picture.clip(0, 255).astype(np.uint8))
    assert iou(found.mask, truth) > 0.9
    assert found.confidence > 0.85


def test_a_grey_product_that_the_picture_cuts_off_is_no_shadow() -> None:
    """Its own colour is that of the ground in a shadow."""
    picture, truth = backgrounds()["noisy"].copy(), np.zeros(SIZE, np.bool_)
    truth[120:200, 200:] = True
    picture[truth] *= 0.5
    picture[145:175, 230:300] = (200, 40, 40)
    found = estimate_foreground(picture.clip(0, 255).astype(np.uint8))
    assert iou(found.mask, truth) > 0.85


def test_print_nearly_as_dark_as_the_belt_between_bright_parts_is_product() -> None:
    """A bag with a label above and a stripe below; stars on a black sky between them."""
    rng = np.random.default_rng(7)
    picture = 0.15 * belt() + 25 + rng.normal(0, 2, (*SIZE, 1))
    picture[80:230, 130:260] = rng.normal(24, 3, (150, 130, 1))
    picture[80:130, 130:260] = (230, 220, 60)
    picture[195:230, 130:260] = (220, 60, 60)
    picture = picture.clip(0, 255).astype(np.uint8)
    truth = np.zeros(SIZE, np.bool_)
    truth[80:230, 130:260] = True
    found = estimate_foreground(picture)
    assert iou(found.mask, truth) > 0.85
    assert found.confidence > 0.8


def with_a_neighbour(ground: np.ndarray, gap_px: int) -> tuple[np.ndarray, np.ndarray]:
    """A carton, and `gap_px` beside it the white end of another that the picture cuts off."""
    truth, picture = np.zeros(SIZE, np.bool_), ground.copy()
    truth[110:220, 120:240] = True
    picture[truth] = (205, 208, 220)
    picture[110:220, 120:160] = (60, 190, 150)
    picture[150:240, 240 + gap_px :] = (205, 208, 220)
    noise = np.random.default_rng(5).normal(0, 2, picture.shape)
    return (picture + noise).clip(0, 255).astype(np.uint8), truth


@pytest.mark.parametrize("gap_px", [16, 70])
@pytest.mark.parametrize("ground", ["plain", "belt"])
def test_a_neighbour_that_the_picture_cuts_off_hides_nothing_and_is_no_product(
    ground: str, gap_px: int
) -> None:
    grounds = {"plain": np.full((*SIZE, 3), (95, 92, 90), np.float64), "belt": belt()}
    picture, truth = with_a_neighbour(grounds[ground], gap_px)
    found = estimate_foreground(picture)
    assert iou(found.mask, truth) > 0.9
    assert found.confidence > 0.6


def test_a_drawing_in_two_greys_has_no_product_and_no_neighbours() -> None:
    """Pads in the middle of a binarised board are no product, those at its border no others."""
    board = np.full((*SIZE, 3), 255, np.uint8)
    for x in (60, 160, 260):
        board[120:180, x : x + 60] = 0
        board[:40, x + 30 : x + 90] = 0
    assert estimate_foreground(board).confidence < 0.5


def test_a_product_that_the_picture_cuts_off_is_found_beside_a_crumb() -> None:
    picture, truth = np.full((*SIZE, 3), 220, np.uint8), np.zeros(SIZE, np.bool_)
    truth[120:300, 120:235] = True
    picture[truth] = (40, 60, 120)
    picture[60:90, 320:350] = (40, 60, 120)
    noise = np.random.default_rng(6).normal(0, 4, picture.shape)  # a photograph, no drawing
    found = estimate_foreground((picture + noise).clip(0, 255).astype(np.uint8)).mask
    assert (found & truth).sum() > 0.95 * truth.sum()


def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def half_and_half() -> np.ndarray:
    picture = np.full((*SIZE, 3), 220, np.uint8)
    picture[:, 200:] = 40
    return picture


@pytest.mark.parametrize(
    "picture",
    [
        noise(),
        half_and_half(),
        np.full((*SIZE, 3), 128, np.uint8),
        np.zeros((*SIZE, 3), np.uint8),
        data.gravel()[:, :, None].repeat(3, axis=2),
        data.brick()[:, :, None].repeat(3, axis=2),
    ],
    ids=["noise", "half-and-half", "grey", "black", "gravel", "bricks"],
)
def test_pictures_without_a_product_have_no_confidence(picture: np.ndarray) -> None:
    found = estimate_foreground(picture)
    assert found.mask.shape == picture.shape[:2]
    assert found.mask.any()
    assert found.confidence < 0.2


def test_a_speck_is_too_small_to_be_trusted() -> None:
    picture = np.full((*SIZE, 3), 220, np.uint8)
    picture[150:158, 200:208] = 0
    assert estimate_foreground(picture).confidence == 0


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 2), (2, 1), (2, 2), (3, 3), (5, 300), (300, 5), (1, 3000), (3000, 17)]
)
@pytest.mark.parametrize("fill", ["blank", "noise"])
def test_tiny_and_thin_pictures_get_a_mask_of_their_size(shape, fill: str) -> None:
    picture = np.full((*shape, 3), 90, np.uint8)
    if fill == "noise":
        picture = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    found = estimate_foreground(picture)
    assert found.mask.shape == shape
    assert found.mask.any()
    assert 0 <= found.confidence <= 1


def test_a_given_mask_is_trusted_as_it_is() -> None:
    mask = ellipse()
    ground = given_foreground(mask)
    np.testing.assert_array_equal(ground.mask, mask)
    assert isinstance(ground, Foreground)
    assert (ground.confidence, ground.source) == (1.0, "given")


@pytest.mark.parametrize(
    "mask",
    [
        np.zeros((4, 5), np.bool_),
        np.ones((4, 5), np.uint8),
        np.ones((4, 5, 1), np.bool_),
        np.zeros((0, 0), np.bool_),
    ],
    ids=["nothing-marked", "not-bool", "three-axes", "no-pixels"],
)
def test_a_mask_that_marks_nothing_or_is_no_mask_is_refused(mask: np.ndarray) -> None:
    with pytest.raises(MaskError, match=f"mask {mask.dtype}"):
        given_foreground(mask)
