"""Bent print, against pictures that are bent by known amounts."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from test_anomaly_detail import SIZE, moved, picture, reference_of, shifted, view_of

from anomaly.bend import Bends, compare_bends
from anomaly.matched import lay_upon
from anomaly.results import View

DENT = (96, 72)  # x, y


def dented(image: np.ndarray, px: float) -> np.ndarray:
    """Print displaced by up to `px` to the right around a place: what a dent shows from above."""
    y, x = np.indices(SIZE, dtype=np.float32)
    push = px * np.exp(-((x - DENT[0]) ** 2 + (y - DENT[1]) ** 2) / (2 * 12.0**2))
    return cv2.remap(image, x - push.astype(np.float32), y, cv2.INTER_CUBIC)


def bends(query: np.ndarray, view: View | None = None) -> Bends:
    matched = lay_upon(query, view or view_of(query), [(reference_of(picture()), moved())])
    assert matched is not None
    found = compare_bends(matched)
    assert found is not None
    return found


def test_straight_print_has_not_moved() -> None:
    assert bends(picture()).score < 0.15


@pytest.mark.parametrize("px", [1.5, 3.0])
def test_a_dent_is_measured_in_pixels_where_it_is(px: float) -> None:
    found = bends(dented(picture(), px))
    assert 0.3 * px < found.score < 1.2 * px
    row, column = np.unravel_index(np.nanargmax(found.moved), found.moved.shape)
    assert abs(row - DENT[1] / 8) <= 3
    assert abs(column - DENT[0] / 8) <= 3


def test_a_larger_dent_scores_higher() -> None:
    scores = [bends(dented(picture(), px)).score for px in (0.0, 1.0, 2.0, 3.0)]
    assert scores == sorted(scores)


def test_what_an_affine_motion_explains_is_no_bend() -> None:
    turned = cv2.warpAffine(
        picture(), cv2.getRotationMatrix2D((96, 72), 0.8, 1.01), SIZE[::-1],
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    assert bends(turned).score < 0.3
    assert bends(shifted(picture(), 1.2, -0.7)).score < 0.3


def test_another_light_is_no_bend() -> None:
    darker = picture() * np.linspace(0.5, 1.0, SIZE[1])[None, :, None]
    assert bends(darker.astype(np.uint8)).score < 0.3


def test_the_edge_of_a_shadow_is_a_slight_bend_at_most() -> None:
    shaded = picture().astype(np.float32)
    shaded[:, :96] *= 0.6
    assert bends(shaded.astype(np.uint8)).score < 0.5 * bends(dented(picture(), 3.0)).score


def test_another_print_is_not_taken_for_a_bend() -> None:
    """Where the flow leads to something else, nothing has moved."""
    changed = picture()
    changed[56:88, 80:112] = picture(7)[56:88, 80:112]
    assert bends(changed).score < bends(dented(picture(), 3.0)).score


def test_glare_hides_bends() -> None:
    query = dented(picture(), 3.0)
    view = view_of(query)
    measured = view.measured.copy()
    measured[4:14, 6:19] = False
    found = bends(query, replace(view, measured=measured))
    assert found.score < 0.5 * bends(query).score
    assert np.isnan(found.moved[5:13, 7:18]).all()


def test_a_product_without_print_says_nothing() -> None:
    plain = np.full((*SIZE, 3), 150, np.uint8)
    matched = lay_upon(plain, view_of(plain), [(reference_of(plain), moved())])
    assert matched is not None
    assert compare_bends(matched) is None


def laid_upon(query: np.ndarray, *references: np.ndarray) -> Bends:
    pairs = [(reference_of(reference), moved()) for reference in references]
    matched = lay_upon(query, view_of(query), pairs)
    assert matched is not None
    found = compare_bends(matched)
    assert found is not None
    assert math.isfinite(found.share)
    return found


def test_what_one_of_two_references_shows_as_well_counts_half() -> None:
    straight, query = picture(), dented(picture(), 3.0)
    alone = laid_upon(query, straight).score
    assert laid_upon(query, straight, straight).score == pytest.approx(alone, rel=0.01)
    assert laid_upon(query, straight, query).score == pytest.approx(alone / 2, rel=0.25)


def test_what_references_err_on_each_its_own_way_is_no_bend() -> None:
    straight, one, other = picture(), dented(picture(), 2.5), dented(picture(), -2.5)
    apart = min(laid_upon(straight, one).score, laid_upon(straight, other).score)
    assert laid_upon(straight, one, other).score < 0.6 * apart


def test_a_product_that_is_a_guess_is_not_asked_for_bends() -> None:
    """A board in its fixture: what else lies in the picture moves by itself (`deeppcb`)."""
    query, known = dented(picture(), 3.0), reference_of(picture())
    guess = replace(known, foreground=replace(known.foreground, confidence=0.2))
    for reference, asked in ((known, True), (guess, False)):
        matched = lay_upon(query, view_of(query), [(reference, moved())])
        assert matched is not None
        assert (compare_bends(matched) is not None) == asked
