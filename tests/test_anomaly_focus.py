"""How much of a reference's fine detail a picture shows."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from anomaly import Inspector
from anomaly.focus import fine_detail
from anomaly.studio import Damage, Photograph

PRINT = np.ascontiguousarray(data.coffee()[:384, :512])
WHERE = np.ones((48, 64), np.bool_)


def share_of(picture: np.ndarray) -> float:
    return fine_detail(picture, PRINT, WHERE, stride=8)


def test_the_same_picture_shows_all_in_any_light_and_with_damage() -> None:
    assert share_of(PRINT) == pytest.approx(1)
    dim = np.clip(0.5 * PRINT + 40, 0, 255).astype(np.uint8)
    assert share_of(dim) == pytest.approx(1, abs=0.1)
    torn = PRINT.copy()
    torn[100:250, 150:350] = 230
    assert share_of(torn) == pytest.approx(1, abs=0.1)


def test_blur_and_few_pixels_leave_less_and_less() -> None:
    blurred = [share_of(cv2.GaussianBlur(PRINT, (0, 0), sigma)) for sigma in (0.5, 1, 2, 3)]
    assert 1 > blurred[0] > blurred[1] > blurred[2] > blurred[3] > 0
    assert blurred[2] < 0.6
    small = cv2.resize(PRINT, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    assert share_of(cv2.resize(small, (512, 384), interpolation=cv2.INTER_LINEAR)) < 0.65


def test_only_where_the_product_is() -> None:
    left = WHERE.copy()
    left[:, 32:] = False
    half = PRINT.copy()
    half[:, 256:] = cv2.GaussianBlur(PRINT, (0, 0), 3)[:, 256:]
    assert fine_detail(half, PRINT, left, stride=8) == pytest.approx(1)
    assert fine_detail(half, PRINT, ~left, stride=8) < 0.5


def test_plain_products_and_slivers_tell_nothing() -> None:
    plain = np.full_like(PRINT, 120)
    assert math.isnan(fine_detail(PRINT, plain, WHERE, stride=8))
    sliver = np.zeros_like(WHERE)
    sliver[10] = True
    assert math.isnan(fine_detail(PRINT, PRINT, sliver, stride=8))


def test_a_grid_that_ends_beyond_the_picture() -> None:
    cut = PRINT[:379, :509]
    assert fine_detail(cut, cut, WHERE, stride=8) == pytest.approx(1)


def test_what_is_out_of_focus_is_for_review(shop: Path, shoot: Callable[..., Photograph]) -> None:
    """A pristine product looks damaged all over; whether it is, a person says."""
    carton = "s0-carton-0"
    with Inspector.open(shop) as inspector:
        sharp = shoot(carton, 1).image
        blurred = cv2.GaussianBlur(sharp, (0, 0), 3)
        assert inspector.inspect(sharp, product_id=carton).verdict == "ok"
        seen = inspector.inspect(blurred, product_id=carton)
        assert (seen.verdict, seen.reason.code) == ("review", "not_sharp")
        assert seen.findings
        torn = shoot(carton, 3, damage=Damage("tear", strength=0.8)).image
        assert inspector.inspect(torn, product_id=carton).verdict == "damaged"
