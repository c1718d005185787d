"""Registration against warps that are known, and refusals where there is no motion to find."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import cv2
import numpy as np
import pytest
from skimage import data

from embeddings.keypoints import Keypoints, detect_keypoints, empty_keypoints
from embeddings.registration import (
    MIN_INLIERS,
    Registration,
    log10_nfa,
    match,
    register,
    transform,
)

PHOTOGRAPHS = {"astronaut": data.astronaut, "coffee": data.coffee, "chelsea": data.chelsea}


@cache
def photograph(name: str) -> np.ndarray:
    return PHOTOGRAPHS[name]()


@cache
def keypoints_of(name: str) -> Keypoints:
    return detect_keypoints(photograph(name))


def warped(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`image` moved by `matrix` (pixel centres) into a (height, width) frame, without aliasing."""
    shrink = math.sqrt(abs(np.linalg.det(matrix[:2, :2])))
    if shrink < 1:
        image = cv2.GaussianBlur(image, (0, 0), 0.5 * math.sqrt(1 / shrink**2 - 1) + 1e-3)
    return cv2.warpPerspective(image, matrix, size[::-1], flags=cv2.INTER_CUBIC)


def similarity(degrees: float, scale: float, source: tuple[int, int], target: tuple[int, int]):
    """Turn and scale about the source's centre, which lands on the target's centre."""
    turned = cv2.getRotationMatrix2D(((source[1] - 1) / 2, (source[0] - 1) / 2), degrees, scale)
    turned[:, 2] += [(target[1] - source[1]) / 2, (target[0] - source[0]) / 2]
    return np.vstack([turned, [0, 0, 1]])


def frame_points(size: tuple[int, int]) -> np.ndarray:
    y, x = np.mgrid[0 : size[0] - 1 : 9j, 0 : size[1] - 1 : 9j]
    return np.c_[x.ravel(), y.ravel()]


def transfer_errors_px(found: Registration, truth: np.ndarray, source, target) -> np.ndarray:
    """How far `found` puts source points from where `truth` does, where the target sees them."""
    points = frame_points(source)
    wanted = transform(truth, points)
    seen = ((wanted >= 0) & (wanted <= np.array(target[::-1]) - 1)).all(axis=1)
    assert seen.sum() >= 20
    return np.linalg.norm(transform(found.matrix, points) - wanted, axis=1)[seen]


def assert_registers(name: str, truth: np.ndarray, size: tuple[int, int], motion: str) -> None:
    image = photograph(name)
    found = register(keypoints_of(name), detect_keypoints(warped(image, truth, size)))
    assert found.ok, found.reason
    assert found.motion == motion
    errors = transfer_errors_px(found, truth, image.shape[:2], size)
    assert np.median(errors) < 1.2
    assert errors.max() < 2.0
    assert found.residual_px < 1.5
    assert MIN_INLIERS <= found.inliers <= found.matches
    assert found.inlier_rows.shape == (found.inliers, 2)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
@pytest.mark.parametrize(
    ("degrees", "scale"),
    [(0, 1), (0, 0.5), (0, 2), (12, 1), (45, 1), (90, 1), (180, 1), (45, 0.7), (180, 1.5)],
)
def test_similarity_warps_are_recovered_as_similarities(name, degrees, scale) -> None:
    source = photograph(name).shape[:2]
    target = (round(source[0] * max(scale, 1)), round(source[1] * max(scale, 1)))
    assert_registers(name, similarity(degrees, scale, source, target), target, "similarity")


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_a_stretch_and_shear_is_recovered_as_affine(name: str) -> None:
    truth = np.array([[1.15, 0.18, 12.0], [-0.05, 0.85, 30.0], [0, 0, 1]])
    assert_registers(name, truth, photograph(name).shape[:2], "affine")


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_a_strong_perspective_is_recovered_as_homography(name: str) -> None:
    height, width = photograph(name).shape[:2]
    corners = np.float32([[0, 0], [width, 0], [width, height], [0, height]])
    moved = np.float32([[0.15, 0.1], [0.9, 0.0], [1.0, 0.95], [0.0, 0.8]]) * [width, height]
    truth = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
    assert_registers(name, truth, (height, width), "homography")


