"""RAD: the nearest reference pictures, and in them only the same place (Zhang et al., "Is training
necessary for anomaly detection?", arXiv 2601.22763). Written from the paper and from what its code
sets.

Retrieve the `most_references` nearest references by cosine of the global vectors. Each query patch
is compared with their patches within `radius` cells of its own cell; per layer, 1 - the best
cosine; layers count alike. Score: mean of the top 1 %. The defaults are those of MVTec AD: of few
references all are taken. The authors' code scores a map that it upsampled and smoothed (sigma 1 of
256 px); here cells are scored as they are. Grids of other shapes are laid over each other as a
whole: the window is around the cell at the same share of height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anomaly.pipeline import StageClock
from anomaly.placed import overlap
from anomaly.rim import top_mean
from anomaly.scorers.errors import ScorerOption
from anomaly.scorers.heat import over_picture
from anomaly.scorers.matching import unit, upsampled
from anomaly.scorers.pictures import checked, in_own_order
from anomaly.scorers.protocol import Embed, Score
from embeddings.images import Pixels
from embeddings.patches import Floats, PatchGrid
from embeddings.threads import one_blas_thread

MOST_REFERENCES = 150
RADIUS = 1


@dataclass(frozen=True)
class Rad:
    """The scorer. `radius` in cells of the finest layer; 0 = the same cell only. Final."""

    embed: Embed
    most_references: int = MOST_REFERENCES
    radius: int = RADIUS
    name: str = "rad"

    def __post_init__(self) -> None:
        if self.most_references < 1 or self.radius < 0:
            raise ScorerOption(
                f"most_references {self.most_references}, radius {self.radius}; expected at least "
                "1 and 0"
            )

    def fit(self, references: Sequence[Pixels], *, seed: int) -> RadModel:
        """Keep vectors and patches; nothing is drawn. Raises `NoReferences`."""
        found = [self.embed(picture) for picture in in_own_order(references)]
        vectors = np.stack([embedding.vector for embedding in found])
        return RadModel(self, vectors, tuple(layers(embedding.patches) for embedding in found))


@dataclass(frozen=True)
class RadModel:
    """`vectors`: (K, D) unit; `grids`: per reference its layers (H, W, D), unit per cell."""

    settings: Rad
    vectors: Floats
    grids: tuple[tuple[Floats, ...], ...]

    def score(self, query: Pixels) -> Score:
        """Mean of the highest 1 % of cosine distances. Raises `NotAPicture`."""
        clock = StageClock()
        with one_blas_thread:
            with clock("embed"):
                embedding = self.settings.embed(checked(query))
            with clock("match"):
                near = np.argsort(-(self.vectors @ embedding.vector), kind="stable")
                chosen = [self.grids[row] for row in near[: self.settings.most_references]]
                distances = self._distances(layers(embedding.patches), chosen)
                value = top_mean(distances)
        return Score(value, over_picture(distances, embedding.patches), clock.milliseconds)

    def _distances(self, query: tuple[Floats, ...], chosen: Sequence[tuple[Floats, ...]]) -> Floats:
        """(H, W) mean over the layers of 1 - the best cosine among all references' windows."""
        parts = []
        for level, grid in enumerate(query):
            found = [best_cosine(grid, one[level], radius=self.settings.radius) for one in chosen]
            parts.append(1 - np.max(found, axis=0))
        return np.asarray(np.mean(parts, axis=0), np.float32)


def layers(patches: PatchGrid) -> tuple[Floats, ...]:
    """Each layer (H, W, D) on the finest grid, cells of unit length."""
    return tuple(unit(layer) for layer in upsampled(patches))


def best_cosine(query: Floats, reference: Floats, *, radius: int) -> Floats:
    """(H, W): each query cell's best cosine in the reference's window around the same place.

    `query` (H, W, D) and `reference` (h, w, D) hold unit vectors.
    """
    height, width = query.shape[:2]
    there = reference[_places(height, len(reference))][:, _places(width, reference.shape[1])]
    best = np.full((height, width), -np.inf, np.float32)
    for down in range(-radius, radius + 1):
        for right in range(-radius, radius + 1):
            here = overlap(height, down), overlap(width, right)
            beside = overlap(height, -down), overlap(width, -right)
            cosine = np.einsum("hwd,hwd->hw", query[here], there[beside])
            np.maximum(best[here], cosine, out=best[here])
    return best


def _places(count: int, others: int) -> NDArray[np.intp]:
    """Which of `others` cells lies where each of `count` cells lies."""
    return np.minimum(((np.arange(count) + 0.5) * others / count).astype(np.intp), others - 1)
