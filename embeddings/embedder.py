"""Pictures -> `Embedding`: one global vector and one patch grid each, in batches of fixed shape.

Batches have a fixed size (1 on a CPU, 16 on a GPU; the last one is filled up with blanks) so that
a picture's features don't depend on which pictures came with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np

from embeddings.backbones import DEFAULT_BACKBONE, Backbone, Features, open_backbone
from embeddings.errors import BackboneError
from embeddings.fingerprint import EmbeddingFingerprint
from embeddings.foreground import FOREGROUND_VERSION, Foreground
from embeddings.images import Mask, Pixels, fit_longest_side
from embeddings.metric import Metrics, shipped_metrics
from embeddings.patches import Floats, PatchGrid, PatchLayer

DEFAULT_SIZE_PX = 448
_BATCH = {"cpu": 1, "cuda": 16}
# The window of the global vector, as a share of the picture's sides. 0.2 to 0.3 differ little
# (benchmarks/bench_features.py); without a window the surroundings outvote the product.
_WINDOW_SIGMA = 0.25
POOLING = f"3x3 mean; norm-weighted mean, window {_WINDOW_SIGMA}, foreground by confidence, 1"


@dataclass(frozen=True)
class Embedding:
    """`vector`: (D,) float32, unit length. `patches`: see `PatchGrid`."""

    vector: Floats
    patches: PatchGrid


@dataclass(frozen=True)
class Known:
    """What was recorded of an embedder when it was last opened (see `recall`)."""

    fingerprint: EmbeddingFingerprint
    dims: int


class Embedder:
    """Embeds at one working size with one backbone. Final; safe to share between threads."""

    def __init__(
        self, backbone: Backbone, *, size_px: int = DEFAULT_SIZE_PX, known: Known | None = None
    ) -> None:
        """`size_px` is the longest side that pictures are scaled to, aspect kept. `known`: what
        need not be asked of a backbone that is not loaded yet."""
        if not 32 <= size_px <= 4096:
            raise BackboneError(f"size {size_px} px; expected 32 to 4096 for the longest side")
        self._backbone, self.size_px, self._known = backbone, size_px, known

    @property
    def dims(self) -> int:
        """Length of the global vector."""
        return self._known.dims if self._known else self._backbone.spec.global_dims

    @property
    def batch_size(self) -> int:
        """Pictures that one pass takes together; 1 means that passes should run side by side."""
        return _BATCH[self._backbone.device_class]

    @cached_property
    def metrics(self) -> Metrics | None:
        """How dense features of this embedder are compared; None: as they are."""
        return shipped_metrics(self._backbone.spec)

    def load(self) -> None:
        """Load the network now, so that its time is not that of the first picture."""
        self.embed([np.zeros((32, 32, 3), np.uint8)])

    def repeatable(self) -> AbstractContextManager[None]:
        """While held, results don't depend on the number of threads (see `one_intra_op_thread`)."""
        return self._backbone.repeatable()

    def fingerprint(self, *, codec: str) -> EmbeddingFingerprint:
        """What vectors of this embedder, stored with `codec`, may be compared with."""
        if self._known:
            return replace(self._known.fingerprint, codec=codec)
        spec = self._backbone.spec
        return EmbeddingFingerprint(
            model=spec.model,
            weights_sha256=spec.weights_sha256,
            preprocessing=f"longest side {self.size_px}, area, replicate pad {spec.pad_multiple}, "
            f"mean {spec.mean}, std {spec.std}",
            layers="+".join(
                f"{name}/{stride}/{floor:g}"
                for name, stride, floor in zip(
                    spec.layers, spec.strides_px, spec.floors, strict=True
                )
            )
            + f"|{spec.global_layer}/{spec.global_stride_px}",
            pooling=f"{POOLING}; foreground {FOREGROUND_VERSION}",
            codec=codec,
            device_class=self._backbone.device_class,
        )

    def embed(
        self, images: Sequence[Pixels], *, foregrounds: Sequence[Foreground | None] | None = None
    ) -> list[Embedding]:
        """Embed (H, W, 3) uint8 RGB pictures of any sizes; the result is in their order.

        `foregrounds` (one per picture, or None) tell where the product is, for the global vector.
        """
        grounds = list(foregrounds) if foregrounds is not None else [None] * len(images)
        if len(grounds) != len(images):
            raise BackboneError(f"{len(images)} images but {len(grounds)} foregrounds")
        working = [fit_longest_side(image, self.size_px) for image in images]
        padded = [_pad(image, self._backbone.spec.pad_multiple) for image in working]
        results: dict[int, Embedding] = {}
        for batch in _batches(padded, self.batch_size):
            features = self._extract(padded, batch)
            for row, i in enumerate(batch):
                results[i] = self._assemble(features, row, images[i], working[i], grounds[i])
        return [results[i] for i in range(len(images))]

    def _extract(self, padded: Sequence[Pixels], batch: Sequence[int]) -> Features:
        stack = np.zeros((self.batch_size, *padded[batch[0]].shape), np.uint8)
        for row, i in enumerate(batch):
            stack[row] = padded[i]
        return self._backbone.extract(stack)

    def _assemble(
        self,
        features: Features,
        row: int,
        image: Pixels,
        working: Pixels,
        ground: Foreground | None,
    ) -> Embedding:
        spec, (height, width) = self._backbone.spec, working.shape[:2]
        layers = tuple(
            PatchLayer(_cut(maps[row], height, width, stride), stride, floor)
            for maps, stride, floor in zip(
                features.layers, spec.strides_px, spec.floors, strict=True
            )
        )
        last = _cut(features.last[row], height, width, spec.global_stride_px)
        rows, columns = image.shape[:2]
        grid = PatchGrid(layers, (rows, columns), (height, width), (0.0, 0.0, columns, rows))
        return Embedding(_global_vector(last, ground), grid)


