"""Print that local features find a lot in."""

from __future__ import annotations

import cv2
import numpy as np


def texture(seed: int, height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8 of blurred noise at two scales: SIFT finds a lot in it."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for cell in (5, 11):
        noise = rng.normal(size=(height // cell + 2, width // cell + 2, 3)).astype(np.float32)
        total += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(128 + 55 * total, 0, 255).astype(np.uint8)
