"""README's comparison with other scorers, made from committed summaries.

python -m benchmarks.readme     # after `python -m benchmarks --save`; a test fails when it is stale
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import RESULTS
from benchmarks.summary import HEADS
from gallery import durable

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- comparison: python -m benchmarks.readme -->", "<!-- end of comparison -->"
_CHAMPION = "amiss"
_LEADING = ("auroc", "box_recall_at_half_false")
_SLICE_FIGURES = ("auroc", "recall_at_1_fpr")

Summary = Mapping[str, Any]


def main() -> None:
    text = README.read_text("utf-8")
    durable.write_file(README, with_comparison(text, load()).encode())


def load(folder: Path = RESULTS) -> dict[str, Summary]:
    """Committed summaries by name: `comparison`, and `slices` where there is one."""
    paths = {name: folder / f"{name}.json" for name in ("comparison", "slices")}
    return {name: json.loads(p.read_text("utf-8")) for name, p in paths.items() if p.exists()}


def with_comparison(text: str, summaries: Mapping[str, Summary]) -> str:
    """`text` with all between the two marks made anew."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README lacks the line {BEGIN if not begin else END}")
    return f"{head}{BEGIN}\n\n{comparison(summaries)}\n{END}{tail}"


def comparison(summaries: Mapping[str, Summary]) -> str:
    """Markdown: a table of sets and scorers, how clear our lead is, a table of slices."""
    main_run = summaries["comparison"]
    parts = [_introduction(main_run), _table(main_run), _leads(main_run)]
    if "slices" in summaries:
        parts += ["Rendered slices, 4 references:\n", _slices(summaries["slices"])]
    return "\n".join(parts)


def _introduction(run: Summary) -> str:
    files = run["files"]
    machine, date = files[0]["machine"], max(one["date"] for one in files)
    versions = {k: v for one in files for k, v in one["versions"].items()}
    seeds = max(len(result["seeds"]) for result in run["results"])
    peer = f"anomalib {versions['anomalib']}, " if "anomalib" in versions else ""
    return (
        "AUROC over all queries of a set (`deeppcb`: boxes hit at half a false region per\n"
        f"picture), mean and standard deviation over {seeds} seeds, by number of references;\n"
        f"{peer}same weights, same pictures, {machine['cores']} cores of an\n"
        f"{machine['processor']}, {date}.\n"
    )


def _table(run: Summary) -> str:
    cells: dict[tuple[str, str], dict[int, Mapping[str, Any]]] = {}
    for result in run["results"]:
        cells.setdefault((result["set"], result["scorer"]), {})[result["references"]] = result
    shots = sorted({result["references"] for result in run["results"]})
    rows = [["set", "scorer", *(f"{n} reference{'s' if n > 1 else ''}" for n in shots)]]
    order = sorted(cells, key=lambda key: (key[0], -_best(cells[key]), key[1]))
    for key in order:
        own = cells[key]
        rows.append([*key, *(_figure(own.get(n)) for n in shots)])
    return _markdown(rows)


def _best(own: Mapping[int, Mapping[str, Any]]) -> float:
    name = _leading(own[max(own)])
    return float(own[max(own)]["figures"][name][0]) if name else 0.0


def _leading(result: Mapping[str, Any]) -> str | None:
    return next((name for name in _LEADING if name in result["figures"]), None)


def _figure(result: Mapping[str, Any] | None) -> str:
    name = _leading(result) if result else None
    if result is None or name is None:
        return ""
    mean, spread = result["figures"][name]
    return f"{mean:.3f}" + (f" ± {spread:.3f}" if spread is not None else "")


def _leads(run: Summary) -> str:
    """One line for each other scorer: where we are ahead, level, behind by the paired bootstrap."""
    lines = []
    sets = {result["set"] for result in run["results"]}
    pairs = [
        one for one in run["comparisons"]
        if one["metric"] == "auroc" and one["first"] == _CHAMPION
    ]  # fmt: skip
    for other in sorted({one["second"] for one in pairs}):
        every = [one for one in pairs if one["second"] == other]
        own = [one for one in every if one["set"] in sets]
        ahead = sum(one["low"] is not None and one["low"] > 0 for one in own)
        behind = sum(one["high"] is not None and one["high"] < 0 for one in own)
        lines.append(
            f"- against `{other}`: clearly ahead in {ahead}, clearly behind in {behind} of\n"
            f"  {len(own)} (set, number of references): the 95 % interval of a paired bootstrap\n"
            "  leaves out zero" + _on_the_mean([one for one in every if one["set"] not in sets])
        )
    return "\n".join(lines) + "\n"


def _on_the_mean(pairs: Sequence[Mapping[str, Any]]) -> str:
    """How far ahead over several sets, by number of references."""
    if not pairs:
        return ""
    shown = ", ".join(
        f"{one['mean']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f})"
        for one in sorted(pairs, key=lambda one: int(one["references"]))
    )
    shots = ", ".join(str(one["references"]) for one in pairs)
    return f";\n  {pairs[0]['set']} with {shots} references: {shown}"


def _slices(run: Summary) -> str:
    heads = [HEADS[name] for name in _SLICE_FIGURES]
    rows = [["set", "scorer", "queries", *heads, "by slice: AUROC"]]
    for result in sorted(run["results"], key=lambda r: (r["set"], r["scorer"])):
        figures = result["figures"]
        parts = [
            f"{name} {own['auroc'][0]:.2f}"
            for name, own in sorted(result["slices"].items(), key=lambda item: _natural(item[0]))
            if "auroc" in own
        ]
        shown = [f"{figures[n][0]:.3f}" if n in figures else "" for n in _SLICE_FIGURES]
        rows.append([result["set"], result["scorer"], str(result["queries"]), *shown,
                     ", ".join(parts)])  # fmt: skip
    return _markdown(rows)


def _natural(name: str) -> tuple[str, float]:
    word, _, number = name.rpartition(" ")
    try:
        return word, float(number)
    except ValueError:
        return name, 0.0


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]) + "\n"


if __name__ == "__main__":
    main()
