"""How patch grids are stored: uniform steps, two-way differences, deflate; and thumbnails: JPEG.

Each layer is rounded to steps of 0.06 times its own root mean square, or coarser where its largest
value would not fit 127 steps. 3x3 averaging made the
layers smooth, so the difference to the neighbour above and then to the left needs few bits; it is
taken modulo 256, which undoes exactly. The codec has no learned part: nothing is fitted to a
gallery, so a shard can be written without knowing the others, and records of different days agree.
Accuracy lost and bytes needed: benchmarks/bench_codec.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from embeddings.images import Pixels
from embeddings.patches import Floats, PatchLayer
from gallery.errors import DamagedGallery

CODEC = "uniform-0.06rms-delta2-deflate/1"
THUMBNAILS = "JPEG-90/1"
_QUALITY = 90
_STEP = 0.06
_LIMIT = 127


@dataclass(frozen=True)
class CodedLayer:
    """`residuals`: (D, H, W) uint8, smooth along both last axes. `step`: feature units."""

    residuals: NDArray[np.uint8]
    step: float
    stride_px: int
    floor: float


def encode_layer(layer: PatchLayer) -> CodedLayer:
    """Lossy by at most half of the returned step, in every feature."""
    features = np.moveaxis(layer.features, 2, 0)
    rms = float(np.sqrt(np.mean(np.square(features, dtype=np.float64))))
    step = float(np.float32(max(_STEP * rms, float(np.abs(features).max()) / _LIMIT))) or 1.0
    codes = np.clip(np.rint(features / np.float32(step)), -_LIMIT, _LIMIT).astype(np.int8)
    residuals = codes.view(np.uint8).copy()
    residuals[:, 1:] -= codes.view(np.uint8)[:, :-1]
    across = residuals.copy()
    across[:, :, 1:] -= residuals[:, :, :-1]
    return CodedLayer(across, step, layer.stride_px, layer.floor)


def decode_layer(coded: CodedLayer) -> PatchLayer:
    """The layer, each feature within half a step of what was encoded."""
    if coded.residuals.ndim != 3 or coded.residuals.dtype != np.uint8:
        raise DamagedGallery(
            f"a coded layer is {coded.residuals.dtype}{list(coded.residuals.shape)}, "
            "expected uint8 (D, H, W)"
        )
    summed = np.cumsum(coded.residuals, axis=2, dtype=np.uint8)
    codes = np.cumsum(summed, axis=1, dtype=np.uint8).view(np.int8)
    features: Floats = np.ascontiguousarray(np.moveaxis(codes, 0, 2)).astype(np.float32)
    return PatchLayer(features * np.float32(coded.step), coded.stride_px, coded.floor)


def encode_thumbnail(picture: Pixels) -> NDArray[np.uint8]:
    """(n,) uint8, a JPEG of an (H, W, 3) uint8 RGB picture."""
    done, coded = cv2.imencode(
        ".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    )
    assert done
    return np.asarray(coded, np.uint8).ravel()


def decode_thumbnail(coded: NDArray[np.uint8]) -> Pixels:
    """(H, W, 3) uint8 RGB. Raises `DamagedGallery` if it is no picture."""
    picture = cv2.imdecode(coded, cv2.IMREAD_COLOR) if coded.size else None
    if picture is None:
        raise DamagedGallery("a reference's thumbnail is no picture; run `amiss check`")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