def test_a_picture_on_itself_is_the_identity() -> None:
    found = register(keypoints_of("coffee"), keypoints_of("coffee"))
    assert found.motion == "similarity"
    np.testing.assert_allclose(found.matrix, np.eye(3), atol=1e-3)
    assert found.residual_px < 1e-3
    assert found.overlap_fraction == pytest.approx(1.0, abs=1e-4)


def test_inlier_rows_point_at_keypoints_that_the_matrix_joins() -> None:
    source, image = keypoints_of("coffee"), photograph("coffee")
    truth = similarity(20, 0.9, image.shape[:2], image.shape[:2])
    target = detect_keypoints(warped(image, truth, image.shape[:2]))
    found = register(source, target)
    start = source.points_xy[found.inlier_rows[:, 0]]
    end = target.points_xy[found.inlier_rows[:, 1]]
    distances = np.linalg.norm(transform(found.matrix, start) - end, axis=1)
    assert math.sqrt((distances**2).mean()) == pytest.approx(found.residual_px, rel=1e-6)
    assert distances.max() <= 0.006 * max(image.shape) + 1e-6


# Refusals


def assert_failed(found: Registration, *reasons: str) -> None:
    assert not found.ok
    assert found.reason in reasons
    assert found.matrix is None
    assert found.motion is None
    assert math.isnan(found.residual_px)
    assert math.isnan(found.overlap_fraction)
    assert found.inlier_rows.shape == (0, 2)


@pytest.mark.parametrize(
    ("one", "other"), [("astronaut", "coffee"), ("coffee", "chelsea"), ("chelsea", "astronaut")]
)
def test_different_photographs_do_not_register(one: str, other: str) -> None:
    assert_failed(
        register(keypoints_of(one), keypoints_of(other)),
        "too_few_matches",
        "too_few_inliers",
        "chance_agreement",
        "implausible_motion",
    )


def test_a_mirrored_picture_does_not_register() -> None:
    mirrored = detect_keypoints(np.ascontiguousarray(photograph("astronaut")[:, ::-1]))
    assert not register(keypoints_of("astronaut"), mirrored).ok


def test_points_that_agree_on_a_mirror_are_an_implausible_motion() -> None:
    source = keypoints_of("astronaut")
    mirrored = source.points_xy * np.float32([-1, 1]) + np.float32([511, 0])
    target = Keypoints(
        mirrored, source.sizes_px, source.angles_deg, source.descriptors, source.image_size
    )
    assert_failed(register(source, target), "implausible_motion")


@pytest.mark.parametrize("stretch", [np.diag([5.0, 1.0, 1.0]), np.diag([0.1, 0.1, 1.0])])
def test_extreme_slant_and_scale_are_implausible(stretch: np.ndarray) -> None:
    source = keypoints_of("astronaut")
    size = (int(512 * stretch[1, 1]) + 1, int(512 * stretch[0, 0]) + 1)
    moved = transform(stretch, source.points_xy).astype(np.float32)
    target = Keypoints(moved, source.sizes_px, source.angles_deg, source.descriptors, size)
    assert_failed(register(source, target), "implausible_motion", "chance_agreement")


@pytest.mark.parametrize(("pixels", "plausible"), [(12.0, True), (1.0, False)])
def test_a_camera_with_many_more_pixels_shows_the_same(pixels: float, plausible: bool) -> None:
    """Twelve times as large is another camera, if its picture is; else no view of the product."""
    source = keypoints_of("astronaut")
    size = round(512 * pixels), round(512 * pixels)
    moved = transform(np.diag([12.0, 12.0, 1.0]), source.points_xy).astype(np.float32)
    target = Keypoints(moved, source.sizes_px, source.angles_deg, source.descriptors, size)
    assert register(source, target).ok is plausible


