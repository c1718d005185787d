"""The JSON of a result is what its schema says, and nothing else passes."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, get_args

import jsonschema
import numpy as np
import pytest

from anomaly.results import (
    AlignmentSummary,
    Calibration,
    EvidenceKind,
    Finding,
    Inspection,
    Kind,
    Reason,
    Unreadable,
    Verdict,
)
from anomaly.schema import SCHEMA, as_json, load_schema

VALIDATOR = jsonschema.Draft202012Validator(load_schema())
FULL = Inspection(
    inspection_id="3fa9",
    image="in/7.jpg",
    product_id="razor-3",
    product_id_source="claimed",
    verdict="damaged",
    reason=Reason("beyond_pristine", "differs from its references"),
    build="b1",
    catalog_seq=9,
    config="c0ffee",
    score=7.5,
    p_value=0.01,
    threshold=3.0,
    calibration=Calibration("pooled", 99, 0.01),
    findings=(
        Finding("changed", (1.0, 2.0, 3.0, 4.0), 4.0, 5.0, "aa"),
        Finding("missing", None, None, 7.5, None),
    ),
    references=("aa", "bb"),
    alignment=AlignmentSummary(
        "aligned", "aa", 40, 0.7, 0.9, ((1.0, 0.0, 2.0), (0.0, 1.0, 3.0), (0.0, 0.0, 1.0))
    ),
    timings_ms={"read": 1.5},
)
BARE = Inspection(
    "3faa", "in/8.jpg", None, "identified", "unknown_product", Reason("stranger", "unlike any"),
    "b1", 9, "c0ffee",
)  # fmt: skip
UNREADABLE = Unreadable("in/9.jpg", "truncated_image", "in/9.jpg: ends too early")
RESULTS = (FULL, BARE, UNREADABLE, replace(FULL, alignment=AlignmentSummary("failed")))


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(load_schema())


@pytest.mark.parametrize("result", RESULTS)
def test_results_are_valid_and_survive_json(result: Inspection | Unreadable) -> None:
    value = as_json(result)
    VALIDATOR.validate(value)
    assert json.loads(json.dumps(value, allow_nan=False)) == value


def test_every_field_of_an_inspection_but_its_picture_is_a_key() -> None:
    names = {field.name for field in fields(Inspection)} - {"picture"}
    assert set(as_json(FULL)) == names | {"schema"}
    assert set(load_schema()["$defs"]["inspection"]["required"]) == names | {"schema"}
    assert as_json(FULL)["schema"] == SCHEMA


def test_values_stand_where_the_contract_says() -> None:
    value = as_json(FULL)
    assert value["reason"] == {"code": "beyond_pristine", "text": "differs from its references"}
    assert [finding["score"] for finding in value["findings"]] == [7.5, 5.0]
    assert value["findings"][1] == {
        "kind": "changed", "bbox_px": [1.0, 2.0, 3.0, 4.0], "area_px": 4.0, "score": 5.0,
        "reference_id": "aa",
    }  # fmt: skip
    assert value["alignment"]["matrix"][0] == [1.0, 0.0, 2.0]
    assert as_json(UNREADABLE) == {
        "schema": SCHEMA, "image": "in/9.jpg",
        "error": {"code": "truncated_image", "message": "in/9.jpg: ends too early"},
    }  # fmt: skip


def test_numbers_of_numpy_become_numbers_of_json() -> None:
    small: Any = np.float32(0.5)
    result = replace(FULL, score=small, catalog_seq=np.int64(4), timings_ms={"read": small})
    json.dumps(as_json(result))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_a_bug(value: float) -> None:
    with pytest.raises(AssertionError, match="not finite"):
        as_json(replace(FULL, timings_ms={"read": value}))


def test_enums_are_those_of_the_results() -> None:
    definitions = load_schema()["$defs"]
    properties = definitions["inspection"]["properties"]
    assert set(properties["verdict"]["enum"]) == set(get_args(Verdict))
    assert set(definitions["finding"]["properties"]["kind"]["enum"]) == set(get_args(Kind))
    assert set(properties["evidence"]["enum"]) == {*get_args(EvidenceKind), None}


def test_every_key_is_described() -> None:
    def visit(node: Any) -> None:
        for name, entry in node.get("properties", {}).items():
            assert entry.get("description"), name
            visit(entry)

    for definition in load_schema()["$defs"].values():
        visit(definition)


def _set(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(whole: dict[str, Any]) -> None:
        *steps, last = path.split(".")
        target: Any = whole
        for step in steps:
            target = target[int(step)] if isinstance(target, list) else target[step]
        target[last] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set("schema", "amiss.inspect/2"),
        _set("verdict", "fine"),
        _set("p_value", 1.5),
        _set("score", "7"),
        _set("product_id_source", "guessed"),
        _set("reason", "because"),
        _set("findings.0.kind", "scratch"),
        _set("findings.1.bbox_px", [1, 2, 3]),
        _set("alignment.status", "ok"),
        _set("alignment.matrix", [[1, 0], [0, 1]]),
        _set("calibration.source", "luck"),
        _set("timings_ms", {"read": -1}),
        lambda value: value.pop("config"),
        lambda value: value.pop("findings"),
    ],
)
def test_what_breaks_the_contract_is_refused(change: Callable[[dict[str, Any]], None]) -> None:
    value = copy.deepcopy(as_json(FULL))
    change(value)
    assert not VALIDATOR.is_valid(value)


def test_keys_may_be_added() -> None:
    value = as_json(FULL)
    value["later"] = value["reason"]["later"] = 1
    VALIDATOR.validate(value)
