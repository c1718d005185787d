"""References brought to one orientation: where everything of them lies afterwards."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image
from printed_texture import texture

from anomaly.align import align
from anomaly.placed import product_cells
from anomaly.pose import (
    ArraysOf,
    full_size,
    pose,
    read_pose,
    stored_poses,
    to_picture,
    with_poses,
)
from anomaly.results import Channel
from anomaly.tolerance import own_maps
from anomaly.view import as_it_is
from embeddings import fake_embedder
from embeddings.registration import transform
from gallery import CatalogRow, Reference
from gallery.describe import describe, from_record, to_record
from gallery.errors import DamagedGallery
from gallery.records import Record, pack, unpack

EMBEDDER = fake_embedder(size_px=192)
SIZE = (240, 320)
CENTRE = (159.5, 119.5)
CORNERS = np.array([[90.0, 75], [229, 75], [229, 164], [90, 164]])  # of a product of usual width


def motion(turn: float, x: float = 0, y: float = 0) -> np.ndarray:
    """Of a product that lies in the middle: turned clockwise, as angles of points are; moved."""
    matrix = np.eye(3)
    matrix[:2] = cv2.getRotationMatrix2D(CENTRE, -turn, 1.0)
    matrix[:2, 2] += x, y
    return matrix


def picture(turn: float, x: float = 0, y: float = 0, *, seed: int = 1, wide: int = 140):
    """A flat printed product on a plain ground, and its mask."""
    both = np.full((*SIZE, 4), (210, 210, 210, 0), np.uint8)
    left = 160 - wide // 2
    both[75:165, left : left + wide, :3] = texture(seed, 90, wide)
    both[75:165, left : left + wide, 3] = 255
    moved = cv2.warpAffine(both, motion(turn, x, y)[:2], SIZE[::-1], borderValue=(210, 210, 210, 0))
    return moved[..., :3].copy(), moved[..., 3] > 127


class Shop:
    """Pictures and the references that were made of them."""

    def __init__(self, *pictures: tuple[np.ndarray, np.ndarray], known: bool = True) -> None:
        self.images = {f"r{n}": image for n, (image, _) in enumerate(pictures)}
        self.references = [
            self._reference(f"r{n}", image, mask if known else None)
            for n, (image, mask) in enumerate(pictures)
        ]

    @staticmethod
    def _reference(name: str, image: np.ndarray, mask: np.ndarray | None) -> Reference:
        described = describe(image, EMBEDDER, mask=mask)
        row = CatalogRow("p", 1, 0, name, None, None, "top", None, None, name)
        return from_record(to_record(row, described), described.vector)

    def png(self, name: str) -> bytes:
        file = io.BytesIO()
        Image.fromarray(self.images[name]).save(file, format="PNG")
        return file.getvalue()

    def posed(self) -> list[Reference]:
        with ThreadPoolExecutor(1) as pool:
            return pose(self.references, self.png, EMBEDDER, pool)


def turn_onto(one: Reference, other: Reference) -> float:
    (pairing,) = align(one.keypoints, [other], foreground=full_size(one)).pairings
    assert pairing.ok
    return pairing.turn_deg


def test_references_that_lie_otherwise_are_brought_to_the_one_that_fewest_must_be() -> None:
    turns = (50.0, 3.0, 0.0, -4.0, -90.0)
    shop = Shop(*(picture(turn, 3 * n, -2 * n) for n, turn in enumerate(turns)))
    posed = shop.posed()
    truth = transform(motion(0.0, 6, -4), CORNERS)
    for row, turn in enumerate(turns):
        before, after = shop.references[row], posed[row]
        if row in (1, 2, 3):
            assert after is before
            continue
        assert after.frame is not None
        there = transform(after.frame @ motion(turn, 3 * row, -2 * row), CORNERS)
        np.testing.assert_allclose(there, truth, atol=1.5)
        assert abs(turn_onto(posed[2], after)) < 1.5
        assert after.patches.shape == before.patches.shape
        np.testing.assert_array_equal(after.vector, before.vector)


def test_all_of_a_posed_reference_speaks_of_the_picture_that_was_moved() -> None:
    shop = Shop(picture(0, -8, 4), picture(50, 20, -10), picture(-3))
    first, turned, _ = shop.posed()
    assert turned.frame is not None
    # The product lies where it does in the first.
    truth = turned.frame @ motion(50, 20, -10)
    np.testing.assert_allclose(
        transform(truth, CORNERS), transform(motion(0, -8, 4), CORNERS), atol=1.5
    )
    cells = [product_cells(r.foreground.mask, r.patches.shape) for r in (first, turned)]
    assert (cells[0] & cells[1]).sum() > 0.9 * (cells[0] | cells[1]).sum()
    assert turned.thumbnail is not None
    assert first.thumbnail is not None
    assert turned.thumbnail.shape == first.thumbnail.shape
    small = np.abs(turned.thumbnail.astype(int) - first.thumbnail.astype(int))
    assert np.median(small) < 6
    there = transform(turned.frame, shop.references[1].keypoints.points_xy)
    np.testing.assert_allclose(turned.keypoints.points_xy, there, atol=1e-3)
    assert abs(turn_onto(first, turned)) < 1.5
    near, far = (r.patches.dense() - first.patches.dense() for r in (turned, shop.references[1]))
    off = [np.linalg.norm(gaps[cells[0] & cells[1]], axis=1).mean() for gaps in (near, far)]
    assert off[0] < 0.5 * off[1]


def test_motions_of_a_posed_reference_are_told_of_its_picture_as_given() -> None:
    shop = Shop(picture(0), picture(50, 20, -10), picture(-3))
    first, turned, _ = shop.posed()
    query = Shop(picture(10, -5, 5)).references[0]
    (pairing,) = align(query.keypoints, [turned], foreground=full_size(query)).pairings
    assert pairing.registration.matrix is not None
    found = to_picture(turned, pairing.registration.matrix)
    corners = transform(motion(50, 20, -10), CORNERS)
    truth = motion(10, -5, 5) @ np.linalg.inv(motion(50, 20, -10))
    np.testing.assert_allclose(transform(found, corners), transform(truth, corners), atol=1.5)
    np.testing.assert_array_equal(to_picture(first, found), found)
    np.testing.assert_array_equal(to_picture(None, found), found)


def test_maps_of_a_picture_as_given_lie_on_the_grid_of_the_posed_reference() -> None:
    shop = Shop(picture(0), picture(50, 20, -10), picture(-3))
    turned = shop.posed()[1]
    assert turned.frame is not None
    (embedding,) = EMBEDDER.embed([shop.images["r1"]])
    view = as_it_is(embedding)
    spot = transform(motion(50, 20, -10), np.array([[110.0, 95.0]]))  # off the product's middle
    cells = np.stack(np.meshgrid(*map(np.arange, view.patches.shape[::-1])), axis=2)
    far = np.linalg.norm(cells - view.patches.cells_of(spot), axis=2)
    marked = Channel("product", np.exp(-((far / 2) ** 2)).astype(np.float32), 1.0, 1.0)
    found = own_maps([marked], view, turned)["product"].values()
    row, column = np.unravel_index(np.nanargmax(found), found.shape)
    wanted = turned.patches.cells_of(transform(turned.frame, spot))
    np.testing.assert_allclose([[column, row]], wanted, atol=1.0)


def test_references_are_posed_at_one_scale_whatever_the_size_of_their_pictures() -> None:
    image, mask = picture(40)
    large = cv2.resize(image, None, fx=2, fy=2), np.repeat(np.repeat(mask, 2, 0), 2, 1)
    shop = Shop(picture(0), large, picture(-2))
    first, turned, _ = shop.posed()
    assert turned.patches.image_size == SIZE
    areas = [r.foreground.mask.sum() for r in (first, turned)]
    assert areas[1] == pytest.approx(areas[0], rel=0.03)
    assert np.median(turned.keypoints.sizes_px) == pytest.approx(
        np.median(shop.references[1].keypoints.sizes_px) / 2, rel=0.02
    )


def test_references_that_lie_alike_or_register_with_none_are_left_alone() -> None:
    alike = Shop(picture(0), picture(2, 10, 10))
    assert all(a is b for a, b in zip(alike.posed(), alike.references, strict=True))
    one = Shop(picture(0))
    assert one.posed() == one.references
    strangers = Shop(*(picture(0, seed=seed) for seed in range(3)))
    assert all(a is b for a, b in zip(strangers.posed(), strangers.references, strict=True))
    assert stored_poses(strangers.references) == ({}, {})


def test_faces_are_posed_each_for_itself_and_strangers_left_alone() -> None:
    turns = ((0.0, 1), (40.0, 2), (30.0, 1), (-30.0, 2), (15.0, 3))
    shop = Shop(*(picture(turn, seed=seed) for turn, seed in turns))
    posed = shop.posed()
    turned = [r.frame is not None for r in posed]
    assert (turned[0] + turned[2], turned[1] + turned[3], turned[4]) == (1, 1, False)
    for one, other in ((0, 2), (1, 3)):
        assert abs(turn_onto(posed[one], posed[other])) < 1.5


def test_a_product_that_is_a_guess_is_not_turned() -> None:
    shop = Shop(picture(0), picture(50))
    unsure = [replace(r, foreground=replace(r.foreground, confidence=0.3)) for r in shop.references]
    with ThreadPoolExecutor(1) as pool:
        found = pose(unsure, shop.png, EMBEDDER, pool)
    assert all(a is b for a, b in zip(found, unsure, strict=True))


def test_poses_come_back_from_a_record_alone_or_all() -> None:
    shop = Shop(picture(0), picture(50), picture(-40))
    posed = shop.posed()
    assert posed[0] is shop.references[0]
    meta, arrays = stored_poses(posed)
    assert set(meta) == {"r1", "r2"}
    data = pack(Record("profile", {"poses": meta}, {**arrays, "r0/novel": np.zeros(3)}))
    whole = with_poses(shop.references, unpack(data, where="here"))
    assert whole[0] is shop.references[0]
    part = unpack(data, where="here", only=ArraysOf(frozenset({"r2"})))
    assert {name.split("/")[1] for name in part.arrays} == {"r2"}
    one = read_pose(part, "r2", shop.references[2].vector)
    assert one is not None
    for found in (one, whole[2]):
        np.testing.assert_array_equal(found.frame, posed[2].frame)
        np.testing.assert_array_equal(found.keypoints.points_xy, posed[2].keypoints.points_xy)
        assert found.view == "top"
        gaps = np.abs(found.patches.dense() - posed[2].patches.dense())
        assert gaps.max() < 0.05  # the codec's
    assert read_pose(part, "r0", one.vector) is None
    assert set(unpack(data, where="here", only=ArraysOf()).arrays) == {"r0/novel"}
    with pytest.raises(DamagedGallery, match="layer0"):
        read_pose(part, "r1", one.vector)
    for spoiled in ({}, {"frame": [1], "meta": {}}, {"frame": np.eye(3).tolist()}):
        with pytest.raises(DamagedGallery):
            read_pose(Record("profile", {"poses": {"r1": spoiled}}, {}), "r1", one.vector)
