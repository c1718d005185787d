"""How the query is looked at: as it is, or turned so that the product lies as in a reference.

Convolutional features are not invariant to rotation or scale. Where the best reference had to be
turned or scaled far to fit, the query is brought to that reference's frame and embedded there, by
a similarity, so that nothing is sheared; one network pass either way.

Where the product is partly out of the picture, the same is done, and what lies beyond the picture
is taken from the reference: features near a border see padding otherwise, six cells deep, and
pristine products score there like damaged ones. Nothing is measured beyond the picture.
"""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly.looks import warped, warped_mask
from anomaly.results import Pairing, View
from embeddings.embedder import Embedder, Embedding
from embeddings.foreground import Foreground
from embeddings.images import Mask, Pixels
from embeddings.on_product import TRUSTED
from embeddings.patches import Floats
from embeddings.registration import Matrix, inverse, transform
from gallery.describe import Reference

VIEW_VERSION = 3
_MOST_TURN_DEG, _MOST_LOG_ZOOM = 6.0, math.log(1.2)  # seen as it is
_COMPARABLE_DEG, _COMPARABLE_LOG_ZOOM = 25.0, math.log(1.5)  # said of a reference beside the best
_EDGE = 2  # cells along the edge of a reference
_DARK = 8.0  # grey levels added before ratios are taken
_SMOOTH, _FAR = 0.05, 0.02  # of the longer side: reach of such ratios, and weight of the usual one


def wants_turning(pairing: Pairing) -> bool:
    """Whether a reference is turned or scaled too far for features to be compared as they are."""
    return abs(pairing.turn_deg) > _MOST_TURN_DEG or abs(math.log(pairing.zoom)) > _MOST_LOG_ZOOM


