"""What each part of the engine is worth: the part off, everything else as it is.

    AMISS_DATA=... python -m benchmarks.bench_ablation             # two hours on one core
    AMISS_DATA=... python -m benchmarks.bench_ablation --seeds 0   # 40 minutes on one core
    ... --parts "no veils" "no details"                    # these, kept beside the others
    AMISS_DATA=... python -m benchmarks.bench_ablation --check     # a few queries, nothing written

cookies, carton_top and the headline studio set, 4 references: mean AUROC over seeds (0 to 2 unless
told otherwise), and the median time of a query. The shipped null was learned with all parts on;
where it is not used anyway, its centres and spreads still draw a product's own towards them, so a
part that changes raw scores much is flattered a little by staying on.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from rich.console import Console
from rich.table import Table

from anomaly import (
    compare,
    detail,
    glare,
    matched,
    pipeline,
    placed,
    profile,
    rim,
    score,
    tolerance,
)
from anomaly.results import Channel
from benchmarks.datasets import RENDERED
from benchmarks.evaluate import evaluate
from benchmarks.export import export
from benchmarks.machine import RESULTS, machine
from benchmarks.plan import Plan
from benchmarks.records import read_records
from embeddings.embedder import Embedder
from embeddings.metric import Metrics, shipped_metrics
from gallery import durable

_SETS = ("cookies", "carton_top", "studio")


@contextmanager
def _everything() -> Iterator[None]:
    yield


def _off(target: object, name: str, stand_in: object) -> Callable[[], Any]:
    return lambda: mock.patch.object(target, name, stand_in)


def _one_metric(embedder: Embedder) -> Metrics | None:
    found = shipped_metrics(embedder._backbone.spec)
    return None if found is None else Metrics(found.anywhere, found.anywhere, found.anywhere)


def _beside_as_placed(embedder: Embedder) -> Metrics | None:
    found = shipped_metrics(embedder._backbone.spec)
    return None if found is None else replace(found, beside=found.placed)


_MEASURED = compare._product_channels


def _as_one(*given: Any, **options: Any) -> tuple[Channel, ...]:
    """Place and novelty as one channel, half their sum, so that the shipped centres nearly hold."""
    product, novel, *others = _MEASURED(*given, **options)
    assert product.map is not None
    assert novel.map is not None
    both = np.asarray((product.map + novel.map) / 2, np.float32)
    return (replace(product, map=both, score=rim.placed_score(both)), *others)


def _without(name: str) -> Callable[..., tuple[Channel, ...]]:
    return lambda *given, **options: tuple(
        channel for channel in _MEASURED(*given, **options) if channel.name != name
    )


PARTS: Mapping[str, Callable[[], Any]] = {
    "everything on": _everything,
    "no metric": _off(Embedder, "metrics", None),
    "places in the metric for anywhere": _off(Embedder, "metrics", property(_one_metric)),
    "surroundings in the metric for places": _off(Embedder, "metrics", property(_beside_as_placed)),
    "no glare mask": _off(pipeline, "_without_glare", lambda query, view, *_: view),
    "no veils": _off(glare, "_tops", lambda veil, _: veil > np.inf),
    "all that is clipped is glare": _off(glare._Around, "fades", lambda *_, **__: True),
    "no fixtures": _off(pipeline, "in_place", lambda alignment, *_: alignment),
    "place and novelty as one": _off(compare, "_product_channels", _as_one),
    "nothing novel": _off(compare, "_product_channels", _without("novel")),
    "nothing out of place": _off(compare, "_product_channels", _without("product")),
    "no details": _off(compare, "compare_details", lambda *_: None),
    "no bends": _off(compare, "compare_bends", lambda *_: None),
    "no close look": _off(matched, "_MOST_PX", 0),
    "pixels without refinement": _off(matched, "_rest", lambda *_: np.eye(3)),
    "details without even light": _off(detail._Light, "as_gain", lambda _, query: query),
    "details through no veil": _off(detail._Light, "as_veil", lambda *_: None),
    "details through no small veil": _off(
        detail._Light, "_small_veils", lambda _, added: np.zeros(added.shape[:2], np.float32)
    ),
    "nothing usual at a place": _off(tolerance, "_factor", lambda *_: None),
    "all spreads as they are": _off(profile, "_LOOSE", {}),
    "all tails in full": _off(profile, "_TAIL", {}),
    "2-norm of channels": _off(score, "_NORM", 2),
    "odd values as they are": _off(score, "_drawn_in", lambda values, _: values),
    "rims like the rest": _off(compare, "within", lambda product: product),
    "top 1 %": _off(rim, "_SHARE", 0.01),
    "no outline": _off(compare, "compare_outlines", lambda *_, **__: None),
    "no poses": _off(profile, "pose", lambda references, *_: list(references)),
    "no turned view": _off(pipeline, "wants_turning", lambda pairing: False),
    "no alignment": _off(pipeline, "usable", lambda alignment, view: {}),
    "window of 2 cells": _off(placed, "RADIUS", 2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args()
    check, seeds = arguments.check, tuple(arguments.seeds)
    data = os.environ.get("AMISS_DATA")
    sets = _SETS if data else tuple(name for name in _SETS if name in RENDERED)
    plan = Plan(Path(data or "."), sets, (4,), (0,) if check else seeds, 6 if check else None)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for part in arguments.parts:
            with PARTS[part]():
                path = export("amiss", plan, Path(folder))
            found[part] = _figures(path)
    _show(found)
    if not check and data:
        _keep(f"python -m benchmarks.bench_ablation --seeds {' '.join(map(str, seeds))}", found)


def _keep(command: str, found: Mapping[str, Any]) -> None:
    """Written in the order of `PARTS`, with parts that the same command measured before."""
    path = RESULTS / "ablation.json"
    before = json.loads(path.read_text("utf-8")) if path.exists() else {}
    known = before["figures"] if before.get("command") == command else {}
    merged = {**known, **found}
    figures = {part: merged[part] for part in PARTS if part in merged}
    value = {"command": command, "figures": figures} | machine()
    durable.write_file(path, (json.dumps(value, indent=1) + "\n").encode())


def _figures(path: Path) -> dict[str, dict[str, float]]:
    """Mean AUROC and median milliseconds by set."""
    results = evaluate(read_records([path])).results
    return {
        result.dataset: {
            "auroc": round(result.figures["auroc"].mean, 4),
            "ms": round(result.latency_ms["median"], 1),
        }
        for result in results
    }


def _show(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    names = list(next(iter(found.values())))
    table = Table("part", *names, title="AUROC, 4 references (median ms)")
    for part, figures in found.items():
        table.add_row(part, *(f"{figures[n]['auroc']:.3f} ({figures[n]['ms']:.0f})" for n in names))
    Console().print(table)


if __name__ == "__main__":
    main()
