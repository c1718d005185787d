"""What references say of each other: form or none, and nulls that leave each one out."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest
from PIL import Image
from printed_texture import texture

from anomaly.left_out import LeftOut
from anomaly.profile import (
    MOST_COMPARED,
    STEP,
    Profile,
    ProfileStep,
    nearest,
    nearest_rows,
    read_profile,
)
from anomaly.score import Prior, fit_null
from embeddings import fake_embedder, register
from gallery import CatalogRow, Reference
from gallery.describe import describe, from_record, to_record
from gallery.errors import DamagedGallery
from gallery.records import Record, pack, unpack

EMBEDDER = fake_embedder(size_px=96)
SIZE = (180, 240)
POSES = ((0, 1.0, 0, 0), (8, 1.0, 12, -8), (-35, 0.95, -10, 6), (100, 1.05, 0, 5))
PLACED = {"product", "novel", "rim", "surroundings", "missing", "outline", "detail", "bend"}
ANYWHERE = {"anywhere", "absent"}


def posed(turn: float, scale: float, x: float, y: float, *, seed: int = 1) -> np.ndarray:
    """A flat printed product on a plain ground."""
    image = np.full((*SIZE, 3), 210, np.uint8)
    image[45:135, 60:180] = texture(seed, 90, 120)
    matrix = cv2.getRotationMatrix2D((119.5, 89.5), turn, scale)
    matrix[:, 2] += x, y
    return cv2.warpAffine(image, matrix, SIZE[::-1], borderValue=(210,) * 3)


def body(turn: float) -> np.ndarray:
    """A printed cylinder of 60 pixels' radius, upright, turned by so many degrees."""
    image = np.full((*SIZE, 3), 210, np.uint8)
    angles = np.arcsin((np.arange(120) - 59.5) / 60) + math.radians(turn)
    columns = np.round(60 * angles).astype(int) % 377
    image[45:135, 60:180] = texture(3, 90, 377)[:, columns]
    return image


def scattered(seed: int) -> np.ndarray:
    """Pieces that lie differently each time, no two alike."""
    rng = np.random.default_rng(seed)
    image = np.full((*SIZE, 3), 210, np.uint8)
    for _ in range(25):
        centre = rng.integers((20, 20), (220, 160)).tolist()
        axes, colour = rng.integers(5, 18, 2).tolist(), rng.integers(20, 150, 3).tolist()
        cv2.ellipse(image, centre, axes, float(rng.integers(0, 180)), 0, 360, colour, -1)
    return image


def reference_of(image: np.ndarray, name: str) -> Reference:
    described = describe(image, EMBEDDER)
    row = CatalogRow("p", 1, 0, name, None, None, None, None, None, name)
    return from_record(to_record(row, described), described.vector)


def learned(images: dict[str, np.ndarray], *, threads: int = 1) -> Record:
    def png(name: str) -> bytes:
        file = io.BytesIO()
        Image.fromarray(images[name]).save(file, format="PNG")
        return file.getvalue()

    step = ProfileStep(EMBEDDER, png, threads=threads)
    return step([reference_of(image, name) for name, image in images.items()])


def flat(count: int = 4) -> dict[str, np.ndarray]:
    return {f"r{n}": posed(*pose) for n, pose in enumerate(POSES[:count])}


@cache
def flat_record() -> Record:
    return learned(flat())


@cache
def loose_record() -> Record:
    return learned({f"r{n}": scattered(n) for n in range(4)})


# Form


def test_a_flat_product_in_several_poses_has_a_form_that_registers_reliably() -> None:
    profile = read_profile(flat_record())
    assert [entry.compared for entry in profile.left_out] == [3, 3, 3, 3]
    assert profile.has_form
    assert profile.reliable
    for entry in profile.left_out:
        assert entry.registered == 3
        assert set(entry.placed) == PLACED
        assert set(entry.anywhere) - {"around"} == ANYWHERE
        assert 0 <= entry.distance < 0.3


def test_a_body_that_turned_about_its_axis_says_nothing_of_places() -> None:
    profile = read_profile(learned({f"r{turn}": body(turn) for turn in (0, 25, 50)}))
    assert profile.turns
    assert {entry.laid for entry in profile.left_out} <= {1, 2}
    assert sum(entry.gliding for entry in profile.left_out) >= 2
    assert set(profile.raw()) == {"novel", "surroundings", *ANYWHERE, "around"}
    assert set(profile.bare()) == {"bare novel", "bare surroundings"}
    flat = read_profile(flat_record())
    assert not flat.turns
    assert [(entry.laid > 0, entry.gliding) for entry in flat.left_out] == [(True, 0)] * 4


