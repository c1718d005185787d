"""Sharpness from local features alone: it falls with blur, and not with pose or light."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from anomaly.sharpness import STEP, SharpnessStep, read_sharpness, sharpness_of
from anomaly.suspects import BLUR
from embeddings import fake_embedder
from embeddings.keypoints import empty_keypoints
from gallery import CatalogRow, Reference
from gallery.describe import describe, from_record, to_record
from gallery.errors import DamagedGallery
from gallery.records import Record, pack, unpack

EMBEDDER = fake_embedder(size_px=96)


def product() -> np.ndarray:
    """A printed product on a plain ground, noise of a sensor and all."""
    rng = np.random.default_rng(3)
    image = np.full((240, 320, 3), 205, np.float32)
    for _ in range(160):
        corner = rng.integers((70, 50), (230, 170))
        size, colour = rng.integers(4, 22, 2), rng.integers(10, 190, 3)
        cv2.rectangle(image, corner.tolist(), (corner + size).tolist(), colour.tolist(), -1)
    return np.clip(image + rng.normal(0, 1.5, image.shape), 0, 255).astype(np.uint8)


def turned(image: np.ndarray) -> np.ndarray:
    matrix = cv2.getRotationMatrix2D((159.5, 119.5), 25, 0.85)
    return cv2.warpAffine(image, matrix, (320, 240), borderValue=(205,) * 3)


def reference(image: np.ndarray) -> Reference:
    found = describe(image, EMBEDDER)
    row = CatalogRow("p", 1, 0, "x", None, None, None, None, None, "x")
    return from_record(to_record(row, found), found.vector)


@pytest.mark.parametrize("sigma", [2.5, 4.0])
def test_a_picture_out_of_focus_is_far_less_sharp_than_its_siblings(sigma: float) -> None:
    sharp, soft = product(), cv2.GaussianBlur(product(), (0, 0), sigma)
    assert sharpness_of(reference(soft)) < BLUR * sharpness_of(reference(sharp))


@pytest.mark.parametrize(
    "change",
    [turned, lambda i: (i * 0.8).astype(np.uint8), lambda i: cv2.GaussianBlur(i, (0, 0), 0.6)],
    ids=["turned", "darker", "slightly soft"],
)
def test_pose_light_and_a_little_softness_are_no_blur(change) -> None:
    share = sharpness_of(reference(change(product()))) / sharpness_of(reference(product()))
    assert BLUR * 1.2 < share < 1.4


def test_a_picture_without_features_has_no_sharpness() -> None:
    plain = reference(np.full((60, 80, 3), 128, np.uint8))
    assert sharpness_of(replace(plain, keypoints=empty_keypoints((60, 80)))) == 0


def test_the_step_stores_one_figure_for_each_reference_in_order() -> None:
    step = SharpnessStep()
    pair = [reference(product()), reference(cv2.GaussianBlur(product(), (0, 0), 3))]
    record = unpack(pack(step(pair)), where="here")
    assert (step.name, record.kind) == (STEP, STEP)
    stored = read_sharpness(record, count=2)
    np.testing.assert_allclose(stored, [sharpness_of(one) for one in pair], rtol=1e-4)
    with pytest.raises(DamagedGallery, match="3"):
        read_sharpness(record, count=3)


@pytest.mark.parametrize("meta", [{}, {"sharpness": None}, {"sharpness": ["x"]}])
def test_a_record_that_holds_no_sharpness_is_damage(meta) -> None:
    with pytest.raises(DamagedGallery):
        read_sharpness(Record(STEP, meta, {}), count=1)
