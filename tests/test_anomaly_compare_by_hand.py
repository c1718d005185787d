"""Every map of a comparison equals a search by hand, cell by cell."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from compared_product import (
    LEFT,
    SHAPE,
    TOP,
    compared,
    maps_of,
    mask_at,
    picture,
    reference_of,
    scores_of,
    shift,
    view_of,
)

from anomaly.placed import windows
from anomaly.results import View
from gallery import Reference


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, D), (M, D) -> (N, M), in float64 and one by one."""
    return np.linalg.norm(a.astype(float)[:, None] - b.astype(float)[None], axis=2)


def windows_by_hand(query, moved, on, measured, radius=1):
    forward, backward = np.full(on.shape, np.nan), np.full(on.shape, np.nan)
    cells = list(np.ndindex(on.shape))
    for (r, c), (s, d) in product(cells, cells):
        if max(abs(r - s), abs(c - d)) <= radius and measured[r, c] and on[s, d]:
            gap = np.linalg.norm(query[r, c].astype(float) - moved[s, d])
            forward[r, c] = np.fmin(forward[r, c], gap)
            backward[s, d] = np.fmin(backward[s, d], gap)
    return forward, backward


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", [(9, 11), (1, 8), (2, 2)])
def test_windows_equal_a_search_of_all_pairs(seed: int, shape) -> None:
    rng = np.random.default_rng(seed)
    query, moved = rng.normal(size=(2, *shape, 4)).astype(np.float32)
    on, measured = rng.random((2, *shape)) < [[[0.3]], [[0.7]]]
    found = windows(query, moved, on, measured)
    wanted = windows_by_hand(query, moved, on, measured)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3)  # NaN at the same places


def searched(own: np.ndarray) -> np.ndarray:
    """The product, cells that touch it, every second row and column of the rest."""
    touched = {
        (r + down, c + right)
        for r, c in np.argwhere(own)
        for down in (-1, 0, 1)
        for right in (-1, 0, 1)
    }
    wanted = [(r, c) in touched or (r % 2 == 0 and c % 2 == 0) for r, c in np.ndindex(own.shape)]
    return np.reshape(wanted, own.shape)


def by_hand(view: View, references: list[Reference], shifts: list[tuple[int, int]]):
    """All maps, for references that are shifted by whole cells (columns, rows)."""
    query = view.patches.dense()
    rows = query.reshape(-1, query.shape[2])
    far, near, gone, absent = [], [], [], []
    on_any = np.zeros(SHAPE, np.bool_)
    for reference, (columns, down) in zip(references, shifts, strict=True):
        grid = reference.patches.dense()
        own = reference.foreground.mask.reshape(18, 8, 24, 8).mean((1, 3)) > 0.5
        far.append(distances(rows, grid[searched(own)]).min(axis=1).reshape(SHAPE))
        absent.append(top_by_hand(distances(grid[own], query[view.measured]).min(axis=1)))
        moved, on = np.zeros_like(grid), np.zeros(SHAPE, np.bool_)
        for r, c in np.ndindex(SHAPE):
            s, d = r - down, c - columns
            if 0 <= s < SHAPE[0] and 0 <= d < SHAPE[1]:
                moved[r, c], on[r, c] = grid[s, d], own[s, d] and view.measured[r, c]
        forward, backward = windows_by_hand(query, moved, on, view.measured)
        near.append(np.where(on, forward, np.nan))
        gone.append(backward)
        on_any |= on
    anywhere = np.where(view.measured, np.min(far, axis=0), np.nan)
    local = np.fmin.reduce(near)
    near_by = np.where(np.isfinite(local), local, anywhere)
    ring = np.zeros(SHAPE, np.bool_)
    for r, c in np.argwhere(on_any):
        ring[max(0, r - 1) : r + 2, max(0, c - 1) : c + 2] = True
    missing, some = np.full(SHAPE, np.nan), np.isfinite(gone).any(axis=0)
    missing[some] = np.nanmin(np.stack(gone)[:, some], axis=0)
    core = core_by_hand(on_any)
    maps = {"anywhere": anywhere, "missing": np.where(core, missing, np.nan)}
    maps["product"] = np.where(core, near_by, np.nan)
    maps["novel"] = np.where(core, anywhere, np.nan)
    maps["rim"] = np.log(np.where(ring & ~core, anywhere + near_by, np.nan))
    maps["surroundings"] = np.where(ring, np.nan, anywhere)
    return maps, on_any, min(absent)


def core_by_hand(product: np.ndarray, width: int = 1) -> np.ndarray:
    """Cells all of whose neighbours in the picture are on the product."""
    core = np.zeros(product.shape, np.bool_)
    for r, c in np.argwhere(product):
        rows, columns = (slice(max(0, n - width), n + width + 1) for n in (r, c))
        core[r, c] = product[rows, columns].all()
    return core


def top_by_hand(values: np.ndarray, share: float = 0.01) -> float:
    ordered = sorted(v for v in values.ravel() if math.isfinite(v))
    return float(np.mean(ordered[-max(1, round(share * len(ordered))) :]))


@pytest.mark.parametrize("shifts", [[(0, 0)], [(0, 0), (3, 1)], [(-2, 2), (3, 1), (0, -1)]])
@pytest.mark.parametrize("partly", [False, True])
def test_every_map_equals_a_search_by_hand(shifts, partly: bool) -> None:
    """The product lies at another place in each reference; partly: a corner isn't measured."""
    query = picture(ground=9)
    query[60:76, 90:106] = (250, 20, 20)
    references = []
    for n, (x, y) in enumerate(shifts):
        at = TOP - 8 * y, LEFT - 8 * x
        image = picture(at=at, ground=20 + n)
        image[at[0] + 8 * n : at[0] + 8 * n + 20, at[1] : at[1] + 30] = 60  # each lacks a part
        references.append(reference_of(image, f"r{n}", mask=mask_at(*at)))
    view = view_of(query)
    if partly:
        measured = np.ones(SHAPE, np.bool_)
        measured[:7, :9] = False
        view = replace(view, measured=measured)
    found = compared(view, references, *[shift(8 * x, 8 * y) for x, y in shifts])
    assert found.refuted == ()
    wanted, on, absent = by_hand(view, references, shifts)
    scores = scores_of(found)
    for name, values in maps_of(found).items():
        np.testing.assert_allclose(values, wanted[name], atol=3e-3, err_msg=name)
        share = 0.01 if name == "anywhere" else 0.005
        assert scores[name] == pytest.approx(top_by_hand(values, share), abs=1e-5)
    np.testing.assert_array_equal(found.product, on)
    assert scores["absent"] == pytest.approx(absent, abs=3e-3)
    shown = view.measured.mean()
    shares = {c.name: c.valid_fraction for c in (*found.placed, *found.anywhere)}
    assert shares["anywhere"] == shares["surroundings"] == pytest.approx(shown)
    assert shares["product"] == shares["rim"] == shares["missing"] == found.coverage
