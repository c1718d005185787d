"""Close-ups: which part of a picture they show, and that they come back from records."""

from __future__ import annotations

import numpy as np
import pytest

from embeddings import fake_embedder
from embeddings.foreground import Foreground
from embeddings.registration import transform
from gallery import CatalogRow
from gallery.closeup import CLOSE_UP_PX, close_up
from gallery.describe import describe, from_record, to_record
from gallery.errors import DamagedGallery
from gallery.records import Record


def scene(size: tuple[int, int], box: tuple[int, int, int, int]) -> tuple[np.ndarray, Foreground]:
    """A picture whose red and green tell column and row, and a product in it."""
    height, width = size
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 255, width)[None]
    image[..., 1] = np.linspace(0, 255, height)[:, None]
    mask = np.zeros(size, np.bool_)
    x0, y0, x1, y1 = box
    mask[y0:y1, x0:x1] = True
    return image, Foreground(mask, 1.0, "given")


def test_it_shows_the_product_and_a_margin_pixel_for_pixel() -> None:
    image, ground = scene((600, 800), (300, 200, 500, 300))
    found = close_up(image, ground, embedded_px=448)
    assert found is not None
    assert found.box_px == (288, 188, 512, 312)
    assert found.picture.shape == (124, 224, 3)
    gaps = np.abs(found.picture.astype(int) - image[188:312, 288:512])
    assert gaps.mean() < 2  # a JPEG
    np.testing.assert_allclose(transform(found.to_close(), np.array([[288.0, 188.0]])), [[0, 0]])


def test_a_large_product_is_brought_to_the_limit() -> None:
    image, ground = scene((3000, 4000), (1000, 500, 2500, 1500))
    found = close_up(image, ground, embedded_px=448)
    assert found is not None
    assert max(found.picture.shape) == CLOSE_UP_PX
    corner = np.array([[found.box_px[2] - 0.5, found.box_px[3] - 0.5]])
    height, width = found.picture.shape[:2]
    np.testing.assert_allclose(transform(found.to_close(), corner), [[width - 0.5, height - 0.5]])


@pytest.mark.parametrize(
    ("box", "confidence"), [((10, 10, 790, 590), 1.0), ((300, 200, 500, 300), 0.2)]
)
def test_none_where_it_says_no_more(box: tuple[int, int, int, int], confidence: float) -> None:
    """The product fills the picture, or is a guess."""
    image, ground = scene((600, 800), box)
    guessed = Foreground(ground.mask, confidence, "estimated")
    assert close_up(image, guessed, embedded_px=448) is None


def test_none_for_an_empty_mask_or_a_small_picture() -> None:
    image, ground = scene((600, 800), (0, 0, 0, 0))
    assert close_up(image, ground, embedded_px=448) is None
    image, ground = scene((200, 300), (100, 50, 200, 150))
    assert close_up(image, ground, embedded_px=448) is None


def test_a_record_keeps_it_and_an_older_one_has_none() -> None:
    image, ground = scene((600, 800), (300, 200, 500, 300))
    described = describe(image, fake_embedder(size_px=192), mask=ground.mask)
    row = CatalogRow("p", 1, 0, "r0", None, None, None, None, None, "r0")
    record = to_record(row, described)
    found = from_record(record, described.vector).close_up
    assert found is not None
    assert described.close_up is not None
    assert found.box_px == described.close_up.box_px
    np.testing.assert_array_equal(found.coded, described.close_up.coded)
    arrays = {name: value for name, value in record.arrays.items() if name != "close_up"}
    assert from_record(Record("reference", record.meta, arrays), described.vector).close_up is None


def test_one_without_a_place_is_damage() -> None:
    image, ground = scene((600, 800), (300, 200, 500, 300))
    described = describe(image, fake_embedder(size_px=192), mask=ground.mask)
    row = CatalogRow("p", 1, 0, "r0", None, None, None, None, None, "r0")
    record = to_record(row, described)
    meta = {name: value for name, value in record.meta.items() if name != "close_up_box"}
    with pytest.raises(DamagedGallery, match="close_up_box"):
        from_record(Record("reference", meta, record.arrays), described.vector)
