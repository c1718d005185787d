"""Labels that come off in part."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from anomaly.errors import ConfigError
from anomaly.studio.face import Face, Mask
from anomaly.studio.fields import fractal_noise, from_point, smooth_noise
from anomaly.studio.wound import level_covering, shape_of

_PAPER = (236, 231, 222)  # as where print is torn (`cuts.tear`)


def tear_label(
    rng: np.random.Generator, face: Face, *, area: float, split: bool
) -> tuple[Face, Mask]:
    """The face with a part of its label gone, from a side or a corner on, and its (h, w) truth.

    `area`: of the face, in pixels; never the whole label. `split`: the paper splits and leaves its
    white core; else it comes off, and the box shows.
    """
    if len(face.units) != 1 or face.empty is None:
        raise ConfigError(f"a torn label on a face of {len(face.units)} units; expected one label")
    (label,) = face.units
    shape = shape_of(face)
    rows, columns = np.nonzero(label)
    middle = float(columns.mean()), float(rows.mean())
    along, _ = from_point(shape, middle, angle=float(rng.uniform(-np.pi, np.pi)))
    ragged = along + 0.12 * np.sqrt(label.sum()) * fractal_noise(rng, shape, grain_px=60, octaves=5)
    level = level_covering(ragged, label, area=area)
    torn = label & (ragged > level)
    bared = face.empty.astype(np.float32)
    if split:
        bared = np.full((*shape, 3), _PAPER, np.float32)
        bared -= 7 * smooth_noise(rng, shape, grain_px=4)[..., None]
    colour = np.where(torn[..., None], bared.clip(0, 255).astype(np.uint8), face.colour)
    return replace(face, colour=colour), torn
