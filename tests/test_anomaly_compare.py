"""Distances against searches by hand, and defects whose place is known."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import cv2
import numpy as np
import pytest

import anomaly.compare as compare_module
from anomaly.compare import _windows, compare
from anomaly.results import Comparison, Pairing, View
from anomaly.view import as_it_is
from embeddings import fake_embedder, given_foreground
from embeddings.foreground import Foreground
from embeddings.metric import Metric
from embeddings.registration import Registration
from gallery import CatalogRow, Reference
from gallery.describe import describe, from_record, to_record

SIZE, SHAPE, STRIDE = (144, 192), (18, 24), 8
EMBEDDER = fake_embedder(size_px=192)
TOP, LEFT, HEIGHT, WIDTH = 32, 48, 80, 96  # of the product: rows 4 to 13, columns 6 to 17
ON = np.zeros(SHAPE, np.bool_)
ON[4:14, 6:18] = True
IDENTITY = np.eye(3)


def shift(x: float, y: float) -> np.ndarray:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def picture(*, seed: int = 0, at: tuple[int, int] = (TOP, LEFT), ground: int = 1) -> np.ndarray:
    """A product of coloured noise on a nearly plain ground."""
    rng = np.random.default_rng(ground)
    image = np.clip(60 + rng.normal(0, 3, (*SIZE, 3)), 0, 255).astype(np.uint8)
    noise = np.random.default_rng(seed).normal(size=(HEIGHT // 8 + 2, WIDTH // 8 + 2, 3))
    print_ = cv2.resize(noise.astype(np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    pixels = np.clip(150 + 45 * print_, 0, 255).astype(np.uint8)
    top, left = at
    seen = image[top : top + HEIGHT, left : left + WIDTH]
    seen[:] = pixels[: seen.shape[0], : seen.shape[1]]
    return image


def mask_at(top: int = TOP, left: int = LEFT) -> np.ndarray:
    mask = np.zeros(SIZE, np.bool_)
    mask[top : top + HEIGHT, left : left + WIDTH] = True
    return mask


def reference_of(image: np.ndarray, name: str = "r0", *, mask=None) -> Reference:
    described = describe(image, EMBEDDER, mask=mask_at() if mask is None else mask)
    row = CatalogRow("p", 1, 0, name, None, None, None, None, None, name)
    return from_record(to_record(row, described), described.vector)


def pairing_of(name: str = "r0", matrix: np.ndarray = IDENTITY) -> Pairing:
    none = np.zeros((0, 2), np.intp)
    found = Registration(matrix, "similarity", 50, 40, 0.3, 1.0, none, None)
    return Pairing(name, found, 0.0, 1.0, 1.0, (95.5, 71.5))


def view_of(image: np.ndarray) -> View:
    (embedding,) = EMBEDDER.embed([image])
    return as_it_is(embedding)


def compared(
    query: np.ndarray | View, references: list[Reference], *matrices, foreground=None
) -> Comparison:
    view = query if isinstance(query, View) else view_of(query)
    pairings = {
        r.reference_id: pairing_of(r.reference_id, m)
        for r, m in zip(references, matrices, strict=True)
        if m is not None
    }
    ground = foreground or Foreground(np.ones(SIZE, np.bool_), 0.0, "estimated")
    return compare(view, references, pairings, foreground=ground)


def maps_of(comparison: Comparison) -> dict[str, np.ndarray]:
    return {c.name: c.map for c in (*comparison.placed, *comparison.anywhere) if c.map is not None}


def scores_of(comparison: Comparison) -> dict[str, float]:
    return {c.name: c.score for c in (*comparison.placed, *comparison.anywhere)}


def peak(values: np.ndarray) -> tuple[int, int]:
    row, column = np.unravel_index(np.nanargmax(values), values.shape)
    return int(row), int(column)


# By hand


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
    found = _windows(query, moved, on, measured)
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
    both = anywhere + np.where(np.isfinite(local), local, anywhere)
    ring = np.zeros(SHAPE, np.bool_)
    for r, c in np.argwhere(on_any):
        ring[max(0, r - 1) : r + 2, max(0, c - 1) : c + 2] = True
    missing, some = np.full(SHAPE, np.nan), np.isfinite(gone).any(axis=0)
    missing[some] = np.nanmin(np.stack(gone)[:, some], axis=0)
    core = core_by_hand(on_any)
    maps = {"anywhere": anywhere, "missing": np.where(core, missing, np.nan)}
    maps["product"] = np.where(core, both, np.nan)
    maps["rim"] = np.where(ring & ~core, both, np.nan)
    maps["surroundings"] = np.where(ring, np.nan, both)
    return maps, on_any, min(absent)


def core_by_hand(product: np.ndarray, width: int = 1) -> np.ndarray:
    """Cells all of whose neighbours in the picture are on the product."""
    core = np.zeros(product.shape, np.bool_)
    for r, c in np.argwhere(product):
        rows, columns = (slice(max(0, n - width), n + width + 1) for n in (r, c))
        core[r, c] = product[rows, columns].all()
    return core


def test_a_trusted_foreground_divides_content_into_the_product_s_and_what_lies_beside_it() -> None:
    query = picture(ground=9)
    query[60:76, 90:106] = (250, 20, 20)
    view, reference = view_of(query), reference_of(picture())
    trusted = compare(view, [reference], {}, foreground=given_foreground(mask_at()))
    whole = compare(view, [reference], {}, foreground=Foreground(mask_at(), 0.4, "estimated"))
    assert [c.name for c in whole.anywhere] == ["anywhere", "absent"]
    assert [c.name for c in trusted.anywhere] == ["anywhere", "around", "absent"]
    ring = cv2.dilate(ON.astype(np.uint8), np.ones((3, 3))) > 0
    on, beside, everything = (c.map for c in (*trusted.anywhere[:2], whole.anywhere[0]))
    np.testing.assert_array_equal(np.isfinite(on), ring)
    np.testing.assert_array_equal(np.isfinite(beside), ~ring)
    np.testing.assert_array_equal(np.fmax(on, beside), everything)


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
        share = 0.005 if name in ("product", "rim", "missing") else 0.01
        assert scores[name] == pytest.approx(top_by_hand(values, share), abs=1e-5)
    np.testing.assert_array_equal(found.product, on)
    assert scores["absent"] == pytest.approx(absent, abs=3e-3)
    shown = view.measured.mean()
    shares = {c.name: c.valid_fraction for c in (*found.placed, *found.anywhere)}
    assert shares["anywhere"] == shares["surroundings"] == pytest.approx(shown)
    assert shares["product"] == shares["rim"] == shares["missing"] == found.coverage


# Pictures whose defect is known


def test_a_product_differs_from_itself_in_no_cell() -> None:
    image = picture()
    found = compared(image, [reference_of(image)], IDENTITY)
    assert [c.name for c in found.placed] == ["product", "rim", "surroundings", "missing"]
    assert [c.name for c in found.anywhere] == ["anywhere", "absent"]
    scores = scores_of(found)
    assert max(scores[name] for name in ("missing", "anywhere", "absent")) < 0.06
    assert np.fmax(maps_of(found)["product"], maps_of(found)["rim"])[ON].max() < 0.1
    np.testing.assert_array_equal(found.product, ON)
    assert found.coverage == 1.0
    marked = image.copy()
    marked[60:76, 90:106] = (250, 20, 20)
    maps = maps_of(compared(marked, [reference_of(image)], IDENTITY))
    assert np.nanmax(maps["product"]) > 0.6


def test_an_identical_picture_is_explained_on_the_product_and_beside_it() -> None:
    image = picture()
    maps = maps_of(compared(image, [reference_of(image)], IDENTITY))
    three = np.stack([maps[name] for name in ("product", "rim", "surroundings")])
    assert (np.isfinite(three).sum(axis=0) == 1).all()  # each cell is one of them
    assert np.nanmax(three) < 0.1


def test_an_outline_is_one_more_channel_where_both_masks_are_trusted() -> None:
    image = picture()
    ground = given_foreground(mask_at())
    found = compared(image, [reference_of(image)], IDENTITY, foreground=ground)
    assert [c.name for c in found.placed] == [
        "product",
        "rim",
        "surroundings",
        "missing",
        "outline",
    ]
    (outline,) = (c for c in found.placed if c.name == "outline")
    assert math.exp(outline.score) < 0.02
    assert outline.map is not None
    assert outline.map.shape == found.product.shape
    assert np.isfinite(outline.map).sum() > 10


def test_an_estimated_outline_says_nothing_of_a_product_that_the_picture_cuts_off() -> None:
    image = picture()
    given = given_foreground(mask_at())
    for partial, ground, wanted in [
        (True, given, True),
        (True, replace(given, source="estimated"), False),
        (False, replace(given, source="estimated"), True),
    ]:
        view = replace(view_of(image), partial=partial)
        found = compared(view, [reference_of(image)], IDENTITY, foreground=ground)
        assert ("outline" in {channel.name for channel in found.placed}) is wanted


@pytest.mark.parametrize(
    ("y", "x", "name", "other"),
    [(56, 88, "product", "surroundings"), (8, 160, "surroundings", "product")],
)
def test_a_pasted_patch_fires_where_it_lies(y: int, x: int, name: str, other: str) -> None:
    image, query = picture(), picture(ground=2)
    clean = scores_of(compared(query, [reference_of(image)], IDENTITY))
    query[y : y + 24, x : x + 24] = (250, 20, 20)
    found = compared(query, [reference_of(image)], IDENTITY)
    row, column = peak(maps_of(found)[name])
    assert y // 8 <= row < y // 8 + 3
    assert x // 8 <= column < x // 8 + 3
    assert scores_of(found)[name] > clean[name] + 0.4
    assert scores_of(found)[other] == pytest.approx(clean[other], rel=0.05)


def test_a_part_that_is_covered_by_ground_is_missing_there() -> None:
    image, query = picture(), picture(ground=2)
    clean = scores_of(compared(query, [reference_of(image)], IDENTITY))
    query[48:104, 80:136] = picture(ground=3, at=(TOP, 1000))[48:104, 80:136]
    found = compared(query, [reference_of(image)], IDENTITY)
    row, column = peak(maps_of(found)["missing"])
    assert 6 <= row < 13
    assert 10 <= column < 17
    assert scores_of(found)["missing"] > 2 * clean["missing"]
    assert maps_of(found)["anywhere"][7:12, 11:16].max() < 0.3
    assert maps_of(found)["product"][7:12, 11:16].min() > 0.3  # but it doesn't belong here


def test_what_any_reference_shows_is_explained() -> None:
    plain, marked = picture(), picture(ground=2)
    for image in (marked, query := picture(ground=3)):
        image[56:80, 88:112] = (250, 20, 20)
    alone = compared(query, [reference_of(plain)], IDENTITY)
    references = [reference_of(plain), reference_of(marked, "r1")]
    both = compared(query, references, IDENTITY, IDENTITY)
    for name in ("product", "anywhere"):
        assert maps_of(alone)[name][8, 12] > 0.5
        assert maps_of(both)[name][8, 12] < 0.1


def test_one_odd_reference_is_no_consensus_on_what_is_missing() -> None:
    odd = picture(ground=2)
    odd[56:80, 88:112] = (250, 20, 20)
    odd_one, plain = reference_of(odd, "odd"), picture(ground=3)
    three = [odd_one, *(reference_of(picture(ground=n), f"r{n}") for n in range(2))]
    alone = compared(plain, [odd_one], IDENTITY)
    among = compared(plain, three, IDENTITY, IDENTITY, IDENTITY)
    assert maps_of(alone)["missing"][8, 12] > 0.5
    assert maps_of(among)["missing"][8, 12] < 0.1


def test_content_that_is_nowhere_in_the_query_is_absent() -> None:
    marked = picture(ground=2)
    marked[56:80, 88:112] = (250, 20, 20)
    gone = scores_of(compared(picture(ground=3), [reference_of(marked)], None))
    there = scores_of(compared(marked, [reference_of(marked)], None))
    assert gone["absent"] > 0.5
    assert there["absent"] < 0.06
    two = [reference_of(marked), reference_of(picture(ground=3), "r1")]
    assert scores_of(compared(picture(ground=3), two, None, None))["absent"] < 0.06


def test_what_the_view_does_not_show_is_not_measured() -> None:
    image = picture()
    query = image.copy()
    query[:, :64] = (250, 20, 20)  # filled in beside the picture: nothing of it may count
    measured = np.ones(SHAPE, np.bool_)
    measured[:, :8] = False
    view = replace(view_of(query), measured=measured)
    found = compared(view, [reference_of(image)], IDENTITY)
    for name, values in maps_of(found).items():
        assert np.isnan(values[:, :8]).all(), name
    # Cells of 16 px reach one cell of 8 px over the edge.
    maps = maps_of(found)
    assert np.fmax(maps["product"], maps["rim"])[:, 10:][ON[:, 10:]].max() < 0.1
    np.testing.assert_array_equal(found.product, ON & measured)
    assert found.coverage == pytest.approx(10 / 12)
    image[56:80, 88:112] = (250, 20, 20)  # nor may it stand for what isn't there
    assert scores_of(compared(view, [reference_of(image)], None))["absent"] > 0.5


def test_where_nothing_was_measured_no_channel_has_a_score() -> None:
    view = view_of(picture())
    nothing = replace(view, measured=np.zeros(SHAPE, np.bool_))
    scores = scores_of(compared(nothing, [reference_of(picture())], None))
    assert all(math.isnan(score) for score in scores.values())


# Alignments


def test_an_alignment_that_the_patches_do_not_bear_out_is_refuted() -> None:
    image = picture()
    wrong = shift(-200, 0), shift(88, 56)  # out of the picture; mostly onto the ground
    for matrix in wrong:
        found = compared(image, [reference_of(image)], matrix)
        assert found.refuted == ("r0",)
        assert found.placed == ()
        assert (found.kind, found.coverage) == ("anywhere", 0.0)
    sound, other = reference_of(image, "sound"), reference_of(image, "wrong")
    mixed = compared(image, [other, sound], wrong[1], IDENTITY)
    assert mixed.refuted == ("wrong",)
    alone = compared(image, [sound], IDENTITY)
    for name, values in maps_of(mixed).items():
        np.testing.assert_array_equal(values, maps_of(alone)[name])


def test_another_print_in_the_same_place_is_refuted_and_a_mark_is_not() -> None:
    image = picture()
    assert compared(picture(seed=5), [reference_of(image)], IDENTITY).refuted == ("r0",)
    marked = image.copy()
    marked[56:96, 60:120] = (250, 20, 20)
    assert compared(marked, [reference_of(image)], IDENTITY).refuted == ()


@pytest.mark.parametrize(
    ("unlike", "span", "refuted"),
    [(0.65, 0.01, False), (0.67, 0.1, True), (0.67, 0.2, False), (0.79, 0.2, False),
     (0.81, 0.9, True)],
)  # fmt: skip
def test_what_agrees_on_much_of_the_product_is_refuted_later(
    monkeypatch: pytest.MonkeyPatch, unlike: float, span: float, refuted: bool
) -> None:
    """A logo agrees on little of another face; a small product's patches are blurred."""
    in_place = compare_module._in_place
    monkeypatch.setattr(
        compare_module, "_in_place", lambda *a: replace(in_place(*a), unlike=unlike)
    )
    image = picture()
    pairing = replace(pairing_of(), span=span)
    ground = given_foreground(mask_at())
    found = compare(view_of(image), [reference_of(image)], {"r0": pairing}, foreground=ground)
    assert (found.refuted == ("r0",)) is refuted


