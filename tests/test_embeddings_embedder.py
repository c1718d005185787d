"""One contract for every embedder, the fake included."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from skimage import data

from embeddings.backbones import Features
from embeddings.embedder import Embedder, Embedding, open_embedder
from embeddings.errors import BackboneError
from embeddings.fake import FakeBackbone, fake_embedder
from embeddings.foreground import Foreground, given_foreground
from embeddings.images import Pixels

SIZE_PX = 128
KINDS = ["fake", "fake-in-batches", "efficientnet_lite0", "test_vit", "test_efficientnet"]


@contextmanager
def intra_op_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _one_intra_op_thread() -> Iterator[None]:
    """Tiny passes gain nothing from a second thread, and lose much on a busy machine."""
    with intra_op_threads(1):
        yield


class BatchedFake(FakeBackbone):
    """The fake as a GPU would run it: sixteen pictures to a pass."""

    device_class = "cuda"

    def __init__(self) -> None:
        self.batches: list[int] = []

    def extract(self, batch: Pixels) -> Features:
        self.batches.append(len(batch))
        return super().extract(batch)


@pytest.fixture(scope="module", params=KINDS)
def embedder(request, tmp_path_factory) -> Embedder:
    kind = request.param
    if kind == "fake":
        return fake_embedder(size_px=SIZE_PX)
    if kind == "fake-in-batches":
        return Embedder(BatchedFake(), size_px=SIZE_PX)
    if kind.startswith("test_"):
        path = tmp_path_factory.mktemp("weights") / "model.safetensors"
        with torch.random.fork_rng():
            torch.manual_seed(0)
            save_file(timm.create_model(kind, pretrained=False).state_dict(), path)
        kind = f"{kind}@{path}"
    return open_embedder(kind, size_px=SIZE_PX, device="cpu")


def pictures() -> list[Pixels]:
    """Sizes that repeat and sizes that don't, so that batches mix them."""
    photographs = [data.astronaut(), data.coffee(), data.chelsea()]
    crops = [np.ascontiguousarray(p[40:200, 60:260]) for p in photographs]
    return [photographs[1], crops[0], crops[1], photographs[0], crops[2], photographs[2]]


def assert_equal(one: Embedding, other: Embedding) -> None:
    np.testing.assert_array_equal(one.vector, other.vector)
    assert one.patches.working_size == other.patches.working_size
    assert one.patches.image_size == other.patches.image_size
    for mine, theirs in zip(one.patches.layers, other.patches.layers, strict=True):
        np.testing.assert_array_equal(mine.features, theirs.features)


def assert_well_formed(found: Embedding, image: Pixels, embedder: Embedder) -> None:
    assert found.vector.shape == (embedder.dims,)
    assert found.vector.dtype == np.float32
    assert np.linalg.norm(found.vector) == pytest.approx(1, abs=1e-5)
    grid, (height, width) = found.patches, found.patches.working_size
    assert grid.image_size == image.shape[:2]
    assert grid.box_px == (0, 0, image.shape[1], image.shape[0])
    assert max(height, width) == embedder.size_px
    for layer in grid.layers:
        wanted = (-(-height // layer.stride_px), -(-width // layer.stride_px))
        assert layer.features.shape[:2] == wanted
        assert layer.features.dtype == np.float32
        assert np.isfinite(layer.features).all()
    dense = grid.dense()
    assert dense.shape == (*grid.shape, sum(y.features.shape[2] for y in grid.layers))
    assert np.isfinite(dense).all()


def test_shapes_types_and_unit_vectors(embedder: Embedder) -> None:
    images = pictures()
    found = embedder.embed(images)
    assert len(found) == len(images)
    for embedding, image in zip(found, images, strict=True):
        assert_well_formed(embedding, image, embedder)


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 2), (17, 3000), (3000, 17), (31, 33), (127, 129), (3, 500)]
)
def test_odd_sizes_are_embedded(embedder: Embedder, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert_well_formed(embedder.embed([image])[0], image, embedder)


@pytest.mark.parametrize("level", [0, 127, 255])
def test_blank_pictures_are_embedded(embedder: Embedder, level: int) -> None:
    image = np.full((60, 90, 3), level, np.uint8)
    assert_well_formed(embedder.embed([image])[0], image, embedder)


def test_a_grey_photograph_is_embedded(embedder: Embedder) -> None:
    image = np.dstack([data.camera()] * 3)
    assert_well_formed(embedder.embed([image])[0], image, embedder)


def test_no_pictures_give_no_embeddings(embedder: Embedder) -> None:
    assert embedder.embed([]) == []
    assert embedder.embed([], foregrounds=[]) == []


def test_a_pictures_result_depends_neither_on_order_nor_on_companions(embedder: Embedder) -> None:
    images = pictures()
    with embedder.repeatable():
        together = embedder.embed(images)
        backwards = embedder.embed(images[::-1])[::-1]
        alone = [embedder.embed([image])[0] for image in images]
        crowded = embedder.embed([images[1]] * 17 + images)[17:]
    for one, *others in zip(together, backwards, alone, crowded, strict=True):
        for other in others:
            assert_equal(one, other)


def test_different_pictures_have_different_vectors(embedder: Embedder) -> None:
    vectors = np.stack([e.vector for e in embedder.embed(pictures())])
    likeness = vectors @ vectors.T - 2 * np.eye(len(vectors))
    assert likeness.max() < 1 - 1e-5


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_repeatable_results_are_equal_whatever_the_number_of_threads(embedder, threads) -> None:
    images = pictures() * 2
    with embedder.repeatable():
        wanted = [embedder.embed([image])[0] for image in images]
    with embedder.repeatable(), ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(lambda image: embedder.embed([image])[0], images))
    for one, other in zip(wanted, found, strict=True):
        assert_equal(one, other)


