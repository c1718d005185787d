"""Printing: photographs, words, bars and small print that are laid on (h, w, 3) uint8 canvases.

Photographs are read from the files inside the installed scikit-image wheel; nothing is fetched.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from anomaly.errors import ConfigError
from anomaly.studio.face import Colour

RGB = tuple[int, int, int]
# What the photograph shows, and the words such a product would carry.
SUBJECTS: dict[str, tuple[str, str]] = {
    "coffee.png": ("COFFEE", "dark roast"),
    "chelsea.png": ("CAT FOOD", "with salmon"),
    "astronaut.png": ("ORBIT", "space kit"),
    "rocket.jpg": ("ROCKET", "scale model"),
    "hubble_deep_field.jpg": ("GALAXY", "1000 pieces"),
    "moon.png": ("MOONLIGHT", "night lamp"),
    "brick.png": ("BRICKS", "builder set"),
    "grass.png": ("LAWN", "seed mix"),
    "gravel.png": ("GRAVEL", "aquarium"),
    "coins.png": ("COINS", "milk choc"),
    "retina.jpg": ("VISION", "eye drops"),
    "ihc.png": ("TISSUES", "soft 3-ply"),
    "camera.png": ("FILM 400", "36 frames"),
}
_GREY = {"moon.png", "brick.png", "grass.png", "gravel.png", "coins.png", "camera.png"}
_FONTS = (
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
)
_SYLLABLES = (
    *("ka", "lo", "mi", "ra", "ven", "zu", "tor", "el", "na", "bri"),
    *("qu", "os", "fen", "da", "vi", "pol", "sa", "rex", "um", "ty"),
)
_SMALL_PRINT = (
    "sugar wheat flour palm oil cocoa salt whey powder soya lecithin natural flavour may contain "
    "traces of nuts keep dry store below 25C batch best before see lid recycle net weight made in "
    "shake well warning not for children under three wash hands after use water glycerin extract"
)


@lru_cache(maxsize=1)
def _photographs_folder() -> Path:
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("scikit-image is not installed; the studio prints its sample photographs")
    return Path(spec.submodule_search_locations[0]) / "data"


@lru_cache(maxsize=32)
def _photograph(name: str) -> Colour:
    encoded = np.fromfile(_photographs_folder() / name, np.uint8)
    pixels = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    if max(pixels.shape) > 1000:
        pixels = cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    rgb: Colour = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return rgb


def photograph(
    rng: np.random.Generator, name: str, *, height: int, width: int, tint: RGB | None = None
) -> Colour:
    """A seeded crop of one of `SUBJECTS`, (height, width, 3) uint8; grey ones take the tint."""
    source = _photograph(name)
    full = min(source.shape[0] / height, source.shape[1] / width)
    zoom = full * rng.uniform(0.62, 0.97)
    rows, columns = max(8, int(height * zoom)), max(8, int(width * zoom))
    top = int(rng.integers(0, source.shape[0] - rows + 1))
    left = int(rng.integers(0, source.shape[1] - columns + 1))
    crop = source[top : top + rows, left : left + columns]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    crop = np.ascontiguousarray(crop)
    shrink = rows > height
    resized = cv2.resize(
        crop, (width, height), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_CUBIC
    )
    if name in _GREY and tint is not None:
        return _duotone(resized, tint)
    return np.asarray(resized, dtype=np.uint8)


def _duotone(pixels: Colour, tint: RGB) -> Colour:
    level = pixels.mean(axis=2, keepdims=True) / 255
    middle = np.array(tint, np.float64)
    dark, light = middle * 0.18, 255 - (255 - middle) * 0.15
    low = dark + (middle - dark) * np.minimum(level * 2, 1)
    toned = low + (light - middle) * np.maximum(level * 2 - 1, 0)
    return np.asarray(toned.clip(0, 255), dtype=np.uint8)


def palette(rng: np.random.Generator) -> tuple[RGB, RGB, RGB]:
    """A ground colour, a contrasting second and a light accent."""
    hue = rng.uniform(0, 180)
    hues = (hue, hue + rng.choice([60.0, 90.0, 120.0]), hue + rng.uniform(20, 45))
    tones = (
        (rng.uniform(120, 235), rng.uniform(90, 215)),
        (rng.uniform(130, 230), rng.uniform(70, 200)),
        (rng.uniform(30, 110), rng.uniform(225, 255)),
    )
    hsv = np.array([[(h % 180, *tone) for h, tone in zip(hues, tones, strict=True)]], np.uint8)
    rows = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0].tolist()
    first, second, third = ((int(r), int(g), int(b)) for r, g, b in rows)
    return first, second, third


def canvas(height: int, width: int, colour: RGB) -> Colour:
    """A plain (height, width, 3) uint8 sheet."""
    return np.full((height, width, 3), colour, np.uint8)


def brand_name(rng: np.random.Generator) -> str:
    """Two or three syllables in capitals."""
    return "".join(rng.choice(_SYLLABLES, int(rng.integers(2, 4)))).upper()


def font(rng: np.random.Generator) -> int:
    """One of OpenCV's stroke fonts."""
    return int(_FONTS[int(rng.integers(len(_FONTS)))])


