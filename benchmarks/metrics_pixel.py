"""How well heat ranks defect pixels above others, from histograms that fit into a record.

A picture is kept as counts: its sound pixels and each connected region of its defect mask, over
the same bins of heat for all queries of a split. Pixel AUROC, AP and AUPRO depend on ranks only,
so they follow from these counts; what is lost is the order within a bin.

Why these bins. Equal steps of heat would put nearly all pixels into a few bins, and so would equal
shares of all pixels for the rare defect pixels. Half of the edges are therefore quantiles of the
defect pixels, half of the sound ones, those closer towards the top, where precision is decided.
A bin then holds at most p = 1/512 of the defect pixels beside ties, and the AUROC is off by at
most p/2 = 0.001, whatever the scale of the heat. Edges belong to a split because one model scored
it; products are averaged, never mixed. Sorting float16 maps instead would cost 50 times the bytes.

A pixel that a scorer didn't measure (NaN) isn't pointed at: it ranks below all others. Leaving it
out would reward a scorer for looking away.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.metrics_image import Sweep, area_under_pr, area_under_roc

Counts = NDArray[np.uint32]
_UNIFORM, _TAIL, _DEFECT = 341, 171, 511  # edges: 1024 bins at most
_SAMPLED = 2_000_000  # pixels that quantiles are taken of


@dataclass(frozen=True)
class HeatView:
    """heat (h, w) float32 over the whole picture evenly, NaN = unmeasured; mask (H, W) defects."""

    heat: NDArray[Any]
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class PixelEvidence:
    """A picture's pixels by heat.

    shape   (1 + R, B): sound pixels, then R defect regions; B bins, the first is "unmeasured"
    packed  the counts, deflated little-endian uint32
    edges   float32 little-endian, the B - 2 edges between the other bins, rising
    """

    shape: tuple[int, int]
    packed: bytes
    edges: bytes

    @property
    def counts(self) -> Counts:
        """(1 + R, B) pixels."""
        return np.frombuffer(zlib.decompress(self.packed), "<u4").reshape(self.shape)


def pixel_evidence(views: Sequence[HeatView]) -> tuple[PixelEvidence, ...]:
    """One per picture, over bins chosen for all of them: the queries of one split."""
    if not views:
        return ()
    edges = _edges(views)
    return tuple(_evidence(view, edges) for view in views)


def pixel_sweep(evidence: Sequence[PixelEvidence]) -> Sweep:
    """Defect and sound pixels above each bin; raises `ValueError` if bins differ."""
    normal, regions = _totals(evidence)
    tp, fp = regions.sum(0)[::-1].cumsum(), normal[::-1].cumsum()
    return Sweep(tp, fp, np.arange(tp.size, 0, -1.0))


def pixel_auroc(evidence: Sequence[PixelEvidence]) -> float:
    """Chance that a defect pixel is hotter than a sound one; NaN unless there are both."""
    return float(area_under_roc(pixel_sweep(evidence)))


def pixel_average_precision(evidence: Sequence[PixelEvidence]) -> float:
    """Average precision over all pixels; NaN unless there are both kinds."""
    return float(area_under_pr(pixel_sweep(evidence)))


def aupro(evidence: Sequence[PixelEvidence], *, limit: float = 0.3) -> float:
    """Area under the per-region overlap against the false positive rate up to `limit`, 0 to 1.

    Each connected region counts the same, however large (Bergmann et al., "Uninformed students",
    CVPR 2020, and "The MVTec AD dataset", IJCV 2021: limit 0.3, regions connected over corners).
    """
    normal, regions = _totals(evidence)
    if not len(regions) or not normal.sum():
        return float("nan")
    found = regions[:, ::-1].cumsum(1) / regions.sum(1, keepdims=True)
    overlap = np.append(0.0, found.mean(0))
    fpr = np.append(0.0, normal[::-1].cumsum() / normal.sum())
    inside = fpr <= limit
    last = overlap[inside][-1]
    if not inside.all():  # the curve is cut within a step
        after = int(inside.sum())
        share = (limit - fpr[after - 1]) / (fpr[after] - fpr[after - 1])
        last = overlap[after - 1] + share * (overlap[after] - overlap[after - 1])
    x, y = np.append(fpr[inside], limit), np.append(overlap[inside], last)
    return float((np.diff(x) * (y[1:] + y[:-1]) / 2).sum() / limit)


def upsample(heat: NDArray[Any], shape: tuple[int, int]) -> NDArray[np.float32]:
    """heat (h, w) -> (H, W), bilinear with half-pixel centres; NaN stays where its cell was."""
    height, width = shape
    heat = np.asarray(heat, np.float32)
    if heat.ndim != 2 or not heat.size or np.isinf(heat).any():
        raise ValueError(f"heat {heat.shape}: give rows and columns, finite or NaN")
    if heat.shape == shape:
        return heat
    measured = ~np.isnan(heat)
    filled = cv2.resize(np.where(measured, heat, 0), (width, height))
    if measured.all():
        return np.asarray(filled)
    weight = cv2.resize(measured.astype(np.float32), (width, height))
    # The same cells as INTER_NEAREST, whose rounding differs between OpenCV's versions.
    rows, columns = (
        (2 * np.arange(n) + 1) * m // (2 * n) for n, m in zip(shape, heat.shape, strict=True)
    )
    inside = measured[rows][:, columns]
    out = np.full(shape, np.nan, np.float32)
    return np.asarray(np.divide(filled, weight, out=out, where=inside))


def _edges(views: Sequence[HeatView]) -> NDArray[np.float32]:
    """(E,) float32, rising: quantiles of sound and of defect pixels."""
    pixels = sum(view.mask.size for view in views)
    step = max(1, -(-pixels // _SAMPLED))
    normal, defect = [], []
    for view in views:
        values = upsample(view.heat, view.mask.shape)
        sound = values[~view.mask][::step]
        broken = values[view.mask]
        normal.append(sound[~np.isnan(sound)])
        defect.append(broken[~np.isnan(broken)])
    tail = 1 - 10 ** -np.linspace(0.3, 6.0, _TAIL)
    levels = np.concatenate([(np.arange(_UNIFORM) + 0.5) / _UNIFORM, tail])
    return np.unique(
        np.concatenate(
            [
                _quantiles(np.concatenate(normal), levels),
                _quantiles(np.concatenate(defect), (np.arange(_DEFECT) + 0.5) / _DEFECT),
            ]
        )
    )


def _quantiles(values: NDArray[np.float32], levels: NDArray[Any]) -> NDArray[np.float32]:
    """Values that occur, so that ties are never split."""
    if not values.size:
        return np.zeros(0, np.float32)
    return np.asarray(np.quantile(values, levels, method="higher"), np.float32)


def _evidence(view: HeatView, edges: NDArray[np.float32]) -> PixelEvidence:
    values = upsample(view.heat, view.mask.shape)
    bins = np.where(np.isnan(values), 0, 1 + np.searchsorted(edges, values, side="right"))
    mask = np.ascontiguousarray(view.mask, np.uint8)
    regions, labels = cv2.connectedComponents(mask, connectivity=8)  # 0 is what is sound
    shape = (int(regions), edges.size + 2)
    cells = labels.ravel().astype(np.int64) * shape[1] + bins.ravel()
    counts = np.bincount(cells, minlength=shape[0] * shape[1]).astype("<u4")
    return PixelEvidence(shape, zlib.compress(counts.tobytes(), 6), edges.astype("<f4").tobytes())


def _totals(evidence: Sequence[PixelEvidence]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sound pixels (B,) of all pictures together, and all their defect regions (R, B)."""
    if not evidence:
        return np.zeros(1, np.int64), np.zeros((0, 1), np.int64)
    if any(one.edges != evidence[0].edges for one in evidence):
        raise ValueError("pictures with different bins of heat: measure each split by itself")
    counts = [one.counts.astype(np.int64) for one in evidence]
    return np.sum([one[0] for one in counts], 0), np.concatenate([one[1:] for one in counts])
