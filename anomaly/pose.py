"""References of one product brought to one orientation when a gallery is built.

Features of convolutional networks change with the angle at which a product lies. A query is turned
to the reference that fits best (`view`), so that only references which lie as that one does say the
same of it: four that lie anyhow are little more than one. So references that register with one of
them, but lie otherwise, are brought to where it lies, as queries are, and embedded there. Grid,
features, mask and pictures of a posed reference are of the picture that was moved; its global
vector, by which it is found, is that of the picture as given. A product that is a guess isn't
moved: print of a belt may have registered.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from anomaly.align import align
from anomaly.duplicates import certain
from anomaly.results import Pairing
from anomaly.view import brought, wants_turning
from embeddings.embedder import Embedder
from embeddings.exposure import exposure_of
from embeddings.foreground import Foreground
from embeddings.images import Pixels, fit_longest_side, read_image
from embeddings.keypoints import Keypoints
from embeddings.on_product import TRUSTED
from embeddings.patches import Floats
from embeddings.registration import Matrix, transform
from gallery.catalog import CatalogRow
from gallery.closeup import close_up
from gallery.compress import encode_thumbnail
from gallery.describe import Description, Reference, from_record, to_record
from gallery.errors import DamagedGallery
from gallery.records import Record

POSE_VERSION = 1  # nulls and calibrations hang on it as well: raise one of `SCORING` with it
_ANCHORS = 4  # references that are tried for the one that others are turned to
_BEGIN = "pose/"


@dataclass(frozen=True)
class ArraysOf(Container[str]):
    """Names of a profile record's arrays: of poses of `references`, or of all else for None."""

    references: frozenset[str] | None = None

    def __contains__(self, name: object) -> bool:
        parts = str(name).split("/")
        if self.references is None:
            return parts[0] != _BEGIN[:-1]
        return parts[0] == _BEGIN[:-1] and parts[1] in self.references


def pose(
    references: Sequence[Reference],
    picture: Callable[[str], bytes],
    embedder: Embedder,
    pool: ThreadPoolExecutor,
) -> list[Reference]:
    """The references, those of them moved that lie otherwise than the one they register with.
    `picture` gives the original of a reference, by its ID; the work is shared over `pool`."""
    turns = _turns(references)

    def posed(row: int) -> Reference:
        one = references[row]
        if row not in turns:
            return one
        return _posed(one, read_image(picture(one.reference_id)), turns[row], embedder)

    return list(pool.map(posed, range(len(references))))


def full_size(reference: Reference) -> Foreground:
    """The foreground with its mask in the picture's own size."""
    height, width = reference.patches.image_size
    mask = cv2.resize(
        reference.foreground.mask.astype(np.uint8), (width, height),
        interpolation=cv2.INTER_NEAREST_EXACT,
    )  # fmt: skip
    return replace(reference.foreground, mask=mask > 0)


def stored_poses(
    references: Sequence[Reference],
) -> tuple[dict[str, dict[str, Any]], dict[str, np.ndarray[Any, Any]]]:
    """What a record keeps of those that were turned, by their IDs: as JSON, and arrays."""
    meta, arrays = {}, {}
    for one in references:
        if one.frame is None:
            continue
        row = CatalogRow(one.product_id, 0, 0, one.reference_id, None, None, one.view, one.variant,
                         one.valid_from, "")  # fmt: skip
        record = to_record(row, Description(
            one.vector, one.patches, one.keypoints, one.foreground, one.exposure,
            one.coded_thumbnail, one.close_up,
        ))  # fmt: skip
        meta[one.reference_id] = {"frame": one.frame.tolist(), "meta": dict(record.meta)}
        named = {f"{_BEGIN}{one.reference_id}/{k}": array for k, array in record.arrays.items()}
        arrays.update(named)
    return meta, arrays


