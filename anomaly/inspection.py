"""One picture against one build: recognised, examined, judged, decided.

The order in which evidence is asked for is here; what it means is in the stages.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from anomaly.align import features
from anomaly.decide import Decision, Facts, decide
from anomaly.doubt import in_doubt, stranger, unless_mistaken, unless_stranger
from anomaly.explain import product_extent
from anomaly.picture import draw_picture, units_left
from anomaly.pipeline import SCORING, Judgement, Query, StageClock, examine, judge
from anomaly.pose import to_picture
from anomaly.profile import Profile
from anomaly.recognise import Recognised, better_product, recognise
from anomaly.results import AlignmentSummary, Evidence, Inspection, Picture, Reason, Units
from anomaly.serving import Serving
from embeddings.exposure import clipped_pixels
from embeddings.fingerprint import digest_json
from embeddings.foreground import estimate_foreground, given_foreground
from embeddings.images import Mask, Pixels
from embeddings.keypoints import Keypoints
from embeddings.on_product import trusted_points
from embeddings.patches import Floats, PatchGrid
from embeddings.registration import MIN_INLIERS
from embeddings.unlikeness import cells_of
from gallery.describe import Reference
from gallery.identify import Identification, Look
from gallery.reader import Gallery

_SEEN = 0.1  # foreground confidence from which there is something in the picture
_DAMAGE = ("damaged", "review")  # verdicts that findings explain


@dataclass(frozen=True)
class Request:
    """What is asked: a picture, and what is known of it.

    name        how the caller calls the picture
    product_id  the claimed product, or None: identify it
    picture     whether to keep what overlays are drawn from
    review      a rate beyond the budget up to which a person looks, or None
    """

    pixels: Pixels
    name: str
    product_id: str | None
    mask: Mask | None
    budget: float
    picture: bool
    review: float | None = None


def inspect_picture(request: Request, serving: Serving, *, clock: StageClock) -> Inspection:
    """Inspect one picture. Raises `DamagedGallery` when what is needed of the gallery is."""
    look = _look(request, clock)
    if (claimed := request.product_id) is not None:
        if claimed not in serving.gallery:
            text = f"{claimed!r} is not among the gallery's {len(serving.gallery)} products"
            return _result(request, serving, clock, Decision(
                "unknown_product", Reason("not_in_gallery", text)))  # fmt: skip
        claimed = serving.gallery.stored(claimed).product_id  # as the gallery spells it
        return _against(replace(request, product_id=claimed), serving, claimed, look, clock)
    look = _embedded(look, serving, clock)
    look.keypoints()  # on its own clock
    with clock("identify"):
        likely = _recognise(look, _as_given(look), serving)
    decision = stranger(likely, serving, known=lambda: _identified(_as_given(look), serving, clock))
    if decision is not None:
        return _result(request, serving, clock, decision)
    return _against(request, serving, likely[0].product_id, look, clock)


def identify_picture(
    pixels: Pixels, serving: Serving, *, mask: Mask | None, top: int
) -> Identification:
    """The products that a picture may show; see `Identifier.identify`."""
    clock = StageClock()
    request = Request(pixels, "", None, mask, budget=0.0, picture=False)
    look = _embedded(_look(request, clock), serving, clock)
    return _identified(_as_given(look), serving, clock, top=top)


def config_digest(
    budget: float, *, review: float | None = None, calibration_id: str | None = None
) -> str:
    """What the settings of an inspection are called in its result."""
    operators = [] if review is None and calibration_id is None else [review, calibration_id]
    return digest_json([SCORING.digest, budget, *operators])[:16]


def _look(request: Request, clock: StageClock) -> Query:
    with clock("foreground"):
        ground = (
            given_foreground(request.mask)
            if request.mask is not None
            else estimate_foreground(request.pixels)
        )

    @cache
    def keypoints() -> Keypoints:
        with clock("keypoints"):
            return features(request.pixels, ground, mask=request.mask)

    return Query(
        lambda: request.pixels, ground, keypoints, clipped=lambda: clipped_pixels(request.pixels)
    )


def _embedded(query: Query, serving: Serving, clock: StageClock) -> Query:
    with clock("embed"):
        (embedding,) = serving.embedder.embed([query.pixels()], foregrounds=[query.foreground])
    return replace(query, embedding=embedding)


def _against(
    request: Request, serving: Serving, product_id: str, query: Query, clock: StageClock
) -> Inspection:
    """Inspect against a product that the gallery has."""
    if query.embedding is None and serving.wants_vector(product_id):
        query = _embedded(query, serving, clock)
    with clock("fetch"):
        references = serving.references(product_id, _vector(query))
        profile = serving.profile(product_id)
    evidence, judged = _judged(request, serving, product_id, query, references, clock)
    facts = Facts(
        product_id=product_id,
        shown=_shows_something(query, references),
        other_product=None,
        alignment=(summary := _summary(evidence, profile)),
        has_form=profile.has_form,
        coverage=evidence.comparison.coverage,
        calibrated=judged.calibrated,
        findings=judged.findings,
        budget=request.budget,
        product=product_extent(evidence),
        compared=len(references),
        units=_units(evidence, judged, serving, clock),
        explained=judged.explained(evidence.comparison.product),
        turning=profile.turns,
        relit=_held_to_other_light(evidence, judged),
        fine=judged.fine,
        score=judged.scored.score,
    )
    if len(serving.gallery) > 1 and (summary.status == "failed" or judged.suspicious):
        other = _other_product(query, evidence, product_id, summary, serving, clock)
        facts = replace(facts, other_product=other)
    decision = decide(facts)
    claimed = request.product_id is not None
    if in_doubt(decision, facts, evidence, judged, serving, claimed=claimed):
        decision = _held_to(decision, facts, query, evidence, serving, clock, claimed=claimed)
    if decision.verdict == "unknown_product":
        return _result(request, serving, clock, decision)
    result = _result(request, serving, clock, decision, product_id=product_id)
    result = _with_figures(result, evidence, judged, facts)
    return _with_picture(result, request, evidence, judged, serving, clock)


def _judged(
    request: Request,
    serving: Serving,
    product_id: str,
    query: Query,
    references: Sequence[Reference],
    clock: StageClock,
) -> tuple[Evidence, Judgement]:
    """What it shows beside these references, on the product's scale."""
    with clock("fetch"):
        profile, nulls = serving.profile(product_id), serving.channel_nulls(product_id)
    evidence = examine(
        query, references, embedder=serving.embedder, placed=profile.has_form,
        turning=profile.turns, learned=profile.learned, clock=clock,
    )  # fmt: skip
    return evidence, judge(
        evidence, nulls=nulls, sources=serving.null_scores(product_id),
        budget=request.budget, review=request.review, clock=clock,
    )  # fmt: skip


