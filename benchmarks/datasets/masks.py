"""Defect masks and item masks: two readers, so that one is never taken for the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.datasets.errors import MalformedMask
from embeddings.errors import MaskError
from embeddings.images import Mask, printable, read_image, read_mask


def read_defect_mask(mask: Path, *, picture: Path) -> Mask:
    """(H, W) bool of `picture`: True where the mask is not black.

    MVTec AD writes 255, VisA the number of the defect's class (1, 2, ...): any value counts. The
    mask is read at its own size, so nothing is interpolated before it is binary.
    Raises `MalformedMask` if it is not the picture's size, or marks nothing.
    """
    marked = np.asarray(read_image(mask, backdrop="black").max(axis=2) > 0, dtype=np.bool_)
    height, width = read_image(picture).shape[:2]
    if marked.shape != (height, width):
        raise MalformedMask(
            mask,
            f"is {marked.shape[1]}x{marked.shape[0]}, its picture {printable(picture)} is "
            f"{width}x{height}; expected the picture's own size",
        )
    if not marked.any():
        raise MalformedMask(mask, "is all black; expected the defect of a damaged picture")
    return marked


def read_product_mask(mask: Path, *, picture: Path) -> Mask:
    """(H, W) bool of `picture`: True where the product is.

    The threshold is half of the mask's own maximum (`embeddings.read_mask`): Kaputt's masks are not
    guaranteed to be 0 and 255. Raises `MalformedMask` as `read_defect_mask` does.
    """
    height, width = read_image(picture).shape[:2]
    try:
        return read_mask(mask, size=(height, width))
    except MaskError as error:
        raise MalformedMask(mask, f"not the item mask of {printable(picture)} ({error})") from error
