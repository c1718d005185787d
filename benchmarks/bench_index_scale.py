"""The index alone, exact and IVF: up to what size is exact search fast, what does IVF cost?

    AMISS_DATA=... python -m benchmarks.bench_index_scale      (about 10 minutes on 2 cores)
    ... python -m benchmarks.bench_index_scale --sizes 3000 30000 150000 3000000   (needs 16 GB)

Vectors of 3 references a product are real ones, moved (`perturbed`); queries are a fourth reference
of 1000 products. Each index is searched in a process of its own, by one thread. IVF is
built at every size, whatever `index_choice` would choose there.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import data_folder, save
from benchmarks.perturbed import RealVectors, perturbed, real_vectors
from benchmarks.searching import search_costs, slope
from gallery import durable, index_choice
from gallery.index import FLAT, Index, common_direction, write_index
from gallery.index_choice import Exhaustive

SIZES = (3_000, 15_000, 30_000, 75_000, 150_000, 300_000, 1_000_000)
EACH, QUERIES = 3, 1000


def made(real: RealVectors, size: int) -> tuple[Any, Any, Any]:
    """Keys and vectors of `size` references, and a further picture of up to 1000 products."""
    products = size // EACH
    vectors = perturbed(real, products=products, each=EACH + 1, seed=0)
    vectors = vectors.reshape(products, EACH + 1, -1)
    asked = np.random.default_rng(1).permutation(products)[:QUERIES]
    queries = vectors[asked, EACH]
    numbers, slots = np.arange(products, dtype=np.int64), np.arange(EACH, dtype=np.int64)
    keys = (numbers[:, None] << 16 | slots).ravel()
    return keys, vectors[:, :EACH].reshape(products * EACH, -1), queries


def recalls(bank: Exhaustive, queries: Any, exact: Any, keys: Any) -> dict[str, float]:
    """Found keys against the exhaustive search's cosines, ties allowed for."""
    cosine = np.stack([bank.cosines(k, q) for k, q in zip(keys, queries, strict=True)])
    near = {n: (cosine[:, :n] >= exact[:, n - 1 : n] - 1e-5).mean() for n in (1, 10, 20)}
    return {f"recall_at_{n}": round(float(share), 4) for n, share in near.items()}


def built(folder: Path, keys: Any, vectors: Any, centre: Any, kind: str) -> dict[str, Any]:
    """Write one index and its settings; what that took."""
    start = time.perf_counter()
    found: dict[str, Any] = {}
    if kind == FLAT:
        write_index(folder / "index.faiss", keys, vectors, centre=centre)
        settings = {"kind": FLAT, "centre": centre.tolist()}
    else:
        index_choice.EXACT_VALUES = 0
        choice = index_choice.make_index(folder / "index.faiss", keys, vectors, centre=centre)
        settings = dict(choice.settings(centre))
        found = {"kind": choice.kind, "why": choice.why, "lists": choice.lists}
        if choice.chosen is not None:
            found |= {"probes": choice.chosen.probes, "scanned": choice.chosen.scanned}
    seconds = round(time.perf_counter() - start, 1)
    path = folder / "index.faiss"
    settings["sha256"] = durable.file_digest(path)
    (folder / "settings.json").write_text(json.dumps(settings))
    return found | {"seconds_build": seconds, "bytes": path.stat().st_size}


def one_size(real: RealVectors, size: int, folder: Path) -> dict[str, Any]:
    keys, vectors, queries = made(real, size)
    centre = common_direction(keys >> 16, vectors)
    np.save(folder / "queries.npy", queries)
    bank = Exhaustive(keys, vectors, Index(folder, "", centre=centre).centred)
    exact = bank.nearest(queries, count=20)
    figures: dict[str, Any] = {}
    for kind in ("exact", "ivf"):
        figures[kind] = built(folder, keys, vectors, centre, FLAT if kind == "exact" else kind)
        costs = search_costs(folder, folder / "queries.npy")
        figures[kind] |= recalls(bank, queries, exact, costs.pop("keys")) | costs
        (folder / "index.faiss").unlink()
    return figures


def slopes(figures: dict[str, Any]) -> dict[str, Any]:
    """Per million references."""
    sizes = [int(size) for size in figures]
    found = {}
    for kind in ("exact", "ivf"):
        rows = [figures[str(size)][kind] for size in sizes]
        for name in ("ms_search_p50", "ms_search_p95", "ms_search_core_p50", "ms_search_core_p95",
                     "mib_anonymous_more", "mib_file_mapped_more",
                     "ms_first_search_with_checksum", "bytes", "seconds_build"):  # fmt: skip
            found[f"{kind} {name}"] = slope(sizes, [row[name] for row in rows])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--vectors", type=Path, help="keep the real vectors in this .npz")
    asked = parser.parse_args()
    real = real_vectors(data_folder(), kept=asked.vectors)
    figures: dict[str, Any] = {}
    for size in asked.sizes:
        with tempfile.TemporaryDirectory() as folder:
            figures[str(size)] = one_size(real, size, Path(folder))
        print(json.dumps({size: figures[str(size)]}), file=sys.stderr, flush=True)
    fitted = slopes(figures)
    save("index_scale", "python -m benchmarks.bench_index_scale",
         {"references": figures, "slopes per million references": fitted})  # fmt: skip


if __name__ == "__main__":
    main()
