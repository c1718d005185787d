"""A picture's global vector -> the products it may be, nearest first.

This is retrieval alone: the nearest reference of each product. It does not say "none of these"
and gives no probability; both need calibration, and `known` and `p_value` are None until then.
"""

from __future__ import annotations

from dataclasses import dataclass

from embeddings.fingerprint import EmbeddingFingerprint
from embeddings.patches import Floats
from gallery.errors import GalleryError
from gallery.reader import Gallery


@dataclass(frozen=True)
class ProductCandidate:
    """`score`: cosine distance to the product's nearest reference, 0 to 2, higher = less alike.

    The cosine is that of the index, without what all products of the gallery have in common.

    `p_value` is None: not calibrated.
    """

    product_id: str
    score: float
    p_value: float | None = None


@dataclass(frozen=True)
class Identification:
    """`candidates`: most alike first. `known` is None: nothing calibrated tells strangers apart."""

    candidates: tuple[ProductCandidate, ...]
    known: bool | None = None


def identify(
    gallery: Gallery, vector: Floats, *, fingerprint: EmbeddingFingerprint, top: int = 5
) -> Identification:
    """The `top` products nearest to a (D,) unit vector made under `fingerprint`.

    Raises `FingerprintMismatch` when the gallery was embedded otherwise.
    """
    if top < 1:
        raise GalleryError(f"top {top}; expected at least 1")
    gallery.fingerprint.require_comparable(fingerprint)
    wanted, count = min(top, len(gallery)), 4 * top
    while True:
        found = gallery.index.search(vector, count=count)
        best: dict[str, float] = {}
        for key, cosine in zip(found.keys, found.cosine, strict=True):
            best.setdefault(gallery.product_id_of(int(key)), float(cosine))
        if len(best) >= wanted or len(found.keys) < count:
            break
        count *= 4  # one product with many references can fill the list
    pairs = list(best.items())[:wanted]
    return Identification(tuple(ProductCandidate(name, 1.0 - cosine) for name, cosine in pairs))
