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
from anomaly.hierarchy import evened
from anomaly.pipeline import SCORING
from anomaly.profile import STEP, Profile, read_profile
from anomaly.results import EvidenceKind
from anomaly.score import Prior
from embeddings.fingerprint import EmbeddingFingerprint
from embeddings.patches import Floats
from gallery.reader import Gallery

SHIPPED = "shipped_null.json"
KINDS: tuple[EvidenceKind, ...] = ("placed", "relit", "turning", "anywhere", "loose")
# References, or more, by which null scores are kept: what few don't show makes pristine pictures
# score high in place, and loose goods, of which a single one doesn't tell that they are loose.
COUNTS: Mapping[EvidenceKind, tuple[int, ...]] = {
    "placed": (1, 2, 3), "relit": (3,), "turning": (1,), "anywhere": (1,), "loose": (2, 3),
}  # fmt: skip
_SAMPLE = 256  # products whose profiles are pooled
_LEAST_PRODUCTS = 3
ByCount = Mapping[EvidenceKind, Mapping[int, NullScores]]


@dataclass(frozen=True)
class Nulls:
    """`priors` by channel; null scores `pooled` over a gallery, and those that are `shipped`, by
    kind of evidence and by how many references the pictures were held against (`COUNTS`)."""

    priors: Mapping[str, Prior]
    pooled: ByCount = field(default_factory=dict)
    shipped: ByCount = field(default_factory=dict)

    def of(self, profile: Profile) -> dict[EvidenceKind, tuple[NullScores, ...]]:
        """All null scores that hold for a product, its own first."""
        return {
            kind: (NullScores("product", profile.null_scores(self.priors, kind=kind)), *others)
            for kind, others in self.beyond(profile).items()
        }

    def beyond(self, profile: Profile) -> dict[EvidenceKind, tuple[NullScores, ...]]:
        """Those that hold for a product and are not its own, the most specific first."""
        references = len(profile.left_out)  # of a single one nothing was left out
        return {kind: self._beyond(kind, references) for kind in KINDS}

    def clean(self, kind: EvidenceKind, references: int) -> NullScores | None:
        """Scores that no reference of this gallery had a part in, else the pooled ones; for a
        picture against so many references."""
        found = [source for source in self._beyond(kind, references) if len(source.scores)]
        return found[-1] if found else None

    def _beyond(self, kind: EvidenceKind, references: int) -> tuple[NullScores, ...]:
        """Of as many references or, where the gallery has none such, of the nearest fewer, which
        promise no less; of more, or of pictures in the references' light for such in other light,
        only where nothing ships."""
        pooled, shipped = self.pooled.get(kind, {}), self.shipped.get(kind, {})
        found = [
            by_count[max(fewer)]
            for by_count in (pooled, shipped)
            if (fewer := [count for count in by_count if count <= counted(kind, references)])
        ]
        if pooled and not found:
            found = [pooled[min(pooled)]]
        alike = self._beyond("placed", references) if kind == "relit" and not self.shipped else ()
        return (*found, *alike)


def counted(kind: EvidenceKind, references: int) -> int:
    """Which of the kind's `COUNTS` so many references are; with fewer there is no such evidence but
    what two say of each other, which is held to what two say of others."""
    return max([count for count in COUNTS[kind] if count <= references], default=COUNTS[kind][0])


def known_nulls(gallery: Gallery, *, step: str) -> Nulls:
    """What is known beyond a single product. `step`: fingerprint of the profiles that hold."""
    profiles = _sampled(gallery) if gallery.manifest.steps.get(STEP) == step else []
    shipped = read_shipped(gallery.fingerprint)
    priors = shipped.priors if shipped else pooled_priors(profiles)
    pooled = {kind: _pooled(profiles, priors, kind) for kind in KINDS}
    return Nulls(priors, pooled, shipped.shipped if shipped else {})


def _pooled(
    profiles: Sequence[Profile], priors: Mapping[str, Prior], kind: EvidenceKind
) -> dict[int, NullScores]:
    """References' scores, each of which was held against one fewer than its product has; of one
    with many no more than may count in a pool."""
    found: dict[int, list[Floats]] = {}
    for profile in profiles:
        scores = profile.null_scores(priors, kind=kind)
        if len(scores):
            found.setdefault(counted(kind, len(profile.left_out) - 1), []).append(scores)
    return {
        count: NullScores("pooled", np.concatenate(evened(some))) for count, some in found.items()
    }


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
            for count in COUNTS[kind]
        }
        for kind in KINDS
    }
    return Nulls(priors, shipped=scores)


def comparable_fields(fingerprint: EmbeddingFingerprint) -> dict[str, str | int]:
    """What of an embedding fingerprint decides whether scores compare: not the device."""
    return {k: v for k, v in fingerprint.as_dict().items() if k != "device_class"}


def pooled_priors(profiles: Sequence[Profile]) -> dict[str, Prior]:
    """Mean centre and pooled spread of each channel over products with several references; with
    `BARE` before its name, as products have it that don't know what is usual where, and with
    `LOOSE`, as those without a form."""
    raw = [profile.raw() | profile.bare() | profile.loose() for profile in profiles]
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
