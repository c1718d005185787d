"""Our engine behind the protocol: a product's references in memory instead of in a gallery.

`fit` does what a build does (describe, through the codec; learn the profile), `score` what
`Inspector.inspect` does with a product that was claimed: choose the nearest references, find
foreground and local features, `examine`, `judge`. The score is the one that an inspector gives with
a gallery of these pictures in this order (with more products in it, too, where a null ships for the
embedder; else a gallery learns what is usual from all of them). What an inspector does beyond that,
deciding a verdict and asking whether it is another product, is not done and not timed.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image

from anomaly.answer import Request
from anomaly.inspection import _look
from anomaly.nulls import Nulls, read_shipped
from anomaly.pipeline import Judgement, Query, StageClock, _embed, examine, judge
from anomaly.pose import with_poses
from anomaly.profile import MOST_COMPARED, Profile, ProfileStep, nearest, read_profile
from anomaly.results import Evidence
from anomaly.score import shared
from anomaly.scorers.heat import over_picture
from anomaly.scorers.pictures import checked, checked_references
from anomaly.scorers.protocol import Score
from embeddings.embedder import Embedder
from embeddings.images import Pixels
from embeddings.threads import one_blas_thread
from gallery.catalog import CatalogRow
from gallery.describe import RECORD_CODEC, Reference, describe, from_record, to_record

BUDGET = 0.01
_PRODUCT = "product"


@dataclass(frozen=True)
class Amiss:
    """The scorer. `budget`: share of pristine pictures in which regions may be pointed at; the
    score doesn't hang on it. Final."""

    embedder: Embedder
    budget: float = BUDGET
    name: str = "amiss"

    def fit(self, references: Sequence[Pixels], *, seed: int) -> AmissModel:
        """Describe the references and learn their profile; nothing is drawn.

        Raises `NoReferences`. The order counts where two references fit equally well, as it does
        in a gallery.
        """
        pictures = checked_references(references)
        with self.embedder.repeatable(), one_blas_thread:
            found = tuple(
                _stored(picture, slot, self.embedder) for slot, picture in enumerate(pictures)
            )
            originals = {r.reference_id: p for r, p in zip(found, pictures, strict=True)}
            step = ProfileStep(self.embedder, lambda name: _png(originals[name]))
            record = step(found)
            profile, found = read_profile(record), tuple(with_poses(found, record))
        shipped = read_shipped(self.embedder.fingerprint(codec=RECORD_CODEC))
        return AmissModel(self.embedder, found, profile, shipped or Nulls({}, {}), self.budget)


@dataclass(frozen=True)
class AmissModel:
    """What a gallery would hold of the product, and the null that ships for its embedder."""

    embedder: Embedder
    references: tuple[Reference, ...]
    profile: Profile
    known: Nulls
    budget: float

    def score(self, query: Pixels) -> Score:
        """The inspector's score, heat and regions. Raises `NotAPicture`."""
        clock = StageClock()
        request = Request(checked(query), "", _PRODUCT, None, self.budget, picture=False)
        with one_blas_thread:
            evidence = self._examined(_look(request, clock), clock)
            judged = judge(
                evidence,
                nulls=self.profile.nulls(self.known.priors),
                sources=self.known.of(self.profile),
                budget=self.budget,
                clock=clock,
            )
        heat = None
        if judged.scored.heat.size:
            view = evidence.view
            heat = over_picture(
                shared(judged.scored.heat),
                view.patches,
                picture_size=view.picture_size,
                matrix=view.matrix,
            )
        boxes = tuple(f.bbox_px for f in judged.findings if f.bbox_px is not None)
        return Score(_value(judged, evidence), heat, clock.milliseconds, boxes)

    def _examined(self, query: Query, clock: StageClock) -> Evidence:
        chosen: Sequence[Reference] = self.references
        if len(chosen) > MOST_COMPARED:
            with clock("embed"):
                embedding = _embed(query, self.embedder)
            query = replace(query, embedding=embedding)
            chosen = nearest(embedding.vector, self.references)
        placed = self.profile.has_form
        return examine(
            query, chosen, embedder=self.embedder, placed=placed, turning=self.profile.turns,
            learned=self.profile.learned, clock=clock,
        )  # fmt: skip


def _value(judged: Judgement, evidence: Evidence) -> float:
    """The score, or the raw evidence where there is nothing to scale it by."""
    if math.isfinite(judged.scored.score):
        return judged.scored.score
    raw = [c.score for c in evidence.comparison.channels if math.isfinite(c.score)]
    return max(raw, default=0.0)


def _stored(picture: Pixels, slot: int, embedder: Embedder) -> Reference:
    """Described, stored and read back: grids have been through the codec, as in a gallery."""
    row = CatalogRow(_PRODUCT, 0, slot, f"{slot:032x}" * 2, None, None, None, None, None, "")
    found = describe(picture, embedder)
    return from_record(to_record(row, found), found.vector)


def _png(picture: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="PNG", compress_level=1)
    return file.getvalue()
