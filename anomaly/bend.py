"""Bent print: how far what is printed on the product has moved against aligned references.

A dent or a crush hardly changes colours, but print lies elsewhere on it: after the best plane
motion, straight edges run crooked. Dense optical flow (DIS, Kroeger et al., ECCV 2016) between
pictures freed of their light finds how far; only its part across edges is known, and only where the
reference has edges (the aperture problem). What an affine motion explains is registration's rest.
References err each on its own, what is bent lies off in all of them: the mean over them counts.
The outline itself is `outline`'s: background glides past it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly.matched import Laid, Matched
from embeddings.images import Mask, Pixels
from embeddings.patches import Floats
from embeddings.threads import each

_RIM = 0.07  # of the product's size (root of its area): nearer to its outline nothing is known
_AROUND = 0.02  # of the same: sigma over which print moves as one
_EDGE, _CLEAR_EDGE = 7.0, 8.0  # grey levels per pixel: from which it is one, and counts in full
_LEAST_EDGES, _MOST_FITTED = 50, 4000  # pixels; those that the affine motion is fitted to
_SLIGHT = 0.03  # weight of what doesn't move: lone edge pixels say little
TOP = 0.02  # share of the product whose mean is the score
_FLAT, _EVEN = 6.0, 12.0  # sigma of light and of contrast, which are evened out
_NOISE = 9.0  # variance of grey levels that is none
_UNLIKE = 14.0  # grey levels of evened pictures: beyond, what moved there is not the same print
_LOOSE = 0.5  # pixels beyond which an edge counts less in the affine motion


@dataclass(frozen=True)
class Bends:
    """`moved`: (H, W) float32 on the view's grid, pixels by which print moved at a cell's worst
    place; NaN where none is known. `score`: mean over the worst `TOP` of the product's pixels.
    `share` of the product's cells compared."""

    moved: Floats
    score: float
    share: float


def compare_bends(matched: Matched) -> Bends | None:
    """How far print moved, as the mean over the references laid upon the query has it. None where
    none of them has print of its own on a product that is no guess: what lies beside it moves by
    itself."""
    even = _even(cv2.cvtColor(matched.query, cv2.COLOR_RGB2GRAY))
    shown = matched.shown()
    known = [laid for laid in matched.laid if laid.trusted]
    found = [one for one in each(lambda laid: _drawn(even, laid, shown), known) if one is not None]
    if not found:
        return None
    weights, across, down = cv2.split(np.mean([one.motion for one in found], axis=0))
    moved = cv2.magnitude(across, down) / (weights + _SLIGHT)
    seen = np.logical_or.reduce([one.seen for one in found])
    cells = matched.by_cell(moved, seen)
    asked = np.isfinite(cells)
    if not asked.any():
        return None
    values = moved[seen]
    count = max(1, round(TOP * values.size))
    score = float(np.partition(values, values.size - count)[-count:].mean())
    return Bends(cells, score, float(asked.mean()))


@dataclass(frozen=True)
class _Drawn:
    """Of one reference: (h, w, 3) weight of the edges around and their motion in pixels times it,
    and (h, w) where that is asked."""

    motion: Floats
    seen: Mask


def _drawn(even: Pixels, laid: Laid, shown: Pixels) -> _Drawn | None:
    size = math.sqrt(max(1, int(cv2.countNonZero(laid.product))))
    rim = 2 * math.ceil(_RIM * size) + 1
    known = cv2.erode(laid.known, np.ones((rim, rim), np.uint8), borderValue=0)
    inner = (known > 0) & (shown > 0)
    grey = cv2.cvtColor(laid.picture, cv2.COLOR_RGB2GRAY)
    across, down = (cv2.Sobel(grey, cv2.CV_32F, *axis) / 8 for axis in ((1, 0), (0, 1)))
    steep = cv2.magnitude(across, down)
    edges = inner & (steep >= _EDGE)
    if edges.sum() < _LEAST_EDGES:
        return None
    theirs = _even(grey)
    flow = _flow().calc(theirs, even, None)
    unlike = _unlike(theirs, even, flow)
    rows, columns = np.nonzero(edges)
    normals = np.stack([across[edges], down[edges]], axis=1) / steep[edges][:, None]
    weights = np.minimum(steep[edges] / _CLEAR_EDGE, 1) / (1 + (unlike[edges] / _UNLIKE) ** 4)
    places = np.stack([columns, rows], axis=1) / size
    along = np.einsum("nk,nk->n", flow[edges], normals)
    rest = along - _affine(places, normals, along, weights)
    drawn = np.zeros((*grey.shape, 3), np.float32)
    drawn[edges] = np.column_stack([weights, normals * (rest * weights)[:, None]])
    return _Drawn(_coarse(drawn, max(1.0, _AROUND * size), 2), inner)


def _flow() -> cv2.DISOpticalFlow:
    """OpenCV's preset "medium" with fewer patches, descents and refinements."""
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow.setPatchStride(4)
    flow.setGradientDescentIterations(12)
    flow.setVariationalRefinementIterations(2)
    return flow


def _unlike(theirs: Pixels, ours: Pixels, flow: Floats) -> Floats:
    """(h, w) grey levels by which the query differs where the flow says it shows the same."""
    y, x = np.indices(theirs.shape, dtype=np.float32)
    there = cv2.remap(ours, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR)
    return np.asarray(cv2.blur(cv2.absdiff(there, theirs).astype(np.float32), (5, 5)))


def _even(grey: Pixels) -> Pixels:
    """(h, w) uint8 without slow light, its contrast the same everywhere."""
    values = grey.astype(np.float32)
    flat = values - _coarse(values, _FLAT, 3)
    contrast = cv2.sqrt(_coarse(flat * flat, _EVEN, 3) + np.float32(_NOISE))
    return np.asarray(cv2.convertScaleAbs(cv2.max(128 + 40 * flat / contrast, 0)))


def _coarse(values: Floats, sigma: float, parts: int) -> Floats:
    """Gaussian mean of (h, w) or (h, w, C), taken at one of so many `parts` of the size: it has no
    detail to lose."""
    height, width = values.shape[:2]
    size = (max(1, width // parts), max(1, height // parts))
    small = cv2.resize(values, size, interpolation=cv2.INTER_AREA)
    mean = cv2.GaussianBlur(small, (0, 0), sigma / parts)
    return np.asarray(cv2.resize(mean, (width, height), interpolation=cv2.INTER_LINEAR))


def _affine(
    places: NDArray[np.floating], normals: Floats, along: Floats, weights: Floats
) -> NDArray[np.float64]:
    """(N,) motion across edges that one affine motion of all gives, by reweighted least squares
    (Cauchy weights), so that what is bent doesn't pull it."""
    planes = np.column_stack([places, np.ones(len(places))])
    basis = np.hstack([planes * normals[:, :1], planes * normals[:, 1:]])
    some = slice(None, None, -(-len(along) // _MOST_FITTED))
    fitted, motions, given = basis[some], along[some], weights[some]
    now: Floats = given
    for _ in range(4):
        weighted = fitted.T * now
        found = np.linalg.solve(weighted @ fitted + 1e-3 * np.eye(6), weighted @ motions)
        off = (motions - fitted @ found) / _LOOSE
        now = np.asarray(given / (1 + off**2), np.float32)
    return np.asarray(basis @ found, np.float64)
