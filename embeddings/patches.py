"""Patch features of one picture, layer by layer, and the dense grid made from them.

Layers are kept at their own stride, with their magnitudes. That is all the information there is
(the dense grid repeats a coarse cell four times), it is what the gallery stores, and how layers
are normalised and joined stays a decision of `dense`, not of the disk.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embeddings.images import scale_points
from embeddings.metric import Metric

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class PatchLayer:
    """(H, W, D) float32 features, one cell per `stride_px` working pixels.

    `floor` is the feature norm below which a cell counts as blank: `dense` divides by
    sqrt(norm^2 + floor^2), so that the noise of empty regions isn't blown up to unit length.
    """

    features: Floats
    stride_px: int
    floor: float


@dataclass(frozen=True)
class PatchGrid:
    """Layers from fine to coarse, and where they lie in the picture.

    image_size    (height, width) of the picture as given, upright
    working_size  (height, width) it was embedded at, before padding
    box_px        (x0, y0, x1, y1) of the picture that was embedded, half-open
    """

    layers: tuple[PatchLayer, ...]
    image_size: tuple[int, int]
    working_size: tuple[int, int]
    box_px: tuple[float, float, float, float]

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the finest layer, which is that of `dense`."""
        rows, columns = self.layers[0].features.shape[:2]
        return rows, columns

    def dense(self, metric: Metric | None = None) -> Floats:
        """(H, W, sum of D) float32: layers soft-normalised, brought to the finest, joined; in the
        space of `metric` where there is one."""
        finest = self.layers[0].stride_px
        parts = [_soft_normalised(layer) for layer in self.layers]
        if metric is not None:  # before they are brought to the finest: fewer cells
            parts = [part @ weights for part, weights in zip(parts, metric.weights, strict=True)]
        wide = [
            _upsample(part, layer.stride_px / finest, self.shape)
            for part, layer in zip(parts, self.layers, strict=True)
        ]
        return np.concatenate(wide, axis=2) if metric is None else sum(wide[1:], start=wide[0])

    def coarse(self) -> Floats:
        """(h, w, sum of D) float32: layers soft-normalised, joined at the cells of the coarsest."""
        shape, widest = self.layers[-1].features.shape[:2], self.layers[-1].stride_px
        parts = [_soft_normalised(_every(layer, widest / layer.stride_px, shape))
                 for layer in self.layers]  # fmt: skip
        return np.concatenate(parts, axis=2)

    def centres_px(self) -> Floats:
        """(H, W, 2) float32 x, y of each patch centre in the picture as given."""
        rows, columns = self.shape
        stride = self.layers[0].stride_px
        x, y = np.meshgrid(np.arange(columns), np.arange(rows))
        working = (np.stack([x, y], axis=2).astype(np.float32) + 0.5) * stride - 0.5
        x0, y0, x1, y1 = self.box_px
        scale = ((x1 - x0) / self.working_size[1], (y1 - y0) / self.working_size[0])
        return scale_points(working, scale) + np.asarray([x0, y0], np.float32)

    def to_working(self) -> NDArray[np.float64]:
        """(3, 3) pixels of the picture as given -> pixels of the size it was embedded at."""
        x0, y0, x1, y1 = self.box_px
        across, down = self.working_size[1] / (x1 - x0), self.working_size[0] / (y1 - y0)
        return np.array([
            [across, 0, (0.5 - x0) * across - 0.5], [0, down, (0.5 - y0) * down - 0.5], [0, 0, 1]
        ])  # fmt: skip

    def cells_of(self, points_px: NDArray[np.floating]) -> NDArray[np.float64]:
        """(N, 2) points of the picture as given -> x, y in cells of `dense`: 0, 0 is the centre of
        the first cell. The inverse of `centres_px`."""
        x0, y0, x1, y1 = self.box_px
        scale = np.array([self.working_size[1] / (x1 - x0), self.working_size[0] / (y1 - y0)])
        stride = self.layers[0].stride_px
        working = (np.asarray(points_px, np.float64) - [x0, y0] + 0.5) * scale - 0.5
        cells: NDArray[np.float64] = (working + 0.5) / stride - 0.5
        return cells


def _soft_normalised(layer: PatchLayer) -> Floats:
    squared = np.einsum("hwd,hwd->hw", layer.features, layer.features)
    length = np.sqrt(squared + np.float32(layer.floor**2))
    scaled: Floats = layer.features / np.maximum(length, np.float32(1e-12))[:, :, None]
    return scaled


def _every(layer: PatchLayer, factor: float, shape: tuple[int, ...]) -> PatchLayer:
    """The cells of a finer layer in which those of a coarser one have their centres."""
    rows, columns = (
        np.minimum(((np.arange(wanted) + 0.5) * factor).astype(np.intp), cells - 1)
        for wanted, cells in zip(shape, layer.features.shape[:2], strict=True)
    )
    return replace(layer, features=layer.features[np.ix_(rows, columns)])


def _upsample(features: Floats, factor: float, shape: tuple[int, int]) -> Floats:
    """Bilinear by pixel centres, replicated at the border, cut to `shape`: two matrix products."""
    if factor == 1:
        return features[: shape[0], : shape[1]]
    rows, columns, dims = features.shape
    down = _weights(rows, factor, shape[0]) @ features.reshape(rows, columns * dims)
    down = down.reshape(shape[0], columns, dims)
    across: Floats = np.einsum(
        "xc,rcd->rxd", _weights(columns, factor, shape[1]), down, optimize=True
    )
    return across


def _weights(cells: int, factor: float, wanted: int) -> Floats:
    """(wanted, cells) interpolation matrix; each row sums to 1."""
    place = np.clip((np.arange(wanted) + 0.5) / factor - 0.5, 0, cells - 1)
    left = np.floor(place).astype(np.int64)
    right = np.minimum(left + 1, cells - 1)
    weights = np.zeros((wanted, cells), np.float32)
    np.add.at(weights, (np.arange(wanted), left), (1 - (place - left)).astype(np.float32))
    np.add.at(weights, (np.arange(wanted), right), (place - left).astype(np.float32))
    return weights
