"""A backbone that runs each picture once: one embedding cache, shared by all scorers on disk.

What a pass took when it ran is kept beside its features and added up in `saved_ms`, so that
reported latencies stay those of a run without a cache.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from embeddings.backbones import Backbone, BackboneSpec, Features
from embeddings.images import Pixels


class CachedBackbone:
    """A `Backbone` whose features are kept in a folder, one file per batch of pictures. Final."""

    def __init__(self, backbone: Backbone, folder: Path) -> None:
        self._backbone = backbone
        self._folder = folder / f"{backbone.spec.model}-{backbone.spec.weights_sha256[:12]}"
        self._folder.mkdir(parents=True, exist_ok=True)
        self.saved_ms = 0.0

    @property
    def spec(self) -> BackboneSpec:
        return self._backbone.spec

    @property
    def device_class(self) -> str:
        return self._backbone.device_class

    def repeatable(self) -> AbstractContextManager[None]:
        return self._backbone.repeatable()

    def extract(self, batch: Pixels) -> Features:
        """See `Backbone.extract`."""
        key = hashlib.sha256(repr(batch.shape).encode() + batch.tobytes()).hexdigest()
        path = self._folder / f"{key}.npz"
        start = time.perf_counter()
        if path.exists():
            with np.load(path) as kept:
                read = tuple(kept[f"layer{i}"] for i in range(len(self.spec.layers)))
                features, took_ms = Features(read, kept["last"]), float(kept["took_ms"])
            self.saved_ms += took_ms - 1000 * (time.perf_counter() - start)
            return features
        features = self._backbone.extract(batch)
        took_ms = 1000 * (time.perf_counter() - start)
        layers: dict[str, Any] = {f"layer{i}": layer for i, layer in enumerate(features.layers)}
        part = path.with_suffix(f".{os.getpid()}.part")
        with part.open("wb") as file:
            np.savez(file, last=features.last, took_ms=np.float64(took_ms), **layers)
        part.replace(path)
        self.saved_ms -= 1000 * (time.perf_counter() - start) - took_ms
        return features
