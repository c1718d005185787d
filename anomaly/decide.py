"""Stage 5: what is known -> one verdict and its reason.

In this order: what can't be compared, or hardly, is not judged; another product is not damage;
`damaged` needs a null that can promise the budget; everything suspicious beside that is for a
person to review.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from anomaly.explain import Extent, compared_with, what_differs
from anomaly.results import AlignmentSummary, Calibrated, Finding, Reason, Units, Verdict

_LEAST_COVERAGE = 0.5
# Severe damage to three tenths of a face leaves 0.53 and more of the product explained; other faces
# that register by print they share, less than 0.25 (rendered).
_LEAST_EXPLAINED = 0.4
# Sharp pictures have more, renders and photographs; those so far out of focus that most pristine
# ones look damaged have less. `bench_coverage` counts damaged ones that are for review by it.
_LEAST_FINE = 0.65


@dataclass(frozen=True)
class Facts:
    """All that a verdict may rest on.

    shown          whether anything that could be a product is in the picture
    other_product  a product of the gallery that fits far better than the claimed one, or None
    has_form       whether pictures of the product can be laid upon each other
    coverage       share of the reference's product that lies in the picture, 0 to 1
    product        where the product lies in the picture, or None
    compared       how many references it was compared with
    units          of a set from which one is missing, or None
    explained      share of the product in the picture that is like an aligned reference, 0 to 1
    turning        whether the product is a body that turns about its axis
    relit          whether it was held to pristine pictures in other light than their references'
    fine           share of an aligned reference's fine detail that it shows; NaN where unknown
    score          what is held to the threshold
    """

    product_id: str
    shown: bool
    other_product: str | None
    alignment: AlignmentSummary
    has_form: bool
    coverage: float
    calibrated: Calibrated | None
    findings: Sequence[Finding]
    budget: float
    product: Extent | None = None
    compared: int = 1
    units: Units | None = None
    explained: float = 1.0
    turning: bool = False
    relit: bool = False
    fine: float = math.nan
    score: float = math.nan


@dataclass(frozen=True)
class Decision:
    verdict: Verdict
    reason: Reason


def decide(facts: Facts) -> Decision:
    """The verdict on one picture."""
    refusal = _not_comparable(facts)
    if refusal is not None:
        return refusal
    calibrated = facts.calibrated
    if calibrated is None:
        return _say(
            "review", "not_calibrated",
            "nothing is known of how pristine pictures score under this model: add references "
            "and rebuild",
        )  # fmt: skip
    rarity = f"p = {calibrated.p_value:.2g} among {calibrated.calibration.n} pristine pictures"
    if facts.relit:
        rarity += " in other light than their references"
    if not (calibrated.suspicious or calibrated.to_review):
        how = compared_with(facts.alignment, turning=facts.turning)
        return _say(
            "ok", "like_references",
            f"differs from its references no more than pristine pictures may "
            f"({_held_to(calibrated, facts.score)}), {how}; {rarity}",
        )  # fmt: skip
    what = what_differs(
        facts.findings, product=facts.product, alignment=facts.alignment, units=facts.units
    )
    if facts.has_form and facts.alignment.status != "aligned":
        return _say(
            "review", "not_aligned",
            f"{what}; but it could be aligned with none of its references; {rarity}",
        )  # fmt: skip
    if not calibrated.suspicious:
        rates = f"{facts.budget:g} and {calibrated.calibration.review:g}"
        return _say("review", "in_review_band", f"{what}; {rarity}, between {rates}")
    if not calibrated.entitled:
        return _say(
            "review", "too_few_pristine",
            f"{what}; beyond every pristine picture known, but {calibrated.calibration.n} of them "
            f"can't promise a rate of {facts.budget:g}",
        )  # fmt: skip
    return _say("damaged", "beyond_pristine", f"{what}; {rarity}")


def _not_comparable(facts: Facts) -> Decision | None:
    if not facts.shown:
        return _say(
            "cannot_compare", "nothing_in_picture", "there is nothing in the picture to compare"
        )
    if facts.other_product is not None:
        return _say(
            "wrong_product", "other_product",
            f"this is no {facts.product_id!r}: it looks like {facts.other_product!r}",
        )  # fmt: skip
    if facts.alignment.status == "failed":
        return _say(
            "cannot_compare", "view_not_covered",
            f"no reference shows this face of the product, or it is another product: none of "
            f"the {facts.compared} compared could be laid upon the picture; add a reference if it "
            "is one of its faces",
        )  # fmt: skip
    if facts.alignment.status == "aligned" and facts.coverage < _LEAST_COVERAGE:
        return _say(
            "cannot_compare", "product_out_of_picture",
            f"only {facts.coverage:.0%} of the product lie in the picture",
        )  # fmt: skip
    if facts.fine < _LEAST_FINE:
        return _say(
            "review", "not_sharp",
            f"it differs from its references, but shows {facts.fine:.0%} of their fine detail: it "
            "is out of focus or has too few pixels",
        )  # fmt: skip
    if facts.alignment.status == "aligned" and facts.explained < _LEAST_EXPLAINED:
        return _say(
            "cannot_compare", "view_not_covered",
            f"no reference shows this face of the product, or it differs all over: only "
            f"{facts.explained:.0%} of it look like a reference; add a reference if it is one of "
            "its faces",
        )  # fmt: skip
    return None


def _held_to(calibrated: Calibrated, score: float) -> str:
    text = f"score {score:.3g}, threshold {calibrated.threshold:.3g}"
    if calibrated.calibration.review is None:
        return text
    return f"{text}, for review above {calibrated.review_threshold:.3g}"


def _say(verdict: Verdict, code: str, text: str) -> Decision:
    return Decision(verdict, Reason(code, text))
