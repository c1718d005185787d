"""What an inspection costs, stage by stage, as multiples of one network pass on the same picture.

    AMISS_DATA=... python -m benchmarks.bench_stages    # 3 minutes on 2 cores

448 px, 4 references and 16, on one thread and on all. Passes (`passes`; multiples are those of
`plain`) and inspections alternate in one process with the same threads; medians.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from anomaly import Inspector, build_gallery
from anomaly.studio import draw_shot, make_products, render
from benchmarks.machine import data_folder, save
from benchmarks.passes import Passes
from embeddings import read_image
from embeddings.images import fit_longest_side
from embeddings.threads import limit_threads

_ROUNDS, _PICTURES = 6, 5
_CASES = (
    ("cookies", 4), ("carton_top", 4), ("rendered carton", 4), ("rendered carton, turned", 4),
    ("cookies", 16), ("carton_top", 16), ("rendered carton, turned", 16),
)  # fmt: skip


def main() -> None:
    figures = []
    for name, count in _CASES:
        with tempfile.TemporaryDirectory() as folder:
            references, queries = _pictures(name, count, Path(folder))
            build_gallery(references, Path(folder) / "gallery", product_id="one")
            for threads in sorted({1, os.cpu_count() or 1}):
                found = measure(Path(folder) / "gallery", queries, threads)
                figures.append({"case": name, "references": count, **found})
    save("stages", "AMISS_DATA=... python -m benchmarks.bench_stages", figures)


def measure(gallery: Path, queries: list[Path], threads: int) -> dict[str, Any]:
    """Stage medians and the whole of `inspect` over one pass, on so many threads."""
    wholes: list[float] = []
    passes: dict[str, list[float]] = {}
    stages: dict[str, list[float]] = {}
    with Inspector.open(gallery) as inspector, inspector._serving() as serving:
        one_pass = Passes(serving.embedder)
        limit_threads(threads)
        for _ in range(_ROUNDS):
            for path in queries:
                _add(passes, one_pass(read_image(path)))
                start = time.perf_counter()
                result = inspector.inspect(path, product_id="one")
                wholes.append(1000 * (time.perf_counter() - start))
                _add(stages, result.timings_ms)
    warm = len(queries)  # the first round warms up
    plain, own = (float(np.median(passes[name][warm:])) for name in ("plain", "own"))
    whole = float(np.median(wholes[warm:]))
    return {
        "threads": threads,
        "working_px": list(fit_longest_side(read_image(queries[0]), 448).shape[:2]),
        "plain_pass_ms": round(plain, 1),
        "own_pass_ms": round(own, 1),
        "inspect_ms": round(whole, 1),
        "inspect_over_pass": round(whole / plain, 2),
        "inspect_over_own_pass": round(whole / own, 2),
        "stages_over_pass": {
            stage: round(float(np.median(spent)) / plain, 3) for stage, spent in stages.items()
        },
    }


def _add(times: dict[str, list[float]], found: Mapping[str, float]) -> None:
    for name, spent in found.items():
        times.setdefault(name, []).append(spent)


def _pictures(name: str, count: int, folder: Path) -> tuple[Path, list[Path]]:
    """A folder of `count` references, and some queries."""
    import shutil

    source = folder / "references"
    source.mkdir(parents=True)
    if name in ("cookies", "carton_top"):
        pictures = sorted((data_folder() / name / "normal").glob("*.jpg"))
        random.Random(0).shuffle(pictures)
        for path in pictures[:count]:
            shutil.copy(path, source)
        return source, pictures[count : count + _PICTURES]
    import cv2

    rng, product = np.random.default_rng(0), make_products(seed=3)[0]
    most = 180.0 if name.endswith("turned") else 10.0
    made = []
    for i in range(count + _PICTURES):
        shot = draw_shot(rng, max_angle_deg=10.0 if i < count else most)
        if i >= count and name.endswith("turned"):
            shot = type(shot)(**{**shot.__dict__, "angle_deg": 110.0 + 5 * (i - count)})
        path = (source if i < count else folder) / f"{i}.jpg"
        cv2.imwrite(str(path), render(product, shot=shot, seed=i).image[:, :, ::-1])
        made.append(path)
    return source, made[count:]


if __name__ == "__main__":
    main()
