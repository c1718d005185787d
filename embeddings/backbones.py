"""Frozen networks as patch-feature extractors: uint8 pictures in, pooled feature maps out.

A backbone is described without loading it (`describe`: name, weights, strides; no torch for the
default one), so that a job which has nothing to embed never pays for torch. `TimmBackbone` is the
only place that runs a network.

Which features: for hierarchical networks the maps of stride 8 and 16 for patches and the last map
for the global vector; for plain transformers the last block for both (AnomalyDINO, arXiv
2405.14529, found the last layer best for matching). Each patch map is averaged over 3x3 cells
(PatchCore, arXiv 2106.08265, section 3.1).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from embeddings import weights
from embeddings.errors import BackboneError, WeightsMismatch, WeightsNotFound
from embeddings.folded import folded
from embeddings.images import Pixels
from embeddings.patches import Floats

if TYPE_CHECKING:
    import torch

DEFAULT_BACKBONE = "efficientnet_lite0"
_DRIVER = Path("/dev/nvidiactl")


@dataclass(frozen=True)
class BackboneSpec:
    """What a backbone is, for fingerprints and for cutting pictures to fit it.

    floors: the feature norm per patch layer under which a cell counts as blank (`PatchLayer`).
    pad_multiple: pictures are padded to multiples of it, in pixels.
    """

    model: str
    weights_sha256: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    layers: tuple[str, ...]
    strides_px: tuple[int, ...]
    floors: tuple[float, ...]
    global_layer: str
    global_stride_px: int
    global_dims: int
    pad_multiple: int


@dataclass(frozen=True)
class Features:
    """Maps of a batch: each patch layer (N, H, W, D), pooled; the last map (N, H, W, D) as is."""

    layers: tuple[Floats, ...]
    last: Floats


class Backbone(Protocol):
    """`spec` is cheap; the first `extract` may load weights. Safe to call from several threads."""

    @property
    def spec(self) -> BackboneSpec: ...

    @property
    def device_class(self) -> str: ...

    def extract(self, batch: Pixels) -> Features:
        """(N, H, W, 3) uint8 RGB, H and W multiples of `spec.pad_multiple`."""
        ...

    def repeatable(self) -> AbstractContextManager[None]:
        """Hold while storing features: makes them independent of the number of threads."""
        ...


LITE0 = BackboneSpec(
    model=DEFAULT_BACKBONE,
    weights_sha256=weights.LITE0_SHA256,
    # (x - 127) / 128 on 0..255: the preprocessing that the weights were converted with.
    mean=(127.0, 127.0, 127.0),
    std=(128.0, 128.0, 128.0),
    layers=("blocks.2", "blocks.4"),
    strides_px=(8, 16),
    # Half the typical norm of each layer; chosen in benchmarks/bench_features.py.
    floors=(22.0, 30.0),
    global_layer="blocks.6",
    global_stride_px=32,
    global_dims=320,
    pad_multiple=32,
)


def open_backbone(name: str = DEFAULT_BACKBONE, *, device: str = "auto") -> Backbone:
    """A backbone by NAME (`efficientnet_lite0` or any of timm), NAME@FILE, FILE or DIRECTORY.

    Raises `BackboneError` for a name or device that can't work here, `WeightsError` for weights
    that are absent or wrong.
    """
    device_class = resolve_device(device)
    if name == DEFAULT_BACKBONE:
        weights.require_lite0()
        return TimmBackbone(name, LITE0, device_class, None)
    network, spec = _load_timm(name)
    return TimmBackbone(name, spec, device_class, network)


@lru_cache(maxsize=4)
def reopened(name: str, device: str) -> Backbone:
    """`open_backbone`, once per process: what unpickled backbones share."""
    return open_backbone(name, device=device)


def resolve_device(device: str) -> str:
    """`auto`, `cpu` or `cuda` -> `cpu` or `cuda`. Without an NVIDIA driver torch isn't imported."""
    if device not in ("auto", "cpu", "cuda"):
        raise BackboneError(f"device {device!r}; expected auto, cpu or cuda")
    if device == "cpu" or (device == "auto" and not _DRIVER.exists()):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise BackboneError("device cuda, but torch sees no CUDA device; use --device cpu")
    return "cpu"


def knows_device(device: str, device_class: str) -> bool:
    """Whether `resolve_device` is known to give `device_class` without asking torch."""
    return device_class == "cpu" and (
        device == "cpu" or (device == "auto" and not _DRIVER.exists())
    )


