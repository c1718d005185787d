"""Which pixels are the product: a mask that was given, or an estimate with a confidence.

The estimate compares each pixel's colour with the tones along each of the four borders (a
background prior, as in Wei et al., "Geodesic saliency using background priors", ECCV 2012) and
splits the distances in two classes (Otsu 1979). Its confidence falls when the classes need much
tidying, when outlines are ragged, when the "product" runs along the border, or when its area is
implausible: then callers fall back to the picture's centre.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from embeddings.errors import MaskError
from embeddings.images import Mask, Pixels, fit_longest_side

FOREGROUND_VERSION = 3
_WORKING_PX = 160
_BORDER = 0.06  # width of the border bands, as a share of the picture's sides
_MIN_SIDE = 8
_TONES, _ROUNDS = 3, 10  # clusters of colours along a border, rounds of k-means
_SAMPLE = 400  # pixels of a border, about
_NOISE = 0.02  # share of a border under which a cluster says nothing
_ALIKE = 11.3  # squared distance in spreads: 99 % of a tone's own colours lie nearer
_OTHER = 400.0  # the same, from which a colour is another one in any case
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
    colours = _lab(small, 1.2)
    unlike = _unlike(colours, _background(colours))
    if float(unlike.max() - unlike.min()) < 1e-6:
        return Foreground(np.ones((height, width), np.bool_), 0.0, "estimated")
    raw = _upper_class(unlike)
    mask = _tidy(raw)
    confidence = _confidence(raw, mask)
    if not mask.any():
        return Foreground(np.ones((height, width), np.bool_), 0.0, "estimated")
    full = _refined(image, mask) if confidence > 0 else _resized(mask, (height, width))
    return Foreground(full, confidence, "estimated")


def _refined(image: Pixels, coarse: Mask) -> Mask:
    """The mask with its outline drawn anew in a close look at the product.

    Only pixels near the coarse outline are asked again; parts that the outline cuts off are
    dropped. Where the close look finds next to nothing or all, the coarse mask stays.
    """
    height, width = image.shape[:2]
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
    unlike = _unlike(_lab(near, 0.8)[doubtful][None], _background(_lab_borders(whole, 0.8)))
    raw = core.astype(np.uint8)
    raw[doubtful] = _upper_class(unlike)[0]
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


def _lab(image: Pixels, blur: float) -> NDArray[np.float32]:
    smooth = cv2.GaussianBlur(image, (0, 0), blur)
    return np.asarray(cv2.cvtColor(smooth, cv2.COLOR_RGB2LAB), np.float32)


def _lab_borders(image: Pixels, blur: float) -> NDArray[np.float32]:
    """`_lab` along the borders; what lies between them isn't asked for, and is zero."""
    colours = np.zeros(image.shape, np.float32)
    for band in _bands(image.shape[:2]):
        rows, columns = (
            range(side)[part] for part, side in zip(band, image.shape[:2], strict=True)
        )
        # A blur of 0.8 px reaches 2 px.
        top, left = max(0, rows[0] - 2), max(0, columns[0] - 2)
        near = _lab(image[top : rows[-1] + 3, left : columns[-1] + 3], blur)
        colours[band] = near[rows[0] - top :, columns[0] - left :][: len(rows), : len(columns)]
    return colours


def _bands(shape: tuple[int, int]) -> list[tuple[slice, slice]]:
    rows, columns = (max(2, round(_BORDER * side)) for side in shape)
    every = slice(None)
    return [
        (slice(0, rows), every),
        (slice(-rows, None), every),
        (every, slice(0, columns)),
        (every, slice(-columns, None)),
    ]


@dataclass(frozen=True)
class _Tone:
    """A cluster of colours along one border: its share of the border, mean, and the (3, 3)
    matrix that makes a unit of its spread in every direction."""

    border: int
    share: float
    mean: NDArray[np.float32]
    whitening: NDArray[np.float32]

    def squared_distance(self, colour: NDArray[np.float32]) -> float:
        """Squared Mahalanobis distance of one (3,) colour."""
        white = (colour - self.mean) @ self.whitening
        return float(white @ white)


