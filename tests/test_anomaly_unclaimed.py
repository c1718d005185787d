"""When a picture that nobody claimed is asked once more whether it shows a product at all."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from anomaly.calibrate import NullScores
from anomaly.decide import Decision
from anomaly.results import Reason, Verdict
from anomaly.unclaimed import in_doubt

PLAIN = NullScores("shipped", np.linspace(0, 4, 199, dtype=np.float32))


@pytest.mark.parametrize(
    ("verdict", "code", "relit", "score", "doubt"),
    [
        ("cannot_compare", "view_not_covered", False, 9.0, True),
        ("cannot_compare", "view_not_covered", True, 9.0, True),
        ("cannot_compare", "product_out_of_picture", False, 9.0, False),
        ("damaged", "beyond_pristine", True, 9.0, False),
        ("ok", "like_references", False, 5.0, False),
        ("ok", "like_references", True, 5.0, True),  # in plain light it would be damaged
        ("ok", "like_references", True, 3.0, False),
        ("review", "in_review_band", True, 5.0, True),  # no more is known of it than of that
        ("review", "in_review_band", False, 5.0, False),
    ],
)
def test_what_looks_like_no_reference_or_passes_by_its_light_alone(
    verdict: Verdict, code: str, relit: bool, score: float, doubt: bool
) -> None:
    decision = Decision(verdict, Reason(code, ""))
    facts: Any = SimpleNamespace(product_id="p", budget=0.01)
    kind = "relit" if relit else "placed"
    evidence: Any = SimpleNamespace(comparison=SimpleNamespace(kind=kind))
    judged: Any = SimpleNamespace(scored=SimpleNamespace(score=score))
    serving: Any = SimpleNamespace(null_scores=lambda _: {"placed": (PLAIN,)})
    assert in_doubt(decision, facts, evidence, judged, serving) is doubt
