"""One pristine picture -> everything a build stores of it, and back.

Description: what `embeddings` says of a picture (global vector, patch grid, keypoints, product
mask). Reference: the description with its identity, as readers get it from a build.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from embeddings.embedder import Embedder, Embedding
from embeddings.exposure import EXPOSURE_VERSION, Exposure, exposure_of
from embeddings.foreground import Foreground, estimate_foreground, given_foreground
from embeddings.images import Mask, Pixels, fit_longest_side, read_image, read_mask
from embeddings.keypoints import KEYPOINTS_VERSION, Keypoints, detect_keypoints
from embeddings.on_product import trusted_points
from embeddings.patches import Floats, PatchGrid
from embeddings.unlikeness import Cells, cells_of
from gallery.catalog import CatalogRow
from gallery.closeup import CLOSE_UPS, CloseUp, close_up
from gallery.compress import (
    CODEC,
    THUMBNAILS,
    CodedLayer,
    decode_layer,
    decode_thumbnail,
    encode_layer,
    encode_thumbnail,
)
from gallery.errors import DamagedGallery
from gallery.records import Record
from gallery.stopwatch import busy

_MASK_PX = 1024  # longest side of a stored mask
_MOST_LAYERS = 8  # of any backbone
RECORD_CODEC = (
    f"{CODEC}; keypoints {KEYPOINTS_VERSION}; masks {_MASK_PX} px; exposure {EXPOSURE_VERSION}; "
    f"thumbnails {THUMBNAILS}; close-ups {CLOSE_UPS}"
)
"""What a record's bytes depend on beside the embedder: part of the embedding fingerprint."""


@dataclass(frozen=True)
class Description:
    """`foreground.mask` has the size of the picture that was described; `thumbnail` is the picture
    at the size it was embedded at, as a JPEG; `close_up` the product in more pixels than that."""

    vector: Floats
    patches: PatchGrid
    keypoints: Keypoints
    foreground: Foreground
    exposure: Exposure
    thumbnail: NDArray[np.uint8] | None = None
    close_up: CloseUp | None = None


@dataclass(frozen=True)
class Reference:
    """A pristine picture of a product, as a build holds it.

    vector      (D,) float32, unit length
    foreground  its mask has the size of the picture, 1024 px on the longest side at most
    exposure    all clipped and bright where it was not recorded
    coded_thumbnail  (n,) uint8, a JPEG; None where it was not recorded
    close_up    None where it was not recorded, or the thumbnail shows as much
    frame       (3, 3) pixels of the picture as given -> of the picture that all but the vector
                speaks of; None: the same
    """

    reference_id: str
    product_id: str
    view: str | None
    variant: str | None
    valid_from: str | None
    vector: Floats
    patches: PatchGrid
    keypoints: Keypoints
    foreground: Foreground
    exposure: Exposure
    coded_thumbnail: NDArray[np.uint8] | None = None
    close_up: CloseUp | None = None
    frame: NDArray[np.float64] | None = None

    @cached_property
    def thumbnail(self) -> Pixels | None:
        """(H, W, 3) uint8 RGB of the size that was embedded. Raises `DamagedGallery`."""
        return None if self.coded_thumbnail is None else decode_thumbnail(self.coded_thumbnail)


def describe(image: Pixels, embedder: Embedder, *, mask: Mask | None = None) -> Description:
    """Describe an (H, W, 3) uint8 RGB picture; `mask` ((H, W) bool) is trusted where given."""
    look = _look(image, mask)
    (embedding,) = embedder.embed([image], foregrounds=[look.foreground])
    return _joined(look, embedding)


def describe_originals(
    originals: Sequence[tuple[bytes, bytes | None]], embedder: Embedder, pool: ThreadPoolExecutor
) -> list[Description]:
    """`describe` for (picture, mask) bytes, the work shared over `pool`; same results as alone."""
    prepared = list(pool.map(_prepare, originals))
    if embedder.batch_size > 1:
        embedded = _embedded(prepared, embedder)
    else:
        embedded = list(pool.map(lambda one: _embedded([one], embedder)[0], prepared))
    return list(pool.map(_joined, prepared, embedded))


