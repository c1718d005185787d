"""What is asked of an inspection, and what it answers: a result, with figures where something was
compared."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace

import numpy as np

from anomaly.decide import Decision, Facts
from anomaly.pipeline import SCORING, Judgement, StageClock
from anomaly.results import Evidence, Inspection, Picture
from anomaly.serving import Serving
from embeddings.fingerprint import digest_json
from embeddings.images import Mask, Pixels
from gallery.reader import Gallery

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


def config_digest(
    budget: float, *, review: float | None = None, calibration_id: str | None = None
) -> str:
    """What the settings of an inspection are called in its result."""
    operators = [] if review is None and calibration_id is None else [review, calibration_id]
    return digest_json([SCORING.digest, budget, *operators])[:16]


def answer(
    request: Request,
    serving: Serving,
    clock: StageClock,
    decision: Decision,
    *,
    product_id: str | None = None,
) -> Inspection:
    """The result with its verdict, and the bare picture where one is asked for. `product_id`: the
    product that it was compared with."""
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


def with_figures(
    result: Inspection, evidence: Evidence, judged: Judgement, facts: Facts
) -> Inspection:
    """The result with what the verdict rests on."""
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