def test_pieces_scattered_at_random_have_no_form() -> None:
    profile = read_profile(loose_record())
    assert not profile.has_form
    assert not profile.reliable
    for entry in profile.left_out:
        assert entry.placed == {} or entry.registered > 0
        assert set(entry.anywhere) - {"around"} == ANYWHERE
    assert len(profile.null_scores({}, kind="loose")) == 4


def test_a_single_reference_is_assumed_to_have_a_form_and_says_nothing_else() -> None:
    profile = read_profile(learned(flat(1)))
    assert profile.left_out == ()
    assert profile.has_form
    for kind in ("placed", "anywhere"):
        assert profile.null_scores({}, kind=kind).shape == (0,)
    assert profile.raw() == {}
    assert profile.nulls({}) == {}
    prior = Prior(1.0, 3.0, 4.0)
    assert profile.nulls({"missing": prior})["missing"].spread == pytest.approx(1.5 * 5.0)


def test_a_reference_of_another_product_is_not_registered_with() -> None:
    images = {"r0": posed(*POSES[0]), "r1": posed(*POSES[2]), "odd": posed(0, 1, 0, 0, seed=9)}
    entries = read_profile(learned(images)).left_out
    assert [entry.registered for entry in entries] == [1, 1, 0]
    assert entries[2].placed == {}
    assert entries[2].distance > max(entry.distance for entry in entries[:2])


def test_what_registers_counts_only_where_the_patches_bear_it_out() -> None:
    """The same local features, but patches that have nothing to do with each other."""
    one = reference_of(posed(*POSES[0]), "a")
    plain = reference_of(np.full((*SIZE, 3), 210, np.uint8), "plain")
    other = replace(one, reference_id="b", patches=plain.patches)
    assert register(one.keypoints, other.keypoints).ok
    original, moved, empty = (
        cv2.imencode(".png", image[:, :, ::-1])[1].tobytes()
        for image in (posed(*POSES[0]), posed(*POSES[1]), np.full((*SIZE, 3), 210, np.uint8))
    )
    for pair, picture, wanted in (
        ([one, other], {"a": original, "b": empty}, 0),
        ([one, reference_of(posed(*POSES[1]), "b")], {"a": original, "b": moved}, 1),
    ):
        step = ProfileStep(EMBEDDER, picture.__getitem__)
        blank = read_profile(step(pair)).left_out[1]  # held against the printed one
        assert (blank.registered, blank.compared) == (wanted, 1)
        assert set(blank.placed) == (PLACED if wanted else set())


def entry(registered: int, compared: int, **scores: float) -> LeftOut:
    placed = {name: value for name, value in scores.items() if name in PLACED}
    free = {name: value for name, value in scores.items() if name in ANYWHERE}
    return LeftOut(placed, free, registered, compared, 0.1)


@pytest.mark.parametrize(
    ("registered", "form", "reliable"),
    [
        ((0, 0, 0, 0), False, False), ((1, 1, 0, 0), False, False), ((1, 1, 1, 1), True, False),
        ((2, 2, 2, 0), True, False), ((2, 2, 2, 2), True, False), ((2, 2, 2, 3), True, True),
        ((3, 3, 3, 0), True, False), ((3, 3, 3, 3), True, True),
        ((1, 1, 1, 0, 0), False, False), ((2, 2, 2, 1, 1, 1, 2, 2, 2, 1, 1, 0), True, False),
        ((2, 2, 2, 1, 1, 1, 2, 2, 2, 1, 0, 0), False, False),  # cookies, some photographed twice
    ],
)  # fmt: skip
def test_a_form_shows_in_most_pairs_or_in_some_pair_of_nearly_every_reference(
    registered, form: bool, reliable: bool
) -> None:
    profile = Profile(tuple(entry(n, 3) for n in registered))
    assert (profile.has_form, profile.reliable) == (form, reliable)


# The record


def test_the_record_comes_back_as_the_same_profile() -> None:
    record = flat_record()
    assert record.kind == STEP
    again = unpack(pack(record), where="here")
    assert read_profile(again) == read_profile(record)
    assert again.digest() == record.digest()
    stored = [v for e in read_profile(again).left_out for v in (*e.placed.values(), e.distance)]
    assert all(math.isfinite(value) for value in stored)
    assert all(value == float(f"{value:.5g}") for value in stored)


def test_two_threads_give_the_same_digest_as_one() -> None:
    assert learned(flat(), threads=2).digest() == flat_record().digest()


