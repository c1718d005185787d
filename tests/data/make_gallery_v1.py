"""How tests/data/gallery_v1 was made, once: `python tests/data/make_gallery_v1.py`.

Don't run it again: the committed files are the point. A later format gets a gallery of its own.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from embeddings import fake_embedder
from gallery import EmbeddingDescriber, SourceRow, build, create_catalog, publish

HERE = Path(__file__).parent
PRODUCTS = ("razor-3", "milk/1 l/..", "gift 🎁 box")


def picture(seed: int) -> np.ndarray:
    """(48, 64, 3) uint8: coloured blocks on grey, different for every seed."""
    draw = np.random.default_rng(seed)
    image = np.full((48, 64, 3), 128, np.uint8)
    for _ in range(12):
        y, x = draw.integers(0, 36), draw.integers(0, 48)
        image[y : y + 10, x : x + 14] = draw.integers(0, 256, 3)
    return image


def main() -> None:
    with tempfile.TemporaryDirectory() as work:
        rows = []
        for number, product_id in enumerate(PRODUCTS):
            for slot in range(2):
                path = Path(work) / f"{number}-{slot}.png"
                Image.fromarray(picture(10 * number + slot)).save(path)
                mask = None
                if slot == 1:
                    mask = Path(work) / f"{number}-{slot}-mask.png"
                    marked = np.zeros((48, 64), np.uint8)
                    marked[8:40, 8:56] = 255
                    Image.fromarray(marked).save(mask)
                rows.append(SourceRow(product_id, path, mask, view="top", where=path.name))
        catalog = create_catalog(HERE / "gallery_v1")
        report = catalog.import_rows(rows, by="fixture", why="format 1")
        assert report.added == 6, report.problems
        describer = EmbeddingDescriber(catalog, fake_embedder(size_px=64), threads=1)
        publish(catalog.root, build(catalog, describer, config={"size_px": 64}).build_id)


if __name__ == "__main__":
    main()
