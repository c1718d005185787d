"""Which product is in the picture: when none was claimed, and when the claim doesn't fit.

`gallery.identify` proposes, registration decides: a picture that registers with a product's
reference shows that product, whatever was thought likelier.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from anomaly.align import align
from embeddings.fingerprint import EmbeddingFingerprint
from embeddings.foreground import Foreground
from embeddings.keypoints import Keypoints
from embeddings.patches import Floats
from gallery.identify import Identifier, Look, ProductCandidate
from gallery.reader import Gallery

_CANDIDATES = 5
_CLEARLY = 2.0  # how many times the claimed product's inliers another one needs


@dataclass(frozen=True)
class Recognised:
    """`inliers`: of the registration with the product's likeliest reference; 0 if it failed.

    agreeing  local features that agree on one motion to it (`embeddings.agreement`)
    distance  cosine distance to the product's nearest global vector
    """

    product_id: str
    inliers: int
    agreeing: int
    distance: float


def recognise(
    identifier: Identifier,
    look: Look,
    *,
    keypoints: Keypoints,
    foreground: Foreground,
    fingerprint: EmbeddingFingerprint,
) -> list[Recognised]:
    """The products likeliest for a query, those that register first, most inliers first.

    `keypoints`: all of the query, be they on the product or not.
    """
    ranked = identifier.rank(look, fingerprint=fingerprint, top=_CANDIDATES)
    likely = [_against(identifier.gallery, c, look.vector, keypoints, foreground) for c in ranked]
    return sorted(likely, key=lambda one: -one.inliers)  # stable: then as identified


def better_product(
    candidates: Sequence[Recognised],
    *,
    product_id: str,
    inliers: int,
    known: Callable[[], str | None],
) -> str | None:
    """Another product that fits far better than the claimed one, or None.

    inliers  of the claimed product's alignment; 0 if it failed or its patches refuted it
    known    which product the picture is known to show (`Identification.known`); asked only when
             the claimed one failed and print that both share keeps the other from being far better
    """
    own = max([inliers, *(c.inliers for c in candidates if c.product_id == product_id)])
    others = [c for c in candidates if c.product_id != product_id]
    if not others:
        return None
    if others[0].inliers > _CLEARLY * own:
        return others[0].product_id
    if inliers or candidates[0].product_id == product_id:
        return None
    name = known()
    return name if name == candidates[0].product_id else None


def _against(
    gallery: Gallery,
    candidate: ProductCandidate,
    vector: Floats,
    keypoints: Keypoints,
    foreground: Foreground,
) -> Recognised:
    name = candidate.product_id
    reference = gallery.reference(name, candidate.reference_id)
    found = align(keypoints, [reference], foreground=foreground).fitting
    inliers = found.registration.inliers if found else 0
    likeness = float((gallery.vectors(name) @ vector).max())
    return Recognised(name, inliers, candidate.agreeing or 0, 1 - likeness)
