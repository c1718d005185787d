"""What is usual at each place: gloss, folds and codes differ on every picture, print does not.

Every reference was compared with its siblings (`profile`), cell by cell. Where those maps are high,
pristine pictures of the product will be high again, and where they are low, little is a lot. So a
channel's map is divided by what its aligned references had at the same place; a few maps are noisy
themselves, so the fewer there are, the less they say. (Variation models of industrial inspection
set each pixel against its own spread: Steger, Ulrich & Wiedemann, Machine Vision Algorithms and
Applications, section 3.4.)
Rims are left as they are: where two bodies meet, the pose decides what is high.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly.bend import TOP as TOP_BENT
from anomaly.outline import TOP as TOP_OFF
from anomaly.placed import sample
from anomaly.results import Channel, Places, View
from anomaly.rim import placed_score, top_mean
from embeddings.images import Mask
from embeddings.patches import Floats
from embeddings.registration import inverse, transform
from gallery.describe import Reference

TOLERANCE_VERSION = 2
_SCORES = {
    "product": placed_score, "novel": placed_score, "missing": placed_score,
    "detail": placed_score, "surroundings": placed_score,
}  # fmt: skip
_LOGARITHMS = {"bend": TOP_BENT, "outline": TOP_OFF}  # share of a map whose mean is the score
_DOUBT = 4.0  # maps that "nothing special here" counts for: four make half of a place's factor
_COMMON = 0.8  # quantile of what is usual that counts as 1: where a map is quieter, it gains
_THIN = ("outline",)  # maps of lines, which never fall on the same cells twice
_WIDER = (3, 3)  # cells over which those are spread
_LEAST_CELLS = 10  # of the map with anything known
_LEVELS = 254  # of a byte; 0 is unknown, 1 is nothing

Maps = Mapping[str, "Stored"]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Stored:
    """A map on a reference's own grid: (H, W) uint8, 0 = unknown, `highest` at 255."""

    cells: Bytes
    highest: float

    @classmethod
    def of(cls, values: Floats) -> Stored:
        known = np.isfinite(values)
        highest = float(f"{max(0.0, float(values[known].max(initial=0.0))):.5g}") or 1.0
        with np.errstate(invalid="ignore"):
            steps = np.rint(np.clip(values / highest, 0, 1) * _LEVELS) + 1
        return cls(np.where(known, steps, 0).astype(np.uint8), highest)

    def values(self) -> Floats:
        """(H, W) float32, NaN where unknown."""
        steps = self.cells.astype(np.float32)
        return np.where(steps > 0, (steps - 1) * (self.highest / _LEVELS), np.nan).astype(
            np.float32
        )


def own_maps(channels: Sequence[Channel], view: View, reference: Reference) -> dict[str, Stored]:
    """A reference's channels when it was the picture as given, on its own grid."""
    centres = reference.patches.centres_px().reshape(-1, 2)
    back = np.eye(3) if reference.frame is None else inverse(reference.frame)
    places = view.patches.cells_of(transform(view.matrix @ back, centres))
    maps = {}
    for channel in channels:
        if channel.map is not None and _is_eased(channel.name):
            plain = np.exp(channel.map) if channel.name in _LOGARITHMS else channel.map
            plain = _widened(plain) if channel.name in _THIN else plain
            cells = _at(plain[..., None], places).reshape(reference.patches.shape)
            maps[channel.name] = Stored.of(cells)
    return maps


def eased(
    channels: Sequence[Channel], places: Mapping[str, Places], learned: Mapping[str, Maps]
) -> tuple[Channel, ...]:
    """The channels set against what is usual at each place.

    places   by reference ID
    learned  by reference ID, then by channel: see `own_maps`
    """
    names = [c.name for c in channels if c.map is not None and _is_eased(c.name)]
    usual = _usual(names, places, learned)
    return tuple(_eased(c, usual[c.name]) if c.name in usual else c for c in channels)


def _usual(
    names: Sequence[str], places: Mapping[str, Places], learned: Mapping[str, Maps]
) -> dict[str, list[Floats]]:
    """By channel, a (H, W) map of what is usual from each reference that knows."""
    found: dict[str, list[Floats]] = {}
    for reference_id, where in places.items():
        maps = learned.get(reference_id, {})
        known = [name for name in names if name in maps]
        if known:
            both = np.stack([maps[name].values() for name in known], axis=2)
            there = _at(both, where.reshape(-1, 2)).reshape(*where.shape[:2], len(known))
            for column, name in enumerate(known):
                found.setdefault(name, []).append(there[..., column])
    return found


def _is_eased(name: str) -> bool:
    return name in _SCORES or name in _LOGARITHMS


def _eased(channel: Channel, usual: Sequence[Floats]) -> Channel:
    assert channel.map is not None
    factor = _factor(usual, np.isfinite(channel.map))
    if factor is None:
        return channel
    if channel.name in _SCORES:
        cells = channel.map / factor
        return replace(channel, map=cells, score=_SCORES[channel.name](cells))
    # Measured finer than in cells: what these change carries over.
    share = _LOGARITHMS[channel.name]
    cells = channel.map - np.log(factor)
    change = top_mean(np.exp(cells), share=share) / top_mean(np.exp(channel.map), share=share)
    return replace(channel, map=cells, score=channel.score + math.log(change))


def _factor(usual: Sequence[Floats], known: Mask) -> Floats | None:
    """(H, W) what to divide by: 1 where nothing is usual, or where it is as in most places."""
    stack = np.stack(usual)
    count = np.isfinite(stack).sum(axis=0)
    asked = known & (count > 0)
    if asked.sum() < _LEAST_CELLS:
        return None
    mean = np.nansum(stack, axis=0) / np.maximum(count, 1)
    common = float(np.quantile(mean[asked], _COMMON))
    if common <= 0:
        return None
    return np.asarray(1 + count / (count + _DOUBT) * (mean / common - 1), np.float32)


def _widened(values: Floats) -> Floats:
    """Unknown cells next to known ones have their mean, known ones that of their neighbours."""
    known = np.isfinite(values)
    total = cv2.blur(np.where(known, values, 0).astype(np.float32), _WIDER)
    share = cv2.blur(known.astype(np.float32), _WIDER)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(share > 1e-3, total / share, np.nan).astype(np.float32)


def _at(values: Floats, places: NDArray[np.floating]) -> Floats:
    """(N, K) bilinear values of (H, W, K) maps at (N, 2) cells; NaN where most is unknown."""
    known = np.isfinite(values)
    both = np.concatenate([np.where(known, values, 0), known], axis=2).astype(np.float32)
    found, inside = sample(both, np.asarray(places, np.float64))
    total, share = np.split(found, 2, axis=1)
    share = share * inside[:, None]
    with np.errstate(invalid="ignore"):
        mean = total / np.maximum(share, 1e-6)
    return np.where(share > 0.5, mean, np.nan).astype(np.float32)
