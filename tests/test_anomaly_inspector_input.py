"""What people pass to an inspector: pictures that are none, one for many, IDs that are none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anomaly import Inspector
from anomaly.errors import ArgumentError
from anomaly.results import Inspection, Unreadable
from anomaly.studio import Photograph
from embeddings import ImageError
from gallery import Gallery
from gallery.errors import SourceError

CARTON = "s0-carton-0"
Shoot = Callable[..., Photograph]


@pytest.fixture(scope="module")
def inspector(shop: Path) -> Iterator[Inspector]:
    with Inspector.open(shop) as opened:
        yield opened


def test_a_loop_over_results_needs_no_case_for_unreadable_pictures(
    inspector: Inspector, shoot: Shoot, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"not a picture")
    pictures = [shoot(CARTON, 1).image, broken]
    many = list(inspector.inspect_many(pictures, product_id=CARTON))
    views = inspector.inspect_views(pictures, product_id=CARTON)
    for good, bad in (many, views.views):
        assert [good.verdict, bad.verdict] == ["ok", "unreadable"]
        assert isinstance(bad, Unreadable)
        assert (bad.reason.code, bad.reason.text) == (bad.code, bad.message)
    assert views.verdict == "cannot_compare"


@pytest.mark.parametrize("kind", ["text", "path", "bytes", "array", "grey", "pil"])
def test_one_picture_is_not_read_as_many(
    inspector: Inspector, shoot: Shoot, tmp_path: Path, kind: str
) -> None:
    pixels = shoot(CARTON, 1).image
    path = tmp_path / "query.png"
    opened = Image.fromarray(pixels)
    opened.save(path)
    one: Any = {
        "text": str(path), "path": path, "bytes": path.read_bytes(), "array": pixels,
        "grey": pixels[:, :, 0], "pil": opened,
    }[kind]  # fmt: skip
    for ask in (inspector.inspect_views, inspector.inspect_many):
        with pytest.raises(ArgumentError, match="one picture by itself; give a list"):
            ask(one, product_id=CARTON)
    stacked = np.stack([pixels, pixels])
    assert [type(r) for r in inspector.inspect_many(stacked)] == [Inspection, Inspection]


@pytest.mark.parametrize("wrong", [5, ["s0-carton-0"], b"s0-carton-0"])
def test_an_id_that_is_no_text_is_refused(
    inspector: Inspector, shoot: Shoot, shop: Path, wrong: Any
) -> None:
    pixels = shoot(CARTON, 1).image
    for ask in (
        lambda: inspector.inspect(pixels, product_id=wrong),
        lambda: inspector.inspect_views([pixels], product_id=wrong),
        lambda: inspector.inspect_many([pixels], product_id=wrong),
    ):
        with pytest.raises(ArgumentError, match=rf"of type {type(wrong).__name__}; give the ID"):
            ask()
    with Gallery.open(shop) as gallery, pytest.raises(SourceError, match="give one product's ID"):
        gallery.shard_of(wrong)


@pytest.mark.parametrize("wrong", [None, 5, 0.5, {"image": "a.jpg"}])
def test_what_is_no_picture_is_refused_with_what_is_one(inspector: Inspector, wrong: Any) -> None:
    said = rf"{type(wrong).__name__}: no picture; give a path, bytes, an ndarray or a PIL image"
    with pytest.raises(ImageError, match=said):
        inspector.inspect(wrong)
    (found,) = inspector.inspect_many([wrong])
    assert isinstance(found, Unreadable)
    assert (found.image, found.code) == (type(wrong).__name__, "unsupported_image")