class TimmBackbone:
    """A timm network in evaluation mode, float32, TF32 off; pickled by name. Final."""

    def __init__(
        self, name: str, spec: BackboneSpec, device_class: str, network: Any | None
    ) -> None:
        self._name, self._spec, self._device = name, spec, device_class
        self._network, self._placed = network, False
        self._loading = threading.Lock()

    def __reduce__(self) -> tuple[object, ...]:
        return (reopened, (self._name, self._device))

    @property
    def spec(self) -> BackboneSpec:
        return self._spec

    @property
    def device_class(self) -> str:
        return self._device

    def network(self) -> Any:
        """The torch module on its device, loaded on first use."""
        import torch

        with self._loading:
            if self._network is None:
                self._network = folded(_load_lite0())
            if not self._placed:
                self._network = self._network.to(self._device)
                if self._device == "cpu":  # a cell's channels side by side: faster
                    self._network.to(memory_format=torch.channels_last)
                self._placed = True
            return self._network

    def repeatable(self) -> AbstractContextManager[None]:
        return one_intra_op_thread if self._device == "cpu" else nullcontext()

    def extract(self, batch: Pixels) -> Features:
        import torch

        network = self.network()
        mean = torch.tensor(self._spec.mean, device=self._device)
        std = torch.tensor(self._spec.std, device=self._device)
        with torch.inference_mode(), _exact_float32(self._device):
            pixels = torch.from_numpy(batch).to(self._device).float()
            inputs = ((pixels - mean) / std).permute(0, 3, 1, 2).contiguous()
            maps = _feature_maps(network, inputs, self._spec)
            pooled = [
                torch.nn.functional.avg_pool2d(m, 3, 1, 1, count_include_pad=False)
                for m in maps[: len(self._spec.layers)]
            ]
            return Features(tuple(_to_numpy(m) for m in pooled), _to_numpy(maps[-1]))


class _OneThread:
    """torch's intra-op threads held at 1 while anyone needs it; then the old number comes back."""

    def __init__(self) -> None:
        self._lock, self._holders, self._before = threading.Lock(), 0, 1

    def __enter__(self) -> None:
        import torch

        with self._lock:
            if self._holders == 0:
                self._before = torch.get_num_threads()
                torch.set_num_threads(1)
            self._holders += 1

    def __exit__(self, *_: object) -> None:
        import torch

        with self._lock:
            self._holders -= 1
            if self._holders == 0:
                torch.set_num_threads(self._before)


one_intra_op_thread = _OneThread()
"""Feature values depend on torch's intra-op threads (by 3e-5), so whoever stores features embeds
with one and takes its parallelism from several pictures at a time. Threads that ran torch before
keep their own number: start the pool inside the block."""


@contextmanager
def _exact_float32(device: str) -> Iterator[None]:
    if device != "cuda":
        yield
        return
    from torch.backends import cudnn

    with cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


def _to_numpy(maps: torch.Tensor) -> Floats:
    return np.ascontiguousarray(maps.permute(0, 2, 3, 1).float().cpu().numpy())


def _feature_maps(network: Any, inputs: torch.Tensor, spec: BackboneSpec) -> list[torch.Tensor]:
    """The (N, D, H, W) maps of the patch layers, then of the global layer."""
    modules = [entry["module"] for entry in network.feature_info]
    wanted = [modules.index(name) for name in (*spec.layers, spec.global_layer)]
    found = network.forward_intermediates(
        inputs,
        indices=sorted(set(wanted)),
        intermediates_only=True,
        output_fmt="NCHW",
        # A plain transformer's residual stream has outlier channels; its final norm removes them.
        norm=spec.strides_px == (spec.global_stride_px,),
    )
    by_index = dict(zip(sorted(set(wanted)), found, strict=True))
    return [by_index[i] for i in wanted]


def _load_lite0() -> Any:
    """timm's network with the shipped weights, mapped by position: 296 tensors of equal shapes."""
    import timm

    state = weights.load_state(weights.require_lite0())
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    names = list(network.state_dict())
    if len(names) != len(state):
        raise WeightsMismatch(f"expected {len(names)} tensors, the file holds {len(state)}")
    network.load_state_dict(dict(zip(names, state.values(), strict=True)))
    return network.eval()


