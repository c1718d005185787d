"""Glare: light that is added, told from print that was always white."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from anomaly.glare import without_core, without_glare
from anomaly.looks import look_of
from anomaly.results import Pairing, View
from anomaly.view import as_it_is
from embeddings import fake_embedder, given_foreground
from embeddings.registration import Registration, transform
from gallery import CatalogRow, Reference
from gallery.describe import describe, from_record, to_record

SIZE = (144, 192)  # 18 x 24 cells of 8 px
CENTRE = (95.5, 71.5)
EMBEDDER = fake_embedder(size_px=192)


def picture(*, white: bool = False) -> np.ndarray:
    """Smooth coloured print; `white`: with a white label, rows 48 to 79, columns 64 to 95."""
    noise = np.random.default_rng(0).normal(size=(14, 18, 3)).astype(np.float32)
    smooth = cv2.resize(noise, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    image = np.clip(90 + 25 * smooth, 0, 200).astype(np.uint8)
    if white:
        image[48:80, 64:96] = 255
    return image


def lamp(image: np.ndarray, x: float, y: float, *, size_px: float = 12.0) -> np.ndarray:
    """A lamp's mirror image: white light added, clipped at its core, fading with distance."""
    rows, columns = np.indices(SIZE)
    added = 400 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * size_px**2))
    return np.clip(image + added[..., None], 0, 255).astype(np.uint8)


def reference_of(image: np.ndarray) -> Reference:
    described = describe(image, EMBEDDER, mask=np.ones(SIZE, np.bool_))
    row = CatalogRow("p", 1, 0, "r0", None, None, None, None, None, "r0")
    return from_record(to_record(row, described), described.vector)


def still(matrix: np.ndarray | None = None) -> Pairing:
    motion = np.eye(3) if matrix is None else matrix
    found = Registration(motion, "similarity", 50, 40, 0.3, 1.0, np.zeros((0, 2), np.intp), None)
    return Pairing("r0", found, 0.0, 1.0, 1.0, CENTRE)


def view_of(image: np.ndarray) -> View:
    return as_it_is(EMBEDDER.embed([image])[0])


def seen(query: np.ndarray, reference: np.ndarray) -> View:
    view = view_of(query)
    return without_glare(view, look_of(query, view), [(reference_of(reference), still())])


def test_a_lamp_s_core_and_veil_are_hidden_and_nothing_far_from_it() -> None:
    view = seen(lamp(picture(), 100, 70), picture())
    rows, columns = np.indices(view.measured.shape)
    away_px = np.hypot((columns + 0.5) * 8 - 100, (rows + 0.5) * 8 - 70)
    light = 400 * np.exp(-(away_px**2) / (2 * 12.0**2))
    assert not view.measured[light > 25].any()
    assert view.measured[away_px > 65].all()
    assert view.glare == pytest.approx(1 - view.measured.mean())


def test_the_veil_reaches_farther_than_a_halo_of_the_core_would() -> None:
    query = lamp(picture(), 100, 70, size_px=16)
    core = without_core(view_of(query), (query >= 246).all(axis=2))
    assert seen(query, picture()).glare > 1.1 * core.glare > 0


def test_print_that_is_white_in_the_reference_is_no_glare() -> None:
    assert seen(picture(white=True), picture(white=True)).measured.all()


def test_lobes_that_white_print_divides_are_one_glare() -> None:
    """A white bar, 6 px wide, lies across the lamp's image: nothing was added there."""
    barred = picture()
    barred[67:73] = 255
    view = seen(lamp(barred, 100, 70, size_px=16), barred)
    for row in (6, 10):  # above and below the bar
        assert not view.measured[row, 12]


def test_white_without_a_clipped_core_is_damage_and_stays() -> None:
    torn = picture()
    torn[60:80, 80:100] = 225
    assert seen(torn, picture()).measured.all()


@pytest.mark.parametrize("blur", [0.5, 1.5])
def test_overexposed_paper_is_damage_and_stays(blur: float) -> None:
    """As white as a lamp's core, but around it nothing is lit."""
    torn = picture()
    torn[52:92, 80:124] = 255
    torn[60:70, 80:90] = picture()[60:70, 80:90]  # ragged
    assert seen(cv2.GaussianBlur(torn, (0, 0), blur), picture()).measured.all()


