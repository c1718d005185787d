"""Liquids and dirt: on a face's print, or on the ground beside the product."""

from __future__ import annotations

import cv2
import numpy as np

from anomaly.studio.face import Face, Mask, Real
from anomaly.studio.fields import around_circle, fractal_noise, from_point, mix, smooth_noise, step
from anomaly.studio.wound import Wound, level_covering, shape_of

_LIQUIDS = {  # share of light that passes, per channel
    "coffee": (0.50, 0.33, 0.20),
    "juice": (0.80, 0.24, 0.22),
    "detergent": (0.28, 0.52, 0.86),
    "oil": (0.80, 0.66, 0.20),
    "syrup": (0.36, 0.62, 0.28),
}


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
    main = main - level_covering(main, domain, area=area)
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


def stain(rng: np.random.Generator, face: Face, wound: Wound) -> tuple[Real, Mask]:
    """A liquid that lies on the print."""
    depth = _puddle(
        rng,
        shape_of(face),
        wound.centre,
        radius=0.95 * wound.radius,
        domain=face.alpha > 0.5,
        area=0.9 * wound.area,
    )
    return _wet(rng, face.colour.astype(np.float32), depth, scale=2.0)


def dirt(rng: np.random.Generator, face: Face, wound: Wound) -> tuple[Real, Mask]:
    """Soil: a grey-brown smear along the direction it was wiped in, with grains around it."""
    shape = shape_of(face)
    solid = face.alpha > 0.5
    along, across = from_point(shape, wound.centre, angle=rng.uniform(0, np.pi))
    radius = wound.radius
    cloud = fractal_noise(rng, shape, grain_px=max(10.0, 0.8 * radius), octaves=5)
    patch = -np.hypot(along, across * rng.uniform(1.5, 2.4)) + 0.35 * radius * cloud
    patch = patch - level_covering(patch, solid, area=wound.area)
    cover = np.clip(0.5 + patch / (0.5 * radius), 0, 1) * (patch > 0)
    noise = rng.standard_normal((256, 256), dtype=np.float32)
    streaks = cv2.remap(noise, (along / 60) % 254, (across / 5) % 254, cv2.INTER_LINEAR)
    grains = smooth_noise(rng, shape, grain_px=3.5)
    thick = np.clip(0.62 + 0.22 * streaks + 0.20 * grains, 0.15, 1) * cover
    near = np.clip(1 + patch / (0.7 * radius), 0, 1)
    specks = step(grains - 3.0 + 1.3 * near, width=0.25) * (near > 0)
    amount = np.maximum(thick * (0.55 + 0.4 * wound.strength), 0.85 * specks)
    tone = np.array([rng.uniform(52, 84), rng.uniform(44, 66), rng.uniform(30, 46)])
    soil = tone + 9 * grains[..., None]
    colour = mix(face.colour.astype(np.float32), soil.astype(np.float32), amount)
    return colour, np.asarray((patch > 0) | (specks > 0.5), dtype=np.bool_)


def spill(
    rng: np.random.Generator, ground: Real, *, product: Mask, share: float
) -> tuple[Real, Mask]:
    """A puddle on the (H, W, 3) float ground beside the product, and its visible (H, W) truth."""
    shape = (product.shape[0], product.shape[1])
    room = cv2.distanceTransform((~product).astype(np.uint8), cv2.DIST_L2, 3)
    area = 1.3 * share * float(product.sum())
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
