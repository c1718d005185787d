"""What is usual at a place: by hand on made-up maps, and on a product whose code always changes."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest
from PIL import Image

from anomaly.left_out import LeftOut
from anomaly.nulls import pooled_priors
from anomaly.pipeline import Query, examine
from anomaly.profile import Profile, ProfileStep, read_profile
from anomaly.results import Channel
from anomaly.rim import placed_score, top_mean
from anomaly.score import Prior
from anomaly.tolerance import Maps, Stored, eased, own_maps
from embeddings import fake_embedder
from embeddings.foreground import given_foreground
from embeddings.keypoints import detect_keypoints
from gallery import CatalogRow, Reference
from gallery.describe import describe, from_record, to_record
from gallery.records import pack, unpack

SHAPE = (6, 8)
HERE = np.stack(np.meshgrid(np.arange(8), np.arange(6)), axis=2).astype(np.float32)


def channel(name: str = "product", cells: np.ndarray | None = None) -> Channel:
    found = np.full(SHAPE, 0.5, np.float32) if cells is None else cells
    return Channel(name, found, placed_score(found), 1.0)


def usual(*, high: float = 1.0, at: tuple[int, int] = (2, 3)) -> Stored:
    cells = np.ones(SHAPE, np.float32)
    cells[at] = high
    return Stored.of(cells)


def one_eased(given: Channel, maps: list[Stored]) -> Channel:
    learned = {f"r{n}": {given.name: one} for n, one in enumerate(maps)}
    (found,) = eased([given], dict.fromkeys(learned, HERE), learned)
    return found


# Maps as they are stored


def test_a_map_comes_back_within_a_step_of_a_byte_and_unknown_stays_unknown() -> None:
    values = np.random.default_rng(0).uniform(0, 3, SHAPE).astype(np.float32)
    values[0, :3] = np.nan
    stored = Stored.of(values)
    assert stored.cells.dtype == np.uint8
    np.testing.assert_allclose(stored.values(), values, atol=3 / 254 / 2 + 1e-4)
    assert np.isnan(stored.values()[0, :3]).all()


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_map_of_nothing_is_stored_as_such(value: float) -> None:
    stored = Stored.of(np.full(SHAPE, value, np.float32))
    np.testing.assert_array_equal(stored.values(), np.full(SHAPE, value, np.float32))


# What they do to a channel


def test_without_maps_a_channel_is_what_it_was() -> None:
    given = channel()
    assert eased([given], {}, {}) == (given,)
    assert eased([given], {"r0": HERE}, {}) == (given,)
    assert eased([given], {"r0": HERE}, {"r0": {"missing": usual()}}) == (given,)
    rim = channel("rim")
    assert one_eased(rim, [usual(high=3.0)] * 4) is rim
    nowhere = Channel("missing", None, 1.0, 1.0)
    assert one_eased(nowhere, [usual()] * 4) is nowhere


@pytest.mark.parametrize("level", [0.2, 1.0, 7.0])
def test_what_is_usual_everywhere_alike_changes_nothing(level: float) -> None:
    given = channel(cells=np.random.default_rng(0).uniform(0, 1, SHAPE).astype(np.float32))
    found = one_eased(given, [Stored.of(np.full(SHAPE, level, np.float32))] * 4)
    assert given.map is not None
    np.testing.assert_allclose(found.map, given.map, rtol=1e-5)
    assert found.score == pytest.approx(given.score, rel=1e-5)


@pytest.mark.parametrize(("count", "factor"), [(1, 1.4), (2, 5 / 3), (4, 2.0), (12, 2.5)])
def test_the_more_references_were_high_at_a_place_the_less_it_says(
    count: int, factor: float
) -> None:
    """By hand: three times what is usual elsewhere, of which count / (count + 4) is believed."""
    found = one_eased(channel(), [usual(high=3.0)] * count)
    assert found.map is not None
    assert found.map[2, 3] == pytest.approx(0.5 / factor, rel=0.01)
    rest = np.ones(SHAPE, np.bool_)
    rest[2, 3] = False
    np.testing.assert_allclose(found.map[rest], 0.5, rtol=0.01)


def test_where_pristine_pictures_never_differ_a_little_says_more() -> None:
    found = one_eased(channel(), [usual(high=0.0)] * 4)
    assert found.map is not None
    assert found.map[2, 3] == pytest.approx(1.0, rel=0.01)
    assert found.score == placed_score(found.map) == pytest.approx(1.0, rel=0.01)


def test_a_place_that_no_reference_knows_counts_as_it_is() -> None:
    cells = np.full(SHAPE, 2.0, np.float32)
    cells[2:, :] = np.nan
    cells[0, 0] = 6.0
    found = one_eased(channel(), [Stored.of(cells)] * 4)
    assert found.map is not None
    np.testing.assert_allclose(found.map[2:], 0.5, rtol=1e-6)
    assert found.map[0, 0] == pytest.approx(0.25, rel=0.01)


def test_a_handful_of_cells_says_nothing() -> None:
    cells = np.full(SHAPE, np.nan, np.float32)
    cells[0, :] = 2.0
    cells[1, 0] = 6.0
    given = channel()
    assert one_eased(given, [Stored.of(cells)] * 4) is given
    cells[1, 1] = 2.0
    assert one_eased(given, [Stored.of(cells)] * 4) is not given


def test_maps_are_read_where_the_reference_lies() -> None:
    """The view's column 3 shows the reference's column 1."""
    moved = HERE - np.array([2, 0], np.float32)
    learned = {f"r{n}": {"product": usual(high=3.0, at=(2, 1))} for n in range(4)}
    (found,) = eased([channel()], dict.fromkeys(learned, moved), learned)
    assert found.map is not None
    assert np.unravel_index(np.argmin(found.map), SHAPE) == (2, 3)
    np.testing.assert_allclose(found.map[:, :2], 0.5)  # the reference ends there


@pytest.mark.parametrize(("name", "share"), [("bend", 0.02), ("outline", 0.1)])
def test_a_channel_of_logarithms_changes_by_what_its_cells_do(name: str, share: float) -> None:
    """Its score was measured finer than in cells: only the change is taken from them."""
    cells = np.log(np.random.default_rng(0).uniform(0.5, 1, SHAPE)).astype(np.float32)
    cells[2, 3] = math.log(4.0)
    given = Channel(name, cells, 1.7, 1.0)
    found = one_eased(given, [usual(high=3.0)] * 4)
    assert found.map is not None
    assert found.map[2, 3] == pytest.approx(math.log(4.0 / 2), abs=0.02)
    before, after = (top_mean(np.exp(m), share=share) for m in (cells, found.map))
    assert found.score == pytest.approx(1.7 + math.log(after / before), abs=1e-5)
    assert found.score < given.score


# A product with a code that is another one on every picture

EMBEDDER = fake_embedder(size_px=192)
SIZE = (144, 192)
CODE, ELSEWHERE = (slice(40, 64), slice(40, 72)), (slice(84, 108), slice(112, 144))


def printed(code: int) -> np.ndarray:
    rng = np.random.default_rng(5)
    noise = rng.normal(size=(24, 32, 3)).astype(np.float32)
    image = np.full((*SIZE, 3), 215, np.uint8)
    print_ = np.clip(
        120 + 45 * cv2.resize(noise, (136, 104), interpolation=cv2.INTER_CUBIC), 0, 255
    )
    image[20:124, 28:164] = print_.astype(np.uint8)
    image[CODE] = scribble(code)
    grain = np.random.default_rng(1000 + code).normal(0, 2, image.shape)
    return np.clip(image + grain, 0, 255).astype(np.uint8)


def scribble(code: int) -> np.ndarray:
    bits = np.random.default_rng(code).integers(0, 2, (6, 8), dtype=np.uint8)
    return cv2.resize(40 + 180 * bits, (32, 24), interpolation=cv2.INTER_NEAREST)[..., None]


def reference_of(image: np.ndarray, name: str) -> Reference:
    row = CatalogRow("p", 1, 0, name, None, None, None, None, None, name)
    described = describe(image, EMBEDDER, mask=product())
    return from_record(to_record(row, described), described.vector)


def product() -> np.ndarray:
    mask = np.zeros(SIZE, np.bool_)
    mask[20:124, 28:164] = True
    return mask


@cache
def references() -> tuple[Reference, ...]:
    return tuple(reference_of(printed(n), f"r{n}") for n in range(4))


@cache
def learned_profile() -> Profile:
    pictures = {f"r{n}": printed(n) for n in range(4)}
    step = ProfileStep(EMBEDDER, lambda name: _png(pictures[name]))
    record = step(references())
    again = unpack(pack(record), where="here")
    assert again.digest() == record.digest()
    return read_profile(again)


def channels_of(image: np.ndarray, *, learned: bool) -> dict[str, Channel]:
    ground = given_foreground(product())
    query = Query(lambda: image, ground, lambda: detect_keypoints(image, mask=product()))
    known = learned_profile().learned if learned else None
    found = examine(query, references(), embedder=EMBEDDER, learned=known).comparison
    return {c.name: c for c in found.placed}


def test_a_profile_knows_where_pictures_of_the_product_differ() -> None:
    learned = learned_profile().learned
    assert set(learned) == {"r0", "r1", "r2", "r3"}
    cells = tuple(slice(s.start // 8, s.stop // 8) for s in CODE)
    for maps in learned.values():
        values = maps["product"].values()
        inside = float(np.nanmedian(values[cells]))
        assert inside > 2 * float(np.nanmedian(values))


def test_another_code_says_less_and_the_same_scribble_elsewhere_as_much_as_ever() -> None:
    pristine, scrawled = printed(9), printed(8)
    scrawled[ELSEWHERE] = scribble(9)
    margins = []
    for learned in (False, True):
        plain, damaged = (channels_of(i, learned=learned) for i in (pristine, scrawled))
        margins.append(damaged["product"].score / plain["product"].score)
    assert margins[1] > 1.3 * margins[0]
    after = channels_of(scrawled, learned=True)["product"].map
    assert after is not None
    row, column = np.unravel_index(np.nanargmax(after), after.shape)
    assert ELSEWHERE[0].start // 8 <= row <= ELSEWHERE[0].stop // 8
    assert ELSEWHERE[1].start // 8 <= column <= ELSEWHERE[1].stop // 8


def test_references_are_held_to_the_same_as_pictures_are() -> None:
    """Else their scores would be those of another measure than the picture's."""
    profile = learned_profile()
    for n, reference in enumerate(references()):
        others = [r for r in references() if r is not reference]
        held, bare = (_product(printed(n), others, learned) for learned in (profile.learned, None))
        entry = profile.left_out[n].placed["product"]
        assert entry == pytest.approx(held, rel=0.05)
        assert entry < 0.9 * bare


