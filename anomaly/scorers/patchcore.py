"""PatchCore: one bank of all pristine patches, distance to the nearest (Roth et al., "Towards total
recall in industrial anomaly detection", CVPR 2022, arXiv 2106.08265). Written from the paper.

Features: layers of middle depth, 3x3 averaged, the coarse upsampled to the fine, joined, with their
magnitudes (section 3.1). Averages count zeros beyond the map's border, as the authors' code and
anomalib do; our backbones leave them out, so border cells are scaled (at 448 px square that took
carton_top from 0.566 to 0.589 AUROC). Bank: every patch of every reference, or a greedy k-centre
coreset (section 3.2; without the random projection, which only saves time). Score: the largest
patch distance s*, times w = 1 - exp(s*) / sum of exp over the `neighbours` nearest bank patches of
the match m* (section 3.3, equations 6 and 7).

anomalib 2.x does the same: w by 9 neighbours, m* among them, unless `num_neighbors=1` (its
`torch_model.compute_anomaly_score`). It resizes to a square with an antialiased bilinear filter,
projects before it takes a coreset, and smooths the map (sigma 4 px); heat here is not smoothed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from anomaly.pipeline import StageClock
from anomaly.scorers.errors import ScorerOption
from anomaly.scorers.heat import over_picture
from anomaly.scorers.matching import nearest_distances, rows_of, upsampled
from anomaly.scorers.pictures import checked, in_own_order, squared
from anomaly.scorers.protocol import Embed, Score
from embeddings.images import Pixels
from embeddings.patches import Floats, PatchGrid
from embeddings.threads import one_blas_thread

NEIGHBOURS = 9


@dataclass(frozen=True)
class PatchCore:
    """The scorer. Final.

    square_px      side of the square that pictures are stretched to; None keeps their aspect. Give
                   the embedder's own size, or it resizes again.
    coreset_share  share of the bank that is kept, above 0 up to 1 (all of it)
    neighbours     bank patches that weigh the score; 1 = no weight
    """

    embed: Embed
    square_px: int | None = None
    coreset_share: float = 1.0
    neighbours: int = NEIGHBOURS
    name: str = "patchcore"

    def __post_init__(self) -> None:
        if not 0 < self.coreset_share <= 1:
            raise ScorerOption(f"coreset_share {self.coreset_share}; expected above 0, at most 1")
        if self.neighbours < 1:
            raise ScorerOption(f"neighbours {self.neighbours}; expected 1 (no weight) or more")

    def fit(self, references: Sequence[Pixels], *, seed: int) -> PatchCoreModel:
        """Fill the bank; `seed` draws the coreset's first patch. Raises `NoReferences`."""
        pictures = [_sized(picture, self.square_px) for picture in in_own_order(references)]
        bank = np.concatenate([rows_of(features(self.embed(p).patches)) for p in pictures])
        if self.coreset_share < 1:
            count = max(1, int(len(bank) * self.coreset_share))
            bank = bank[greedy_coreset(bank, count, rng=np.random.default_rng(seed))]
        return PatchCoreModel(self, bank)


@dataclass(frozen=True)
class PatchCoreModel:
    """`bank`: (M, D) float32."""

    settings: PatchCore
    bank: Floats

    def score(self, query: Pixels) -> Score:
        """Largest distance of a patch to the bank, weighted. Raises `NotAPicture`."""
        clock = StageClock()
        with one_blas_thread:
            with clock("embed"):
                sized = _sized(checked(query), self.settings.square_px)
                patches = self.settings.embed(sized).patches
            with clock("match"):
                rows = rows_of(features(patches))
                distances = nearest_distances(rows, self.bank)
                farthest = int(distances.argmax())
                value = float(distances[farthest]) * weight(
                    rows[farthest], self.bank, neighbours=self.settings.neighbours
                )
        heat = over_picture(distances.reshape(patches.shape), patches)
        return Score(value, heat, clock.milliseconds)


def features(patches: PatchGrid) -> Floats:
    """(H, W, sum of D): layers with their magnitudes, upsampled to the finest and joined."""
    layers = tuple(
        replace(layer, features=with_zeros_beyond(layer.features)) for layer in patches.layers
    )
    return np.concatenate(upsampled(replace(patches, layers=layers)), axis=2)


def with_zeros_beyond(averaged: Floats) -> Floats:
    """(H, W, D) 3x3 averages of what there is -> averages that count zeros beyond the border."""
    rows, columns = (_shares(count) for count in averaged.shape[:2])
    return np.asarray(averaged * rows[:, None, None] * columns[None, :, None], np.float32)


def _shares(count: int) -> Floats:
    """(count,) share of the three cells around each cell of a line that lie on the line."""
    shares = np.ones(count, np.float32)
    shares[0] -= 1 / 3
    shares[-1] -= 1 / 3
    return shares


def weight(patch: Floats, bank: Floats, *, neighbours: int) -> float:
    """How much a (D,) patch's distance counts: less where its match m* in the (M, D) bank is one of
    many alike, as all of them then lie as far off. 1 with a single neighbour."""
    count = min(neighbours, len(bank))
    if count < 2:
        return 1.0
    distances = _from(patch, bank)
    match = int(distances.argmin())
    from_match = _from(bank[match], bank)
    from_match[match] = -1.0  # m* is its own first neighbour, whatever equals it
    near = np.argpartition(from_match, count - 1)[:count]
    # exp(s*) over the sum, without overflow: every distance is at least s*.
    return float(1 - 1 / np.exp(distances[near] - distances[match]).sum())


def greedy_coreset(bank: Floats, count: int, *, rng: np.random.Generator) -> list[int]:
    """Rows of the (M, D) bank: one drawn, then always the one farthest from all chosen so far."""
    squares = np.einsum("md,md->m", bank, bank)
    nearest = np.full(len(bank), np.inf, np.float32)
    chosen = [int(rng.integers(len(bank)))]
    while True:
        last = chosen[-1]
        np.minimum(nearest, squares - 2 * (bank @ bank[last]) + squares[last], out=nearest)
        nearest[last] = -np.inf  # never twice, whatever rounding says
        if len(chosen) == min(count, len(bank)):
            return chosen
        chosen.append(int(nearest.argmax()))


def _from(patch: Floats, bank: Floats) -> Floats:
    """(M,) distances, by differences: equal patches are exactly 0 apart."""
    off = bank - patch
    return np.asarray(np.sqrt(np.einsum("md,md->m", off, off)))


def _sized(picture: Pixels, square_px: int | None) -> Pixels:
    return picture if square_px is None else squared(picture, square_px)