def _load_timm(name: str) -> tuple[Any, BackboneSpec]:
    architecture, file = find_weights(name)
    import timm

    if not timm.is_model(architecture):
        raise BackboneError(
            f"{architecture!r} is neither {DEFAULT_BACKBONE!r}, nor a model of timm, nor a path; "
            "see timm.list_models() for names"
        )
    network = _create(architecture, hub=file is None)
    if file is not None:
        _fill(network, file)
    sha = weights.state_sha256(network.state_dict()) if file is None else weights.file_sha256(file)
    return network.eval(), _spec_of(network, architecture, sha)


def find_weights(name: str) -> tuple[str, Path | None]:
    """NAME, NAME@FILE, FILE or DIRECTORY -> (timm architecture, weights file or None for a hub)."""
    architecture, at, rest = name.partition("@")
    if at:
        return architecture, Path(rest)
    path = Path(name)
    if not path.exists():
        if path.suffix in (".safetensors", ".pth", ".bin") or "/" in name:
            raise WeightsNotFound(f"there is no file or directory {name}; {weights.THREE_WAYS}")
        return name, None
    config = (path if path.is_dir() else path.parent) / "config.json"
    if path.is_dir():
        files = [f for n in ("model.safetensors", "pytorch_model.bin") if (f := path / n).is_file()]
        if not files or not config.is_file():
            raise WeightsNotFound(
                f"{path} needs config.json and model.safetensors (or pytorch_model.bin); "
                f"{weights.THREE_WAYS}"
            )
        path = files[0]
    if not config.is_file():
        return path.stem, path
    try:
        return str(json.loads(config.read_text())["architecture"]), path
    except (ValueError, KeyError, TypeError) as error:
        raise BackboneError(f'{config} names no "architecture"; use NAME@FILE') from error


def _create(architecture: str, *, hub: bool) -> Any:
    import timm

    try:
        try:
            return timm.create_model(
                architecture, pretrained=hub, num_classes=0, dynamic_img_size=True
            )
        except TypeError:  # only transformers take dynamic_img_size
            return timm.create_model(architecture, pretrained=hub, num_classes=0)
    except Exception as error:
        # Hub clients raise a zoo of types: whatever came, there are no weights, and we say so.
        raise WeightsNotFound(
            f"timm can't create {architecture} ({type(error).__name__}: {error}); "
            f"{weights.THREE_WAYS}"
        ) from error


def _fill(network: Any, file: Path) -> None:
    """Load every parameter from `file` (timm's names); only a classifier may be left over."""
    try:
        outcome = network.load_state_dict(weights.load_state(file), strict=False)
    except RuntimeError as error:
        raise WeightsMismatch(f"{file} does not fit this architecture: {error}") from error
    heads = ("head", "fc", "classifier", str(network.pretrained_cfg.get("classifier") or "head"))
    surplus = [k for k in outcome.unexpected_keys if not k.startswith(heads)]
    if outcome.missing_keys or surplus:
        raise WeightsMismatch(
            f"{file} lacks {len(outcome.missing_keys)} tensors of this architecture "
            f"{outcome.missing_keys[:1]} and has {len(surplus)} of another {surplus[:1]}; expected "
            "a file with timm's parameter names"
        )


def _spec_of(network: Any, architecture: str, sha256: str) -> BackboneSpec:
    if not hasattr(network, "forward_intermediates"):
        raise BackboneError(f"{architecture} gives no intermediate features in timm")
    info = [dict(entry) for entry in network.feature_info]
    plain = len({entry["reduction"] for entry in info}) == 1
    patch = info[-1:] if plain else [e for e in info if e["reduction"] in (8, 16)]
    if not patch:
        raise BackboneError(f"{architecture} has no feature map of stride 8 or 16")
    config = network.pretrained_cfg
    return BackboneSpec(
        model=architecture,
        weights_sha256=sha256,
        mean=tuple(255.0 * m for m in config["mean"]),
        std=tuple(255.0 * s for s in config["std"]),
        layers=tuple(e["module"] for e in patch),
        strides_px=tuple(e["reduction"] for e in patch),
        floors=tuple(0.0 for _ in patch),
        global_layer=info[-1]["module"],
        global_stride_px=info[-1]["reduction"],
        global_dims=info[-1]["num_chs"],
        pad_multiple=max(e["reduction"] for e in (*patch, info[-1])),
    )
