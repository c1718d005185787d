"""What a suspect is: the audit's rules, in their order, and nothing else.

What can't be told apart is not accused: a picture that differs all over may be damaged or a new
design, one that fits no sibling may show another face. Both are `undecided`, for a person.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from anomaly.suspects import Cause, Suspicion

AuditKind = Literal["damaged", "wrong_product", "blurred", "duplicate", "variant", "undecided"]
KINDS: tuple[AuditKind, ...] = (
    "wrong_product", "damaged", "blurred", "undecided", "variant", "duplicate"
)  # fmt: skip
ACCUSED: tuple[AuditKind, ...] = ("wrong_product", "damaged", "blurred")
"""Kinds that say a reference is bad; they are what is quarantined unless told otherwise."""
WIDE = 0.15
"""Share of the product's cells beyond the threshold from which it may be another design: rendered
damage of up to 4 % of a face marks up to 12 %, 22 of 24 new designs 21 to 74 %."""

_FAR = 10  # times as coarse, beyond which the figure says no more


@dataclass(frozen=True)
class Facts:
    """All that an accusation may rest on.

    causes      why the first look suspected it
    siblings    how many it was held against; `registered`: those that it registers with
    p_value     how rarely a pristine picture differs as much, under the scores of `source`
    marked      share of the product that is beyond the threshold
    located     whether any one place is: channels that are each a little loud can add up to less
    shown       another product whose reference it registers with, or None
    has_form    whether pictures of the product can be laid upon each other
    """

    causes: Mapping[Cause, Suspicion]
    siblings: int
    registered: int
    p_value: float | None
    source: str
    marked: float
    located: bool
    shown: str | None
    has_form: bool
    rarity: float

    @property
    def rare(self) -> bool:
        return self.p_value is not None and self.p_value <= self.rarity


@dataclass(frozen=True)
class Accusation:
    kind: AuditKind
    figure: float
    limit: float
    reason: str


def accuse(facts: Facts) -> Accusation | None:
    """The accusation, or None when the second look clears the suspect."""
    if facts.registered == 0 and facts.shown is not None:
        return Accusation(
            "wrong_product", 0.0, 1.0,
            f"it registers with none of its {_siblings(facts)} but with {facts.shown!r}",
        )  # fmt: skip
    blur = facts.causes.get("blurred")
    if blur is not None:
        text = _blur_in_words(blur.figure)
        return Accusation("blurred", blur.figure, blur.limit, text)
    return _misplaced(facts) if facts.registered == 0 else _placed(facts)


def _blur_in_words(share: float) -> str:
    """`share` is the picture's sharpness over its siblings'; 0 where it has too little detail."""
    if share <= 0:
        return "it has too few fine details to tell how sharp it is; its siblings have them"
    if share < 1 / _FAR:
        return f"it is far blurrier than its siblings: finest detail over {_FAR} times as coarse"
    return f"its finest detail is {1 / share:.1f} times as coarse as theirs"


def _misplaced(facts: Facts) -> Accusation | None:
    """Registers with no sibling."""
    foreign = facts.causes.get("foreign")
    odd = "unplaced" in facts.causes
    if foreign is not None and (odd or facts.rare):
        return Accusation(
            "wrong_product", foreign.figure, foreign.limit,
            f"it registers with none of its {_siblings(facts)} and is nearer to {foreign.other!r}",
        )  # fmt: skip
    if odd:
        return Accusation(
            "undecided", 0.0, 1.0,
            f"its {_siblings(facts)} register with each other, it with none: another face, another "
            "design or another product; a person must look",
        )  # fmt: skip
    if not facts.rare:
        return None
    assert facts.p_value is not None
    if not facts.has_form:
        return Accusation("damaged", facts.p_value, facts.rarity, f"unlike {_rarity(facts)}")
    return Accusation(
        "undecided", facts.p_value, facts.rarity,
        f"unlike {_rarity(facts)}, but it can be aligned with none: a person must look",
    )  # fmt: skip


def _placed(facts: Facts) -> Accusation | None:
    """Registers with siblings, so it shows what they show, or nearly. Damage has a place."""
    if not (facts.rare and facts.located):
        return None
    assert facts.p_value is not None
    if facts.siblings == 1:
        return Accusation(
            "undecided", facts.p_value, facts.rarity,
            f"it and its only sibling disagree ({_rarity(facts)}); which is wrong two can't tell",
        )  # fmt: skip
    if facts.marked >= WIDE:
        return Accusation(
            "undecided", facts.p_value, facts.rarity,
            f"{facts.marked:.0%} of it differ from {_rarity(facts)}: damaged or a new design; a "
            "person must look",
        )  # fmt: skip
    text = f"{facts.marked:.1%} of it differ from {_rarity(facts)}"
    return Accusation("damaged", facts.p_value, facts.rarity, text)


def _siblings(facts: Facts) -> str:
    return "sibling" if facts.siblings == 1 else f"{facts.siblings} siblings"


def _rarity(facts: Facts) -> str:
    return f"its {_siblings(facts)}, p = {facts.p_value:.2g} by the {facts.source} null"
