"""Every branch of the verdict, and the order in which they are taken."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, product

import pytest

from anomaly.decide import Facts, decide
from anomaly.results import AlignmentSummary, Calibrated, Calibration, Finding

ALIGNED = AlignmentSummary("aligned", "r0", 40, 0.5, 1.0, None)
FALLBACK = AlignmentSummary("fallback")
FAILED = AlignmentSummary("failed")
STATUSES = {"aligned": ALIGNED, "fallback": FALLBACK, "failed": FAILED}


def calibrated(*, suspicious: bool, entitled: bool, n: int = 99) -> Calibrated:
    p_value = 1 / (n + 1) if suspicious else 0.42
    calibration = Calibration("pooled", n, 1 / (n + 1))
    return Calibrated(p_value, 3.0, suspicious, entitled, calibration)


SUSPICIOUS = calibrated(suspicious=True, entitled=True)
UNENTITLED = calibrated(suspicious=True, entitled=False, n=4)
USUAL = calibrated(suspicious=False, entitled=True)


def finding(kind: str) -> Finding:
    return Finding(kind, (0.0, 0.0, 8.0, 8.0), 64.0, 5.0, "r0")


DAMAGED = Facts(
    product_id="razor-3",
    shown=True,
    other_product=None,
    alignment=ALIGNED,
    has_form=True,
    coverage=1.0,
    calibrated=SUSPICIOUS,
    findings=(finding("added"),),
    budget=0.01,
)


def verdict_of(facts: Facts) -> tuple[str, str]:
    decision = decide(facts)
    return decision.verdict, decision.reason.code


@pytest.mark.parametrize(
    ("change", "verdict", "code"),
    [
        ({}, "damaged", "beyond_pristine"),
        ({"shown": False}, "cannot_compare", "nothing_in_picture"),
        ({"other_product": "comb-1"}, "wrong_product", "other_product"),
        ({"alignment": FAILED}, "cannot_compare", "view_not_covered"),
        ({"coverage": 0.49}, "cannot_compare", "product_out_of_picture"),
        ({"coverage": 0.5}, "damaged", "beyond_pristine"),
        ({"explained": 0.39}, "cannot_compare", "view_not_covered"),
        ({"explained": 0.4}, "damaged", "beyond_pristine"),
        ({"fine": 0.64}, "review", "not_sharp"),
        ({"fine": 0.65}, "damaged", "beyond_pristine"),
        ({"fine": 0.64, "explained": 0.39}, "review", "not_sharp"),  # it differs all over by that
        ({"calibrated": None}, "review", "not_calibrated"),
        ({"calibrated": USUAL}, "ok", "like_references"),
        ({"calibrated": replace(USUAL, entitled=False)}, "ok", "like_references"),
        ({"calibrated": UNENTITLED}, "review", "too_few_pristine"),
        ({"alignment": FALLBACK, "coverage": 0.0}, "review", "not_aligned"),
        ({"alignment": FALLBACK, "has_form": False}, "damaged", "beyond_pristine"),
        ({"alignment": FALLBACK, "has_form": False, "coverage": 0.0}, "damaged", "beyond_pristine"),
        ({"alignment": FALLBACK, "calibrated": USUAL}, "ok", "like_references"),
        (
            {"alignment": FALLBACK, "has_form": False, "explained": 0.0},
            "damaged",
            "beyond_pristine",
        ),
    ],
)
def test_one_fact_changed_at_a_time(change, verdict: str, code: str) -> None:
    assert verdict_of(replace(DAMAGED, **change)) == (verdict, code)


SAYS_SO = [  # the first that holds decides, whatever those below it say
    ({"shown": False}, "nothing_in_picture"),
    ({"other_product": "comb-1"}, "other_product"),
    ({"alignment": FAILED}, "view_not_covered"),
    ({"alignment": ALIGNED, "coverage": 0.1}, "product_out_of_picture"),
    ({"fine": 0.1}, "not_sharp"),
    ({"alignment": ALIGNED, "explained": 0.1}, "view_not_covered"),
    ({"calibrated": None}, "not_calibrated"),
    ({"alignment": FALLBACK}, "not_aligned"),
    ({"calibrated": UNENTITLED}, "too_few_pristine"),
]


PAIRS = [  # one fact can't be two things at once
    pair for pair in combinations(SAYS_SO, 2) if not set(pair[0][0]) & set(pair[1][0])
]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_of_two_reasons_the_earlier_one_is_given(first, second) -> None:
    (change, code), (other, _) = first, second
    assert decide(replace(DAMAGED, **{**other, **change})).reason.code == code


def every_case() -> list[Facts]:
    return [
        replace(
            DAMAGED, shown=shown, other_product=other, alignment=STATUSES[status],
            has_form=form, coverage=coverage, calibrated=known,
        )
        for shown, other, status, form, coverage, known in product(
            (True, False), (None, "comb-1"), STATUSES, (True, False), (0.0, 0.49, 0.5, 1.0),
            (None, SUSPICIOUS, UNENTITLED, USUAL),
        )
    ]  # fmt: skip


def test_damaged_needs_every_condition_at_once() -> None:
    found = [facts for facts in every_case() if decide(facts).verdict == "damaged"]
    # Aligned: with and without form, 2 coverages; fallback: without form, 4 coverages.
    assert len(found) == 2 * 2 + 4
    for facts in found:
        assert facts.shown
        assert facts.other_product is None
        assert facts.calibrated is SUSPICIOUS


def test_an_unaligned_product_with_a_form_is_never_damaged() -> None:
    cases = [f for f in every_case() if f.has_form and f.alignment.status != "aligned"]
    assert len(cases) > 50
    assert all(decide(facts).verdict != "damaged" for facts in cases)


def test_without_a_null_that_can_promise_the_budget_nothing_is_damaged() -> None:
    cases = [f for f in every_case() if f.calibrated is None or not f.calibrated.entitled]
    assert len(cases) > 50
    assert all(decide(facts).verdict != "damaged" for facts in cases)


def test_another_product_is_never_ok_and_never_damaged() -> None:
    for facts in every_case():
        if facts.other_product is not None:
            wanted = "wrong_product" if facts.shown else "cannot_compare"
            assert decide(facts).verdict == wanted


def test_what_is_not_suspicious_is_never_reviewed_and_what_is_never_ok() -> None:
    verdicts = {True: set(), False: set()}
    for facts in every_case():
        if facts.calibrated is not None:
            verdicts[facts.calibrated.suspicious].add(decide(facts).verdict)
    assert verdicts[True] == {"damaged", "review", "cannot_compare", "wrong_product"}
    assert verdicts[False] == {"ok", "cannot_compare", "wrong_product"}


# The sentences


def text_of(**change) -> str:
    return decide(replace(DAMAGED, **change)).reason.text


def test_the_sentence_counts_the_findings_by_kind_most_first() -> None:
    kinds = ("spill", "changed", "added", "changed", "spill", "changed")
    text = text_of(findings=tuple(map(finding, kinds)))
    assert "3 changed, 2 spill, 1 added" in text
    assert "p = 0.01 among 99 pristine pictures" in text
    assert text_of(findings=()).startswith("differs from its references;")
    relit = text_of(relit=True)
    assert relit.endswith(
        "p = 0.01 among 99 pristine pictures in other light than their references"
    )


def test_equally_many_kinds_come_in_alphabetic_order() -> None:
    assert "1 added, 1 missing" in text_of(findings=(finding("missing"), finding("added")))


def test_sentences_name_what_they_speak_of() -> None:
    other = text_of(other_product="comb-1")
    assert "'razor-3'" in other
    assert "'comb-1'" in other
    assert "30%" in text_of(coverage=0.3)
    assert "20% of it" in text_of(explained=0.2)
    few = text_of(calibrated=UNENTITLED)
    assert "4 of them" in few
    assert "0.01" in few


def test_ok_says_how_near_it_was() -> None:
    near = {"calibrated": replace(USUAL, threshold=3.984), "score": 3.52}
    assert text_of(**near) == (
        "differs from its references no more than pristine pictures may (score 3.52, threshold "
        "3.98), place by place against reference r0; p = 0.42 among 99 pristine pictures"
    )
    band = replace(USUAL.calibration, review=0.05)
    banded = replace(near["calibrated"], calibration=band, review_threshold=3.6)
    text = text_of(**{**near, "calibrated": banded})
    assert "(score 3.52, threshold 3.98, for review above 3.6)" in text
