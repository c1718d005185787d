"""Chance: a number drawn from the pixels and the seed, the null that every scorer must beat.

The same picture gets the same number, as from any scorer, but nothing in it tells of damage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from anomaly.pipeline import StageClock
from anomaly.scorers.pictures import checked, checked_references, digest
from anomaly.scorers.protocol import Score
from embeddings.images import Pixels


@dataclass(frozen=True)
class Chance:
    """The scorer. Final."""

    name: str = "chance"

    def fit(self, references: Sequence[Pixels], *, seed: int) -> ChanceModel:
        """Learn nothing. Raises `NoReferences`."""
        checked_references(references)
        return ChanceModel(seed)


@dataclass(frozen=True)
class ChanceModel:
    """Uniform in [0, 1), by `seed`."""

    seed: int

    def score(self, query: Pixels) -> Score:
        """A number that hangs on every pixel. Raises `NotAPicture`."""
        clock = StageClock()
        with clock("draw"):
            drawn = int.from_bytes(digest(checked(query), salt=self.seed)[:6], "big")
        return Score(drawn / 2**48, None, clock.milliseconds)