@pytest.mark.parametrize("count", [0, 1, MIN_INLIERS - 1])
def test_too_few_keypoints_on_either_side_is_a_reason(count: int) -> None:
    full = keypoints_of("coffee")
    few = full.take(np.arange(count))
    assert_failed(register(few, full), "too_few_keypoints")
    assert_failed(register(full, few), "too_few_keypoints")
    assert_failed(register(empty_keypoints((9, 9)), empty_keypoints((9, 9))), "too_few_keypoints")


def random_keypoints(rng: np.random.Generator, count: int) -> Keypoints:
    return Keypoints(
        rng.uniform(0, 640, (count, 2)).astype(np.float32),
        np.full(count, 3, np.float32),
        np.zeros(count, np.float32),
        rng.integers(0, 120, (count, 128), dtype=np.uint8),
        (640, 640),
    )


@pytest.mark.parametrize("seed", range(10))
def test_perfect_matches_at_random_places_are_never_a_motion(seed: int) -> None:
    """300 unique descriptor pairs whose places have nothing to do with one another."""
    rng = np.random.default_rng(seed)
    source = random_keypoints(rng, 300)
    places = rng.uniform(0, 640, (300, 2)).astype(np.float32)
    target = Keypoints(
        places, source.sizes_px, source.angles_deg, source.descriptors, source.image_size
    )
    assert len(match(source, target)) == 300
    assert_failed(
        register(source, target), "too_few_inliers", "chance_agreement", "implausible_motion"
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_motion_is_found_among_three_times_as_many_outliers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    source = random_keypoints(rng, 200)
    truth = similarity(30, 0.8, (640, 640), (640, 640))
    places = rng.uniform(0, 640, (200, 2)).astype(np.float32)
    places[:50] = transform(truth, source.points_xy[:50]) + rng.normal(0, 0.5, (50, 2))
    target = Keypoints(
        places, source.sizes_px, source.angles_deg, source.descriptors, source.image_size
    )
    found = register(source, target)
    assert found.ok, found.reason
    assert 50 <= found.inliers <= 55
    assert transfer_errors_px(found, truth, (640, 640), (640, 640)).max() < 2.5


# Two motions in one scene


def test_the_product_moves_on_its_own_and_its_keypoints_follow_it() -> None:
    """A product that lies elsewhere on the same table: all keypoints see one of both motions,
    the product's own keypoints see the product's."""
    table, product = photograph("coffee"), photograph("astronaut")[100:260, 150:350]

    def scene(x: int, y: int) -> tuple[np.ndarray, np.ndarray]:
        image, mask = table.copy(), np.zeros(table.shape[:2], np.bool_)
        image[y : y + 160, x : x + 200], mask[y : y + 160, x : x + 200] = product, True
        return image, mask

    (before, mask_before), (after, mask_after) = scene(80, 60), scene(330, 180)
    moved = np.array([[1, 0, 250], [0, 1, 120], [0, 0, 1.0]])
    everything = register(detect_keypoints(before), detect_keypoints(after))
    gaps = [np.abs(everything.matrix - motion).max() for motion in (np.eye(3), moved)]
    assert min(gaps) < 1.0
    assert everything.residual_px < 1.0  # one motion, not a compromise between two
    of_product = register(
        detect_keypoints(before, mask=mask_before), detect_keypoints(after, mask=mask_after)
    )
    assert of_product.motion == "similarity"
    np.testing.assert_allclose(of_product.matrix[:2, 2], [250, 120], atol=0.5)


# Determinism


def test_the_answer_is_the_same_every_time_and_from_eight_threads() -> None:
    image = photograph("astronaut")
    truth = np.array([[0.95, 0.1, 5], [-0.12, 1.02, 9], [2e-4, -1e-4, 1]])
    source, target = keypoints_of("astronaut"), detect_keypoints(warped(image, truth, (512, 512)))
    first = register(source, target)
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(register, source, target) for _ in range(40)]
        answers = [future.result() for future in futures]
    for answer in (*answers, register(source, target)):
        np.testing.assert_array_equal(answer.matrix, first.matrix)
        np.testing.assert_array_equal(answer.inlier_rows, first.inlier_rows)
        assert (answer.motion, answer.residual_px) == (first.motion, first.residual_px)