def test_a_lamp_beside_overexposed_paper_is_hidden_and_the_paper_stays() -> None:
    torn = picture()
    torn[16:48, 16:56] = 255
    view = seen(lamp(torn, 120, 100), picture())
    assert not view.measured[12, 15]
    assert view.measured[2:6, 2:7].all()


@pytest.mark.parametrize(("lit", "hidden"), [(False, False), (True, True)])
def test_what_is_white_beside_a_product_is_glare_if_it_is_lit_around(
    lit: bool, hidden: bool
) -> None:
    """Contents that burst out upon a dark belt, or a lamp mirrored by a glossy one."""
    there = np.zeros(SIZE, np.bool_)
    there[:, :64] = True
    query = picture()
    if not lit:
        query[60:92, 110:150] = 255
    else:
        query = lamp(query, 130, 76)
    view, reference = view_of(query), reference_of(picture())
    reference = replace(reference, foreground=given_foreground(there))
    beside = without_glare(view, look_of(query, view), [(reference, still())])
    assert bool((~beside.measured).any()) is hidden


def veil(image: np.ndarray, x: float, y: float) -> np.ndarray:
    """A lamp's image out of focus: light is added, and nothing comes near white."""
    rows, columns = np.indices(SIZE)
    added = 70 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * 22.0**2))
    return np.clip(image + added[..., None], 0, 255).astype(np.uint8)


def test_a_veil_without_a_core_is_hidden_from_features_and_seen_through_by_pixels() -> None:
    query = veil(picture(), 100, 70)
    assert query.max() < 246
    view = seen(query, picture())
    assert not view.measured[8, 12]
    assert view.veiled is not None
    assert view.veiled[8, 12]
    assert not (view.veiled & view.measured).any()


def test_a_hole_that_shows_through_a_veil_is_looked_at() -> None:
    bright = np.clip(picture().astype(int) + 60, 0, 200).astype(np.uint8)
    holed = bright.copy()
    holed[64:80, 112:128] = 5
    for image, measured in ((bright, False), (holed, True)):
        view = seen(veil(image, 100, 70), bright)
        assert view.measured[8:10, 14:16].all() == measured
        assert not view.measured[8, 10:13].any()
        assert view.hidden is not None
        assert not (view.hidden & view.measured).any()


