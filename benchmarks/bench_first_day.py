"""What is sidelined before anything was calibrated: by the null that ships, by references.

    AMISS_DATA=... python -m benchmarks.bench_first_day      (about 10 minutes on one core)

Photographs (`cookies`, `carton_top`, seeds 0 to 2) and the rendered headline set (seed 0), with 1,
2 and 4 references. Of each budget: pristine and damaged pictures called damaged by the scores that
ship for as many references and such light (`shipped`), whatever the light (`by references`), and
whatever the number, too (`one pool`). Pictures that can't be judged count as not called. A promise
is kept only as far as pristine pictures of the set are what rendered ones are: nothing of it was
calibrated.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from anomaly.calibrate import NullScores, calibrate
from anomaly.nulls import KINDS, Nulls, counted, read_shipped
from anomaly.results import IN_PLACE, EvidenceKind
from benchmarks.bench_sideline import looker
from benchmarks.datasets import load
from benchmarks.machine import data_folder, save
from embeddings import Embedder, open_embedder
from embeddings.threads import limit_threads
from gallery.describe import RECORD_CODEC

BUDGETS = (0.05, 0.01)
SETS: Mapping[str, tuple[int, ...]] = {
    "cookies": (0, 1, 2),
    "carton_top": (0, 1, 2),
    "studio": (0,),
}
REFERENCES = (1, 2, 4)
Judged = tuple[str, float, bool]  # evidence (or untrusted), score, damaged


def main() -> None:
    limit_threads(1)
    embedder = open_embedder(device="cpu")
    shipped = read_shipped(embedder.fingerprint(codec=RECORD_CODEC))
    assert shipped is not None, "run benchmarks.make_shipped_null first"
    figures = []
    for name, seeds in SETS.items():
        for references in REFERENCES:
            judged = list(_judged(name, seeds, references, embedder, data_folder()))
            figures.append({"set": name, "references": references} | rates(
                judged, shipped, references))  # fmt: skip
            print(figures[-1], file=sys.stderr, flush=True)
    save("first_day", "AMISS_DATA=... python -m benchmarks.bench_first_day", figures)


def _judged(
    name: str, seeds: tuple[int, ...], references: int, embedder: Embedder, data: Path
) -> Iterator[Judged]:
    for seed in seeds:
        for split in load(name, data, shots=references, seed=seed):
            look = looker(split.references, embedder, kind_of=lambda seen: seen.kind)
            for sample in split.queries:
                kind, value = look(sample)
                yield kind, value, bool(sample.damaged)


def rates(judged: list[Judged], shipped: Nulls, references: int) -> dict[str, Any]:
    """Shares of pristine and of damaged pictures that are called damaged, by null and budget."""
    nulls: Mapping[str, Mapping[str, NullScores]] = {
        "shipped": {k: shipped.shipped[k][counted(k, references)] for k in KINDS},
        "by references": _merged(
            shipped, lambda kind, count: count == counted(kind, references) <= references
        ),
        "one pool": _merged(shipped, lambda *_: True),
    }
    found: dict[str, Any] = {
        "pristine": sum(not damaged for *_, damaged in judged),
        "damaged": sum(damaged for *_, damaged in judged),
    }
    for how, scores in nulls.items():
        for budget in BUDGETS:
            called = [_called(evidence, score, scores, budget) for evidence, score, _ in judged]
            found[f"{how}, {budget:g}"] = {
                role: round(float(np.mean([c for c, (*_, d) in zip(called, judged, strict=True)
                                           if d == wanted])), 4)
                for role, wanted in (("sidelined", False), ("recall", True))
            }  # fmt: skip
    return found


def _merged(shipped: Nulls, wanted: Callable[[EvidenceKind, int], bool]) -> dict[str, NullScores]:
    """Of the wanted numbers of references, pictures in place in one, whatever their light."""
    found: dict[str, NullScores] = {}
    for kind in KINDS:
        alike = [k for k in KINDS if k == kind or {k, kind} <= IN_PLACE]
        scores = [
            null.scores for k in alike for n, null in shipped.shipped[k].items() if wanted(k, n)
        ]
        if scores:
            found[kind] = NullScores("shipped", np.concatenate(scores))
    return found


def _called(evidence: str, score: float, nulls: Mapping[str, NullScores], budget: float) -> bool:
    null = nulls.get(evidence)
    found = calibrate(score, [null], budget=budget) if null is not None else None
    return found is not None and found.suspicious and found.entitled


if __name__ == "__main__":
    main()
