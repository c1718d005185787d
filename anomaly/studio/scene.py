"""Where and how a photograph is taken: pose, light, ground, and what the camera adds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly.errors import ConfigError
from anomaly.studio.face import Face, Real
from anomaly.studio.fields import fractal_noise

BACKGROUNDS = ("tray", "belt")
DIFFICULTIES = ("easy", "normal", "hard")
FILL = 0.66  # a face's longest side over the frame's shorter side, at scale 1
MARGIN = 0.025  # kept free at each border, as a share of the frame's shorter side
_TRAY_SEED, _BELT_SEED = 20_011, 20_012


@dataclass(frozen=True)
class Light:
    """`gradient`: relative fall-off across the frame towards `direction_deg`. `warmth`: -1 to 1."""

    gain: float = 1.0
    direction_deg: float = -60.0
    gradient: float = 0.15
    warmth: float = 0.0


@dataclass(frozen=True)
class Shot:
    """One camera set-up; `centre` is (x, y) as shares of the frame's width and height.

    `camera_distance` is in longest sides of the face: nearer draws perspective stronger.
    `overhang` is the share of the product's height and width that may lie outside the frame.
    """

    angle_deg: float = 0.0
    scale: float = 1.0
    centre: tuple[float, float] = (0.5, 0.5)
    tilt_x_deg: float = 0.0
    tilt_y_deg: float = 0.0
    light: Light = Light()
    background: str = "tray"
    belt_phase: tuple[float, float] = (0.0, 0.0)
    noise_sigma: float = 2.0
    blur_sigma: float = 0.5
    jpeg_quality: int = 92
    camera_distance: float = 4.0
    overhang: float = 0.0

    def __post_init__(self) -> None:
        if self.background not in BACKGROUNDS:
            raise ConfigError(
                f"background {self.background!r}; expected one of {', '.join(BACKGROUNDS)}"
            )
        if not self.camera_distance >= 1:
            raise ConfigError(
                f"camera distance {self.camera_distance}; expected at least 1 longest side"
            )
        if not 0 <= self.overhang <= 0.9:
            raise ConfigError(f"overhang {self.overhang}; expected 0 to 0.9 of the product")


def draw_shot(
    rng: np.random.Generator,
    *,
    difficulty: str = "normal",
    max_angle_deg: float = 180.0,
    max_tilt_deg: float = 18.0,
    background: str = "tray",
) -> Shot:
    """A random set-up. One in four turns freely, the others by at most 25 degrees."""
    if difficulty not in DIFFICULTIES:
        raise ConfigError(f"difficulty {difficulty!r}; expected one of {', '.join(DIFFICULTIES)}")
    hard = DIFFICULTIES.index(difficulty) / 2
    free = rng.random() < 0.25
    turn = max_angle_deg if free else min(25.0, max_angle_deg)
    tilt = max_tilt_deg * (0.35 + 0.65 * hard)
    return Shot(
        angle_deg=float(rng.uniform(-turn, turn)),
        scale=float(rng.uniform(0.85, 1.15)),
        centre=(float(rng.uniform(0.42, 0.58)), float(rng.uniform(0.44, 0.56))),
        tilt_x_deg=float(rng.uniform(-tilt, tilt)),
        tilt_y_deg=float(rng.uniform(-tilt, tilt)),
        light=Light(
            gain=float(rng.uniform(0.92 - 0.14 * hard, 1.04 + 0.08 * hard)),
            direction_deg=float(rng.uniform(-180, 180)),
            gradient=float(rng.uniform(0.04, 0.12 + 0.22 * hard)),
            warmth=float(rng.uniform(-0.3, 0.3) * (0.5 + hard)),
        ),
        background=background,
        belt_phase=(float(rng.random()), float(rng.random())),
        noise_sigma=float(rng.uniform(1.0, 2.0 + 2.5 * hard)),
        blur_sigma=float(rng.uniform(0.3, 0.5 + 0.5 * hard)),
        jpeg_quality=int(rng.integers(94 - int(14 * hard), 97 - int(8 * hard))),
    )


def face_to_frame(face: Face, shot: Shot, size: tuple[int, int]) -> NDArray[np.float64]:
    """The (3, 3) homography from a face's pixels (x, y) to those of a (height, width) frame.

    A shot that would push the face over the frame's margin is moved in, and shrunk if need be.
    """
    height, width = face.alpha.shape
    longest, shorter = max(height, width), min(size)
    a, b, c = np.deg2rad((shot.tilt_x_deg, shot.tilt_y_deg, shot.angle_deg))
    tilt_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    tilt_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    turn = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    pose = tilt_x @ tilt_y @ turn
    plane = np.column_stack([pose[:, 0], pose[:, 1], [0, 0, shot.camera_distance]])
    onto = np.diag([1 / longest, 1 / longest, 1]) @ np.array(
        [[1, 0, -(width - 1) / 2], [0, 1, -(height - 1) / 2], [0, 0, 1]]
    )
    seen = np.diag([shot.camera_distance, shot.camera_distance, 1]) @ plane @ onto
    corners = project(seen, np.array([[0, 0], [width, 0], [width, height], [0, height]]) - 0.5)
    low, high = corners.min(axis=0), corners.max(axis=0)
    frame = np.array([size[1], size[0]], np.float64)
    margin = MARGIN * shorter
    zoom = min(shot.scale * FILL * shorter, *((frame - 2 * margin) / (high - low)))
    shift = np.array(shot.centre) * frame - 0.5
    over = shot.overhang * zoom * (high - low)
    most = frame - margin - 0.5 - zoom * high + over
    shift = np.clip(shift, margin - 0.5 - zoom * low - over, most)
    placed = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]], [0, 0, 1]]) @ seen
    matrix: NDArray[np.float64] = placed / placed[2, 2]
    return matrix


def project(matrix: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 2) points (x, y) through a (3, 3) homography."""
    lifted = np.column_stack([points, np.ones(len(points))]) @ matrix.T
    placed: NDArray[np.float64] = lifted[:, :2] / lifted[:, 2:]
    return placed


