"""Records, the codec of patch grids, and a reference's way to a record and back."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from embeddings import PatchLayer, fake_embedder
from gallery import CatalogRow, Record, describe
from gallery import records as records_module
from gallery.compress import CodedLayer, decode_layer, encode_layer
from gallery.describe import from_record, to_record
from gallery.errors import DamagedGallery, UnsupportedFormat
from gallery.records import pack, unpack

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
TYPES = st.sampled_from(["<f4", "<f8", "|u1", "|i1", "<i8", "<u2", "|b1"]).map(np.dtype)
ARRAYS = TYPES.flatmap(
    lambda kind: arrays.arrays(kind, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0))
)


def small_record() -> Record:
    rng = np.random.default_rng(3)
    return Record(
        "reference",
        {"product_id": "razor/3 \U0001fa92", "step": 0.1, "none": None},
        {"a": rng.integers(0, 9, (3, 4), np.uint8), "b": rng.random(5, np.float32)},
    )


@given(
    st.text(),
    st.dictionaries(st.text(), JSON, max_size=4),
    st.dictionaries(st.text(), ARRAYS, max_size=3),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_a_record_comes_back_as_it_was_packed(
    kind: str, meta: dict[str, Any], content: dict[str, np.ndarray[Any, Any]]
) -> None:
    record = Record(kind, meta, content)
    back = unpack(pack(record), where="here")
    assert (back.kind, back.meta, list(back.arrays)) == (kind, meta, sorted(content))
    for name, array in content.items():
        assert back.arrays[name].dtype == array.dtype
        assert back.arrays[name].shape == array.shape
        assert back.arrays[name].tobytes() == array.tobytes()
    assert back.digest() == record.digest()


def test_arrays_that_are_not_contiguous_are_packed_by_value() -> None:
    array = np.arange(12, dtype=np.int64).reshape(3, 4)
    record = Record("x", {}, {"t": array.T, "s": array[:, ::2]})
    back = unpack(pack(record), where="here")
    np.testing.assert_array_equal(back.arrays["t"], array.T)
    np.testing.assert_array_equal(back.arrays["s"], array[:, ::2])
    assert back.digest() == record.digest()


@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80, 0xFF])
def test_every_flipped_byte_of_a_packed_record_is_noticed(mask: int) -> None:
    data = pack(small_record())
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= mask
        with pytest.raises(DamagedGallery, match="the place"):
            unpack(bytes(damaged), where="the place")


def test_every_truncated_or_lengthened_record_is_noticed() -> None:
    data = pack(small_record())
    for damaged in [data[:n] for n in range(len(data))] + [data + b"\0"]:
        with pytest.raises(DamagedGallery):
            unpack(damaged, where="the place")


def test_the_digest_does_not_depend_on_the_compressor(monkeypatch: pytest.MonkeyPatch) -> None:
    record = Record("x", {}, {"a": np.arange(5000, dtype=np.int64) % 7})
    usual = pack(record)
    monkeypatch.setattr(records_module, "_deflate", lambda raw: zlib.compress(raw, 0))
    stored = pack(record)
    assert len(stored) > 2 * len(usual)
    digests = {unpack(d, where="here").digest() for d in (usual, stored)} | {record.digest()}
    assert len(digests) == 1


@pytest.mark.parametrize(
    "other",
    [
        Record("y", {"m": 1}, {"a": np.zeros((2, 3), np.uint8)}),
        Record("x", {"m": 2}, {"a": np.zeros((2, 3), np.uint8)}),
        Record("x", {"m": 1}, {"b": np.zeros((2, 3), np.uint8)}),
        Record("x", {"m": 1}, {"a": np.zeros((3, 2), np.uint8)}),
        Record("x", {"m": 1}, {"a": np.zeros((2, 3), np.int8)}),
        Record("x", {"m": 1}, {"a": np.eye(2, 3, dtype=np.uint8)}),
    ],
)
def test_the_digest_tells_apart_whatever_differs(other: Record) -> None:
    assert Record("x", {"m": 1}, {"a": np.zeros((2, 3), np.uint8)}).digest() != other.digest()


def test_a_record_of_a_later_format_is_refused_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records_module, "FORMAT", 2)
    data = pack(small_record())
    with pytest.raises(UnsupportedFormat, match="format 2"):
        unpack(data, where="the place")


# Codec


def layers() -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    heavy = rng.standard_cauchy((9, 7, 5)).astype(np.float32)
    spike = np.full((6, 6, 3), 1e-3, np.float32)
    spike[2, 3, 1] = -50.0
    return {
        "random": rng.normal(size=(12, 10, 8)).astype(np.float32),
        "heavy tails": heavy,
        "one spike": spike,
        "constant": np.full((4, 5, 6), 0.3, np.float32),
        "zero": np.zeros((4, 5, 6), np.float32),
        "one cell": rng.normal(size=(1, 1, 3)).astype(np.float32),
        "one row": rng.normal(size=(1, 9, 3)).astype(np.float32),
        "tiny": rng.normal(size=(5, 5, 3)).astype(np.float32) * np.float32(1e-12),
        "huge": rng.normal(size=(5, 5, 3)).astype(np.float32) * np.float32(1e12),
        "alternating": np.where(np.indices((8, 8, 2)).sum(0) % 2, 1, -1).astype(np.float32),
    }


@pytest.mark.parametrize("name", layers())
def test_a_decoded_layer_is_within_half_a_step_everywhere(name: str) -> None:
    layer = PatchLayer(layers()[name], 8, 0.25)
    coded = encode_layer(layer)
    back = decode_layer(coded)
    assert back.features.shape == layer.features.shape
    assert (back.stride_px, back.floor, back.features.dtype) == (8, 0.25, np.float32)
    error = np.abs(back.features.astype(np.float64) - layer.features).max()
    # One part in a million more: the codes are products and quotients in float32.
    assert error <= coded.step / 2 + 1e-6 * np.abs(layer.features).max()


def test_the_step_is_six_percent_of_the_rms_where_the_range_allows() -> None:
    features = layers()["random"]
    rms = np.sqrt(np.mean(np.square(features, dtype=np.float64)))
    assert encode_layer(PatchLayer(features, 8, 0.0)).step == pytest.approx(0.06 * rms, rel=1e-6)
    spike = layers()["one spike"]
    assert encode_layer(PatchLayer(spike, 8, 0.0)).step == pytest.approx(50 / 127, rel=1e-6)


def test_coding_is_stable_the_second_time() -> None:
    """Copied records must not drift: what was decoded codes to the same values again."""
    once = decode_layer(encode_layer(PatchLayer(layers()["random"], 8, 0.0)))
    step = encode_layer(PatchLayer(layers()["random"], 8, 0.0)).step
    np.testing.assert_array_equal(np.rint(once.features / np.float32(step)) * np.float32(step),
                                  once.features)  # fmt: skip


@pytest.mark.parametrize("residuals", [np.zeros((2, 3), np.uint8), np.zeros((2, 3, 4), np.int8)])
def test_a_coded_layer_of_another_shape_or_type_is_refused(
    residuals: np.ndarray[Any, Any],
) -> None:
    with pytest.raises(DamagedGallery, match=r"\(D, H, W\)"):
        decode_layer(CodedLayer(residuals, 1.0, 8, 0.0))


# Reference records


def catalog_row(**fields: Any) -> CatalogRow:
    known: dict[str, Any] = {
        "product_id": "p/1", "product_no": 3, "slot": 2, "image": "ab" * 32, "mask": "cd" * 32,
        "depth": None, "view": "front", "variant": "lot", "valid_from": "2024-01-01",
        "name": "1.png",
    }  # fmt: skip
    return CatalogRow(**known | fields)


@pytest.mark.parametrize("given_mask", [True, False])
@pytest.mark.parametrize(("height", "width"), [(48, 64), (131, 97), (33, 200), (200, 33)])
def test_a_reference_comes_back_from_its_record(
    make_picture, height: int, width: int, given_mask: bool
) -> None:
    image = make_picture(5, height=height, width=width)
    mask = np.zeros((height, width), np.bool_)
    mask[3 : height - 6, 5 : width - 2] = True
    found = describe(image, fake_embedder(size_px=64), mask=mask if given_mask else None)
    stored = unpack(pack(to_record(catalog_row(), found)), where="here")
    back = from_record(stored, found.vector)

    identity = (back.reference_id, back.product_id, back.view, back.variant, back.valid_from)
    assert identity == (("ab" * 16), "p/1", "front", "lot", "2024-01-01")
    assert len(found.keypoints) > 0
    for name in ("points_xy", "sizes_px", "angles_deg", "descriptors"):
        was, now = getattr(found.keypoints, name), getattr(back.keypoints, name)
        assert was.dtype == now.dtype
        np.testing.assert_array_equal(now, was)
    assert back.keypoints.image_size == (height, width)

    np.testing.assert_array_equal(back.foreground.mask, found.foreground.mask)
    assert (back.foreground.source, back.foreground.confidence) == (
        found.foreground.source,
        found.foreground.confidence,
    )

    for was, now in zip(found.patches.layers, back.patches.layers, strict=True):
        step = encode_layer(was).step
        assert np.abs(now.features - was.features).max() <= step / 2 * (1 + 1e-5)
        assert (now.stride_px, now.floor) == (was.stride_px, was.floor)
    geometry = ("image_size", "working_size", "box_px")
    assert [getattr(back.patches, g) for g in geometry] == [
        getattr(found.patches, g) for g in geometry
    ]


def test_a_large_mask_is_kept_smaller(make_picture) -> None:
    image = make_picture(5, height=600, width=2048)
    mask = np.zeros((600, 2048), np.bool_)
    mask[100:300, 500:1500] = True
    found = describe(image, fake_embedder(size_px=64), mask=mask)
    back = from_record(unpack(pack(to_record(catalog_row(), found)), where="here"), found.vector)
    expected = np.zeros((300, 1024), np.bool_)
    expected[50:150, 250:750] = True
    np.testing.assert_array_equal(back.foreground.mask, expected)


def test_a_picture_without_keypoints_has_a_record_too() -> None:
    found = describe(np.full((40, 50, 3), 128, np.uint8), fake_embedder(size_px=64))
    back = from_record(unpack(pack(to_record(catalog_row(), found)), where="here"), found.vector)
    assert len(back.keypoints) == 0
    assert back.keypoints.descriptors.shape == (0, 128)
    assert np.linalg.norm(back.vector) == pytest.approx(1)


@pytest.mark.parametrize("field", ["box_px", "reference_id", "layers"])
def test_a_record_without_a_field_is_damage(make_picture, field: str) -> None:
    found = describe(make_picture(1), fake_embedder(size_px=64))
    record = to_record(catalog_row(), found)
    meta = {k: v for k, v in record.meta.items() if k != field}
    with pytest.raises(DamagedGallery, match=field):
        from_record(Record(record.kind, meta, record.arrays), found.vector)


def test_some_arrays_alone_are_those_of_the_whole_and_still_checked() -> None:
    record = Record("thing", {"a": 1}, {"x": np.arange(5), "y": np.ones((2, 3), np.float32)})
    data = pack(record)
    part = unpack(data, where="here", only=("y",))
    assert set(part.arrays) == {"y"}
    assert np.array_equal(part.arrays["y"], record.arrays["y"])
    assert part.packed is None
    spoiled = bytearray(data)
    spoiled[-1] ^= 1  # in an array that was or wasn't asked for: both are checked
    for name in ("x", "y"):
        with pytest.raises(DamagedGallery, match="here"):
            unpack(bytes(spoiled), where="here", only=(name,))
