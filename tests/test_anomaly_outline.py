"""Outlines against references whose motion and dents are known."""

from __future__ import annotations

import math
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from anomaly.outline import compare_outlines, draw_outline
from embeddings.foreground import Foreground
from embeddings.registration import transform

SIZE = (400, 600)  # of the query
BOX = (220.0, 140.0, 400.0, 260.0)  # x0 y0 x1 y1 of the pristine product in the query


def polygon(points: list[tuple[float, float]], size: tuple[int, int] = SIZE) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    cv2.fillPoly(mask, [np.rint(np.array(points)).astype(np.int32)], 1)
    return mask > 0


def carton(dent_px: float = 0.0, bulge_px: float = 0.0) -> np.ndarray:
    x0, y0, x1, y1 = BOX
    middle = [(x0 + 60, y1), (x0 + 80, y1 - dent_px + bulge_px), (x0 + 100, y1)]
    return polygon([(x0, y0), (x1, y0), (x1, y1), *reversed(middle), (x0, y1)])


def reference(
    *, turn_deg: float = 0.0, scale: float = 1.0, confidence: float = 1.0, mask: object = None
) -> tuple[object, object]:
    """A pristine reference whose picture is the query turned and scaled, and its pairing."""
    angle = math.radians(turn_deg)
    height, width = round(SIZE[0] * scale), round(SIZE[1] * scale)
    forward = scale * np.array(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    there = np.eye(3)
    there[:2, :2] = forward
    there[:2, 2] = np.array([width / 2, height / 2]) - forward @ [SIZE[1] / 2, SIZE[0] / 2]
    whole = carton() if mask is None else mask
    drawn = cv2.warpAffine(np.asarray(whole, np.uint8), there[:2], (width, height)) > 0
    found = SimpleNamespace(
        foreground=Foreground(drawn, confidence, "estimated"),
        patches=SimpleNamespace(image_size=(height, width)),
    )
    return found, SimpleNamespace(registration=SimpleNamespace(matrix=np.linalg.inv(there)))


def compared(mask: np.ndarray, references: list, confidence: float = 1.0):
    ground = Foreground(mask, confidence, "estimated")
    return compare_outlines(ground, references, picture_size=SIZE)


@pytest.mark.parametrize(("turn", "scale"), [(0, 1.0), (10, 1.0), (-25, 0.7), (90, 0.6)])
def test_a_pristine_outline_lies_on_its_references(turn: float, scale: float) -> None:
    found = compared(carton(), [reference(turn_deg=turn, scale=scale)])
    assert found is not None
    assert math.exp(found.score) < 0.012  # a pixel and a half of 147
    assert found.share > 0.95


@pytest.mark.parametrize("how", ["dent_px", "bulge_px"])
def test_the_depth_of_a_dent_is_measured_in_product_sizes(how: str) -> None:
    size = math.sqrt(carton().sum())
    found = compared(carton(**{how: 5.0}), [reference(turn_deg=10)])
    assert found is not None
    assert found.off.max() == pytest.approx(5 / size, abs=1.5 / size)
    deepest = found.points_xy[found.off.argmax()]
    assert np.hypot(*(deepest - [BOX[0] + 80, BOX[3]])) < 20


def test_the_depth_does_not_depend_on_the_camera() -> None:
    near = compared(carton(15.0), [reference(scale=1.0)])
    far = compared(carton(15.0), [reference(scale=0.5)])
    assert near is not None
    assert far is not None
    assert near.score == pytest.approx(far.score, abs=0.15)


def test_what_lies_far_off_counts_no_more_than_a_deep_dent() -> None:
    beside = carton() | polygon([(400, 180), (500, 180), (500, 240), (400, 240)])
    found = compared(beside, [reference()])
    assert found is not None
    assert found.off.max() == pytest.approx(0.05)
    assert found.score == pytest.approx(math.log(0.05))


def test_any_pristine_reference_explains_an_outline() -> None:
    open_flap = carton(bulge_px=15.0)
    found = compared(open_flap, [reference(), reference(mask=open_flap)])
    assert found is not None
    assert math.exp(found.score) < 0.01


def test_masks_that_are_not_trusted_say_nothing() -> None:
    assert compared(carton(), [reference()], confidence=0.4) is None
    assert compared(carton(), [reference(confidence=0.4)]) is None
    assert compared(carton(), []) is None
    assert compared(np.zeros(SIZE, bool), [reference()]) is None


def test_what_the_picture_cuts_off_is_no_dent() -> None:
    shifted = np.zeros_like(carton())
    shifted[:, :480] = carton()[:, 120:]  # now at x 100
    cut = np.zeros_like(shifted)
    cut[:, :430] = shifted[:, 170:]  # the left 70 px of the product lie outside
    matrix = np.eye(3)
    matrix[0, 2] = -290  # px from reference to query
    held, pairing = reference()
    pairing.registration.matrix = matrix
    found = compared(cut, [(held, pairing)])
    assert found is not None
    assert math.exp(found.score) < 0.012
    assert (found.points_xy[:, 0] > 5).all()


def test_the_map_holds_the_largest_distance_of_each_cell() -> None:
    found = compared(carton(15.0), [reference()])
    assert found is not None
    shape = (25, 38)
    cells = transform(np.diag([1 / 16, 1 / 16, 1.0]), found.points_xy)
    drawn = draw_outline(found, cells, shape)
    assert drawn.shape == shape
    assert np.nanmax(drawn) == pytest.approx(math.log(found.off.max()))
    assert np.isnan(drawn[0]).all()
    rows, columns = np.rint(cells[:, ::-1]).astype(int).T
    assert np.isfinite(drawn[rows, columns]).all()
    off = draw_outline(found, cells - 1000, shape)
    assert np.isnan(off).all()
