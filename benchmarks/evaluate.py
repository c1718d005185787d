"""The evaluation pass: from records alone to figures and comparisons.

    evaluation = evaluate(read_records(paths))         # then `summary` and `report`

A figure of a set is taken over all its queries of one seed, one threshold for all products, as at
a packing line; `auroc_by_product` is the mean over products that papers report. Pixel figures are
means over products. What has no meaning for a set is left out, never zero.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import metrics
from benchmarks.metrics import Difference, Run
from benchmarks.records import Provenance, Record, Records, UnpairedRecords

_CHAMPION = "amiss"
_COMPARED = {"auroc": metrics.area_under_roc, "ap": metrics.area_under_pr}


@dataclass(frozen=True)
class Spread:
    """Mean over seeds and their sample standard deviation; None with one seed."""

    mean: float
    sd: float | None


Figures = Mapping[str, Spread]


@dataclass(frozen=True)
class Result:
    """One scorer on one set at one number of references.

    figures        names as in `summary.HEADS`; absent = has no meaning here
    slices, defect_types   the same for a part: see `_part`
    latency_ms     "median" and "p95" of a query, and the median of each stage
    queries, damaged       over all seeds; damaged counts those labelled so
    """

    dataset: str
    scorer: str
    shots: int
    seeds: tuple[int, ...]
    queries: int
    damaged: int
    figures: Figures
    slices: Mapping[str, Figures]
    defect_types: Mapping[str, Figures]
    latency_ms: Mapping[str, float]
    peak_memory_mib: float


@dataclass(frozen=True)
class Comparison:
    """`first` minus `second` on the same queries."""

    dataset: str
    shots: int
    metric: str
    first: str
    second: str
    difference: Difference


@dataclass(frozen=True)
class Evaluation:
    results: tuple[Result, ...]
    comparisons: tuple[Comparison, ...]
    provenance: tuple[Provenance, ...]


def evaluate(records: Records, *, champion: str | None = None, resamples: int = 2000) -> Evaluation:
    """All figures; `champion` is compared with each other scorer (default: ours, or the first).

    Raises `UnpairedRecords` if two scorers share a set and a number of references, but not all
    queries: figures over different queries don't belong in one table.
    """
    cells: dict[tuple[str, int, str], list[Record]] = defaultdict(list)
    for row in records.rows:
        cells[row.dataset, row.shots, row.scorer].append(row)
    _refuse_unpaired(cells)
    names = sorted({row.scorer for row in records.rows})
    first = champion or (_CHAMPION if _CHAMPION in names or not names else names[0])
    if names and first not in names:
        raise ValueError(f"no records of {first}; there are {', '.join(names)}")
    boxed = {p.scorer for p in records.provenance if p.points_at_regions}
    memory = {
        name: max(p.peak_memory_mib for p in records.provenance if p.scorer == name)
        for name in names
    }
    results = [
        _result(rows, memory[name], name in boxed) for (_, _, name), rows in sorted(cells.items())
    ]
    comparisons = [
        comparison
        for (dataset, shots, name), rows in sorted(cells.items())
        if name != first and (dataset, shots, first) in cells
        for comparison in _compare([(cells[dataset, shots, first], rows)], dataset, resamples)
    ] + _over_sets(cells, first, resamples)
    return Evaluation(tuple(results), tuple(comparisons), records.provenance)


def by_seed(rows: Sequence[Record]) -> dict[int, list[Record]]:
    """Rows of each seed, seeds rising."""
    groups: dict[int, list[Record]] = defaultdict(list)
    for row in rows:
        groups[row.seed].append(row)
    return dict(sorted(groups.items()))


def labelled(rows: Sequence[Record]) -> list[Record]:
    """Rows of which it is known whether they are damaged."""
    return [row for row in rows if row.damaged is not None]


def _result(rows: Sequence[Record], memory: float, boxed: bool) -> Result:
    seeds = by_seed(rows)
    slices = sorted({row.slice for row in rows})
    types = sorted({kind for row in rows for kind in row.defect_types if row.damaged})
    first = rows[0]
    return Result(
        first.dataset, first.scorer, first.shots, tuple(seeds), len(rows),
        sum(row.damaged is True for row in rows),
        _over_seeds(seeds, partial(_figures, boxed=boxed)),
        {
            name: _over_seeds(seeds, partial(_part, belongs=partial(_is_of, name)))
            for name in slices
            if len(slices) > 1 and name
        },
        {name: _over_seeds(seeds, partial(_part, belongs=partial(_shows, name))) for name in types},
        _latency(rows), memory,
    )  # fmt: skip


def _over_seeds(
    seeds: Mapping[int, Sequence[Record]], figures: Callable[[list[Record]], dict[str, float]]
) -> dict[str, Spread]:
    """Each figure over the seeds for which it has a meaning."""
    values: dict[str, list[float]] = defaultdict(list)
    for rows in seeds.values():
        for name, value in figures(list(rows)).items():
            if math.isfinite(value):
                values[name].append(value)
    return {
        name: Spread(float(np.mean(v)), float(np.std(v, ddof=1)) if len(v) > 1 else None)
        for name, v in values.items()
    }


def _figures(rows: list[Record], boxed: bool) -> dict[str, float]:
    """Of one seed's queries of a set; NaN where a figure has no meaning."""
    known = labelled(rows)
    score, damaged = [row.score for row in known], [bool(row.damaged) for row in known]
    major = [row.major for row in known]
    counts = [row.boxes for row in rows if row.boxes is not None] if boxed else []
    cut = [row.cut for row in rows if row.cut is not None]
    ranks = [row.rank for row in rows if row.rank is not None]
    own = {
        "auroc": float(metrics.auroc(score, damaged)),
        "auroc_by_product": _by_product(known),
        "ap": float(metrics.average_precision(score, damaged)),
        "recall_at_1_fpr": metrics.recall_at_fpr(score, damaged),
        "recall_at_50_precision": metrics.recall_at_precision(score, damaged),
        "ap_major": metrics.average_precision_major(score, damaged, major),
        "box_recall_at_half_false": metrics.box_recall(cut),
        "box_recall": metrics.box_recall(counts),
        "false_regions": metrics.false_regions(counts),
        "top1": metrics.top_k(ranks, 1),
        "top5": metrics.top_k(ranks, 5),
    }
    return own | _pixel_figures(rows)


