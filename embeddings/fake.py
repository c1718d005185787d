"""A public embedder for tests: real shapes and real behaviour in microseconds, no torch.

Its features are means, contrasts and gradients of colour per cell. They depend on the pixels as a
real backbone's do (same picture, same vector; moved content, moved features), so everything built
on top can be tested for behaviour, not only for not crashing.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import numpy as np

from embeddings.backbones import BackboneSpec, Features
from embeddings.embedder import DEFAULT_SIZE_PX, Embedder
from embeddings.images import Pixels
from embeddings.patches import Floats

FAKE = BackboneSpec(
    model="fake",
    weights_sha256="0" * 64,
    mean=(127.5,) * 3,
    std=(127.5,) * 3,
    layers=("cells.8", "cells.16"),
    strides_px=(8, 16),
    floors=(0.1, 0.1),
    global_layer="cells.32",
    global_stride_px=32,
    global_dims=12,
    pad_multiple=32,
)


class FakeBackbone:
    """Twelve numbers per cell: mean, spread and both gradients of each colour. Final."""

    spec = FAKE
    device_class = "cpu"

    def repeatable(self) -> AbstractContextManager[None]:
        return nullcontext()

    def extract(self, batch: Pixels) -> Features:
        pixels = (batch.astype(np.float32) - 127.5) / 127.5
        layers = tuple(_cells(pixels, stride) for stride in FAKE.strides_px)
        return Features(layers, _cells(pixels, FAKE.global_stride_px))


def fake_embedder(*, size_px: int = DEFAULT_SIZE_PX) -> Embedder:
    """An `Embedder` on the fake backbone; it obeys the same contract suite as the real ones."""
    return Embedder(FakeBackbone(), size_px=size_px)


def _cells(pixels: Floats, stride: int) -> Floats:
    count, height, width, _ = pixels.shape
    cells = pixels.reshape(count, height // stride, stride, width // stride, stride, 3)
    half = stride // 2
    down = cells[:, :, half:].mean((2, 4)) - cells[:, :, :half].mean((2, 4))
    across = cells[..., half:, :].mean((2, 4)) - cells[..., :half, :].mean((2, 4))
    parts = [cells.mean((2, 4)), cells.std((2, 4)), down, across]
    return np.concatenate(parts, axis=3).astype(np.float32)
