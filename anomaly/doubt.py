"""Whether a picture shows the product that it is held to, where comparison can't tell.

Recognition always names the likeliest product, and a claim may be wrong. Before a picture that
nobody claimed is compared, it may fit nothing; afterwards it may look like no reference, pass by
its light alone, or pass though it lies on no reference: next to references that hardly resemble
each other, much passes. Then identification is asked. Elsewhere it isn't: it knows fewer pictures
than comparison explains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from anomaly.calibrate import calibrate
from anomaly.decide import Decision, Facts
from anomaly.pipeline import Judgement
from anomaly.recognise import Recognised
from anomaly.results import Evidence, Reason
from anomaly.serving import Serving
from gallery.identify import Identification

_USUAL = 1.25  # how much farther than its references lie from each other a known product may lie


def stranger(
    likely: Sequence[Recognised], serving: Serving, *, known: Callable[[], Identification]
) -> Decision | None:
    """`unknown_product` unless the likeliest registers, or is one of which pictures need not and
    lies near enough, or is known to be shown."""
    best = likely[0]
    if best.inliers:
        return None
    profile = serving.profile(best.product_id)
    if not profile.reliable:
        usual = max((entry.distance for entry in profile.left_out), default=0.0)
        if best.distance <= _USUAL * usual or _shows(known(), best.product_id):
            return None
    return _unknown(f"no product of the gallery is shown; the nearest is {best.product_id!r}")


def in_doubt(
    decision: Decision,
    facts: Facts,
    evidence: Evidence,
    judged: Judgement,
    serving: Serving,
    *,
    claimed: bool,
) -> bool:
    """Whether the picture may show another product: it passes, but lies on no reference; or nobody
    claimed it and it looks like no reference, or would be damaged in plain light, which another
    product's print may well look like."""
    passes = decision.verdict in ("ok", "review")
    if passes and facts.alignment.status == "fallback":
        return True
    if claimed:
        return False
    if not (passes and evidence.comparison.kind == "relit"):
        return decision.reason.code == "view_not_covered"
    plain = serving.null_scores(facts.product_id)["placed"]
    found = calibrate(judged.scored.score, plain, budget=facts.budget)
    return found is not None and found.suspicious


def unless_stranger(decision: Decision, facts: Facts, found: Identification) -> Decision:
    """Of a picture that nobody claimed: `unknown_product` where identification knows that none of
    the gallery's is shown."""
    if found.known is not False:  # None: the gallery is too small to tell
        return decision
    return _unknown(
        f"no product is known to be shown; {facts.product_id!r} is the nearest, but looks otherwise"
    )


def unless_mistaken(decision: Decision, facts: Facts, found: Identification) -> Decision:
    """Of a claimed picture that lies on no reference: to be reviewed where another product than the
    claimed one is likeliest. Whether that is known to be shown is not asked: a claim says more."""
    likeliest = found.candidates[0].product_id
    if decision.verdict != "ok" or likeliest == facts.product_id:
        return decision
    text = (
        f"it could be aligned with no reference of {facts.product_id!r}, and looks more like "
        f"{likeliest!r}"
    )
    return Decision("review", Reason("looks_otherwise", text))


def _shows(found: Identification, product_id: str) -> bool:
    return bool(found.known) and found.candidates[0].product_id == product_id


def _unknown(text: str) -> Decision:
    return Decision("unknown_product", Reason("no_product_alike", text))