def _embedded(looks: Sequence[_Prepared], embedder: Embedder) -> list[Embedding]:
    with busy("embed"):
        return embedder.embed([p.image for p in looks], foregrounds=[p.foreground for p in looks])


def _joined(look: _Prepared, embedding: Embedding) -> Description:
    embedded_px = max(embedding.patches.working_size)
    return Description(
        embedding.vector,
        embedding.patches,
        look.keypoints,
        look.foreground,
        exposure_of(look.image, embedding.patches),
        encode_thumbnail(fit_longest_side(look.image, embedded_px)),
        close_up(look.image, look.foreground, embedded_px=embedded_px),
    )


@dataclass(frozen=True)
class _Prepared:
    image: Pixels
    foreground: Foreground
    keypoints: Keypoints


def _prepare(original: tuple[bytes, bytes | None]) -> _Prepared:
    with busy("decode"):
        image = read_image(original[0])
        height, width = image.shape[:2]
        mask = read_mask(original[1], size=(height, width)) if original[1] is not None else None
    return _look(image, mask)


def _look(image: Pixels, mask: Mask | None) -> _Prepared:
    with busy("foreground"):
        ground = given_foreground(mask) if mask is not None else estimate_foreground(image)
    with busy("keypoints"):
        # Only a mask that was given may silence keypoints: a wrong estimate would lose them.
        points = detect_keypoints(image, mask=mask, prefer=ground.mask)
    return _Prepared(image, ground, points)


def to_record(row: CatalogRow, description: Description) -> Record:
    """The record of one reference; the vector is stored apart, in the shard's `vectors.npy`."""
    grid, points, ground = description.patches, description.keypoints, description.foreground
    coded = [encode_layer(layer) for layer in grid.layers]
    mask = _stored_mask(ground.mask)
    meta = {
        "reference_id": row.reference_id,
        "product_id": row.product_id,
        "image": row.image,
        "mask": row.mask,
        "view": row.view,
        "variant": row.variant,
        "valid_from": row.valid_from,
        "image_size": list(grid.image_size),
        "working_size": list(grid.working_size),
        "mask_size": list(mask.shape),
        "box_px": list(grid.box_px),
        "layers": [[c.step, c.stride_px, c.floor] for c in coded],
        "foreground": [ground.confidence, ground.source],
        "clipped": round(description.exposure.clipped, 6),
    }
    arrays: dict[str, np.ndarray[Any, Any]] = {
        f"layer{i}": c.residuals for i, c in enumerate(coded)
    }
    arrays["mask"] = np.packbits(mask, axis=1)
    arrays["bright"] = np.packbits(description.exposure.bright, axis=1)
    if description.thumbnail is not None:
        arrays["thumbnail"] = description.thumbnail
    if description.close_up is not None:
        meta["close_up_box"] = list(description.close_up.box_px)
        arrays["close_up"] = description.close_up.coded
    arrays["points_xy"] = points.points_xy
    arrays["point_sizes"] = points.sizes_px
    arrays["point_angles"] = points.angles_deg
    arrays["point_descriptors"] = points.descriptors
    return Record("reference", meta, arrays)


def _stored_mask(mask: Mask) -> Mask:
    """Outlines are compared to a few pixels, so a mask keeps the picture's; bits deflate well."""
    scale = min(1.0, _MASK_PX / max(mask.shape))
    height, width = (max(1, round(scale * side)) for side in mask.shape)
    small = cv2.resize(
        mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT
    )
    return np.asarray(small > 0)


