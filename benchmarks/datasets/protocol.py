"""Which pictures become references, and which queries are left when not all are wanted."""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path

from benchmarks.datasets.errors import TooFewPictures
from benchmarks.datasets.sample import Split

_LIMIT_SEED = 0  # one for all seeds of a run: they then differ in references, not in queries


def draw_references(
    pictures: Iterable[Path], *, shots: int, seed: int, where: str | Path
) -> list[Path]:
    """The first `shots` of the sorted pictures after `random.Random(seed).shuffle`.

    The references of fewer shots are the beginning of those of more. Raises `TooFewPictures`, which
    names `where`, if there are fewer than `shots`.
    """
    drawn = sorted(pictures)
    if len(drawn) < shots:
        raise TooFewPictures(
            where, f"{len(drawn)} pictures for {shots} references; ask for at most {len(drawn)}"
        )
    random.Random(seed).shuffle(drawn)
    return drawn[:shots]


def limit_queries(splits: Sequence[Split], limit: int | None) -> list[Split]:
    """At most `limit` queries of all splits together; splits without any are dropped."""
    if limit is None:
        return list(splits)
    places = [(s, q) for s, split in enumerate(splits) for q in range(len(split.queries))]
    labels = [splits[s].queries[q].damaged for s, q in places]
    chosen = {places[i] for i in balanced(labels, [s for s, _ in places], limit=limit)}
    cut = [
        replace(split, queries=tuple(x for q, x in enumerate(split.queries) if (s, q) in chosen))
        for s, split in enumerate(splits)
    ]
    return [split for split in cut if split.queries]


def balanced(labels: Sequence[Hashable], products: Sequence[Hashable], *, limit: int) -> list[int]:
    """Indices of `limit` of N items, sorted: labels in turn and, for each label, products in turn.

    The same items give the same choice, whatever the run's seed; a smaller limit gives a part of a
    larger one's. A label or product that runs out leaves its turns to the others.
    """
    rng = random.Random(_LIMIT_SEED)
    # Damaged first: an odd limit gives the scarcer label the odd one.
    order = sorted(set(labels), key=lambda label: (label is not True, str(label)))
    queues = [_products_in_turn(labels, products, label, rng) for label in order]
    return sorted(_in_turn(queues)[:limit])


def _products_in_turn(
    labels: Sequence[Hashable], products: Sequence[Hashable], label: Hashable, rng: random.Random
) -> list[int]:
    queues: dict[Hashable, list[int]] = {}
    for index, (own, product) in enumerate(zip(labels, products, strict=True)):
        if own == label:
            queues.setdefault(product, []).append(index)
    shuffled = list(queues.values())
    rng.shuffle(shuffled)
    for queue in shuffled:
        rng.shuffle(queue)
    return _in_turn(shuffled)


def _in_turn(queues: Sequence[Sequence[int]]) -> list[int]:
    return [index for index in chain.from_iterable(zip_longest(*queues)) if index is not None]
