"""The audit's first look: which references look odd by what a build stored anyway.

Nothing is embedded or decoded: profiles (each reference against its siblings, itself left out),
global vectors and sharpness. Milliseconds a product, so it can be a gate of every build. What it
suspects, the second look (`audit`) explains or clears.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from anomaly.left_out import raw_of
from anomaly.nulls import Nulls
from anomaly.profile import STEP as PROFILE_STEP
from anomaly.profile import Profile, read_profile
from anomaly.score import combine, studentised
from anomaly.sharpness import STEP as SHARPNESS_STEP
from anomaly.sharpness import read_sharpness
from embeddings.patches import Floats
from gallery.reader import Gallery
from gallery.records import Record
from gallery.shard import StoredReference

DEFAULT_RARITY = 0.01
"""p-value from which a reference is too unlike its siblings to be one by chance."""
BLUR = 0.6
"""Sharpness, as a share of the siblings' median, below which a picture is out of focus."""
_RELIABLE = 0.75  # of the other references' pairs, from which one that fits none is odd
_FACES = 1 / 3  # of a product's references, beyond which unlike ones are faces
Cause = Literal["unlike", "unplaced", "foreign", "blurred"]


@dataclass(frozen=True)
class Stored:
    """What a build holds of a product that needs no picture and no grid, of all references but
    copies of others.

    vectors    (K, D) as the index compares them
    sharpness  (K,); see `sharpness_of`
    """

    product_id: str
    product_no: int
    references: tuple[StoredReference, ...]
    vectors: Floats
    profile: Profile
    sharpness: Floats

    def kin(self, row: int) -> list[int]:
        """Other rows with the same `view` and `variant`: what a reference is audited against."""
        own = self.references[row]
        return [
            other for other, reference in enumerate(self.references)
            if other != row and (reference.view, reference.variant) == (own.view, own.variant)
        ]  # fmt: skip


@dataclass(frozen=True)
class Suspicion:
    """Why a reference is looked at again.

    unlike    its score against its siblings is rare: `figure` is the p-value under `source`
    unplaced  its siblings register with each other, it with none: siblings that did
    foreign   it registers with none and `other`'s vectors are nearer: cosine gained
    blurred   sharpness as a share of its siblings' median
    """

    row: int
    cause: Cause
    figure: float
    limit: float
    source: str = ""
    other: str | None = None


Elsewhere = Callable[[Stored, int], tuple[str, float] | None]
"""Nearest reference of another product: its product and cosine; None where there is no other."""


def read_stored(gallery: Gallery, product_id: str) -> Stored | None:
    """What is stored of a product; None if its build learned no profile or sharpness of it."""
    profile = gallery.extra(product_id, PROFILE_STEP)
    sharpness = gallery.extra(product_id, SHARPNESS_STEP)
    if profile is None or sharpness is None:
        return None
    return stored_of(gallery, product_id, read_profile(profile), sharpness)


def stored_of(gallery: Gallery, product_id: str, profile: Profile, sharpness: Record) -> Stored:
    """A product with a profile and a sharpness that were read or learned."""
    product = gallery.stored(product_id)
    rows = [
        row for row, reference in enumerate(product.references)
        if reference.reference_id not in profile.copies
    ]  # fmt: skip
    return Stored(
        product_id,
        product.product_no,
        tuple(product.references[row] for row in rows),
        gallery.index.centred(gallery.vectors(product_id))[rows],
        profile,
        read_sharpness(sharpness, count=len(product.references))[rows],
    )


def elsewhere(gallery: Gallery, stored: Stored, row: int) -> tuple[str, float] | None:
    """The other product whose reference is nearest to one of this, and the cosine."""
    count = len(gallery.stored(stored.product_id).references) + 1
    vector = gallery.shard_of(stored.product_id).vector(stored.references[row])
    found = gallery.index.search(vector, count=count)
    for key, cosine in zip(found.keys, found.cosine, strict=True):
        if int(key) >> 16 != stored.product_no:
            return gallery.product_id_of(int(key)), float(cosine)
    return None


def suspicions(
    stored: Stored, nulls: Nulls, other: Elsewhere, *, rarity: float = DEFAULT_RARITY
) -> list[Suspicion]:
    """Everything odd about a product's references, in their order; one may have several causes.

    A product with a single reference, and one that is alone with its view and variant, has no
    siblings to be held against: nothing is said of it here.
    """
    rows = [row for row in range(len(stored.references)) if stored.kin(row)]
    rare = {row: found for row in rows if (found := rareness(stored.profile, row, nulls))}
    rare = {row: found for row, found in rare.items() if found.p_value <= rarity}
    strewn = [row for row in rare if stored.profile.left_out[row].registered == 0]
    if len(strewn) > _FACES * len(stored.references):
        # Many that nothing explains show many faces, not many faults.
        rare = {row: found for row, found in rare.items() if row not in strewn}
    return [found for row in rows for found in _of_one(stored, row, rare.get(row), other, rarity)]


def _of_one(
    stored: Stored, row: int, rare: Rareness | None, other: Elsewhere, rarity: float
) -> Iterator[Suspicion]:
    if rare is not None:
        yield Suspicion(row, "unlike", rare.p_value, rarity, rare.source)
    if stored.profile.left_out[row].registered == 0:
        odd = reliable_without(stored.profile, [row])
        if odd:
            yield Suspicion(row, "unplaced", 0.0, 1.0)
        near = other(stored, row) if odd or rare is not None else None
        own = float((stored.vectors @ stored.vectors[row])[stored.kin(row)].max())
        if near is not None and near[1] > own:
            yield Suspicion(row, "foreign", near[1] - own, 0.0, other=near[0])
    share = sharpness_share(stored, row)
    if share is not None and share < BLUR:
        yield Suspicion(row, "blurred", share, BLUR)


@dataclass(frozen=True)
class Rareness:
    """How rarely a pristine picture scores as high, and under which null scores."""

    score: float
    p_value: float
    source: str


def rareness(profile: Profile, row: int, nulls: Nulls) -> Rareness | None:
    """A reference's score against its siblings, under nulls that it had no part in."""
    entry = profile.left_out[row]
    kind = profile.kind(placed=bool(entry.placed), relit=entry.relit)
    known = profile.nulls(nulls.priors, without=row)
    scaled = studentised(raw_of(entry, kind), known)
    # Inspection prefers the gallery's own scores. Here they are what is doubted: with one bad
    # reference in twenty, none of them is rare among them.
    source = nulls.clean(kind, len(profile.left_out) - 1)
    if not scaled or source is None:
        return None
    value = combine(scaled, known)
    above = int((np.asarray(source.scores) >= value).sum())
    return Rareness(value, (1 + above) / (1 + len(source.scores)), source.source)


def reliable_without(profile: Profile, rows: Collection[int]) -> bool:
    """Whether the other references register with each other, so that these should, too."""
    others = [entry for other, entry in enumerate(profile.left_out) if other not in rows]
    pairs = sum(min(entry.compared, len(others) - 1) for entry in others)
    return len(others) > 1 and sum(entry.registered for entry in others) >= _RELIABLE * pairs


def sharpness_share(stored: Stored, row: int) -> float | None:
    """Sharpness over its siblings' median; None where those show nothing that could be sharp."""
    usual = float(np.median(stored.sharpness[stored.kin(row)]))
    return float(stored.sharpness[row]) / usual if usual > 0 else None
