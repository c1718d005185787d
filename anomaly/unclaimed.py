"""Whether a picture of which nobody said what it shows is of a product at all.

Recognition always names the likeliest product. Twice it may turn out to be none: before the picture
is compared, where nothing fits; and after, where it looks like no reference, or passes by its
light alone. Elsewhere identification isn't asked: it knows fewer pictures than comparison explains.
"""

from __future__ import annotations

from collections.abc import Sequence

from anomaly.calibrate import calibrate
from anomaly.decide import Decision, Facts
from anomaly.pipeline import Judgement, StageClock
from anomaly.recognise import Recognised
from anomaly.results import Evidence, Reason
from anomaly.serving import Serving
from gallery.identify import Look

_USUAL = 1.25  # how much farther than its references lie from each other a known product may lie


def stranger(likely: Sequence[Recognised], serving: Serving) -> Decision | None:
    """`unknown_product` unless the likeliest registers, or has no form and lies near enough."""
    best = likely[0]
    if best.inliers:
        return None
    profile = serving.profile(best.product_id)
    usual = max((entry.distance for entry in profile.left_out), default=0.0)
    if not profile.reliable and best.distance <= _USUAL * usual:
        return None
    return _unknown(f"no product of the gallery is shown; the nearest is {best.product_id!r}")


def in_doubt(
    decision: Decision, facts: Facts, evidence: Evidence, judged: Judgement, serving: Serving
) -> bool:
    """Whether a picture that was recognised may show another product: it looks like no reference,
    or would be damaged in plain light, which another product's print may well look like."""
    excused = evidence.comparison.kind == "relit" and decision.verdict in ("ok", "review")
    if not excused:
        return decision.reason.code == "view_not_covered"
    plain = serving.null_scores(facts.product_id)["placed"]
    found = calibrate(judged.scored.score, plain, budget=facts.budget)
    return found is not None and found.suspicious


def unless_unknown(
    decision: Decision, product_id: str, look: Look, serving: Serving, clock: StageClock
) -> Decision:
    """`unknown_product` where identification knows that none of the gallery's is shown."""
    with clock("recognise"):
        known = serving.identifier.identify(look, fingerprint=serving.fingerprint, top=1).known
    if known is not False:  # None: the gallery is too small to tell
        return decision
    return _unknown(
        f"no product is known to be shown; {product_id!r} is the nearest, but looks otherwise"
    )


def _unknown(text: str) -> Decision:
    return Decision("unknown_product", Reason("no_product_alike", text))
