"""Bottles turned about their axis: the same bytes each time, and damage where it is seen."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.bench_bottles import DAMAGES, labelled, photographed


def shot(spread: float, damage: str | None = None) -> np.ndarray:
    return photographed(labelled("coffee"), np.random.default_rng(5), spread, damage)


@pytest.mark.parametrize("damage", [None, *DAMAGES])
def test_the_same_draw_gives_the_same_picture(damage: str | None) -> None:
    one, other = shot(180, damage), shot(180, damage)
    assert one.shape == (640, 640, 3)
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("axis", [0, 0.25, 0.5, 0.75])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_lies_on_the_side_that_is_seen_and_nowhere_else(damage: str, axis: float) -> None:
    """Whatever the angle about the axis; a label goes on round the seam."""
    label = np.roll(labelled("coffee"), round(axis * labelled("coffee").shape[1]), axis=1)
    whole, hurt = (
        photographed(label, np.random.default_rng(3), 0, kind).astype(int)
        for kind in (None, damage)
    )
    changed = (np.abs(whole - hurt).max(axis=2) > 30).mean()
    assert (0.002, 0.02)[damage == "missing"] < changed < 0.2
    np.testing.assert_array_equal(whole[:60], hurt[:60])


def test_turning_about_the_axis_brings_other_print_into_view() -> None:
    still, turned = shot(0), shot(180)
    assert (np.abs(still.astype(int) - turned).max(axis=2) > 40).mean() > 0.05
