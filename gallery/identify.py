"""A picture -> the products it may show, and whether it shows any of them.

Global vectors make a short list; local features that agree on one motion (`embeddings.agreement`)
put it in order, and patches (`embeddings.unlikeness`) the best few of it once more. How rarely a
picture of no product of the gallery looks as much like one is read from the gallery itself: each
reference of a sample is identified among the *other* products, and the scores that such impostors
get are the null of a conformal p-value (Vovk, Gammerman & Shafer, "Algorithmic Learning in a Random
World", 2005). It holds as far as strangers resemble the gallery's products no more than these
resemble each other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embeddings.agreement import agreeing
from embeddings.fingerprint import EmbeddingFingerprint
from embeddings.keypoints import Keypoints
from embeddings.patches import Floats
from embeddings.unlikeness import Cells, unlikeness
from gallery.errors import GalleryError
from gallery.reader import Gallery
from gallery.shard import StoredReference

Scores = NDArray[np.float64]
KNOWN_LEVEL = 0.05
"""p-value up to which a picture shows a known product: so many strangers pass for one."""
_VERIFIED, _EACH = 24, 4  # references whose local features are compared; of one product
_COMPARED = 5  # products whose patches are compared, of each the likeliest reference
_WORTH = 4.0  # features that agree and halve a distance
_CLEAR = 0.6  # of the second product's distance: nearer than that is clearly nearer
_IMPOSTORS = 99  # attainable p-value 0.01


@dataclass(frozen=True)
class ProductCandidate:
    """`score`: 0 upwards, higher = less alike: distance / (1 + agreeing / 4) * unlike.

    distance      cosine distance to a reference of the product, 0 to 2, of the index: without what
                  all products of the gallery have in common
    reference_id  that reference: the one that gives the lowest score
    agreeing      local features that agree on one motion to it; None: not compared
    unlike        of its patches and the picture's, 0 to 1 (`embeddings.unlikeness`); None: not
                  compared, which goes for 1
    p_value       see the module; None where it was not asked for or the gallery has one product
    """

    product_id: str
    score: float
    distance: float
    reference_id: str
    agreeing: int | None = None
    p_value: float | None = None
    unlike: float | None = None


@dataclass(frozen=True)
class Identification:
    """`candidates`: most alike first.

    known     whether the picture shows one of the gallery's products: p-value of the first at most
              `KNOWN_LEVEL`; None where the gallery is too small to tell, or was not asked
    verified  whether local features and patches were compared
    """

    candidates: tuple[ProductCandidate, ...]
    known: bool | None = None
    verified: bool = False


@dataclass(frozen=True)
class Look:
    """What there is to see of a picture.

    vector     (D,) unit vector of the picture
    keypoints  gives its local features, those on the product alone where that can be told
    cells      gives its patches; both are asked only where the vector leaves a doubt
    """

    vector: Floats
    keypoints: Callable[[], Keypoints]
    cells: Callable[[], Cells]


@dataclass(frozen=True)
class _Near:
    key: int
    cosine: float


def identify(
    gallery: Gallery, vector: Floats, *, fingerprint: EmbeddingFingerprint, top: int = 5
) -> Identification:
    """The `top` products nearest to a (D,) unit vector made under `fingerprint`.

    Retrieval alone: no local features, no p-value. See `Identifier` for both.
    Raises `FingerprintMismatch` when the gallery was embedded otherwise.
    """
    if top < 1:
        raise GalleryError(f"top {top}; expected at least 1")
    gallery.fingerprint.require_comparable(fingerprint)
    near = _nearest(gallery, vector, products=top)
    ranked = [_unverified(gallery, name, found) for name, found in list(near.items())[:top]]
    return Identification(tuple(ranked))


@dataclass(frozen=True)
class Null:
    """What the likeliest *other* product gets for each of a sample of references, ascending.

    distances  (n,) by vector alone; scores: (n,) verified
    """

    distances: Scores
    scores: Scores


class Identifier:
    """Identifies pictures in one `gallery`. Final; safe between threads.

    The null is learned on first use, from `_IMPOSTORS` references: a few seconds.
    """

    def __init__(self, gallery: Gallery) -> None:
        self.gallery = gallery
        self._null: Null | None = None
        self._lock = threading.Lock()

    def identify(
        self, look: Look, *, fingerprint: EmbeddingFingerprint, top: int = 5
    ) -> Identification:
        """The `top` products that a picture may show, and whether it shows any.

        Vectors decide where one product is clearly the nearest, and nearer than strangers are.
        `fingerprint`: what the look was made under. Raises `FingerprintMismatch`, `DamagedGallery`.
        """
        near, null = self._near(look.vector, fingerprint, top), self.null()
        if not near:
            return Identification(())
        names = list(near)[:top]
        ranked = [_unverified(self.gallery, name, near[name]) for name in names]
        scale, verified = null.distances, False
        if not (_is_clear(near) and _is_known(ranked[0], scale)):
            ranked = _verified(self.gallery, near, look)[:top]
            scale, verified = null.scores, True
        judged = tuple(replace(one, p_value=_p_value(one.score, scale)) for one in ranked)
        return Identification(judged, _is_known(ranked[0], scale), verified)

    def rank(
        self,
        look: Look,
        *,
        fingerprint: EmbeddingFingerprint,
        top: int,
        without: str | None = None,
    ) -> list[ProductCandidate]:
        """The `top` products that a picture may show, all verified, without p-values.

        `without`: as if the gallery hadn't this product. Raises as `identify` does.
        """
        near = self._near(look.vector, fingerprint, top, without)
        return _verified(self.gallery, near, look)[:top]

    def null(self) -> Null:
        """What p-values are read from; empty where the gallery has one product."""
        with self._lock:
            if self._null is None:
                self._null = _impostors(self.gallery)
            return self._null

    def _near(
        self,
        vector: Floats,
        fingerprint: EmbeddingFingerprint,
        top: int,
        without: str | None = None,
    ) -> dict[str, list[_Near]]:
        if top < 1:
            raise GalleryError(f"top {top}; expected at least 1")
        self.gallery.fingerprint.require_comparable(fingerprint)
        return _nearest(self.gallery, vector, products=max(top, 2), without=without)


def _nearest(
    gallery: Gallery, vector: Floats, *, products: int, without: str | None = None
) -> dict[str, list[_Near]]:
    """The nearest references by product, nearest product first: `_VERIFIED` references, `_EACH` of
    a product at most, or more until there are so many `products`."""
    wanted = min(products, len(gallery) - (without is not None))
    count = 4 * max(products, _VERIFIED)
    while True:
        found = gallery.index.search(vector, count=count)
        near: dict[str, list[_Near]] = {}
        kept = 0
        for key, cosine in zip(found.keys, found.cosine, strict=True):
            name = gallery.product_id_of(int(key))
            if name == without or (kept >= _VERIFIED and name not in near and len(near) >= wanted):
                continue
            row = near.setdefault(name, [])
            if len(row) < _EACH and (not row or kept < _VERIFIED):
                row.append(_Near(int(key), float(cosine)))
                kept += 1
        if (len(near) >= wanted and kept >= _VERIFIED) or len(found.keys) < count:
            return near
        count *= 4  # one product with many references can fill the list


def _is_clear(near: Mapping[str, list[_Near]]) -> bool:
    distances = [1 - found[0].cosine for found in near.values()]
    return len(distances) > 1 and distances[0] < _CLEAR * distances[1]


def _unverified(gallery: Gallery, name: str, found: list[_Near]) -> ProductCandidate:
    slots = {stored.slot: stored.reference_id for stored in gallery.stored(name).references}
    nearest, distance = slots[found[0].key & 0xFFFF], 1 - found[0].cosine
    return ProductCandidate(name, distance, distance, nearest)


def _verified(
    gallery: Gallery, near: Mapping[str, list[_Near]], look: Look
) -> list[ProductCandidate]:
    """Every product by the reference that gives it its lowest score, lowest first."""
    best, keypoints = [], look.keypoints()
    for name, found in near.items():
        each = [_by_print(gallery, name, one, keypoints) for one in found]
        best.append(min(each, key=lambda one: one[0].score))
    best.sort(key=lambda one: one[0].score)
    cells = look.cells()
    likely = [_by_patches(gallery, *one, cells) for one in best[:_COMPARED]]
    # A score only falls: the others stay behind.
    return sorted(likely, key=lambda one: one.score) + [one for one, _ in best[_COMPARED:]]


def _by_print(
    gallery: Gallery, name: str, near: _Near, keypoints: Keypoints
) -> tuple[ProductCandidate, StoredReference]:
    (stored,) = (r for r in gallery.stored(name).references if r.slot == near.key & 0xFFFF)
    count = agreeing(gallery.keypoints(name, stored), keypoints)
    distance = 1 - near.cosine
    score = distance / (1 + count / _WORTH)
    return ProductCandidate(name, score, distance, stored.reference_id, count), stored


def _by_patches(
    gallery: Gallery, candidate: ProductCandidate, stored: StoredReference, cells: Cells
) -> ProductCandidate:
    unlike = unlikeness(gallery.cells(candidate.product_id, stored), cells)
    return replace(candidate, score=candidate.score * unlike, unlike=unlike)


def _p_value(score: float, null: Scores) -> float | None:
    """How rarely an impostor scores as low, itself counted."""
    if not len(null):
        return None
    return float((1 + np.searchsorted(null, score, side="right")) / (len(null) + 1))


def _is_known(first: ProductCandidate, null: Scores) -> bool | None:
    if 1 / (len(null) + 1) > KNOWN_LEVEL:
        return None
    p_value = _p_value(first.score, null)
    return p_value is not None and p_value <= KNOWN_LEVEL


def _impostors(gallery: Gallery) -> Null:
    """One reference of every product in the order of their IDs, then a second one, until there are
    enough; evenly spread where there are more products than that."""
    if len(gallery) < 2:
        return Null(np.zeros(0), np.zeros(0))
    names = sorted(gallery.product_ids())
    names = _spread(names, _IMPOSTORS)
    stored = {name: gallery.stored(name).references for name in names}
    deepest = max(len(rows) for rows in stored.values())
    turns = [(name, rows[i]) for i in range(deepest) for name, rows in stored.items()
             if i < len(rows)]  # fmt: skip
    distances, scores = [], []
    for name, row in turns[:_IMPOSTORS]:
        look = _look_of(gallery, name, row)
        near = _nearest(gallery, look.vector, products=2, without=name)
        distances.append(1 - next(iter(near.values()))[0].cosine)
        scores.append(_verified(gallery, near, look)[0].score)
    return Null(np.sort(np.array(distances)), np.sort(np.array(scores)))


def _look_of(gallery: Gallery, name: str, row: StoredReference) -> Look:
    return Look(
        gallery.shard_of(name).vector(row),
        lambda: gallery.keypoints(name, row, own=True),
        lambda: gallery.cells(name, row),
    )


def _spread(names: Sequence[str], count: int) -> list[str]:
    """`count` of them, or all, evenly spread from the first to the last: kinds of products often
    share the start of their names."""
    rows = np.linspace(0, len(names) - 1, min(count, len(names)))
    return [names[int(row)] for row in rows.round()]