def _marked(colour: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """White print, and the same with a mark on it."""
    white = np.clip(picture().astype(int) + 130, 0, 230).astype(np.uint8)
    marked = white.copy()
    marked[64:80, 112:128] = colour
    return white, marked


@pytest.mark.parametrize(
    ("colour", "looked_at"),
    [
        ((170, 130, 70), True),  # coffee: light takes from no colour
        ((150, 150, 150), False),  # as a shadow would leave it
        ((30, 30, 30), True),  # a hole: so little no shadow leaves
    ],
)
def test_a_stain_that_shows_through_a_veil_is_looked_at(
    colour: tuple[int, int, int], looked_at: bool
) -> None:
    white, marked = _marked(colour)
    view = seen(veil(marked, 100, 70), white)
    assert not view.measured[8, 10:13].any()
    assert view.measured[8:10, 14:16].all() == looked_at
    assert view.measured[7, 14] == looked_at  # around it, too


def test_exposure_is_no_stain() -> None:
    """The query is darker all over; what glare leaves of the product tells by how much."""
    bright = np.clip(picture().astype(int) + 60, 0, 200).astype(np.uint8)
    view = seen(lamp((0.5 * bright).astype(np.uint8), 100, 70), bright)
    assert not view.measured[8, 10:15].any()


def test_a_shadow_within_a_veil_is_no_hole() -> None:
    bright = np.clip(picture().astype(int) + 60, 0, 200).astype(np.uint8)
    query = bright.copy()
    query[64:80, 112:128] = (0.3 * query[64:80, 112:128]).astype(np.uint8)
    view = seen(veil(query, 100, 70), bright)
    assert not view.measured[8:10, 14:16].any()


def test_nobody_sees_through_a_core() -> None:
    view = seen(lamp(picture(), 100, 70, size_px=20), picture())
    assert view.veiled is not None
    assert view.veiled.any()
    assert not view.veiled[7:10, 11:14].any()


def test_the_rim_gives_way_before_most_of_a_small_product_is_hidden() -> None:
    mask = np.zeros(SIZE, np.bool_)
    mask[44:100, 72:128] = True  # 7 x 7 cells; 3 x 3 are lit, 7 x 7 with the whole rim
    reference = replace(reference_of(picture()), foreground=given_foreground(mask))
    query = lamp(picture(), 100, 72, size_px=6)
    view = view_of(query)
    found = without_glare(view, look_of(query, view), [(reference, still())])
    left = found.measured[6:12, 9:16]
    assert not found.measured[8, 12]
    assert left.mean() >= 0.25


def test_light_all_over_is_exposure() -> None:
    over = np.clip(picture().astype(int) + 200, 0, 255).astype(np.uint8)
    assert seen(over, picture()).measured.all()


def test_a_small_product_that_is_nearly_white_all_over_is_no_lamp() -> None:
    """Clipped here and not quite there: hiding most of it would leave nothing to compare."""
    pale, query = picture(), picture()
    pale[48:96, 64:128], query[48:96, 64:128] = 200, 255
    reference = reference_of(pale)
    mask = np.zeros(SIZE, np.bool_)
    mask[44:100, 60:132] = True
    given = replace(reference, foreground=given_foreground(mask))
    view = view_of(query)
    assert without_glare(view, look_of(query, view), [(given, still())]) is view


def test_more_light_on_the_whole_picture_is_no_veil() -> None:
    """Half as bright again, and a lamp: only the lamp is hidden."""
    brighter = np.clip(picture() * 1.4, 0, 244).astype(np.uint8)
    view = seen(lamp(brighter, 100, 70), picture())
    assert not view.measured[8, 12]
    assert view.measured.mean() > 0.7


def test_references_without_a_thumbnail_hide_nothing() -> None:
    query = lamp(picture(), 100, 70)
    view, old = view_of(query), replace(reference_of(picture()), coded_thumbnail=None)
    assert without_glare(view, look_of(query, view), [(old, still())]) is view


# The core alone, where nothing is aligned


@pytest.mark.parametrize("size", [SIZE, (72, 96), (288, 384)])
def test_the_core_and_its_halo_are_hidden(size: tuple[int, int]) -> None:
    clipped = np.zeros(SIZE, np.uint8)
    clipped[64:80, 96:112] = 1  # rows 8 and 9, columns 12 and 13
    mask = cv2.resize(clipped, size[::-1], interpolation=cv2.INTER_NEAREST) > 0
    view = without_core(view_of(picture()), mask)
    assert not view.measured[8:10, 12:14].any()
    assert not view.measured[6, 12]
    assert not view.measured[9, 15]
    assert view.measured[:3].all()
    assert view.measured[15:].all()
    assert view.glare == pytest.approx(1 - view.measured.mean())


def test_a_few_clipped_pixels_hide_nothing() -> None:
    clipped = np.zeros(SIZE, np.bool_)
    clipped[70:73, 100:103] = True
    view = view_of(picture())
    assert without_core(view, clipped) is view


def test_what_is_clipped_all_over_is_exposure_and_no_glare() -> None:
    view = view_of(picture())
    assert without_core(view, np.ones(SIZE, np.bool_)) is view


def test_the_core_is_found_in_a_turned_view() -> None:
    clipped = np.zeros(SIZE, np.bool_)
    clipped[64:80, 96:112] = True
    turn = cv2.getRotationMatrix2D(CENTRE, -90, 1.0)
    matrix = np.vstack([turn, [0, 0, 1]])
    view = replace(view_of(picture()), matrix=matrix)
    (place,) = transform(matrix, np.array([[103.5, 71.5]]))
    column, row = np.rint(view.patches.cells_of(place[None])[0]).astype(int)
    assert math.isclose(np.linalg.det(matrix[:2, :2]), 1.0)
    assert not without_core(view, clipped).measured[row, column]
