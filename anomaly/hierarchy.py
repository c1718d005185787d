"""Pristine scores of many products as one null that fits each: partial pooling, then conformal.

A random-effects model: product p's pristine scores lie around a place of its own, m_p, by `within`;
places lie around `centre` by `between`. Both are estimated by moments (one-way analysis of
variance). A product's place is shrunk towards the gallery's centre by how little its n scores say,

    w = n between² / (n between² + within²),   place = centre + w (mean of n - centre),
    spread² = within² + (1 - w) between²,

the empirical Bayes answer (Efron & Morris 1975): none of its own gives the gallery's, many its own.
The null of a product with n scores are the residuals of all products' scores, each taken relative
to n others of its product (as many as there are, up to n), brought to the place and spread of this
one. So each stands where the new score stands, and they are exchangeable up to the three estimated
figures, whatever the shape of their tails. Without scores of its own that is the flat pool.

A pool speaks for other products, so none of its products may speak for most of it: of one with many
scores as many count as `most_of_one` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embeddings.patches import Floats

LEAST_PRODUCTS = 3
"""Fewer don't tell how much products differ."""
_LARGEST_PART = 8  # of a pool is a product's: an eighth


@dataclass(frozen=True)
class Hierarchy:
    """How pristine scores spread `within` products, and their places `between` them.

    groups  the scores by product, (n,) each, none empty
    """

    centre: float
    within: float
    between: float
    groups: tuple[NDArray[np.float64], ...]
    _residuals: dict[int, NDArray[np.float64]] = field(
        default_factory=dict, compare=False, repr=False
    )

    def null_for(self, own: Floats) -> Floats:
        """(M,) pristine scores as a product might have them whose (n,) own ones are `own`."""
        mean = float(np.mean(own)) if len(own) else self.centre
        place, spread = self._predicted(mean, len(own))
        return np.asarray(place + spread * self._given(len(own)), np.float32)

    def _given(self, count: int) -> NDArray[np.float64]:
        """Standardised residuals, each score's given `count` others of its product."""
        if count not in self._residuals:
            found = [self._left_out(group, min(count, len(group) - 1)) for group in self.groups]
            self._residuals[count] = np.concatenate(found)
        return self._residuals[count]

    def _left_out(self, scores: NDArray[np.float64], others: int) -> NDArray[np.float64]:
        # The next ones in turn, from the first again after the last.
        ahead = np.cumsum([0, *scores, *scores])
        rows = np.arange(len(scores)) + 1
        sums = ahead[rows + others] - ahead[rows]
        place, spread = self._predicted(sums / max(others, 1), others)
        return np.asarray((scores - place) / spread)

    def _predicted(
        self, mean: NDArray[np.float64] | float, count: int
    ) -> tuple[NDArray[np.float64] | float, float]:
        """Place of a product whose `count` scores have this mean, and spread of its next one."""
        noise, signal = self.within**2, count * self.between**2
        weight = signal / (signal + noise)
        return (
            self.centre + weight * (mean - self.centre),
            (noise + (1 - weight) * self.between**2) ** 0.5,
        )


def most_of_one(counts: Sequence[int]) -> int:
    """How many scores of one product count in a pool of so many by product: as many as an eighth
    of those that count, or twice an even share of them where that is more."""
    most = max(counts)
    while (fair := _fair(sum(min(count, most) for count in counts), len(counts))) < most:
        most = fair
    return most


def _fair(total: int, products: int) -> int:
    return max(total // _LARGEST_PART, 2 * total // products)


def evened(groups: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Of each product's scores, none empty, those that count in a pool, evenly drawn in the order
    they came in, so that they stand for all whatever their values."""
    most = most_of_one([len(group) for group in groups]) if groups else 0
    return [
        group
        if len(group) <= most
        else group[np.linspace(0, len(group) - 1, most).round().astype(int)]
        for group in groups
    ]


def fit_hierarchy(groups: Mapping[str, Floats]) -> Hierarchy | None:
    """The model of pristine scores by product, none of which has most of them; None for fewer than
    three products with any."""
    found = [np.asarray(groups[name], np.float64) for name in sorted(groups) if len(groups[name])]
    if len(found) < LEAST_PRODUCTS:
        return None
    found = evened(found)
    counts = np.array([len(g) for g in found])
    means = np.array([g.mean() for g in found])
    free = int((counts - 1).sum())
    squares = sum(float(((g - g.mean()) ** 2).sum()) for g in found)
    apart = float(np.var(means, ddof=1))
    # One score each: nothing tells the two apart, and nothing is shrunk.
    within2 = max(squares / free if free else apart, 1e-12)
    between2 = max(0.0, apart - float(np.mean(within2 / counts))) if free else 0.0
    weights = 1 / (between2 + within2 / counts)
    centre = float((weights * means).sum() / weights.sum())
    return Hierarchy(centre, within2**0.5, between2**0.5, tuple(found))
