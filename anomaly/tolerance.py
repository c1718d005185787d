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
from anomaly.placed import Aligned, places_of, product_cells, sample
from anomaly.results import Channel, Pairing, View
from anomaly.rim import placed_score, top_mean
from embeddings.images import Mask
from embeddings.patches import Floats
from embeddings.registration import transform
from gallery.describe import Reference

TOLERANCE_VERSION = 1
_SCORES = {
    "product": placed_score, "missing": placed_score, "detail": placed_score,
    "surroundings": top_mean,
}  # fmt: skip
_LOGARITHMS = {"bend": TOP_BENT, "outline": TOP_OFF}  # share of a map whose mean is the score
_DOUBT = 4.0  # maps that "nothing special here" counts for: four make half of a place's factor
_COMMON = 0.8  # quantile of what is usual that counts as 1: where a map is quieter, it gains
_THIN = ("outline",)  # maps of lines, which never fall on the same cells twice
_WIDER = (3, 3)  # cells over which those are spread
_LEAST_CELLS = 10  # of the map with anything known
_LEVELS = 254  # of a byte; 0 is unknown, 1 is nothing

Maps = Mapping[str, "Stored"]
Places = NDArray[np.float32]
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


def counterparts(
    view: View, references: Sequence[Reference], pairings: Mapping[str, Pairing]
) -> dict[str, Places]:
    """By ID of those references that `pairings` has, (H, W, 2) x, y in cells of the reference where
    each cell of the view has its counterpart."""
    found = {}
    for one in references:
        if one.reference_id in pairings:
            cells = product_cells(one.foreground.mask, one.patches.shape)
            aligned = Aligned(one, _NO_GRID, cells, pairings[one.reference_id])
            found[one.reference_id] = places_of(aligned, view)[0].astype(np.float32)
    return found


def own_maps(channels: Sequence[Channel], view: View, reference: Reference) -> dict[str, Stored]:
    """A reference's channels when it was the picture, on its own grid."""
    centres = reference.patches.centres_px().reshape(-1, 2)
    places = view.patches.cells_of(transform(view.matrix, centres))
    maps = {}
    for channel in channels:
        if channel.map is not None and _is_eased(channel.name):
            plain = np.exp(channel.map) if channel.name in _LOGARITHMS else channel.map
            plain = _widened(plain) if channel.name in _THIN else plain
            maps[channel.name] = Stored.of(_at(plain, places).reshape(reference.patches.shape))
    return maps


def eased(
    channels: Sequence[Channel], places: Mapping[str, Places], learned: Mapping[str, Maps]
) -> tuple[Channel, ...]:
    """The channels set against what is usual at each place.

    places   by reference ID, see `counterparts`
    learned  by reference ID, then by channel: see `own_maps`
    """
    return tuple(_eased(channel, places, learned) for channel in channels)


def _is_eased(name: str) -> bool:
    return name in _SCORES or name in _LOGARITHMS


def _eased(channel: Channel, places: Mapping[str, Places], learned: Mapping[str, Maps]) -> Channel:
    if channel.map is None or not _is_eased(channel.name):
        return channel
    usual = [
        _at(learned[name][channel.name].values(), where.reshape(-1, 2)).reshape(where.shape[:2])
        for name, where in places.items()
        if channel.name in learned.get(name, ())
    ]
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
    if not usual:
        return None
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
    """(N,) bilinear values of an (H, W) map at (N, 2) cells; NaN where most is unknown."""
    known = np.isfinite(values)
    both = np.stack([np.where(known, values, 0), known], axis=2).astype(np.float32)
    found, inside = sample(both, np.asarray(places, np.float64))
    share = found[:, 1] * inside
    with np.errstate(invalid="ignore"):
        mean = found[:, 0] / np.maximum(share, 1e-6)
    return np.where(share > 0.5, mean, np.nan).astype(np.float32)


_NO_GRID = np.zeros((0, 0, 0), np.float32)
