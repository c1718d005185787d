"""The committed gallery of format 1 must open for ever."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from gallery import Gallery, check, open_catalog

GALLERY_V1 = Path(__file__).parent / "data" / "gallery_v1"
PRODUCTS = ["razor-3", "milk/1 l/..", "gift 🎁 box"]
CONTENT = "fa41deea50766adb9bc3b1ce621f6043f5e6916dd3672cee804b15eeafb1573a"


@pytest.fixture
def gallery_v1(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GALLERY_V1, tmp_path / "gallery"))


def test_format_1_opens_with_its_products_and_content(gallery_v1: Path) -> None:
    with Gallery.open(gallery_v1) as gallery:
        assert list(gallery.product_ids()) == PRODUCTS
        assert gallery.manifest.content_digest == CONTENT
        assert gallery.manifest.format == 1


def test_format_1_records_decode_to_what_was_described(gallery_v1: Path) -> None:
    with Gallery.open(gallery_v1) as gallery:
        plain, masked = gallery.references("gift 🎁 box")
    assert plain.patches.dense().shape == (6, 8, 24)
    assert plain.patches.image_size == (48, 64)
    assert (masked.foreground.source, masked.foreground.confidence) == ("given", 1.0)
    # The mask's rectangle, at the working size of the picture (which is its own).
    expected = np.zeros((48, 64), bool)
    expected[8:40, 8:56] = True
    np.testing.assert_array_equal(masked.foreground.mask, expected)
    assert masked.view == "top"
    assert np.linalg.norm(plain.vector) == pytest.approx(1, abs=1e-6)


def test_format_1_is_searchable_and_sound(gallery_v1: Path) -> None:
    with Gallery.open(gallery_v1) as gallery:
        reference = gallery.references("razor-3")[1]
        found = gallery.index.search(reference.vector, count=1)
        assert gallery.product_id_of(int(found.keys[0])) == "razor-3"
    report = check(gallery_v1)
    assert report.sound
    assert report.pending == 0


def test_format_1_catalog_replays(gallery_v1: Path) -> None:
    rows = open_catalog(gallery_v1).rows()
    assert [row.product_id for row in rows] == [p for p in PRODUCTS for _ in range(2)]
