"""An evaluation in words: tables for the terminal, JSON for `benchmarks/results/`.

for table in tables(evaluation): console.print(table)
path.write_text(summary_json(evaluation), "utf-8")   # same records, same bytes
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.evaluate import Comparison, Evaluation, Figures, Result, Spread

if TYPE_CHECKING:
    from rich.table import Table

FORMAT = 1
HEADS = {
    "auroc": "AUROC", "auroc_by_product": "AUROC by product", "ap": "AP",
    "recall_at_1_fpr": "recall at 1 % FPR", "recall_at_50_precision": "recall at 50 % precision",
    "ap_major": "AP major", "pixel_auroc": "pixel AUROC", "pixel_ap": "pixel AP",
    "aupro": "AUPRO", "box_recall_at_half_false": "box recall at 0.5 false",
    "box_recall": "box recall", "false_regions": "false regions",
    "top1": "top-1", "top5": "top-5",
}  # fmt: skip
_LEADING = ("auroc", "box_recall_at_half_false", "box_recall", "top1")
_DECIMALS = 4


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """All figures as JSON, in a fixed order, rounded to 4 decimals; times to 0.1 ms.

    A figure is [mean over seeds, standard deviation or null].
    """
    return {
        "format": FORMAT,
        "config": _json(evaluation.provenance[0].config) if evaluation.provenance else {},
        "files": [
            {k: _json(v) for k, v in dataclasses.asdict(own).items() if k != "config"}
            for own in sorted(evaluation.provenance, key=lambda p: (p.scorer, p.command, p.date))
        ],
        "results": [_result(result) for result in evaluation.results],
        "comparisons": [_comparison(one) for one in evaluation.comparisons],
    }


def summary_json(evaluation: Evaluation) -> str:
    """`summary` as text; the same records give the same bytes."""
    parts = [f'"{name}": {_lines(value)}' for name, value in summary(evaluation).items()]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _lines(value: Any) -> str:
    """JSON, one line for each item of a list: small files, and differences that can be read."""
    if isinstance(value, list):
        return "[\n" + ",\n".join(_lines(item) for item in value) + "\n]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def tables(evaluation: Evaluation) -> list[Table]:
    """A table for each set, best AUROC first at each number of references, and one of comparisons.

    Columns that no scorer of the set has a figure for are left out.
    """
    names = sorted({result.dataset for result in evaluation.results})
    shown = [_set_table(name, evaluation) for name in names]
    return shown + ([_comparison_table(evaluation)] if evaluation.comparisons else [])


def spread_text(spread: Spread | None) -> str:
    """ "0.977 ± 0.004", "0.977" of one seed, "-" where nothing was measured."""
    if spread is None:
        return "-"
    return f"{spread.mean:.3f}" + (f" ± {spread.sd:.3f}" if spread.sd is not None else "")


def difference_text(one: Comparison) -> str:
    """ "+0.031 (+0.010 to +0.052)" """
    mean, low, high = one.difference.mean, one.difference.low, one.difference.high
    return f"{mean:+.3f}" + (f" ({low:+.3f} to {high:+.3f})" if math.isfinite(low) else "")


def is_clear(one: Comparison) -> bool:
    """Whether the 95 % interval leaves out zero."""
    return one.difference.low > 0 or one.difference.high < 0


def leading_figure(result: Result) -> str | None:
    """The figure that a set is judged by first: AUROC, where there are no labels another."""
    return next((name for name in _LEADING if name in result.figures), None)


def ranked(results: Sequence[Result]) -> list[Result]:
    """By number of references, then the best leading figure first, then by name."""

    def key(result: Result) -> tuple[int, float, str]:
        leading = leading_figure(result)
        return result.shots, -result.figures[leading].mean if leading else 0.0, result.scorer

    return sorted(results, key=key)


def columns_of(results: Sequence[Result]) -> list[str]:
    """Names of the figures that any of the results has, in the order of `HEADS`."""
    return [name for name in HEADS if any(name in result.figures for result in results)]


def _set_table(name: str, evaluation: Evaluation) -> Table:
    from rich.markup import escape
    from rich.table import Table

    results = ranked([one for one in evaluation.results if one.dataset == name])
    columns = columns_of(results)
    shots = sorted({result.shots for result in results})
    first = results[0]
    title = f"{escape(name)}: {_count(first.queries, 'query', 'queries')}, {first.damaged} damaged"
    table = Table(
        title=f"{title}, {_count(len(first.seeds), 'seed', 'seeds')}", title_justify="left"
    )
    for head in (
        "refs",
        "scorer",
        *(HEADS[column].replace(" ", "\n", 1) for column in columns),
        "ms",
        "MiB",
    ):
        table.add_column(head, justify="left" if head == "scorer" else "right")
    for count in shots:
        own = [result for result in results if result.shots == count]
        best = {c: _best(own, c) for c in columns}
        for place, result in enumerate(own):
            cells = [_cell(result, column, best[column]) for column in columns]
            table.add_row(
                str(count) if place == 0 else "", escape(result.scorer), *cells,
                f"{result.latency_ms['median']:.0f}", f"{result.peak_memory_mib:.0f}",
                end_section=place == len(own) - 1,
            )  # fmt: skip
    return table


def _best(results: Sequence[Result], column: str) -> float:
    values = [round(r.figures[column].mean, 3) for r in results if column in r.figures]
    if len(values) < 2:
        return math.nan
    return min(values) if column == "false_regions" else max(values)


def _cell(result: Result, column: str, best: float) -> str:
    spread = result.figures.get(column)
    text = spread_text(spread)
    if column not in _LEADING:  # for want of width
        text = text.partition(" ")[0]
    return f"[bold]{text}[/bold]" if spread and round(spread.mean, 3) == best else text


def _comparison_table(evaluation: Evaluation) -> Table:
    from rich.markup import escape
    from rich.table import Table

    first = evaluation.comparisons[0].first
    table = Table(
        title=f"{escape(first)} minus others: mean difference, 95 % interval", title_justify="left"
    )
    for head in ("set", "refs", "against", "AUROC", "AP"):
        table.add_column(head, justify="left" if head in ("set", "against") else "right")
    rows: dict[tuple[str, int, str], dict[str, Comparison]] = {}
    for one in evaluation.comparisons:
        rows.setdefault((one.dataset, one.shots, one.second), {})[one.metric] = one
    for (dataset, shots, second), row in rows.items():
        cells = [
            "-" if name not in row
            else f"[bold]{difference_text(row[name])}[/bold]" if is_clear(row[name])
            else difference_text(row[name])
            for name in ("auroc", "ap")
        ]  # fmt: skip
        table.add_row(escape(dataset), str(shots), escape(second), *cells)
    return table


def _result(result: Result) -> dict[str, Any]:
    return {
        "set": result.dataset,
        "scorer": result.scorer,
        "references": result.shots,
        "seeds": list(result.seeds),
        "queries": result.queries,
        "damaged": result.damaged,
        "figures": _figures(result.figures),
        "slices": {name: _figures(own) for name, own in sorted(result.slices.items())},
        "defect_types": {name: _figures(own) for name, own in sorted(result.defect_types.items())},
        "latency_ms": {name: round(value, 1) for name, value in result.latency_ms.items()},
        "peak_memory_mib": round(result.peak_memory_mib, 1),
    }


def _figures(figures: Figures) -> dict[str, Any]:
    order = [*HEADS, *sorted(figures.keys() - HEADS.keys())]
    return {
        name: [_rounded(figures[name].mean), _rounded(figures[name].sd)]
        for name in order
        if name in figures
    }


def _comparison(one: Comparison) -> dict[str, Any]:
    values = dataclasses.asdict(one.difference)
    return {
        "set": one.dataset, "references": one.shots, "metric": one.metric, "first": one.first,
        "second": one.second, **{name: _rounded(value) for name, value in values.items()},
    }  # fmt: skip


def _rounded(value: float | None) -> float | None:
    """4 decimals, never -0.0; None where nothing was measured."""
    if value is None or not math.isfinite(value):
        return None
    return round(value, _DECIMALS) + 0.0


def _json(value: Any) -> Any:
    """Mappings sorted by key, memory rounded, so that order never depends on who wrote it."""
    if isinstance(value, Mapping):
        return {key: _json(value[key]) for key in sorted(value)}
    return round(value, _DECIMALS) if isinstance(value, float) else value


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