def _held_to_other_light(evidence: Evidence, judged: Judgement) -> bool:
    """What ships keeps them apart for certain; calibrations hold the light of the line."""
    known = judged.calibrated and judged.calibrated.calibration.source == "shipped"
    return bool(known) and evidence.comparison.kind == "relit"


def _vector(query: Query) -> Floats | None:
    return None if query.embedding is None else query.embedding.vector


def _units(
    evidence: Evidence, judged: Judgement, serving: Serving, clock: StageClock
) -> Units | None:
    if not judged.findings:
        return None
    with clock("units"):
        return units_left(evidence, judged, root=serving.gallery.root)


def _with_picture(
    result: Inspection,
    request: Request,
    evidence: Evidence,
    judged: Judgement,
    serving: Serving,
    clock: StageClock,
) -> Inspection:
    if not request.picture:
        return result
    with clock("picture"):
        drawn = draw_picture(
            request.pixels, evidence, judged, root=serving.gallery.root, threshold=result.threshold
        )
    return replace(result, picture=drawn, timings_ms=dict(clock.milliseconds))


def _recognise(query: Query, look: Look, serving: Serving) -> list[Recognised]:
    return recognise(
        serving.identifier,
        look,
        keypoints=query.keypoints(),
        foreground=query.foreground,
        fingerprint=serving.fingerprint,
    )


def _as_given(query: Query) -> Look:
    """A query that was embedded, to identification."""
    assert query.embedding is not None
    return _seen(query, query.embedding.vector, query.embedding.patches, query.foreground.mask)


def _seen(query: Query, vector: Floats, patches: PatchGrid, product: Mask) -> Look:
    return Look(
        vector,
        lambda: trusted_points(query.keypoints(), query.foreground),
        lambda: cells_of(patches, product),
    )


def _viewed(query: Query, evidence: Evidence, serving: Serving, clock: StageClock) -> Look:
    """A query that was compared, to identification."""
    view = evidence.view
    if not evidence.comparison.placed and (view.turn_deg or view.zoom != 1):
        # The view was turned to a reference that patches refuted: little of the product may show.
        return _as_given(query if query.embedding else _embedded(query, serving, clock))
    return _seen(query, view.vector, view.patches, evidence.comparison.product)


def _identified(look: Look, serving: Serving, clock: StageClock, *, top: int = 1) -> Identification:
    with clock("recognise"):
        return serving.identifier.identify(look, fingerprint=serving.fingerprint, top=top)


