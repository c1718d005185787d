"""Keys and vectors of products, and a search of them by brute force."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

PRODUCTS, EACH, DIMS = 400, 3, 16
Array = np.ndarray[Any, Any]


def unit(vectors: Array) -> Array:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def shop(products: int = PRODUCTS, *, seed: int = 0, flat_dims: int = 3) -> tuple[Array, Array]:
    """Keys and vectors of products that spread over few of the dimensions, as real ones do."""
    rng = np.random.default_rng(seed)
    anchors = rng.normal(size=(products, flat_dims)) @ rng.normal(size=(flat_dims, DIMS))
    vectors = np.repeat(anchors, EACH, 0) + 0.1 * rng.normal(size=(products * EACH, DIMS))
    numbers = np.arange(products, dtype=np.int64)
    return (numbers[:, None] << 16 | np.arange(EACH)).ravel(), unit(vectors)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def brute(keys: Array, vectors: Array, query: Array, count: int) -> list[int]:
    return [int(k) for k in keys[np.argsort(-(vectors @ query), kind="stable")[:count]]]