def test_the_fingerprint_is_that_of_the_step_and_not_of_its_pictures() -> None:
    one = ProfileStep(EMBEDDER, lambda name: b"")
    other = ProfileStep(fake_embedder(size_px=64), lambda name: b"x", threads=2)
    assert one.fingerprint == other.fingerprint


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {"left_out": None},
        {"left_out": [{"placed": {}}]},
        {"left_out": [{**vars(entry(1, 1)), "more": 1}]},
        {"left_out": [7]},
    ],
)
def test_a_record_that_is_no_profile_is_damage(meta) -> None:
    with pytest.raises(DamagedGallery, match="profile"):
        read_profile(Record(STEP, meta, {}))


# Nulls


PROFILE = Profile((
    entry(2, 2, product=1.0, missing=10.0, anywhere=4.0),
    entry(2, 2, product=2.0, missing=14.0, anywhere=5.0),
    entry(0, 2, anywhere=9.0),
))  # fmt: skip


def test_raw_scores_are_collected_by_channel_and_one_can_be_left_out() -> None:
    assert PROFILE.raw() == {
        "product": [1.0, 2.0], "missing": [10.0, 14.0], "anywhere": [4.0, 5.0, 9.0],
    }  # fmt: skip
    assert PROFILE.raw(without=1) == {"product": [1.0], "missing": [10.0], "anywhere": [4.0, 9.0]}


@pytest.mark.parametrize(("gliding", "turns"), [(0, False), (1, False), (2, True), (9, True)])
def test_a_product_turns_if_print_went_round_it_between_two_in_ten(
    gliding: int, turns: bool
) -> None:
    scores = {"product": (2.0, 3.0), "novel": (1.0, 4.0), "detail": (3.0, 3.5)}
    counted = [(10, gliding), (0, 0)]
    entries = [
        replace(entry(1, 1, anywhere=1.0, **{k: v[n] for k, v in scores.items()}), laid=laid,
                gliding=glides)
        for n, (laid, glides) in enumerate(counted)
    ]  # fmt: skip
    profile = Profile(tuple(entries))
    assert profile.turns is turns
    assert profile.kind(placed=True) == ("turning" if turns else "placed")
    assert profile.kind(placed=False) == "anywhere"
    # What it says if it turns is what is left without places, by one reference's five per cent.
    turning = profile.null_scores({}, kind="turning")
    np.testing.assert_allclose(turning, [(1 - 4) / (4 * 0.05 * 1.2), (4 - 1) / (0.05 * 1.2)])
    placed = profile.null_scores({}, kind="placed")
    assert len(placed) == (0 if turns else 2)
    assert turns or placed[1] > turning[1]


def test_each_reference_is_scored_under_nulls_that_it_had_no_part_in() -> None:
    # By hand: the others' mean, 1.5 times their spread (5 % of the mean where there is only one).
    first = max((1 - 2) / 0.15, (10 - 14) / 1.05)  # nothing above pristine: the highest
    second = (((2 - 1) / 0.075) ** 4 + ((14 - 10) / 0.75) ** 4) ** 0.25
    found = PROFILE.null_scores({}, kind="placed")
    np.testing.assert_allclose(found, [first, second], rtol=1e-5)  # the third was never placed
    assert found.dtype == np.float32
    rest = [
        (a - np.mean([b, c])) / max(np.std([b, c], ddof=1), 0.05 * np.mean([b, c]))
        for a, b, c in ((4, 5, 9), (5, 4, 9), (9, 4, 5))
    ]
    np.testing.assert_allclose(PROFILE.null_scores({}, kind="anywhere"), rest, rtol=1e-5)


def test_a_new_picture_is_searched_in_one_reference_more_than_each_of_them_was() -> None:
    new, left_out = PROFILE.nulls({}), PROFILE.nulls({}, without=1)
    assert new["anywhere"].centre == pytest.approx(6.0 * (2 / 3) ** 0.2)
    assert new["product"].centre == pytest.approx(1.5)  # in place, one more doesn't show
    assert left_out["anywhere"].centre == pytest.approx(6.5)


def test_spreads_count_most_where_pictures_differ_most_from_references() -> None:
    names = ("product", "outline", "surroundings", "around", "absent")
    priors = dict.fromkeys(names, Prior(1.0, 0.6, 0.8))
    spreads = {name: null.spread for name, null in Profile(()).nulls(priors).items()}
    assert spreads == pytest.approx(
        {"product": 1.5, "outline": 1.0, "surroundings": 1.5, "around": 4.0, "absent": 2.0}
    )


