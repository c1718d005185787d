"""Products whose print looks like damage, and other print versions of a product: all pristine."""

from __future__ import annotations

import zlib
from dataclasses import replace

import cv2
import numpy as np

from anomaly.errors import ConfigError
from anomaly.studio.artwork import badge, lettering, palette
from anomaly.studio.cartons import LAYOUTS, carton_back, carton_size, cracks, draw_brand
from anomaly.studio.damage import as_print
from anomaly.studio.face import FACE_PX, Colour, Face, Product, full_face

ART = ("tear", "stain", "crack", "hole", "crush")
_TITLES = {
    "tear": ("RIP IT", "PEEL & WIN", "UNWRAP"),
    "stain": ("SPLASH", "COLOUR BOMB", "DRIP"),
    "crack": ("CRACKLE", "ICE CRUSH", "SHATTER"),
    "hole": ("BURST", "BITE IT", "PUNCH"),
    "crush": ("CRINKLE", "CRUNCH", "CRUMPLE"),
}


def art_carton(rng: np.random.Generator, *, product_id: str, art: str) -> Product:
    """A pristine carton with two or three of one of `ART` printed on its front."""
    if art not in ART:
        raise ConfigError(f"printed art {art!r}; expected one of {', '.join(ART)}")
    brand = draw_brand(rng)
    height, width = carton_size(rng)
    sheet = LAYOUTS[int(rng.integers(len(LAYOUTS)))](rng, brand, height, width)
    for _ in range(int(rng.integers(2, 4))):
        sheet = _printed(rng, sheet, art)
    tall = int(0.085 * FACE_PX)
    top = int(rng.uniform(0.30, 0.42) * height)
    sheet[top : top + tall] = brand.colours[1]
    title = str(rng.choice(_TITLES[art]))
    box = (int(0.08 * width), top + 6, int(0.84 * width), tall - 12)
    lettering(sheet, title, box=box, ink=(252, 250, 240), face=brand.font, outline=(24, 20, 24))
    faces = {
        "front": full_face(sheet, corner_px=7),
        "back": full_face(carton_back(rng, brand, height, width), corner_px=7),
    }
    return Product(product_id, "carton", faces)


def _printed(rng: np.random.Generator, sheet: Colour, art: str) -> Colour:
    if art != "crack":
        return as_print(rng, sheet, kinds=(art,), area=float(rng.uniform(0.012, 0.05)))
    sheet = sheet.copy()
    height, width = sheet.shape[:2]
    centre = (int(width * rng.uniform(0.2, 0.8)), int(height * rng.uniform(0.2, 0.85)))
    ink = (226, 232, 238) if rng.random() < 0.5 else (26, 24, 28)
    cracks(rng, sheet, centre=centre, reach=rng.uniform(0.10, 0.22) * FACE_PX, ink=ink)
    return sheet


def design_variant(product: Product, *, number: int = 1) -> Product:
    """The same product in another print version: hues turned, a new badge. 0 is the product."""
    if number == 0:
        return product
    rng = np.random.default_rng([zlib.crc32(product.product_id.encode()), number])
    turn = int(rng.integers(22, 70)) * (1 if rng.random() < 0.5 else -1)  # of 180
    colour, spot = palette(rng)[2], rng.uniform(0.16, 0.84)

    def reprinted(face: Face) -> Face:
        height, width = face.alpha.shape
        radius = int(0.10 * min(height, width))
        centre = (int(np.clip(spot * width, 1.3 * radius, width - 1.3 * radius)),
                  int(height - 1.5 * radius))  # fmt: skip
        claim = int(rng.integers(2**31))

        def printed(sheet: Colour) -> Colour:
            hsv = cv2.cvtColor(sheet, cv2.COLOR_RGB2HSV)
            hsv[..., 0] = (hsv[..., 0].astype(int) + turn) % 180
            sheet = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
            # The same claim on every version of this face: with and without its units.
            badge(np.random.default_rng(claim), sheet, centre=centre, radius=radius, colour=colour)
            return sheet

        return replace(
            face,
            colour=printed(face.colour),
            empty=None if face.empty is None else printed(face.empty),
            swaps=tuple(replace(swap, colour=printed(swap.colour)) for swap in face.swaps),
        )

    faces = {name: reprinted(face) for name, face in product.faces.items()}
    return replace(product, faces=faces)
