"""References that lie at any angle: drawn the same each time, queries as the studio has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anomaly import profile
from benchmarks.bench_poses import MODES, REFERENCES, splits
from benchmarks.datasets.studio import read_studio


def test_references_lie_anyhow_the_same_each_time_and_queries_as_ever() -> None:
    one, other = (next(iter(splits(9100))) for _ in range(2))
    usual = read_studio(Path("."), dataset="studio", part=None, shots=REFERENCES, seed=0)[0]
    assert one.product_id != usual.product_id  # the draw's own products, and no longer than it
    assert len(one.references) == REFERENCES
    np.testing.assert_array_equal(one.references[1].read(), other.references[1].read())
    leaning = [np.cov(np.argwhere(r.read_item_mask()).T)[0, 1] for r in one.references]
    upright = [np.cov(np.argwhere(r.read_item_mask()).T)[0, 1] for r in usual.references]
    assert np.abs(leaning).max() > 3 * np.abs(upright).max()
    assert [q.sample_id.split("/")[1] for q in one.queries] == [
        q.sample_id.split("/")[1] for q in usual.queries
    ]


def test_as_given_nothing_is_posed_and_only_then() -> None:
    usual = profile.pose
    with MODES["as given"]():
        assert profile.pose([1, 2], None, None, None) == [1, 2]  # type: ignore[list-item, arg-type]
    with MODES["posed"]():
        assert profile.pose is usual
    assert profile.pose is usual
