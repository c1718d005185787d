"""Print that goes round a body takes the bounds of its reference along."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from compared_product import (
    IDENTITY,
    LEFT,
    ON,
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

from embeddings import given_foreground
from gallery import Reference


@pytest.mark.parametrize(
    ("own", "wanted"),
    [
        ((TOP, LEFT + 32), "own"),  # print went round the body: beyond it on both sides
        ((TOP, LEFT + 8), "reference"),  # by a cell: masks are no finer
        (None, "reference"),  # no bounds of its own
    ],
)
def test_bounds_that_print_took_along_as_it_went_round_give_way_to_the_query_s_own(
    own: tuple[int, int] | None, wanted: str
) -> None:
    image = picture()
    ground = given_foreground(mask_at(*own)) if own is not None else None
    found = compared(image, [reference_of(image)], IDENTITY, foreground=ground)
    there = np.roll(ON, 4, axis=1) if wanted == "own" else ON
    np.testing.assert_array_equal(found.product, there)
    assert found.gliding == (wanted == "own")
    maps = maps_of(found)
    assert not np.isfinite(maps["surroundings"])[there].any()
    # Where no reference speaks, what is known anywhere tells, and nothing is missed.
    assert np.isfinite(maps["missing"]).any() == (wanted == "reference")
    assert math.isfinite(scores_of(found)["missing"]) == (wanted == "reference")
    if wanted == "own":
        np.testing.assert_array_equal(maps["novel"], maps["product"])


def test_bounds_that_only_grew_or_only_shrank_are_the_references() -> None:
    image = picture()
    for mask in (mask_at() | mask_at(TOP, LEFT + 32), mask_at() & mask_at(TOP, LEFT + 32)):
        found = compared(image, [reference_of(image)], IDENTITY, foreground=given_foreground(mask))
        np.testing.assert_array_equal(found.product, ON)


def test_a_reference_that_fits_keeps_its_bounds_beside_one_that_glides() -> None:
    image = picture()
    references = [reference_of(image), reference_of(picture(at=(TOP, 0)), "left", mask=mask_at())]
    own = given_foreground(mask_at() | mask_at(TOP + 16, LEFT))
    found = compared(image, references, IDENTITY, shift(48, 0), foreground=own)
    assert found.refuted == ()
    assert found.gliding == 1
    np.testing.assert_array_equal(found.product, ON | np.roll(ON, 2, axis=0))


@pytest.mark.parametrize(("columns", "gliding"), [(1, 0), (2, 0), (4, 1)])
def test_pristine_bounds_that_reach_far_beyond_the_others_on_one_side_glide_as_well(
    columns: int, gliding: int
) -> None:
    image = picture()
    wide = mask_at() | mask_at(TOP, LEFT + 8 * columns)
    for theirs, ours in ((mask_at(), wide), (wide, mask_at())):
        references = [reference_of(image, mask=theirs)]
        found = compared(image, references, IDENTITY, foreground=given_foreground(ours))
        # Beyond a cell, of 12 columns; of a picture that may be damaged the bounds still hold.
        assert found.gliding == gliding
        assert math.isfinite(scores_of(found)["missing"])


def test_a_body_that_turns_lies_where_it_is_seen_and_says_nothing_of_places() -> None:
    image, own = picture(), mask_at() | mask_at(TOP, LEFT + 32)
    references = [reference_of(image)]
    found = compared(image, references, IDENTITY, foreground=given_foreground(own), turning=True)
    flat = compared(image, references, IDENTITY, foreground=given_foreground(own))
    assert (found.kind, flat.kind) == ("turning", "placed")
    assert [channel.name for channel in found.placed] == ["novel", "surroundings"]
    np.testing.assert_array_equal(found.product, ON | np.roll(ON, 4, axis=1))
    np.testing.assert_array_equal(flat.product, ON)
    assert not np.isfinite(maps_of(found)["surroundings"])[found.product].any()
    lost = compared(
        image, references, None, foreground=given_foreground(own), turning=True, form=True
    )
    assert lost.kind == "anywhere"


@pytest.mark.parametrize(("dark", "kind"), [(0.9, "placed"), (0.2, "relit")])
def test_a_picture_whose_light_varies_from_all_references_is_relit(dark: float, kind: str) -> None:
    """By its pixels; what features make of the light is not asked here."""
    image, own, known = picture(), given_foreground(mask_at()), reference_of(picture())
    lit = (image * np.linspace(1, dark, image.shape[1])[None, :, None]).astype(np.uint8)

    def kind_of(*references: Reference, turning: bool = False) -> str:
        matrices = [IDENTITY] * len(references)
        return compared(
            view_of(image), list(references), *matrices, foreground=own, turning=turning,
            picture=lambda: lit,
        ).kind  # fmt: skip

    others = [reference_of(image, name) for name in ("second", "third")]
    assert kind_of(known, *others) == kind
    assert kind_of(known, *others[:1]) == "placed"  # two don't tell what light is usual
    alike = replace(reference_of(image, "alike"), coded_thumbnail=reference_of(lit).coded_thumbnail)
    assert kind_of(known, *others, alike) == "placed"
    # A body that turns is asked for nothing that light changes from place to place.
    assert kind_of(known, *others, turning=True) == "turning"


def test_a_body_that_turns_without_bounds_of_its_own_has_those_of_the_references() -> None:
    image = picture()
    found = compared(image, [reference_of(image)], IDENTITY, turning=True)
    assert found.kind == "turning"
    assert [channel.name for channel in found.placed] == ["novel", "surroundings"]
    np.testing.assert_array_equal(found.product, ON)


def test_references_keep_their_bounds_where_the_view_shows_nothing_of_the_own_product() -> None:
    image, ground = picture(), given_foreground(mask_at())
    beside = replace(view_of(image), matrix=shift(4000, 0))  # its foreground lies out of it
    found = compared(beside, [reference_of(image)], shift(-4000, 0), foreground=ground)
    np.testing.assert_array_equal(found.product, ON)
    assert math.isfinite(scores_of(found)["missing"])
