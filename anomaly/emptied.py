"""Whether a place lost what belongs there, told from the pictures of both sides.

A blade that is gone leaves the card, a bottle the bottom of its crate: what is there now is plainer
than what belongs there, and no longer stands out from what lies around it. A tear or a hole may be
plain, but shows colours that nothing beside it has; a stain, a scuff, a crush or another unit has
edges of its own. The features of `compare` don't tell: an empty hollow is as new to them as a hole.

Limits chosen on 108 missing units and 280 other damages of rendered seeds 4000 to 4027, and once
regions had changed on 24 and 184 of seeds 8000 to 8003, and a set of the demo's, which they part;
`benchmarks.bench_naming` says how they do on other seeds.
"""

from __future__ import annotations

import cv2
import numpy as np

from embeddings.images import Mask, Pixels
from embeddings.patches import Floats

_PLAINER = 0.5  # edges of a place over those of what belongs there, both over the rest's
_AT_HOME = 0.75  # how far its colours are from those around it, over the same of what belongs there
_NO_STRANGER = 26.0  # and how far they may be at all, in levels of the planes below
_UNCHANGED = 0.8  # share of the pixels around a place that are taken for whole
_NEAREST = 0.05  # share of the colours around a place that its own are held against
# Opponent planes (Y, R - Y, B - Y); chroma, which light hardly moves, counts more.
_PLANES = np.array([[1 / 6, 1 / 6, 1 / 6], [5 / 3, -5 / 6, -5 / 6], [-5 / 6, -5 / 6, 5 / 3]])
_LEAST_CORE = 4  # cells
_MOST_INSIDE, _MOST_AROUND = 400, 600  # pixels whose colours are compared
_SQUARE = np.ones((3, 3), np.uint8)


class Emptied:
    """Asked of cells, see `__call__`.

    query, reference  (h, w, 3) uint8 RGB: the picture of a view, and a reference moved there
    product           (H, W) bool, cells of the product that the view shows; stride: their pixels
    """

    def __init__(self, query: Pixels, reference: Pixels, product: Mask, *, stride: int) -> None:
        self._product, self._stride = product, stride
        self._size: tuple[int, int] = (query.shape[0], query.shape[1])
        self._query, self._reference = _Side(query), _Side(reference)

    def __call__(self, cells: Mask, *, amiss: Mask) -> bool:
        """Whether (H, W) `cells` are plainer than what belongs there, and like their surroundings.

        `amiss`: all cells where something is. False where nothing of the product is around them.
        """
        core = _shrunk(cells)
        inside = self._pixels(core if core.sum() >= _LEAST_CORE else cells)
        around = self._least_changed(self._pixels(_grown(cells) & ~cells & self._product))
        if not inside.any() or not around.any():
            return False
        rest = self._pixels(self._product & ~_grown(amiss))
        usual = _over(self._query.edges(rest), self._reference.edges(rest)) if rest.any() else 1.0
        edges = _over(self._query.edges(inside), self._reference.edges(inside))
        if edges >= _PLAINER * usual:
            return False
        apart = self._query.apart(inside, around)
        stood_out = self._reference.apart(inside, around)
        return apart < min(_NO_STRANGER, _AT_HOME * stood_out)

    def _least_changed(self, pixels: Mask) -> Mask:
        """The share of (h, w) `pixels` that the query shows most like the reference: others are
        hurt as well, or alignment missed them."""
        off = np.square(self._query.colours - self._reference.colours).sum(axis=2)
        return pixels & (off <= np.quantile(off[pixels], _UNCHANGED)) if pixels.any() else pixels

    def _pixels(self, cells: Mask) -> Mask:
        """The pixels of (H, W) cells; where the grid ends early, none."""
        whole = np.zeros(self._size, np.bool_)
        large = np.kron(cells, np.ones((self._stride, self._stride), np.bool_))
        height, width = self._size
        large = large[:height, :width]
        whole[: large.shape[0], : large.shape[1]] = large
        return whole


class _Side:
    """(h, w) pixels of one side: colours in opponent planes, and how steeply they change."""

    def __init__(self, picture: Pixels) -> None:
        calm = cv2.GaussianBlur(picture, (0, 0), 1.0).astype(np.float32)
        self.colours: Floats = np.asarray(cv2.transform(calm, _PLANES), np.float32)
        across, down = (cv2.Sobel(self.colours, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
        self._steep = np.sqrt((across**2 + down**2).sum(axis=2))

    def edges(self, inside: Mask) -> float:
        return float(self._steep[inside].mean())

    def apart(self, inside: Mask, around: Mask) -> float:
        """Mean distance of the colours inside to the nearest twentieth of those around."""
        own, others = self._some(inside, _MOST_INSIDE), self._some(around, _MOST_AROUND)
        near = np.sqrt(((own[:, None] - others[None]) ** 2).sum(axis=2))
        nearest = int(_NEAREST * len(others))
        return float(np.partition(near, nearest, axis=1)[:, nearest].mean())

    def _some(self, where: Mask, most: int) -> Floats:
        colours = self.colours[where]
        return colours[np.linspace(0, len(colours) - 1, min(most, len(colours))).astype(np.intp)]


def _over(some: float, others: float) -> float:
    return some / max(others, 1e-6)


def _grown(cells: Mask) -> Mask:
    return np.asarray(cv2.dilate(cells.astype(np.uint8), _SQUARE) > 0)


def _shrunk(cells: Mask) -> Mask:
    return np.asarray(cv2.erode(cells.astype(np.uint8), _SQUARE) > 0)
