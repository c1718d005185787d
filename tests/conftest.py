"""Small seeded pictures and galleries on the fake embedder; most fixtures are makers of them."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from delta_shop import Shop
from PIL import Image

from embeddings import fake_embedder
from embeddings.images import Pixels
from gallery import (
    BuildReport,
    CatalogRow,
    Described,
    EmbeddingDescriber,
    Gallery,
    SourceRow,
    build,
    create_catalog,
    open_catalog,
    plan,
    publish,
)
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


class _Counting:
    """A describer that counts, and can be told to fail or to spoil a vector. Final."""

    def __init__(self, root: Path, *, stop_after: int | None = None, spoil: float = 1.0) -> None:
        self._inner = EmbeddingDescriber(open_catalog(root), fake_embedder(size_px=64), threads=2)
        self.fingerprint, self.dims = self._inner.fingerprint, self._inner.dims
        self._stop_after, self._spoil = stop_after, spoil
        self.described: list[str] = []

    def describe(self, rows: Sequence[CatalogRow]) -> Iterator[Described]:
        for row, found in zip(rows, self._inner.describe(rows), strict=True):
            if self._stop_after is not None and len(self.described) >= self._stop_after:
                raise RuntimeError("power cut")
            self.described.append(row.reference_id)
            yield Described(found.record, found.vector * np.float32(self._spoil))


def _snapshot(root: Path) -> dict[str, Any]:
    """What every reference of the published build says, by product and reference ID."""
    with Gallery.open(root) as gallery:
        return {
            f"{r.product_id} {r.reference_id}": (
                r.vector.tobytes(), *(layer.features.tobytes() for layer in r.patches.layers)
            )
            for name in gallery.product_ids()
            for r in gallery.references(name)
        }  # fmt: skip


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


@pytest.fixture
def eight(tmp_path: Path, catalog_at: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A catalog of 8 products with 2 references each, not built; it plans several shards."""
    monkeypatch.setattr(plan, "PRODUCTS_PER_SHARD", 2)
    return catalog_at(tmp_path / "gallery", _write_pictures(tmp_path / "source", products=8))


@pytest.fixture
def counting() -> type[_Counting]:
    """(root, *, stop_after, spoil) -> a describer that counts."""
    return _Counting


@pytest.fixture
def snapshot() -> Callable[[Path], dict[str, Any]]:
    """(root) -> what every reference of the published build says."""
    return _snapshot


@pytest.fixture
def row(tmp_path: Path, make_png):
    """(product_id, seed, **fields) -> a source row with a picture of that seed."""

    def make(product_id: str, seed: int, **fields: Any) -> SourceRow:
        path = tmp_path / "pictures" / f"{seed}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(make_png(seed))
        return SourceRow(product_id, path, where=f"{product_id}:{seed}", **fields)

    return make


@pytest.fixture
def make_shop(tmp_path: Path, catalog_at: Any, write_pictures: Any, make_png: Any) -> Any:
    """(products) -> a published gallery of that many products with 3 references each."""

    def make(products: int = 6) -> Shop:
        source = write_pictures(tmp_path / "source", products=products, references=3)
        shop = Shop(catalog_at(tmp_path / "gallery", source), make_png)
        shop.rebuild()
        return shop

    return make


@pytest.fixture
def queries() -> np.ndarray[Any, Any]:
    """(5, D) unit vectors of pictures, of which some are references."""
    embedder = fake_embedder(size_px=64)
    return np.stack([embedder.embed([_picture(s)])[0].vector for s in (0, 1, 2001, 9001, 9002)])


SHOP = ("s0-carton-0", "s0-razor-set", "s0-wreck-carton")


@pytest.fixture(scope="session")
def shoot() -> Callable[..., Any]:
    """(product ID of the studio's seed 0, take, **options of render) -> a photograph of it."""
    from anomaly.studio import draw_shot, make_products, render

    products = {product.product_id: product for product in make_products(seed=0)}

    def photograph(product_id: str, take: int, **options: Any) -> Any:
        number = sorted(products).index(product_id)
        shot = draw_shot(np.random.default_rng([7, number, take]))
        return render(products[product_id], shot=shot, seed=take, **options)

    return photograph


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory, shoot: Callable[..., Any]) -> Path:
    """A gallery of three rendered products, 4 references each, real backbone. Never write to it."""
    from anomaly import build_gallery

    home = tmp_path_factory.mktemp("shop")
    for product in SHOP:
        folder = home / "references" / product
        folder.mkdir(parents=True)
        for slot in range(4):
            (folder / f"{slot}.png").write_bytes(_encoded(shoot(product, 100 + slot).image))
    built = build_gallery(home / "references", home / "gallery")
    assert built.built.published
    return home / "gallery"


@pytest.fixture
def shop_copy(shop: Path, tmp_path: Path) -> Path:
    """A copy of `shop` to be changed."""
    return Path(shutil.copytree(shop, tmp_path / "shop"))
