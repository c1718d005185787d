"""Fine differences, against defects and lights that are known."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from anomaly.detail import Details, compare_details
from anomaly.looks import look_of, onto_look, to_look
from anomaly.matched import lay_upon
from anomaly.results import Pairing, View
from anomaly.view import as_it_is
from embeddings import fake_embedder
from embeddings.foreground import Foreground
from embeddings.registration import Registration, transform
from gallery import CatalogRow, Reference
from gallery.describe import describe, from_record, to_record

SIZE = (144, 192)  # 18 x 24 cells of 8 px
EMBEDDER = fake_embedder(size_px=192)


def picture(seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Print: coloured shapes with sharp edges on a plain ground."""
    rng = np.random.default_rng(seed)
    image = np.full((*size, 3), (180, 170, 150), np.uint8)
    for _ in range(40):
        x, y = (int(rng.integers(size[axis])) for axis in (1, 0))
        colour = [int(c) for c in rng.integers(30, 220, 3)]
        cv2.circle(image, (x, y), int(rng.integers(4, 14)), colour, -1, cv2.LINE_AA)
    return image


def reference_of(image: np.ndarray, mask: np.ndarray | None = None) -> Reference:
    everything = np.ones(image.shape[:2], np.bool_)
    described = describe(image, EMBEDDER, mask=everything if mask is None else mask)
    row = CatalogRow("p", 1, 0, "r0", None, None, None, None, None, "r0")
    return from_record(to_record(row, described), described.vector)


def moved(matrix: np.ndarray | None = None) -> Pairing:
    motion = np.eye(3) if matrix is None else matrix
    found = Registration(motion, "similarity", 50, 40, 0.3, 1.0, np.zeros((0, 2), np.intp), None)
    return Pairing("r0", found, 0.0, 1.0, 1.0, (95.5, 71.5))


def view_of(image: np.ndarray) -> View:
    return as_it_is(EMBEDDER.embed([image])[0])


def details(
    query: np.ndarray, view: View, references: list[tuple[Reference, Pairing]]
) -> Details | None:
    matched = lay_upon(query, view, references)
    return None if matched is None else compare_details(matched)


def excess(query: np.ndarray, reference: Reference, pairing: Pairing | None = None) -> np.ndarray:
    view = view_of(query)
    found = details(query, view, [(reference, pairing or moved())])
    assert found is not None
    return found.excess


def shifted(image: np.ndarray, x: float, y: float) -> np.ndarray:
    return cv2.warpAffine(
        image, np.array([[1, 0, x], [0, 1, y]]), SIZE[::-1], borderMode=cv2.BORDER_REPLICATE
    )


def test_the_same_picture_has_no_excess() -> None:
    assert excess(picture(), reference_of(picture())).max() < 10  # of 255: the thumbnail is a JPEG


@pytest.mark.parametrize("colour", [(20, 20, 20), (200, 40, 40)])
def test_a_small_spot_is_found_where_it_is(colour: tuple[int, int, int]) -> None:
    spotted = picture()
    cv2.circle(spotted, (100, 68), 3, colour, -1)
    found = excess(spotted, reference_of(picture()))
    row, column = np.unravel_index(np.argmax(found), found.shape)
    assert (row, column) in {(8, 12), (8, 11)}
    assert found.max() > 40
    away = np.ones(found.shape, np.bool_)
    away[7:10, 10:14] = False
    assert found[away].max() < 10


def test_what_is_gone_counts_as_what_is_new() -> None:
    spotted = picture()
    cv2.circle(spotted, (100, 68), 4, (20, 20, 20), -1)
    assert excess(picture(), reference_of(spotted)).max() > 40


@pytest.mark.parametrize("offset", [(0.6, -0.8), (2.5, 1.5)])
def test_what_registration_left_of_a_guess_is_made_good(offset: tuple[float, float]) -> None:
    known = reference_of(picture())
    guess = replace(known, foreground=replace(known.foreground, confidence=0.2))
    found = excess(shifted(picture(), *offset), guess)
    assert np.nanquantile(found[1:-1, 1:-1], 0.99) < 20


def test_another_light_is_no_difference() -> None:
    darker = (picture() * 0.6).astype(np.uint8)
    assert excess(darker, reference_of(picture())).max() < 20


