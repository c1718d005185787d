"""Patches of two pictures, wherever they lie -> how unlike the pictures are.

`agreement` asks whether print agrees. A small, slanted or blurred picture leaves little of it, and
many products have none. Here every patch of one picture's product looks for the one of the other
picture that is most alike, whatever its place, and the other way round: a shelf around the product
is forgiven, something of it that is nowhere in the other picture is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from embeddings.images import Mask
from embeddings.patches import Floats, PatchGrid

_ON = 0.5  # share of a cell that has to be product


@dataclass(frozen=True)
class Cells:
    """`features`: (N, D) float32, unit length, of the whole picture; `product`: (N,) bool, those of
    its product, or all where none is known."""

    features: Floats
    product: NDArray[np.bool_]


def cells_of(grid: PatchGrid, product: Mask) -> Cells:
    """What `unlikeness` compares of a picture.

    `product`: (h, w) bool of any size, over the picture that was embedded.
    """
    coarse = grid.coarse()
    rows, columns, dims = coarse.shape
    shares = cv2.resize(product.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
    features, on = coarse.reshape(-1, dims), (shares > _ON).ravel()
    length = np.maximum(np.linalg.norm(features, axis=1, keepdims=True), np.float32(1e-6))
    return Cells(features / length, on if on.any() else np.ones_like(on))


def unlikeness(one: Cells, other: Cells) -> float:
    """0 (each is found in the other) to 1; the same whichever comes first.

    The product of both ways' mean cosine distance from a patch of the product to the nearest of
    the other picture.
    """
    likeness = one.features @ other.features.T
    there = likeness[one.product].max(axis=1).mean()
    back = likeness[:, other.product].max(axis=0).mean()
    return float(np.clip(1 - there, 0, 1) * np.clip(1 - back, 0, 1))
