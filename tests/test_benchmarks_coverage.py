"""What the benchmark of coverage photographs and counts."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from anomaly.studio import make_product
from benchmarks.bench_coverage import GROUPS, _photograph, table


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_only_partial_views_reach_the_border_and_only_damaged_ones_are(group) -> None:
    product = make_product("carton-1", seed=9000)
    for take in range(3):
        found = _photograph(product, group, 0, np.random.default_rng(take))
        border = np.ones(found.product_mask.shape, np.bool_)
        border[1:-1, 1:-1] = False
        assert (found.product_mask & border).any() == group.partial
        assert (found.damage_mask is not None and found.damage_mask.any()) == group.damaged


def test_shares_are_of_verdicts_whatever_their_reason() -> None:
    counts = Counter({
        "cannot_compare view_not_covered": 6, "cannot_compare nothing_in_picture": 2,
        "damaged beyond_pristine": 1, "review not_aligned": 1,
    })  # fmt: skip
    found = table(counts)
    assert found["pictures"] == 10
    shares = {
        n: found[n]["share"] for n in ("cannot_compare", "damaged", "damaged_or_review", "ok")
    }
    assert shares == {"cannot_compare": 0.8, "damaged": 0.1, "damaged_or_review": 0.2, "ok": 0.0}
