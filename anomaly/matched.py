"""Pixels of the query and of its aligned references, laid upon each other as close as both allow.

A view is embedded at a fixed size, in which a product far from the camera is small. Here its place
alone is looked at, in the resolution that picture and references have: each view pixel becomes up
to a few. Where the product is a guess (a board in its fixture) correlating pixels makes good what
registration left over; elsewhere it gains nothing, and shadows and dents pull.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from anomaly.looks import part_of, scaled, to_look, warped, warped_mask
from anomaly.results import Pairing, View
from embeddings.images import Mask, Pixels
from embeddings.on_product import TRUSTED
from embeddings.patches import Floats
from embeddings.registration import Matrix, inverse
from embeddings.threads import each
from gallery.describe import Reference

_LEAST_CELLS = 6  # of the product in the view, under which it says nothing
_MOST_PX = 320  # longest side of what is looked at, unless the view itself has more
COARSE_PX = 224  # the same where light and rest motion are estimated
_COARSEST = 6.0  # sigma in those pixels of what correlating them passes over
_MOST_MOVED = 0.03  # of the longest side, at the corners: beyond, the refinement went astray
_STEPS = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 12, 1e-4)
_SEEN = 0.6  # share of a cell's pixels that must be compared


@dataclass(frozen=True)
class Laid:
    """One reference in the query's place.

    picture  (h, w, 3) uint8 RGB
    known    (h, w) uint8: where it may be compared: its product, or all of it if that is a guess;
             of several that are trusted, what most of them take for it
    product  (h, w) uint8: its product, or what is taken for it
    trusted  whether the product is no guess
    """

    picture: Pixels
    known: Pixels
    product: Pixels
    trusted: bool


@dataclass(frozen=True)
class Matched:
    """`query`: (h, w, 3) uint8 RGB, what cells `rows`, `columns` of the view's grid show, each cell
    `cell_px` pixels wide. `laid`: references in its place, one or more."""

    query: Pixels
    laid: tuple[Laid, ...]
    rows: slice
    columns: slice
    cell_px: int
    view: View

    def shown(self) -> Pixels:
        """(h, w) uint8: 1 where the view is measured, glare and what lies beyond it left out."""
        cells = self.view.measured[self.rows, self.columns].astype(np.uint8)
        return np.repeat(np.repeat(cells, self.cell_px, axis=0), self.cell_px, axis=1)

    def by_cell(self, values: Pixels | Floats, seen: Mask) -> Floats:
        """(H, W) float32 on the view's grid: the highest of (h, w) values in each cell; NaN where
        too little of it was `seen`."""
        rows, columns = self.rows.stop - self.rows.start, self.columns.stop - self.columns.start
        inside = (rows, self.cell_px, columns, self.cell_px)
        share = seen.reshape(inside).mean(axis=(1, 3), dtype=np.float32)
        worst = np.where(seen, values, 0).reshape(inside).max(axis=(1, 3)).astype(np.float32)
        whole = np.full(self.view.patches.shape, np.nan, np.float32)
        whole[self.rows, self.columns] = np.where(share >= _SEEN, worst, np.nan)
        hidden = self.view.veiled
        shown = self.view.measured if hidden is None else self.view.measured | hidden
        return np.where(shown, whole, np.nan).astype(np.float32)


def lay_upon(
    picture: Pixels, view: View, references: Sequence[tuple[Reference, Pairing]]
) -> Matched | None:
    """Lay aligned references that hold pictures upon the (H, W, 3) picture as given; None where
    none is left that lies in the view."""
    sources = [_Source(r, p, view) for r, p in references if r.thumbnail is not None]
    sources = [one for one in sources if one.cells.sum() >= _LEAST_CELLS]
    if not sources:
        return None
    rows, columns = _box(np.logical_or.reduce([one.cells for one in sources]))
    cell_px = _cell_px(view, sources, max(rows.stop - rows.start, columns.stop - columns.start))
    zoom = cell_px / view.patches.layers[0].stride_px
    closer = _shift(-columns.start * cell_px, -rows.start * cell_px) @ scaled(zoom)
    size = ((rows.stop - rows.start) * cell_px, (columns.stop - columns.start) * cell_px)
    query = _calmed(part_of(picture, closer @ to_look(view), size))
    # The grid may end beyond the picture: nothing is known there.
    inside = warped_mask(np.ones(picture.shape[:2], np.uint8), closer @ to_look(view), size)
    here = None if all(one.trusted for one in sources) else _coarse_grey(query)
    laid = _agreed(each(lambda one: _laid(one, closer, here, inside), sources))
    return Matched(query, laid, rows, columns, cell_px, view)


def _agreed(laid: Sequence[Laid]) -> tuple[Laid, ...]:
    """Their masks as most of those that are trusted have it: what lies beside a product now and
    then sticks to one, and is other belt in every picture."""
    trusted = [one.known for one in laid if one.trusted]
    if len(trusted) < 2:
        return tuple(laid)
    votes = np.sum([known > 0 for known in trusted], axis=0)
    most = (2 * votes > len(trusted)).astype(np.uint8)
    return tuple(replace(one, known=one.known * most) if one.trusted else one for one in laid)


class _Source:
    """A reference's finest picture, and where it lies in the view.

    motion  its pixels -> look pixels
    cells   (H, W) bool, cells of the view where it may be compared
    """

    def __init__(self, reference: Reference, pairing: Pairing, view: View) -> None:
        assert reference.thumbnail is not None
        assert pairing.registration.matrix is not None
        close = reference.close_up
        self.picture = close.picture if close is not None else reference.thumbnail
        stored = close.to_close() if close is not None else reference.patches.to_working()
        onto = to_look(view) @ pairing.registration.matrix
        self.motion: Matrix = onto @ inverse(stored)
        self.trusted = reference.foreground.confidence >= TRUSTED
        self.mask, self.mask_motion = _mask_of(reference, onto)
        self.known = self.mask if self.trusted else np.ones_like(self.mask)
        stride = view.patches.layers[0].stride_px
        self.cells = warped_mask(
            self.known, scaled(1 / stride) @ self.mask_motion, view.patches.shape
        ).astype(np.bool_)

    @property
    def zoom(self) -> float:
        """Its pixels per look pixel."""
        return 1 / math.sqrt(max(1e-9, abs(float(np.linalg.det(self.motion[:2, :2])))))


def _mask_of(reference: Reference, onto: Matrix) -> tuple[Pixels, Matrix]:
    """The product's mask, all of the picture where there is none, and its pixels' motion."""
    mask = reference.foreground.mask.astype(np.uint8)
    height, width = reference.patches.image_size
    across, down = width / mask.shape[1], height / mask.shape[0]
    larger = np.array([[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2], [0, 0, 1]])
    return (mask if mask.any() else np.ones_like(mask)), onto @ larger


def _box(cells: Mask) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(cells.any(axis=1)), np.flatnonzero(cells.any(axis=0))
    height, width = cells.shape
    return (
        slice(max(0, int(rows[0]) - 1), min(height, int(rows[-1]) + 2)),
        slice(max(0, int(columns[0]) - 1), min(width, int(columns[-1]) + 2)),
    )


def _cell_px(view: View, sources: Sequence[_Source], longest: int) -> int:
    """Pixels per cell: as many as both sides have and is afforded, at least the view's own."""
    stride = view.patches.layers[0].stride_px
    own = 1 / math.sqrt(max(1e-9, abs(float(np.linalg.det(to_look(view)[:2, :2])))))
    zoom = min(own, max(one.zoom for one in sources), _MOST_PX / (longest * stride))
    return max(stride, math.floor(zoom * stride + 1e-6))


