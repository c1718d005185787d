"""AnomalyDINO: cosine distance to the nearest patch of references in eight rotations, mean of the
top 1 % (Damm et al., "AnomalyDINO: Boosting patch-based few-shot anomaly detection with DINOv2",
WACV 2025, arXiv 2405.14529). Written from the paper and from what its code sets.

The "agnostic" variant: all products rotated, no mask (the paper's masks are chosen per product by
hand). References turn about their centre in their own frame, mirrored beyond it. The paper's tokens
are the last layer of a ViT; with several layers each is brought to unit length and they are joined,
so that none outvotes the others. Heat isn't smoothed (the paper: sigma 4 px).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from anomaly.pipeline import StageClock
from anomaly.rim import top_mean
from anomaly.scorers.errors import ScorerOption
from anomaly.scorers.heat import over_picture
from anomaly.scorers.matching import nearest_distances, rows_of, unit, upsampled
from anomaly.scorers.pictures import checked, in_own_order
from anomaly.scorers.protocol import Embed, Score
from embeddings.images import Pixels
from embeddings.patches import Floats, PatchGrid
from embeddings.threads import one_blas_thread

ROTATIONS = 8


@dataclass(frozen=True)
class AnomalyDino:
    """The scorer. `rotations`: evenly spaced, the upright one among them. Final."""

    embed: Embed
    rotations: int = ROTATIONS
    name: str = "anomalydino"

    def __post_init__(self) -> None:
        if self.rotations < 1:
            raise ScorerOption(f"rotations {self.rotations}; expected 1 (upright only) or more")

    def fit(self, references: Sequence[Pixels], *, seed: int) -> AnomalyDinoModel:
        """Fill the bank; nothing is drawn. Raises `NoReferences`."""
        turned = [
            rotated(picture, 360 * k / self.rotations)
            for picture in in_own_order(references)
            for k in range(self.rotations)
        ]
        bank = np.concatenate([rows_of(tokens(self.embed(p).patches)) for p in turned])
        return AnomalyDinoModel(self.embed, bank)


@dataclass(frozen=True)
class AnomalyDinoModel:
    """`bank`: (M, D) float32, unit length."""

    embed: Embed
    bank: Floats

    def score(self, query: Pixels) -> Score:
        """Mean of the highest 1 % of cosine distances. Raises `NotAPicture`."""
        clock = StageClock()
        with one_blas_thread:
            with clock("embed"):
                patches = self.embed(checked(query)).patches
            with clock("match"):
                # Unit vectors: half the squared distance is 1 - cosine.
                apart = nearest_distances(rows_of(tokens(patches)), self.bank)
                distances = np.asarray(apart**2 / 2, np.float32)
                value = top_mean(distances)
        heat = over_picture(distances.reshape(patches.shape), patches)
        return Score(value, heat, clock.milliseconds)


def tokens(patches: PatchGrid) -> Floats:
    """(H, W, D) float32 of unit length."""
    return unit(np.concatenate([unit(layer) for layer in upsampled(patches)], axis=2))


def rotated(picture: Pixels, angle_deg: float) -> Pixels:
    """Turned counter-clockwise about its centre, in its own frame; mirrored beyond it."""
    if angle_deg == 0:
        return picture
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle_deg, 1.0)
    return np.asarray(
        cv2.warpAffine(picture, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    )
