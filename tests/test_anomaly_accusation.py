"""The audit's rules: what each suspicion is called once the second look has spoken."""

from __future__ import annotations

import pytest

from anomaly.accusation import ACCUSED, KINDS, WIDE, Facts, accuse
from anomaly.suspects import BLUR, Suspicion

FOREIGN = Suspicion(0, "foreign", 0.2, 0.0, other="q")
UNPLACED = Suspicion(0, "unplaced", 0.0, 1.0)
BLURRED = Suspicion(0, "blurred", 0.25, BLUR)
UNLIKE = Suspicion(0, "unlike", 0.002, 0.01, "shipped")


def facts(*causes: Suspicion, **known: object) -> Facts:
    usual = {
        "siblings": 5, "registered": 4, "p_value": 0.4, "source": "shipped", "marked": 0.01,
        "located": True, "shown": None, "has_form": True, "rarity": 0.01,
    }  # fmt: skip
    return Facts(causes={c.cause: c for c in causes}, **(usual | known))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        (facts(), None),
        (facts(UNLIKE, p_value=0.02), None),  # cleared by the second look
        (facts(UNLIKE, p_value=0.01), "damaged"),
        (facts(UNLIKE, p_value=0.002, marked=WIDE), "undecided"),
        (facts(UNLIKE, p_value=0.002, marked=0.0, located=False), None),  # damage has a place
        (facts(UNLIKE, p_value=0.002, marked=0.0), "damaged"),  # beside the product
        (facts(UNLIKE, p_value=0.002, siblings=1, registered=1), "undecided"),
        (facts(BLURRED), "blurred"),
        (facts(BLURRED, UNLIKE, p_value=0.002), "blurred"),  # blur explains the rest
        (facts(BLURRED, UNPLACED, UNLIKE, registered=0, p_value=0.002), "blurred"),
        (facts(BLURRED, UNPLACED, registered=0, shown="q"), "wrong_product"),
        (facts(UNPLACED, registered=0, shown="q"), "wrong_product"),
        (facts(UNPLACED, FOREIGN, registered=0), "wrong_product"),
        (facts(FOREIGN, registered=0, p_value=0.002), "wrong_product"),
        (facts(FOREIGN, registered=0, p_value=0.002, has_form=False), "wrong_product"),
        (facts(FOREIGN, registered=0), None),  # siblings don't register reliably either
        (facts(UNPLACED, registered=0), "undecided"),  # another face, perhaps
        (facts(UNPLACED, UNLIKE, registered=0, p_value=0.002), "undecided"),
        (facts(UNLIKE, registered=0, p_value=0.002), "undecided"),
        (facts(UNLIKE, registered=0, p_value=0.002, has_form=False), "damaged"),
        (facts(registered=0, has_form=False), None),
        (facts(UNLIKE, p_value=None), None),  # nothing is known of pristine scores
        (facts(UNPLACED, FOREIGN, registered=1), None),  # it does register, after all
    ],
)
def test_each_case_is_called_what_it_is(case: Facts, kind: str | None) -> None:
    found = accuse(case)
    assert (found.kind if found else None) == kind


def test_reasons_name_siblings_null_and_product_and_call_for_a_person_when_undecided() -> None:
    damaged = accuse(facts(UNLIKE, p_value=0.002, marked=0.031))
    assert damaged is not None
    assert damaged.reason == (
        "3.1% of it differ from its 5 siblings, p = 0.002 by the shipped null"
    )
    assert (damaged.figure, damaged.limit) == (0.002, 0.01)
    wrong = accuse(facts(UNPLACED, registered=0, shown="q"))
    assert wrong is not None
    assert wrong.reason == "it registers with none of its 5 siblings but with 'q'"
    blurred = accuse(facts(BLURRED))
    assert blurred is not None
    assert "4.0 times as coarse" in blurred.reason
    for case in (
        facts(UNLIKE, p_value=0.002, marked=0.5), facts(UNPLACED, registered=0),
        facts(UNLIKE, registered=0, p_value=0.002),
    ):  # fmt: skip
        undecided = accuse(case)
        assert undecided is not None
        assert undecided.reason.endswith("a person must look")


@pytest.mark.parametrize(
    ("share", "said"),
    [(0.0, "too few fine details"), (0.001, "far blurrier"), (0.11, "9.1 times as coarse")],
)
def test_a_blur_beyond_measure_is_said_in_words(share: float, said: str) -> None:
    blurred = accuse(facts(Suspicion(0, "blurred", share, BLUR)))
    assert blurred is not None
    assert said in blurred.reason
    assert "1000" not in blurred.reason


def test_doubts_copies_and_variants_are_no_accusations() -> None:
    assert set(KINDS) - set(ACCUSED) == {"undecided", "variant", "duplicate"}
