"""A benchmark as one self-contained HTML page: no script, nothing loaded; names are escaped.

exhibits = [Exhibit(one, jpeg_of(one.record)) for one in notable(records, scorer="amiss", ...)]
write_report(Path("benchmark.html"), records, evaluate(records), exhibits=exhibits)
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.evaluate import Comparison, Evaluation, Result
from benchmarks.records import Records
from benchmarks.report import curves
from benchmarks.report.curves import Series
from benchmarks.report.queries import Notable
from benchmarks.summary import (
    HEADS,
    columns_of,
    difference_text,
    is_clear,
    leading_figure,
    ranked,
    spread_text,
)
from gallery import durable

_TEMPLATE = Path(__file__).with_name("page.html.j2")
_PART_HEADS = {
    "auroc": "AUROC", "ap": "AP", "recall_at_1_fpr": "recall at 1 % FPR",
    "false_alarms_at_1_fpr": "false alarms at 1 % FPR", "pixel_auroc": "pixel AUROC",
    "aupro": "AUPRO",
}  # fmt: skip
_KINDS = {
    "found": "Clearly found",
    "missed": "Damaged, ranked lowest",
    "alarmed": "Pristine, ranked highest",
}


@dataclass(frozen=True)
class Exhibit:
    """A query to be shown: JPEG data of its thumbnail, a picture or panels of it."""

    query: Notable
    jpeg: bytes


def write_report(
    path: Path,
    records: Records,
    evaluation: Evaluation,
    *,
    title: str = "Anomaly scorers compared",
    exhibits: Sequence[Exhibit] = (),
    shots: int | None = None,
) -> None:
    """Write the page; the same arguments give the same bytes. Raises `gallery.StorageError`.

    `shots`: the number of references that headline and curves show, where a set has it; default:
    the one in the middle of those measured.
    """
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    order = _order(evaluation)
    names = sorted({result.dataset for result in evaluation.results})
    sets = [_set(name, records, evaluation, order, exhibits, shots) for name in names]
    page = environment.from_string(_TEMPLATE.read_text("utf-8")).render(
        title=title,
        about=_about(evaluation),
        scorers=list(order.items()),
        sets=sets,
        headline=_headline(sets, evaluation, order),
        stress=_stress(evaluation, order, shots),
        files=sorted(evaluation.provenance, key=lambda p: (p.scorer, p.command, p.date)),
        config=_flat(evaluation.provenance[0].config) if evaluation.provenance else {},
    )
    durable.write_file(path, page.encode())


def _order(evaluation: Evaluation) -> dict[str, int]:
    """Scorer -> its colour: the one that is compared first, then by name."""
    names = sorted({result.scorer for result in evaluation.results})
    firsts = [one.first for one in evaluation.comparisons][:1]
    return {name: i for i, name in enumerate(sorted(names, key=lambda n: (n not in firsts, n)))}


def _about(evaluation: Evaluation) -> str:
    dates = sorted({p.date for p in evaluation.provenance})
    machines = sorted(
        {
            f"{p.machine.get('processor')}, {p.machine.get('cores')} cores"
            for p in evaluation.provenance
        }
    )
    return " · ".join([" to ".join(dict.fromkeys((*dates[:1], *dates[-1:]))), *machines])


def _machine(machine: Mapping[str, Any]) -> str:
    return f"{machine.get('processor', 'unknown processor')}, {machine.get('cores', '?')} cores"


def _chosen(results: Sequence[Result], shots: int | None) -> int:
    """The number of references to show: the one asked for, else the one in the middle."""
    counts = sorted({result.shots for result in results})
    return shots if shots in counts else counts[(len(counts) - 1) // 2]


def _set(
    name: str, records: Records, evaluation: Evaluation, order: dict[str, int],
    exhibits: Sequence[Exhibit], shots: int | None,
) -> dict[str, Any]:  # fmt: skip
    """What the template needs of one set."""
    results = ranked([one for one in evaluation.results if one.dataset == name])
    chosen = _chosen(results, shots)
    shown = [result for result in results if result.shots == chosen]
    first = shown[0]
    leading = next((leading_figure(r) for r in results if leading_figure(r)), None)
    return {
        "name": name,
        "shots": chosen,
        "queries": first.queries,
        "damaged": first.damaged,
        "seeds": len(first.seeds),
        "leading": leading,
        "leading_head": HEADS[leading] if leading else "",
        "shown": shown,
        "table": _table(results, evaluation, order),
        "roc": _ranking_chart(records, shown, order, "ROC", curves.roc_curve, "auroc"),
        "pr": _ranking_chart(records, shown, order, "PR", curves.pr_curve, "ap"),
        "cost": _cost_chart(results, order, leading) if leading else None,
        "slices": _parts(shown, order, lambda result: result.slices),
        "types": _parts(shown, order, lambda result: result.defect_types),
        "exhibits": _exhibits([one for one in exhibits if one.query.record.dataset == name]),
    }


def _table(
    results: Sequence[Result], evaluation: Evaluation, order: dict[str, int]
) -> dict[str, Any]:
    """Every figure of a set, grouped by the number of references."""
    columns = columns_of(results)
    against: dict[tuple[str, int, str], Comparison] = {
        (one.dataset, one.shots, one.second): one
        for one in evaluation.comparisons
        if one.metric == "auroc"
    }
    rows = []
    for result in results:
        one = against.get((result.dataset, result.shots, result.scorer))
        rows.append(
            {
                "shots": result.shots,
                "scorer": result.scorer,
                "colour": order[result.scorer] % curves.COLOURS,
                "cells": [spread_text(result.figures.get(column)) for column in columns],
                "difference": difference_text(one) if one else "",
                "clear": one is not None and is_clear(one),
                "ms": result.latency_ms["median"],
                "p95": result.latency_ms["p95"],
                "mib": result.peak_memory_mib,
            }
        )
    compared = any(row["difference"] for row in rows)
    first = evaluation.comparisons[0].first if compared else ""
    return {"heads": [HEADS[column] for column in columns], "rows": rows, "first": first}


def _ranking_chart(
    records: Records, shown: Sequence[Result], order: dict[str, int], kind: str,
    curve: Callable[..., Any], figure: str,
) -> dict[str, Any] | None:  # fmt: skip
    """ROC or PR of all scorers at one number of references; None where there are no labels."""
    series = []
    for result in sorted(shown, key=lambda r: order[r.scorer]):
        rows = [r for r in records.rows if _belongs(r, result)]
        x, y = curve(rows)
        if len(y) and figure in result.figures:
            series.append(Series(result.scorer, order[result.scorer], x, y))
    if not series:
        return None
    roc = kind == "ROC"
    x_axis = curves.unit_axis("false positive rate" if roc else "recall")
    y_axis = curves.unit_axis("recall" if roc else "precision")
    title = f"{kind} curves, {shown[0].dataset}, {shown[0].shots} references"
    svg = curves.chart(series, x_axis, y_axis, title=title, points=False, diagonal=roc)
    by_name = {result.scorer: result for result in shown}
    legend = [(s.name, s.colour, f"{by_name[s.name].figures[figure].mean:.3f}") for s in series]
    return {"svg": _safe(svg), "legend": legend, "head": HEADS[figure]}


def _belongs(record: Any, result: Result) -> bool:
    return (record.dataset, record.shots, record.scorer) == (
        result.dataset, result.shots, result.scorer,
    )  # fmt: skip


def _cost_chart(results: Sequence[Result], order: dict[str, int], figure: str) -> dict[str, Any]:
    """Median latency against the leading figure: a point for each number of references."""
    series = []
    shots = sorted({result.shots for result in results})
    for name, colour in order.items():
        own = [r for r in results if r.scorer == name and figure in r.figures]
        if own:
            series.append(
                Series(
                    name, colour,
                    [max(r.latency_ms["median"], 0.01) for r in own],
                    [r.figures[figure].mean for r in own],
                    radii=[3 + 4 * shots.index(r.shots) / max(len(shots) - 1, 1) for r in own],
                )
            )  # fmt: skip
    y = _fitted(HEADS[figure], [value for one in series for value in one.y])
    x = curves.log_axis("median ms per query", [value for one in series for value in one.x])
    title = f"{HEADS[figure]} against latency, {results[0].dataset}"
    svg = curves.chart(series, x, y, title=title, points=True)
    return {"svg": _safe(svg), "legend": [(s.name, s.colour, "") for s in series]}


def _fitted(label: str, values: Sequence[float]) -> curves.Axis:
    """From a tenth below the lowest value to 1."""
    low = math.floor((min(values) - 0.02) * 10) / 10
    return curves.unit_axis(label, low=min(max(low, 0.0), 0.9))


def _parts(
    shown: Sequence[Result], order: dict[str, int], parts: Callable[[Result], Any]
) -> list[dict[str, Any]]:
    """A table for each figure that slices (or defect types) have: scorers by parts."""
    rows = sorted(shown, key=lambda result: order[result.scorer])
    names = sorted({name for result in rows for name in parts(result)}, key=curves.level_order)
    tables = []
    for figure, head in _PART_HEADS.items():
        measured = [n for n in names if any(figure in parts(r).get(n, {}) for r in rows)]
        if measured:
            cells = [
                (
                    result.scorer,
                    order[result.scorer] % curves.COLOURS,
                    [spread_text(parts(result).get(n, {}).get(figure)) for n in measured],
                )
                for result in rows
                if any(figure in parts(result).get(n, {}) for n in measured)
            ]
            tables.append({"head": head, "names": measured, "rows": cells})
    return tables


def _stress(
    evaluation: Evaluation, order: dict[str, int], shots: int | None
) -> list[dict[str, Any]]:
    """A chart for each set and family of numbered slices, such as rotation."""
    charts = []
    for name in sorted({result.dataset for result in evaluation.results}):
        results = [result for result in evaluation.results if result.dataset == name]
        chosen = _chosen(results, shots)
        shown = sorted((r for r in results if r.shots == chosen), key=lambda r: order[r.scorer])
        for family, own in curves.stress(shown).items():
            series = [curves.stress_series(r, family, order[r.scorer]) for r in own]
            x = curves.level_axis(family, [value for one in series for value in one.x])
            y = _fitted("AUROC", [value for one in series for value in one.y])
            title = f"AUROC against {family}, {name}, {chosen} references"
            svg = curves.chart(series, x, y, title=title, points=True)
            charts.append(
                {
                    "svg": _safe(svg), "family": family, "set": name, "shots": chosen,
                    "legend": [(s.name, s.colour, "") for s in series],
                }
            )  # fmt: skip
    return charts


def _headline(
    sets: Sequence[dict[str, Any]], evaluation: Evaluation, order: dict[str, int]
) -> list[dict[str, Any]]:
    """Scorers by sets: the leading figure of each, the best one marked."""
    best = {
        one["name"]: max(
            (round(r.figures[one["leading"]].mean, 3) for r in one["shown"]
             if one["leading"] in r.figures), default=None,
        )
        for one in sets
    }  # fmt: skip
    rows = []
    for name, colour in order.items():
        cells = []
        for one in sets:
            result = next((r for r in one["shown"] if r.scorer == name), None)
            spread = result.figures.get(one["leading"]) if result else None
            marked = spread is not None and round(spread.mean, 3) == best[one["name"]]
            cells.append((spread_text(spread), marked))
        memory = [r.peak_memory_mib for r in evaluation.results if r.scorer == name]
        colour %= curves.COLOURS
        rows.append({"scorer": name, "colour": colour, "cells": cells, "mib": max(memory)})
    return rows


def _exhibits(exhibits: Sequence[Exhibit]) -> list[dict[str, Any]]:
    """Pictures by kind, in the order given."""
    from PIL import Image

    groups: list[dict[str, Any]] = []
    for kind, head in _KINDS.items():
        pictures = []
        for one in exhibits:
            if one.query.kind != kind:
                continue
            with Image.open(io.BytesIO(one.jpeg)) as image:
                size = image.size
            other = "pristine" if one.query.record.damaged else "damaged"
            pictures.append(
                {
                    "data": base64.b64encode(one.jpeg).decode(), "size": size,
                    "record": one.query.record,
                    "share": f"above {one.query.share:.0%} of the {other}",
                }
            )  # fmt: skip
        if pictures:
            groups.append({"head": head, "pictures": pictures})
    return groups


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in sorted(config.items()):
        inner = isinstance(value, Mapping)
        flat |= _flat(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return flat


def _safe(svg: str) -> Any:
    import markupsafe

    return markupsafe.Markup(svg)  # made by `curves`, which escapes every name