def _by_product(rows: Sequence[Record]) -> float:
    """Mean AUROC of the products that have both classes; NaN with one product."""
    products: dict[str, list[Record]] = defaultdict(list)
    for row in rows:
        products[row.product_id].append(row)
    values = [
        float(metrics.auroc([r.score for r in own], [bool(r.damaged) for r in own]))
        for own in products.values()
    ]
    return _mean(values) if len(values) > 1 else math.nan


def _pixel_figures(rows: Sequence[Record]) -> dict[str, float]:
    """Means over products; one product of one seed is one model, so its bins are one."""
    products = defaultdict(list)
    for row in rows:
        if row.pixels is not None:
            products[row.product_id].append(row.pixels)
    measured = {
        "pixel_auroc": metrics.pixel_auroc,
        "pixel_ap": metrics.pixel_average_precision,
        "aupro": metrics.aupro,
    }
    return {
        name: _mean([measure(own) for own in products.values()])
        for name, measure in measured.items()
    }


def _part(rows: list[Record], belongs: Callable[[Record], bool]) -> dict[str, float]:
    """A slice or a defect type of one seed's queries.

    A part with damaged and pristine queries is measured by itself. One with damaged queries only
    is ranked against all pristine ones of the set, one with pristine queries only against all
    damaged ones; of the latter, `false_alarms_at_1_fpr` is the share flagged by the threshold
    that flags 1 % of the set's other pristine queries.
    """
    part, known = [row for row in rows if belongs(row)], labelled(rows)
    inside = labelled(part)
    kinds = {row.damaged for row in inside}
    figures = {"queries": float(len(part)), **_pixel_figures(part)}
    if not inside:
        return figures
    asked = inside if len(kinds) == 2 else inside + [r for r in known if r.damaged not in kinds]
    score, damaged = [row.score for row in asked], [bool(row.damaged) for row in asked]
    figures["auroc"] = float(metrics.auroc(score, damaged))
    figures["ap"] = float(metrics.average_precision(score, damaged))
    figures["recall_at_1_fpr"] = metrics.recall_at_fpr(score, damaged)
    if kinds == {False}:
        others = [row.score for row in known if not row.damaged and not belongs(row)]
        figures["false_alarms_at_1_fpr"] = metrics.false_alarm_rate(
            [row.score for row in inside], others
        )
    return figures


