"""Pictures of coloured blocks, and a folder of references made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def save_picture(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    blocks = draw.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    Image.fromarray(np.kron(blocks, np.ones((12, 12, 1), np.uint8))).save(path)
    return path


def write_references(folder: Path) -> Path:
    for product in range(3):
        for view in range(2):
            path = folder / f"product {product}" / f"{view}.png"
            save_picture(path, 10 * product + view)
    return folder
