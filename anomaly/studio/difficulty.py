"""How hard photographs are: ranges from which pose, light and camera are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from anomaly.errors import ConfigError
from anomaly.studio.scene import Light, Shot

Range = tuple[float, float]


@dataclass(frozen=True)
class Difficulty:
    """Each range is (lowest, highest), drawn evenly. Angles are degrees, blur and noise sigmas.

    A share `free_turn` of the shots turns by any angle, the others by at most `turn_deg`.
    `camera_distance` is in longest sides of the product: nearer draws perspective stronger.
    """

    turn_deg: float
    free_turn: float
    tilt_deg: float
    camera_distance: Range
    scale: Range
    gain: Range
    gradient: Range
    warmth: float
    noise_sigma: Range
    blur_sigma: Range
    jpeg_quality: tuple[int, int]

    def draw(self, rng: np.random.Generator, *, background: str = "tray") -> Shot:
        """A random set-up of this difficulty; as many draws from `rng` whatever the ranges."""
        free = rng.random() < self.free_turn
        turn = 180.0 if free else self.turn_deg
        return Shot(
            angle_deg=_between(rng, (-turn, turn)),
            scale=_between(rng, self.scale),
            centre=(_between(rng, (0.38, 0.62)), _between(rng, (0.42, 0.58))),
            tilt_x_deg=_between(rng, (-self.tilt_deg, self.tilt_deg)),
            tilt_y_deg=_between(rng, (-self.tilt_deg, self.tilt_deg)),
            light=Light(
                gain=_between(rng, self.gain),
                direction_deg=_between(rng, (-180, 180)),
                gradient=_between(rng, self.gradient),
                warmth=_between(rng, (-self.warmth, self.warmth)),
            ),
            background=background,
            belt_phase=(float(rng.random()), float(rng.random())),
            noise_sigma=_between(rng, self.noise_sigma),
            blur_sigma=_between(rng, self.blur_sigma),
            jpeg_quality=round(_between(rng, self.jpeg_quality)),
            camera_distance=_between(rng, self.camera_distance),
        )


LEVELS: Mapping[str, Difficulty] = {
    "easy": Difficulty(
        turn_deg=12, free_turn=0, tilt_deg=6, camera_distance=(4, 4), scale=(0.9, 1.1),
        gain=(0.94, 1.04), gradient=(0.04, 0.14), warmth=0.15,
        noise_sigma=(1, 2), blur_sigma=(0.3, 0.6), jpeg_quality=(90, 96),
    ),
    "medium": Difficulty(
        turn_deg=30, free_turn=0.3, tilt_deg=18, camera_distance=(2, 4), scale=(0.7, 1.1),
        gain=(0.82, 1.08), gradient=(0.05, 0.3), warmth=0.3,
        noise_sigma=(1.5, 4.5), blur_sigma=(0.4, 0.9), jpeg_quality=(70, 92),
    ),
    "hard": Difficulty(
        turn_deg=60, free_turn=0.7, tilt_deg=30, camera_distance=(1.4, 3), scale=(0.5, 1.1),
        gain=(0.65, 1.15), gradient=(0.1, 0.5), warmth=0.6,
        noise_sigma=(3, 9), blur_sigma=(0.6, 1.6), jpeg_quality=(40, 80),
    ),
}  # fmt: skip


def level(name: str) -> Difficulty:
    """One of `LEVELS` by name: easy, medium or hard."""
    if name not in LEVELS:
        raise ConfigError(f"difficulty {name!r}; expected one of {', '.join(LEVELS)}")
    return LEVELS[name]


def tilt_for(perspective: float, *, camera_distance: float) -> float:
    """Degrees to tilt a square face so that its far side is seen shorter by `perspective`.

    The near side lies half a side's sine nearer to the camera than the middle, the far side as
    much farther: far / near = (d - s / 2) / (d + s / 2) for the sine s and the distance d.
    """
    sine = 2 * camera_distance * perspective / (2 - perspective)
    if not 0 <= sine <= 1:
        raise ConfigError(
            f"perspective {perspective} at camera distance {camera_distance}; expected 0 to "
            f"{2 / (2 * camera_distance + 1):.2f}"
        )
    return float(np.rad2deg(np.arcsin(sine)))


def _between(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    return float(rng.uniform(*bounds))