def ground(shot: Shot, size: tuple[int, int]) -> Real:
    """(H, W, 3) float32 empty ground, 0 to 255, evenly lit."""
    if shot.background == "tray":
        return _tray(size).copy()
    period = _belt(size)
    roll = (int(shot.belt_phase[1] * size[0]), int(shot.belt_phase[0] * size[1]))
    return np.roll(period, roll, axis=(0, 1))


@lru_cache(maxsize=4)
def _tray(size: tuple[int, int]) -> Real:
    rng = np.random.default_rng(_TRAY_SEED)
    cloud = fractal_noise(rng, size, grain_px=min(size) / 4, octaves=3)
    grain = fractal_noise(rng, size, grain_px=7, octaves=3)
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]].astype(np.float32)
    from_middle = np.hypot(rows / size[0] - 0.5, columns / size[1] - 0.5)
    level = 203 + 2.2 * cloud + 1.6 * grain - 34 * from_middle**2
    return np.asarray(level[..., None] * np.array([1, 1.0, 0.99], np.float32), dtype=np.float32)


@lru_cache(maxsize=4)
def _belt(size: tuple[int, int]) -> Real:
    """A dark woven belt of diamonds with ribs and wear; it repeats at the frame's borders."""
    rng = np.random.default_rng(_BELT_SEED)
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]].astype(np.float32)
    across = 2 * np.pi * rows / size[0] * round(size[0] / 24)
    along = 2 * np.pi * columns / size[1] * round(size[1] / 32)
    diamonds = np.tanh(2.5 * (np.cos(along) + np.cos(across)))
    ribs = np.exp(-(((columns * 4 / size[1]) % 1 - 0.5) ** 2) / 0.0012)
    around = 48  # wrapped before it is blurred, so that the wear has no seam when rolled
    specks = np.pad(rng.standard_normal(size, dtype=np.float32), around, mode="wrap")
    wear = 24 * cv2.GaussianBlur(specks, (0, 0), 12)[around:-around, around:-around]
    level = 62 + 13 * diamonds - 30 * ribs + 5 * wear
    return np.asarray(level[..., None] * np.array([0.96, 1.0, 1.05], np.float32), dtype=np.float32)


def illumination(light: Light, size: tuple[int, int]) -> Real:
    """(H, W, 3) float32 factors of a light that falls off along its direction."""
    turn = np.deg2rad(light.direction_deg)
    y = np.linspace(-0.5, 0.5, size[0], dtype=np.float32)[:, None]
    x = np.linspace(-0.5, 0.5, size[1], dtype=np.float32)[None, :]
    level = 1 + np.float32(light.gradient) * (x * np.cos(turn) + y * np.sin(turn)).astype(
        np.float32
    )
    tone = np.array([1 + 0.07 * light.warmth, 1, 1 - 0.09 * light.warmth]) * light.gain
    return np.asarray(level[..., None] * tone.astype(np.float32), dtype=np.float32)
