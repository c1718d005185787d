"""Alignment against motions that are known, on textured pictures that are drawn here."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from printed_texture import texture

from anomaly.align import align
from anomaly.results import Alignment, Pairing
from embeddings import detect_keypoints, fake_embedder, given_foreground
from embeddings.foreground import Foreground
from embeddings.registration import register, transform
from gallery import CatalogRow, Reference
from gallery.describe import describe, from_record, to_record

GROUND = 200
SIZE = (240, 320)
BOX = (70, 90, 100, 140)  # top, left, height, width of the product


def scene(seed: int = 1, *, ground: np.ndarray | None = None, at: tuple[int, int] = BOX[:2]):
    """Picture and mask of a product at `at` (top, left) on a plain or a given ground."""
    image = np.full((*SIZE, 3), GROUND, np.uint8) if ground is None else ground.copy()
    mask = np.zeros(SIZE, np.bool_)
    place = slice(at[0], at[0] + BOX[2]), slice(at[1], at[1] + BOX[3])
    image[place], mask[place] = texture(seed, BOX[2], BOX[3]), True
    return image, mask


def reference_of(image: np.ndarray, mask: np.ndarray | None = None, name: str = "r0") -> Reference:
    described = describe(image, fake_embedder(size_px=64), mask=mask)
    row = CatalogRow("p", 1, 0, name, None, None, None, None, None, name)
    return from_record(to_record(row, described), described.vector)


def everywhere(image: np.ndarray, confidence: float = 0.0) -> Foreground:
    return Foreground(np.ones(image.shape[:2], np.bool_), confidence, "estimated")


def moved(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int] = SIZE) -> np.ndarray:
    border = (GROUND,) * 3 if image.ndim == 3 else 0
    source = image if image.dtype == np.uint8 else image.astype(np.uint8)
    warped = cv2.warpPerspective(
        source, np.asarray(matrix, np.float64), size[::-1], flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT, borderValue=border,
    )  # fmt: skip
    return warped if image.dtype == np.uint8 else warped > 0


def about(centre: tuple[float, float], turn_deg: float, scale: float, shift=(0.0, 0.0)):
    """Turn clockwise (y down) and scale about `centre`, then shift."""
    cosine, sine = (scale * f(math.radians(turn_deg)) for f in (math.cos, math.sin))
    matrix = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1.0]])
    matrix[:2, 2] = np.asarray(centre) + shift - matrix[:2, :2] @ np.asarray(centre)
    return matrix


CENTRE = (90 + 139 / 2, 70 + 99 / 2)


def corner_error_px(found: Pairing, truth: np.ndarray) -> float:
    """Farthest that a corner of the product is from where the truth has it."""
    top, left, height, width = BOX
    corners = np.array([[x, y] for x in (left, left + width) for y in (top, top + height)], float)
    gaps = transform(found.registration.matrix, corners) - transform(truth, corners)
    return float(np.linalg.norm(gaps, axis=1).max())


def aligned(reference: Reference, image: np.ndarray, mask: np.ndarray | None = None) -> Pairing:
    ground = everywhere(image) if mask is None else given_foreground(mask)
    found = align(detect_keypoints(image, prefer=mask), [reference], foreground=ground)
    assert found.best == 0
    assert found.fitting is found.pairings[0]
    return found.fitting


# Motions


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize(
    ("turn", "scale", "shift"),
    [
        (0, 1, (0, 0)),
        (0, 1, (40, -30)),
        (25, 1, (10, 5)),
        (-140, 1.2, (0, 0)),
        (90, 0.75, (-50, 9)),
    ],
)
def test_a_known_similarity_is_recovered(turn, scale, shift, trusted: bool) -> None:
    image, mask = scene()
    truth = about(CENTRE, turn, scale, shift)
    query = moved(image, truth), moved(mask, truth)
    reference = reference_of(image, mask if trusted else None)
    found = aligned(reference, query[0], query[1] if trusted else None)
    assert corner_error_px(found, truth) < 1.5
    assert found.turn_deg == pytest.approx(turn, abs=1.0)
    assert found.scale == pytest.approx(scale, rel=0.02)
    assert found.zoom == pytest.approx(found.scale)  # both pictures have the same size


def test_a_known_homography_is_recovered() -> None:
    image, mask = scene()
    corners = np.float32([[90, 70], [230, 70], [230, 170], [90, 170]])
    ends = np.float32([[100, 60], [225, 82], [236, 160], [84, 176]])
    truth = cv2.getPerspectiveTransform(corners, ends)
    found = aligned(reference_of(image, mask), moved(image, truth), moved(mask, truth))
    assert found.registration.motion == "homography"
    assert corner_error_px(found, truth) < 1.5


@pytest.mark.parametrize(
    ("how", "turn"),
    [(cv2.ROTATE_90_CLOCKWISE, 90), (cv2.ROTATE_90_COUNTERCLOCKWISE, -90), (cv2.ROTATE_180, 180)],
)
def test_turning_is_counted_clockwise(how: int, turn: int) -> None:
    image, mask = scene()
    found = aligned(reference_of(image, mask), cv2.rotate(image, how))
    assert abs((found.turn_deg - turn + 180) % 360 - 180) < 0.5
    assert -180 <= found.turn_deg <= 180
    assert found.scale == pytest.approx(1, abs=0.01)


def test_the_same_scene_at_twice_the_pixels_is_scaled_but_not_zoomed() -> None:
    image, mask = scene()
    found = aligned(
        reference_of(image, mask), cv2.resize(image, (640, 480), interpolation=cv2.INTER_CUBIC)
    )
    assert found.scale == pytest.approx(2, rel=0.01)
    assert found.zoom == pytest.approx(1, rel=0.01)


def test_a_product_that_fills_more_of_a_larger_picture_is_zoomed() -> None:
    """1.5 times as large in a picture 1.25 times as wide: zoom 1.2."""
    image, mask = scene()
    truth = about(CENTRE, 10, 1.5, (40, 30))
    found = aligned(reference_of(image, mask), moved(image, truth, (300, 400)))
    assert found.scale == pytest.approx(1.5, rel=0.02)
    assert found.zoom == pytest.approx(1.5 / 1.25, rel=0.02)


# The product's centre


def test_the_centre_is_that_of_the_product_where_its_mask_is_trusted() -> None:
    image, mask = scene()
    # The stored mask has the working size: 64 px of 320, so 5 px to a cell.
    found = aligned(reference_of(image, mask), image)
    assert found.centre_xy == pytest.approx(CENTRE, abs=2.5)
    image, mask = scene(at=(20, 30))
    doubtful = replace(reference_of(image), foreground=Foreground(mask, 0.4, "estimated"))
    assert aligned(doubtful, image).centre_xy == ((320 - 1) / 2, (240 - 1) / 2)


def test_turn_and_scale_are_taken_at_the_product_and_not_at_the_corner() -> None:
    """Under a strong slant the scale differs over the picture: by the Jacobian at the centre."""
    image, mask = scene()
    corners = np.float32([[90, 70], [230, 70], [230, 170], [90, 170]])
    ends = np.float32([[90, 90], [230, 50], [230, 190], [90, 150]])
    truth = cv2.getPerspectiveTransform(corners, ends)
    found = aligned(reference_of(image, mask), moved(image, truth), moved(mask, truth))
    x, y = found.centre_xy
    step = 0.5
    around = np.array([[x - step, y], [x + step, y], [x, y - step], [x, y + step]])
    ends = transform(truth, around)
    jacobian = np.stack([ends[1] - ends[0], ends[3] - ends[2]], axis=1)
    assert found.scale == pytest.approx(math.sqrt(np.linalg.det(jacobian)), rel=0.02)
    top_left = transform(truth, np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    there = math.sqrt(abs(np.linalg.det((top_left[1:] - top_left[0]).T)))
    assert abs(there / found.scale - 1) > 0.1  # so the place does matter here


# The product, not the scene

BACK = texture(50, *SIZE)
AT = (110, 160)
PRODUCT_MOTION = np.array([[1, 0, AT[1] - 20], [0, 1, AT[0] - 30], [0, 0, 1.0]])


def moved_on_a_static_ground():
    before, mask_before = scene(ground=BACK, at=(30, 20))
    after, mask_after = scene(ground=BACK, at=AT)
    return before, mask_before, after, mask_after


def test_the_motion_is_the_product_s_and_not_that_of_a_textured_ground() -> None:
    before, mask_before, after, mask_after = moved_on_a_static_ground()
    # All features, on and off the product, are there to mislead.
    reference = replace(reference_of(before), foreground=given_foreground(mask_before))
    points = detect_keypoints(after)
    found = align(points, [reference], foreground=given_foreground(mask_after)).fitting
    np.testing.assert_allclose(found.registration.matrix, PRODUCT_MOTION, atol=0.5)
    everything = replace(reference, foreground=everywhere(before))
    scenery = align(points, [everything], foreground=everywhere(after)).fitting
    np.testing.assert_allclose(scenery.registration.matrix, np.eye(3), atol=0.5)


def test_a_trusted_query_keeps_to_its_product_when_the_reference_s_guess_is_wrong() -> None:
    before, _, after, mask_after = moved_on_a_static_ground()
    nowhere = np.zeros(SIZE, np.bool_)
    nowhere[:4, :4] = True
    reference = replace(reference_of(before), foreground=Foreground(nowhere, 0.2, "estimated"))
    found = align(
        detect_keypoints(after), [reference], foreground=given_foreground(mask_after)
    ).fitting
    np.testing.assert_allclose(found.registration.matrix, PRODUCT_MOTION, atol=0.5)


def test_a_wrong_guess_on_both_sides_leaves_the_word_to_all_features() -> None:
    image, _ = scene()
    corner = np.zeros(SIZE, np.bool_)
    corner[:20, :20] = True
    points, guess = detect_keypoints(image), Foreground(corner, 0.3, "estimated")
    reference = replace(reference_of(image), foreground=guess)
    assert align(points, [reference], foreground=guess).best == 0
    both = replace(reference, foreground=replace(guess, confidence=1.0))
    trusted = align(points, [both], foreground=replace(guess, confidence=1.0))
    assert trusted.best is None  # nothing lies on what is known to be the product
    assert trusted.pairings[0].registration.reason == "too_few_keypoints"


def test_features_on_the_product_s_outline_are_the_product_s() -> None:
    """A flat patch whose corners are all there is: they lie on its outline, some outside."""
    rng = np.random.default_rng(4)
    image, mask = np.full((*SIZE, 3), GROUND, np.uint8), np.zeros(SIZE, np.uint8)
    outline = np.array([
        [160 + r * math.cos(a), 120 + r * math.sin(a)]
        for a, r in zip(np.linspace(0, 6.28, 26)[:-1], rng.uniform(50, 110, 25), strict=True)
    ]).astype(np.int32)  # fmt: skip
    cv2.fillPoly(image, [outline], (40, 40, 40))
    cv2.fillPoly(mask, [outline], 1)
    reference = replace(reference_of(image), foreground=given_foreground(mask > 0))
    points = detect_keypoints(image)
    alone = points.take(np.flatnonzero(mask[tuple(np.rint(points.points_xy).astype(int).T[::-1])]))
    found = align(points, [reference], foreground=given_foreground(mask > 0)).fitting
    assert found.registration.inliers > register(alone, alone).inliers


# Several references, and none


def test_pairings_keep_the_references_order_and_the_best_has_most_inliers() -> None:
    image, mask = scene()
    half = image.copy()
    half[:, 150:] = GROUND  # less of the product to agree on
    names = {"other": scene(9)[0], "half": half, "whole": image, "plain": np.full_like(image, 9)}
    references = [reference_of(picture, None, name) for name, picture in names.items()]
    found = align(detect_keypoints(image), references, foreground=given_foreground(mask))
    assert [pairing.reference_id for pairing in found.pairings] == list(names)
    assert [pairing.ok for pairing in found.pairings] == [False, True, True, False]
    assert found.fitting.reference_id == "whole"
    inliers = [p.registration.inliers for p in found.pairings if p.ok]
    assert inliers[1] > inliers[0]
    other, half_span, whole_span, plain = (pairing.span for pairing in found.pairings)
    assert (other, plain) == (0.0, 0.0)
    assert 0.5 < min(half_span, whole_span) <= max(half_span, whole_span) < 1.1


@pytest.mark.parametrize("query", [np.full((*SIZE, 3), GROUND, np.uint8), scene(9)[0]])
def test_where_nothing_registers_there_is_no_best(query: np.ndarray) -> None:
    reference = reference_of(*scene(1))
    found = align(detect_keypoints(query), [reference], foreground=everywhere(query))
    assert found.best is None
    assert found.fitting is None
    (pairing,) = found.pairings
    assert not pairing.ok
    assert pairing.registration.matrix is None
    assert (pairing.turn_deg, pairing.scale, pairing.zoom) == (0.0, 1.0, 1.0)
    assert pairing.centre_xy == pytest.approx(CENTRE, abs=2.5)


def test_no_references_are_no_pairings() -> None:
    image, _ = scene()
    found = align(detect_keypoints(image), [], foreground=everywhere(image))
    assert found == Alignment((), None)
