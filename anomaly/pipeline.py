"""The order of the stages, known here and nowhere else.

`examine` is pure: the same query and references give the same evidence. It has two callers, the
inspector (serving) and the profile step (what a product's references say about each other).
`judge` turns evidence into a score and its rarity.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np

from anomaly.align import ALIGN_VERSION, align
from anomaly.calibrate import NullScores, calibrate
from anomaly.compare import COMPARE_VERSION, compare
from anomaly.emptied import Emptied
from anomaly.focus import fine_detail
from anomaly.glare import GLARE_VERSION, without_core, without_glare
from anomaly.in_place import in_place
from anomaly.looks import look_of, onto_look, warped
from anomaly.results import (
    Alignment,
    Calibrated,
    Comparison,
    Evidence,
    EvidenceKind,
    Finding,
    Null,
    Pairing,
    Scored,
    View,
)
from anomaly.score import SCORE_VERSION, regions, score
from anomaly.tolerance import TOLERANCE_VERSION, Maps, eased
from anomaly.view import (
    VIEW_VERSION,
    as_it_is,
    comparable,
    out_of_picture,
    turned,
    wants_turning,
)
from embeddings.embedder import Embedder, Embedding
from embeddings.fingerprint import ScoringFingerprint
from embeddings.foreground import FOREGROUND_VERSION, Foreground
from embeddings.images import Mask, Pixels
from embeddings.keypoints import Keypoints
from embeddings.metric import METRIC_VERSION
from gallery.describe import Reference

SCORING = ScoringFingerprint.of(
    {
        "align": ALIGN_VERSION,
        "compare": COMPARE_VERSION,
        "foreground": FOREGROUND_VERSION,
        "glare": GLARE_VERSION,
        "metric": METRIC_VERSION,
        "score": SCORE_VERSION,
        "tolerance": TOLERANCE_VERSION,
        "view": VIEW_VERSION,
    },
    {},
)
"""What profiles and nulls were learned under; they are worth nothing under another one."""
# Clipping is no sign of glare where pristine pictures are clipped all over (a binarised scan), and
# where they are bright as well; without a place for that, not when they are bright anywhere.
_USUALLY_CLIPPED, _BRIGHT_ANYWHERE = 0.2, 0.02


@dataclass(frozen=True)
class Query:
    """A picture to be examined. `embedding`: of the picture as given, where there is one already.

    pixels: gives the (H, W, 3) uint8 RGB picture; asked only when it must be embedded, or laid
    upon aligned references.
    keypoints: gives its local features; asked only when it must be aligned.
    clipped: gives the pixels that are clipped (`clipped_pixels`); None: there are none.
    small: gives the picture at the size of `embedding`, where that is at hand.
    """

    pixels: Callable[[], Pixels]
    foreground: Foreground
    keypoints: Callable[[], Keypoints]
    embedding: Embedding | None = None
    clipped: Callable[[], Mask] | None = None
    small: Callable[[], Pixels] | None = None


@dataclass
class StageClock:
    """Adds up milliseconds per stage; stages are disjoint."""

    milliseconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        spent = 1000 * (time.perf_counter() - start)
        self.milliseconds[stage] = self.milliseconds.get(stage, 0.0) + spent


@dataclass(frozen=True)
class Judgement:
    """Evidence on a scale: `calibrated` is None when nothing is known of pristine scores. `fine`:
    the share of its reference's fine detail that the picture shows (`focus`), NaN where nothing
    tells or it is not suspicious."""

    scored: Scored
    calibrated: Calibrated | None
    findings: tuple[Finding, ...]
    fine: float = math.nan

    @property
    def suspicious(self) -> bool:
        return self.calibrated is not None and self.calibrated.suspicious

    def explained(self, product: Mask) -> float:
        """Share of the measured cells of an (H, W) product that are no more amiss than pristine
        pictures; 1 where nothing is known of those."""
        if self.calibrated is None or self.scored.heat.shape != product.shape:
            return 1.0
        heat = self.scored.heat[product & np.isfinite(self.scored.heat)]
        return float((heat <= self.calibrated.threshold).mean()) if heat.size else 1.0


def examine(
    query: Query,
    references: Sequence[Reference],
    *,
    embedder: Embedder,
    placed: bool = True,
    turning: bool = False,
    learned: Mapping[str, Maps] | None = None,
    clock: StageClock | None = None,
) -> Evidence:
    """Align, look, compare. `placed`: whether the product has a form that can be aligned.
    `turning`: whether it is a body that turns about its axis (`Profile.turns`). `learned`: what is
    usual where, by reference ID (`Profile.learned`).

    `references` are at least one, best four at most: cost grows with each.
    """
    timed = clock or StageClock()
    alignment = None
    if placed:
        points = query.keypoints()  # on its own clock
        with timed("align"):
            alignment = align(points, references, foreground=query.foreground)
            if alignment.best is None:
                alignment = in_place(alignment, query.pixels(), references)
    best = alignment.fitting if alignment else None
    with timed("embed"):
        view = _view(query, best, references, embedder)
    pairings = usable(alignment, view)
    look = cache(lambda: _look(query, view))
    with timed("glare"):
        seen = _without_glare(query, view, references, pairings, look)
    with timed("compare"):
        comparison = compare(
            seen, references, pairings, foreground=query.foreground, metrics=embedder.metrics,
            picture=query.pixels, form=placed, turning=turning,
        )  # fmt: skip
        channels = eased(comparison.placed, comparison.places, learned or {})
        comparison = replace(comparison, placed=channels)
        _ = comparison.channels  # the evidence that counts is measured on this clock
    names = tuple(r.reference_id for r in references)
    alignment = _borne_out(alignment, comparison) if alignment else None
    shown = _shown(alignment.fitting if alignment else None, references, comparison.refuted)
    picture = look() if shown is not None else None
    return Evidence(names, alignment, seen, comparison, shown, picture)


def judge(
    evidence: Evidence,
    *,
    nulls: Mapping[str, Null],
    sources: Mapping[EvidenceKind, Sequence[NullScores]],
    budget: float,
    review: float | None = None,
    clock: StageClock | None = None,
) -> Judgement:
    """Score, calibrate, find the regions. `sources`: null scores by kind of evidence, the
    most specific first."""
    timed = clock or StageClock()
    comparison = evidence.comparison
    with timed("score"):
        scored = score(comparison.channels, nulls)
    with timed("calibrate"):
        calibrated = calibrate(scored.score, sources[comparison.kind], budget=budget, review=review)
    findings: tuple[Finding, ...] = ()
    fine = math.nan
    if calibrated is not None and (calibrated.suspicious or calibrated.to_review):
        level = calibrated.threshold if calibrated.suspicious else calibrated.review_threshold
        best = evidence.alignment.fitting if comparison.placed and evidence.alignment else None
        there = _there(evidence)
        with timed("regions"):
            fine = math.nan if there is None else _fine(evidence, there)
            findings = regions(
                scored,
                comparison,
                nulls,
                view=evidence.view,
                threshold=level,
                reference_id=best.reference_id if best else None,
                emptied=None if there is None else _emptied(evidence, there),
            )
    return Judgement(scored, calibrated, findings, fine)


def _borne_out(alignment: Alignment, comparison: Comparison) -> Alignment:
    """The best of what patches bear out is best, where they refute what registered best: faces of a
    product share print."""
    best = alignment.fitting
    if best is None or best.reference_id not in comparison.refuted or not comparison.places:
        return alignment
    inliers = [
        p.registration.inliers if p.reference_id in comparison.places else -1
        for p in alignment.pairings
    ]
    return replace(alignment, best=int(np.argmax(inliers)))


def _shown(
    best: Pairing | None, references: Sequence[Reference], refuted: Sequence[str]
) -> Reference | None:
    if best is None or best.reference_id in refuted:
        return None
    (reference,) = (r for r in references if r.reference_id == best.reference_id)
    return reference


def _there(evidence: Evidence) -> Pixels | None:
    """The picture of the reference that is shown, moved to the query's place."""
    shown, look = evidence.shown, evidence.look
    if shown is None or look is None or shown.thumbnail is None:
        return None
    assert evidence.alignment is not None
    assert evidence.alignment.fitting is not None
    motion = onto_look(shown, evidence.alignment.fitting, evidence.view)
    return warped(shown.thumbnail, motion, (look.shape[0], look.shape[1]))


