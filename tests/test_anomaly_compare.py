"""Defects whose place is known, alignments that are refuted, and what is said without a place."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from compared_product import (
    IDENTITY,
    LEFT,
    ON,
    SHAPE,
    SIZE,
    TOP,
    compared,
    maps_of,
    mask_at,
    pairing_of,
    peak,
    picture,
    reference_of,
    scores_of,
    shift,
    view_of,
)

import anomaly.compare as compare_module
from anomaly.compare import compare
from embeddings import given_foreground
from embeddings.foreground import Foreground
from embeddings.metric import Metric, Metrics

# Pictures whose defect is known


def test_a_product_differs_from_itself_in_no_cell() -> None:
    image = picture()
    found = compared(image, [reference_of(image)], IDENTITY)
    assert [c.name for c in found.placed] == ["product", "novel", "rim", "missing", "surroundings"]
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
        "novel",
        "rim",
        "missing",
        "surroundings",
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


def test_what_is_known_elsewhere_on_the_product_is_not_novel_where_it_does_not_belong() -> None:
    image, moved, marked = picture(), picture(), picture()
    moved[:, 48:96] = image[:, 64:112]
    marked[56:96, 56:96] = (250, 20, 20)
    elsewhere, new = (
        maps_of(compared(query, [reference_of(image)], IDENTITY)) for query in (moved, marked)
    )
    middle = np.s_[9, 8]
    assert elsewhere["novel"][middle] < 0.1
    assert elsewhere["product"][middle] > 0.3
    assert new["novel"][middle] > 0.6
    np.testing.assert_array_equal(np.isfinite(new["novel"]), np.isfinite(new["product"]))


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
        found = compared(image, [reference_of(image)], matrix, form=True)
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
    [(0.53, 0.01, False), (0.55, 0.1, True), (0.55, 0.2, False), (0.67, 0.2, False),
     (0.69, 0.9, True)],
)  # fmt: skip
def test_what_agrees_on_much_of_the_product_is_refuted_later(
    monkeypatch: pytest.MonkeyPatch, unlike: float, span: float, refuted: bool
) -> None:
    """A logo agrees on little of another face; a small product's patches are blurred."""
    in_place = compare_module.placed_on
    monkeypatch.setattr(
        compare_module, "placed_on", lambda *a: replace(in_place(*a), unlike=unlike)
    )
    image = picture()
    pairing = replace(pairing_of(), span=span)
    ground = given_foreground(mask_at())
    found = compare(view_of(image), [reference_of(image)], {"r0": pairing}, foreground=ground)
    assert (found.refuted == ("r0",)) is refuted


def test_beside_the_product_nothing_is_said_where_the_filled_in_reaches() -> None:
    """A partial view goes on as in its reference; the ground there has nothing to do with ours."""
    view = view_of(picture(ground=3))
    shows = np.ones(view.measured.shape, np.bool_)
    shows[:, :5] = False
    arguments = [reference_of(picture())], {"r0": pairing_of()}
    ground = given_foreground(mask_at())
    for partial, columns in ((True, 9), (False, 5)):
        seen = replace(view, measured=shows, partial=partial)
        maps = maps_of(compare(seen, *arguments, foreground=ground))
        beside = np.isfinite(maps["surroundings"])
        assert not beside[:, :columns].any()
        assert beside[0, columns:].all()
        rim, product = np.isfinite(maps["rim"]), np.isfinite(maps["product"])
        assert not rim[:, :columns].any()
        np.testing.assert_array_equal((product | rim)[:, columns:], (beside == 0)[:, columns:])


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


def test_the_query_s_own_foreground_is_brought_to_a_view_that_was_moved() -> None:
    """The mask is in the picture's frame; the view may be another, if its reference was refuted."""
    image = picture()
    moved = replace(view_of(image), matrix=shift(-16, 24), turn_deg=0.1)
    found = compared(moved, [reference_of(image)], None, foreground=given_foreground(mask_at()))
    np.testing.assert_array_equal(found.product, np.roll(ON, (3, -2), axis=(0, 1)))


@pytest.mark.parametrize("confidence", [1.0, 0.4])
def test_a_product_with_a_form_that_fits_no_reference_is_asked_for_what_is_novel(
    confidence: float,
) -> None:
    image, query = picture(), picture(ground=2)
    query[64:80, 80:104] = (250, 20, 20)
    ground = replace(given_foreground(mask_at()), confidence=confidence)
    view, references = view_of(query), [reference_of(image)]
    placed = compare(view, references, {"r0": pairing_of()}, foreground=ground, form=True)
    (expected,) = (channel for channel in placed.placed if channel.name == "novel")
    free = compare(view, references, {}, foreground=ground)
    found = compare(view, references, {}, foreground=ground, form=True)
    assert (found.kind, free.kind) == ("anywhere", "loose")
    assert free.channels == free.anywhere
    if confidence < 1:  # belt and tray would be novel
        assert found.channels == found.anywhere
        return
    assert found.channels[:-1] == found.anywhere
    assert found.channels[-1].name == "novel"
    assert found.channels[-1].score == pytest.approx(expected.score)
    np.testing.assert_array_equal(found.channels[-1].map, expected.map)


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


def test_metrics_count_distances_in_their_own_spaces() -> None:
    image = picture()
    noise = np.random.default_rng(5).integers(-30, 31, image.shape)
    other = np.clip(image + noise, 0, 255).astype(np.uint8)
    dims = [layer.features.shape[2] for layer in view_of(image).patches.layers]
    metrics = Metrics(*(
        Metric(tuple(np.split(factor * np.eye(sum(dims), dtype=np.float32), np.cumsum(dims)[:-1])))
        for factor in (2, 3, 5)
    ))  # fmt: skip
    ground = Foreground(np.ones(SIZE, np.bool_), 0.0, "estimated")
    arguments = view_of(image), [reference_of(other)], {"r0": pairing_of()}
    plain = maps_of(compare(*arguments, foreground=ground))
    scaled = maps_of(compare(*arguments, foreground=ground, metrics=metrics))
    assert set(plain) == set(scaled)
    np.testing.assert_allclose(scaled["anywhere"], 2 * plain["anywhere"], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(scaled["product"], 3 * plain["product"], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(
        scaled["surroundings"], 5 * plain["surroundings"], rtol=1e-3, atol=1e-3
    )


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
