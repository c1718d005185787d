"""Cuts into a face's print: what tearing, crushing, punching and rubbing leave."""

from __future__ import annotations

import cv2
import numpy as np

from anomaly.studio.face import Face, Mask, Real
from anomaly.studio.fields import (
    around_circle,
    fractal_noise,
    from_point,
    mix,
    smooth_noise,
    step,
)
from anomaly.studio.wound import Wound, level_covering, shape_of

_HOLE, _WALL = np.array([26, 21, 18], np.float32), np.array([52, 40, 28], np.float32)


def cardboard(rng: np.random.Generator, shape: tuple[int, int], *, angle: float) -> Real:
    """(h, w, 3) grey-brown board with fibres that run along `angle`."""
    along, across = from_point(shape, (0, 0), angle=angle)
    noise = rng.standard_normal((256, 256), dtype=np.float32)
    fibres = cv2.remap(
        noise, (along / 14) % 254, (across / 2.2) % 254, cv2.INTER_LINEAR
    ) + 0.6 * fractal_noise(rng, shape, grain_px=26, octaves=3)
    tone = np.array([rng.uniform(158, 182), rng.uniform(134, 150), rng.uniform(104, 122)])
    board = tone + fibres[..., None] * np.array([11, 11, 10])
    return np.asarray(board.clip(0, 255), dtype=np.float32)


def tear(rng: np.random.Generator, face: Face, wound: Wound) -> tuple[Real, Mask]:
    """A strip of print torn off: board, a white ragged rim of paper, a shadow under one lip."""
    shape = shape_of(face)
    angle = rng.uniform(-np.pi, np.pi)
    along, across = from_point(shape, wound.centre, angle=angle)
    reach = 2.0 * wound.radius * rng.uniform(0.85, 1.15)
    taper = np.clip(1 - (along / reach) ** 2, -1, 1) * (1 + 0.35 * along / reach)
    wander = 0.3 * wound.radius * smooth_noise(rng, shape, grain_px=110)
    ragged = 0.10 * fractal_noise(rng, shape, grain_px=34, octaves=5)
    strip = taper * 0.5 + ragged - np.abs(across + wander) / (0.42 * reach)
    solid = face.alpha > 0.5
    strip = strip - level_covering(strip, solid, area=wound.area)
    slope = 0.42 * reach  # from the field's units to about pixels
    rim_px = np.clip(5 + 4 * smooth_noise(rng, shape, grain_px=30), 1.5, 13)
    torn = step(strip * slope, width=0.8)
    core = step(strip * slope - rim_px, width=1.2)
    paper = np.full((*shape, 3), (236, 231, 222), np.float32)
    paper -= 7 * smooth_noise(rng, shape, grain_px=4)[..., None]
    board = cardboard(rng, shape, angle=angle)
    shift = np.array([[1, 0, 4], [0, 1, 6]], np.float32)
    lit = cv2.warpAffine(core, shift, shape[::-1], borderMode=cv2.BORDER_REPLICATE)
    shade = 1 - 0.45 * cv2.GaussianBlur((1 - lit) * core, (0, 0), 3.5)
    colour = mix(mix(face.colour.astype(np.float32), paper, torn), board * shade[..., None], core)
    return colour, torn > 0.5


def crush(rng: np.random.Generator, face: Face, wound: Wound) -> tuple[Real, Mask]:
    """A dent: facets that shift the print, shade it, and crack it along the creases."""
    shape = shape_of(face)
    solid = face.alpha > 0.5
    x, y = from_point(shape, wound.centre)
    distance = np.hypot(x * rng.uniform(1.0, 1.3), y * rng.uniform(1.0, 1.3))
    dent = -distance + 14 * smooth_noise(rng, shape, grain_px=70)
    level = level_covering(dent, solid, area=1.4 * wound.area)
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


def hole(rng: np.random.Generator, face: Face, wound: Wound) -> tuple[Real, Mask]:
    """A punched hole: dark inside, a lit inner wall, and a torn star-shaped rim of board."""
    shape = shape_of(face)
    solid = face.alpha > 0.5
    along, across = from_point(shape, wound.centre, angle=rng.uniform(0, np.pi))
    distance = np.hypot(along, across * rng.uniform(1.05, 1.4))
    angles = np.arctan2(across, along).astype(np.float32)
    radius = 0.87 * wound.radius
    jag = 0.20 * around_circle(rng, angles, waves=22, jagged=True)
    rough = 0.07 * radius * fractal_noise(rng, shape, grain_px=22)
    edge = -distance + radius * jag + rough
    edge = edge - level_covering(edge, solid, area=0.75 * wound.area)
    rim_px = (0.20 + 0.10 * around_circle(rng, angles, waves=17, jagged=True)) * radius
    rim_px = np.clip(rim_px, 3, None) + 1.5 * smooth_noise(rng, shape, grain_px=7)
    rim, inside = step(edge, width=0.9), step(edge - rim_px, width=1.4)
    board = cardboard(rng, shape, angle=rng.uniform(0, np.pi))
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


def scuff(rng: np.random.Generator, face: Face, wound: Wound) -> tuple[Real, Mask]:
    """Rubbed print: a patch of parallel pale scratches."""
    shape = shape_of(face)
    along, across = from_point(shape, wound.centre, angle=rng.uniform(0, np.pi))
    solid = face.alpha > 0.5
    patch = -np.hypot(along, across * 2.2) + 24 * fractal_noise(rng, shape, grain_px=50)
    patch = patch - level_covering(patch, solid, area=wound.area)
    noise = rng.standard_normal((256, 256), dtype=np.float32)
    lines = cv2.remap(noise, (along / 90) % 254, (across / 2.4) % 254, cv2.INTER_LINEAR)
    inside = np.clip(patch / 22, 0, 1)
    rubbed = step(lines + 0.5 * wound.strength - 0.35 + 0.6 * (inside - 1), width=0.35) * (
        patch > 0
    )
    pale = np.full((*shape, 3), (224, 220, 213), np.float32)
    colour = mix(face.colour.astype(np.float32), pale, 0.85 * rubbed)
    return colour, inside > 0.1
