"""When another product fits far better than the claimed one."""

from __future__ import annotations

import pytest

from anomaly.recognise import Recognised, better_product


def likely(**inliers: int) -> list[Recognised]:
    """Products by their inliers, most first, as `recognise` gives them."""
    ordered = sorted(inliers.items(), key=lambda item: -item[1])
    return [Recognised(name, count, count, 0.1) for name, count in ordered]


def never() -> str | None:
    raise AssertionError("asked although registration decides")


@pytest.mark.parametrize(
    ("candidates", "inliers", "expected"),
    [
        (likely(comb=41, brush=20), 20, "comb"),
        (likely(comb=40, brush=20), 20, None),  # not more than twice as many
        (likely(comb=30), 0, "comb"),  # the claimed one is not even likely
        (likely(comb=30), 16, None),
        (likely(brush=30, comb=20), 5, None),  # what claimed references beyond those compared say
        (likely(brush=30), 0, None),
        (likely(brush=0, comb=0), 0, None),
        ([], 0, None),
    ],
)
def test_registration_decides(
    candidates: list[Recognised], inliers: int, expected: str | None
) -> None:
    known = (lambda: None) if not inliers else never
    found = better_product(candidates, product_id="brush", inliers=inliers, known=known)
    assert found == expected


@pytest.mark.parametrize(
    ("named", "expected"), [("comb", "comb"), ("razor", None), (None, None), ("brush", None)]
)
def test_shared_print_of_a_refuted_claim_is_settled_by_what_the_picture_is_known_to_show(
    named: str | None, expected: str | None
) -> None:
    candidates = likely(comb=180, brush=100)
    found = better_product(candidates, product_id="brush", inliers=0, known=lambda: named)
    assert found == expected
    assert better_product(candidates, product_id="brush", inliers=100, known=never) is None