def test_the_pictures_are_not_changed(embedder: Embedder) -> None:
    images = pictures()
    embedder.embed(images)
    for image, original in zip(images, pictures(), strict=True):
        np.testing.assert_array_equal(image, original)


def test_results_do_not_share_memory(embedder: Embedder) -> None:
    image = pictures()[0]
    one, other = embedder.embed([image, image])
    kept = other.patches.layers[0].features.copy()
    one.patches.layers[0].features[...] = 0
    np.testing.assert_array_equal(other.patches.layers[0].features, kept)


def half_astronaut_half_coffee() -> tuple[Pixels, np.ndarray]:
    left, right = data.astronaut()[:300, 100:300], data.coffee()[50:350, 100:300]
    mask = np.zeros((300, 400), np.bool_)
    mask[:, :200] = True
    return np.ascontiguousarray(np.hstack([left, right])), mask


def test_the_vector_moves_towards_the_product_that_the_foreground_marks(embedder) -> None:
    scene, mask = half_astronaut_half_coffee()
    left, right = (np.ascontiguousarray(half) for half in (scene[:, :200], scene[:, 200:]))
    everywhere = given_foreground(np.ones((300, 200), np.bool_))
    of_left, of_right = (
        e.vector for e in embedder.embed([left, right], foregrounds=[everywhere] * 2)
    )
    marked_left, marked_right = embedder.embed(
        [scene, scene], foregrounds=[given_foreground(mask), given_foreground(~mask)]
    )
    # One comparison of both: in a transformer each half also sees the other.
    assert (marked_left.vector - marked_right.vector) @ (of_left - of_right) > 0
    # The foreground weighs the vector; the patches are the picture's, all of them.
    for a, b in zip(marked_left.patches.layers, marked_right.patches.layers, strict=True):
        np.testing.assert_allclose(a.features, b.features, rtol=1e-3, atol=1e-4)


def test_confidence_mixes_the_foreground_with_the_central_window(embedder: Embedder) -> None:
    scene, mask = half_astronaut_half_coffee()
    grounds = [None, *(Foreground(mask, c, "estimated") for c in (0.0, 0.5, 1.0))]
    none, guess, half, sure = (e.vector for e in embedder.embed([scene] * 4, foregrounds=grounds))
    np.testing.assert_allclose(guess, none, atol=1e-5)
    assert none @ sure < half @ sure < 1
    assert none @ half > none @ sure


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_wrong_number_of_foregrounds_is_refused(embedder: Embedder, count: int) -> None:
    with pytest.raises(BackboneError, match=f"2 images but {count} foregrounds"):
        embedder.embed(pictures()[:2], foregrounds=[None] * count)


@pytest.mark.parametrize("size_px", [-1, 0, 31, 4097])
def test_sizes_out_of_range_are_refused(size_px: int) -> None:
    with pytest.raises(BackboneError, match=f"size {size_px} px; expected 32 to 4096"):
        fake_embedder(size_px=size_px)


@pytest.mark.parametrize("size_px", [32, 4096])
def test_the_limits_themselves_are_allowed(size_px: int) -> None:
    image = np.zeros((2, 64, 3), np.uint8)
    assert fake_embedder(size_px=size_px).embed([image])[0].patches.working_size[1] == size_px


def test_batches_are_always_full_and_equal_single_passes() -> None:
    backbone = BatchedFake()
    images = [np.ascontiguousarray(data.astronaut()[i : i + 200, i : i + 200]) for i in range(37)]
    images.insert(5, data.coffee())
    together = Embedder(backbone, size_px=SIZE_PX).embed(images)
    assert backbone.batches == [16, 16, 16, 16]  # 37 of one shape in three, 1 of another
    singly = fake_embedder(size_px=SIZE_PX).embed(images)
    for one, other in zip(together, singly, strict=True):
        assert_equal(one, other)


def test_padding_repeats_the_border_and_its_cells_are_cut() -> None:
    """A picture whose right edge is flat must not see a black or wrapped border."""
    image = np.full((40, 128, 3), 200, np.uint8)
    image[:, :64] = 20
    grid = fake_embedder(size_px=128).embed([image])[0].patches
    fine = grid.layers[0].features  # means first, then spreads
    assert fine.shape[:2] == (5, 16)
    coarse = grid.layers[1].features
    assert coarse.shape[:2] == (3, 8)
    np.testing.assert_allclose(coarse[2, 7, :3], fine[4, 15, :3], atol=1e-5)
    np.testing.assert_allclose(coarse[..., 3:6], 0, atol=1e-4)
