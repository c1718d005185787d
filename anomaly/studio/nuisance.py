"""What differs between photographs of whole products and is no damage: hard negatives.

A nuisance has no truth mask. `printed_art` makes the other kind of hard negative: art that looks
like damage.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from anomaly.errors import ConfigError
from anomaly.studio.face import Colour, Face, Mask, Real
from anomaly.studio.fields import fractal_noise, from_point, smooth_noise

NUISANCES = ("lot_code", "film_folds", "shadow", "glare")
_STREAM = 4


@dataclass(frozen=True)
class Nuisance:
    """What to expect and how strongly, `strength` above 0 to 1.

    lot_code    a label with a batch and a date, in the product's own place; the text is drawn
                anew for each photograph
    film_folds  creases of loose film that catch the light and carry the print along
    shadow      something outside the frame stands between lamp and product
    glare       the lamp's mirror image, up to plain white

    Without a `seed` it is drawn from the photograph's.
    """

    kind: str
    strength: float = 0.6
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in NUISANCES:
            raise ConfigError(f"nuisance {self.kind!r}; expected one of {', '.join(NUISANCES)}")
        if not 0 < self.strength <= 1:
            raise ConfigError(f"nuisance strength {self.strength}; expected above 0, at most 1")

    def stream(self, seed: int) -> np.random.Generator:
        """Its own stream of a photograph's seed: nuisances leave each other alone."""
        own = seed if self.seed is None else self.seed
        return np.random.default_rng([own, _STREAM, NUISANCES.index(self.kind)])


def coded(rng: np.random.Generator, face: Face, *, product_id: str) -> Face:
    """The face with a lot code. The place is the product's, the text the photograph's."""
    place = np.random.default_rng(zlib.crc32(product_id.encode()))
    height, width = face.alpha.shape
    wide, tall = int(0.30 * width), int(0.15 * 0.30 * width) * 2 + 8
    left = int(place.uniform(0.10, 0.58) * width)
    top = int(min(place.uniform(0.80, 0.88) * height, 0.955 * height - tall))
    lines = (
        f"L{rng.integers(10, 99)}{rng.choice(list('ABCDEFHK'))}{rng.integers(1000, 9999)}",
        f"EXP {rng.integers(1, 13):02d}.20{rng.integers(26, 32)}",
    )
    label = np.full((tall, wide, 3), (243, 243, 238), np.uint8)
    nudge = rng.integers(-3, 4, 2)
    scale = wide / 178
    for row, line in enumerate(lines):
        at = (int(7 * scale + nudge[0]), int((row + 0.82) * (tall - 6) / 2 + nudge[1]))
        thick = max(1, round(1.6 * scale))
        font = cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(label, line, at, font, 0.86 * scale, (28, 28, 34), thick, cv2.LINE_AA)
    part = (slice(top, top + tall), slice(left, left + wide))

    def stamped(colour: Colour) -> Colour:
        colour = colour.copy()
        colour[part] = label
        return colour

    return replace(
        face,
        colour=stamped(face.colour),
        empty=None if face.empty is None else stamped(face.empty),
        swaps=tuple(replace(swap, colour=stamped(swap.colour)) for swap in face.swaps),
    )


