"""Plain boxes that carry one printed label."""

from __future__ import annotations

import cv2
import numpy as np

from anomaly.studio.artwork import canvas
from anomaly.studio.cartons import LAYOUTS, carton_back, draw_brand
from anomaly.studio.cuts import cardboard
from anomaly.studio.face import FACE_PX, Colour, Face, Product, rounded_rectangle
from anomaly.studio.fields import fractal_noise

_CORNER_PX = 4.0
_COATINGS = ((225, 220, 210), (120, 90, 60), (60, 70, 90))


def labelled_box(rng: np.random.Generator, *, product_id: str) -> Product:
    """A shipping box of bare or coated board; its `front` has a label, which is its only unit, so
    that `missing_unit` is a box that was never labelled."""
    height, width = int(FACE_PX * rng.uniform(0.58, 0.78)), FACE_PX
    box = _box(rng, height, width)
    tall, wide = int(height * rng.uniform(0.35, 0.6)), int(width * rng.uniform(0.3, 0.5))
    left, top = (int(rng.integers(30, room - 30)) for room in (width - wide, height - tall))
    label = cv2.resize(
        _printed(rng, 2 * tall, 2 * wide), (wide, tall), interpolation=cv2.INTER_AREA
    )
    where = slice(top, top + tall), slice(left, left + wide)
    labelled, unit = box.copy(), np.zeros((height, width), np.bool_)
    labelled[where], unit[where] = label, True
    alpha = rounded_rectangle((height, width), corner_px=_CORNER_PX)
    return Product(product_id, "box", {"front": Face(labelled, alpha, (unit,), box)}, gloss=0.1)


def _box(rng: np.random.Generator, height: int, width: int) -> Colour:
    """Board, and the seam where its flaps meet."""
    if rng.random() < 0.5:
        board = cardboard(rng, (height, width), angle=0.0)
    else:
        coated = canvas(height, width, _COATINGS[int(rng.integers(len(_COATINGS)))])
        board = coated + 4 * fractal_noise(rng, (height, width), grain_px=6)[..., None]
    sheet: Colour = board.clip(0, 255).astype(np.uint8)
    seam = int(height * rng.uniform(0.47, 0.53))
    sheet[seam : seam + 3] = (0.8 * sheet[seam : seam + 3]).astype(np.uint8)
    return sheet


def _printed(rng: np.random.Generator, height: int, width: int) -> Colour:
    """A label is printed as a small carton is, front or back."""
    brand = draw_brand(rng)
    layouts = (*LAYOUTS, carton_back)
    return layouts[int(rng.integers(len(layouts)))](rng, brand, height, width)