def read_pose(record: Record, reference_id: str, vector: Floats) -> Reference | None:
    """The posed reference of a profile's record that was read with `ArraysOf` it; None where it
    wasn't turned. Raises `DamagedGallery`."""
    kept = record.meta.get("poses", {}).get(reference_id)
    if kept is None:
        return None
    begin = f"{_BEGIN}{reference_id}/"
    arrays = {n[len(begin) :]: a for n, a in record.arrays.items() if n.startswith(begin)}
    try:
        frame = np.asarray(kept["frame"], np.float64).reshape(3, 3)
        found = from_record(Record("reference", kept["meta"], arrays), vector)
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedGallery(f"a product's pose is not one ({error!r})") from error
    return replace(found, frame=frame)


def with_poses(references: Sequence[Reference], record: Record) -> list[Reference]:
    """References in memory as the record of their profile has them, without copies."""
    copies = certain(record.meta.get("alike", {}))
    counted = [r for r in references if r.reference_id not in copies]
    return [read_pose(record, r.reference_id, r.vector) or r for r in counted]


def to_picture(reference: Reference | None, matrix: Matrix) -> Matrix:
    """The motion of a reference's grid and features as one of its picture as given."""
    return matrix if reference is None or reference.frame is None else matrix @ reference.frame


@dataclass(frozen=True)
class _Turn:
    """How the `anchor` lies in the picture of a reference that is brought to it."""

    anchor: Reference
    onto: Pairing


def _turns(references: Sequence[Reference]) -> dict[int, _Turn]:
    """By row, of those that lie otherwise than the one they are brought to; each of several faces
    has one of its own."""
    left = [row for row, r in enumerate(references) if r.foreground.confidence >= TRUSTED]
    found: dict[int, _Turn] = {}
    while len(left) > 1:
        fits = {anchor: _onto(references, anchor, left) for anchor in left[:_ANCHORS]}
        anchor = max(fits, key=lambda row: _suits(fits[row]))  # the first of them
        if len(fits[anchor]) < 2:
            break  # goods without a form, or too few to ask on
        otherwise = {
            row: p for row, p in fits[anchor].items() if row != anchor and wants_turning(p)
        }
        found |= {row: _Turn(references[anchor], p) for row, p in otherwise.items()}
        left = [row for row in left if row not in fits[anchor]]
    return found


def _suits(fit: dict[int, Pairing]) -> tuple[int, int, float]:
    """How well others suit an anchor: most register, fewest must be turned, least."""
    turns = sum(abs(pairing.turn_deg) for pairing in fit.values())
    return len(fit), -sum(map(wants_turning, fit.values())), -turns


def _onto(references: Sequence[Reference], anchor: int, rows: Sequence[int]) -> dict[int, Pairing]:
    """How the anchor lies in those of the rows that it registers with, itself among them."""
    found = {}
    for row in rows:
        one = references[row]
        (pairing,) = align(one.keypoints, [references[anchor]], foreground=full_size(one)).pairings
        if pairing.ok or row == anchor:
            found[row] = pairing
    return found


def _posed(reference: Reference, image: Pixels, turn: _Turn, embedder: Embedder) -> Reference:
    """The reference where the anchor lies, as a query would be brought there."""
    moved, ground, frame = brought(image, turn.onto, turn.anchor, foreground=full_size(reference))
    (embedding,) = embedder.embed([moved], foregrounds=[ground])
    longest = max(embedding.patches.working_size)
    return replace(
        reference,
        patches=embedding.patches,
        keypoints=_moved(reference.keypoints, frame, turn.onto, ground.mask.shape),
        foreground=ground,
        exposure=exposure_of(moved, embedding.patches),
        coded_thumbnail=encode_thumbnail(fit_longest_side(moved, longest)),
        close_up=close_up(moved, ground, embedded_px=longest),
        frame=frame,
    )


def _moved(points: Keypoints, frame: Matrix, onto: Pairing, size: tuple[int, ...]) -> Keypoints:
    return Keypoints(
        transform(frame, points.points_xy).astype(np.float32),
        points.sizes_px / np.float32(onto.scale),
        ((points.angles_deg - np.float32(onto.turn_deg)) % 360).astype(np.float32),
        points.descriptors,
        (size[0], size[1]),
    )
