"""Which references of a product may show another design: groups of vectors that keep together.

A proposal only, from global vectors alone; pose and light group pictures, too. The audit compares
the members of a group with the rest before it says anything.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embeddings.patches import Floats

APART = 1.25
"""How many times farther a group lies from the rest than either lies from itself."""
_MOST_TRIED = 3


def candidate_groups(vectors: Floats) -> list[tuple[int, ...]]:
    """Rows of (K, D) unit vectors that keep together, at least 2 and at most half of them.

    Clusters of average linkage, the ones farthest apart from the rest first, at most three.
    """
    distances = 1 - vectors @ vectors.T
    rated = []
    for group in _clusters(distances):
        if 2 <= len(group) <= len(vectors) / 2:
            rated.append((apartness(distances, group), group))
    # Of two halves, equally far apart, the one that came later is the new one.
    rated.sort(key=lambda one: (-round(one[0], 6), -one[1][0]))
    return [group for rating, group in rated[:_MOST_TRIED] if rating >= APART]


def apartness(distances: Floats, group: Sequence[int]) -> float:
    """Mean distance between a group and the rest over the larger mean within one of them."""
    inside = np.zeros(len(distances), np.bool_)
    inside[list(group)] = True
    between = float(distances[np.ix_(inside, ~inside)].mean())
    return between / max(_within(distances, inside), _within(distances, ~inside), 1e-6)


def _within(distances: Floats, rows: NDArray[np.bool_]) -> float:
    count = int(rows.sum())
    block = distances[np.ix_(rows, rows)]
    return float((block.sum() - np.trace(block)) / (count * (count - 1))) if count > 1 else 0.0


def _clusters(distances: Floats) -> list[tuple[int, ...]]:
    """All clusters that average linkage makes on its way from single rows to one."""
    parts: list[tuple[int, ...]] = [(row,) for row in range(len(distances))]
    found: list[tuple[int, ...]] = []
    while len(parts) > 2:
        pairs = [(a, b) for a in range(len(parts)) for b in range(a + 1, len(parts))]
        gaps = [float(distances[np.ix_(parts[a], parts[b])].mean()) for a, b in pairs]
        a, b = pairs[int(np.argmin(gaps))]
        joined = tuple(sorted(parts[a] + parts[b]))
        parts = [part for place, part in enumerate(parts) if place not in (a, b)] + [joined]
        found.append(joined)
    return found + [part for part in parts if part not in found]