def _product(image: np.ndarray, others: list[Reference], learned: dict[str, Maps] | None) -> float:
    ground = given_foreground(product())
    query = Query(lambda: image, ground, lambda: detect_keypoints(image, mask=product()))
    found = examine(query, others, embedder=EMBEDDER, learned=learned).comparison
    return {c.name: c.score for c in found.placed}["product"]


def test_a_turned_view_is_brought_back_to_the_references_own_grid() -> None:
    """What a picture's view shows at a place is learned at that place of the picture itself."""
    image = printed(0)
    turned = np.ascontiguousarray(np.rot90(image))
    mask = np.ascontiguousarray(np.rot90(product()))
    ground = given_foreground(mask)
    query = Query(lambda: turned, ground, lambda: detect_keypoints(turned, mask=mask))
    evidence = examine(query, references()[1:], embedder=EMBEDDER)
    assert abs(evidence.view.turn_deg) > 80
    row = CatalogRow("p", 1, 0, "t", None, None, None, None, None, "t")
    described = describe(turned, EMBEDDER, mask=mask)
    reference = from_record(to_record(row, described), described.vector)
    maps = own_maps(evidence.comparison.placed, evidence.view, reference)
    values = maps["product"].values()
    assert values.shape == reference.patches.shape
    code = np.zeros(SIZE, np.bool_)
    code[CODE] = True
    there = cv2.resize(np.rot90(code).astype(np.uint8), values.shape[::-1]) > 0
    assert np.nanmedian(values[there]) > 2 * np.nanmedian(values[~there])


