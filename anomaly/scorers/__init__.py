"""Anomaly scorers behind one protocol: ours, those of the papers, floors and chance."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from anomaly.scorers.amiss import Amiss
from anomaly.scorers.anomalydino import AnomalyDino
from anomaly.scorers.chance import Chance
from anomaly.scorers.errors import (
    NoReferences,
    NotAPicture,
    ScorerError,
    ScorerOption,
    UnknownScorer,
)
from anomaly.scorers.floors import difference, ssim
from anomaly.scorers.patchcore import PatchCore
from anomaly.scorers.protocol import Embed, Model, Score, Scorer, embed_with
from anomaly.scorers.rad import Rad
from embeddings.embedder import Embedder

__all__ = [
    "SCORERS",
    "Amiss",
    "AnomalyDino",
    "Chance",
    "Embed",
    "Model",
    "NoReferences",
    "NotAPicture",
    "PatchCore",
    "Rad",
    "Score",
    "Scorer",
    "ScorerError",
    "ScorerOption",
    "UnknownScorer",
    "difference",
    "embed_with",
    "open_scorer",
    "ssim",
]

_MAKERS: Mapping[str, Callable[[Embedder, Embed], Scorer]] = {
    "amiss": lambda embedder, embed: Amiss(embedder),
    "patchcore": lambda embedder, embed: PatchCore(embed),
    "patchcore_square": lambda embedder, embed: PatchCore(
        embed, square_px=embedder.size_px, name="patchcore_square"
    ),
    "anomalydino": lambda embedder, embed: AnomalyDino(embed),
    "rad": lambda embedder, embed: Rad(embed),
    "ssim": lambda embedder, embed: ssim(),
    "difference": lambda embedder, embed: difference(),
    "chance": lambda embedder, embed: Chance(),
}

SCORERS: tuple[str, ...] = tuple(_MAKERS)
"""What `open_scorer` opens; `patchcore_square` is PatchCore at the peers' square resize."""


def open_scorer(name: str, embedder: Embedder, *, embed: Embed | None = None) -> Scorer:
    """The scorer called `name`, one of `SCORERS`, with its default settings.

    `embed` stands in for the embedder where single pictures are embedded as they are (a cache).
    `amiss` always takes the embedder itself: it embeds turned views, and vectors by foreground.
    Raises `UnknownScorer`.
    """
    if name not in _MAKERS:
        raise UnknownScorer(f"scorer {name!r}; expected one of {', '.join(SCORERS)}")
    return _MAKERS[name](embedder, embed or embed_with(embedder))
