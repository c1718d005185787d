"""What pristine pictures score: shipped with the wheel, pooled over a gallery, or a product's own.

A null holds for one scoring and one embedding only. The shipped one was made from rendered
products by `python -m benchmarks.make_shipped_null`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources

import numpy as np

from anomaly.calibrate import NullScores
from anomaly.pipeline import SCORING
from anomaly.profile import STEP, Profile, read_profile
from anomaly.results import EvidenceKind
from anomaly.score import Prior
from embeddings.fingerprint import EmbeddingFingerprint
from embeddings.patches import Floats
from gallery.reader import Gallery

SHIPPED = "shipped_null.json"
KINDS: tuple[EvidenceKind, ...] = ("placed", "turning", "anywhere")
COUNTS = (
    1,
    2,
    3,
)  # references from which shipped scores are others: what few don't show, queries do
_SAMPLE = 256  # products whose profiles are pooled
_LEAST_PRODUCTS = 3


@dataclass(frozen=True)
class Nulls:
    """`priors` by channel; null scores by kind of evidence: `pooled` over a gallery, and `shipped`,
    by the least number of a product's references that they hold for (`COUNTS`)."""

    priors: Mapping[str, Prior]
    pooled: Mapping[EvidenceKind, NullScores] = field(default_factory=dict)
    shipped: Mapping[EvidenceKind, Mapping[int, NullScores]] = field(default_factory=dict)

    def beyond(self, profile: Profile) -> dict[EvidenceKind, tuple[NullScores, ...]]:
        """Those that hold for a product and are not its own, the most specific first."""
        return {
            kind: (
                *((self.pooled[kind],) if kind in self.pooled else ()),
                *((self.shipped[kind][counted(profile)],) if kind in self.shipped else ()),
            )
            for kind in KINDS
        }

    def of(self, profile: Profile) -> dict[EvidenceKind, tuple[NullScores, ...]]:
        """All null scores that hold for a product, its own first."""
        return {
            kind: (NullScores("product", profile.null_scores(self.priors, kind=kind)), *others)
            for kind, others in self.beyond(profile).items()
        }


def counted(profile: Profile) -> int:
    """Which of `COUNTS` a product's references are; a single one was left out of nothing."""
    return max(count for count in COUNTS if count <= max(1, len(profile.left_out)))


def known_nulls(gallery: Gallery, *, step: str) -> Nulls:
    """What is known beyond a single product. `step`: fingerprint of the profiles that hold."""
    profiles = _sampled(gallery) if gallery.manifest.steps.get(STEP) == step else []
    shipped = read_shipped(gallery.fingerprint)
    priors = shipped.priors if shipped else pooled_priors(profiles)
    pooled = {}
    for kind in KINDS:
        found = [profile.null_scores(priors, kind=kind) for profile in profiles]
        if len(scores := np.concatenate([np.zeros(0, np.float32), *found])):
            pooled[kind] = NullScores("pooled", scores)
    return Nulls(priors, pooled, shipped.shipped if shipped else {})


def read_shipped(fingerprint: EmbeddingFingerprint) -> Nulls | None:
    """The null in the wheel, or None if it was made under another scoring or embedding."""
    file = resources.files("anomaly") / SHIPPED
    if not file.is_file():
        return None
    value = json.loads(file.read_text("utf-8"))
    if value["scoring"] != SCORING.digest or value["embedding"] != comparable_fields(fingerprint):
        return None
    priors = {name: Prior(**prior) for name, prior in value["priors"].items()}
    scores = {
        kind: {
            count: NullScores("shipped", np.asarray(value["scores"][kind][str(count)], np.float32))
            for count in COUNTS
        }
        for kind in KINDS
    }
    return Nulls(priors, shipped=scores)


def comparable_fields(fingerprint: EmbeddingFingerprint) -> dict[str, str | int]:
    """What of an embedding fingerprint decides whether scores compare: not the device."""
    return {k: v for k, v in fingerprint.as_dict().items() if k != "device_class"}


def pooled_priors(profiles: Sequence[Profile]) -> dict[str, Prior]:
    """Mean centre and pooled spread of each channel over products with several references; with
    `BARE` before its name, as products have it that don't know what is usual where."""
    raw = [profile.raw() | profile.bare() for profile in profiles]
    priors = {}
    for name in sorted({name for entry in raw for name in entry}):
        groups = [np.asarray(entry[name]) for entry in raw if len(entry.get(name, ())) > 1]
        if len(groups) >= _LEAST_PRODUCTS:
            priors[name] = _prior(groups)
    return priors


def _prior(groups: Sequence[Floats]) -> Prior:
    centre = float(np.mean([g.mean() for g in groups]))
    squares = sum(float(((g - g.mean()) ** 2).sum()) for g in groups)
    spread = (squares / sum(len(g) - 1 for g in groups)) ** 0.5
    between = float(np.std([g.mean() for g in groups]))
    return Prior(centre, max(spread, 1e-6), between)


def _sampled(gallery: Gallery) -> list[Profile]:
    """Profiles of up to `_SAMPLE` products, evenly drawn: the same ones for the same build."""
    names = list(gallery.product_ids())
    rows = np.unique(np.linspace(0, len(names) - 1, min(_SAMPLE, len(names))).astype(int))
    records = [gallery.extra(names[row], STEP) for row in rows]
    return [read_profile(record) for record in records if record is not None]