def _png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG")
    return file.getvalue()


def test_references_that_seldom_register_have_no_places() -> None:
    """A few cookies that were photographed twice don't make cookies alike everywhere."""
    maps = {"product": usual()}
    for registered, known in ((3, True), (2, False)):
        entries = [LeftOut({}, {}, registered, 4, 0.1, f"r{n}", maps) for n in range(4)]
        assert bool(Profile(tuple(entries)).learned) is known


def test_a_product_without_maps_has_the_priors_of_such_products() -> None:
    maps = {"product": usual()}
    priors = {"product": Prior(1.0, 0.2, 0.1), "bare product": Prior(3.0, 0.4, 0.2)}
    for known, centre in ((maps, 1.0), ({}, 3.0)):
        entries = [LeftOut({}, {}, 4, 4, 0.1, f"r{n}", known) for n in range(4)]
        nulls = Profile(tuple(entries)).nulls(priors)
        assert set(nulls) == {"product"}
        assert nulls["product"].centre == centre
    assert Profile(()).nulls(priors)["product"].centre == 3.0  # a single reference


def test_products_that_know_their_places_say_both_what_they_score_with_and_without() -> None:
    one = LeftOut({"product": 1.0}, {}, 4, 4, 0.1, "r", {"product": usual()}, {"product": 2.0})
    other = replace(one, placed={"product": 1.2}, bare={"product": 2.6})
    priors = pooled_priors([Profile((one, other))] * 3)
    assert priors["product"].centre == pytest.approx(1.1)
    assert priors["bare product"].centre == pytest.approx(2.3)