def folded(
    rng: np.random.Generator, face: Face, truth: Mask, *, strength: float
) -> tuple[Face, Mask]:
    """The face under loose film: two to six creases; `truth` goes along with the print."""
    shape = (face.alpha.shape[0], face.alpha.shape[1])
    shift_x, shift_y = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    light = np.zeros(shape, np.float32)
    bend = 24 * smooth_noise(rng, shape, grain_px=170)
    for _ in range(2 + int(rng.integers(1 + round(4 * strength)))):
        angle = rng.uniform(0, np.pi)
        at = (rng.uniform(0.15, 0.85) * shape[1], rng.uniform(0.15, 0.85) * shape[0])
        along, across = from_point(shape, at, angle=angle)
        across = across + bend * rng.uniform(-1, 1)
        width = rng.uniform(4, 13)
        reach = rng.uniform(0.18, 0.5) * max(shape)
        fade = np.exp(-((along / reach) ** 4)) * (1 + 0.4 * np.tanh(along / reach))
        ridge = fade * np.exp(-0.5 * (across / width) ** 2)
        slope = ridge * across / width
        push = rng.uniform(3, 9) * strength * slope
        shift_x -= (push * np.sin(angle)).astype(np.float32)
        shift_y += (push * np.cos(angle)).astype(np.float32)
        side = np.cos(angle - np.pi / 4)  # the flank towards the lamp shines
        shine = np.exp(-0.5 * ((across - 0.6 * width) / (0.35 * width)) ** 2) * fade
        light += (-0.55 * side * slope + rng.uniform(0.2, 0.9) * shine).astype(np.float32)
    columns, rows = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape[::-1]))
    maps = (columns + shift_x, rows + shift_y)
    colour, hurt = (
        cv2.remap(layer, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for layer in (face.colour, truth.astype(np.uint8))
    )
    lit = colour * (1 + strength * np.clip(light, -0.5, 0))[..., None]
    lit = lit + (150 * strength * np.clip(light, 0, 1.2))[..., None]
    return replace(face, colour=lit.clip(0, 255).astype(np.uint8)), np.asarray(hurt > 0)


def cast_shadow(rng: np.random.Generator, product: Real, *, strength: float) -> Real:
    """(H, W) float32 factor of a soft-edged shadow that falls across part of the product.

    `product` is its (H, W) coverage. A straight edge, a bar or a rounded thing casts it.
    """
    shape = (product.shape[0], product.shape[1])
    rows, columns = np.nonzero(product > 0.5)
    pick = int(rng.integers(rows.size))
    at = (float(columns[pick]), float(rows[pick]))
    along, across = from_point(shape, at, angle=rng.uniform(-np.pi, np.pi))
    form, size = int(rng.integers(3)), 0.1 * min(shape) * rng.uniform(0.7, 1.6)
    if form == 0:
        inside = across
    elif form == 1:
        inside = size - np.abs(across)
    else:
        inside = 2 * size - np.hypot(np.maximum(along, 0), across)
    soft = rng.uniform(1.5, 9)
    cover = 1 / (1 + np.exp(-np.clip(inside / soft, -30, 30)))
    return np.asarray(1 - (0.25 + 0.4 * strength) * cover, dtype=np.float32)


def mirrored_lamp(rng: np.random.Generator, product: Real, *, strength: float) -> Real:
    """(H, W) float32 light to add, in units of full white: a strip or a spot on the product."""
    shape = (product.shape[0], product.shape[1])
    rows, columns = np.nonzero(product > 0.5)
    pick = int(rng.integers(rows.size))
    at = (float(columns[pick]), float(rows[pick]))
    along, across = from_point(shape, at, angle=rng.uniform(0, np.pi))
    wander = 0.02 * min(shape) * fractal_noise(rng, shape, grain_px=0.15 * min(shape), octaves=3)
    long = min(shape) * rng.uniform(0.05, 0.22)
    wide = min(shape) * rng.uniform(0.02, 0.06)
    across = across + wander
    lamp = np.exp(-((along / long) ** 4) - np.abs(across / wide) ** 3)
    halo = np.exp(-(np.hypot(along / (1.6 * long), across / (3 * wide)) ** 2))
    return np.asarray(product * strength * (1.15 * lamp + 0.22 * halo), dtype=np.float32)


def kinds_of(nuisances: Sequence[Nuisance]) -> dict[str, Nuisance]:
    """By kind; a kind may come once."""
    found = {nuisance.kind: nuisance for nuisance in nuisances}
    if len(found) != len(nuisances):
        raise ConfigError("a nuisance comes twice; expected each kind at most once")
    return found
