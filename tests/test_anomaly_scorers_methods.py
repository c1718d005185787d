"""Each method against cases small enough to work out by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping

import cv2
import numpy as np
import pytest

from anomaly.scorers import AnomalyDino, Embed, PatchCore, Rad, ScorerOption, open_scorer
from anomaly.scorers.anomalydino import rotated
from anomaly.scorers.floors import FloorModel, difference, ssim, unlike_structure
from anomaly.scorers.heat import over_picture
from anomaly.scorers.matching import nearest_distances, unit, upsampled
from anomaly.scorers.patchcore import features, greedy_coreset, weight, with_zeros_beyond
from anomaly.scorers.pictures import squared
from anomaly.scorers.rad import best_cosine
from embeddings import Embedding, PatchGrid, PatchLayer, fake_embedder
from embeddings.images import Pixels
from embeddings.patches import Floats


def grid(features: Floats, *, floor: float = 0.0) -> PatchGrid:
    """One layer of stride 8, (H, W, D), of a picture that it covers exactly."""
    features = np.asarray(features, np.float32)
    size = (8 * features.shape[0], 8 * features.shape[1])
    layer = PatchLayer(features, 8, floor)
    return PatchGrid((layer,), size, size, (0.0, 0.0, float(size[1]), float(size[0])))


def flat(shade: int) -> Pixels:
    return np.full((8, 8, 3), shade, np.uint8)


def told(features: Mapping[int, Floats], vectors: Mapping[int, Floats] | None = None) -> Embed:
    """An embedder that knows flat pictures by their shade, however they are turned."""

    def embed(picture: Pixels) -> Embedding:
        shade = int(picture[0, 0, 0])
        vector = vectors[shade] if vectors else np.ones(1, np.float32)
        return Embedding(np.asarray(vector, np.float32), grid(features[shade]))

    return embed


# Matching


def test_nearest_is_brute_force_over_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anomaly.scorers.matching._BLOCK", 7)
    rng = np.random.default_rng(0)
    some, bank = rng.normal(size=(2, 40, 6)).astype(np.float32)
    wanted = np.linalg.norm(some[:, None] - bank[None], axis=2).min(axis=1)
    assert np.allclose(nearest_distances(some, bank), wanted, atol=1e-4)


def test_layers_come_to_the_finest_grid_with_their_magnitudes() -> None:
    fine = np.arange(8, dtype=np.float32).reshape(2, 4, 1)
    coarse = np.array([[[10.0], [30.0]]], np.float32)
    layers = (PatchLayer(fine, 8, 5.0), PatchLayer(coarse, 16, 5.0))
    patches = PatchGrid(layers, (16, 32), (16, 32), (0.0, 0.0, 32.0, 16.0))
    first, second = upsampled(patches)
    assert (first == fine).all()
    assert np.allclose(second[:, :, 0], [[10, 15, 25, 30]] * 2)  # bilinear by cell centres
    found = features(patches)
    assert np.allclose(found[:, :, 0], fine[:, :, 0] * 2 / 3 * np.array([2 / 3, 1, 1, 2 / 3]))
    assert np.allclose(found[:, :, 1], second[:, :, 0] / 3 * 2 / 3)


def test_unit_keeps_zeros() -> None:
    assert np.allclose(unit(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)), [[0.6, 0.8], [0, 0]])


# PatchCore


def test_averages_count_zeros_beyond_the_border() -> None:
    cells = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    kernel = np.ones((3, 3), np.float32)
    sums, counts = (
        cv2.filter2D(c, -1, kernel, borderType=cv2.BORDER_CONSTANT)
        for c in (cells, np.ones_like(cells))
    )
    found = with_zeros_beyond((sums / counts)[:, :, None])
    assert np.allclose(found[:, :, 0], sums / 9, atol=1e-6)


def inner(row: Floats) -> Floats:
    """A row of cells (W, D) as a grid whose border cells PatchCore will scale back to `row`."""
    one_row = np.asarray(row, np.float32)[None]
    return one_row / with_zeros_beyond(np.ones_like(one_row))


def test_patchcore_is_the_largest_distance_to_the_bank() -> None:
    known = {1: [[0, 0], [3, 0]], 2: [[0, 6], [3, 6]], 9: [[0, 1], [3, 3], [7, 9]]}
    embed = told({shade: inner(np.array(row)) for shade, row in known.items()})
    model = PatchCore(embed, neighbours=1).fit([flat(1), flat(2)], seed=0)
    found = model.score(flat(9))
    assert found.heat is not None
    assert np.allclose(found.heat, [[1, 3, 5]], atol=1e-4)  # 1; 3 to both; (7, 9) to (3, 6)
    assert found.score == pytest.approx(5, abs=1e-4)


def test_patchcores_weight_by_hand() -> None:
    bank = np.array([[0.0], [1.0], [10.0]], np.float32)
    patch = np.array([-2.0], np.float32)  # 2 from m* = 0, 3 from its first neighbour
    wanted = 1 - math.exp(2) / (math.exp(2) + math.exp(3))
    assert weight(patch, bank, neighbours=2) == pytest.approx(wanted)
    wanted = 1 - math.exp(2) / (math.exp(2) + math.exp(3) + math.exp(12))
    assert weight(patch, bank, neighbours=9) == pytest.approx(wanted)
    assert weight(patch, bank, neighbours=1) == 1.0
    assert weight(patch, bank[:1], neighbours=9) == 1.0
    far = np.array([-2000.0], np.float32)
    assert weight(far, bank, neighbours=2) == pytest.approx(1 - 1 / (1 + math.e), rel=1e-5)
    twins = np.zeros((4, 1), np.float32)
    assert weight(patch, twins, neighbours=4) == pytest.approx(3 / 4)


def test_patchcores_score_is_weighted() -> None:
    embed = told({1: inner(np.array([[0.0], [1.0]])), 9: inner(np.array([[-2.0], [0.5]]))})
    found = PatchCore(embed, neighbours=9).fit([flat(1)], seed=0).score(flat(9))
    assert found.score == pytest.approx(2 * (1 - 1 / (1 + math.e)), rel=1e-4)


def test_the_coreset_takes_the_farthest_each_time() -> None:
    bank = np.array([[0.0], [1.0], [2.0], [10.0], [4.5]], np.float32)

    class First:
        def integers(self, high: int) -> int:
            return 0

    assert greedy_coreset(bank, 4, rng=First()) == [0, 3, 4, 2]  # type: ignore[arg-type]
    assert sorted(greedy_coreset(bank, 99, rng=np.random.default_rng(0))) == [0, 1, 2, 3, 4]


def test_a_coreset_is_drawn_by_seed_and_covers_the_bank() -> None:
    rng = np.random.default_rng(1)
    references = [rng.integers(0, 255, (64, 64, 3), dtype=np.uint8) for _ in range(2)]
    embedder = fake_embedder(size_px=64)
    scorer = PatchCore(lambda p: embedder.embed([p])[0], coreset_share=0.25)
    banks = [scorer.fit(references, seed=seed).bank for seed in (0, 0, 3)]
    assert len(banks[0]) == 32
    assert (banks[0] == banks[1]).all()
    assert (banks[0] != banks[2]).any()
    whole = PatchCore(scorer.embed).fit(references, seed=0).bank
    apart = np.linalg.norm(banks[0][:, None] - banks[0][None], axis=2) + 1e9 * np.eye(32)
    assert nearest_distances(whole, banks[0]).max() <= apart.min() + 1e-3  # k-centre's promise


def test_a_square_has_area_means_where_it_shrinks() -> None:
    stripes = np.zeros((4, 8, 3), np.uint8)
    stripes[:, ::2] = 200
    found = squared(stripes, 4)
    assert found.shape == (4, 4, 3)
    assert (found == 100).all()
    assert squared(stripes, 6).shape == (6, 6, 3)


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5])
def test_options_out_of_range_are_refused(share: float) -> None:
    embed = told({})
    with pytest.raises(ScorerOption, match="at most 1"):
        PatchCore(embed, coreset_share=share)
    with pytest.raises(ScorerOption, match="neighbours 0"):
        PatchCore(embed, neighbours=0)
    with pytest.raises(ScorerOption, match="radius -1"):
        Rad(embed, radius=-1)
    with pytest.raises(ScorerOption, match="rotations 0"):
        AnomalyDino(embed, rotations=0)


# AnomalyDINO


def test_anomalydino_is_the_mean_of_the_top_cosine_distances() -> None:
    query = np.tile(np.array([5.0, 0.0]), (10, 30, 1))
    query[0, 0] = (0.0, 2.0)  # 1 - cos 90 degrees
    query[0, 1] = (3.0, 3.0)  # 1 - cos 45
    query[0, 2] = (-1.0, 0.0)  # 1 - cos 180; nearer is 90 degrees: (0, -1)
    embed = told({1: np.array([[[1.0, 0.0], [0.0, -7.0]]]), 9: query})
    found = AnomalyDino(embed).fit([flat(1)], seed=0).score(flat(9))
    wanted = (1 + (1 - math.sqrt(0.5)) + 1) / 3  # 1 % of 300 patches
    assert found.score == pytest.approx(wanted, abs=1e-5)
    assert found.heat is not None
    assert np.allclose(found.heat[0, :4], [1, 1 - math.sqrt(0.5), 1, 0], atol=1e-5)


def test_anomalydino_knows_turned_references() -> None:
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
    picture = cv2.resize(blocks, (64, 64), interpolation=cv2.INTER_NEAREST)
    embedder = fake_embedder(size_px=64)

    def embed(p: Pixels) -> Embedding:
        return embedder.embed([p])[0]

    quarter = np.ascontiguousarray(np.rot90(picture))
    assert (rotated(picture, 90) == quarter).all()
    assert (rotated(picture, 180) == picture[::-1, ::-1]).all()
    knows, upright = (
        AnomalyDino(embed, rotations=n).fit([picture], seed=0).score(quarter).score for n in (8, 1)
    )
    assert knows == pytest.approx(0, abs=1e-5)
    assert upright > 0.05


# RAD


def test_rad_looks_around_the_same_place_only() -> None:
    reference = np.zeros((3, 3, 2))
    reference[..., 0] = 1
    reference[0, 0] = (0.0, 1.0)
    query = np.tile(np.array([0.0, 2.0]), (3, 3, 1))
    embed = told({1: reference, 9: query})
    same = Rad(embed, radius=0).fit([flat(1)], seed=0).score(flat(9)).heat
    around = Rad(embed, radius=1).fit([flat(1)], seed=0).score(flat(9)).heat
    assert same is not None
    assert around is not None
    assert np.allclose(same, [[0, 1, 1], [1, 1, 1], [1, 1, 1]], atol=1e-6)
    assert np.allclose(around, [[0, 0, 1], [0, 0, 1], [1, 1, 1]], atol=1e-6)


def test_rad_retrieves_by_vector_and_takes_the_best_of_what_it_retrieved() -> None:
    features = {k: np.full((1, 1, 2), v, np.float32) for k, v in {1: 1, 2: 1, 9: 1}.items()}
    features[1] = np.array([[[1.0, 0.0]]])
    features[2] = np.array([[[0.0, 1.0]]])
    features[9] = np.array([[[0.0, 1.0]]])
    vectors = {1: np.array([1.0, 0.0]), 2: np.array([0.0, 1.0]), 9: np.array([0.8, 0.6])}
    embed = told(features, vectors)
    for most, wanted in ((1, 1.0), (2, 0.0)):  # the nearest by vector is the unlike one
        model = Rad(embed, most_references=most).fit([flat(2), flat(1)], seed=0)
        assert model.score(flat(9)).score == pytest.approx(wanted, abs=1e-6)


def test_rads_layers_count_alike() -> None:
    def embed(picture: Pixels) -> Embedding:
        second = (1.0, 0.0) if picture[0, 0, 0] == 1 else (0.0, 1.0)
        layers = (
            PatchLayer(np.full((2, 2, 1), 3.0, np.float32), 8, 0.0),
            PatchLayer(np.array([[second]], np.float32), 16, 0.0),
        )
        patches = PatchGrid(layers, (16, 16), (16, 16), (0.0, 0.0, 16.0, 16.0))
        return Embedding(np.ones(1, np.float32), patches)

    model = Rad(embed).fit([flat(1)], seed=0)
    assert model.score(flat(9)).score == pytest.approx(0.5, abs=1e-6)  # one alike, one not


def test_rad_lays_grids_of_other_shapes_over_each_other() -> None:
    reference = np.eye(4, dtype=np.float32)[:, None]  # a column of four cells
    query = np.eye(4, dtype=np.float32)[[0, 0, 1, 1, 2, 2, 3, 3]][:, None]
    assert np.allclose(best_cosine(query, reference, radius=0), 1)
    assert np.allclose(best_cosine(query[::-1], reference, radius=0), 0)


# Floors


def test_pixel_difference_by_hand() -> None:
    reference, query = np.full((2, 12, 16, 3), 100, np.uint8)
    query[:, :8] = 151  # half of it 51 / 255 = 0.2 off
    found = difference().fit([reference, flat(255)], seed=0).score(query)
    assert found.score == pytest.approx(0.1, rel=0.02)
    assert found.heat is not None
    width = found.heat.shape[1]
    assert np.allclose(found.heat[:, : width // 2 - 20], 0.2, atol=1e-6)
    assert np.allclose(found.heat[:, width // 2 + 20 :], 0, atol=1e-6)


def test_structure_of_flat_pictures_by_hand() -> None:
    some, other = np.full((9, 9, 3), 100, np.uint8), np.full((9, 9, 3), 150, np.uint8)
    c1 = (0.01 * 255) ** 2
    wanted = 1 - (2 * 100 * 150 + c1) / (100**2 + 150**2 + c1)  # no variance: luminance alone
    assert np.allclose(unlike_structure(some, other), wanted, atol=1e-5)
    assert np.allclose(unlike_structure(some, some), 0, atol=1e-6)
    assert unlike_structure(some[:2], some[:2]).shape == (2, 9)


@pytest.fixture(scope="module")
def moved() -> tuple[Pixels, Pixels]:
    """A textured picture, and the same shifted by (24, 16) px on its own ground."""
    rng = np.random.default_rng(2)
    print_ = cv2.resize(
        rng.integers(0, 255, (24, 32, 3), dtype=np.uint8), (256, 192), interpolation=cv2.INTER_CUBIC
    )
    first, second = np.full((2, 300, 400, 3), 225, np.uint8)
    first[40:232, 60:316], second[56:248, 84:340] = print_, print_
    return first, second


@pytest.mark.parametrize("make", [ssim, difference])
def test_floors_compare_after_alignment(make: type, moved: tuple[Pixels, Pixels]) -> None:
    reference, query = moved
    model: FloorModel = make().fit([reference, flat(0)], seed=0)
    found = model.score(query)
    as_it_is = float(model.measure(reference, query).mean())
    assert found.score < 0.25 * as_it_is
    assert found.heat is not None
    assert np.isnan(found.heat[:2, :2]).all()  # the reference doesn't show that corner
    assert np.isfinite(found.heat).mean() > 0.8


# Heat


def test_heat_of_the_picture_as_it_is_is_the_grid() -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert np.allclose(over_picture(values, grid(np.zeros((3, 4, 1)))), values)


def test_heat_leaves_out_what_lies_beyond_the_picture() -> None:
    """20 px under a grid of three cells of 8 px: the last one is half padding."""
    layer = PatchLayer(np.zeros((1, 3, 1), np.float32), 8, 0.0)
    patches = PatchGrid((layer,), (8, 20), (8, 20), (0.0, 0.0, 20.0, 8.0))
    heat = over_picture(np.array([[0.0, 1.0, 2.0]], np.float32), patches)
    centres = (np.arange(3) + 0.5) * 20 / 3 / 8 - 0.5  # in cells
    assert np.allclose(heat, centres[None].clip(0), atol=1e-5)


def test_heat_of_a_turned_view_comes_back_to_the_picture() -> None:
    """The view is the picture turned by a quarter: x' = 31 - y, y' = x, of a 32 x 48 picture."""
    matrix = np.array([[0.0, -1.0, 31.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    picture = np.arange(24, dtype=np.float32).reshape(4, 6)
    picture[0, 0] = np.nan
    view = np.rot90(picture, -1)
    patches = grid(np.zeros((6, 4, 1)))
    heat = over_picture(view, patches, picture_size=(32, 48), matrix=matrix)
    assert np.allclose(heat, picture, equal_nan=True)


def test_heat_is_unmeasured_where_the_view_does_not_reach() -> None:
    shift = np.array([[1.0, 0.0, -16.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    heat = over_picture(
        np.ones((2, 4), np.float32), grid(np.zeros((2, 4, 1))), picture_size=(16, 32), matrix=shift
    )
    assert np.isnan(heat[:, :2]).all()
    assert (heat[:, 2:] == 1).all()


# Chance


def test_chance_is_even_and_by_pixels_and_seed() -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (3, 3, 3), dtype=np.uint8) for _ in range(400)]
    scorer = open_scorer("chance", fake_embedder())
    scores = [scorer.fit(pictures[:1], seed=4).score(p).score for p in pictures]
    assert np.histogram(scores, bins=4, range=(0, 1))[0] == pytest.approx(100, abs=30)
    other = scorer.fit(pictures[:1], seed=5)
    assert other.score(pictures[0]).score != scores[0]
    changed = pictures[0].copy()
    changed[2, 2, 2] ^= 1
    assert scorer.fit(pictures[:1], seed=4).score(changed).score != scores[0]
