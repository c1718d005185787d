"""Which pixels are the product: a mask that was given, or an estimate with a confidence.

The estimate compares each pixel's colour with the tones along the borders (`background`) and
splits the distances in two classes (Otsu 1979). Beside a product that lies whole in the picture,
what the border cuts off is a neighbour. Neighbours have the product's own tones, but those don't
reach as far along the borders as the background's: it is told by fewer and fewer tones, and what
tells the product best is taken. What lies between parts of it and is unlike what lies around is of
the product as well: print nearly as dark as the belt. Where both classes lie close together, what
may be uneven light is taken off (`falloff`). Confidence falls when the classes need much tidying,
when outlines are ragged, when the "product" runs along the border, or when its area is implausible:
then callers fall back to the picture's centre.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from embeddings.background import (
    Tone,
    background_tones,
    lab,
    lab_borders,
    reaches,
    shadow_tones,
    unlike,
)
from embeddings.errors import MaskError
from embeddings.falloff import Falloff, falloffs
from embeddings.images import Mask, Pixels, fit_longest_side

FOREGROUND_VERSION = 6
_WORKING_PX = 160
_MIN_SIDE = 8
_REACHES = (0.0, 0.2, 0.3, 0.4, 0.5)  # of the borders, the least of the background's tones
_AS_LARGE = 0.5  # of all that is cut off
# Confidence from which fewer tones are believed to be the background's, how much more of it than
# before, or how much more of the product.
_SURE, _SURER, _MORE = 0.85, 0.1, 1.1
# Share of the variance between the classes from which no other light is tried, how much more of it
# there must be in that, and how much of the product.
_CLEAR, _CLEARER, _LESS = 0.88, 0.02, 0.8
_TWO_GREYS, _DRAWN_PX = 0.7, 640  # of the pixels; photographs reach a quarter
_RING = 0.05  # of a product's size: around it
_QUIET = 0.75  # quantile of what that is unlike the background; share of a gap that is more so
_CLOSE_PX, _AROUND = 180, 0.15  # the close look: longer side, margin as a share of the product
_BAND = 0.05  # how far off the coarse outline may be, as a share of the close look
_MIN_AREA, _MAX_AREA = 0.01, 0.85


@dataclass(frozen=True)
class Foreground:
    """`mask`: (H, W) bool, True on the product. `confidence`: 0 (a guess) to 1 (given)."""

    mask: Mask
    confidence: float
    source: str  # given | estimated


def given_foreground(mask: Mask) -> Foreground:
    """A supplied mask, trusted. Raises `MaskError` if it marks nothing."""
    if mask.ndim != 2 or mask.dtype != np.bool_ or not mask.any():
        raise MaskError(
            f"mask {mask.dtype}{list(mask.shape)} with {int(np.count_nonzero(mask))} product "
            "pixels; expected (H, W) bool with at least one"
        )
    return Foreground(mask, 1.0, "given")


def estimate_foreground(image: Pixels) -> Foreground:
    """Guess the product's pixels in an (H, W, 3) uint8 RGB picture; see the module's text."""
    height, width = image.shape[:2]
    if min(height, width) < _MIN_SIDE:
        return Foreground(np.ones((height, width), np.bool_), 0.0, "estimated")
    small = fit_longest_side(image, min(_WORKING_PX, max(height, width)))
    found = _told(lab(small, 1.2), alone=_drawn(image))
    if found is None:
        return Foreground(np.ones((height, width), np.bool_), 0.0, "estimated")
    sure = found.confidence > 0
    full = _refined(image, found) if sure else _resized(found.mask, (height, width))
    return Foreground(full, found.confidence, "estimated")


@dataclass(frozen=True)
class _Found:
    """A mask, how sure it is, whether neighbours were left out, the least `reach` of the tones
    that were taken for the background's, how far both classes are `apart` (Otsu's share of the
    variance that lies between them), whether shadows along the borders were left out, and the light
    that was taken off."""

    mask: Mask
    confidence: float
    neighbours: bool
    reach: float
    apart: float
    shadows: bool = False
    light: Falloff | None = None

    def better_than(self, earlier: _Found) -> bool:
        """Whether this is to be believed, where more tones were the background's earlier: either
        it is surer, or neighbours hid some of the product."""
        hid = self.neighbours and self.mask.sum() >= _MORE * earlier.mask.sum()
        return self.confidence >= _SURE and (hid or self.surer_than(earlier))

    def surer_than(self, earlier: _Found) -> bool:
        """Whether this is to be believed, where less was the background's earlier."""
        return self.confidence >= _SURE and self.confidence > earlier.confidence + _SURER

    def clearer_than(self, earlier: _Found) -> bool:
        """Whether this is to be believed, where light was taken off: in even light there is more of
        a product to be seen, not less, unless it wasn't sure where it was."""
        less = earlier.confidence >= _SURE and self.mask.sum() < _LESS * earlier.mask.sum()
        return self.confidence >= _SURE and not less and self.apart > earlier.apart + _CLEARER


