"""Small seeded galleries on the fake embedder. Fixtures that end in `_at` or `write_` are makers."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from embeddings import fake_embedder
from embeddings.images import Pixels
from gallery import BuildReport, EmbeddingDescriber, build, create_catalog, open_catalog, publish
from gallery.sources import read_source

SIZE_PX = 64
CONFIG = {"backbone": "fake", "size_px": SIZE_PX}


def _picture(seed: int, *, height: int = 48, width: int = 64) -> Pixels:
    """A coloured box with noise on a plain ground; every seed looks different."""
    rng = np.random.default_rng(seed)
    pixels = np.tile(rng.integers(0, 255, 3), (height, width, 1))
    top, left = rng.integers(4, height // 2), rng.integers(4, width // 2)
    pixels[top : top + height // 3, left : left + width // 3] = rng.integers(0, 255, 3)
    return np.clip(pixels + rng.integers(-25, 26, pixels.shape), 0, 255).astype(np.uint8)


def _encoded(pixels: Pixels, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format=kind)
    return file.getvalue()


def _write_pictures(
    folder: Path, *, products: int = 3, references: int = 2, seed: int = 0, suffix: str = ".png"
) -> Path:
    kind = "PNG" if suffix == ".png" else "JPEG"
    for number in range(products):
        home = folder / f"product-{number:02d}"
        home.mkdir(parents=True, exist_ok=True)
        for slot in range(references):
            data = _encoded(_picture(seed + 1000 * number + slot), kind)
            (home / f"{slot:02d}{suffix}").write_bytes(data)
    return folder


def _build_at(root: Path, *, threads: int = 2, **options: Any) -> BuildReport:
    catalog = open_catalog(root)
    options.setdefault("config", CONFIG)
    describer = options.pop("describer", None) or EmbeddingDescriber(
        catalog, fake_embedder(size_px=SIZE_PX), threads=threads
    )
    report = build(catalog, describer, **options)
    if report.passed and not report.unchanged:
        publish(root, report.build_id)
        report.published = True
    return report


@pytest.fixture
def make_picture() -> Callable[..., Pixels]:
    """(seed, *, height, width) -> (H, W, 3) uint8."""
    return _picture


@pytest.fixture
def make_png() -> Callable[..., bytes]:
    """(seed) -> the bytes of a PNG file."""
    return lambda seed, **size: _encoded(_picture(seed, **size))


@pytest.fixture
def write_pictures() -> Callable[..., Path]:
    """(folder, *, products, references, seed, suffix) -> folder, with a folder per product."""
    return _write_pictures


@pytest.fixture
def catalog_at() -> Callable[..., Path]:
    """(root, source) -> root, a new gallery whose catalog holds what is in `source`."""

    def make(root: Path, source: Path) -> Path:
        report = create_catalog(root).import_rows(read_source(source).rows)
        assert not report.problems
        return root

    return make


@pytest.fixture
def build_at() -> Callable[..., BuildReport]:
    """(root, *, threads, describer, **options of build) -> report; published if it passed."""
    return _build_at


@pytest.fixture
def make_gallery(tmp_path: Path, catalog_at: Callable[..., Path]) -> Callable[..., Path]:
    """(name, *, products, references, seed) -> root of a built and published gallery."""

    def make(name: str = "gallery", **pictures: Any) -> Path:
        source = _write_pictures(tmp_path / f"{name}-source", **pictures)
        root = catalog_at(tmp_path / name, source)
        assert _build_at(root).published
        return root

    return make


@pytest.fixture(scope="session")
def sound_gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published gallery of 4 products with 3 references each. Never write to it."""
    home = tmp_path_factory.mktemp("sound")
    source = _write_pictures(home / "source", products=4, references=3, seed=7)
    root = home / "gallery"
    create_catalog(root).import_rows(read_source(source).rows)
    assert _build_at(root).published
    return root


@pytest.fixture
def gallery_copy(sound_gallery: Path, tmp_path: Path) -> Path:
    """A copy of `sound_gallery` to be changed or damaged."""
    return Path(shutil.copytree(sound_gallery, tmp_path / "copy"))


@pytest.fixture
def flip() -> Callable[..., None]:
    """(path, position, mask=0x01): change one byte of a file in place, whatever its mode."""

    def change(path: Path, position: int, mask: int = 0x01) -> None:
        data = bytearray(path.read_bytes())
        data[position] ^= mask
        path.write_bytes(data)

    return change
