"""Products that are no plain cartons: sets on cards, a bag, a sachet and a tube."""

from __future__ import annotations

import cv2
import numpy as np

from anomaly.studio.artwork import (
    RGB,
    SUBJECTS,
    badge,
    barcode,
    brand_name,
    canvas,
    ink_on,
    lettering,
    logo,
    palette,
    photograph,
    small_print,
    stripes,
)
from anomaly.studio.cartons import LAYOUTS, Brand, carton_back, draw_brand
from anomaly.studio.face import (
    FACE_PX,
    Colour,
    Face,
    Mask,
    Product,
    Real,
    full_face,
    rounded_rectangle,
)

_UNIT_SHADOW = (5, 8)  # x and y
_UNIT_WIDTH = {"razor": 132, "battery": 92}
_UNIT_WORDS = {"razor": "razors", "battery": "cells AA"}


def blister_set(rng: np.random.Generator, *, product_id: str, unit: str, count: int) -> Product:
    """A card with `count` equal units, `unit` razor or battery, under one clear blister."""
    brand = draw_brand(rng)
    height, width = FACE_PX, int(FACE_PX * rng.uniform(0.74, 0.84))
    card = _card(rng, brand, height, width, words=f"{count} {_UNIT_WORDS[unit]}")
    pixels, coverage = (_razor if unit == "razor" else _battery)(rng, brand)
    pitch = (width - 50) / count
    top = int(0.36 * height)
    places = [(int(25 + pitch * (i + 0.5) - pixels.shape[1] / 2), top + 30) for i in range(count)]
    box = (20, top, width - 40, pixels.shape[0] + 60)
    empty = _blister(_cavities(card, coverage, places), box)
    full = _filled(card, pixels, coverage, places=places, box=box)
    masks = tuple(_unit_mask(coverage, place, (height, width)) for place in places)
    back = full_face(carton_back(rng, brand, height, width), corner_px=14)
    alpha = rounded_rectangle((height, width), corner_px=22)
    cv2.circle(alpha, (width // 2, 34), 17, 0.0, -1, cv2.LINE_AA)
    # A stream of its own: the set is the same with or without strangers.
    swaps = _strangers(rng.spawn(1)[0], card, alpha, unit=unit, places=places, box=box)
    front = Face(full, alpha, masks, empty, swaps)
    return Product(product_id, f"{unit} set", {"front": front, "back": back}, gloss=0.7)


def _strangers(
    rng: np.random.Generator,
    card: Colour,
    alpha: Real,
    *,
    unit: str,
    places: list[tuple[int, int]],
    box: tuple[int, int, int, int],
) -> tuple[Face, ...]:
    """The front with units of another brand, and with units of another kind."""
    faces, own_px = [], _UNIT_WIDTH[unit]
    for kind in ("razor", "battery"):
        pixels, coverage = (_razor if kind == "razor" else _battery)(rng, draw_brand(rng))
        if kind == unit:  # its colour differs as much as its brand
            pixels = np.ascontiguousarray(pixels[..., ::-1])
        scale = min(1.0, own_px / coverage.shape[1])
        if scale < 1:
            small = (own_px, int(coverage.shape[0] * scale))
            pixels, coverage = (
                cv2.resize(layer, small, interpolation=cv2.INTER_AREA)
                for layer in (pixels, coverage)
            )
        shift = (own_px - coverage.shape[1]) // 2
        moved = [(left + shift, top) for left, top in places]
        colour = _filled(card, pixels, coverage, places=moved, box=box)
        shape = (card.shape[0], card.shape[1])
        faces.append(Face(colour, alpha, tuple(_unit_mask(coverage, at, shape) for at in moved)))
    return tuple(faces)


def _filled(
    card: Colour,
    pixels: Colour,
    coverage: Real,
    *,
    places: list[tuple[int, int]],
    box: tuple[int, int, int, int],
) -> Colour:
    """The card with a unit at each place, under the blister in the box."""
    full = card
    for place in places:
        full = _laid(full, pixels, coverage, place)
    return _blister(full, box)


def _card(rng: np.random.Generator, brand: Brand, height: int, width: int, *, words: str) -> Colour:
    ground, second, accent = brand.colours
    sheet = canvas(height, width, ground)
    stripes(rng, sheet, rows=(int(0.3 * height), int(0.34 * height)), colours=(second, accent))
    picture = photograph(rng, brand.picture, height=150, width=width, tint=second)
    sheet[height - 150 :] = picture
    ink = ink_on(ground)
    box = (30, 62, width - 60, int(0.15 * height))
    lettering(sheet, brand.name, box=box, ink=ink, face=brand.font)
    lettering(sheet, words, box=(30, 178, width - 200, 30), ink=ink, face=cv2.FONT_HERSHEY_DUPLEX)
    badge(rng, sheet, centre=(width - 76, height - 96), radius=58, colour=accent)
    small_print(rng, sheet, box=(20, height - 48, width // 2, 40), ink=(250, 250, 250))
    return sheet


def _razor(rng: np.random.Generator, brand: Brand) -> tuple[Colour, Real]:
    """A razor's head and handle, (h, w, 3), and its coverage."""
    height, width = 270, _UNIT_WIDTH["razor"]
    tint = np.array(brand.colours[1], np.float32)
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :, None]
    handle = tint * (0.45 + 0.7 * np.exp(-((x + 0.1) ** 2) / 0.02))
    sheet = np.broadcast_to(handle, (height, width, 3)).clip(0, 255).astype(np.uint8).copy()
    cover = np.zeros((height, width), np.uint8)
    cv2.rectangle(cover, (4, 4), (width - 5, 74), 255, -1)
    outline = [[52, 74], [80, 74], [86, 120], [76, 190], [84, 264], [48, 264], [56, 190], [46, 120]]
    cv2.fillPoly(cover, [np.array(outline, np.int32)], 255, cv2.LINE_AA)
    sheet[4:75] = (46, 48, 54)
    for row in range(14, 60, 15):
        cv2.rectangle(sheet, (12, row), (width - 13, row + 7), (206, 212, 220), -1)
        cv2.line(sheet, (12, row), (width - 13, row), (252, 252, 255), 2)
        cv2.line(sheet, (12, row + 8), (width - 13, row + 8), (12, 12, 14), 2)
    sheet[64:75] = brand.colours[2]
    for row in range(196, 250, 12):
        cv2.line(sheet, (52, row), (80, row), (30, 30, 34), 4, cv2.LINE_AA)
    return sheet, np.asarray(cover / 255, dtype=np.float32)


def _battery(rng: np.random.Generator, brand: Brand) -> tuple[Colour, Real]:
    """A round cell seen from the side, (h, w, 3), and its coverage."""
    height, width = 270, _UNIT_WIDTH["battery"]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :, None]
    shade = 0.35 + 0.75 * np.sqrt(np.clip(1 - x**2, 0, 1)) + 0.3 * np.exp(-((x + 0.4) ** 2) / 0.02)
    flat = canvas(height, width, (30, 30, 34))
    flat[:100] = (206, 142, 66)
    side = canvas(width, height, (30, 30, 34))
    lettering(
        side,
        brand.name,
        box=(10, 24, 160, 44),
        ink=brand.colours[2],
        face=cv2.FONT_HERSHEY_DUPLEX,
    )
    flat[100:] = np.rot90(side)[100:]
    flat[96:104] = (236, 236, 230)
    flat[:18] = (190, 190, 194)
    sheet = (flat * shade).clip(0, 255).astype(np.uint8)
    cover = np.zeros((height, width), np.float32)
    cover[16:] = rounded_rectangle((height - 16, width), corner_px=8)
    cover[:18, width // 2 - 17 : width // 2 + 17] = 1
    return sheet, np.asarray(cover, dtype=np.float32)


def _placed(coverage: Real, place: tuple[int, int], shape: tuple[int, int]) -> Real:
    whole = np.zeros(shape, np.float32)
    left, top = place
    whole[top : top + coverage.shape[0], left : left + coverage.shape[1]] = coverage
    return whole


def _unit_shadow(whole: Real) -> Real:
    shift = np.array([[1, 0, _UNIT_SHADOW[0]], [0, 1, _UNIT_SHADOW[1]]], np.float32)
    moved = cv2.warpAffine(whole, shift, whole.shape[::-1])
    shadow: Real = cv2.GaussianBlur(moved, (0, 0), 4)
    return shadow


def _laid(sheet: Colour, pixels: Colour, coverage: Real, place: tuple[int, int]) -> Colour:
    shape = (sheet.shape[0], sheet.shape[1])
    whole = _placed(coverage, place, shape)
    layer = np.zeros_like(sheet)
    left, top = place
    layer[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    under = sheet * (1 - 0.5 * _unit_shadow(whole))[..., None]
    return (under * (1 - whole[..., None]) + layer * whole[..., None]).astype(np.uint8)


def _unit_mask(coverage: Real, place: tuple[int, int], shape: tuple[int, int]) -> Mask:
    whole = _placed(coverage, place, shape)
    hollow = cv2.dilate(whole, np.ones((19, 19), np.uint8)) > 0
    return np.asarray((whole > 0) | (_unit_shadow(whole) > 0.03) | hollow, dtype=np.bool_)


def _cavities(card: Colour, coverage: Real, places: list[tuple[int, int]]) -> Colour:
    """The bare card with the hollows where units sit: shaded on one side, lit on the other."""
    sheet = card.astype(np.float32)
    for place in places:
        whole = cv2.GaussianBlur(_placed(coverage, place, card.shape[:2]), (0, 0), 2.5)
        slope = cv2.Sobel(whole, cv2.CV_32F, 1, 0) + cv2.Sobel(whole, cv2.CV_32F, 0, 1)
        sheet *= (1 - 0.12 * whole - np.clip(slope * 0.55, -0.45, 0.45))[..., None]
    return sheet.clip(0, 255).astype(np.uint8)


def _blister(sheet: Colour, box: tuple[int, int, int, int]) -> Colour:
    """A clear shell over the (left, top, width, height) box: a bright rim and two reflections."""
    left, top, width, height = box
    layer = np.zeros(sheet.shape[:2], np.float32)
    shell = rounded_rectangle((height, width), corner_px=30)
    inner = cv2.GaussianBlur(shell, (0, 0), 5)
    x = np.arange(width)[None, :] + 0.45 * np.arange(height)[:, None]
    streaks = np.exp(-(((x - 0.32 * width) / 22) ** 2)) + 0.6 * np.exp(
        -(((x - 0.9 * width) / 12) ** 2)
    )
    rim = np.clip(shell - inner, 0, 1) * 0.8
    layer[top : top + height, left : left + width] = shell * (0.05 + 0.16 * streaks) + rim
    return (sheet + (255 - sheet) * layer[..., None]).clip(0, 255).astype(np.uint8)


def bag(rng: np.random.Generator, *, product_id: str) -> Product:
    """A soft bag: bulging shade, crimped seams, print that wanders between photographs."""
    brand = draw_brand(rng)
    height, width = FACE_PX, int(FACE_PX * rng.uniform(0.68, 0.8))
    faces = {}
    for side in ("front", "back"):
        if side == "front":
            sheet = LAYOUTS[int(rng.integers(len(LAYOUTS)))](rng, brand, height, width)
        else:
            sheet = carton_back(rng, brand, height, width)
        faces[side] = _pillow(rng, sheet, seam_px=30)
    return Product(product_id, "bag", faces, softness=4.0, gloss=0.8)


def sachet(rng: np.random.Generator, *, product_id: str) -> Product:
    """A small flat pouch of foil with wide seams all round."""
    brand = draw_brand(rng)
    height, width = int(FACE_PX * rng.uniform(0.62, 0.72)), FACE_PX
    sheet = LAYOUTS[int(rng.choice([0, 2, 3]))](rng, brand, height, width)
    back = carton_back(rng, brand, height, width)
    faces = {"front": _pillow(rng, sheet, seam_px=44), "back": _pillow(rng, back, seam_px=44)}
    return Product(product_id, "sachet", faces, softness=2.0, gloss=0.9)


def _pillow(rng: np.random.Generator, sheet: Colour, *, seam_px: int) -> Face:
    """A filled pouch: lit top left, dark at its flanks, seams crimped at top and bottom."""
    height, width = sheet.shape[:2]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    shade = 1.06 - 0.30 * x**4 - 0.16 * y**6 - 0.06 * (x + y)
    rows = np.arange(height)[:, None]
    seam = (rows < seam_px) | (rows >= height - seam_px)
    crimps = 0.9 + 0.16 * np.sin(rows * 2 * np.pi / 9)
    shade = np.where(seam, crimps, shade)
    shade[seam_px - 2 : seam_px + 2] *= 0.72
    shade[height - seam_px - 2 : height - seam_px + 2] *= 0.72
    columns = np.arange(width)
    teeth = 5 * np.abs(((columns / 12) % 1) - 0.5) * 2
    inset = 9 * np.cos(np.pi * y[:, 0] / 2) ** 2 * rng.uniform(0.6, 1.2)  # the flanks draw in
    alpha = np.minimum(rows - teeth[None], (height - 1 - rows) - teeth[None])
    flank = np.minimum(columns[None] - inset[:, None], width - 1 - columns[None] - inset[:, None])
    alpha = np.clip(np.minimum(alpha, flank) + 0.5, 0, 1).astype(np.float32)
    return Face((sheet * shade[..., None]).clip(0, 255).astype(np.uint8), alpha)


def tube(rng: np.random.Generator, *, product_id: str) -> Product:
    """A lying tube: a cylinder's shading, a crimped end, a ribbed cap."""
    name, colours = brand_name(rng), palette(rng)
    picture = str(rng.choice(sorted(SUBJECTS)))
    height, width = int(FACE_PX * rng.uniform(0.36, 0.42)), FACE_PX
    faces = {}
    for side in ("front", "back"):
        sheet = canvas(height, width, colours[0] if side == "front" else colours[1])
        (_tube_front if side == "front" else _tube_back)(rng, sheet, name, colours, picture)
        faces[side] = _cylinder(sheet, cap=colours[1] if side == "front" else colours[0])
    return Product(product_id, "tube", faces, gloss=0.5)


def _tube_front(
    rng: np.random.Generator,
    sheet: Colour,
    name: str,
    colours: tuple[RGB, RGB, RGB],
    picture: str,
) -> None:
    height = sheet.shape[0]
    ground, second, accent = colours
    photo = photograph(rng, picture, height=height, width=190, tint=second)
    sheet[:, 60:250] = photo
    sheet[:, 250:262] = accent
    box = (280, int(0.2 * height), 290, int(0.34 * height))
    lettering(sheet, name, box=box, ink=ink_on(ground), face=cv2.FONT_HERSHEY_TRIPLEX)
    words = SUBJECTS[picture][1]
    box = (280, int(0.6 * height), 200, 30)
    lettering(sheet, words, box=box, ink=ink_on(ground), face=cv2.FONT_HERSHEY_DUPLEX)
    logo(rng, sheet, centre=(540, int(0.68 * height)), radius=34, colour=accent)


def _tube_back(
    rng: np.random.Generator,
    sheet: Colour,
    name: str,
    colours: tuple[RGB, RGB, RGB],
    picture: str,
) -> None:
    height = sheet.shape[0]
    ink = ink_on(colours[1])
    box = (70, int(0.16 * height), 280, int(0.2 * height))
    lettering(sheet, name, box=box, ink=ink, face=cv2.FONT_HERSHEY_DUPLEX)
    small_print(rng, sheet, box=(70, int(0.42 * height), 290, int(0.42 * height)), ink=ink)
    barcode(rng, sheet, box=(390, int(0.25 * height), 180, int(0.5 * height)))
    sheet[:, 372:380] = colours[2]


def _cylinder(sheet: Colour, *, cap: RGB) -> Face:
    """Round the sheet along its rows, tapering to a flat crimp at the left, capped at the right."""
    height, width = sheet.shape[:2]
    start = width - 118
    sheet[:, start:] = cap
    columns, rows = np.arange(width)[None, :], np.arange(height)[:, None]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    shade = (
        0.34 + 0.72 * np.sqrt(np.clip(1 - y**2, 0, 1)) + 0.30 * np.exp(-((y + 0.42) ** 2) / 0.02)
    )
    shade = np.broadcast_to(shade, (height, width)).copy()
    shade[:, start:] *= 0.88 + 0.2 * (np.sin(np.arange(width - start) * 2 * np.pi / 10) > 0)
    shade[:, start - 5 : start] *= 0.5
    shade[:, :44] = 0.86 + 0.14 * np.sin(np.arange(44) * 2 * np.pi / 8)
    shade[:, 42:48] *= 0.7
    ends = rounded_rectangle((height, width), corner_px=10)
    cap_inset = np.where(columns >= start, 0.10 * height, 0)
    body = np.minimum(rows - cap_inset, height - 1 - rows - cap_inset)
    alpha = np.minimum(ends, np.clip(body + 0.5, 0, 1)).astype(np.float32)
    return Face((sheet * shade[..., None]).clip(0, 255).astype(np.uint8), alpha)
