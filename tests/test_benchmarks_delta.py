"""bench_delta's synthetic half on a small gallery; the real half is the update's own tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks import bench_delta
from benchmarks.perturbed import RealVectors


def test_a_delta_of_as_many_products_as_it_may_hold_is_published_and_searched(
    tmp_path: Path,
) -> None:
    draw = np.random.default_rng(0)
    real = RealVectors(draw.standard_normal((12, 8)).astype(np.float32), np.repeat(range(4), 3))
    found = bench_delta.synthetic(tmp_path / "gallery", 270, real)
    assert found["products"] == 270
    assert found["references"] == 810
    for changed in (1, 10, 200):
        assert found[f"{changed} products changed"]["ms of a search with"] > 0
