"""Keypoints: repeatable, precise, on the product, well spread."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from skimage import data

from embeddings.keypoints import Keypoints, detect_keypoints, empty_keypoints

FIELDS = ("points_xy", "sizes_px", "angles_deg", "descriptors")


def assert_same(one: Keypoints, other: Keypoints) -> None:
    assert one.image_size == other.image_size
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


def test_the_same_picture_gives_the_same_keypoints_from_any_thread() -> None:
    image = data.astronaut()
    first = detect_keypoints(image)
    with ThreadPoolExecutor(4) as pool:
        for other in pool.map(detect_keypoints, [image] * 8):
            assert_same(first, other)


@pytest.mark.parametrize(
    "image",
    [data.astronaut(), np.full((90, 120, 3), 200, np.uint8), np.zeros((1, 1, 3), np.uint8)],
    ids=["photograph", "blank", "one-pixel"],
)
def test_types_are_the_same_with_and_without_keypoints(image) -> None:
    found = detect_keypoints(image)
    assert found.points_xy.dtype == np.float32
    assert found.points_xy.shape == (len(found), 2)
    assert found.sizes_px.dtype == found.angles_deg.dtype == np.float32
    assert found.sizes_px.shape == found.angles_deg.shape == (len(found),)
    assert found.descriptors.dtype == np.uint8
    assert found.descriptors.shape == (len(found), 128)
    assert found.image_size == image.shape[:2]


def test_a_blank_picture_has_no_keypoints() -> None:
    assert_same(detect_keypoints(np.full((90, 120, 3), 7, np.uint8)), empty_keypoints((90, 120)))


def test_coordinates_keep_subpixel_precision_in_large_pictures() -> None:
    """float16 would step by 2 px beyond 2048: that is a registration error of its own."""
    image = cv2.resize(data.astronaut(), (4000, 4000), interpolation=cv2.INTER_CUBIC)
    far = detect_keypoints(image).points_xy.max(axis=1) > 2048
    assert far.sum() > 50
    points = detect_keypoints(image).points_xy[far]
    assert np.abs(points - points.astype(np.float16).astype(np.float32)).max() > 0.5


@pytest.mark.parametrize("factor", [2, 3])
def test_an_enlarged_picture_has_its_keypoints_at_scaled_pixel_centres(factor: int) -> None:
    """Both are searched at 640 px, where they are equal: the same points at scaled places."""
    image = cv2.resize(data.coffee(), (640, 426), interpolation=cv2.INTER_AREA)
    enlarged = np.repeat(np.repeat(image, factor, axis=0), factor, axis=1)
    small, large = (detect_keypoints(i, limit=10_000) for i in (image, enlarged))
    small, large = (k.take(np.lexsort((k.angles_deg, *k.points_xy.T))) for k in (small, large))
    assert len(small) > 500
    np.testing.assert_array_equal(small.descriptors, large.descriptors)
    np.testing.assert_allclose(large.points_xy, (small.points_xy + 0.5) * factor - 0.5, atol=1e-3)
    np.testing.assert_allclose(large.sizes_px, small.sizes_px * factor, rtol=1e-5)


@pytest.mark.parametrize("sigma", [3, 5, 8])
def test_a_blob_is_found_at_its_centre(sigma: int) -> None:
    y, x = np.mgrid[:201, :301]
    blob = 40 + 180 * np.exp(-((x - 220) ** 2 + (y - 70) ** 2) / (2 * sigma**2))
    points = detect_keypoints(np.dstack([blob.round().astype(np.uint8)] * 3)).points_xy
    assert np.linalg.norm(points - [220, 70], axis=1).min() < 0.6


def test_coordinates_have_no_bias_that_a_half_turn_would_reveal() -> None:
    """OpenCV's SIFT shifts points by 0.25 px unless asked for precise upscaling (opencv #23123):
    after a half turn that becomes 0.7 px of misregistration."""
    image = data.astronaut()
    turned = detect_keypoints(np.ascontiguousarray(image[::-1, ::-1]), limit=10_000)
    upright = detect_keypoints(image, limit=10_000)
    back = np.float32([511, 511]) - turned.points_xy
    gaps = upright.points_xy[:, None] - back[None]
    nearest = np.linalg.norm(gaps, axis=2).argmin(axis=1)
    steps = gaps[np.arange(len(upright)), nearest]
    bias = np.median(steps[np.linalg.norm(steps, axis=1) < 2], axis=0)
    assert np.abs(bias).max() < 0.1


def test_only_points_on_the_mask_are_returned() -> None:
    image = data.astronaut()
    mask = np.zeros(image.shape[:2], np.bool_)
    mask[100:300, 50:200] = True
    on_mask, anywhere = detect_keypoints(image, mask=mask), detect_keypoints(image)
    x, y = np.rint(on_mask.points_xy).astype(int).T
    assert len(on_mask) > 50
    assert mask[y, x].all()
    # The limit is spent on the product, not on points that are thrown away afterwards.
    x, y = np.rint(anywhere.points_xy).astype(int).T
    assert len(on_mask) > mask[y, x].sum()


def test_a_mask_without_texture_gives_empty_keypoints() -> None:
    image = np.full((200, 300, 3), 90, np.uint8)
    image[:, :150] = np.random.default_rng(0).integers(0, 256, (200, 150, 3), dtype=np.uint8)
    mask = np.zeros((200, 300), np.bool_)
    mask[80:120, 240:280] = True
    assert_same(detect_keypoints(image, mask=mask), empty_keypoints((200, 300)))


@pytest.mark.parametrize("limit", [1, 64, 300])
def test_fewer_keypoints_are_a_prefix_of_more(limit: int) -> None:
    image = data.astronaut()
    many = detect_keypoints(image, limit=500)
    assert len(many) == 500
    assert_same(detect_keypoints(image, limit=limit), many.take(np.arange(limit)))


def test_keypoints_spread_over_the_picture_and_not_over_its_busiest_corner() -> None:
    rng = np.random.default_rng(2)
    grain = cv2.GaussianBlur(rng.normal(size=(512, 512)), (0, 0), 2)
    contrast = np.full((512, 512), 25.0)
    contrast[:128, :128] = 80
    pixels = (128 + contrast * grain / grain.std()).clip(0, 255).astype(np.uint8)
    points = detect_keypoints(np.dstack([pixels] * 3), limit=64).points_xy
    assert (points < 128).all(axis=1).mean() <= 0.25
    assert len({tuple(cell) for cell in (points // 64).astype(int).tolist()}) >= 40


def test_within_one_part_of_the_picture_the_strongest_come_first() -> None:
    image = np.full((512, 512, 3), 100, np.uint8)
    cv2.circle(image, (18, 18), 5, (130, 130, 130), -1)
    cv2.circle(image, (46, 46), 5, (250, 250, 250), -1)
    points = detect_keypoints(cv2.GaussianBlur(image, (0, 0), 1.5)).points_xy
    assert (np.linalg.norm(points - [18, 18], axis=1) < 3).any()
    assert np.linalg.norm(points[0] - [46, 46]) < 3


def test_a_preferred_region_gets_half_of_the_places_and_no_more() -> None:
    """A small product among clutter keeps enough points to be registered by."""
    clutter = np.random.default_rng(5).integers(0, 256, (60, 60, 3)).astype(np.uint8)
    image = np.kron(clutter, np.ones((8, 8, 1), np.uint8))
    prefer = np.zeros(image.shape[:2], bool)
    prefer[40:160, 40:160] = True

    def share(points: Keypoints) -> float:
        x, y = np.rint(points.points_xy).astype(int).T
        return float(prefer[y, x].mean())

    plain = detect_keypoints(image, limit=100)
    chosen = detect_keypoints(image, limit=100, prefer=prefer)
    assert len(plain) == len(chosen) == 100
    assert share(plain) < 0.2
    assert 0.5 <= share(chosen) < 0.7
    wide = np.zeros_like(prefer)
    wide[20:460, 20:460] = True  # too large to be searched apart: the same points, in another order
    everything = detect_keypoints(image, limit=10_000)
    reordered = detect_keypoints(image, limit=10_000, prefer=wide)
    assert sorted(map(tuple, everything.points_xy)) == sorted(map(tuple, reordered.points_xy))


def test_a_small_product_is_searched_in_its_own_resolution() -> None:
    rng = np.random.default_rng(6)
    image = np.full((1200, 1600, 3), 120, np.uint8)
    prefer = np.zeros(image.shape[:2], bool)
    prefer[500:700, 900:1200] = True
    fine = np.kron(rng.integers(0, 256, (50, 75, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    image[500:700, 900:1200] = cv2.GaussianBlur(fine, (0, 0), 1.0)
    coarse, close = detect_keypoints(image), detect_keypoints(image, prefer=prefer)
    assert len(close) > 0
    assert np.median(close.sizes_px) < 0.75 * np.median(coarse.sizes_px)
    x, y = np.rint(close.points_xy).astype(int).T
    assert prefer[y, x].sum() >= 250
    assert close.image_size == (1200, 1600)


def test_no_feature_of_a_small_product_is_there_twice() -> None:
    """It would be its own rival in the ratio test."""
    image = np.full((480, 640, 3), 200, np.uint8)
    spots = np.random.default_rng(7).integers(0, 200, (12, 18, 3)).astype(np.uint8)
    image[160:256, 200:344] = cv2.resize(spots, (144, 96), interpolation=cv2.INTER_CUBIC)
    prefer = np.zeros(image.shape[:2], bool)
    prefer[160:256, 200:344] = True
    found = detect_keypoints(image, prefer=prefer)
    rows = np.flatnonzero(prefer[tuple(np.rint(found.points_xy[:, ::-1]).astype(int).T)])
    on = found.take(rows)
    assert len(on) > 20
    near = np.linalg.norm(on.points_xy[:, None] - on.points_xy, axis=2) < 1
    same = np.abs(on.angles_deg[:, None] - on.angles_deg) < 8
    size = np.abs(np.log(on.sizes_px[:, None] / on.sizes_px)) < 0.3
    np.testing.assert_array_equal(near & same & size, np.eye(len(on), dtype=bool))