@pytest.mark.parametrize(("cells", "wanted"), [(0, 1.0), (6, 1.0), (9, 9 / 12), (12, 0.5)])
def test_coverage_is_the_share_of_the_product_in_the_picture(cells: int, wanted: float) -> None:
    at = TOP, LEFT + 8 * cells
    found = compared(picture(at=at), [reference_of(picture())], shift(8 * cells, 0))
    assert found.refuted == ()
    assert found.coverage == pytest.approx(wanted)
    assert found.product.sum() == pytest.approx(wanted * 120)


def test_the_best_coverage_of_any_reference_counts() -> None:
    query = picture()
    half = reference_of(picture(), "half", mask=mask_at() & (np.arange(192) < 96))
    other = reference_of(picture(at=(TOP, 0)), "left", mask=mask_at(TOP, 0))
    measured = np.ones(SHAPE, np.bool_)
    measured[:, 12:] = False
    view = replace(view_of(query), measured=measured)
    assert compared(view, [other], shift(48, 0)).coverage == pytest.approx(0.5)
    assert compared(view, [other, half], shift(48, 0), IDENTITY).coverage == pytest.approx(1.0)


def test_a_query_of_another_size_is_compared_on_its_own_grid() -> None:
    """The same scene at 1.5 times the pixels; both are embedded at 192 px."""
    image = picture()
    large = cv2.resize(image, (288, 216), interpolation=cv2.INTER_CUBIC)
    matrix = np.array([[1.5, 0, 0.25], [0, 1.5, 0.25], [0, 0, 1]])
    found = compared(large, [reference_of(image)], matrix)
    np.testing.assert_array_equal(found.product, ON)
    assert found.coverage == 1.0
    assert np.nanmedian(maps_of(found)["missing"]) < 0.1