def out_of_picture(pairing: Pairing, reference: Reference, size: tuple[int, ...]) -> bool:
    """Whether some of the reference's product lies beyond a picture of (height, width) pixels.

    False where the reference's product is a guess, or its picture isn't at hand. What lies at the
    edge of the reference's picture, too, doesn't count: products that fill the picture are whole.
    """
    if reference.foreground.confidence < TRUSTED or reference.coded_thumbnail is None:
        return False
    shape, matrix = reference.patches.shape, pairing.registration.matrix
    assert matrix is not None
    mask = reference.foreground.mask.astype(np.uint8)
    inner = np.zeros(shape, np.bool_)
    inner[_EDGE:-_EDGE, _EDGE:-_EDGE] = True
    inner &= cv2.resize(mask, shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
    there = transform(matrix, reference.patches.centres_px()[inner])
    return bool((~_within(there, size)).any())


def _within(points: NDArray[np.floating], size: tuple[int, ...]) -> NDArray[np.bool_]:
    """(N,) which of (N, 2) x, y lie in a picture of (height, width) pixels."""
    inside = (points > -0.5) & (points < np.array([size[1], size[0]]) - 0.5)
    return np.asarray(inside.all(axis=1))


def comparable(pairing: Pairing, view: View) -> bool:
    """Whether a reference's features hold at the angle and scale under which the view shows it."""
    turn = (pairing.turn_deg + view.turn_deg + 180) % 360 - 180
    zoom = abs(math.log(pairing.zoom * view.zoom))
    return pairing.ok and abs(turn) <= _COMPARABLE_DEG and zoom <= _COMPARABLE_LOG_ZOOM


def as_it_is(embedding: Embedding) -> View:
    """The view of an embedding of the picture as given."""
    grid = embedding.patches
    everything = np.ones(grid.shape, np.bool_)
    return View(grid, embedding.vector, np.eye(3), 0.0, 1.0, grid.image_size, everything)


def turned(
    image: Pixels,
    pairing: Pairing,
    reference: Reference,
    *,
    embedder: Embedder,
    foreground: Foreground,
) -> View:
    """Embed the picture brought to the frame of `reference`: turned, scaled, shifted."""
    moved, ground, matrix = brought(image, pairing, reference, foreground=foreground)
    partial = out_of_picture(pairing, reference, image.shape[:2])
    if partial:
        moved = _continued(moved, image.shape[:2], pairing, reference)
    (embedding,) = embedder.embed([moved], foregrounds=[ground])
    view = View(
        patches=embedding.patches,
        vector=embedding.vector,
        matrix=matrix,
        turn_deg=-pairing.turn_deg,
        zoom=1 / pairing.zoom,
        picture_size=(image.shape[0], image.shape[1]),
        measured=np.ones(embedding.patches.shape, np.bool_),
        partial=partial,
    )
    inside = _within(view.centres_in_picture(), image.shape[:2])
    return replace(view, measured=inside.reshape(embedding.patches.shape))


def brought(
    image: Pixels, pairing: Pairing, reference: Reference, *, foreground: Foreground
) -> tuple[Pixels, Foreground, Matrix]:
    """A picture and its foreground in the frame of `reference`, and the motion that brings them
    there: of similarities the nearest to the registration."""
    matrix = _to_frame(pairing)
    height, width = reference.patches.image_size
    # Edge pixels go on beyond the picture: a hard border would be a feature.
    moved = cv2.warpAffine(
        _smoothed(image, pairing.scale), matrix[:2], (width, height),
        flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    mask = cv2.warpAffine(
        foreground.mask.astype(np.uint8), matrix[:2], (width, height), flags=cv2.INTER_NEAREST
    )
    ground = Foreground(mask > 0, foreground.confidence if mask.any() else 0.0, foreground.source)
    return moved, ground, matrix


def _continued(
    moved: Pixels, picture_size: tuple[int, ...], pairing: Pairing, reference: Reference
) -> Pixels:
    """`moved` with the reference, in its light, in place of what lies beyond the picture."""
    assert pairing.registration.matrix is not None
    assert reference.thumbnail is not None
    size = (moved.shape[0], moved.shape[1])
    frame = _to_frame(pairing)
    shown = warped_mask(np.ones(picture_size, np.uint8), frame, size) > 0
    onto = frame @ pairing.registration.matrix @ inverse(reference.patches.to_working())
    there = warped(reference.thumbnail, onto, size)
    product = cv2.resize(
        reference.foreground.mask.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST
    )
    both = shown & (product > 0)
    if not both.any():
        return moved
    lit = np.clip((there + _DARK) * _gain(moved, there, both) - _DARK, 0, 255).astype(np.uint8)
    return np.where(shown[:, :, None], moved, lit)


def _to_frame(pairing: Pairing) -> Matrix:
    """Picture pixels -> reference pixels: the inverse of the motion's nearest similarity."""
    assert pairing.registration.matrix is not None
    angle = math.radians(pairing.turn_deg)
    cosine, sine = pairing.scale * math.cos(angle), pairing.scale * math.sin(angle)
    centre = np.asarray(pairing.centre_xy)
    (landed,) = transform(pairing.registration.matrix, centre[None])
    forward = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    forward[:2, 2] = landed - forward[:2, :2] @ centre
    return inverse(forward)


def _smoothed(image: Pixels, scale: float) -> Pixels:
    """What shrinking by `scale` can't show is taken out first, or it comes back as aliasing."""
    return image if scale < 1.5 else np.asarray(cv2.GaussianBlur(image, (0, 0), 0.4 * scale))


def _gain(moved: Pixels, there: Pixels, both: Mask) -> Floats:
    """(h, w, 3) how much brighter `moved` is, continued smoothly from where `both` are product."""
    sigma = _SMOOTH * max(both.shape)
    ratio = np.log((moved + np.float32(_DARK)) / (there + np.float32(_DARK)))
    ratio -= (usual := np.median(ratio[both], axis=0))
    weight = cv2.GaussianBlur(both.astype(np.float32), (0, 0), sigma)[:, :, None]
    near = cv2.GaussianBlur(ratio * both[:, :, None], (0, 0), sigma) / (weight + _FAR)
    return np.asarray(np.exp(near + usual), np.float32)