# Parts


def test_log10_nfa_equals_its_formula_by_hand() -> None:
    # 10 matches, 8 inliers, sample 2, radius 5 in 100 x 100: chance = 25 pi / 10000;
    # (10 - 2) * C(10, 8) * C(8, 2) * chance^6 = 8 * 45 * 28 * chance^6
    by_hand = math.log10(8 * 45 * 28 * (25 * math.pi / 10_000) ** 6)
    assert log10_nfa(10, 8, 2, 5.0, 10_000.0) == pytest.approx(by_hand, abs=1e-9)
    assert log10_nfa(10, 10, 2, 5.0, 10_000.0) < by_hand  # more agreement, less chance
    assert log10_nfa(100, 8, 2, 5.0, 10_000.0) > by_hand  # more trials, more chance
    assert log10_nfa(10, 8, 2, 1000.0, 100.0) > 0  # a disc larger than the picture proves nothing


@pytest.mark.parametrize(
    ("shift", "wanted"), [((0, 0), 1.0), ((300, 0), 0.5), ((0, 200), 0.5), ((150, 100), 0.5625)]
)
def test_overlap_is_the_share_of_the_source_that_the_target_sees(shift, wanted: float) -> None:
    moved = np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1.0]])
    target = detect_keypoints(warped(photograph("coffee"), moved, (400, 600)))
    found = register(keypoints_of("coffee"), target)
    assert found.overlap_fraction == pytest.approx(wanted, abs=0.01)


def test_overlap_is_relative_to_the_source_and_not_to_the_target() -> None:
    image = photograph("coffee")
    cut = detect_keypoints(np.ascontiguousarray(image[:, :300]))
    assert register(cut, keypoints_of("coffee")).overlap_fraction == pytest.approx(1, abs=0.01)
    assert register(keypoints_of("coffee"), cut).overlap_fraction == pytest.approx(0.5, abs=0.01)


def test_matches_are_mutual_nearest_neighbours_under_the_ratio_test() -> None:
    """Against a search by hand over all pairs of RootSIFT descriptors."""
    source = keypoints_of("coffee").take(np.arange(80))
    image = warped(photograph("coffee"), similarity(10, 1, (400, 600), (400, 600)), (400, 600))
    target = detect_keypoints(image, limit=90)
    roots = [
        np.sqrt(k.descriptors / k.descriptors.sum(axis=1, dtype=float, keepdims=True))
        for k in (source, target)
    ]
    distances = np.linalg.norm(roots[0][:, None] - roots[1][None], axis=2)
    wanted = set()
    for i in range(len(source)):
        j = int(distances[i].argmin())
        clear = distances[i, j] < 0.8 * np.partition(distances[i], 1)[1]
        clear &= distances[i, j] < 0.8 * np.partition(distances[:, j], 1)[1]
        if clear and distances[:, j].argmin() == i:
            wanted.add((i, j))
    found = {tuple(row) for row in match(source, target).tolist()}
    places = {
        (*np.rint(source.points_xy[i]).tolist(), *np.rint(target.points_xy[j]).tolist())
        for i, j in wanted
    }
    assert len(wanted) > 10
    assert found <= wanted
    assert len(found) == len(places)


def test_points_repeated_at_one_place_count_as_one_match() -> None:
    rng = np.random.default_rng(0)
    source = random_keypoints(rng, 30)
    source.points_xy[:20] = source.points_xy[0]  # twenty orientations of one point
    assert len(match(source, source)) == 11
    few = source.take(np.arange(26))  # 26 equal keypoints, 7 places
    assert_failed(register(few, few), "too_few_matches")


def test_transform_marks_points_at_infinity() -> None:
    horizon = np.array([[1, 0, 0], [0, 1, 0], [0.01, 0, 1.0]])
    moved = transform(horizon, np.array([[-100.0, 5.0], [0.0, 0.0]]))
    assert np.isnan(moved[0]).all()
    np.testing.assert_array_equal(moved[1], [0, 0])
