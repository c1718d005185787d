"""What an inspection costs, stage by stage, as multiples of one network pass on the same picture.

    AMISS_DATA=... python -m benchmarks.bench_stages    # 4 minutes on 2 cores

448 px, 4 references and 16. Passes (batch 1, the same picture, scaled and padded as for embedding)
and inspections alternate in one process with the same threads; medians.
"""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from anomaly import Inspector, build_gallery
from anomaly.studio import draw_shot, make_products, render
from benchmarks.machine import data_folder, save
from embeddings import Embedder, Pixels, read_image
from embeddings.embedder import _pad
from embeddings.images import fit_longest_side

_ROUNDS, _PICTURES = 6, 5
_CASES = (
    ("cookies", 4), ("carton_top", 4), ("rendered carton", 4), ("rendered carton, turned", 4),
    ("cookies", 16), ("carton_top", 16), ("rendered carton, turned", 16),
)  # fmt: skip


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        figures = [
            measure(name, count, Path(folder) / str(i)) for i, (name, count) in enumerate(_CASES)
        ]
    save("stages", "AMISS_DATA=... python -m benchmarks.bench_stages", figures)


def measure(name: str, count: int, folder: Path) -> dict[str, Any]:
    """Stage medians in ms, and the whole of `inspect` over one pass, with `count` references."""
    references, queries = _pictures(name, count, folder)
    build_gallery(references, folder / "gallery", product_id="one")
    passes, wholes = [], []
    stages: dict[str, list[float]] = {}
    with Inspector.open(folder / "gallery") as inspector, inspector._serving() as serving:
        for _ in range(_ROUNDS):
            for path in queries:
                passes.append(_timed(lambda p=path: _network(serving.embedder, read_image(p))))
                start = time.perf_counter()
                result = inspector.inspect(path, product_id="one")
                wholes.append(1000 * (time.perf_counter() - start))
                for stage, spent in result.timings_ms.items():
                    stages.setdefault(stage, []).append(spent)
    warm = len(queries)  # the first round warms up
    one = float(np.median(passes[warm:]))
    whole = float(np.median(wholes[warm:]))
    return {
        "case": name,
        "references": count,
        "working_px": list(fit_longest_side(read_image(queries[0]), 448).shape[:2]),
        "network_pass_ms": round(one, 1),
        "inspect_ms": round(whole, 1),
        "inspect_over_pass": round(whole / one, 2),
        "stages_over_pass": {
            stage: round(float(np.median(spent)) / one, 3) for stage, spent in stages.items()
        },
    }


def _network(embedder: Embedder, image: Pixels) -> float:
    """Milliseconds of the network alone."""
    backbone = embedder._backbone
    padded = _pad(fit_longest_side(image, embedder.size_px), backbone.spec.pad_multiple)
    start = time.perf_counter()
    backbone.extract(padded[None])
    return 1000 * (time.perf_counter() - start)


def _timed(call: Any) -> float:
    return float(call())


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
