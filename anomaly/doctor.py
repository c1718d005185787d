"""Can this machine do the work? Each finding says what was looked at and what to do about it."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from importlib import metadata

import numpy as np

from embeddings import EmbeddingsError, open_embedder
from embeddings.backbones import DEFAULT_BACKBONE
from embeddings.weights import require_lite0

_REQUIRED = ("torch", "timm", "numpy", "lmdb", "pyarrow", "pydantic", "typer", "rich", "jinja2")
# Distributions that install the same module: with two of them, the last one installed wins.
_CLASHES = {
    "cv2": ("opencv-python-headless", "opencv-python", "opencv-contrib-python",
            "opencv-contrib-python-headless"),
    "faiss": ("faiss-cpu", "faiss-gpu", "faiss-gpu-cuvs", "faiss-gpu-cu12"),
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """`level`: ok | warning | error. An error means that Amiss can't work here."""

    name: str
    level: str
    message: str


def examine(*, device: str = "auto") -> list[Finding]:
    """Look at interpreter, packages, clashes, weights, device, and embed one picture."""
    found = [Finding("python", "ok", f"{sys.version.split()[0]}, {os.cpu_count()} cores")]
    found += [_package(name) for name in _REQUIRED]
    found += [_clash(module, names) for module, names in _CLASHES.items()]
    found.append(_weights())
    found.append(_embedding(device))
    return found


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _package(name: str) -> Finding:
    version = _version(name)
    if version is None:
        return Finding(name, "error", f"not installed; `pip install {name}`")
    return Finding(name, "ok", version)


def _clash(module: str, names: tuple[str, ...]) -> Finding:
    present = [f"{name} {v}" for name in names if (v := _version(name)) is not None]
    if not present:
        return Finding(module, "error", f"not installed; `pip install {names[0]}`")
    if len(present) > 1:
        text = (
            f"{' and '.join(present)} install the same module; uninstall all of them, "
            f"then `pip install {names[0]}`"
        )
        return Finding(module, "warning", text)
    return Finding(module, "ok", present[0])


def _weights() -> Finding:
    try:
        path = require_lite0()
    except EmbeddingsError as error:
        return Finding("weights", "error", str(error))
    size = path.stat().st_size / 1e6
    return Finding("weights", "ok", f"{DEFAULT_BACKBONE}, {size:.1f} MB, checksum matches")


def _embedding(device: str) -> Finding:
    try:
        embedder = open_embedder(device=device)
        picture = np.random.default_rng(0).integers(0, 256, (448, 448, 3)).astype(np.uint8)
        embedder.embed([picture])
        start = time.perf_counter()
        (embedding,) = embedder.embed([picture])
        seconds = time.perf_counter() - start
    except (EmbeddingsError, ImportError, RuntimeError, OSError) as error:
        return Finding("embedding", "error", f"a picture can't be embedded ({error})")
    where = embedder.fingerprint(codec="none").device_class
    rows, columns = embedding.patches.shape
    text = f"448 px in {1000 * seconds:.0f} ms on {where}: {rows} x {columns} patches"
    return Finding("embedding", "ok", text)
