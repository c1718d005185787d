"""Fingerprints: equal ones may be compared, others are refused by the name of the field."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from embeddings.errors import FingerprintMismatch
from embeddings.fake import fake_embedder
from embeddings.fingerprint import EmbeddingFingerprint, ScoringFingerprint, digest_json

STORED = fake_embedder(size_px=64).fingerprint(codec="int8")
CHANGES = {
    "model": "other",
    "weights_sha256": "1" * 64,
    "preprocessing": "longest side 65",
    "layers": "blocks.1",
    "pooling": "mean",
    "codec": "float16",
    "format": 999,
}


def test_a_fingerprint_survives_json() -> None:
    read = EmbeddingFingerprint.from_dict(json.loads(json.dumps(STORED.as_dict())))
    assert read == STORED
    assert read.digest == STORED.digest


@pytest.mark.parametrize("field", CHANGES)
def test_a_difference_in_any_field_is_refused_and_named(field: str) -> None:
    other = replace(STORED, **{field: CHANGES[field]})
    assert other.digest != STORED.digest
    with pytest.raises(FingerprintMismatch) as caught:
        STORED.require_comparable(other)
    assert f"{field}: {getattr(STORED, field)!r} against {CHANGES[field]!r}" in str(caught.value)
    assert "pooling" not in str(caught.value) or field == "pooling"


def test_changes_cover_every_field_but_the_device_class() -> None:
    assert set(CHANGES) | {"device_class"} == set(STORED.as_dict())


def test_another_device_class_is_another_digest_and_still_comparable() -> None:
    other = replace(STORED, device_class="cuda")
    assert other.digest != STORED.digest
    STORED.require_comparable(other)


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d.pop("codec"),
        lambda d: d.update(extra=1),
        lambda d: d.update(model=None),
        lambda d: d.update(format="1"),
        lambda d: d.clear(),
    ],
    ids=["missing", "unknown", "null", "text-for-number", "empty"],
)
def test_a_damaged_record_is_no_fingerprint(damage) -> None:
    values = STORED.as_dict()
    damage(values)
    with pytest.raises(FingerprintMismatch, match="not an embedding fingerprint"):
        EmbeddingFingerprint.from_dict(values)


def test_the_working_size_is_part_of_the_fingerprint() -> None:
    with pytest.raises(FingerprintMismatch, match="preprocessing"):
        STORED.require_comparable(fake_embedder(size_px=96).fingerprint(codec="int8"))


def test_digests_of_json_ignore_key_order_and_nothing_else() -> None:
    assert digest_json({"a": 1, "b": [1, 2]}) == digest_json({"b": [1, 2], "a": 1})
    assert digest_json({"a": [1, 2]}) != digest_json({"a": [2, 1]})
    assert digest_json({"a": 1}) != digest_json({"a": "1"})
    # sha256 of {"a":1}, by coreutils' sha256sum
    assert digest_json({"a": 1}).startswith("015abd7f5cc57a2d")


def test_scoring_fingerprints_depend_on_versions_and_configuration_alone() -> None:
    one = ScoringFingerprint.of({"align": 1, "score": 2}, {"radius": 1})
    same = ScoringFingerprint.of({"score": 2, "align": 1}, {"radius": 1})
    one.require_same(same)
    assert one.digest == same.digest
    for other in (
        ScoringFingerprint.of({"align": 2, "score": 2}, {"radius": 1}),
        ScoringFingerprint.of({"align": 1}, {"radius": 1}),
        ScoringFingerprint.of({"align": 1, "score": 2}, {"radius": 2}),
    ):
        assert other.digest != one.digest
        with pytest.raises(FingerprintMismatch, match="recompute the profiles"):
            one.require_same(other)
