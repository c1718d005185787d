"""How the query is looked at: as it is, or turned so that the product lies as in a reference.

Convolutional features are not invariant to rotation or scale. Where the best reference had to be
turned or scaled far to fit, the query is brought to that reference's frame and embedded there, by
a similarity, so that nothing is sheared; one network pass either way.
"""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np

from anomaly.results import Pairing, View
from embeddings.embedder import Embedder, Embedding
from embeddings.foreground import Foreground
from embeddings.images import Pixels
from embeddings.registration import Matrix, inverse, transform
from gallery.describe import Reference

VIEW_VERSION = 2
_MOST_TURN_DEG, _MOST_LOG_ZOOM = 6.0, math.log(1.2)  # seen as it is
_COMPARABLE_DEG, _COMPARABLE_LOG_ZOOM = 25.0, math.log(1.5)  # said of a reference beside the best


def wants_turning(pairing: Pairing) -> bool:
    """Whether a reference is turned or scaled too far for features to be compared as they are."""
    return abs(pairing.turn_deg) > _MOST_TURN_DEG or abs(math.log(pairing.zoom)) > _MOST_LOG_ZOOM


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
    (embedding,) = embedder.embed([moved], foregrounds=[ground])
    view = View(
        patches=embedding.patches,
        vector=embedding.vector,
        matrix=matrix,
        turn_deg=-pairing.turn_deg,
        zoom=1 / pairing.zoom,
        picture_size=(image.shape[0], image.shape[1]),
        measured=np.ones(embedding.patches.shape, np.bool_),
    )
    points, size = view.centres_in_picture(), np.array([image.shape[1], image.shape[0]])
    inside = ((points > -0.5) & (points < size - 0.5)).all(axis=1)
    return replace(view, measured=inside.reshape(embedding.patches.shape))


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