def _held_to(
    decision: Decision,
    facts: Facts,
    query: Query,
    evidence: Evidence,
    serving: Serving,
    clock: StageClock,
    *,
    claimed: bool,
) -> Decision:
    """The decision, unless identification knows better."""
    query.keypoints()  # on its own clock
    look = _viewed(query, evidence, serving, clock) if claimed else _as_given(query)
    found = _identified(look, serving, clock)
    if not claimed:
        return unless_stranger(decision, facts, found)
    other = found.candidates[0].product_id
    mistaken = found.known and other != facts.product_id
    if mistaken and _borne_out(other, query, look.vector, serving):
        return decide(replace(facts, other_product=other))
    return unless_mistaken(decision, facts, found)


def _other_product(
    query: Query,
    evidence: Evidence,
    product_id: str,
    summary: AlignmentSummary,
    serving: Serving,
    clock: StageClock,
) -> str | None:
    query.keypoints()  # on its own clock
    look = _viewed(query, evidence, serving, clock)

    def known() -> str | None:
        found = serving.identifier.identify(look, fingerprint=serving.fingerprint, top=1)
        return found.candidates[0].product_id if found.known else None

    with clock("recognise"):
        likely = _recognise(query, look, serving)
        name = better_product(likely, product_id=product_id, inliers=summary.inliers, known=known)
        if name is not None and not _borne_out(name, query, look.vector, serving):
            return None
        return name


def _borne_out(product_id: str, query: Query, vector: Floats, serving: Serving) -> bool:
    """Whether patches bear out that a product is shown: faces of others share print with it."""
    if not serving.profile(product_id).has_form:
        return True
    references = serving.references(product_id, vector)
    return bool(examine(query, references, embedder=serving.embedder).comparison.placed)


def _shows_something(query: Query, references: Sequence[Reference]) -> bool:
    """Whether there is more in the picture than an empty tray, as far as references tell."""
    if query.foreground.confidence >= _SEEN or len(query.keypoints()) >= MIN_INLIERS:
        return True
    return max(len(r.keypoints) for r in references) < 2 * MIN_INLIERS


def _summary(evidence: Evidence, profile: Profile) -> AlignmentSummary:
    best = evidence.alignment.fitting if evidence.alignment else None
    refuted = best is not None and best.reference_id in evidence.comparison.refuted
    if best is None or best.registration.matrix is None or refuted:
        return AlignmentSummary("failed" if profile.reliable else "fallback")
    found = best.registration
    matrix = to_picture(evidence.shown, best.registration.matrix)
    return AlignmentSummary(
        status="aligned" if evidence.comparison.placed else "fallback",
        reference_id=best.reference_id,
        inliers=found.inliers,
        residual_px=found.residual_px if found.inliers else None,
        overlap_fraction=found.overlap_fraction,
        matrix=tuple(tuple(float(x) for x in row) for row in matrix),
    )


def _result(
    request: Request,
    serving: Serving,
    clock: StageClock,
    decision: Decision,
    *,
    product_id: str | None = None,
) -> Inspection:
    gallery = serving.gallery
    config = config_digest(
        request.budget, review=request.review, calibration_id=serving.calibration_id
    )
    return Inspection(
        inspection_id=_inspection_id(request, gallery, config),
        image=request.name,
        product_id=product_id or request.product_id,
        product_id_source="identified" if request.product_id is None else "claimed",
        verdict=decision.verdict,
        reason=decision.reason,
        build=gallery.build_id,
        delta=gallery.delta_id,
        catalog_seq=gallery.catalog_seq,
        config=config,
        timings_ms=dict(clock.milliseconds),
        picture=Picture(request.pixels, None, None) if request.picture else None,
    )


def _with_figures(
    result: Inspection, evidence: Evidence, judged: Judgement, facts: Facts
) -> Inspection:
    calibrated = judged.calibrated
    value = judged.scored.score
    if not math.isfinite(value):  # nothing to scale by: the raw evidence, as it is
        raw = [c.score for c in evidence.comparison.channels if math.isfinite(c.score)]
        value = max(raw, default=0.0)
    judged_damage = result.verdict in _DAMAGE
    return replace(
        result,
        score=value,
        p_value=calibrated.p_value if calibrated else None,
        threshold=calibrated.threshold if calibrated else None,
        calibration=calibrated.calibration if calibrated else None,
        findings=judged.findings if judged_damage else (),
        units=facts.units if judged_damage else None,
        references=evidence.reference_ids,
        alignment=facts.alignment,
        evidence=evidence.comparison.kind,
    )


def _inspection_id(request: Request, gallery: Gallery, config: str) -> str:
    """The same for the same picture, claim, build, delta and settings, in any process."""
    digest = hashlib.sha256(str(request.pixels.shape).encode())
    digest.update(np.ascontiguousarray(request.pixels).data)
    if request.mask is not None:
        digest.update(np.packbits(request.mask).data)
    serves = gallery.build_id if gallery.delta_id is None else [gallery.build_id, gallery.delta_id]
    return digest_json([digest.hexdigest(), request.product_id, serves, config])[:20]
