"""Groups of vectors that may be designs, and copies of one photograph."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from anomaly import duplicates
from anomaly.duplicates import SAME, copy_motion, difference, find_copies
from anomaly.groups import apartness, candidate_groups
from embeddings import fake_embedder
from embeddings.images import read_image
from gallery import CatalogRow, Reference
from gallery.describe import describe, from_record, to_record

EMBEDDER = fake_embedder(size_px=96)


def fan(*degrees: float) -> np.ndarray:
    rows = [(math.cos(math.radians(d)), math.sin(math.radians(d))) for d in degrees]
    return np.asarray(rows, np.float32)


def test_two_that_keep_together_away_from_the_rest_are_a_group() -> None:
    vectors = fan(0, 60, 2, 61, 4)
    assert candidate_groups(vectors) == [(1, 3)]
    assert apartness(1 - vectors @ vectors.T, (1, 3)) > 50


@pytest.mark.parametrize("degrees", [(0, 1, 2, 3, 40), (0, 30), (0, 30, 60), (5,)])
def test_a_single_odd_one_and_too_few_are_no_group(degrees: tuple[float, ...]) -> None:
    assert candidate_groups(fan(*degrees)) == []


def test_of_two_halves_the_one_that_came_later_is_proposed_first() -> None:
    assert candidate_groups(fan(0, 50, 1, 51)) == [(1, 3), (0, 2)]


def test_evenly_spread_vectors_make_no_group_far_apart() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(8, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert candidate_groups(vectors) == []


def print_of(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    image = np.full((180, 240, 3), 210, np.float32)
    for cell in (6, 13, 30):
        noise = rng.normal(size=(180 // cell + 2, 240 // cell + 2, 3)).astype(np.float32)
        image += 22 * cv2.resize(noise, (240, 180), interpolation=cv2.INTER_CUBIC)
    return np.clip(image - 60, 0, 255).astype(np.uint8)


def reference(image: np.ndarray) -> Reference:
    found = describe(image, EMBEDDER)
    row = CatalogRow("p", 1, 0, "x", None, None, None, None, None, "x")
    return from_record(to_record(row, found), found.vector)


def encoded(image: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=60)
    return read_image(file.getvalue())


def turned(image: np.ndarray) -> np.ndarray:
    matrix = cv2.getRotationMatrix2D((119.5, 89.5), 5, 1.0)
    return cv2.warpAffine(image, matrix, (240, 180), borderMode=cv2.BORDER_REFLECT)


COPIES = {
    "encoded": encoded,
    "smaller": lambda i: cv2.resize(i, (168, 126), interpolation=cv2.INTER_AREA),
    "cut": lambda i: np.ascontiguousarray(i[6:, :-8]),
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_is_found_whichever_way_round(how: str) -> None:
    image = print_of(1)
    copy = COPIES[how](image)
    for one, other in ((image, copy), (copy, image)):
        motion = copy_motion(reference(one), reference(other))
        assert motion is not None
        assert difference(one, other, motion) <= SAME


def test_a_turned_photograph_and_another_print_are_no_copies() -> None:
    image = print_of(1)
    assert copy_motion(reference(image), reference(turned(image))) is None
    assert copy_motion(reference(image), reference(print_of(2))) is None


@pytest.mark.parametrize(("shift", "copy"), [((0, 0), True), ((6, -4), False), ((0, 5), False)])
def test_a_product_that_was_moved_was_photographed_anew(shift, copy: bool) -> None:
    """In the same light on plain ground, nothing else tells."""
    pictures = []
    for seed, (x, y) in enumerate(((0, 0), shift)):
        image = np.full((180, 240, 3), 210, np.float32)
        image[40 + y : 140 + y, 60 + x : 180 + x] = print_of(1)[40:140, 60:180]
        image += np.random.default_rng(seed).normal(0, 1, image.shape)
        pictures.append(np.clip(image, 0, 255).astype(np.uint8))
    one, other = pictures
    assert (copy_motion(reference(one), reference(other)) is not None) == copy
    assert (
        difference(one, other, np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1.0]])) < SAME
    )


def test_the_same_pose_in_other_light_or_with_a_stain_is_no_copy() -> None:
    image = print_of(1)
    darker = (image * 0.9).astype(np.uint8)
    stained = image.copy()
    cv2.circle(stained, (120, 90), 22, (60, 30, 20), -1)
    for other in (darker, stained):
        assert difference(image, other, np.eye(3)) > SAME


def test_half_of_a_picture_is_no_copy_of_the_whole() -> None:
    image = print_of(1)
    shift = np.array([[1.0, 0, -120], [0, 1, 0], [0, 0, 1]])
    half = np.ascontiguousarray(image[:, 120:])
    assert difference(image, half, shift) == math.inf
    assert difference(half, image, np.linalg.inv(shift)) == math.inf


def test_only_pairs_that_are_near_are_looked_at_each_once(monkeypatch) -> None:
    looked: list[tuple[str, ...]] = []
    monkeypatch.setattr(
        duplicates, "copy_motion",
        lambda *pair: looked.append(tuple(sorted(r.reference_id for r in pair))),
    )  # fmt: skip
    one = reference(print_of(1))
    for degrees, wanted in (((0, 10, 40, 45), [("0", "1"), ("2", "3")]), ((0,), [])):
        looked.clear()
        rows = [
            replace(one, reference_id=str(row), vector=vector)
            for row, vector in enumerate(fan(*degrees))
        ]
        assert find_copies(rows, lambda name: b"") == {}
        assert sorted(looked) == wanted
