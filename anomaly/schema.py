"""The machine contracts `amiss.inspect/1`, one JSON object per picture, and `amiss.item/1`, one per
item of several views; keys are only ever added.

`inspect.schema.json` and `item.schema.json` beside this file say what may stand in them, for
readers in any language.
"""

from __future__ import annotations

import json
import math
from importlib import resources
from typing import Any

from anomaly.item import ItemInspection
from anomaly.results import (
    AlignmentSummary,
    Calibration,
    Finding,
    Inspection,
    Units,
    Unreadable,
)

SCHEMA = "amiss.inspect/1"
ITEM_SCHEMA = "amiss.item/1"


def as_json(result: Inspection | Unreadable) -> dict[str, Any]:
    """The result as JSON values only, findings by score, highest first; the picture stays out.

    Every number is finite; what was not measured is None.
    """
    value = _unreadable(result) if isinstance(result, Unreadable) else _inspection(result)
    assert all(math.isfinite(number) for number in _floats(value)), f"not finite: {value}"
    return value


def item_as_json(item: ItemInspection) -> dict[str, Any]:
    """The verdict on an item as JSON values only, with its views as `as_json` gives them."""
    return {
        "schema": ITEM_SCHEMA,
        "item": item.item,
        "product_id": item.product_id,
        "product_id_source": item.product_id_source,
        "verdict": item.verdict,
        "reason": {"code": item.reason.code, "text": item.reason.text},
        "deciding": item.deciding,
        "p_value": _number(item.p_value),
        "attainable": _number(item.attainable),
        "budget": float(item.budget),
        "view_budget": float(item.view_budget),
        "views": [as_json(view) for view in item.views],
    }


def load_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) that every `as_json` value is valid against."""
    return _shipped("inspect.schema.json")


def load_item_schema() -> dict[str, Any]:
    """The JSON Schema of every `item_as_json` value, the views' bundled with it."""
    schema = _shipped("item.schema.json")
    schema["$defs"] = {"view": load_schema()}  # which it refers to by its $id
    return schema


def _shipped(name: str) -> dict[str, Any]:
    text = resources.files("anomaly").joinpath(name).read_text("utf-8")
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
        "units": _units(result.units),
        "evidence": result.evidence,
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
        "calibration_id": calibration.calibration_id,
        "own": int(calibration.own),
        "budget": _number(calibration.budget),
        "review": _number(calibration.review),
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


def _units(units: Units | None) -> dict[str, Any] | None:
    return None if units is None else {"found": int(units.found), "total": int(units.total)}


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