@pytest.mark.parametrize(
    ("centre", "factor"), [(-3.0, 0.6), (math.log(1 / 3), 0.6), (-0.5493, 0.8), (0.0, 1.0), (1, 1)]
)
def test_bends_of_stiff_products_count_for_more(centre: float, factor: float) -> None:
    (bend,) = Profile(()).nulls({"bend": Prior(centre, 0.3, 0.4)}).values()
    assert bend.spread == pytest.approx(0.5 * factor, rel=1e-3)


def test_what_a_single_reference_has_nowhere_counts_for_less() -> None:
    prior = {"novel": Prior(1.0, 0.6, 0.8)}
    one, two = Profile(()), Profile((entry(1, 1, novel=1.0), entry(1, 1, novel=1.0)))
    assert one.nulls(prior)["novel"].spread == pytest.approx(2.0)
    own = fit_null([1.0, 1.0], prior["novel"])
    assert own is not None
    assert two.nulls(prior)["novel"].spread == pytest.approx(1.2 * own.spread)


def test_channels_whose_pristine_pictures_reach_far_have_a_heavy_tail() -> None:
    priors = dict.fromkeys(("product", "bend", "rim", "detail"), Prior(1.0, 0.6, 0.8))
    tails = {name: null.tail for name, null in Profile(()).nulls(priors).items()}
    assert tails == {"product": 1.0, "bend": 0.5, "rim": 0.6, "detail": 0.35}


def test_a_prior_speaks_for_channels_that_were_left_with_no_value() -> None:
    one = Profile((entry(1, 1, product=3.0),))
    assert one.null_scores({}, kind="placed").shape == (0,)
    prior = {"product": Prior(1.0, 0.6, 0.8)}
    np.testing.assert_allclose(one.null_scores(prior, kind="placed"), [2 / 1.5], rtol=1e-6)


def test_nulls_hold_every_channel_that_has_a_value_or_a_prior() -> None:
    nulls = PROFILE.nulls({"absent": Prior(1.0, 3.0, 4.0), "product": Prior(4.5, 0.5, 1.0)})
    assert list(nulls) == ["absent", "anywhere", "missing", "product"]
    assert nulls["missing"].centre == pytest.approx(12.0)
    assert nulls["product"].centre == pytest.approx((1 + 2 + 4.5) / 3)


def test_pristine_references_of_a_product_score_within_reach_of_each_other() -> None:
    """Real evidence, not only made-up numbers: each left-out score is finite, and none is wild."""
    for kind in ("placed", "anywhere"):
        found = read_profile(flat_record()).null_scores({}, kind=kind)
        assert len(found) == 4
        assert np.isfinite(found).all()


# Who is compared


def unit(degrees: float) -> np.ndarray:
    angle = math.radians(degrees)
    return np.array([math.cos(angle), math.sin(angle)], np.float32)


def test_the_nearest_rows_come_in_ascending_order_and_are_four_at_most() -> None:
    vectors = np.stack([unit(a) for a in (80, 5, 60, 10, 40, 1, 20)])
    assert MOST_COMPARED == 4
    assert nearest_rows(unit(0), vectors) == [1, 3, 5, 6]
    assert nearest_rows(unit(90), vectors) == [0, 2, 4, 6]
    assert nearest_rows(unit(0), vectors[:3]) == [0, 1, 2]


def test_of_equally_near_rows_the_first_are_taken() -> None:
    vectors = np.stack([unit(a) for a in (50, 30, 30, 30, 30, 30, 0)])
    assert nearest_rows(unit(0), vectors) == [1, 2, 3, 6]
    many = np.stack([unit(50 if row % 3 else 30) for row in range(300)])
    assert nearest_rows(unit(0), many) == [0, 3, 6, 9]


@pytest.mark.parametrize("seed", range(5))
def test_the_nearest_rows_equal_a_search_by_hand(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(9, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    gaps = [float(np.linalg.norm(vector.astype(float) - vectors[0])) for vector in vectors]
    wanted = sorted(sorted(range(9), key=lambda row: gaps[row])[:4])
    assert nearest_rows(vectors[0], vectors) == wanted


def test_the_nearest_references_keep_their_own_order() -> None:
    references = [reference_of(posed(*pose), f"r{n}") for n, pose in enumerate(POSES)]
    odd = [reference_of(scattered(n), f"odd{n}") for n in range(2)]
    vector = references[0].vector
    among = [odd[0], references[3], references[0], odd[1], references[1], references[2]]
    rows = nearest_rows(vector, np.stack([r.vector for r in among]))
    assert [r.reference_id for r in nearest(vector, among)] == [
        among[row].reference_id for row in rows
    ]
    assert "r0" in [r.reference_id for r in nearest(vector, among)]