def _emptied(evidence: Evidence, there: Pixels) -> Emptied:
    assert evidence.look is not None
    stride = evidence.view.patches.layers[0].stride_px
    return Emptied(evidence.look, there, evidence.comparison.product, stride=stride)


def _fine(evidence: Evidence, there: Pixels) -> float:
    assert evidence.look is not None
    view = evidence.view
    where = evidence.comparison.product & view.measured
    return fine_detail(evidence.look, there, where, stride=view.patches.layers[0].stride_px)


def _view(
    query: Query, best: Pairing | None, references: Sequence[Reference], embedder: Embedder
) -> View:
    if best is not None:
        (reference,) = (r for r in references if r.reference_id == best.reference_id)
        size = query.keypoints().image_size
        if wants_turning(best) or out_of_picture(best, reference, size):
            return turned(
                query.pixels(), best, reference, embedder=embedder, foreground=query.foreground
            )
    return as_it_is(query.embedding or _embed(query, embedder))


def _embed(query: Query, embedder: Embedder) -> Embedding:
    (embedding,) = embedder.embed([query.pixels()], foregrounds=[query.foreground])
    return embedding


def _look(query: Query, view: View) -> Pixels:
    if query.small is not None and np.array_equal(view.matrix, np.eye(3)):
        return query.small()
    return look_of(query.pixels(), view)


def _without_glare(
    query: Query,
    view: View,
    references: Sequence[Reference],
    pairings: Mapping[str, Pairing],
    look: Callable[[], Pixels],
) -> View:
    exposures = [reference.exposure for reference in references]
    if query.clipped is None or max(e.clipped for e in exposures) > _USUALLY_CLIPPED:
        return view
    aligned = [(r, pairings[r.reference_id]) for r in references if r.reference_id in pairings]
    if aligned:
        return without_glare(view, look(), aligned)
    clipped = query.clipped()
    if not clipped.any() or max(float(e.bright.mean()) for e in exposures) > _BRIGHT_ANYWHERE:
        return view
    return without_core(view, clipped)


def usable(alignment: Alignment | None, view: View) -> dict[str, Pairing]:
    """By reference ID, the pairings by which references are compared with the view."""
    pairings = alignment.pairings if alignment else ()
    return {p.reference_id: p for p in pairings if comparable(p, view)}
