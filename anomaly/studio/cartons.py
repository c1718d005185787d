"""Printed cartons: five front layouts, a back, and a front whose art looks like damage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from anomaly.studio.artwork import (
    RGB,
    SUBJECTS,
    badge,
    barcode,
    brand_name,
    canvas,
    facts_table,
    font,
    ink_on,
    lettering,
    logo,
    palette,
    photograph,
    small_print,
    stripes,
)
from anomaly.studio.damage import as_print
from anomaly.studio.face import FACE_PX, Colour, Product, full_face

_CORNER_PX = 7.0


@dataclass(frozen=True)
class Brand:
    """What all faces of one product share: its name, picture, colours (ground, second, accent)."""

    name: str
    picture: str
    colours: tuple[RGB, RGB, RGB]
    font: int


def draw_brand(rng: np.random.Generator, *, picture: str | None = None) -> Brand:
    """A random brand, with a given picture of `artwork.SUBJECTS` or a random one."""
    chosen = picture or str(rng.choice(sorted(SUBJECTS)))
    return Brand(brand_name(rng), chosen, palette(rng), font(rng))


def carton(
    rng: np.random.Generator, *, product_id: str, brand: Brand, layout: int | None = None
) -> Product:
    """A carton with a `front` in one of the layouts and a `back`."""
    front = LAYOUTS[int(rng.integers(len(LAYOUTS))) if layout is None else layout % len(LAYOUTS)]
    height, width = carton_size(rng)
    faces = {
        "front": full_face(front(rng, brand, height, width), corner_px=_CORNER_PX),
        "back": full_face(carton_back(rng, brand, height, width), corner_px=_CORNER_PX),
    }
    return Product(product_id, "carton", faces)


def carton_size(rng: np.random.Generator) -> tuple[int, int]:
    """Upright or lying, (height, width), the longest side `FACE_PX`."""
    short = int(FACE_PX * rng.uniform(0.64, 0.86))
    return (FACE_PX, short) if rng.random() < 0.65 else (short, FACE_PX)


def _paste(sheet: Colour, picture: Colour, *, left: int, top: int) -> None:
    sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture


def _signature(
    rng: np.random.Generator, sheet: Colour, brand: Brand, box: tuple[int, int, int, int], ink: RGB
) -> None:
    """Brand over subject over claim, in a (left, top, width, height) box."""
    left, top, width, height = box
    subject, claim = SUBJECTS[brand.picture]
    big = int(height * 0.52)
    outline = brand.colours[2] if rng.random() < 0.3 and ink == ink_on(brand.colours[2]) else None
    lettering(
        sheet, brand.name, box=(left, top, width, big), ink=ink, face=brand.font, outline=outline
    )
    lettering(
        sheet,
        subject,
        box=(left, top + big + 4, width, int(height * 0.25)),
        ink=ink,
        face=cv2.FONT_HERSHEY_DUPLEX,
    )
    lettering(
        sheet,
        claim,
        box=(left, top + int(height * 0.84), width, int(height * 0.15)),
        ink=ink,
        face=cv2.FONT_HERSHEY_SIMPLEX,
    )


def _hero(rng: np.random.Generator, brand: Brand, height: int, width: int) -> Colour:
    """Brand on a colour above, photograph below, a stripe between."""
    ground, second, accent = brand.colours
    sheet = canvas(height, width, ground)
    split = int(height * rng.uniform(0.38, 0.48))
    picture = photograph(rng, brand.picture, height=height - split, width=width, tint=second)
    _paste(sheet, picture, left=0, top=split)
    stripes(rng, sheet, rows=(split - 14, split + 16), colours=(second, accent))
    _signature(rng, sheet, brand, (24, 22, width - 48, split - 50), ink_on(ground))
    radius = int(0.12 * width)
    badge(rng, sheet, centre=(width - radius - 16, split + 30), radius=radius, colour=accent)
    small_print(rng, sheet, box=(16, height - 42, width // 2, 40), ink=(250, 250, 250))
    return sheet


def _split(rng: np.random.Generator, brand: Brand, height: int, width: int) -> Colour:
    """Two colours along a diagonal, the photograph in a round window."""
    ground, second, accent = brand.colours
    sheet = canvas(height, width, ground)
    high, low = rng.integers(int(0.3 * height), int(0.7 * height), 2).tolist()
    corner = np.array([[0, high], [width, low], [width, height], [0, height]], np.int32)
    cv2.fillPoly(sheet, [corner], second, cv2.LINE_AA)
    radius = int(0.29 * min(height, width) * rng.uniform(0.9, 1.1))
    centre = (int(width * rng.uniform(0.38, 0.62)), int(height * 0.60))
    picture = photograph(rng, brand.picture, height=2 * radius, width=2 * radius, tint=accent)
    window = np.zeros((height, width), np.uint8)
    cv2.circle(window, centre, radius, 255, -1)
    layer = sheet.copy()
    _paste(layer, picture, left=centre[0] - radius, top=centre[1] - radius)
    sheet = np.where(window[..., None] > 0, layer, sheet)
    cv2.circle(sheet, centre, radius, accent, 10, cv2.LINE_AA)
    box = (24, 20, width - 48, int(0.27 * height))
    _signature(rng, sheet, brand, box, ink_on(ground))
    logo(rng, sheet, centre=(70, height - 80), radius=48, colour=accent)
    box = (width - 220, height - 66, 200, 60)
    small_print(rng, sheet, box=box, ink=ink_on(second))
    return sheet


def _framed(rng: np.random.Generator, brand: Brand, height: int, width: int) -> Colour:
    """A light sheet in a striped frame, the photograph as a panel."""
    ground, second, accent = brand.colours
    sheet = canvas(height, width, (244, 241, 232))
    stripes(rng, sheet, rows=(0, 46), colours=(ground, second))
    stripes(rng, sheet, rows=(height - 46, height), colours=(second, ground))
    rows = int(height * rng.uniform(0.40, 0.48))
    picture = photograph(rng, brand.picture, height=rows, width=width - 60, tint=ground)
    _paste(sheet, picture, left=30, top=62)
    cv2.rectangle(sheet, (30, 62), (width - 31, 62 + rows), ground, 6)
    rest = height - rows - 62 - 60
    _signature(rng, sheet, brand, (40, 82 + rows, width - 80, rest - 50), ground)
    logo(rng, sheet, centre=(90, 62 + rows - 20), radius=46, colour=accent)
    small_print(rng, sheet, box=(50, height - 88, width - 100, 40), ink=(60, 60, 60))
    return sheet


def _bleed(rng: np.random.Generator, brand: Brand, height: int, width: int) -> Colour:
    """The photograph over the whole face, with bands of colour for the words."""
    ground, second, accent = brand.colours
    sheet = photograph(rng, brand.picture, height=height, width=width, tint=second)
    top, tall = int(height * rng.uniform(0.06, 0.14)), int(0.26 * height)
    sheet[top : top + tall] = ground
    sheet[top + tall : top + tall + 10] = accent
    _signature(rng, sheet, brand, (24, top + 10, width - 48, tall - 16), ink_on(ground))
    low = int(height * 0.84)
    sheet[low:, : int(0.62 * width)] = second
    box = (14, low + 8, int(0.62 * width) - 28, height - low - 12)
    small_print(rng, sheet, box=box, ink=ink_on(second))
    radius = int(0.13 * min(height, width))
    badge(rng, sheet, centre=(width - radius - 20, low - 10), radius=radius, colour=accent)
    return sheet


def _pattern(rng: np.random.Generator, brand: Brand, height: int, width: int) -> Colour:
    """Scattered shapes in two colours around a label with a photograph."""
    ground, second, accent = brand.colours
    sheet = canvas(height, width, ground)
    for _ in range(int(rng.integers(60, 110))):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        radius, colour = int(rng.integers(10, 38)), (second, accent)[int(rng.integers(2))]
        if rng.random() < 0.5:
            cv2.circle(sheet, (x, y), radius, colour, int(rng.choice([-1, 6])), cv2.LINE_AA)
        else:
            turn = rng.uniform(0, 6) + np.array([0, 2.1, 4.2])
            spike = np.stack([np.cos(turn), np.sin(turn)], 1) * radius + (x, y)
            cv2.fillPoly(sheet, [spike.astype(np.int32)], colour, cv2.LINE_AA)
    left, top = int(0.11 * width), int(0.13 * height)
    wide, tall = width - 2 * left, height - 2 * top
    sheet[top : top + tall, left : left + wide] = (248, 246, 240)
    cv2.rectangle(sheet, (left, top), (left + wide, top + tall), second, 8)
    rows = int(0.5 * tall)
    picture = photograph(rng, brand.picture, height=rows, width=wide - 40, tint=ground)
    _paste(sheet, picture, left=left + 20, top=top + tall - rows - 20)
    box = (left + 24, top + 18, wide - 48, tall - rows - 56)
    _signature(rng, sheet, brand, box, second)
    return sheet


LAYOUTS: tuple[Callable[[np.random.Generator, Brand, int, int], Colour], ...] = (
    _hero,
    _split,
    _framed,
    _bleed,
    _pattern,
)


def carton_back(rng: np.random.Generator, brand: Brand, height: int, width: int) -> Colour:
    """Small print, a table, a barcode and a second picture on the brand's other colour."""
    ground, second, accent = brand.colours
    sheet = canvas(height, width, second)
    ink = ink_on(second)
    band = int(0.14 * height)
    sheet[:band] = ground
    lettering(
        sheet,
        brand.name,
        box=(24, 14, width // 2, band - 28),
        ink=ink_on(ground),
        face=brand.font,
    )
    logo(rng, sheet, centre=(width - 70, band), radius=44, colour=accent)
    half = width // 2
    small_print(rng, sheet, box=(24, band + 56, half - 44, int(0.40 * height)), ink=ink)
    table = (half + 10, band + 64, half - 34, int(0.36 * height))
    facts_table(rng, sheet, box=table)
    low = int(0.66 * height)
    picture = photograph(rng, brand.picture, height=height - low - 28, width=half - 30, tint=ground)
    left, other = (24, half + 10) if rng.random() < 0.5 else (half + 6, 24)
    _paste(sheet, picture, left=left, top=low)
    barcode(rng, sheet, box=(other, low + 20, half - 50, int(0.20 * height)))
    stripes(rng, sheet, rows=(height - 16, height), colours=(ground, accent))
    return sheet


def damaged_looking_carton(rng: np.random.Generator, *, product_id: str) -> Product:
    """A pristine carton of a game about wrecking things: cracks, a hole and a tear are its art."""
    brand = draw_brand(rng, picture=str(rng.choice(["brick.png", "gravel.png", "rocket.jpg"])))
    height, width = FACE_PX, int(FACE_PX * rng.uniform(0.70, 0.80))
    sheet = photograph(rng, brand.picture, height=height, width=width, tint=brand.colours[0])
    sheet = (sheet * 0.75).astype(np.uint8)
    sheet = as_print(rng, sheet, kinds=("tear", "stain", "hole"))
    _shattered_screen(rng, sheet, box=(int(0.30 * width), int(0.32 * height), 230, 350))
    sheet[: int(0.2 * height)] = (20, 18, 22)
    title = str(rng.choice(["SMASH", "WRECK", "CRASH", "CRACKED"]))
    box = (20, 16, width - 40, int(0.13 * height))
    face = cv2.FONT_HERSHEY_TRIPLEX
    lettering(sheet, title, box=box, ink=(250, 206, 40), face=face)
    cracks(rng, sheet, centre=(int(0.7 * width), int(0.1 * height)), reach=150, ink=(20, 18, 22))
    lettering(
        sheet,
        f"{brand.name} THE GAME",
        box=(30, int(0.155 * height), width - 60, 22),
        ink=(240, 240, 240),
        face=cv2.FONT_HERSHEY_DUPLEX,
    )
    badge(rng, sheet, centre=(width - 74, height - 74), radius=56, colour=(250, 206, 40))
    faces = {
        "front": full_face(sheet, corner_px=_CORNER_PX),
        "back": full_face(carton_back(rng, brand, height, width), corner_px=_CORNER_PX),
    }
    return Product(product_id, "carton", faces)


def _shattered_screen(
    rng: np.random.Generator, sheet: Colour, *, box: tuple[int, int, int, int]
) -> None:
    """A telephone with a broken display in the (left, top, width, height) box."""
    left, top, width, height = box
    cv2.rectangle(sheet, (left, top), (left + width, top + height), (14, 14, 16), -1)
    cv2.rectangle(sheet, (left, top), (left + width, top + height), (120, 120, 126), 5)
    screen = sheet[top + 26 : top + height - 26, left + 14 : left + width - 14]
    rows = np.linspace(0, 1, screen.shape[0])[:, None, None]
    glass = np.array([40, 70, 120]) * (1 - rows) + np.array([14, 20, 44]) * rows
    screen[:] = np.broadcast_to(glass, screen.shape).astype(np.uint8)
    tall, wide = screen.shape[:2]
    centre = (int(wide * rng.uniform(0.3, 0.7)), int(tall * rng.uniform(0.3, 0.7)))
    cracks(rng, screen, centre=centre, reach=max(tall, wide), ink=(222, 230, 238))
    cv2.circle(screen, centre, 9, (8, 8, 10), -1, cv2.LINE_AA)


def cracks(
    rng: np.random.Generator, sheet: Colour, *, centre: tuple[int, int], reach: float, ink: RGB
) -> None:
    """Jagged rays from a point, joined by broken rings, as in struck glass."""
    turns = np.sort(rng.uniform(0, 2 * np.pi, 13))
    radii = np.cumsum(rng.uniform(0.4, 1.0, 9) * np.linspace(0.4, 1.6, 9))
    radii = radii / radii[-1] * reach
    wander = np.cumsum(rng.normal(0, 0.06, (13, 9)), axis=1) + turns[:, None]
    points = np.stack([np.cos(wander), np.sin(wander)], 2) * radii[None, :, None] + centre
    for ray in points.round().astype(np.int32):
        cv2.polylines(sheet, [np.vstack([[centre], ray])], False, ink, 2, cv2.LINE_AA)
    for ring in range(7):
        for ray in range(13):
            if rng.random() < 0.6:
                start = points[ray, ring].round().astype(int).tolist()
                end = points[(ray + 1) % 13, ring].round().astype(int).tolist()
                cv2.line(sheet, start, end, ink, 1, cv2.LINE_AA)
