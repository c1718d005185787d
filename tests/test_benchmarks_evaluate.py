"""Figures of whole record sets: by hand, and as a user reads them."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from benchmarks.evaluate import Evaluation, Result, Spread, evaluate
from benchmarks.metrics import BoxCounts, HeatView, pixel_evidence
from benchmarks.records import (
    Provenance,
    Record,
    Records,
    UnpairedRecords,
    read_records,
    write_records,
)
from benchmarks.summary import HEADS, leading_figure, ranked, spread_text, summary_json, tables


def _provenance(scorer: str, memory: float = 100.0, boxed: bool = False) -> Provenance:
    return Provenance(
        scorer, {"size_px": 448}, {"b": 1, "a": 2}, {"torch": "2.4"},
        {"processor": "EPYC", "cores": 2}, "2026-11-23", "python -m benchmarks", memory, boxed,
    )  # fmt: skip


def _rows(
    scorer: str, scores: Sequence[float], damaged: Sequence[bool | None], *, seed: int = 0,
    shots: int = 4, parts: Sequence[str] = (), products: Sequence[str] = (),
) -> list[Record]:  # fmt: skip
    return [
        Record(
            scorer, "set", products[i] if products else "p", shots, seed, f"{i:03d}", score,
            parts[i] if parts else "", label, defect_types=("tear",) if label and i % 2 else (),
            timings_ms={"embed": 10.0 + i}, total_ms=20.0 + i,
        )
        for i, (score, label) in enumerate(zip(scores, damaged, strict=True))
    ]  # fmt: skip


def _evaluate(*rows: Record, boxed: bool = False) -> Evaluation:
    names = sorted({row.scorer for row in rows})
    ordered = sorted(rows, key=lambda row: (row.scorer, row.query))
    records = Records(tuple(ordered), tuple(_provenance(name, boxed=boxed) for name in names))
    return evaluate(records, resamples=200)


def _mean(result: Result, name: str) -> float:
    return result.figures[name].mean


def test_mean_and_deviation_are_over_seeds() -> None:
    labels = [True, True, False, False]
    rows = [
        *_rows("amiss", [4, 3, 2, 1], labels, seed=0),
        *_rows("amiss", [4, 2, 3, 1], labels, seed=1),
    ]
    (result,) = _evaluate(*rows).results
    assert result.seeds == (0, 1)
    assert (result.queries, result.damaged) == (8, 4)
    assert result.figures["auroc"] == Spread(0.875, pytest.approx(np.std([1, 0.75], ddof=1)))
    assert "pixel_auroc" not in result.figures
    assert "box_recall" not in result.figures
    assert "ap_major" not in result.figures
    assert result.latency_ms["median"] == 21.5
    assert result.latency_ms["stage embed"] == 11.5
    assert result.peak_memory_mib == 100


def test_one_threshold_for_all_products_and_one_for_each() -> None:
    scores, labels = [12, 11, 2, 1], [True, False, True, False]
    rows = _rows("amiss", scores, labels, products=["a", "a", "b", "b"])
    (result,) = _evaluate(*rows).results
    assert _mean(result, "auroc") == 0.75
    assert _mean(result, "auroc_by_product") == 1
    alone = _rows("amiss", scores, labels)
    assert "auroc_by_product" not in _evaluate(*alone).results[0].figures


def test_parts_of_one_class_are_ranked_against_the_rest_of_the_set() -> None:
    scores = [9, 5, 1, 0, 8, 7, 2]
    labels = [True, True, False, False, False, False, True]
    parts = ["plain", "plain", "plain", "plain", "art", "art", "gap"]
    (result,) = _evaluate(*_rows("amiss", scores, labels, parts=parts)).results
    assert result.slices["plain"]["auroc"].mean == 1
    assert result.slices["art"]["auroc"].mean == pytest.approx(2 / 6)  # against all damage
    assert result.slices["art"]["false_alarms_at_1_fpr"].mean == 1  # both above 1
    assert "false_alarms_at_1_fpr" not in result.slices["plain"]
    assert result.slices["gap"]["auroc"].mean == 0.5  # against all pristine
    assert result.slices["gap"]["queries"].mean == 1
    assert result.defect_types["tear"]["auroc"].mean == 0.5  # the 5, against all pristine


def test_a_set_of_one_slice_has_no_slices() -> None:
    rows = _rows("amiss", [2, 1], [True, False], parts=["x", "x"])
    assert _evaluate(*rows).results[0].slices == {}


def test_pixel_figures_are_means_over_products() -> None:
    mask = np.zeros((4, 4), bool)
    mask[0, 0] = True
    rows = _rows("amiss", [3, 2, 1], [True, True, False], products=["a", "b", "b"])
    right = np.where(mask, 9, 0).astype(np.float32)
    evidence = [
        *pixel_evidence([HeatView(right, mask)]),
        *pixel_evidence([HeatView(-right, mask), HeatView(right * 0, mask & ~mask)]),
    ]
    rows = [dataclasses.replace(r, pixels=e) for r, e in zip(rows, evidence, strict=True)]
    (result,) = _evaluate(*rows).results
    assert _mean(result, "pixel_auroc") == 0.5
    assert _mean(result, "aupro") == 0.5


def test_boxes_and_identification() -> None:
    rows = [
        dataclasses.replace(row, boxes=BoxCounts(2, 1, 3, i), rank=rank)
        for i, (row, rank) in enumerate(
            zip(_rows("amiss", [1, 1], [None, None]), [1, 4], strict=True)
        )
    ]
    (result,) = _evaluate(*rows, boxed=True).results
    assert _mean(result, "box_recall") == 0.5
    assert _mean(result, "false_regions") == 0.5
    assert (_mean(result, "top1"), _mean(result, "top5")) == (0.5, 1)
    assert "auroc" not in result.figures
    assert leading_figure(result) == "box_recall"
    (unboxed,) = _evaluate(*rows).results
    assert "box_recall" not in unboxed.figures  # points at no regions: not zero, unmeasured


def _contest() -> list[Record]:
    rng = np.random.default_rng(0)
    rows = []
    for seed in range(3):
        labels = rng.random(60) < 0.5
        shared = rng.normal(size=60)
        for name, gain in (("amiss", 2.5), ("ssim", 1.0), ("null", 0.0)):
            scores = shared + gain * labels + 0.2 * rng.normal(size=60)
            rows += _rows(name, scores.tolist(), labels.tolist(), seed=seed)
    return rows


def test_the_champion_is_compared_with_each_other() -> None:
    evaluation = _evaluate(*_contest())
    pairs = {(one.first, one.second, one.metric): one for one in evaluation.comparisons}
    assert sorted({second for _, second, _ in pairs}) == ["null", "ssim"]
    auroc = {result.scorer: _mean(result, "auroc") for result in evaluation.results}
    for name in ("null", "ssim"):
        difference = pairs["amiss", name, "auroc"].difference
        assert difference.mean == pytest.approx(auroc["amiss"] - auroc[name])
        assert 0 < difference.low < difference.mean < difference.high
    records = Records(tuple(_contest()), tuple(map(_provenance, ("amiss", "null", "ssim"))))
    other = evaluate(records, champion="ssim", resamples=10)
    assert {one.first for one in other.comparisons} == {"ssim"}
    with pytest.raises(ValueError, match="no records of us; there are amiss, null, ssim"):
        evaluate(records, champion="us")


def test_different_queries_are_not_put_in_one_table() -> None:
    rows = [
        *_rows("amiss", [1, 2, 3], [True, True, False]),
        *_rows("ssim", [1, 2], [True, True]),
    ]
    with pytest.raises(UnpairedRecords, match=r"set at 4 shots.*amiss has 002.*ssim has not"):
        _evaluate(*rows)
    _evaluate(*rows[:3], *_rows("ssim", [1, 2], [True, True], shots=1))  # other shots: no matter


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    rows = _contest()
    for place, name in enumerate(("amiss", "null", "ssim")):
        own = [row for row in rows if row.scorer == name]
        write_records(tmp_path / f"{place}.parquet", own, _provenance(name))
        write_records(tmp_path / f"{9 - place}.parquet", own[::-1], _provenance(name))
    texts = [
        summary_json(evaluate(read_records([tmp_path / f"{p}.parquet" for p in places])))
        for places in ((0, 1, 2), (9, 8, 7))
    ]
    assert texts[0] == texts[1]
    value = json.loads(texts[0])
    assert list(value) == ["format", "config", "files", "results", "comparisons"]
    assert value["config"] == {"size_px": 448}
    assert [one["scorer"] for one in value["results"]] == ["amiss", "null", "ssim"]
    mean, deviation = value["results"][0]["figures"]["auroc"]
    assert mean == round(mean, 4)
    assert deviation > 0
    assert len(texts[0].splitlines()) < 25
    assert value["comparisons"][0]["second"] == "null"


def test_tables_show_what_was_measured() -> None:
    console = Console(width=140, file=io.StringIO())
    rows = [dataclasses.replace(row, dataset="[red]") for row in _contest()]
    for table in tables(_evaluate(*rows)):
        console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[red]: 180 queries" in text
    assert "3 seeds" in text
    assert "pixel" not in text
    assert text.index("amiss") < text.index("ssim") < text.index("null")
    assert "amiss minus others" in text
    assert " ± " in text


def test_nothing_evaluates_to_nothing() -> None:
    evaluation = evaluate(Records((), ()))
    assert evaluation == Evaluation((), (), ())
    assert json.loads(summary_json(evaluation))["results"] == []
    assert tables(evaluation) == []


def test_words_for_figures_and_order() -> None:
    assert spread_text(Spread(0.97712, 0.0041)) == "0.977 ± 0.004"
    assert spread_text(Spread(1.0, None)) == "1.000"
    assert spread_text(None) == "-"
    evaluation = _evaluate(*_contest())
    assert [one.scorer for one in ranked(evaluation.results)] == ["amiss", "ssim", "null"]
    assert {name for one in evaluation.results for name in one.figures} <= set(HEADS)