def _unlike(colours: NDArray[np.float32], tones: list[_Tone]) -> NDArray[np.float32]:
    """(H, W) log distance to the nearest tone of the background.

    Distances from which no pixel is background are all the same, or the two classes would be the
    loud colours and the rest.
    """
    planes = np.ascontiguousarray(colours.reshape(-1, 3).T)
    nearest = np.full(planes.shape[1], np.float32(_OTHER))
    for tone in tones:
        white = tone.whitening.T @ planes
        white -= (tone.mean @ tone.whitening)[:, None]
        np.minimum(nearest, np.einsum("cn,cn->n", white, white), out=nearest)
    return np.asarray(np.log1p(nearest).reshape(colours.shape[:-1]), np.float32)


def _background(colours: NDArray[np.float32]) -> list[_Tone]:
    """The tones along the borders, less those of a product that touches one: rare there, and
    along no other border.

    Several per border: a belt has light links and dark gaps, and one wide distribution of both
    would hold every colour between them, and white.
    """
    bands = [colours[rows, columns].reshape(-1, 3) for rows, columns in _bands(colours.shape[:2])]
    tones = _tones([band[:: max(1, len(band) // _SAMPLE)] for band in bands])
    return [
        tone
        for tone in tones
        if tone.share >= 1 / _TONES
        or any(o.border != tone.border and o.squared_distance(tone.mean) <= _ALIKE for o in tones)
    ]


def _tones(bands: list[NDArray[np.float32]]) -> list[_Tone]:
    """Cluster the (N, 3) colours of each border."""
    found = []
    for border, band in enumerate(bands):
        label = _clustered(band)
        parts = [band[label == i] for i in range(_TONES)]
        found += [
            _Tone(border, len(part) / len(band), part.mean(axis=0), _whitening(part))
            for part in parts
            if len(part) >= max(2, _NOISE * len(band))
        ]
    return found


def _clustered(band: NDArray[np.float32]) -> NDArray[np.int32]:
    """(N,) cluster of each colour, by k-means (Lloyd 1982) from equal parts by lightness."""
    rank = np.empty(len(band), np.int32)
    rank[np.argsort(band[:, 0], kind="stable")] = np.arange(len(band))
    label = (rank * _TONES // len(band))[:, None]
    stop = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, _ROUNDS, 0.1)
    _, label, _ = cv2.kmeans(
        np.ascontiguousarray(band), _TONES, label, stop, 1, cv2.KMEANS_USE_INITIAL_LABELS
    )
    return np.asarray(label[:, 0], np.int32)


def _whitening(colours: NDArray[np.float32]) -> NDArray[np.float32]:
    # 3 grey levels of noise keep the distribution of a uniform border finite.
    spread = np.cov(colours, rowvar=False) + 9.0 * np.eye(3)
    return np.asarray(np.linalg.cholesky(np.linalg.inv(spread)), np.float32)


def _upper_class(unlike: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Otsu's upper class of a map, as 0/1."""
    spread = float(unlike.max() - unlike.min())
    levels = ((unlike - unlike.min()) * (255 / spread)).astype(np.uint8)
    return cast(NDArray[np.uint8], cv2.threshold(levels, 0, 1, cv2.THRESH_OTSU)[1])


def _tidy(mask: NDArray[np.uint8]) -> Mask:
    """Close gaps, fill holes, drop thin threads and specks: parts under a tenth of the largest."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
    closed = cv2.morphologyEx(np.pad(mask, 8), cv2.MORPH_CLOSE, disc)
    outside = closed.copy()
    cv2.floodFill(outside, None, (0, 0), 1)
    solid = cv2.morphologyEx(closed | (1 - outside), cv2.MORPH_OPEN, disc)[8:-8, 8:-8]
    _, labels, stats, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(solid))
    areas = stats[:, cv2.CC_STAT_AREA].astype(np.int64)
    areas[0] = 0
    keep = np.flatnonzero(areas >= max(1.0, 0.1 * areas.max()))
    return np.asarray(np.isin(labels, keep), dtype=np.bool_)


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
