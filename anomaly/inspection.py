"""One picture against one build: recognised, examined, judged, decided.

The order in which evidence is asked for is here; what it means is in the stages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from anomaly.align import features
from anomaly.answer import Request, answer, with_figures
from anomaly.decide import Decision, Facts, decide
from anomaly.doubt import in_doubt, stranger, unless_mistaken, unless_stranger
from anomaly.explain import product_extent
from anomaly.picture import draw_picture, units_left
from anomaly.pipeline import Judgement, Query, StageClock, examine, judge
from anomaly.pose import to_picture
from anomaly.profile import Profile
from anomaly.recognise import Recognised, better_product, recognise
from anomaly.results import AlignmentSummary, Evidence, Inspection, Reason, Units
from anomaly.serving import Serving
from embeddings.exposure import clipped_pixels
from embeddings.foreground import estimate_foreground, given_foreground
from embeddings.images import Mask, Pixels
from embeddings.keypoints import Keypoints
from embeddings.on_product import trusted_points
from embeddings.patches import Floats, PatchGrid
from embeddings.registration import MIN_INLIERS
from embeddings.unlikeness import cells_of
from gallery.describe import Reference
from gallery.identify import Identification, Look

_SEEN = 0.1  # foreground confidence from which there is something in the picture


def inspect_picture(request: Request, serving: Serving, *, clock: StageClock) -> Inspection:
    """Inspect one picture. Raises `DamagedGallery` when what is needed of the gallery is."""
    look = _look(request, clock)
    if (claimed := request.product_id) is not None:
        if claimed not in serving.gallery:
            text = f"{claimed!r} is not among the gallery's {len(serving.gallery)} products"
            return answer(request, serving, clock, Decision(
                "unknown_product", Reason("not_in_gallery", text)))  # fmt: skip
        claimed = serving.gallery.stored(claimed).product_id  # as the gallery spells it
        return _against(replace(request, product_id=claimed), serving, claimed, look, clock)
    look = _embedded(look, serving, clock)
    look.keypoints()  # on its own clock
    with clock("identify"):
        likely = _recognise(look, _as_given(look), serving)
    decision = stranger(likely, serving, known=lambda: _identified(_as_given(look), serving, clock))
    if decision is not None:
        return answer(request, serving, clock, decision)
    return _against(request, serving, likely[0].product_id, look, clock)


def identify_picture(
    pixels: Pixels, serving: Serving, *, mask: Mask | None, top: int
) -> Identification:
    """The products that a picture may show; see `Identifier.identify`."""
    clock = StageClock()
    request = Request(pixels, "", None, mask, budget=0.0, picture=False)
    look = _embedded(_look(request, clock), serving, clock)
    return _identified(_as_given(look), serving, clock, top=top)


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
        return answer(request, serving, clock, decision)
    result = answer(request, serving, clock, decision, product_id=product_id)
    result = with_figures(result, evidence, judged, facts)
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
