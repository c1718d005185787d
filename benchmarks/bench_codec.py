"""What storing patch grids costs: bytes, and nearest neighbours that differ from the exact ones.

    AMISS_DATA=... python -m benchmarks.bench_codec               (about 2 minutes on 2 cores)

Per set: 2 queries against 4 references at 448 px. Agreement = share of query patches whose nearest
reference patch is the same one with stored as with exact grids. `same_place` also counts a
neighbour within one patch of it. `distance_correlation` is between the nearest distances, and
`extra_distance` the median relative increase of the true distance to the patch that was picked.
Bytes are the packed record of a whole reference; `grid` is the layers alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import data_folder, save
from embeddings import open_embedder, read_image
from embeddings.patches import PatchGrid
from gallery.catalog import CatalogRow
from gallery.compress import CODEC, decode_layer, encode_layer
from gallery.describe import describe, to_record
from gallery.records import Record, pack

SETS = {
    "cookies": "cookies/normal/*.jpg",
    "carton_top": "carton_top/normal/*.jpg",
    "grocery": "grocery/gallery/*/*.jpg",
    "deeppcb": "deeppcb/temp/*.jpg",
}


def stored(grid: PatchGrid) -> PatchGrid:
    layers = tuple(decode_layer(encode_layer(layer)) for layer in grid.layers)
    return PatchGrid(layers, grid.image_size, grid.working_size, grid.box_px)


def flat(grid: PatchGrid) -> np.ndarray:
    dense = grid.dense()
    return dense.reshape(-1, dense.shape[2])


def squared_distances(queries: np.ndarray, bank: np.ndarray) -> np.ndarray:
    lengths = (queries**2).sum(1)[:, None] + (bank**2).sum(1)[None, :]
    return np.asarray(np.maximum(lengths - 2 * queries @ bank.T, 0))


def places(grids: list[PatchGrid]) -> np.ndarray:
    """(P, 3): which reference, row, column of each patch of the bank."""
    rows = []
    for number, grid in enumerate(grids):
        y, x = np.mgrid[: grid.shape[0], : grid.shape[1]]
        rows.append(np.stack([np.full(y.size, number * 1000), y.ravel(), x.ravel()], axis=1))
    return np.concatenate(rows)


def measure(files: list[Path]) -> dict[str, Any]:
    embedder = open_embedder()
    chosen = [files[i] for i in np.linspace(0, len(files) - 1, 6).astype(int)]
    described = [describe(read_image(f), embedder) for f in chosen]
    grids = [d.patches for d in described]
    exact = np.concatenate([flat(g) for g in grids[:4]])
    coded = np.concatenate([flat(stored(g)) for g in grids[:4]])
    where = places(grids[:4])
    agree, near, correlation, extra = [], [], [], []
    for grid in grids[4:]:
        true = squared_distances(flat(grid), exact)
        found = squared_distances(flat(grid), coded)
        first, second = true.argmin(1), found.argmin(1)
        agree.append((first == second).mean())
        near.append((np.abs(where[first] - where[second]).max(1) <= 1).mean())
        best, picked = np.sqrt(true.min(1)), np.sqrt(true[np.arange(len(second)), second])
        correlation.append(np.corrcoef(best, np.sqrt(found.min(1)))[0, 1])
        extra.append(np.median(picked / np.maximum(best, 1e-9) - 1))
    row = CatalogRow("p", 0, 0, "0" * 64, None, None, None, None, None, "")
    records = [to_record(row, d) for d in described]
    layers = [Record("g", {}, {k: v for k, v in r.arrays.items() if k.startswith("layer")})
              for r in records]  # fmt: skip
    return {
        "patches": int(np.prod(grids[0].shape)),
        "agreement": round(float(np.mean(agree)), 4),
        "same_place": round(float(np.mean(near)), 4),
        "distance_correlation": round(float(np.mean(correlation)), 5),
        "extra_distance": round(float(np.mean(extra)), 5),
        "bytes_record_mean": int(np.mean([len(pack(r)) for r in records])),
        "bytes_record_max": max(len(pack(r)) for r in records),
        "bytes_grid_mean": int(np.mean([len(pack(r)) for r in layers])),
        "bytes_float16_grid": int(np.mean([flat(g).size * 2 for g in grids])),
    }


def main() -> None:
    data = data_folder()
    figures: dict[str, Any] = {"codec": CODEC}
    for name, pattern in SETS.items():
        figures[name] = measure(sorted(data.glob(pattern)))
    save("codec", "AMISS_DATA=... python -m benchmarks.bench_codec", figures)


if __name__ == "__main__":
    main()
