"""Which queries are worth a look: clearly found, missed, and falsely suspected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from benchmarks.evaluate import labelled
from benchmarks.records import Record, Records

Kind = Literal["found", "missed", "alarmed"]


@dataclass(frozen=True)
class Notable:
    """A query that a scorer ranked very well or very badly.

    kind    found: damaged, ranked highest; missed: damaged, ranked lowest; alarmed: pristine,
            ranked highest
    share   of the other class's queries that score lower, 0 to 1; equal scores count half
    """

    record: Record
    kind: Kind
    share: float


def notable(
    records: Records, *, scorer: str, dataset: str, shots: int, seed: int, count: int = 4
) -> tuple[Notable, ...]:
    """At most `count` of each kind, in the order found, missed, alarmed; the most telling first.

    Damage that scores above all pristine queries isn't missed, and a pristine query below all
    damage is no alarm: a scorer without mistakes has none to show. Nothing without both classes.
    """
    rows = [
        row
        for row in labelled(records.rows)
        if (row.scorer, row.dataset, row.shots, row.seed) == (scorer, dataset, shots, seed)
    ]
    damaged = [row for row in rows if row.damaged]
    pristine = [row for row in rows if not row.damaged]
    if not damaged or not pristine:
        return ()
    hit, miss = _shares(damaged, pristine), _shares(pristine, damaged)
    low, high = hit[::-1], [one for one in miss if one[1] > 0]
    found = [Notable(row, "found", share) for row, share in hit if share > 0.5]
    missed = [Notable(row, "missed", share) for row, share in low if share < 1]
    alarmed = [Notable(row, "alarmed", share) for row, share in high]
    return (*found[:count], *missed[:count], *alarmed[:count])


def _shares(rows: Sequence[Record], others: Sequence[Record]) -> list[tuple[Record, float]]:
    """Rows with the share of others that score lower, highest score first."""
    scores = np.array([other.score for other in others])
    ordered = sorted(rows, key=lambda row: (-row.score, row.sample_id))
    return [
        (row, float(((scores < row.score) + 0.5 * (scores == row.score)).mean())) for row in ordered
    ]
