"""Operating points: how much known damage is found at which sideline rate.

Recall counts every damaged picture: one that can't be compared, or not in place, is not found. Its
interval is Wilson's (1927), for pictures that are independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from anomaly.calibrate import calibrate
from anomaly.results import EvidenceKind
from anomaly.serving import Serving

RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)


@dataclass(frozen=True)
class Shown:
    """A picture's evidence. `decided`: whether its score decides about damage."""

    product_id: str
    kind: EvidenceKind
    score: float
    decided: bool


@dataclass(frozen=True)
class OperatingPoint:
    """At this share of pristine pictures sidelined, `found` of `damaged` pictures are.

    promised  those of them for which the null is large enough to promise the rate: others are
              for review at best
    """

    rate: float
    damaged: int
    promised: int
    found: int

    @property
    def recall(self) -> float:
        return self.found / self.damaged

    @property
    def interval(self) -> tuple[float, float]:
        """95 % of the recall."""
        return wilson(self.found, self.damaged)

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"recall": self.recall, "recall_95": list(self.interval)}


def operating_points(serving: Serving, damaged: Sequence[Shown]) -> list[OperatingPoint]:
    """By rising rate: common ones, and those of the serving's calibration."""
    known = serving.calibration
    own = () if known is None else (known.budget, *([known.review] if known.review else []))
    sources = {name: serving.null_scores(name) for name in {shown.product_id for shown in damaged}}
    points = []
    for rate in sorted({*RATES, *own}):
        answers = [
            calibrate(shown.score, sources[shown.product_id][shown.kind], budget=rate)
            for shown in damaged
            if shown.decided
        ]
        promised = [answer for answer in answers if answer is not None and answer.entitled]
        found = sum(answer.suspicious for answer in promised)
        points.append(OperatingPoint(rate, len(damaged), len(promised), found))
    return points


def wilson(hits: int, count: int) -> tuple[float, float]:
    """95 % interval of a share of which `hits` of `count`, at least one, are known."""
    z = 1.959964
    share = hits / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / 4 / count**2)
    return max(0.0, centre - half), min(1.0, centre + half)
