"""Which index a build gets: exact while that is fast; beyond, IVF where it finds what exact finds.

Size decides first (`EXACT_VALUES`). Beyond it an IVF index is tried out on queries beside the
references, with more and more of its lists searched, until recall is reached. Where too much would
have to be searched for it, the index stays exact. What is chosen depends on the vectors alone,
never on the clock; times are measured to be reported.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from embeddings.patches import Floats
from gallery import durable
from gallery.index import FLAT, IVF, Index, Keys, Neighbours, training_device, write_index

EXACT_VALUES = 60_000_000
"""Vectors x dims that are searched exactly: 187 500 references of 320 dims take 8 to 9 ms of one
core of an AMD EPYC, a quarter of what one network pass takes (`benchmarks.bench_index_scale`)."""
RECALL = 0.99
"""Least share of the exact search's 1 and 10 nearest that an index must find (a gate)."""
AIM = 0.995
"""What is tuned for. The gate asks other queries, and 1000 queries tell recall to 0.003."""
MOST_SCANNED = 0.4
"""Share of the vectors beyond which an approximate search saves too little to be worth it: a vector
in a list costs twice what one in a flat index does (150 000 references: 15.2 ms, 7.0 ms)."""
SAMPLE = 1000
_DEPTH = 10
_ROUNDING = 1e-5
_BLOCK = 1 << 14


@dataclass(frozen=True)
class Trial:
    """An IVF index with `probes` lists searched. `scanned`: mean share of vectors compared."""

    probes: int
    recall_at_1: float
    recall_at_10: float
    scanned: float
    ms_p50: float
    ms_p95: float


@dataclass(frozen=True)
class IndexChoice:
    """`why` in words; `trials` in the order they were made; `ms_all_lists`: median of the
    IVF index with all its lists searched.

    `chosen` and `lists` are None for a flat index. `trained_on`: cpu | gpu, None if untrained.
    """

    kind: str
    why: str
    lists: int | None = None
    chosen: Trial | None = None
    trials: tuple[Trial, ...] = ()
    ms_all_lists: float | None = None
    trained_on: str | None = None

    def settings(self, centre: Floats) -> Mapping[str, Any]:
        """What the manifest says of the index, see `Index.of_build`."""
        found: dict[str, Any] = {"kind": self.kind, "centre": [float(x) for x in centre]}
        if self.chosen is not None:
            found |= {"nlist": self.lists, "nprobe": self.chosen.probes}
        return found


class Exhaustive:
    """Exact search in numpy over (N,) keys and (N, D) vectors: what an index is judged by. Final.

    `centred` is that of the index.
    """

    def __init__(self, keys: Keys, vectors: Floats, centred: Callable[[Floats], Floats]) -> None:
        order = np.argsort(keys, kind="stable")
        sorted_already = bool((order == np.arange(len(order))).all())
        self.keys = keys if sorted_already else keys[order]
        self.vectors = vectors if sorted_already else vectors[order]
        self._centred = centred

    def queries(self, *, seed: int, most: int = SAMPLE) -> Floats:
        """(Q, D) unit vectors beside the references, as another photograph would be: a reference,
        moved by the difference of two references of another product. Where no product has two,
        between two references.
        """
        draw = np.random.default_rng(seed)
        rows = draw.permutation(len(self.keys))[:most]
        pairs = np.flatnonzero(self.keys[1:] >> 16 == self.keys[:-1] >> 16)
        if len(pairs):
            other = draw.choice(pairs, len(rows))
            step = self.vectors[other + 1] - self.vectors[other]
        else:
            step = np.float32(0.9) * self.vectors[np.roll(rows, 1)]
        moved = self.vectors[rows] + step
        length = np.linalg.norm(moved, axis=1, keepdims=True)
        return np.asarray(moved / np.maximum(length, 1e-6), np.float32)

    def nearest(self, queries: Floats, *, count: int = _DEPTH) -> Floats:
        """(Q, K) cosines of the `count` nearest, descending; K is N where there are fewer."""
        asked = self._centred(queries)
        best = np.empty((len(queries), 0), np.float32)
        for start in range(0, len(self.keys), _BLOCK):
            block = self._centred(self.vectors[start : start + _BLOCK])
            both = np.concatenate([best, asked @ block.T], axis=1)
            kept = min(count, both.shape[1])
            best = np.partition(both, both.shape[1] - kept, axis=1)[:, -kept:]
        return -np.sort(-best, axis=1)

    def cosines(self, keys: Keys, query: Floats) -> Floats:
        """(K,) cosines of the references `keys` to a (D,) query; -2 for keys that aren't there."""
        rows = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        found = self._centred(self.vectors[rows]) @ self._centred(query[None])[0]
        return np.where(self.keys[rows] == keys, found, np.float32(-2))


class Searched(Protocol):
    """An index, or a build's and a delta's as one."""

    def search(self, vector: Floats, *, count: int) -> Neighbours: ...