def _is_of(part: str, row: Record) -> bool:
    return row.slice == part


def _shows(kind: str, row: Record) -> bool:
    return row.damaged is True and kind in row.defect_types


def _latency(rows: Sequence[Record]) -> dict[str, float]:
    total = [row.total_ms for row in rows]
    figures = {"median": float(np.median(total)), "p95": float(np.quantile(total, 0.95))}
    for stage in sorted({name for row in rows for name in row.timings_ms}):
        figures[f"stage {stage}"] = float(
            np.median([row.timings_ms.get(stage, 0.0) for row in rows])
        )
    return figures


def _compare(
    pairs: Sequence[tuple[Sequence[Record], Sequence[Record]]], dataset: str, resamples: int
) -> list[Comparison]:
    """Two scorers on one set, or on the mean over several."""
    # The same generator for each pair of scorers: all are judged by the same resamples.
    differences = metrics.bootstrap_of_sets(
        [_runs(*pair) for pair in pairs], _COMPARED, rng=np.random.default_rng(0),
        resamples=resamples,
    )  # fmt: skip
    first, second = (rows[0] for rows in pairs[0])
    return [
        Comparison(dataset, first.shots, name, first.scorer, second.scorer, difference)
        for name, difference in differences.items()
        if math.isfinite(difference.mean)
    ]


def _over_sets(
    cells: Mapping[tuple[str, int, str], Sequence[Record]], first: str, resamples: int
) -> list[Comparison]:
    """The mean over the sets that both scorers answered, where there are several with labels."""
    shared: dict[tuple[int, str], list[tuple[Sequence[Record], Sequence[Record]]]] = {}
    for (dataset, shots, name), rows in sorted(cells.items()):
        own = cells.get((dataset, shots, first))
        if name != first and own and len({row.damaged for row in labelled(own)}) == 2:
            shared.setdefault((shots, name), []).append((own, rows))
    return [
        comparison
        for pairs in shared.values()
        if len(pairs) > 1
        for comparison in _compare(pairs, f"mean of {len(pairs)} sets", resamples)
    ]


def _runs(first: Sequence[Record], second: Sequence[Record]) -> list[Run]:
    one, two = by_seed(labelled(first)), by_seed(labelled(second))
    return [
        Run(_scores(one[seed]), _scores(two[seed]), np.array([bool(r.damaged) for r in one[seed]]))
        for seed in one
    ]


def _scores(rows: Sequence[Record]) -> NDArray[np.float64]:
    return np.array([row.score for row in rows])


def _refuse_unpaired(cells: Mapping[tuple[str, int, str], Sequence[Record]]) -> None:
    seen: dict[tuple[str, int], tuple[str, set[Any]]] = {}
    for (dataset, shots, scorer), rows in sorted(cells.items()):
        asked = {row.query for row in rows}
        other, expected = seen.setdefault((dataset, shots), (scorer, asked))
        if asked != expected:
            example = min(asked ^ expected)
            has, lacks = (scorer, other) if example in asked else (other, scorer)
            raise UnpairedRecords(
                f"{dataset} at {shots} shots: {other} answered {len(expected)} queries, {scorer}"
                f" {len(asked)}, and not the same: {has} has {example[4]} (product {example[3]},"
                f" seed {example[2]}), {lacks} has not; finish that export, or leave one out"
            )


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return float(np.mean(finite)) if finite else math.nan
