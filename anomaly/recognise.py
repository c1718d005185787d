"""Which product is in the picture: when none was claimed, and when the claim doesn't fit.

Global vectors propose, local features decide: a picture that registers with a product's reference
shows that product, whatever the vectors say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anomaly.align import align
from embeddings.fingerprint import EmbeddingFingerprint
from embeddings.foreground import Foreground
from embeddings.keypoints import Keypoints
from embeddings.patches import Floats
from gallery.identify import identify
from gallery.reader import Gallery

_CANDIDATES = 5
_CLEARLY = 2.0  # how many times the claimed product's inliers another one needs


@dataclass(frozen=True)
class Recognised:
    """`inliers`: of the registration with the product's nearest reference; 0 if it failed.

    distance  cosine distance to that reference's global vector
    """

    product_id: str
    inliers: int
    distance: float


def recognise(
    gallery: Gallery,
    vector: Floats,
    *,
    keypoints: Keypoints,
    foreground: Foreground,
    fingerprint: EmbeddingFingerprint,
) -> list[Recognised]:
    """The products nearest to a query, those that register first, most inliers first."""
    found = identify(gallery, vector, fingerprint=fingerprint, top=_CANDIDATES)
    names = [candidate.product_id for candidate in found.candidates]
    likely = [_against(gallery, name, vector, keypoints, foreground) for name in names]
    return sorted(likely, key=lambda one: -one.inliers)  # stable: then by vector


def better_product(
    candidates: Sequence[Recognised], *, product_id: str, inliers: int
) -> str | None:
    """Another product that fits far better than the claimed one; its `inliers` are given."""
    others = [c for c in candidates if c.product_id != product_id]
    if others and others[0].inliers > _CLEARLY * inliers:
        return others[0].product_id
    return None


def _against(
    gallery: Gallery, product_id: str, vector: Floats, keypoints: Keypoints, foreground: Foreground
) -> Recognised:
    likeness = gallery.vectors(product_id) @ vector
    row = int(np.argmax(likeness))
    stored = gallery.stored(product_id).references[row]
    reference = gallery.reference(product_id, stored.reference_id)
    found = align(keypoints, [reference], foreground=foreground).fitting
    inliers = found.registration.inliers if found else 0
    return Recognised(product_id, inliers, 1 - float(likeness[row]))
