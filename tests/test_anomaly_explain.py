"""Sentences say what the figures say: places in words against rendered truth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from anomaly import Inspector
from anomaly.explain import Extent, compared_with, place_on, what_differs
from anomaly.results import AlignmentSummary, Finding, Kind
from anomaly.studio import Damage, Photograph

PRODUCT = Extent((100.0, 100.0, 400.0, 400.0), 90_000.0)
ALIGNED = AlignmentSummary("aligned", "0123456789abcdef", 40, 0.5, 1.0)
CARTON = "s0-carton-0"


def _finding(kind: Kind, x: float, y: float, *, area: float = 900.0, score: float = 5.0) -> Finding:
    return Finding(kind, (x - 15, y - 15, x + 15, y + 15), area, score, "r")


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [(120, 120, "upper left"), (250, 120, "top"), (380, 120, "upper right"), (120, 250, "left"),
     (250, 250, "middle"), (380, 250, "right"), (120, 380, "lower left"), (250, 380, "bottom"),
     (380, 380, "lower right"), (20, 250, "left"), (250, 470, "bottom"), (470, 20, "upper right")],
)  # fmt: skip
def test_places_are_ninths_of_the_product(x: float, y: float, words: str) -> None:
    assert place_on((x - 9, y - 9, x + 9, y + 9), PRODUCT.box_px) == words


@pytest.mark.parametrize(
    ("finding", "said"),
    [
        (_finding("changed", 120, 120), "it looks otherwise at the upper left of the product, 1%"),
        (
            _finding("missing", 250, 380, area=9000),
            "missing at the bottom of the product, 10% of",
        ),
        (_finding("added", 250, 250, area=90), "added at the middle of the product, less than 1%"),
        (_finding("changed", 250, 250, area=60_000), "it looks otherwise all over the product"),
        (_finding("spill", 50, 250), "something lies beside the product, at its left"),
        (_finding("spill", 250, 250), "something lies beside the product, around it"),
        (Finding("missing", None, None, 4.0, None), "nowhere in the picture"),
    ],
)
def test_a_finding_in_words(finding: Finding, said: str) -> None:
    text = what_differs([finding], product=PRODUCT, alignment=ALIGNED)
    assert text.startswith(f"differs from reference 0123456789ab: 1 {finding.kind}: ")
    assert said in text
    assert finding.kind in what_differs([finding], product=None, alignment=ALIGNED)


def test_the_clearest_are_described_and_all_are_counted() -> None:
    found = [_finding("spill", 50, 250, score=1), _finding("changed", 120, 120, score=3),
             _finding("changed", 380, 380, score=2)]  # fmt: skip
    text = what_differs(found, product=PRODUCT, alignment=AlignmentSummary("fallback"))
    assert text.startswith("differs from its references: 2 changed, 1 spill: ")
    assert text.index("upper left") < text.index("lower right")
    assert "beside" not in text
    assert what_differs([], product=None, alignment=ALIGNED) == "differs from its references"


def test_how_it_was_compared() -> None:
    assert compared_with(ALIGNED, turning=False) == "place by place against reference 0123456789ab"
    assert compared_with(ALIGNED, turning=True).startswith("compared wherever its print lies")
    free = AlignmentSummary("fallback")
    assert compared_with(free, turning=False) == "compared wherever it lies"


@pytest.mark.parametrize("kind", ["tear", "hole", "spill"])
def test_rendered_damage_is_where_the_sentence_says(
    shop: Path, shoot: Callable[..., Photograph], kind: str
) -> None:
    photograph = shoot(CARTON, 3, damage=Damage(kind, strength=0.8))
    with Inspector.open(shop) as inspector:
        result = inspector.inspect(photograph.image, product_id=CARTON)
    assert result.verdict == "damaged"
    text = result.reason.text
    assert ("beside the product" in text) == (kind == "spill")
    assert result.alignment is not None
    assert result.alignment.reference_id is not None
    assert f"reference {result.alignment.reference_id[:12]}" in text
    rows, columns = np.nonzero(photograph.damage_mask)
    truth = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    rows, columns = np.nonzero(photograph.product_mask)
    product = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert place_on(truth, product) in text, (truth, product, text)


def test_a_face_not_covered_says_how_many_references_were_tried(
    shop: Path, shoot: Callable[..., Photograph]
) -> None:
    with Inspector.open(shop) as inspector:
        back = inspector.inspect(shoot(CARTON, 7, face="back").image, product_id=CARTON)
        sound = inspector.inspect(shoot(CARTON, 1).image, product_id=CARTON)
    assert "none of the 4 compared" in back.reason.text
    assert "place by place against reference" in sound.reason.text
