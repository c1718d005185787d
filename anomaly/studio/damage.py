"""Damage with pixel truth: what each kind does to a face's print, or to the tray beside it.

Every kind is cut from a seeded field at the level that covers the wanted share of the face, so
`strength` sets the area whatever the shape; the same field gives the truth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from anomaly.errors import ConfigError
from anomaly.studio.face import Colour, Face, Mask, Real
from anomaly.studio.fields import (
    around_circle,
    fractal_noise,
    from_point,
    largest_share,
    mix,
    smooth_noise,
    step,
)

FACE_DAMAGES = ("tear", "crush", "hole", "stain", "scuff", "missing_unit")
DAMAGES = (*FACE_DAMAGES, "spill")
_LIQUIDS = {  # share of light that passes, per channel
    "coffee": (0.50, 0.33, 0.20),
    "juice": (0.80, 0.24, 0.22),
    "detergent": (0.28, 0.52, 0.86),
    "oil": (0.80, 0.66, 0.20),
    "syrup": (0.36, 0.62, 0.28),
}


_HOLE, _WALL = np.array([26, 21, 18], np.float32), np.array([52, 40, 28], np.float32)


@dataclass(frozen=True)
class Damage:
    """What is wrong and how badly, `strength` above 0 to 1.

    With a `seed` the damage is the same in every photograph of the face; without one it is drawn
    from the photograph's seed.
    """

    kind: str
    strength: float = 0.6
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in DAMAGES:
            raise ConfigError(f"damage {self.kind!r}; expected one of {', '.join(DAMAGES)}")
        if not 0 < self.strength <= 1:
            raise ConfigError(f"damage strength {self.strength}; expected above 0, at most 1")


def damage_face(rng: np.random.Generator, face: Face, *, damage: Damage) -> tuple[Face, Mask]:
    """The face after the damage, and its (h, w) bool truth. `spill` is no damage of a face."""
    if damage.kind not in FACE_DAMAGES:
        raise ConfigError(f"damage {damage.kind!r} of a face; expected {', '.join(FACE_DAMAGES)}")
    if damage.kind == "missing_unit":
        return _missing_unit(rng, face)
    cut, inset, reach = _CUTS[damage.kind]
    solid = face.alpha > 0.5
    area = _share(damage.strength) * float(solid.sum())
    at = _spot(rng, face, inset_px=int(inset * min(face.alpha.shape)))
    # Work in a window that the damage cannot leave: most of a face is not touched.
    half = reach * float(np.sqrt(area / np.pi)) + 24
    left, top = (max(0, int(place - half)) for place in at)
    window = (slice(top, int(at[1] + half)), slice(left, int(at[0] + half)))
    part = Face(face.colour[window], face.alpha[window])
    painted, hurt = cut(rng, part, _Wound((at[0] - left, at[1] - top), area, damage.strength))
    colour, truth = face.colour.copy(), np.zeros_like(solid)
    colour[window] = painted.clip(0, 255).astype(np.uint8)
    truth[window] = hurt
    return replace(face, colour=colour), truth & solid


@dataclass(frozen=True)
class _Wound:
    """Where in the window, (x, y), over how many pixels, and how strong."""

    centre: tuple[float, float]
    area: float
    strength: float

    @property
    def radius(self) -> float:
        return float(np.sqrt(self.area / np.pi))


_Cut = Callable[[np.random.Generator, Face, _Wound], tuple[Real, Mask]]


def _share(strength: float) -> float:
    return 0.03 + 0.12 * strength


def _shape(face: Face) -> tuple[int, int]:
    return face.alpha.shape[0], face.alpha.shape[1]


def _spot(rng: np.random.Generator, face: Face, *, inset_px: int) -> tuple[float, float]:
    """A random (x, y) at least `inset_px` inside the silhouette."""
    solid = np.pad((face.alpha > 0.5).astype(np.uint8), 1)
    deep = cv2.distanceTransform(solid, cv2.DIST_L2, 3)[1:-1, 1:-1]
    rows, columns = np.nonzero(deep >= min(inset_px, 0.9 * deep.max()))
    pick = int(rng.integers(rows.size))
    return float(columns[pick]), float(rows[pick])


def _level(field: Real, solid: Mask, *, area: float) -> float:
    """The level above which about `area` solid pixels lie."""
    return largest_share(field, solid, share=min(0.9, area / float(solid.sum())))


def _cardboard(rng: np.random.Generator, shape: tuple[int, int], *, angle: float) -> Real:
    """(h, w, 3) grey-brown board with fibres that run along `angle`."""
    along, across = from_point(shape, (0, 0), angle=angle)
    noise = rng.standard_normal((256, 256), dtype=np.float32)
    fibres = cv2.remap(
        noise, (along / 14) % 254, (across / 2.2) % 254, cv2.INTER_LINEAR
    ) + 0.6 * fractal_noise(rng, shape, grain_px=26, octaves=3)
    tone = np.array([rng.uniform(158, 182), rng.uniform(134, 150), rng.uniform(104, 122)])
    board = tone + fibres[..., None] * np.array([11, 11, 10])
    return np.asarray(board.clip(0, 255), dtype=np.float32)


def _tear(rng: np.random.Generator, face: Face, wound: _Wound) -> tuple[Real, Mask]:
    """A strip of print torn off: board, a white ragged rim of paper, a shadow under one lip."""
    shape = _shape(face)
    angle = rng.uniform(-np.pi, np.pi)
    along, across = from_point(shape, wound.centre, angle=angle)
    reach = 2.0 * wound.radius * rng.uniform(0.85, 1.15)
    taper = np.clip(1 - (along / reach) ** 2, -1, 1) * (1 + 0.35 * along / reach)
    wander = 0.3 * wound.radius * smooth_noise(rng, shape, grain_px=110)
    ragged = 0.10 * fractal_noise(rng, shape, grain_px=34, octaves=5)
    strip = taper * 0.5 + ragged - np.abs(across + wander) / (0.42 * reach)
    solid = face.alpha > 0.5
    strip = strip - _level(strip, solid, area=wound.area)
    slope = 0.42 * reach  # from the field's units to about pixels
    rim_px = np.clip(5 + 4 * smooth_noise(rng, shape, grain_px=30), 1.5, 13)
    torn = step(strip * slope, width=0.8)
    core = step(strip * slope - rim_px, width=1.2)
    paper = np.full((*shape, 3), (236, 231, 222), np.float32)
    paper -= 7 * smooth_noise(rng, shape, grain_px=4)[..., None]
    board = _cardboard(rng, shape, angle=angle)
    shift = np.array([[1, 0, 4], [0, 1, 6]], np.float32)
    lit = cv2.warpAffine(core, shift, shape[::-1], borderMode=cv2.BORDER_REPLICATE)
    shade = 1 - 0.45 * cv2.GaussianBlur((1 - lit) * core, (0, 0), 3.5)
    colour = mix(mix(face.colour.astype(np.float32), paper, torn), board * shade[..., None], core)
    return colour, torn > 0.5


def _crush(rng: np.random.Generator, face: Face, wound: _Wound) -> tuple[Real, Mask]:
    """A dent: facets that shift the print, shade it, and crack it along the creases."""
    shape = _shape(face)
    solid = face.alpha > 0.5
    x, y = from_point(shape, wound.centre)
    distance = np.hypot(x * rng.uniform(1.0, 1.3), y * rng.uniform(1.0, 1.3))
    dent = -distance + 14 * smooth_noise(rng, shape, grain_px=70)
    level = _level(dent, solid, area=1.4 * wound.area)
    radius = max(8.0, -level)
    inside = np.clip((dent - level) / (0.3 * radius), 0, 1).astype(np.float32)
    slope_x, slope_y, creases = _folds(rng, shape, wound.centre, radius=radius)
    hollow = np.clip(distance / radius, 0, 1.5)
    depth = 0.45 + 0.55 * wound.strength
    light = (-0.64 * slope_x - 0.77 * slope_y) * 0.42 - 0.25 * (1 - hollow).clip(0, 1)
    move = inside * depth * 0.10 * radius
    columns, rows = np.meshgrid(
        np.arange(shape[1], dtype=np.float32), np.arange(shape[0], dtype=np.float32)
    )
    # Print slides less abruptly than light changes across a crease.
    map_x, map_y = (
        (place - move * cv2.GaussianBlur(slope, (0, 0), 5)).astype(np.float32)
        for place, slope in ((columns, slope_x), (rows, slope_y))
    )
    moved = cv2.remap(
        face.colour, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    ).astype(np.float32)
    shade = (1.1 * depth * inside * light).clip(-0.75, 0.8)[..., None]
    # Facets that face the lamp shine, which shows on dark print where shading does not.
    shaded = moved * (1 + shade) + 75 * np.maximum(shade, 0)
    # Print breaks open where the creases are sharpest: worn white paper, in dashes.
    worn = step(smooth_noise(rng, shape, grain_px=14) + 0.3, width=0.4)
    white = np.full((*shape, 3), (226, 222, 214), np.float32)
    colour = mix(shaded, white, creases * worn * inside * min(0.8, 0.3 + 0.5 * wound.strength))
    return colour, inside > 0.18


def _folds(
    rng: np.random.Generator, shape: tuple[int, int], centre: tuple[float, float], *, radius: float
) -> tuple[Real, Real, Real]:
    """Slopes in x and y of a sheet crumpled into 16 facets, and the (h, w) cover of its creases."""
    bend = [0.09 * radius * smooth_noise(rng, shape, grain_px=0.5 * radius + 8) for _ in range(2)]
    nearest, second = np.full(shape, np.inf, np.float32), np.full(shape, np.inf, np.float32)
    slope_x, slope_y = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    stretch = rng.uniform(1.0, 1.8)
    turn = float(rng.uniform(0, np.pi))
    for _ in range(16):
        far, side = 1.15 * radius * np.sqrt(rng.random()), rng.uniform(-np.pi, np.pi)
        offset = np.array([far * np.cos(side), far * np.sin(side)])
        along, across = from_point(
            shape, (centre[0] + offset[0], centre[1] + offset[1]), angle=turn
        )
        away = np.hypot(along + bend[0], (across + bend[1]) * stretch)
        # A bowl under the facets: those half way out lean most towards the middle.
        lean = 1.3 * np.sin(np.pi * min(1.0, far / radius)) * offset / max(far, 1.0)
        slope = lean + rng.normal(0, 0.85, 2)
        closer = away < nearest
        second = np.where(closer, nearest, np.minimum(second, away))
        nearest = np.where(closer, away, nearest)
        slope_x[closer], slope_y[closer] = slope
    creases = 1 - np.clip((second - nearest) / 5, 0, 1)
    soft_x, soft_y = (cv2.GaussianBlur(slope, (0, 0), 1.6) for slope in (slope_x, slope_y))
    return soft_x, soft_y, np.asarray(creases, dtype=np.float32)


def _hole(rng: np.random.Generator, face: Face, wound: _Wound) -> tuple[Real, Mask]:
    """A punched hole: dark inside, a lit inner wall, and a torn star-shaped rim of board."""
    shape = _shape(face)
    solid = face.alpha > 0.5
    along, across = from_point(shape, wound.centre, angle=rng.uniform(0, np.pi))
    distance = np.hypot(along, across * rng.uniform(1.05, 1.4))
    angles = np.arctan2(across, along).astype(np.float32)
    radius = 0.87 * wound.radius
    jag = 0.20 * around_circle(rng, angles, waves=22, jagged=True)
    rough = 0.07 * radius * fractal_noise(rng, shape, grain_px=22)
    edge = -distance + radius * jag + rough
    edge = edge - _level(edge, solid, area=0.75 * wound.area)
    rim_px = (0.20 + 0.10 * around_circle(rng, angles, waves=17, jagged=True)) * radius
    rim_px = np.clip(rim_px, 3, None) + 1.5 * smooth_noise(rng, shape, grain_px=7)
    rim, inside = step(edge, width=0.9), step(edge - rim_px, width=1.4)
    board = _cardboard(rng, shape, angle=rng.uniform(0, np.pi))
    paper = 55 * np.clip(1 - edge / 5, 0, 1)[..., None]  # white at the outer edge
    facing = (0.92 + 0.16 * np.cos(angles + 2.2))[..., None]  # flaps face the light or away
    wall = np.clip((along * 0.3 + across * 0.7) / radius - 0.25, 0, 1)
    dark = _HOLE + wall[..., None] * _WALL
    dark = dark + 3 * smooth_noise(rng, shape, grain_px=9)[..., None]
    halo = 1 - 0.3 * np.exp(-np.clip(-edge, 0, None) / 6) * (edge < 0)
    flaps = np.asarray((board + paper) * facing, dtype=np.float32)
    shaded = np.asarray(face.colour * halo[..., None], dtype=np.float32)
    rimmed = mix(shaded, flaps, rim)
    return mix(rimmed, np.asarray(dark, dtype=np.float32), inside), rim > 0.5


def _liquid(rng: np.random.Generator) -> Real:
    name = str(rng.choice(sorted(_LIQUIDS)))
    return np.array(_LIQUIDS[name], np.float32)


def _puddle(
    rng: np.random.Generator,
    shape: tuple[int, int],
    centre: tuple[float, float],
    *,
    radius: float,
    domain: Mask,
    area: float,
) -> Real:
    """(h, w) depth in about pixels from the edge of a puddle with droplets, 0 at the edge."""
    along, across = from_point(shape, centre, angle=rng.uniform(0, np.pi))
    distance = np.hypot(along, across * rng.uniform(1.1, 1.6))
    lobes = around_circle(rng, np.arctan2(across, along).astype(np.float32), waves=9, jagged=False)
    noise = fractal_noise(rng, shape, grain_px=max(14.0, 0.7 * radius), octaves=2)
    main = -distance + radius * (0.16 * lobes + 0.16 * noise)
    main = main - _level(main, domain, area=area)
    depth = np.asarray(main, dtype=np.float32)
    for _ in range(int(rng.integers(5, 11))):
        turn, far = rng.uniform(-np.pi, np.pi), radius * rng.uniform(1.2, 1.9)
        size = radius * rng.uniform(0.03, 0.11)
        left = int(centre[0] + far * np.cos(turn) - 2 * size)
        top = int(centre[1] + far * np.sin(turn) - 2 * size)
        side = int(4 * size)
        if left >= 0 and top >= 0 and side > 2:
            part = depth[top : top + side, left : left + side]
            x, y = from_point((part.shape[0], part.shape[1]), (2 * size, 2 * size))
            np.maximum(part, size - np.hypot(x, y), out=part)
    return depth


def _wet(rng: np.random.Generator, under: Real, depth: Real, *, scale: float) -> tuple[Real, Mask]:
    """Lay a translucent liquid on (h, w, 3) `under`: tint, darker rim, a few highlights."""
    tint = _liquid(rng)
    cover = step(depth, width=0.9)
    rim = np.exp(-np.clip(depth, 0, None) / (2.6 * scale)) * 0.45
    body = 0.92 + 0.08 * np.tanh(depth / (8 * scale))
    passed = 1 - (1 - tint) * (cover * body)[..., None]
    # A liquid scatters too: without some colour of its own it would vanish on dark print.
    glow = tint * 70
    colour = mix(under * passed, np.broadcast_to(glow, under.shape), 0.25 * cover)
    colour *= (1 - rim * cover)[..., None]
    bevel = cv2.GaussianBlur(np.clip(depth, -4 * scale, 12 * scale), (0, 0), 2.2 * scale)
    facing = cv2.Sobel(bevel, cv2.CV_32F, 1, 0) + cv2.Sobel(bevel, cv2.CV_32F, 0, 1)
    shine = np.clip(facing / 11 - 0.35, 0, 1) * cover
    return mix(colour, np.full_like(colour, 250), 0.55 * shine), cover > 0.5


def _stain(rng: np.random.Generator, face: Face, wound: _Wound) -> tuple[Real, Mask]:
    """A liquid that lies on the print."""
    depth = _puddle(
        rng,
        _shape(face),
        wound.centre,
        radius=0.95 * wound.radius,
        domain=face.alpha > 0.5,
        area=0.9 * wound.area,
    )
    return _wet(rng, face.colour.astype(np.float32), depth, scale=2.0)


def _scuff(rng: np.random.Generator, face: Face, wound: _Wound) -> tuple[Real, Mask]:
    """Rubbed print: a patch of parallel pale scratches."""
    shape = _shape(face)
    along, across = from_point(shape, wound.centre, angle=rng.uniform(0, np.pi))
    solid = face.alpha > 0.5
    patch = -np.hypot(along, across * 2.2) + 24 * fractal_noise(rng, shape, grain_px=50)
    patch = patch - _level(patch, solid, area=wound.area)
    noise = rng.standard_normal((256, 256), dtype=np.float32)
    lines = cv2.remap(noise, (along / 90) % 254, (across / 2.4) % 254, cv2.INTER_LINEAR)
    inside = np.clip(patch / 22, 0, 1)
    rubbed = step(lines + 0.5 * wound.strength - 0.35 + 0.6 * (inside - 1), width=0.35) * (
        patch > 0
    )
    pale = np.full((*shape, 3), (224, 220, 213), np.float32)
    colour = mix(face.colour.astype(np.float32), pale, 0.85 * rubbed)
    return colour, inside > 0.1


# How each is cut, how far inside the outline it starts (in shorter sides), and how far it reaches
# (in radii of a disc of its area).
_CUTS: dict[str, tuple[_Cut, float, float]] = {
    "tear": (_tear, 0.22, 3.2),
    "crush": (_crush, 0.13, 1.8),
    "hole": (_hole, 0.20, 1.9),
    "stain": (_stain, 0.18, 2.2),
    "scuff": (_scuff, 0.20, 2.2),
}


def _missing_unit(rng: np.random.Generator, face: Face) -> tuple[Face, Mask]:
    """One unit of a set gone: its place shows the empty card."""
    if not face.units or face.empty is None:
        raise ConfigError("damage 'missing_unit' of a face without units; expected a set's front")
    gone = face.units[int(rng.integers(len(face.units)))]
    colour = np.where(gone[..., None], face.empty, face.colour)
    left = tuple(unit for unit in face.units if unit is not gone)
    return replace(face, colour=colour, units=left), gone


def spill(
    rng: np.random.Generator, ground: Real, *, product: Mask, strength: float
) -> tuple[Real, Mask]:
    """A puddle on the (H, W, 3) float ground beside the product, and its visible (H, W) truth."""
    shape = (product.shape[0], product.shape[1])
    room = cv2.distanceTransform((~product).astype(np.uint8), cv2.DIST_L2, 3)
    area = 1.3 * _share(strength) * float(product.sum())
    radius = float(np.sqrt(area / np.pi))
    margin = int(min(0.8 * radius, 0.2 * min(shape)))
    ring = (room > 0.35 * radius) & (room < 1.05 * radius)
    ring[:margin] = ring[-margin:] = False
    ring[:, :margin] = ring[:, -margin:] = False
    if not ring.any():
        ring = room == room.max()
    rows, columns = np.nonzero(ring)
    pick = int(rng.integers(rows.size))
    free = ~product
    at = (float(columns[pick]), float(rows[pick]))
    depth = _puddle(rng, shape, at, radius=radius, domain=free, area=area)
    wet, truth = _wet(rng, ground, depth, scale=1.0)
    return wet, truth & free


def as_print(rng: np.random.Generator, sheet: Colour, *, kinds: tuple[str, ...]) -> Colour:
    """The sheet with damages printed on it, as art on a pristine product."""
    face = Face(sheet, np.ones(sheet.shape[:2], np.float32))
    for kind in kinds:
        face, _ = damage_face(rng, face, damage=Damage(kind, 0.55))
    return face.colour
