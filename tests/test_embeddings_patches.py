"""The dense grid and its coordinates, against per-pixel arithmetic written out here."""

from __future__ import annotations

import math

import numpy as np
import pytest

from embeddings.embedder import Embedder
from embeddings.fake import FakeBackbone, fake_embedder
from embeddings.patches import PatchGrid, PatchLayer


def soft_unit(cell: np.ndarray, floor: float) -> np.ndarray:
    return cell / math.sqrt(float((cell.astype(np.float64) ** 2).sum()) + floor**2)


def slow_dense(grid: PatchGrid) -> np.ndarray:
    """Bilinear by pixel centres, one output cell at a time; the border is replicated."""
    rows, columns = grid.shape
    parts = []
    for layer in grid.layers:
        factor = layer.stride_px / grid.layers[0].stride_px
        height, width, dims = layer.features.shape
        out = np.zeros((rows, columns, dims))
        for r in range(rows):
            for c in range(columns):
                y, x = (r + 0.5) / factor - 0.5, (c + 0.5) / factor - 0.5
                for v in (math.floor(y), math.floor(y) + 1):
                    for u in (math.floor(x), math.floor(x) + 1):
                        share = (1 - abs(y - v)) * (1 - abs(x - u))
                        v_in, u_in = min(max(v, 0), height - 1), min(max(u, 0), width - 1)
                        out[r, c] += share * soft_unit(layer.features[v_in, u_in], layer.floor)
        parts.append(out)
    return np.concatenate(parts, axis=2)


def random_grid(working: tuple[int, int], strides: tuple[int, ...], floor: float) -> PatchGrid:
    rng = np.random.default_rng(0)
    layers = tuple(
        PatchLayer(
            rng.normal(size=(-(-working[0] // s), -(-working[1] // s), 2 + i)).astype(np.float32),
            s,
            floor,
        )
        for i, s in enumerate(strides)
    )
    return PatchGrid(layers, working, working, (0.0, 0.0, working[1], working[0]))


@pytest.mark.parametrize("working", [(64, 64), (72, 40), (71, 41), (8, 8), (1, 1), (16, 200)])
@pytest.mark.parametrize("strides", [(8,), (8, 16), (8, 16, 32), (14,)])
def test_dense_equals_bilinear_interpolation_cell_by_cell(working, strides) -> None:
    grid = random_grid(working, strides, floor=0.7)
    np.testing.assert_allclose(grid.dense(), slow_dense(grid), atol=2e-6)
    assert grid.dense().dtype == np.float32


def test_dense_without_floor_has_unit_layers_and_survives_zeros() -> None:
    features = np.zeros((2, 2, 3), np.float32)
    features[0, 0] = [3, 0, 4]
    grid = PatchGrid((PatchLayer(features, 8, 0.0),), (16, 16), (16, 16), (0, 0, 16, 16))
    np.testing.assert_allclose(grid.dense()[0, 0], [0.6, 0, 0.8], rtol=1e-6)
    np.testing.assert_array_equal(grid.dense()[1, 1], [0, 0, 0])


def test_floor_keeps_blank_cells_short_and_strong_cells_near_unit() -> None:
    features = np.array([[[0.01, 0], [3, 4], [300, 400]]], np.float32)
    grid = PatchGrid((PatchLayer(features, 8, 5.0),), (8, 24), (8, 24), (0, 0, 24, 8))
    lengths = np.linalg.norm(grid.dense(), axis=2)[0]
    # |f| / sqrt(|f|^2 + 5^2)
    np.testing.assert_allclose(lengths, [0.002, math.sqrt(0.5), 0.99995], rtol=1e-4)


def test_dense_does_not_change_the_stored_layers() -> None:
    grid = random_grid((40, 40), (8, 16), 1.0)
    before = [layer.features.copy() for layer in grid.layers]
    grid.dense()[...] = 0
    for layer, kept in zip(grid.layers, before, strict=True):
        np.testing.assert_array_equal(layer.features, kept)


@pytest.mark.parametrize("image_size", [(448, 448), (900, 1350), (123, 77), (17, 300)])
def test_patch_centres_are_the_mean_of_the_pixels_they_cover(image_size) -> None:
    """Working pixel u covers [u, u+1); its place in the picture is that span, scaled."""
    size_px = 448
    image = np.zeros((*image_size, 3), np.uint8)
    grid = fake_embedder(size_px=size_px).embed([image])[0].patches
    height, width = grid.working_size
    centres = grid.centres_px()
    assert centres.dtype == np.float32
    assert centres.shape == (*grid.shape, 2)
    for r, c in [(0, 0), (grid.shape[0] - 1, grid.shape[1] - 1), (grid.shape[0] // 2, 0)]:
        x_edges = np.array([8 * c, 8 * (c + 1)]) * image_size[1] / width
        y_edges = np.array([8 * r, 8 * (r + 1)]) * image_size[0] / height
        wanted = [x_edges.mean() - 0.5, y_edges.mean() - 0.5]  # edges -> pixel-centre coordinate
        np.testing.assert_allclose(centres[r, c], wanted, atol=1e-3)


def test_centres_of_a_crop_lie_inside_the_crop() -> None:
    layer = PatchLayer(np.ones((2, 4, 1), np.float32), 8, 0.0)
    grid = PatchGrid((layer,), (500, 500), (16, 32), (100.0, 200.0, 164.0, 232.0))
    # The crop is 64 x 32 at working size 32 x 16: a patch covers 16 x 16 pixels of the picture.
    centres = grid.centres_px()
    np.testing.assert_allclose(centres[0, 0], [100 + 7.5, 200 + 7.5])
    np.testing.assert_allclose(centres[1, 3], [100 + 48 + 7.5, 200 + 16 + 7.5])


def test_a_bright_spot_shows_in_the_patch_whose_centre_is_nearest() -> None:
    image = np.zeros((300, 450, 3), np.uint8)
    spot = np.array([312, 95])  # x, y
    image[spot[1] - 3 : spot[1] + 4, spot[0] - 3 : spot[0] + 4] = 255
    grid = Embedder(FakeBackbone(), size_px=448).embed([image])[0].patches
    brightness = grid.layers[0].features[:, :, :3].sum(axis=2)
    found = np.unravel_index(brightness.argmax(), brightness.shape)
    distances = np.linalg.norm(grid.centres_px() - spot, axis=2)
    assert found == np.unravel_index(distances.argmin(), distances.shape)
