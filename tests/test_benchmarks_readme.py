"""README's comparison is what the committed summaries say, and nothing older."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import readme


def result(scorer: str, shots: int, auroc: float | None, **more: object) -> dict[str, object]:
    figures = {} if auroc is None else {"auroc": [auroc, 0.01]}
    return {
        "set": "cookies", "scorer": scorer, "references": shots, "seeds": [0, 1], "queries": 8,
        "damaged": 4, "figures": figures, "slices": {}, "defect_types": {},
        "latency_ms": {"median": 120.4, "p95": 150.0}, "peak_memory_mib": 900.0, **more,
    }  # fmt: skip


def run_of(*results: dict[str, object], low: float = 0.01) -> dict[str, object]:
    files = [
        {"machine": {"cores": 2, "processor": "EPYC"}, "date": "2026-11-23",
         "versions": {"anomalib": "2.7.0"}}
    ]  # fmt: skip
    pair = {
        "set": "cookies", "references": 4, "metric": "auroc", "first": "amiss", "second": "rad",
        "mean": 0.05, "low": low, "high": 0.09,
    }  # fmt: skip
    return {"files": files, "results": list(results), "comparisons": [pair]}


def test_the_readme_is_made_from_the_committed_summaries() -> None:
    text = readme.README.read_text("utf-8")
    assert readme.with_comparison(text, readme.load()) == text, "run python -m benchmarks.readme"


def test_the_best_scorer_stands_first_and_leads_are_counted() -> None:
    run = run_of(
        result("rad", 4, 0.9), result("amiss", 4, 0.95), result("rad", 1, 0.8),
        result("amiss", 1, 0.85),
    )  # fmt: skip
    text = readme.comparison({"comparison": run})
    lines = text.splitlines()
    assert "| cookies | amiss | 0.850 ± 0.010 | 0.950 ± 0.010 |" in lines
    assert lines.index("| cookies | rad | 0.800 ± 0.010 | 0.900 ± 0.010 |") > lines.index(
        "| cookies | amiss | 0.850 ± 0.010 | 0.950 ± 0.010 |"
    )
    assert "against `rad`: clearly ahead in 1, clearly behind in 0 of\n  1 (" in text


def test_slices_are_listed_in_their_natural_order() -> None:
    parts = {f"rotation {n}": {"auroc": [n / 200, None]} for n in (90, 0, 180)}
    own = result("amiss", 4, 0.9, set="studio/pose", slices=parts)
    text = readme.comparison({"comparison": run_of(own), "slices": run_of(own)})
    assert "rotation 0 0.00, rotation 90 0.45, rotation 180 0.90 |" in text


def test_a_readme_without_marks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "comparison.json").write_text(json.dumps(run_of(result("amiss", 4, 0.9))))
    summaries = readme.load(tmp_path)
    assert set(summaries) == {"comparison"}
    with pytest.raises(ValueError, match="end of comparison"):
        readme.with_comparison(f"# x\n{readme.BEGIN}\n", summaries)