def test_a_shadow_with_a_sharp_edge_is_no_difference() -> None:
    """Smooth brightness alone would leave its edge."""
    shaded = picture().astype(np.float32)
    shaded[:, 96:] *= 0.55
    plain = excess(shaded.astype(np.uint8), reference_of(picture()))
    assert np.nanquantile(plain, 0.98) < 25


def uneven(query: np.ndarray, *references: np.ndarray) -> float:
    pairs = [(reference_of(image), moved()) for image in references]
    found = details(query, view_of(query), pairs)
    assert found is not None
    return found.uneven


def test_light_is_uneven_where_a_shadow_lies_and_not_when_all_is_darker() -> None:
    shaded = picture().astype(np.float32)
    shaded[:, 96:] *= 0.55
    assert uneven(shaded.astype(np.uint8), picture()) == pytest.approx(-np.log(0.55), abs=0.1)
    assert uneven((picture() * 0.6).astype(np.uint8), picture()) < 0.1
    assert uneven(shaded.astype(np.uint8), picture(), shaded.astype(np.uint8)) < 0.02


@pytest.mark.parametrize("radius", [9, 30])
def test_damage_does_not_make_light_uneven(radius: int) -> None:
    torn = picture()
    cv2.circle(torn, (96, 70), radius, (250, 250, 250), -1)
    assert uneven(torn, picture()) < 0.1


def test_where_light_explains_nothing_it_is_not_known() -> None:
    plain, red = (
        np.full((*SIZE, 3), colour, np.uint8) for colour in ((180, 170, 150), (255, 0, 0))
    )
    assert uneven(red, plain) == np.inf


def veiled(image: np.ndarray, *, height: float = 70, sigma: float = 30) -> np.ndarray:
    """Light added over a spot, wide unless `sigma` says otherwise, in the power of a byte."""
    rows, columns = np.indices(SIZE)
    light = height * np.exp(-((rows - 70) ** 2 + (columns - 96) ** 2) / (2 * sigma**2))
    linear = 255 * (image / 255) ** 2.2 + light[..., None]
    return np.clip(255 * (linear / 255) ** (1 / 2.2), 0, 255).astype(np.uint8)


def test_light_that_is_added_is_no_difference() -> None:
    assert np.nanquantile(excess(veiled(picture()), reference_of(picture())), 0.98) < 30


def test_light_that_is_added_over_a_small_spot_is_no_difference_and_white_paper_is() -> None:
    ground = np.full((*SIZE, 3), (60, 110, 170), np.uint8)
    torn = ground.copy()
    cv2.circle(torn, (96, 70), 10, (170, 185, 215), -1, cv2.LINE_AA)
    lit = veiled(ground, height=110, sigma=10)
    assert np.abs(lit.astype(int) - ground).max() > 70  # as bright as the tear
    reference = reference_of(ground)
    assert excess(lit, reference).max() < 30
    assert excess(torn, reference).max() > 60


def test_a_colour_that_light_has_clipped_is_no_difference() -> None:
    ground = np.full((*SIZE, 3), (225, 90, 160), np.uint8)
    lit = veiled(ground, height=130, sigma=10)
    assert lit[70, 96, 0] == 255
    assert excess(lit, reference_of(ground)).max() < 30


def test_a_spot_is_found_beneath_a_veil() -> None:
    spotted = picture()
    cv2.circle(spotted, (100, 68), 4, (20, 20, 20), -1)
    found = excess(veiled(spotted), reference_of(picture()))
    assert np.unravel_index(np.argmax(found), found.shape) in {(8, 12), (8, 11)}
    assert found.max() > 40


def test_cells_that_are_veiled_are_compared_and_hidden_ones_are_not() -> None:
    view, reference = view_of(picture()), reference_of(picture())
    seen = np.ones(view.measured.shape, np.bool_)
    seen[5, 5] = seen[6, 6] = False
    veil = np.zeros(view.measured.shape, np.bool_)
    veil[5, 5] = True
    half = replace(view, measured=seen, veiled=veil)
    found = details(picture(), half, [(reference, moved())])
    assert found is not None
    assert np.isfinite(found.excess[5, 5])
    assert np.isnan(found.excess[6, 6])


