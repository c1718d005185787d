"""The metric against covariances that are known, and clipped pixels against pictures by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from embeddings import open_backbone
from embeddings.exposure import clipped_pixels
from embeddings.metric import Metric, discriminants, shipped_metrics, whitening
from embeddings.patches import PatchGrid, PatchLayer

RNG = np.random.default_rng(0)


def differences(spreads: list[float], count: int = 40_000) -> np.ndarray:
    """Along the axes of a turned frame."""
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(len(spreads), len(spreads))))
    noise = np.random.default_rng(2).normal(size=(count, len(spreads)))
    return (noise * spreads @ turn.T).astype(np.float32)


def test_whitened_differences_are_nearly_round_and_as_large_as_before() -> None:
    found = differences([4.0, 2.0, 1.0, 0.5])
    after = found @ whitening(found, found)
    spreads = np.sqrt(np.linalg.eigvalsh(np.cov(after.T)))
    before = np.sqrt(np.linalg.eigvalsh(np.cov(found.T)))
    assert spreads.max() / spreads.min() < 2 < 7 < before.max() / before.min()
    assert (after**2).sum() == pytest.approx((found**2).sum(), rel=1e-3)


def test_round_differences_change_nothing() -> None:
    found = differences([1.5, 1.5, 1.5])
    np.testing.assert_allclose(whitening(found, 7 * found), np.eye(3), atol=0.02)


def test_whitening_survives_features_that_never_change() -> None:
    found = np.concatenate([differences([1.0, 2.0]), np.zeros((40_000, 1), np.float32)], axis=1)
    assert np.isfinite(whitening(found, found)).all()


def moments(found: np.ndarray, power: int) -> np.ndarray:
    weights = np.linalg.norm(found, axis=1) ** power
    return np.einsum("n,ni,nj->ij", weights, found, found) / weights.sum()


def test_discriminants_are_the_directions_that_tell_damage_apart() -> None:
    """With all of them, squared distances are d' W^-1 B W^-1 d, with W within and B between."""
    within, textures, damage, elsewhere = (
        differences(spreads, 4000).astype(np.float64)
        for spreads in ([1.0, 2.0, 1.0], [5.0, 2.0, 9.0], [3.0, 1.0, 5.0], [1.0, 9.0, 2.0])
    )
    usual, other = moments(within, 4), moments(textures, 4)
    usual = 0.8 * usual + 0.2 * other * (np.trace(usual) / np.trace(other))
    usual += 0.3 * np.trace(usual) / 3 * np.eye(3)
    apart = [moments(found, 0) for found in (damage, elsewhere)]
    between = apart[0] / np.trace(apart[0]) + 0.1 * apart[1] / np.trace(apart[1])
    expected = np.linalg.inv(usual) @ between @ np.linalg.inv(usual)
    kinds = within, textures, damage, elsewhere
    found = discriminants(*kinds).astype(np.float64)
    squared = found @ found.T
    np.testing.assert_allclose(
        squared / np.trace(squared), expected / np.trace(expected), atol=1e-4
    )
    few = discriminants(*kinds, count=2)
    np.testing.assert_allclose(few / few[0, 0], found[:, :2] / found[0, 0], rtol=1e-4)
    after = within @ discriminants(within, within, damage, elsewhere)
    assert (after**2).sum() == pytest.approx((within**2).sum(), rel=1e-3)


def test_what_pristine_pictures_rarely_do_but_then_much_counts_for_little() -> None:
    rng = np.random.default_rng(4)
    within = np.zeros((10_000, 2), np.float32)
    within[:, 0] = rng.normal(size=10_000)
    within[:100, 1] = 6 * rng.normal(size=100)  # less on the whole: 0.36 of the variance
    round_ = differences([2.0, 2.0], 10_000)
    usual, rare = np.linalg.norm(discriminants(within, within, round_, round_), axis=1)
    assert rare < 0.2 * usual


def test_dense_features_in_a_metric_are_dense_features_times_the_metric() -> None:
    layers = tuple(
        PatchLayer(RNG.normal(size=(-(-48 // s), -(-72 // s), dims)).astype(np.float32), s, 0.3)
        for s, dims in ((8, 5), (16, 7))
    )
    grid = PatchGrid(layers, (48, 72), (48, 72), (0.0, 0.0, 72.0, 48.0))
    whole = RNG.normal(size=(12, 12)).astype(np.float32)
    metric = Metric((whole[:5], whole[5:]))
    np.testing.assert_allclose(grid.dense(metric), grid.dense() @ whole, atol=1e-5)
    assert grid.dense(metric).dtype == np.float32


def test_the_default_backbone_has_a_metric_and_other_weights_have_none() -> None:
    spec = open_backbone(device="cpu").spec
    metrics = shipped_metrics(spec)
    assert metrics is not None
    dims = [len(weights) for weights in metrics.anywhere.weights]
    assert {weights.shape[1] for weights in metrics.anywhere.weights} == {sum(dims)}
    for metric in (metrics.placed, metrics.beside):
        assert [len(weights) for weights in metric.weights] == dims
        assert {weights.shape[1] for weights in metric.weights} == {64}
    assert shipped_metrics(replace(spec, weights_sha256="0" * 64)) is None
    assert shipped_metrics(replace(spec, floors=(0.0, 0.0))) is None


def test_clipped_pixels_are_those_without_any_colour_left() -> None:
    image = np.full((60, 80, 3), 240, np.uint8)
    image[10:20, 30:50] = 255
    image[40:50, 30:50] = (255, 255, 90)  # bright, but it still tells a colour
    expected = np.zeros((60, 80), np.bool_)
    expected[10:20, 30:50] = True
    np.testing.assert_array_equal(clipped_pixels(image), expected)


def test_noise_of_a_large_picture_hides_no_clipping() -> None:
    noise = np.random.default_rng(3).normal(252, 6, (900, 1200, 3))
    image = np.clip(noise, 0, 255).astype(np.uint8)
    found = clipped_pixels(image)
    assert max(found.shape) == 448
    assert found.mean() > 0.95