@dataclass(frozen=True)
class Recall:
    """Shares of the exact search's nearest and ten nearest that were found; ms: (Q,) per search."""

    at_1: float
    at_10: float
    ms: Floats


def recall_of(index: Searched, bank: Exhaustive, queries: Floats, exact: Floats) -> Recall:
    """What an index finds of `exact` (Q, K), what is nearest to (Q, D) queries. As near to within
    rounding counts as found; how near is computed from the stored vectors, not believed.
    """
    first, shares, times = 0, 0.0, []
    for query, wanted in zip(queries, exact, strict=True):
        start = time.perf_counter()
        found = index.search(query, count=len(wanted))
        times.append(1000 * (time.perf_counter() - start))
        cosine = bank.cosines(found.keys, query)
        first += int(len(cosine) > 0 and cosine[0] >= wanted[0] - _ROUNDING)
        shares += np.count_nonzero(cosine >= wanted[-1] - _ROUNDING) / len(wanted)
    return Recall(first / len(queries), float(shares / len(queries)), np.array(times, np.float32))


def make_index(path: Path, keys: Keys, vectors: Floats, *, centre: Floats) -> IndexChoice:
    """Write the index of (N,) sorted keys and (N, D) unit vectors to `path`; says which and why.

    Raises as `write_index` does.
    """
    count, dims = vectors.shape
    if count * dims <= EXACT_VALUES:
        write_index(path, keys, vectors, centre=centre)
        return IndexChoice(FLAT, f"{count} x {dims} values; exact search is fast up to "
                                 f"{EXACT_VALUES}")  # fmt: skip
    lists = list_count(count)
    write_index(path, keys, vectors, centre=centre, lists=lists)
    index = Index(path, durable.file_digest(path), centre=centre, probes=1)
    trials: list[Trial] = []
    chosen = choose(_kept(trials, _trials(index, Exhaustive(keys, vectors, index.centred), lists)))
    tried = tuple(trials)
    all_lists = _ms_all_lists(index.with_probes(lists), vectors)
    made_on = training_device()
    if chosen is not None:
        why = (
            f"{chosen.probes} of {lists} lists find {chosen.recall_at_1:.4f} of the nearest and "
            f"{chosen.recall_at_10:.4f} of the ten nearest, comparing {chosen.scanned:.1%} of "
            f"{count} vectors"
        )
        return IndexChoice(IVF, why, lists, chosen, tried, all_lists, made_on)
    with durable.storage_errors(path):
        path.unlink()  # it is still mapped: written over, it would pull the pages from under us
    write_index(path, keys, vectors, centre=centre)
    last = tried[-1]
    why = (
        f"comparing {last.scanned:.1%} of the vectors IVF finds {last.recall_at_1:.4f} of the "
        f"nearest and {last.recall_at_10:.4f} of the ten nearest; {AIM} was asked for within "
        f"{MOST_SCANNED:.0%}"
    )
    return IndexChoice(FLAT, why, trials=tried, ms_all_lists=all_lists)


def choose(trials: Iterable[Trial]) -> Trial | None:
    """The first of `trials` (fewest probes first) that finds enough, None if that's too slow."""
    for trial in trials:
        if trial.scanned > MOST_SCANNED:
            return None
        if min(trial.recall_at_1, trial.recall_at_10) >= AIM:
            return trial
    return None


def list_count(count: int) -> int:
    """How many lists for `count` vectors: the power of two nearest to four times the square root.

    More lists find as much among fewer vectors, but k-means takes longer by their square.
    """
    return min(1 << round(math.log2(4 * math.sqrt(count))), 1 << int(math.log2(count)))


def _trials(index: Index, bank: Exhaustive, lists: int) -> Iterator[Trial]:
    queries = bank.queries(seed=0)
    exact = bank.nearest(queries)
    for probes in _ladder(lists):
        tried = index.with_probes(probes)
        found = recall_of(tried, bank, queries, exact)
        p50, p95 = (round(float(np.percentile(found.ms, q)), 3) for q in (50, 95))
        scanned = round(tried.scanned(queries), 4)
        yield Trial(probes, round(found.at_1, 4), round(found.at_10, 4), scanned, p50, p95)


def _ladder(lists: int) -> list[int]:
    """2, 3, 4, 6, 8, 12, ... up to all lists. Not 1: a reference between two lists could miss
    its own by rounding.
    """
    steps = {2, lists} | {k << i for i in range(lists.bit_length()) for k in (2, 3)}
    return sorted(min(step, lists) for step in steps if step <= max(2, lists))


def _kept(kept: list[Trial], trials: Iterator[Trial]) -> Iterator[Trial]:
    for trial in trials:
        kept.append(trial)
        yield trial


def _ms_all_lists(index: Index, vectors: Floats) -> float:
    times = []
    for query in vectors[:: max(1, len(vectors) // 20)][:20]:
        start = time.perf_counter()
        index.search(query, count=_DEPTH)
        times.append(1000 * (time.perf_counter() - start))
    return round(float(np.median(times)), 3)