def _told(colours: NDArray[np.float32], *, alone: bool) -> _Found | None:
    """The product in the light as it is, or where that tells it badly, in even light: as what may
    be the light has been taken off, if that sets it better apart."""
    best = _told_by_tones(colours, alone=alone)
    if alone or best is None or best.apart >= _CLEAR:
        return best
    for light in falloffs(colours):
        other = _told_by_tones(light.taken_off(colours), alone=alone)
        if other is not None and other.clearer_than(best):
            best = replace(other, light=light)
    return best


def _told_by_tones(colours: NDArray[np.float32], *, alone: bool) -> _Found | None:
    """The product by all tones of the borders, or by those that reach far where that tells it
    better; None if all is alike. `alone`: there are no neighbours."""
    tones = background_tones(colours)
    far = reaches(tones, colours)
    found, asked = None, len(tones) + 1
    for reach in _REACHES[:1] if alone else _REACHES:
        kept = _reaching(tones, far, reach)
        if not kept or len(kept) == asked:
            continue
        asked = len(kept)
        other = _split(colours, kept, reach, alone=alone)
        if found is None or (other is not None and other.better_than(found)):
            found = other
    return found if alone or found is None else _out_of_shadow(colours, found)


def _out_of_shadow(colours: NDArray[np.float32], found: _Found) -> _Found:
    """The product without a shadow that runs from it to the border, where that makes it surer."""
    if found.confidence >= _SURE:
        return found
    tones = _tones(colours, found)
    dark = shadow_tones(colours, tones)
    other = _split(colours, [*tones, *dark], found.reach, alone=False) if dark else None
    return replace(other, shadows=True) if other and other.surer_than(found) else found


def _tones(colours: NDArray[np.float32], found: _Found) -> list[Tone]:
    """The background's, as far as they were taken for it."""
    tones = background_tones(colours)
    if found.reach:
        tones = _reaching(tones, reaches(tones, colours), found.reach) or tones
    return [*tones, *shadow_tones(colours, tones)] if found.shadows else tones


def _reaching(tones: list[Tone], far: NDArray[np.float64], least: float) -> list[Tone]:
    return [tone for tone, own in zip(tones, far, strict=True) if own >= least]


def _split(
    colours: NDArray[np.float32], tones: list[Tone], reach: float, *, alone: bool
) -> _Found | None:
    distance = unlike(colours, tones)
    if float(distance.max() - distance.min()) < 1e-6:
        return None
    raw = _upper_class(distance)
    apart = _apart(distance, raw > 0)
    if alone:
        mask = _tidy(raw)
        return _Found(mask, _confidence(raw, mask), False, reach, apart) if mask.any() else None
    # Neighbours first, or closing gaps would join them with the product.
    cut = _cut_off(cv2.morphologyEx(raw, cv2.MORPH_OPEN, _disc(3)) > 0)
    raw[cv2.dilate(cut.astype(np.uint8), _disc(3)) > 0] = 0
    every = _tidy(raw)
    also = _cut_off(every)
    raw[also] = 0
    mask = every & ~also
    if not mask.any():
        return None
    between = _between(mask, distance)
    raw[between], mask = 1, mask | between
    return _Found(mask, _confidence(raw, mask), bool(cut.any() or also.any()), reach, apart)