def _laid(source: _Source, closer: Matrix, here: Floats | None, inside: Pixels) -> Laid:
    """`here`: the query's light at `coarse_size`, which guesses alone need; `inside`: where its
    picture is known."""
    size = (inside.shape[0], inside.shape[1])
    masks = closer @ source.mask_motion
    motion, calm = closer @ source.motion, _calmed(source.picture)
    if here is not None and not source.trusted:
        rest = _rest(motion, calm, here, warped_mask(source.known, masks, size))
        motion, masks = rest @ motion, rest @ masks
    picture = warped(calm, motion, size)
    known = warped_mask(source.known, masks, size) * inside
    product = warped_mask(source.mask, masks, size) * inside
    return Laid(picture, known, product, source.trusted)


def _calmed(picture: Pixels) -> Pixels:
    """Noise and the blocks of JPEGs smoothed, both pictures alike."""
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 1.0))


def _shift(x: float, y: float) -> Matrix:
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def coarse_size(size: tuple[int, ...]) -> tuple[int, int]:
    """(width, height) at which light and rest motion of (h, w) pixels are estimated."""
    factor = min(0.5, COARSE_PX / max(size))
    return max(1, round(factor * size[1])), max(1, round(factor * size[0]))


def _rest(motion: Matrix, picture: Pixels, here: Floats, on: Pixels) -> Matrix:
    """The affine correction after which both pictures correlate best (ECC: Evangelidis & Psarakis,
    PAMI 2008); none where that fails or goes astray."""
    (tall, wide), small = on.shape, here.shape[::-1]
    down = np.diag([small[0] / wide, small[1] / tall, 1.0])
    down[:2, 2] = (np.diag(down)[:2] - 1) / 2
    there = _flat(warped(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), down @ motion, small[::-1]))
    mask = cv2.resize(on, small, interpolation=cv2.INTER_NEAREST)
    try:
        _, found = cv2.findTransformECC(
            here, there, np.eye(2, 3, dtype=np.float32), cv2.MOTION_AFFINE, _STEPS, mask, 5
        )
    except cv2.error:  # it doesn't converge, or there is nothing to correlate
        return np.eye(3)
    rest = inverse(down) @ np.vstack([found, [0, 0, 1]]) @ down
    corners = np.array([[0, wide, 0, wide], [0, 0, tall, tall], [1, 1, 1, 1]])
    moved = np.abs((rest @ corners - corners)[:2]).max()
    return np.eye(3) if moved > _MOST_MOVED * max(tall, wide) else inverse(rest)


def _coarse_grey(query: Pixels) -> Floats:
    grey = cv2.cvtColor(query, cv2.COLOR_RGB2GRAY)
    return _flat(cv2.resize(grey, coarse_size(grey.shape), interpolation=cv2.INTER_AREA))


def _flat(grey: Pixels) -> Floats:
    """(h, w) less what is coarse: shadows on one of both pictures would pull them together."""
    values = grey.astype(np.float32)
    return np.asarray(values - cv2.GaussianBlur(values, (0, 0), _COARSEST), np.float32)