def open_embedder(
    backbone: str = DEFAULT_BACKBONE, *, size_px: int = DEFAULT_SIZE_PX, device: str = "auto"
) -> Embedder:
    """The embedder for a backbone NAME, NAME@FILE, FILE or DIRECTORY (see `open_backbone`)."""
    return Embedder(open_backbone(backbone, device=device), size_px=size_px)


def _pad(image: Pixels, multiple: int) -> Pixels:
    down, right = -image.shape[0] % multiple, -image.shape[1] % multiple
    return np.pad(image, ((0, down), (0, right), (0, 0)), mode="edge")


def _batches(padded: Sequence[Pixels], size: int) -> list[list[int]]:
    """Indices of pictures, `size` at most together and only where the shapes are equal."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, image in enumerate(padded):
        groups.setdefault(image.shape, []).append(i)
    return [g[k : k + size] for g in groups.values() for k in range(0, len(g), size)]


def _cut(maps: Floats, height: int, width: int, stride: int) -> Floats:
    """Drop the cells that lie wholly in the padding."""
    return np.ascontiguousarray(maps[: -(-height // stride), : -(-width // stride)])


def _global_vector(last: Floats, ground: Foreground | None) -> Floats:
    """Mean of the last map, weighted by activation and by where the product is; unit length.

    Weights are the picture's central window mixed with the foreground by its confidence. Strong
    activations count more (their norm), as in generalised-mean pooling (arXiv 1711.02512).
    """
    rows, columns = last.shape[:2]
    weights = _window(rows, columns)
    if ground is not None:
        weights = (1 - ground.confidence) * weights + ground.confidence * _shares(
            ground.mask, rows, columns
        )
    weights = weights * np.linalg.norm(last, axis=2)
    pooled = np.einsum("hw,hwd->d", weights, last)
    length = float(np.linalg.norm(pooled))
    if length < 1e-12:  # a picture that excites nothing: a fixed direction, finite and unit
        return np.full(last.shape[2], last.shape[2] ** -0.5, np.float32)
    return np.asarray(pooled / length, dtype=np.float32)


def _window(rows: int, columns: int) -> Floats:
    y = (np.arange(rows) + 0.5) / rows - 0.5
    x = (np.arange(columns) + 0.5) / columns - 0.5
    window = np.exp(-(y[:, None] ** 2 + x[None, :] ** 2) / (2 * _WINDOW_SIGMA**2))
    return np.asarray(window / window.sum(), dtype=np.float32)


def _shares(mask: Mask, rows: int, columns: int) -> Floats:
    """How much of the product lies in each cell; sums to 1."""
    shares = cv2.resize(mask.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
    total = float(shares.sum())
    return np.asarray(shares / total, np.float32) if total > 0 else _window(rows, columns)
