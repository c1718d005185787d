"""The order of the stages, known here and nowhere else.

`examine` is pure: the same query and references give the same evidence. It has two callers, the
inspector (serving) and the profile step (what a product's references say about each other).
`judge` turns evidence into a score and its rarity.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from anomaly.align import ALIGN_VERSION, align
from anomaly.calibrate import NullScores, calibrate
from anomaly.compare import COMPARE_VERSION, compare
from anomaly.results import (
    Alignment,
    Calibrated,
    Evidence,
    EvidenceKind,
    Finding,
    Null,
    Pairing,
    Scored,
    View,
)
from anomaly.score import SCORE_VERSION, regions, score
from anomaly.view import VIEW_VERSION, as_it_is, comparable, turned, wants_turning
from embeddings.embedder import Embedder, Embedding
from embeddings.fingerprint import ScoringFingerprint
from embeddings.foreground import FOREGROUND_VERSION, Foreground
from embeddings.images import Pixels
from embeddings.keypoints import Keypoints
from gallery.describe import Reference

SCORING = ScoringFingerprint.of(
    {
        "align": ALIGN_VERSION,
        "compare": COMPARE_VERSION,
        "foreground": FOREGROUND_VERSION,
        "score": SCORE_VERSION,
        "view": VIEW_VERSION,
    },
    {},
)
"""What profiles and nulls were learned under; they are worth nothing under another one."""


@dataclass(frozen=True)
class Query:
    """A picture to be examined. `embedding`: of the picture as given, where there is one already.

    pixels: gives the (H, W, 3) uint8 RGB picture; asked only when it must be embedded.
    keypoints: gives its local features; asked only when it must be aligned.
    """

    pixels: Callable[[], Pixels]
    foreground: Foreground
    keypoints: Callable[[], Keypoints]
    embedding: Embedding | None = None


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
    """Evidence on a scale: `calibrated` is None when nothing is known of pristine scores."""

    scored: Scored
    calibrated: Calibrated | None
    findings: tuple[Finding, ...]

    @property
    def suspicious(self) -> bool:
        return self.calibrated is not None and self.calibrated.suspicious


def examine(
    query: Query,
    references: Sequence[Reference],
    *,
    embedder: Embedder,
    placed: bool = True,
    clock: StageClock | None = None,
) -> Evidence:
    """Align, look, compare. `placed`: whether the product has a form that can be aligned.

    `references` are at least one, best four at most: cost grows with each.
    """
    timed = clock or StageClock()
    alignment = None
    if placed:
        points = query.keypoints()  # on its own clock
        with timed("align"):
            alignment = align(points, references, foreground=query.foreground)
    best = alignment.fitting if alignment else None
    with timed("embed"):
        if best is not None and wants_turning(best):
            (reference,) = (r for r in references if r.reference_id == best.reference_id)
            view = turned(
                query.pixels(), best, reference, embedder=embedder, foreground=query.foreground
            )
        else:
            view = as_it_is(query.embedding or _embed(query, embedder))
    with timed("compare"):
        comparison = compare(
            view, references, _usable(alignment, view), foreground=query.foreground
        )
    return Evidence(tuple(r.reference_id for r in references), alignment, view, comparison)


def judge(
    evidence: Evidence,
    *,
    nulls: Mapping[str, Null],
    sources: Mapping[EvidenceKind, Sequence[NullScores]],
    budget: float,
    clock: StageClock | None = None,
) -> Judgement:
    """Score, calibrate, find the regions. `sources`: null scores by kind of evidence, the
    most specific first."""
    timed = clock or StageClock()
    comparison = evidence.comparison
    with timed("score"):
        scored = score(comparison.channels, nulls)
    with timed("calibrate"):
        calibrated = calibrate(scored.score, sources[comparison.kind], budget=budget)
    findings: tuple[Finding, ...] = ()
    if calibrated is not None and calibrated.suspicious:
        best = evidence.alignment.fitting if comparison.placed and evidence.alignment else None
        with timed("regions"):
            findings = regions(
                scored,
                comparison,
                nulls,
                view=evidence.view,
                threshold=calibrated.threshold,
                reference_id=best.reference_id if best else None,
            )
    return Judgement(scored, calibrated, findings)


def _embed(query: Query, embedder: Embedder) -> Embedding:
    (embedding,) = embedder.embed([query.pixels()], foregrounds=[query.foreground])
    return embedding


def _usable(alignment: Alignment | None, view: View) -> dict[str, Pairing]:
    pairings = alignment.pairings if alignment else ()
    return {p.reference_id: p for p in pairings if comparable(p, view)}
