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

from anomaly.results import Calibrated, Calibration
from embeddings.patches import Floats


@dataclass(frozen=True)
class NullScores:
    """Studentised scores of pristine pictures, any order."""

    source: Literal["product", "pooled", "shipped"]
    scores: Floats

    @property
    def attainable(self) -> float:
        return 1.0 / (len(self.scores) + 1)


def calibrate(score: float, sources: Sequence[NullScores], *, budget: float) -> Calibrated | None:
    """The p-value of `score` under the first of `sources` (most specific first) that can attain
    `budget`, else under the largest; None when no source holds a score or there is none."""
    usable = [s for s in sources if len(s.scores)]
    if not usable or not math.isfinite(score):
        return None
    able = [s for s in usable if s.attainable <= budget]
    chosen = able[0] if able else max(usable, key=lambda s: len(s.scores))
    ordered = np.sort(np.asarray(chosen.scores, np.float64))[::-1]
    count = len(ordered)
    p_value = (1 + int((ordered >= score).sum())) / (count + 1)
    # Pristine scores that may lie above the threshold.
    allowed = min(max(0, math.floor(budget * (count + 1) + 1e-9) - 1), count - 1)
    threshold = float(ordered[allowed])
    calibration = Calibration(chosen.source, count, chosen.attainable)
    return Calibrated(p_value, threshold, score > threshold, bool(able), calibration)