def test_a_wrong_colour_of_the_same_brightness_is_found() -> None:
    ground = np.full((*SIZE, 3), 140, np.uint8)
    wrong = ground.copy()
    wrong[60:84, 80:110] = (170, 140, 110)
    found = excess(wrong, reference_of(ground))
    assert found[8:10, 11:13].min() > 30
    assert found[:5].max() < 6


def test_the_least_excess_over_references_counts() -> None:
    spotted = picture()
    cv2.circle(spotted, (100, 68), 4, (20, 20, 20), -1)
    view = view_of(spotted)
    both = [(reference_of(picture()), moved()), (reference_of(spotted), moved())]
    found = details(spotted, view, both)
    assert found is not None
    assert found.excess.max() < 10


def test_only_the_product_and_what_is_measured_are_compared() -> None:
    mask = np.zeros(SIZE, np.bool_)
    mask[32:112, 48:144] = True
    view = view_of(picture(1))
    hidden = view.measured.copy()
    hidden[6:8, 8:10] = False
    view = replace(view, measured=hidden)
    pairs = [(reference_of(picture(), mask), moved())]
    found = details(picture(1), view, pairs)
    assert found is not None
    on = np.zeros(view.patches.shape, np.bool_)
    on[4:14, 6:18] = True
    np.testing.assert_array_equal(np.isfinite(found.excess), on & hidden)
    assert found.share == pytest.approx((on & hidden).mean())


def uncertain(image: np.ndarray) -> Reference:
    mask = np.zeros(SIZE, np.bool_)
    mask[32:112, 48:144] = True
    return replace(reference_of(image), foreground=Foreground(mask, 0.0, "estimated"))


def test_a_fixture_is_compared_all_over_when_the_product_is_uncertain() -> None:
    spotted = picture()
    cv2.circle(spotted, (20, 20), 4, (20, 20, 20), -1)
    found = excess(spotted, uncertain(picture()))
    assert np.isfinite(found).all()
    assert found[2, 2] > 40


def test_another_scene_is_not_compared_when_the_product_is_uncertain() -> None:
    scene = picture(5)
    scene[32:112, 48:144] = picture()[32:112, 48:144]
    found = excess(scene, uncertain(picture()))
    assert not np.isfinite(found[:3]).any()
    assert np.isfinite(found[5:13, 7:17]).all()


def test_without_thumbnails_or_far_off_there_is_nothing_to_compare() -> None:
    view = view_of(picture())
    old = replace(reference_of(picture()), coded_thumbnail=None)
    assert details(picture(), view, [(old, moved())]) is None
    away = moved(np.array([[1.0, 0, 500], [0, 1, 0], [0, 0, 1]]))
    assert details(picture(), view, [(reference_of(picture()), away)]) is None
    assert details(picture(), view, []) is None


# Looks


def test_looks_and_thumbnails_share_a_frame() -> None:
    """A larger picture, a turned view: points of the reference land where its motion says."""
    large = cv2.resize(picture(), (384, 288), interpolation=cv2.INTER_CUBIC)
    reference = reference_of(picture())
    matrix = np.array([[0.0, -1.2, 200], [1.2, 0, 10], [0, 0, 1]])
    turn = np.array([[0.0, 1, 5], [-1, 0, 300], [0, 0, 1]])
    view = replace(view_of(large), matrix=turn)
    points = np.array([[0.0, 0], [100, 30], [50, 140]])
    direct = transform(view.patches.to_working() @ turn @ matrix, points)
    there = transform(onto_look(reference, moved(matrix), view), points)
    np.testing.assert_allclose(there, direct, atol=1e-9)
    np.testing.assert_allclose(transform(to_look(view_of(large)), np.array([[0.5, 0.5]])), [[0, 0]])
    assert look_of(large, view).shape == (*view.patches.working_size, 3)


def test_a_look_is_what_was_embedded() -> None:
    large = cv2.resize(picture(), (384, 288), interpolation=cv2.INTER_CUBIC)
    gaps = np.abs(look_of(large, view_of(large)).astype(int) - picture())
    assert gaps.mean() < 1
