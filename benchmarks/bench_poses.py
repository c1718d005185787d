"""References that lie anyhow, AUROC: brought to one place at build (`anomaly.pose`), or as given.

    python -m benchmarks.bench_poses      (about 10 minutes on one core)

The headline studio set made of other products, with four references each that lie at any angle,
where those of `studio` lie within a few degrees; queries as there. Every draw is a dozen products.
Nothing was chosen on these draws.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from anomaly import profile
from anomaly.scorers import open_scorer
from benchmarks.datasets import studio
from benchmarks.datasets.sample import Split
from benchmarks.machine import save
from benchmarks.metrics_image import auroc
from embeddings import Embedder, open_embedder
from embeddings.threads import limit_threads

FIRST_SEEDS = (9100, 9200)  # of a dozen products each
REFERENCES = 4
MODES: dict[str, Callable[[], Any]] = {
    "posed": nullcontext,
    "as given": lambda: mock.patch.object(profile, "pose", lambda given, *_: list(given)),
}


def main() -> None:
    limit_threads(1)
    embedder, figures = open_embedder(), []
    for first in FIRST_SEEDS:
        figures.append({"first_seed": first, "references": REFERENCES} | measure(embedder, first))
        print(figures[-1], file=sys.stderr, flush=True)
    save("poses", "python -m benchmarks.bench_poses", figures)


def measure(embedder: Embedder, first: int) -> dict[str, float]:
    """By mode: AUROC over all queries of the draw at one threshold."""
    scores: dict[str, list[float]] = {mode: [] for mode in MODES}
    damaged = []
    for split in splits(first):
        references = [sample.read() for sample in split.references]
        for mode, on in MODES.items():
            with on():
                model = open_scorer("amiss", embedder).fit(references, seed=0)
            scores[mode] += [model.score(query.read()).score for query in split.queries]
        damaged += [bool(query.damaged) for query in split.queries]
    return {mode: round(float(auroc(np.array(s), damaged)), 3) for mode, s in scores.items()}


def splits(first: int) -> Iterator[Split]:
    """The products from a first seed on, their references turned by angles of their own."""
    upright = studio.draw_reference

    def turned(rng: np.random.Generator, place: int) -> Any:
        shot = upright(rng, place)
        return replace(shot, angle_deg=float(rng.uniform(-180, 180)))

    with (
        mock.patch.dict(studio._FIRST_SEED, {None: first}),
        mock.patch.object(studio, "draw_reference", turned),
    ):
        yield from studio.read_studio(
            Path("."), dataset="studio", part=None, shots=REFERENCES, seed=0
        )


if __name__ == "__main__":
    main()
