"""Stage 4: a score -> how rarely a pristine picture scores as high.

Conformal p-values (Vovk, Gammerman & Shafer 2005): with n pristine scores none is below 1/(n+1),
so the null is taken from the most specific source that can attain the budget: the product's own
references, then all of the gallery's, then the scores that the wheel ships.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from anomaly.results import Calibrated, Calibration
from embeddings.patches import Floats

_ROUNDING = 1e-9


@dataclass(frozen=True)
class NullScores:
    """Studentised scores of pristine pictures, any order.

    calibration_id  of the operator's calibration that they come from, or None
    own             how many of the product's own scores they were brought to it by
    """

    source: Literal["product", "pooled", "shipped"]
    scores: Floats
    calibration_id: str | None = None
    own: int = 0

    @property
    def attainable(self) -> float:
        return 1.0 / (len(self.scores) + 1)


def within(p_value: float, rate: float) -> bool:
    """Whether a p-value is no more than a rate. Of both that are meant to be equal, a share of a
    rate or a multiple of a p-value may differ in its last digits."""
    return p_value <= rate * (1 + _ROUNDING)


def calibrate(
    score: float, sources: Sequence[NullScores], *, budget: float, review: float | None = None
) -> Calibrated | None:
    """The p-value of `score` under the first of `sources` (most specific first) that can attain
    `budget`, else under the largest; None when no source holds a score or there is none.

    `review`: a wider rate than the budget; scores rarer than that, but not than the budget, are
    for a person to look at.
    """
    usable = [s for s in sources if len(s.scores)]
    if not usable or not math.isfinite(score):
        return None
    able = [s for s in usable if within(s.attainable, budget)]
    chosen = able[0] if able else max(usable, key=lambda s: len(s.scores))
    ordered = np.sort(np.asarray(chosen.scores, np.float64))[::-1]
    count = len(ordered)
    p_value = (1 + int((ordered >= score).sum())) / (count + 1)
    threshold = _threshold(ordered, budget)
    look_at = threshold if review is None else min(threshold, _threshold(ordered, review))
    calibration = Calibration(
        chosen.source, count, chosen.attainable, chosen.calibration_id, chosen.own, budget, review
    )
    return Calibrated(
        p_value, threshold, score > threshold, bool(able), calibration, score > look_at, look_at
    )


def _threshold(ordered: NDArray[np.float64], rate: float) -> float:
    """Above it lie no more scores than `rate` allows; `ordered` from the highest down."""
    count = len(ordered)
    allowed = min(max(0, math.floor(rate * (count + 1) + _ROUNDING) - 1), count - 1)
    return float(ordered[allowed])