def ink_on(ground: RGB) -> RGB:
    """Near-black or near-white, whichever reads better on the ground."""
    light = 0.3 * ground[0] + 0.59 * ground[1] + 0.11 * ground[2] > 135
    return (24, 22, 26) if light else (250, 248, 240)


def lettering(
    sheet: Colour,
    words: str,
    *,
    box: tuple[int, int, int, int],
    ink: RGB,
    face: int,
    outline: RGB | None = None,
) -> None:
    """Write the words as large as they fit the (left, top, width, height) box, centred."""
    left, top, width, height = box
    (wide, tall), _ = cv2.getTextSize(words, face, 4.0, 8)
    scale = 4.0 * min(width / max(wide, 1), height / max(tall, 1)) * 0.94
    stroke = max(1, round(scale * 2.6))
    (wide, tall), _ = cv2.getTextSize(words, face, scale, stroke)
    at = (left + (width - wide) // 2, top + (height + tall) // 2)
    if outline is not None:
        cv2.putText(sheet, words, at, face, scale, outline, stroke + 6, cv2.LINE_AA)
    cv2.putText(sheet, words, at, face, scale, ink, stroke, cv2.LINE_AA)


def small_print(
    rng: np.random.Generator, sheet: Colour, *, box: tuple[int, int, int, int], ink: RGB
) -> None:
    """Fill the (left, top, width, height) box with lines of invented ingredients."""
    left, top, width, height = box
    # Text widths differ between OpenCV's releases: a stream of its own keeps later draws the same.
    rng = np.random.default_rng(int(rng.integers(2**62)))
    scale = rng.uniform(0.40, 0.52)
    face, words = cv2.FONT_HERSHEY_SIMPLEX, _SMALL_PRINT.split()
    for row in range(top + 14, top + height, 19):
        line = ""
        while True:
            longer = f"{line} {rng.choice(words)}".strip()
            if cv2.getTextSize(longer, face, scale, 1)[0][0] > width:
                break
            line = longer
        cv2.putText(sheet, line, (left, row), face, scale, ink, 1, cv2.LINE_AA)


def barcode(rng: np.random.Generator, sheet: Colour, *, box: tuple[int, int, int, int]) -> None:
    """Black bars on a white label with digits under them, in the (left, top, width, height) box."""
    left, top, width, height = box
    sheet[top : top + height, left : left + width] = 252
    bars_bottom = top + height - 20
    at = left + 8
    while at < left + width - 12:
        thick = int(rng.choice([2, 2, 4, 6]))
        sheet[top + 6 : bars_bottom, at : at + thick] = 18
        at += thick + int(rng.choice([2, 3, 5]))
    digits = "".join(str(d) for d in rng.integers(0, 10, 13))
    lettering(
        sheet,
        digits,
        box=(left + 6, bars_bottom + 3, width - 12, 14),
        ink=(18, 18, 18),
        face=cv2.FONT_HERSHEY_SIMPLEX,
    )


def facts_table(rng: np.random.Generator, sheet: Colour, *, box: tuple[int, int, int, int]) -> None:
    """A white nutrition table in the (left, top, width, height) box."""
    left, top, width, height = box
    face = cv2.FONT_HERSHEY_SIMPLEX
    sheet[top : top + height, left : left + width] = 248
    cv2.rectangle(sheet, (left, top), (left + width - 1, top + height - 1), (20, 20, 20), 3)
    lettering(sheet, "FACTS", box=(left + 10, top + 8, width - 20, 28), ink=(20, 20, 20), face=face)
    for row in range(top + 60, top + height - 6, 24):
        cv2.line(sheet, (left, row - 18), (left + width - 1, row - 18), (60, 60, 60), 1)
        name = str(rng.choice(["Energy", "Fat", "Sugars", "Salt", "Protein", "Fibre", "Zinc"]))
        amount = f"{rng.uniform(0, 90):.1f} g"
        cv2.putText(sheet, name, (left + 8, row), face, 0.5, (20, 20, 20), 1, cv2.LINE_AA)
        at = (left + width - 78, row)
        cv2.putText(sheet, amount, at, face, 0.5, (20, 20, 20), 1, cv2.LINE_AA)


def badge(
    rng: np.random.Generator, sheet: Colour, *, centre: tuple[int, int], radius: int, colour: RGB
) -> None:
    """A star-shaped sticker with a short claim."""
    points = int(rng.integers(10, 20))
    turns = np.arange(2 * points) * np.pi / points + rng.uniform(0, 1)
    radii = np.where(np.arange(2 * points) % 2, 0.84, 1.0) * radius
    star = np.stack([np.cos(turns), np.sin(turns)], 1) * radii[:, None] + centre
    cv2.fillPoly(sheet, [star.round().astype(np.int32)], colour, cv2.LINE_AA)
    ink = ink_on(colour)
    cv2.circle(sheet, centre, int(radius * 0.74), ink, 2, cv2.LINE_AA)
    claim = str(rng.choice(["NEW", "BIO", "XXL", "2+1", "ECO", "100%", "PRO", "TOP"]))
    half = int(radius * 0.55)
    lettering(
        sheet,
        claim,
        box=(centre[0] - half, centre[1] - half // 2, 2 * half, half),
        ink=ink,
        face=cv2.FONT_HERSHEY_DUPLEX,
    )


def logo(
    rng: np.random.Generator, sheet: Colour, *, centre: tuple[int, int], radius: int, colour: RGB
) -> None:
    """A mark of overlapping discs, bars or triangles."""
    ink = ink_on(colour)
    cv2.circle(sheet, centre, radius, colour, -1, cv2.LINE_AA)
    cv2.circle(sheet, centre, radius - 4, ink, 3, cv2.LINE_AA)
    for _ in range(int(rng.integers(2, 5))):
        corners = rng.normal(0, radius * 0.42, (3, 2)).clip(-0.6 * radius, 0.6 * radius) + centre
        cv2.fillPoly(sheet, [corners.round().astype(np.int32)], ink, cv2.LINE_AA)
    inner = (rng.normal(0, radius * 0.2, 2) + centre).round().astype(int).tolist()
    cv2.circle(sheet, inner, radius // 4, colour, -1, cv2.LINE_AA)


def stripes(
    rng: np.random.Generator, sheet: Colour, *, rows: tuple[int, int], colours: tuple[RGB, RGB]
) -> None:
    """Slanted stripes of uneven width across the sheet between two rows."""
    height, width = rows[1] - rows[0], sheet.shape[1]
    pitch, slant = rng.uniform(22, 60), rng.uniform(-1, 1)
    y, x = np.mgrid[0:height, 0:width]
    phase = ((x + slant * y) / pitch + rng.random()) % 1
    duty = rng.uniform(0.3, 0.6)
    sheet[rows[0] : rows[1]] = np.where(
        (phase < duty)[..., None], np.array(colours[0], np.uint8), np.array(colours[1], np.uint8)
    )
