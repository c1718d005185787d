"""Seeded scalar fields over an (h, w) grid: the rough shapes that art and damage are cut from."""

from __future__ import annotations

import cv2
import numpy as np

from anomaly.studio.face import Mask, Real


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], *, grain_px: float) -> Real:
    """(h, w) float32 noise of mean about 0 and deviation about 1, wavy over `grain_px`."""
    coarse = (int(shape[0] / grain_px) + 4, int(shape[1] / grain_px) + 4)
    seeds = rng.standard_normal(coarse, dtype=np.float32)
    # A map by hand rather than a resize keeps the grain square whatever the shape.
    offset = rng.random(2) + 1
    matrix = np.array([[grain_px, 0, -offset[0] * grain_px], [0, grain_px, -offset[1] * grain_px]])
    noise: Real = cv2.warpAffine(
        seeds, matrix, (shape[1], shape[0]), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )
    return np.asarray(noise * 1.4, dtype=np.float32)


def fractal_noise(
    rng: np.random.Generator, shape: tuple[int, int], *, grain_px: float, octaves: int = 4
) -> Real:
    """(h, w) float32 sum of `octaves` noises, each half as wide and 0.55 as strong as the last."""
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        grain = max(1.5, grain_px / 2**octave)
        total += 0.55**octave * smooth_noise(rng, shape, grain_px=grain)
    return total


def from_point(
    shape: tuple[int, int], point: tuple[float, float], *, angle: float = 0.0
) -> tuple[Real, Real]:
    """Along and across, in pixels from (x, y) `point`, on axes turned by `angle` radians."""
    x = np.arange(shape[1], dtype=np.float32)[None, :] - np.float32(point[0])
    y = np.arange(shape[0], dtype=np.float32)[:, None] - np.float32(point[1])
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cosine + y * sine, y * cosine - x * sine


def around_circle(rng: np.random.Generator, angles: Real, *, waves: int, jagged: bool) -> Real:
    """Noise of deviation about 1 as a function of an angle; `jagged` has straight flanks."""
    knots = np.sort(rng.uniform(-np.pi, np.pi, waves))
    heights = rng.standard_normal(waves)
    values = np.interp(angles, knots, heights, period=2 * np.pi)
    if not jagged:
        values = np.sin(values * 1.3)
    return values.astype(np.float32)


def largest_share(field: Real, domain: Mask, *, share: float) -> float:
    """The level above which `share` of the domain's pixels lie."""
    return float(np.quantile(field[domain], 1 - share))


def step(field: Real, *, width: float) -> Real:
    """0 below `-width`, 1 above `width`, straight between: an edge without stairs."""
    return np.asarray(np.clip(field / (2 * width) + 0.5, 0, 1), dtype=np.float32)


def mix(under: Real, over: Real, amount: Real) -> Real:
    """(h, w, 3) `under` with `over` laid on by (h, w) `amount`."""
    return np.asarray(under + (over - under) * amount[..., None], dtype=np.float32)
