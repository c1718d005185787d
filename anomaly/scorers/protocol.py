"""What every scorer promises: references in, a model out; a picture in, a score out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from embeddings.embedder import Embedder, Embedding
from embeddings.images import Pixels
from embeddings.patches import Floats

Embed = Callable[[Pixels], Embedding]
"""(H, W, 3) uint8 RGB -> its embedding; may be a cache in front of an `Embedder`."""


@dataclass(frozen=True)
class Score:
    """What a scorer says of one picture.

    score       finite; higher = more anomalous
    heat        (h, w) float32 over the whole picture as given, evenly (a grid of cells, or pixels);
                higher = more anomalous, NaN = not measured; None from a scorer that has no places
    timings_ms  milliseconds by stage; stages are disjoint
    regions     (x0, y0, x1, y1) px boxes that the scorer points at, if it does
    """

    score: float
    heat: Floats | None
    timings_ms: Mapping[str, float]
    regions: tuple[tuple[float, float, float, float], ...] = ()


class Model(Protocol):
    """A scorer that has seen its references. Immutable: the same picture, the same score."""

    def score(self, query: Pixels) -> Score:
        """Score an (H, W, 3) uint8 RGB picture of any size. Raises `NotAPicture`."""
        ...


class Scorer(Protocol):
    """A way to compare pictures with pristine ones. Holds settings only; `fit` changes nothing."""

    @property
    def name(self) -> str:
        """What tables call it."""
        ...

    def fit(self, references: Sequence[Pixels], *, seed: int) -> Model:
        """Learn (H, W, 3) uint8 RGB pictures of a pristine product, at least one, sizes may differ.

        `seed` decides whatever is drawn by chance. Raises `NoReferences`, `NotAPicture`.
        """
        ...


def embed_with(embedder: Embedder) -> Embed:
    """The plain way to embed one picture: no foreground, no cache."""

    def embed(picture: Pixels) -> Embedding:
        (embedding,) = embedder.embed([picture])
        return embedding

    return embed