# Without place


def test_without_an_aligned_reference_the_query_s_own_foreground_is_the_product() -> None:
    image = picture()
    trusted = given_foreground(mask_at(48, 72))
    wanted = np.zeros(SHAPE, np.bool_)
    wanted[6:16, 9:21] = True
    np.testing.assert_array_equal(
        compared(image, [reference_of(image)], None, foreground=trusted).product, wanted
    )
    doubtful = replace(trusted, confidence=0.4)
    assert compared(image, [reference_of(image)], None, foreground=doubtful).product.all()
    turned = replace(view_of(image), turn_deg=90.0)  # the mask is in the picture's frame, not its
    assert compared(turned, [reference_of(image)], None, foreground=trusted).product.all()


def test_what_glare_hides_is_not_called_absent() -> None:
    image = picture()
    view = view_of(image)
    measured = view.measured.copy()
    measured[5:9, 7:12] = False
    hidden = replace(view, measured=measured, hidden=~measured)
    found = scores_of(compared(hidden, [reference_of(image)], None))
    assert math.isnan(found["absent"])
    assert found["anywhere"] < 0.1  # the codec has rounded the reference
    assert math.isfinite(scores_of(compared(image, [reference_of(image)], None))["absent"])


def test_a_metric_counts_distances_in_its_own_space() -> None:
    image, other = picture(), picture(seed=5)
    dims = [layer.features.shape[2] for layer in view_of(image).patches.layers]
    double = np.eye(sum(dims), dtype=np.float32) * 2
    metric = Metric(tuple(np.split(double, np.cumsum(dims)[:-1])))
    ground = Foreground(np.ones(SIZE, np.bool_), 0.0, "estimated")
    arguments = view_of(image), [reference_of(other)], {"r0": pairing_of()}
    plain = maps_of(compare(*arguments, foreground=ground))
    scaled = maps_of(compare(*arguments, foreground=ground, metric=metric))
    assert set(plain) == set(scaled)
    np.testing.assert_allclose(scaled["anywhere"], 2 * plain["anywhere"], rtol=1e-3, atol=1e-3)


def test_a_product_whose_bounds_are_a_guess_has_no_rim() -> None:
    guess = replace(reference_of(picture()), foreground=Foreground(mask_at(), 0.4, "estimated"))
    found = compared(picture(ground=2), [guess], IDENTITY)
    maps, scores = maps_of(found), scores_of(found)
    assert not found.bounded
    assert np.isnan(scores["rim"])
    assert np.isnan(maps["rim"]).all()
    np.testing.assert_array_equal(np.isfinite(maps["missing"]), ON)
    ring = cv2.dilate(ON.astype(np.uint8), np.ones((3, 3))) > 0
    np.testing.assert_array_equal(np.isfinite(maps["product"]), ring)
