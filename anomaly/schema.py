"""The machine contract `amiss.inspect/1`: one JSON object per picture; keys are only ever added.

`inspect.schema.json` beside this file says what may stand in it, for readers in any language.
"""

from __future__ import annotations

import json
import math
from importlib import resources
from typing import Any

from anomaly.results import AlignmentSummary, Calibration, Finding, Inspection, Unreadable

SCHEMA = "amiss.inspect/1"


def as_json(result: Inspection | Unreadable) -> dict[str, Any]:
    """The result as JSON values only, findings by score, highest first; the picture stays out.

    Every number is finite; what was not measured is None.
    """
    value = _unreadable(result) if isinstance(result, Unreadable) else _inspection(result)
    assert all(math.isfinite(number) for number in _floats(value)), f"not finite: {value}"
    return value


def load_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) that every `as_json` value is valid against."""
    text = resources.files("anomaly").joinpath("inspect.schema.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def _unreadable(result: Unreadable) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "image": result.image,
        "error": {"code": result.code, "message": result.message},
    }


def _inspection(result: Inspection) -> dict[str, Any]:
    by_score = sorted(result.findings, key=lambda finding: -finding.score)
    return {
        "schema": SCHEMA,
        "inspection_id": result.inspection_id,
        "image": result.image,
        "product_id": result.product_id,
        "product_id_source": result.product_id_source,
        "verdict": result.verdict,
        "reason": {"code": result.reason.code, "text": result.reason.text},
        "score": _number(result.score),
        "p_value": _number(result.p_value),
        "threshold": _number(result.threshold),
        "calibration": None if result.calibration is None else _calibration(result.calibration),
        "findings": [_finding(finding) for finding in by_score],
        "references": list(result.references),
        "alignment": None if result.alignment is None else _alignment(result.alignment),
        "build": result.build,
        "delta": result.delta,
        "catalog_seq": int(result.catalog_seq),
        "config": result.config,
        "timings_ms": {stage: float(ms) for stage, ms in result.timings_ms.items()},
    }


def _calibration(calibration: Calibration) -> dict[str, Any]:
    return {
        "source": calibration.source,
        "n": int(calibration.n),
        "attainable": float(calibration.attainable),
    }


def _finding(finding: Finding) -> dict[str, Any]:
    box = finding.bbox_px
    return {
        "kind": finding.kind,
        "bbox_px": None if box is None else [float(edge) for edge in box],
        "area_px": _number(finding.area_px),
        "score": float(finding.score),
        "reference_id": finding.reference_id,
    }


def _alignment(summary: AlignmentSummary) -> dict[str, Any]:
    rows = summary.matrix
    return {
        "status": summary.status,
        "reference_id": summary.reference_id,
        "inliers": int(summary.inliers),
        "residual_px": _number(summary.residual_px),
        "overlap_fraction": _number(summary.overlap_fraction),
        "matrix": None if rows is None else [[float(entry) for entry in row] for row in rows],
    }


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)


def _floats(value: Any) -> list[float]:
    if isinstance(value, dict):
        return _floats(list(value.values()))
    if isinstance(value, list):
        return [number for entry in value for number in _floats(entry)]
    return [value] if isinstance(value, float) else []