def _between(mask: Mask, distance: NDArray[np.float32]) -> Mask:
    """What lies between parts of a (H, W) mask, if it is unlike what lies around them all: loose
    units have the same between them as around."""
    nothing = np.zeros_like(mask)
    count, _ = cv2.connectedComponents(mask.astype(np.uint8))
    if count <= 2:
        return nothing
    points = cv2.findNonZero(mask.astype(np.uint8))
    hull = cv2.fillConvexPoly(np.zeros(mask.shape, np.uint8), cv2.convexHull(points), 1)
    wide = max(2, round(_RING * int(np.ptp(points, axis=0).max())))
    ring = (cv2.dilate(hull, _disc(4 * wide + 1)) > 0) & ~(cv2.dilate(hull, _disc(5)) > 0)
    gap = (hull > 0) & ~mask
    inner = gap & ~(cv2.dilate(mask.astype(np.uint8), _disc(3)) > 0)
    if not ring.any() or not inner.any():
        return nothing
    usual = np.quantile(distance[ring], _QUIET)
    return gap if (distance[inner] > usual).mean() >= _QUIET else nothing


def _drawn(image: Pixels) -> bool:
    """Whether the picture has two greys only, as drawings and binarised pictures of boards: there
    is no product in it, and no neighbours."""
    every = max(1, max(image.shape[:2]) // _DRAWN_PX)  # shrinking would make greys between them
    grey = cv2.cvtColor(np.ascontiguousarray(image[::every, ::every]), cv2.COLOR_RGB2GRAY)
    shares = cv2.calcHist([grey], [0], None, [128], [0, 256]).ravel() / grey.size
    return float(np.sort(shares)[-2:].sum()) >= _TWO_GREYS


def _cut_off(mask: Mask) -> Mask:
    """The parts that the picture cuts off, where one as large lies whole in it; else none."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    areas = stats[:, cv2.CC_STAT_AREA]
    cut = np.zeros(len(areas), np.bool_)
    cut[np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])] = True
    whole = ~cut
    cut[0] = whole[0] = False
    if not cut.any() or not whole.any() or areas[whole].max() < _AS_LARGE * areas[cut].sum():
        return np.zeros(mask.shape, np.bool_)
    return np.asarray(cut[parts])


def _refined(image: Pixels, found: _Found) -> Mask:
    """The mask with its outline drawn anew in a close look at the product.

    Only pixels near the coarse outline are asked again; parts that the outline cuts off are
    dropped. Where the close look finds next to nothing or all, the coarse mask stays.
    """
    height, width = image.shape[:2]
    coarse = found.mask
    box = _close_up(coarse, (height, width))
    scale = min(1.0, _CLOSE_PX / max(box[0].stop - box[0].start, box[1].stop - box[1].start))
    size = tuple(max(_MIN_SIDE, round((s.stop - s.start) * scale)) for s in box)
    near = cv2.resize(image[box], size[::-1], interpolation=cv2.INTER_AREA)
    guess = _resized(_resized(coarse, (height, width))[box], size)
    band = 2 * max(2, round(_BAND * max(size))) + 1
    core, reach = (
        cv2.morphologyEx(guess.astype(np.uint8), kind, np.ones((band, band), np.uint8)) > 0
        for kind in (cv2.MORPH_ERODE, cv2.MORPH_DILATE)
    )
    whole = fit_longest_side(image, max(_MIN_SIDE, round(scale * max(height, width))))
    doubtful = reach & ~core
    borders, close = lab_borders(whole, 0.8), lab(near, 0.8)
    if found.light is not None:
        rows, columns = (
            (part.start / side, part.stop / side)
            for part, side in zip(box, (height, width), strict=True)
        )
        borders, close = found.light.taken_off(borders), found.light.taken_off(close, rows, columns)
    tones = _tones(borders, found)
    raw = core.astype(np.uint8)
    raw[doubtful] = _upper_class(unlike(close[doubtful][None], tones))[0]
    fine = _tidy(raw)
    if not 0.5 <= float(fine.sum()) / max(1, int(guess.sum())) <= 2.0:
        return _resized(coarse, (height, width))
    full = np.zeros((height, width), np.bool_)
    full[box] = _resized(fine, (box[0].stop - box[0].start, box[1].stop - box[1].start))
    return full


def _close_up(coarse: Mask, image_size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of the picture that hold the product and a margin."""
    spans = []
    for axis, side in ((1, 0), (0, 1)):
        found = np.flatnonzero(coarse.any(axis=axis))
        scale = image_size[side] / coarse.shape[side]
        spans.append((found[0] * scale, (found[-1] + 1) * scale))
    margin = _AROUND * max(stop - start for start, stop in spans)
    rows, columns = (
        slice(max(0, math.floor(start - margin)), min(side, math.ceil(stop + margin)))
        for (start, stop), side in zip(spans, image_size, strict=True)
    )
    return rows, columns


def _resized(mask: Mask, size: tuple[int, ...]) -> Mask:
    return np.asarray(
        cv2.resize(mask.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST_EXACT) > 0
    )


def _upper_class(unlike: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Otsu's upper class of a map, as 0/1."""
    spread = float(unlike.max() - unlike.min())
    levels = ((unlike - unlike.min()) * (255 / spread)).astype(np.uint8)
    return cast(NDArray[np.uint8], cv2.threshold(levels, 0, 1, cv2.THRESH_OTSU)[1])


def _apart(values: NDArray[np.float32], upper: Mask) -> float:
    """Share of the variance of a map that lies between two classes, 0 to 1."""
    share = float(upper.mean())
    if not 0 < share < 1:
        return 0.0
    between = float(values[upper].mean() - values[~upper].mean()) ** 2
    return share * (1 - share) * between / max(1e-12, float(values.var()))


def _tidy(mask: NDArray[np.uint8]) -> Mask:
    """Close gaps, fill holes, drop thin threads and specks: parts under a tenth of the largest."""
    disc = _disc(7)
    closed = cv2.morphologyEx(np.pad(mask, 8), cv2.MORPH_CLOSE, disc)
    outside = closed.copy()
    cv2.floodFill(outside, None, (0, 0), 1)
    solid = cv2.morphologyEx(closed | (1 - outside), cv2.MORPH_OPEN, disc)[8:-8, 8:-8]
    _, labels, stats, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(solid))
    areas = stats[:, cv2.CC_STAT_AREA].astype(np.int64)
    areas[0] = 0
    keep = np.flatnonzero(areas >= max(1.0, 0.1 * areas.max()))
    return np.asarray(np.isin(labels, keep), dtype=np.bool_)


def _disc(side: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)


def _confidence(raw: NDArray[np.uint8], mask: Mask) -> float:
    """Product of three doubts, each 0 to 1: ragged classes, ragged outlines, border contact."""
    if not _MIN_AREA <= float(mask.mean()) <= _MAX_AREA:
        return 0.0
    agreement = float((mask & (raw > 0)).sum() / (mask | (raw > 0)).sum())
    border = np.ones(mask.shape, np.bool_)
    border[1:-1, 1:-1] = False
    touching = float(mask[border].mean())
    # Clutter needs much tidying and has outlines full of bays; a "product" along a quarter of the
    # border is more likely the background's other half.
    tidy = np.clip((agreement - 0.5) / 0.3, 0, 1)
    convex = np.clip((_solidity(mask) - 0.6) / 0.25, 0, 1)
    return float(tidy * convex * np.clip(1 - touching / 0.25, 0, 1))


def _solidity(mask: Mask) -> float:
    """Area over convex area, each part against its own hull: 1 for any set of convex things."""
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hulls = sum(cv2.contourArea(cv2.convexHull(outline)) for outline in outlines)
    return min(1.0, sum(cv2.contourArea(o) for o in outlines) / hulls) if hulls > 0 else 0.0
