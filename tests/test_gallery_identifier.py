"""Identification with local features, its p-values, and "none of these"."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embeddings import fake_embedder
from embeddings.agreement import agreeing
from embeddings.errors import FingerprintMismatch
from embeddings.exposure import Exposure
from embeddings.foreground import Foreground
from embeddings.keypoints import Keypoints
from embeddings.patches import PatchGrid, PatchLayer
from embeddings.unlikeness import cells_of, unlikeness
from gallery import CatalogRow, Described, Gallery, GalleryError, identify, open_catalog
from gallery.describe import Description, to_record
from gallery.identify import KNOWN_LEVEL, Identifier, Look, _spread

DIMS, PRODUCTS = 16, 24
PRINT = 60  # local features of a product


def print_of(product: int, *, seed: int = 0) -> Keypoints:
    """What is printed on a product, seen with small errors; a number from 1000 on: a stranger's."""
    draw, shake = np.random.default_rng(product), np.random.default_rng([product, seed])
    places = draw.random((PRINT, 2)) * [400, 300] + shake.normal(0, 3, (PRINT, 2))
    sizes, angles = draw.uniform(4, 9, PRINT), draw.uniform(0, 360, PRINT)
    words = draw.integers(0, 256, (PRINT, 128)) + shake.integers(-9, 10, (PRINT, 128))
    return Keypoints(
        places.astype(np.float32), sizes.astype(np.float32), angles.astype(np.float32),
        np.clip(words, 0, 255).astype(np.uint8), (300, 400),
    )  # fmt: skip


