"""Parts that the ablation takes out are parts that the engine has."""

from __future__ import annotations

import pytest

from benchmarks.bench_ablation import PARTS


@pytest.mark.parametrize("part", PARTS)
def test_a_part_names_what_the_engine_has(part: str) -> None:
    with PARTS[part]():  # patching a name that is gone raises
        pass
