"""Networks from every place they may come from, and parity of the default with its source."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from skimage import data

from embeddings import weights
from embeddings.backbones import (
    LITE0,
    TimmBackbone,
    _load_lite0,
    open_backbone,
    resolve_device,
)
from embeddings.errors import BackboneError, WeightsMismatch, WeightsNotFound

THREE_WAYS = r"\(1\).*\(2\).*\(3\)"


@contextmanager
def intra_op_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def seeded_state(name: str) -> dict[str, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return timm.create_model(name, pretrained=False).state_dict()


def saved(name: str, path: Path) -> Path:
    """Weights of a tiny timm model, with its classifier, as hubs publish them."""
    state = seeded_state(name)
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


def photograph(side: int = 224) -> np.ndarray:
    return np.ascontiguousarray(data.astronaut()[:side, 100 : 100 + side])


# The default backbone


@pytest.fixture(scope="module")
def lite0() -> TimmBackbone:
    backbone = open_backbone(device="cpu")
    assert isinstance(backbone, TimmBackbone)
    return backbone


@pytest.mark.filterwarnings("ignore:.*align_corners.*:UserWarning")
def test_lite0_equals_the_implementation_its_weights_were_made_for() -> None:
    from efficientnet_lite_pytorch import EfficientNet

    reference = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=str(weights.lite0_path())
    ).eval()
    pixels = torch.from_numpy(photograph()).permute(2, 0, 1)[None].float()
    inputs = (pixels - 127) / 128
    with torch.inference_mode(), intra_op_threads(1):
        logits, wanted = _load_lite0()(inputs), reference(inputs)
    assert wanted.shape == (1, 1000)
    assert wanted.std() > 0.1
    assert (logits - wanted).abs().max() == 0.0


def test_lite0_features_are_those_of_the_named_blocks(lite0: TimmBackbone) -> None:
    """Against forward hooks on the blocks, and an average over 3x3 cells written out."""
    image, seen = photograph(), {}
    network = lite0.network()
    hooks = [
        network.get_submodule(name).register_forward_hook(
            lambda _m, _i, out, name=name: seen.__setitem__(name, out[0].detach().numpy())
        )
        for name in (*LITE0.layers, LITE0.global_layer)
    ]
    inputs = torch.from_numpy((photograph().astype(np.float32) - 127) / 128)
    with torch.inference_mode():
        network(inputs.permute(2, 0, 1)[None])
    for hook in hooks:
        hook.remove()
    features = lite0.extract(image[None])
    np.testing.assert_allclose(
        features.last[0], seen[LITE0.global_layer].transpose(1, 2, 0), rtol=1e-4, atol=1e-4
    )
    for maps, name in zip(features.layers, LITE0.layers, strict=True):
        raw = seen[name].transpose(1, 2, 0)
        for r, c in [(0, 0), (3, 5), (raw.shape[0] - 1, 2)]:
            cells = raw[max(r - 1, 0) : r + 2, max(c - 1, 0) : c + 2]
            np.testing.assert_allclose(maps[0, r, c], cells.mean(axis=(0, 1)), rtol=1e-4, atol=1e-4)


def test_lite0_spec_is_what_its_network_gives(lite0: TimmBackbone) -> None:
    features = lite0.extract(np.zeros((2, 64, 96, 3), np.uint8))
    assert features.last.shape == (2, 2, 3, LITE0.global_dims)
    for maps, stride in zip(features.layers, LITE0.strides_px, strict=True):
        assert maps.shape[:3] == (2, 64 // stride, 96 // stride)
    assert sum(maps.shape[3] for maps in features.layers) == 152


# timm models from local files


def same_network(backbone: TimmBackbone, name: str) -> bool:
    state = backbone.network().state_dict()
    wanted = seeded_state(name)
    return all(torch.equal(value, wanted[key]) for key, value in state.items())


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_efficientnet"])
def test_name_at_file_loads_that_file(tmp_path, name: str, suffix: str) -> None:
    path = saved(name, tmp_path / f"any{suffix}")
    backbone = open_backbone(f"{name}@{path}", device="cpu")
    assert same_network(backbone, name)
    assert backbone.spec.model == name
    assert backbone.spec.weights_sha256 == weights.file_sha256(path)


def test_a_file_named_after_its_architecture_needs_no_name(tmp_path) -> None:
    path = saved("test_resnet", tmp_path / "test_resnet.safetensors")
    backbone = open_backbone(str(path), device="cpu")
    assert backbone.spec.model == "test_resnet"
    assert same_network(backbone, "test_resnet")


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("pointed_at", ["folder", "file"])
def test_a_directory_as_hubs_store_it_is_loaded(tmp_path, name: str, pointed_at: str) -> None:
    path = saved("test_vit", tmp_path / name)
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "test_vit"}))
    backbone = open_backbone(str(tmp_path if pointed_at == "folder" else path), device="cpu")
    assert backbone.spec.model == "test_vit"
    assert same_network(backbone, "test_vit")


def test_hierarchical_networks_give_strides_8_and_16_and_transformers_their_last(tmp_path) -> None:
    cnn = open_backbone(
        f"test_resnet@{saved('test_resnet', tmp_path / 'c.safetensors')}", device="cpu"
    ).spec
    assert (cnn.strides_px, cnn.global_stride_px, cnn.pad_multiple) == ((8, 16), 32, 32)
    vit = open_backbone(
        f"test_vit@{saved('test_vit', tmp_path / 'v.safetensors')}", device="cpu"
    ).spec
    assert (vit.strides_px, vit.global_stride_px, vit.pad_multiple) == ((16,), 16, 16)
    assert vit.layers == (vit.global_layer,)


# Refusals


def test_missing_tensors_are_refused_by_name(tmp_path) -> None:
    state = seeded_state("test_resnet")
    del state["layer1.0.conv1.weight"]
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(WeightsMismatch, match=r"lacks 1 tensors.*layer1\.0\.conv1\.weight"):
        open_backbone(f"test_resnet@{tmp_path / 'w.safetensors'}", device="cpu")


def test_tensors_of_another_shape_are_refused(tmp_path) -> None:
    state = seeded_state("test_resnet")
    state["layer1.0.conv1.weight"] = torch.zeros(3, 3)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(WeightsMismatch, match="does not fit this architecture"):
        open_backbone(f"test_resnet@{tmp_path / 'w.safetensors'}", device="cpu")


def test_weights_of_a_deeper_network_are_refused(tmp_path) -> None:
    """Only a classifier may be left over: dropped blocks would be another network in silence."""
    state = seeded_state("test_vit")
    state |= {
        name.replace("blocks.5.", "blocks.6."): value.clone()
        for name, value in state.items()
        if name.startswith("blocks.5.")
    }
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(WeightsMismatch):
        open_backbone(f"test_vit@{tmp_path / 'w.safetensors'}", device="cpu")


def test_weights_of_another_architecture_are_refused(tmp_path) -> None:
    path = saved("test_resnet", tmp_path / "w.safetensors")
    with pytest.raises(WeightsMismatch):
        open_backbone(f"test_vit@{path}", device="cpu")


@pytest.mark.parametrize("name", ["resnet_of_dreams", "efficientnet-lite0", "lite0"])
def test_an_unknown_name_is_a_backbone_error(name: str) -> None:
    with pytest.raises(BackboneError, match=f"'{name}' is neither 'efficientnet_lite0'"):
        open_backbone(name, device="cpu")


@pytest.mark.parametrize("name", ["/no/such/folder", "absent.safetensors", "absent.pth"])
def test_a_missing_path_names_the_three_ways(name: str) -> None:
    with pytest.raises(WeightsNotFound, match=f"{name}; .*{THREE_WAYS}"):
        open_backbone(name, device="cpu")


def test_a_missing_file_after_a_name_names_the_three_ways(tmp_path) -> None:
    with pytest.raises(WeightsNotFound, match=THREE_WAYS):
        open_backbone(f"test_vit@{tmp_path / 'absent.safetensors'}", device="cpu")


@pytest.mark.parametrize("name", ["resnet18.a1_in1k", "cs3darknet_s"], ids=["hub", "no-weights"])
def test_a_hub_name_without_network_is_never_random_weights(tmp_path, monkeypatch, name) -> None:
    from huggingface_hub import constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    with pytest.raises(WeightsNotFound, match=f"{name}.*{THREE_WAYS}"):
        open_backbone(name, device="cpu")


@pytest.mark.parametrize("present", [[], ["config.json"], ["model.safetensors"]])
def test_an_incomplete_directory_says_what_it_needs(tmp_path, present: list[str]) -> None:
    for name in present:
        (tmp_path / name).write_text("{}")
    with pytest.raises(WeightsNotFound, match=r"needs config\.json and model\.safetensors"):
        open_backbone(str(tmp_path), device="cpu")


@pytest.mark.parametrize("text", ["{}", "[]", "not json", '"test_vit"'])
def test_a_config_without_architecture_is_a_backbone_error(tmp_path, text: str) -> None:
    saved("test_vit", tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(BackboneError, match='names no "architecture"; use NAME@FILE'):
        open_backbone(str(tmp_path), device="cpu")


# Devices and threads


@pytest.mark.parametrize("device", ["tpu", "cuda:0", "", "CPU"])
def test_an_unknown_device_is_a_backbone_error(device: str) -> None:
    with pytest.raises(BackboneError, match="expected auto, cpu or cuda"):
        open_backbone(device=device)


def test_cuda_without_a_gpu_is_an_error_and_auto_is_a_cpu(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackboneError, match="use --device cpu"):
        resolve_device("cuda")
    assert resolve_device("auto") == "cpu"


def test_repeatable_uses_one_thread_and_gives_the_old_number_back(lite0: TimmBackbone) -> None:
    with intra_op_threads(2):
        with lite0.repeatable():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        with pytest.raises(KeyError), lite0.repeatable():
            raise KeyError
        assert torch.get_num_threads() == 2


def test_overlapping_repeatable_sections_give_the_old_number_back(lite0: TimmBackbone) -> None:
    """Two builds in one process: the first to begin is the first to end."""

    def hold(begun: threading.Event, end: threading.Event) -> None:
        with lite0.repeatable():
            begun.set()
            end.wait(10)

    def threads_of_a_new_thread() -> int:
        found: list[int] = []
        asking = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        asking.start()
        asking.join()
        return found[0]

    with intra_op_threads(2):
        assert threads_of_a_new_thread() == 2
        events = [(threading.Event(), threading.Event()) for _ in range(2)]
        holders = [threading.Thread(target=hold, args=pair) for pair in events]
        for holder, (begun, _) in zip(holders, events, strict=True):
            holder.start()
            begun.wait(10)
        for holder, (_, end) in zip(holders, events, strict=True):
            end.set()
            holder.join()
        assert threads_of_a_new_thread() == 2


def test_describing_the_default_embedder_does_not_import_torch() -> None:
    program = (
        "import sys, embeddings\n"
        "embeddings.open_embedder(device='cpu').fingerprint(codec='float16').digest\n"
        "print(sorted({'torch', 'timm', 'torchvision'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[]", done.stderr