def look_of(product: int, *, spread: float, seed: int = 0) -> np.ndarray[Any, Any]:
    """A vector `spread` off the product's own, which lies among those of a family of four."""
    family = np.random.default_rng([7, product // 4]).normal(size=DIMS)
    own = family + 0.3 * np.random.default_rng([8, product]).normal(size=DIMS)
    vector = own + spread * np.random.default_rng([9, product, seed]).normal(size=DIMS)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def patches_of(product: int, *, seed: int = 0) -> PatchGrid:
    """What a product is made of, 16 patches, seen with small errors."""
    own = np.random.default_rng([5, product]).normal(size=(4, 4, 12))
    shake = np.random.default_rng([6, product, seed]).normal(size=own.shape)
    layer = PatchLayer((own + 0.3 * shake).astype(np.float32), 8, 1.0)
    return PatchGrid((layer,), (300, 400), (32, 32), (0, 0, 400, 300))


EVERYWHERE = np.ones((30, 40), np.bool_)


def seen(product: int, *, spread: float, seed: int = 99) -> Look:
    return Look(
        look_of(product, spread=spread, seed=seed),
        lambda: print_of(product, seed=seed),
        lambda: cells_of(patches_of(product, seed=seed), EVERYWHERE),
    )


class Printed:
    """Describes references by product and slot, their pictures unseen. Final."""

    dims = DIMS
    fingerprint = fake_embedder().fingerprint(codec="printed")

    def describe(self, rows: list[CatalogRow]) -> Iterator[Described]:
        for row in rows:
            number = int(row.product_id[-2:])
            found = Description(
                look_of(number, spread=0.3, seed=row.slot),
                patches_of(number, seed=row.slot),
                print_of(number, seed=row.slot),
                Foreground(EVERYWHERE, 1.0, "given"),
                Exposure(0.0, np.zeros((4, 4), np.bool_)),
            )
            yield Described(to_record(row, found), found.vector)


Opener = Callable[[int], Gallery]


@pytest.fixture
def printed(tmp_path: Path, write_pictures, catalog_at, build_at) -> Iterator[Opener]:
    """Opens a gallery of so many printed products, two references each."""
    opened: list[Gallery] = []

    def make(products: int) -> Gallery:
        source = write_pictures(tmp_path / f"source-{products}", products=products, references=2)
        root = catalog_at(tmp_path / f"printed-{products}", source)
        assert open_catalog(root)
        assert build_at(root, describer=Printed()).published
        opened.append(Gallery.open(root))
        return opened[-1]

    yield make
    for gallery in opened:
        gallery.close()


def ask(identifier: Identifier, product: int, *, spread: float, seed: int = 99, top: int = 5):
    look = seen(product, spread=spread, seed=seed)
    return identifier.identify(look, fingerprint=Printed.fingerprint, top=top)


def test_print_decides_where_looks_deceive(printed: Opener) -> None:
    identifier, by_looks = Identifier(printed(PRODUCTS)), 0
    for product in range(PRODUCTS):
        name = f"product-{product:02d}"
        vector = look_of(product, spread=0.5, seed=99)
        plain = identify(identifier.gallery, vector, fingerprint=Printed.fingerprint)
        by_looks += plain.candidates[0].product_id == name
        found = ask(identifier, product, spread=0.5)
        first = found.candidates[0]
        assert first.product_id == name
        assert found.known is True
        if found.verified:
            (row,) = [r for r in identifier.gallery.stored(name).references
                      if r.reference_id == first.reference_id]  # fmt: skip
            stored = identifier.gallery.keypoints(name, row)
            assert first.agreeing == agreeing(stored, print_of(product, seed=99)) > PRINT // 2
            cells = cells_of(patches_of(product, seed=99), EVERYWHERE)
            unlike = unlikeness(identifier.gallery.cells(name, row), cells)
            assert first.unlike == pytest.approx(unlike)
            assert first.score == pytest.approx(first.distance / (1 + first.agreeing / 4) * unlike)
    assert by_looks < PRODUCTS


def test_scores_rise_and_p_values_with_them(printed: Opener) -> None:
    identifier = Identifier(printed(PRODUCTS))
    found = ask(identifier, 5, spread=0.6, top=9)
    assert len(found.candidates) == 9
    scores = [c.score for c in found.candidates]
    values = [c.p_value for c in found.candidates if c.p_value is not None]
    assert (scores, values) == (sorted(scores), sorted(values))
    null = identifier.null().scores
    assert found.verified
    for c in found.candidates:
        expected = (1 + sum(float(s) <= c.score for s in null)) / (len(null) + 1)
        assert c.p_value == pytest.approx(expected)


def test_patches_decide_where_vectors_and_print_can_not(printed: Opener) -> None:
    """Products without print, whose vectors say only which family they are of."""
    identifier, first = Identifier(printed(PRODUCTS)), 0
    none = print_of(0).take(np.zeros(0, np.intp))
    for product in range(PRODUCTS):
        family = look_of(product // 4 * 4 + (product + 1) % 4, spread=0.6, seed=7)
        look = Look(family, lambda: none, seen(product, spread=0).cells)
        found = identifier.rank(look, fingerprint=Printed.fingerprint, top=24)
        first += found[0].product_id == f"product-{product:02d}"
        assert [one.unlike is None for one in found] == [False] * 5 + [True] * 19
        assert [one.score for one in found] == sorted(one.score for one in found)
    assert first > 0.8 * PRODUCTS


def test_strangers_are_none_of_these(printed: Opener) -> None:
    """And as rarely taken for one of these as the level says, within what chance allows."""
    identifier = Identifier(printed(PRODUCTS))
    found = [ask(identifier, 1000 + n, spread=0.3) for n in range(60)]
    taken = sum(f.known is not False for f in found)
    assert taken <= 60 * KNOWN_LEVEL + 6
    assert all(f.candidates for f in found)


def test_the_null_is_what_references_score_among_other_products(printed: Opener) -> None:
    """The oracle: a gallery without the product, asked for each of its references."""
    gallery = printed(3)
    null = Identifier(gallery).null().scores
    expected = []
    for product in range(3):
        name = f"product-{product:02d}"
        for slot, row in enumerate(gallery.stored(name).references):
            others = [other for other in gallery.product_ids() if other != name]
            points = print_of(product, seed=slot)
            likeliest = [min(
                ((1 - float(gallery.index.centred(gallery.shard_of(o).vector(r)[None])[0]
                            @ gallery.index.centred(gallery.shard_of(name).vector(row)[None])[0]))
                 / (1 + agreeing(gallery.keypoints(o, r), points) / 4), o, r)
                for r in gallery.stored(o).references
            ) for o in others]  # fmt: skip
            cells = gallery.cells(name, row)
            expected.append(min(
                score * unlikeness(gallery.cells(o, r), cells) for score, o, r in likeliest
            ))  # fmt: skip
    assert null.tolist() == pytest.approx(sorted(expected), abs=1e-5)


def test_a_clear_nearest_product_is_not_verified(printed: Opener) -> None:
    def never() -> Any:
        raise AssertionError("more than the vector was asked for")

    gallery = printed(PRODUCTS)
    vector = gallery.vectors("product-03")[0]
    look = Look(vector, never, never)
    found = Identifier(gallery).identify(look, fingerprint=Printed.fingerprint)
    assert (found.verified, found.known) == (False, True)
    assert found.candidates[0].product_id == "product-03"
    assert found.candidates[0].agreeing is None


@pytest.mark.parametrize(("products", "p_value"), [(1, None), (3, 1 / 7)])
def test_a_small_gallery_does_not_say_what_it_cannot_tell(
    printed: Opener, products: int, p_value: float | None
) -> None:
    found = ask(Identifier(printed(products)), 0, spread=0.3)
    assert found.known is None
    assert found.candidates[0].product_id == "product-00"
    assert found.candidates[0].p_value == pytest.approx(p_value)


def test_what_can_not_be_answered_is_refused(printed: Opener) -> None:
    identifier = Identifier(printed(1))
    with pytest.raises(GalleryError, match="at least 1"):
        ask(identifier, 0, spread=0.1, top=0)
    elsewhere = fake_embedder().fingerprint(codec="other")
    with pytest.raises(FingerprintMismatch):
        identifier.identify(seen(0, spread=0.1), fingerprint=elsewhere)


@pytest.mark.parametrize("products", [1, 98, 99, 100, 150, 197, 250, 1000])
def test_impostors_come_from_the_whole_gallery(products: int) -> None:
    names = [f"{number:04d}" for number in range(products)]
    drawn = [int(name) for name in _spread(names, 99)]
    assert len(set(drawn)) == min(products, 99)
    assert (drawn[0], drawn[-1]) == (0, products - 1)
    assert max(np.diff(drawn, prepend=-1)) <= products / 99 + 2
