"""Patches as rows, and the nearest of a bank for each: exact, in pieces that fit the cache."""

from __future__ import annotations

import numpy as np

from anomaly import content
from embeddings.patches import Floats, PatchGrid, _upsample

_BLOCK = 4096  # rows of the bank per matrix product


def upsampled(patches: PatchGrid) -> list[Floats]:
    """Each layer (H, W, D) on the grid of the finest, not normalised."""
    finest = patches.layers[0].stride_px
    return [
        _upsample(layer.features, layer.stride_px / finest, patches.shape)
        for layer in patches.layers
    ]


def rows_of(grid: Floats) -> Floats:
    """(H, W, D) -> (H * W, D)."""
    return np.ascontiguousarray(grid.reshape(-1, grid.shape[-1]))


def unit(features: Floats) -> Floats:
    """(..., D) brought to unit length; zeros stay zeros."""
    squared = np.einsum("...d,...d->...", features, features)
    return np.asarray(features / np.maximum(np.sqrt(squared), 1e-12)[..., None], np.float32)


def nearest_distances(patches: Floats, bank: Floats) -> Floats:
    """(N,) Euclidean distance of each of (N, D) patches to the nearest of (M, D), M >= 1."""
    nearest = np.full(len(patches), np.inf, np.float32)
    for start in range(0, len(bank), _BLOCK):
        found = content.nearest_distances(patches, bank[start : start + _BLOCK])
        np.minimum(nearest, found, out=nearest)
    return nearest