def from_record(record: Record, vector: Floats) -> Reference:
    """The reference that `to_record` stored. Raises `DamagedGallery` if a field is missing."""
    meta, arrays = record.meta, record.arrays
    try:
        return Reference(
            reference_id=meta["reference_id"],
            product_id=meta["product_id"],
            view=meta["view"],
            variant=meta["variant"],
            valid_from=meta["valid_from"],
            vector=vector,
            patches=_grid(meta, arrays),
            keypoints=keypoints_from(record),
            foreground=_foreground(meta, arrays),
            exposure=_exposure(meta, arrays),
            coded_thumbnail=arrays.get("thumbnail"),
            close_up=_close_up(meta, arrays),
        )
    except KeyError as error:
        raise DamagedGallery(f"a reference record has no {error}") from error


KEYPOINT_ARRAYS = ("points_xy", "point_sizes", "point_angles", "point_descriptors")
"""What `keypoints_from` needs of a record; `trusted_points_from` needs `mask` as well."""


def keypoints_from(record: Record) -> Keypoints:
    """A reference's local features alone. Raises `DamagedGallery` if a field is missing."""
    try:
        xy, sizes, angles, descriptors = (record.arrays[name] for name in KEYPOINT_ARRAYS)
        return Keypoints(xy, sizes, angles, descriptors, _pair(record.meta["image_size"]))
    except KeyError as error:
        raise DamagedGallery(f"a reference record has no {error}") from error


def trusted_points_from(record: Record) -> Keypoints:
    """Those of them that are on the product, where that can be told."""
    return trusted_points(keypoints_from(record), _foreground(record.meta, record.arrays))


CELL_ARRAYS = ("mask", *(f"layer{i}" for i in range(_MOST_LAYERS)))
"""What `cells_from` needs of a record."""


def cells_from(record: Record) -> Cells:
    """What a reference's patches are like, wherever they lie.

    Raises `DamagedGallery` if a field is missing.
    """
    try:
        meta, arrays = record.meta, record.arrays
        return cells_of(_grid(meta, arrays), _foreground(meta, arrays).mask)
    except KeyError as error:
        raise DamagedGallery(f"a reference record has no {error}") from error


def _grid(meta: Mapping[str, Any], arrays: Mapping[str, Any]) -> PatchGrid:
    layers = tuple(
        decode_layer(CodedLayer(arrays[f"layer{i}"], step, stride, floor))
        for i, (step, stride, floor) in enumerate(meta["layers"])
    )
    x0, y0, x1, y1 = meta["box_px"]
    return PatchGrid(
        layers, _pair(meta["image_size"]), _pair(meta["working_size"]), (x0, y0, x1, y1)
    )


def _foreground(meta: Mapping[str, Any], arrays: Mapping[str, Any]) -> Foreground:
    # The first records kept masks at the working size and did not say so.
    height, width = _pair(meta.get("mask_size", meta["working_size"]))
    mask = np.unpackbits(arrays["mask"], axis=1, count=width)[:height].astype(np.bool_)
    confidence, source = meta["foreground"]
    return Foreground(mask, confidence, source)


def _exposure(meta: Mapping[str, Any], arrays: Mapping[str, Any]) -> Exposure:
    rows, columns = arrays["layer0"].shape[1:]  # (D, H, W) as it is stored
    if "clipped" not in meta:  # records that say nothing of it
        return Exposure(1.0, np.ones((rows, columns), np.bool_))
    bright = np.unpackbits(arrays["bright"], axis=1, count=columns)
    return Exposure(meta["clipped"], bright.astype(np.bool_))


def _close_up(meta: Mapping[str, Any], arrays: Mapping[str, Any]) -> CloseUp | None:
    if "close_up" not in arrays:
        return None
    x0, y0, x1, y1 = (int(value) for value in meta["close_up_box"])
    return CloseUp(arrays["close_up"], (x0, y0, x1, y1))


def _pair(values: Any) -> tuple[int, int]:
    height, width = values
    return int(height), int(width)
