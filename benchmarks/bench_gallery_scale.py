"""Many products: how long opening takes, and whether a product is found as fast as among few.

    python -m benchmarks.bench_gallery_scale [--products 50000]   (about 10 minutes on 2 cores)

Builds a gallery of 10 products and one of 50 000, 3 references each, with small synthetic grids
(<= 20 KB a reference) through the real build. Then, each in processes of their own: seconds to
open (import apart), resident memory; and in one process, in turn, the time to fetch all references
of a known product from either. Pages are warm: the disk is not what is measured.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import save
from embeddings import fake_embedder
from embeddings.exposure import Exposure
from embeddings.fingerprint import EmbeddingFingerprint
from embeddings.foreground import Foreground
from embeddings.keypoints import Keypoints
from embeddings.patches import PatchGrid, PatchLayer
from gallery import Gallery, build, create_catalog, publish
from gallery.assemble import Described
from gallery.catalog import CatalogRow
from gallery.describe import Description, to_record

DIMS = 320
REFERENCES = 3
_OPEN = """
import sys, time
from gallery import Gallery
start = time.perf_counter()
gallery = Gallery.open(sys.argv[1])
opened = time.perf_counter() - start
gallery.references("product 7")
first = time.perf_counter() - start - opened
vector = gallery.vectors("product 7")[0]
searched = time.perf_counter()
gallery.product_id_of(int(gallery.index.search(vector, count=1).keys[0]))
search = time.perf_counter() - searched
status = open('/proc/self/status').read()
peak = int(status.split('VmHWM:')[1].split()[0]) / 1024
print(opened, first, search, peak)
"""


class SyntheticCatalog:
    """The rows of a catalog without originals behind them."""

    def __init__(self, root: Path, products: int) -> None:
        self.root, self.folder, self.seq = root, create_catalog(root).folder, products * REFERENCES
        self._products = products

    def rows(self) -> list[CatalogRow]:
        return [
            CatalogRow(f"product {p}", p, s, f"{p:032x}{s:032x}"[::-1], None, None, None, None,
                       None, "synthetic")
            for p in range(self._products)
            for s in range(REFERENCES)
        ]  # fmt: skip


class SyntheticDescriber:
    """Small grids of smooth noise and random unit vectors, seeded by the reference's key."""

    dims = DIMS

    @property
    def fingerprint(self) -> EmbeddingFingerprint:
        return fake_embedder().fingerprint(codec="synthetic")

    def describe(self, rows: Sequence[CatalogRow]) -> Iterator[Described]:
        for row in rows:
            draw = np.random.default_rng(row.key)
            vector = draw.standard_normal(DIMS).astype(np.float32)
            found = describe_noise(draw, vector / np.linalg.norm(vector))
            yield Described(to_record(row, found), found.vector)


def describe_noise(draw: np.random.Generator, vector: np.ndarray) -> Description:
    def layer(side: int, dims: int, stride: int) -> PatchLayer:
        coarse = draw.standard_normal((2, 2, dims)).astype(np.float32)
        return PatchLayer(np.repeat(np.repeat(coarse, side // 2, 0), side // 2, 1), stride, 1.0)

    count = 50
    points = Keypoints(
        (draw.random((count, 2)) * 80).astype(np.float32),
        np.ones(count, np.float32),
        np.zeros(count, np.float32),
        draw.integers(0, 256, (count, 128)).astype(np.uint8),
        (96, 96),
    )
    grid = PatchGrid((layer(12, 40, 8), layer(6, 112, 16)), (96, 96), (96, 96), (0, 0, 96, 96))
    ground = Foreground(np.ones((96, 96), bool), 1.0, "given")
    return Description(vector, grid, points, ground, Exposure(0.0, np.zeros((12, 12), bool)))


def make(root: Path, products: int) -> dict[str, Any]:
    start = time.perf_counter()
    report = build(SyntheticCatalog(root, products), SyntheticDescriber(), config={})  # type: ignore[arg-type]
    publish(root, report.build_id)
    return {
        "seconds_build": round(time.perf_counter() - start, 1),
        "bytes_per_reference": report.bytes_per_reference,
        "shards": report.tally.shards_written,
        "gates_passed": report.passed,
    }


def opening(root: Path) -> dict[str, float]:
    runs = []
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", _OPEN, str(root)], capture_output=True,
                              text=True, check=True)  # fmt: skip
        runs.append([float(word) for word in done.stdout.split()])
    opened, first, search, peak = np.median(np.array(runs), axis=0)
    return {
        "seconds_open": round(opened, 4),
        "seconds_first_fetch": round(first, 4),
        "seconds_first_search_with_checksum": round(search, 4),
        "peak_mib": round(peak, 1),
    }


def fetching(few: Path, many: Path, products: int, rounds: int = 400) -> dict[str, float]:
    small, large = Gallery.open(few), Gallery.open(many)
    draw = np.random.default_rng(0)
    ids = [f"product {i}" for i in draw.integers(0, products, rounds)]
    for name in ids:  # maps every shard and page that is asked for later
        large.references(name)
    times: dict[str, list[float]] = {"few": [], "many": []}
    for i, name in enumerate(ids):
        for label, gallery, wanted in (("few", small, f"product {i % 10}"), ("many", large, name)):
            start = time.perf_counter()
            gallery.references(wanted)
            times[label].append(time.perf_counter() - start)
    medians = {label: float(np.median(values)) for label, values in times.items()}
    return {
        "ms_among_10": round(1000 * medians["few"], 3),
        f"ms_among_{products}": round(1000 * medians["many"], 3),
        "ratio": round(medians["many"] / medians["few"], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--products", type=int, default=50_000)
    products = parser.parse_args().products
    with tempfile.TemporaryDirectory() as work:
        few, many = Path(work) / "few", Path(work) / "many"
        figures: dict[str, Any] = {"10 products": make(few, 10)}
        figures["10 products"] |= opening(few)
        figures[f"{products} products"] = make(many, products)
        print(json.dumps(figures), file=sys.stderr)
        figures[f"{products} products"] |= opening(many)
        figures["fetch all references of a known product"] = fetching(few, many, products)
    save("gallery_scale", "python -m benchmarks.bench_gallery_scale", figures)


if __name__ == "__main__":
    main()
