"""Embedders that are known before they are loaded: what is recalled is what would be found."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from embeddings import Embedder, open_embedder, recall
from embeddings.embedder import Known
from embeddings.errors import FingerprintMismatch
from embeddings.recall import CODE, code_digest

MODEL, SIZE_PX = "test_resnet", 64


def weights_at(path: Path, seed: int = 0) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        save_file(timm.create_model(MODEL, pretrained=False).state_dict(), path)
    return path


def versions() -> dict[str, str]:
    return {CODE: code_digest(), **{n: metadata.version(n) for n in ("torch", "timm")}}


def opened(backbone: str) -> Embedder:
    return open_embedder(backbone, size_px=SIZE_PX, device="cpu")


def recalled(known: Known, backbone: str, told: dict[str, str] | None = None) -> Embedder | None:
    return recall.recall(known, told or versions(), backbone, size_px=SIZE_PX, device="cpu")


@pytest.fixture
def backbone(tmp_path: Path) -> str:
    return f"{MODEL}@{weights_at(tmp_path / 'weights.safetensors')}"


@pytest.fixture
def known(backbone: str) -> Known:
    embedder = opened(backbone)
    return Known(embedder.fingerprint(codec="codec/1"), embedder.dims)


def test_a_recalled_embedder_is_the_one_that_would_be_opened(backbone: str, known: Known) -> None:
    found, real = recalled(known, backbone), opened(backbone)
    assert found is not None
    for codec in ("codec/1", "codec/2"):
        assert found.fingerprint(codec=codec) == real.fingerprint(codec=codec)
    assert (found.dims, found.batch_size) == (real.dims, real.batch_size)
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    (ours,), (theirs,) = found.embed([picture]), real.embed([picture])
    np.testing.assert_array_equal(ours.vector, theirs.vector)
    for embedder in (found, real):
        (again,) = pickle.loads(pickle.dumps(embedder)).embed([picture])
        np.testing.assert_array_equal(again.vector, theirs.vector)


@pytest.mark.parametrize("name", ["torch", "timm", CODE])
def test_another_version_is_a_doubt(backbone: str, known: Known, name: str) -> None:
    assert recalled(known, backbone, {**versions(), name: "0"}) is None
    assert recalled(known, backbone, {k: v for k, v in versions().items() if k != name}) is None


def test_other_weights_are_a_doubt(tmp_path: Path, backbone: str, known: Known) -> None:
    weights_at(tmp_path / "weights.safetensors", seed=1)
    assert recalled(known, backbone) is None
    (tmp_path / "weights.safetensors").unlink()
    assert recalled(known, backbone) is None


def test_weights_from_a_hub_and_a_device_that_only_torch_knows_are_doubts(
    backbone: str, known: Known
) -> None:
    assert recalled(known, MODEL) is None
    on_gpu = Known(replace(known.fingerprint, device_class="cuda"), known.dims)
    assert recalled(on_gpu, backbone) is None
    found = recall.recall(known, versions(), backbone, size_px=SIZE_PX, device="cuda")
    assert found is None


def test_a_recalled_embedder_that_turns_out_another_does_not_embed(
    backbone: str, known: Known
) -> None:
    wrong = Known(replace(known.fingerprint, layers="blocks.9/8/0|blocks.9/8"), known.dims)
    found = recalled(wrong, backbone)
    assert found is not None
    with pytest.raises(FingerprintMismatch, match="recorded was"):
        found.embed([np.zeros((48, 64, 3), np.uint8)])


QUIET = """
import sys
from anomaly.builder import foresee, rebuild
root = sys.argv[1]
foreseen, report = foresee(root), rebuild(root)
heavy = sorted({"torch", "timm", "torchvision"} & set(sys.modules))
print(foreseen.embed, report.unchanged, report.build_id, heavy)
"""


@pytest.mark.parametrize("given", ["default", "file"])
def test_a_rebuild_without_changes_loads_no_network_library(
    tmp_path: Path, backbone: str, write_pictures: Callable[..., Any], given: str
) -> None:
    from anomaly import build_config, build_gallery

    name = {"default": None, "file": backbone}[given]
    config = build_config(given={"backbone": name, "size_px": SIZE_PX, "device": "cpu"})
    source = write_pictures(tmp_path / "source", products=1, references=2)
    built = build_gallery(source, tmp_path / "gallery", config=config).built
    assert built.published
    command = [sys.executable, "-c", QUIET, str(tmp_path / "gallery")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "True", built.build_id, "[]"]
