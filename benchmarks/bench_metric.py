"""What the shipped metrics are worth, cell by cell: is damage farther off than what light does?

    python -m benchmarks.bench_metric      # 2 minutes on 2 cores

Pairs of photographs as `make_metric` takes them, of products with other seeds: how far patches of
one place lie apart where nothing happened and where the later photograph shows damage. AUROC of
cells, and the share of damaged ones that lie above 99 % and 99.9 % of the others: without a metric,
in the one for patches anywhere, in the one for patches of one place. No alignment, no window, no
several references: these are in the comparisons.
"""

from __future__ import annotations

import numpy as np

from benchmarks.bench_features import auroc
from benchmarks.machine import save
from benchmarks.make_metric import Differences, differences
from embeddings import open_embedder
from embeddings.metric import Metric
from embeddings.patches import Floats

SEEDS = (8002, 8003)


def main() -> None:
    embedder = open_embedder(device="cpu")
    metrics = embedder.metrics
    assert metrics is not None
    found = [pair for seed in SEEDS for pair in differences(seed, embedder)]
    spaces = {"none": None, "anywhere": metrics.anywhere, "placed": metrics.placed}
    figures = {name: _told_apart(found, metric) for name, metric in spaces.items()}
    save("metric", "python -m benchmarks.bench_metric", figures)


def _told_apart(found: list[Differences], metric: Metric | None) -> dict[str, object]:
    usual = _lengths(np.concatenate([one.within for one in found]), metric)
    by_kind = {
        kind: _lengths(np.concatenate([o.damage for o in found if o.kind == kind]), metric)
        for kind in sorted({one.kind for one in found})
    }
    hurt = np.concatenate(list(by_kind.values()))
    bounds = {f"above_{share}": float(np.quantile(usual, share)) for share in (0.99, 0.999)}
    return {
        "cells": len(usual),
        "damaged": len(hurt),
        "auroc": round(auroc(usual[:: max(1, len(usual) // 5000)].tolist(), hurt.tolist()), 4),
        **{name: round(float((hurt > bound).mean()), 3) for name, bound in bounds.items()},
        "by_damage": {
            kind: {name: round(float((lengths > bound).mean()), 3)
                   for name, bound in bounds.items()}
            for kind, lengths in by_kind.items()
        },
    }  # fmt: skip


def _lengths(differences: Floats, metric: Metric | None) -> Floats:
    moved = differences if metric is None else differences @ np.concatenate(metric.weights)
    return np.asarray(np.linalg.norm(moved, axis=1))


if __name__ == "__main__":
    main()
