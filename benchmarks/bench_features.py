"""Ablations behind the default embedding: how layers are normalised, where the vector looks.

    AMISS_DATA=... python -m benchmarks.bench_features            (about 8 minutes on 2 cores)

Normalisation: image AUROC of plain global nearest neighbours (mean of the top 1 % patch distances,
4 references, 40 + 40 queries, seeds 0-2; no alignment, no foreground) on cookies and carton_top.
`floor` is in units of the default: 0 is L2 normalisation, 1000 leaves magnitudes as they are.

Window: top-1 of the nearest reference by global vector, grocery/query against grocery/gallery and
against the one iconic picture each. sigma 9 is no window at all.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import data_folder, save
from embeddings import embedder as embedder_module
from embeddings import estimate_foreground, open_embedder, read_image
from embeddings.backbones import LITE0, open_backbone
from embeddings.images import fit_longest_side
from embeddings.patches import PatchGrid
from gallery.index import common_direction

FLOORS = (0.0, 0.25, 1.0, 2.0, 1000.0)
SIGMAS = (0.15, 0.2, 0.25, 0.3, 0.4, 9.0)
SEEDS = (0, 1, 2)


def auroc(normal: list[float], anomalous: list[float]) -> float:
    """Probability that an anomalous score is above a normal one; ties count half."""
    low, high = np.array(normal)[:, None], np.array(anomalous)[None, :]
    return float(((high > low) + 0.5 * (high == low)).mean())


def top_percent(query: np.ndarray, bank: np.ndarray) -> float:
    cross = query @ bank.T
    nearest = np.sqrt(np.maximum((query**2).sum(1) + ((bank**2).sum(1) - 2 * cross).min(1), 0))
    count = max(1, round(0.01 * len(nearest)))
    return float(np.sort(nearest)[-count:].mean())


def flat(grid: PatchGrid, floor: float) -> np.ndarray:
    layers = tuple(replace(layer, floor=layer.floor * floor) for layer in grid.layers)
    dense = replace(grid, layers=layers).dense() * max(1.0, floor)
    return dense.reshape(-1, dense.shape[2])


def normalisation(folder: Path) -> dict[str, Any]:
    embedder = open_embedder()
    sets = {k: sorted((folder / k).glob("*.jpg")) for k in ("normal", "anomalous")}
    grids = {f: embedder.embed([read_image(f)])[0].patches for s in sets.values() for f in s}
    found: dict[str, Any] = {}
    for floor in FLOORS:
        features = {file: flat(grid, floor) for file, grid in grids.items()}
        values = []
        for seed in SEEDS:
            draw = random.Random(seed)
            normal, anomalous = list(sets["normal"]), list(sets["anomalous"])
            draw.shuffle(normal)
            draw.shuffle(anomalous)
            bank = np.concatenate([features[f] for f in normal[:4]])
            low = [top_percent(features[f], bank) for f in normal[4:44]]
            high = [top_percent(features[f], bank) for f in anomalous[:40]]
            values.append(auroc(low, high))
        found[f"floor {floor:g}"] = {"auroc": round(float(np.mean(values)), 4),
                                     "seeds": [round(v, 4) for v in values]}  # fmt: skip
    return found


def last_maps(files: list[Path]) -> list[np.ndarray]:
    backbone = open_backbone()
    maps = []
    for file in files:
        working = fit_longest_side(read_image(file), 448)
        padded = embedder_module._pad(working, LITE0.pad_multiple)
        last = backbone.extract(padded[None]).last[0]
        height, width = working.shape[:2]
        maps.append(embedder_module._cut(last, height, width, LITE0.global_stride_px))
    return maps


def top1(vectors: dict[str, np.ndarray], names: dict[str, np.ndarray], against: str) -> float:
    nearest = (vectors["query"] @ vectors[against].T).argmax(1)
    return round(float((names[against][nearest] == names["query"]).mean()), 4)


def centred(vectors: dict[str, np.ndarray], names: dict[str, np.ndarray], against: str) -> float:
    numbers = np.unique(names[against], return_inverse=True)[1]
    centre = common_direction(numbers, vectors[against])
    moved = {k: v - centre for k, v in vectors.items()}
    unit = {k: v / np.linalg.norm(v, axis=1, keepdims=True) for k, v in moved.items()}
    return top1(unit, names, against)


def window(folder: Path) -> dict[str, Any]:
    files = {k: sorted((folder / k).glob("*/*.jpg")) for k in ("gallery", "iconic", "query")}
    maps = {k: last_maps(v) for k, v in files.items()}
    grounds = {k: [estimate_foreground(read_image(f)) for f in v] for k, v in files.items()}
    names = {k: np.array([f.parent.name for f in v]) for k, v in files.items()}
    found: dict[str, Any] = {}
    default = embedder_module._WINDOW_SIGMA
    for sigma in SIGMAS:
        for used in (True, False):
            embedder_module._WINDOW_SIGMA = sigma
            vectors = {
                k: np.stack([embedder_module._global_vector(m, g if used else None)
                             for m, g in zip(maps[k], grounds[k], strict=True)])
                for k in maps
            }  # fmt: skip
            label = f"sigma {sigma:g}" + (", foreground" if used else "")
            found[label] = {k: top1(vectors, names, k) for k in ("gallery", "iconic")}
            if used and sigma == default:
                found[f"{label}, without the common direction"] = {
                    k: centred(vectors, names, k) for k in ("gallery", "iconic")
                }
    embedder_module._WINDOW_SIGMA = default
    return found


def main() -> None:
    data = data_folder()
    figures = {
        "normalisation cookies": normalisation(data / "cookies"),
        "normalisation carton_top": normalisation(data / "carton_top"),
        "window grocery top-1": window(data / "grocery"),
    }
    save("features", "AMISS_DATA=... python -m benchmarks.bench_features", figures)


if __name__ == "__main__":
    main()
