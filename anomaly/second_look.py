"""The audit's second look: a suspect examined against its siblings as an inspection would.

Dearer than the first by a thousand times, so only for those that the first one suspects.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from anomaly.align import align
from anomaly.nulls import Nulls
from anomaly.picture import draw_picture
from anomaly.pipeline import Judgement, Query, examine, judge
from anomaly.pose import ArraysOf, read_pose
from anomaly.profile import STEP, Profile, as_query, nearest_rows
from anomaly.results import Evidence, EvidenceKind, Picture
from anomaly.suspects import Stored
from embeddings.embedder import Embedder
from embeddings.images import Mask, read_image
from gallery.describe import Reference
from gallery.identify import identify
from gallery.originals import read_reference_picture
from gallery.reader import Gallery

_CANDIDATES = 6
_KEPT = 64  # references in memory, half a megabyte each


@dataclass(frozen=True)
class Looked:
    """A suspect against some of its siblings.

    against     reference IDs of those compared, the best fitting first
    registered  how many of them registered, unless the patches refute it
    p_value     how rarely a pristine picture scores as high; None if nothing tells
    source      whose null scores say so
    marked      share of the product's cells that are beyond the threshold, 0 to 1
    located     whether any cell is, on the product or beside it
    """

    against: tuple[str, ...]
    registered: int
    p_value: float | None
    source: str
    marked: float
    located: bool
    evidence: Evidence
    judged: Judgement


class SecondLook:
    """Looks at references of one gallery. Final; not for use by several threads."""

    def __init__(self, gallery: Gallery, embedder: Embedder, nulls: Nulls, *, rarity: float):
        self._gallery, self._embedder, self.nulls = gallery, embedder, nulls
        self._rarity = rarity
        self._picture = functools.partial(read_reference_picture, gallery.root)
        self.reference = lru_cache(maxsize=_KEPT)(self._posed)
        self.as_given = lru_cache(maxsize=_KEPT)(gallery.reference)

    def look(self, stored: Stored, row: int, against: Sequence[int]) -> Looked:
        """Compare a reference with the nearest of the rows `against`, at least one."""
        one, query = self._query(stored, row)
        shard = self._gallery.shard_of(stored.product_id)
        vectors = np.stack([shard.vector(stored.references[other]) for other in against])
        others = [self._of(stored, against[near]) for near in nearest_rows(one.vector, vectors)]
        theirs = Profile(tuple(stored.profile.left_out[other] for other in against))
        return self._looked(query, others, theirs, whole=stored.profile)

    def _looked(
        self, query: Query, siblings: Sequence[Reference], profile: Profile, *, whole: Profile
    ) -> Looked:
        """`profile`: what is usual; `whole`: of all references, what form the product has."""
        evidence = examine(
            query, siblings, embedder=self._embedder, placed=whole.has_form, turning=whole.turns,
            learned=profile.learned,
        )  # fmt: skip
        kind: EvidenceKind = evidence.comparison.kind
        source = self.nulls.clean(kind, len(siblings))
        judged = judge(
            evidence,
            nulls=profile.nulls(self.nulls.priors, form=whole.has_form),
            sources={kind: (source,) if source else ()},
            budget=self._rarity,
        )
        calibrated = judged.calibrated
        best = evidence.alignment.fitting if evidence.alignment else None
        names = sorted(
            evidence.reference_ids, key=lambda name: best is None or name != best.reference_id
        )
        return Looked(
            against=tuple(names),
            registered=_registered(evidence),
            p_value=calibrated.p_value if calibrated else None,
            source=source.source if source else "",
            marked=_marked(evidence, judged),
            located=bool(_beyond(judged).any()),
            evidence=evidence,
            judged=judged,
        )

    def shown_elsewhere(self, stored: Stored, row: int) -> tuple[str, Looked] | None:
        """Another product that the picture shows: it registers with its nearest reference, and the
        patches bear it out. The one with most inliers, or None."""
        one, query = self._query(stored, row)
        found = identify(
            self._gallery, one.vector, fingerprint=self._gallery.fingerprint, top=_CANDIDATES
        )
        fits = []
        for candidate in found.candidates:
            if candidate.product_id == stored.product_id:
                continue
            other = self._nearest_of(candidate.product_id, one)
            best = align(one.keypoints, [other], foreground=query.foreground).fitting
            if best is not None:
                fits.append((best.registration.inliers, candidate.product_id, other))
        for _, product_id, other in sorted(fits, key=lambda fit: -fit[0]):
            looked = self._looked(query, [other], Profile(()), whole=Profile(()))
            if looked.registered:
                return product_id, looked
        return None

    def picture(self, stored: Stored, row: int, looked: Looked) -> Picture:
        """What an overlay is drawn from: the suspect, the sibling that fits best, heat."""
        image = read_image(self._picture(stored.references[row].reference_id))
        calibrated = looked.judged.calibrated
        return draw_picture(
            image, looked.evidence, looked.judged, root=self._gallery.root,
            threshold=calibrated.threshold if calibrated else None,
        )  # fmt: skip

    def beside(self, one: str, other: str) -> Picture:
        """Two references by their IDs, nothing compared."""
        return Picture(read_image(self._picture(one)), read_image(self._picture(other)), None)

    def _query(self, stored: Stored, row: int) -> tuple[Reference, Query]:
        one = self.as_given(stored.product_id, stored.references[row].reference_id)
        return one, as_query(one, self._picture)

    def _posed(self, product_id: str, reference_id: str) -> Reference:
        found = self.as_given(product_id, reference_id)
        names = ArraysOf(frozenset({reference_id}))
        record = self._gallery.extra(product_id, STEP, only=names)
        posed = None if record is None else read_pose(record, reference_id, found.vector)
        return found if posed is None else posed

    def _of(self, stored: Stored, row: int) -> Reference:
        return self.reference(stored.product_id, stored.references[row].reference_id)

    def _nearest_of(self, product_id: str, one: Reference) -> Reference:
        row = int(np.argmax(self._gallery.vectors(product_id) @ one.vector))
        name = self._gallery.stored(product_id).references[row].reference_id
        return self.reference(product_id, name)


def _registered(evidence: Evidence) -> int:
    pairings = evidence.alignment.pairings if evidence.alignment else ()
    refuted = evidence.comparison.refuted
    return sum(p.ok and p.reference_id not in refuted for p in pairings)


def _marked(evidence: Evidence, judged: Judgement) -> float:
    product, beyond = evidence.comparison.product, _beyond(judged)
    return float(beyond[product].mean()) if beyond.size and product.any() else 0.0


def _beyond(judged: Judgement) -> Mask:
    """(H, W) cells beyond the threshold; empty where there is none."""
    heat, calibrated = judged.scored.heat, judged.calibrated
    if calibrated is None:
        return np.zeros((0, 0), np.bool_)
    return np.asarray(np.nan_to_num(heat, nan=-np.inf) > calibrated.threshold)
