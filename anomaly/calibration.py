"""What an operator had learned of pristine scores, and the rates they set: a calibration.

It holds scores by product, so that each can be told to hold or not: a product's own ones while its
references are those it was compared with, all others as what products of this gallery score. It
serves every build and delta until another takes its place; under another scoring or embedding its
scores mean nothing, and only its rates go on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from anomaly.calibrate import NullScores
from anomaly.config import DEFAULT_BUDGET, InspectConfig
from anomaly.errors import ConfigError
from anomaly.hierarchy import Hierarchy, fit_hierarchy
from anomaly.nulls import KINDS, comparable_fields
from anomaly.pipeline import SCORING
from anomaly.results import EvidenceKind
from anomaly.score import Prior
from embeddings.fingerprint import EmbeddingFingerprint, digest_json
from gallery.calibrations import read_calibration
from gallery.errors import DamagedGallery
from gallery.publish import read_current

_LEAST_PRODUCTS = 8  # with pictures, before they speak for the others
_SAMPLE = 4096  # products that are pooled
Scores = Mapping[EvidenceKind, Sequence[float]]


@dataclass(frozen=True)
class PristineScores:
    """Of one product, by kind of evidence.

    references  digest of the references they were learned against (`references_digest`)
    left_out    of its references, each against its siblings
    pictures    of other pristine pictures of it, against all of them
    """

    references: str
    left_out: Scores
    pictures: Scores


@dataclass(frozen=True)
class SidelineCalibration:
    """Rates and scores. `build`, `delta`, `catalog_seq`: what served when it was made.

    budget      share of pristine pictures that may be called damaged
    review      share that may be damaged or for a person to look at, above the budget; or None
    priors      what the scores were scaled by, beside their products' profiles
    calibration_id  "" before it is kept
    """

    budget: float
    review: float | None
    build: str
    delta: str | None
    catalog_seq: int
    scoring: str
    embedding: Mapping[str, str | int]
    priors: Mapping[str, Prior]
    products: Mapping[str, PristineScores]
    calibration_id: str = ""

    def objection(self, fingerprint: EmbeddingFingerprint) -> str | None:
        """Why its scores can't be used with this embedder and scoring; None: they can."""
        if self.scoring != SCORING.digest:
            return f"calibration {self.calibration_id} was made under another scoring"
        if self.embedding != comparable_fields(fingerprint):
            return f"calibration {self.calibration_id} was made with another embedder"
        return None

    def sources(
        self, product_id: str, references: str, *, kind: EvidenceKind
    ) -> tuple[NullScores, ...]:
        """Null scores that hold for a product with these references: its own, then the gallery's
        brought to it, unless fewer than three products have any."""
        pool = self._pools[kind]
        found = self.products.get(product_id)
        fresh = found is not None and found.references == references
        own = np.asarray(self._scores(found, kind) if found and fresh else (), np.float32)
        alone = NullScores("product", own, self.calibration_id, len(own))
        if pool is None:
            return (alone,)
        return alone, NullScores("pooled", pool.null_for(own), self.calibration_id, len(own))

    def attainable(self, kind: EvidenceKind) -> float | None:
        """The smallest p-value that its pool gives, or where there is none, one product's own
        scores; None without any."""
        pool = self._pools[kind]
        if pool is not None:
            return 1 / (1 + sum(len(group) for group in pool.groups))
        most = max((len(self._scores(p, kind)) for p in self.products.values()), default=0)
        return 1 / (1 + most) if most else None

    @cached_property
    def _pools(self) -> dict[EvidenceKind, Hierarchy | None]:
        names = sorted(self.products)
        rows = np.unique(np.linspace(0, len(names) - 1, min(_SAMPLE, len(names))).astype(int))
        sample = {names[row]: self.products[names[row]] for row in rows}
        return {
            kind: fit_hierarchy(
                {name: np.asarray(self._scores(found, kind)) for name, found in sample.items()}
            )
            for kind in KINDS
        }

    def _scores(self, found: PristineScores, kind: EvidenceKind) -> Sequence[float]:
        pictures = found.pictures.get(kind, ())
        return pictures if self.by_pictures(kind) else [*found.left_out.get(kind, ()), *pictures]

    def by_pictures(self, kind: EvidenceKind) -> bool:
        """Whether pristine pictures alone tell what the budget needs; else the references' own
        scores count, too, though siblings may be alike or few."""
        return kind in self._enough

    @cached_property
    def _enough(self) -> frozenset[EvidenceKind]:
        counts = {
            kind: [len(p.pictures.get(kind, ())) for p in self.products.values()] for kind in KINDS
        }
        return frozenset(
            kind
            for kind, found in counts.items()
            if 1 / (sum(found) + 1) <= self.budget and sum(map(bool, found)) >= _LEAST_PRODUCTS
        )


@dataclass(frozen=True)
class Rates:
    """What an inspection is asked for; see `SidelineCalibration`."""

    budget: float
    review: float | None

    def shared(self, views: int) -> Rates:
        """The share of each of so many views of one item."""
        return Rates(self.budget / views, None if self.review is None else self.review / views)


def rates_of(config: InspectConfig, calibration: SidelineCalibration | None) -> Rates:
    """The rates given, else the calibration's, else the default budget without a review band, as
    there is where the budget reaches it."""
    budget = config.budget or (calibration.budget if calibration else DEFAULT_BUDGET)
    review = config.review or (calibration.review if calibration else None)
    return Rates(budget, review if review is not None and review > budget else None)


def check_rates(budget: float, review: float | None) -> None:
    """Raise `ConfigError` unless there is room for a review band."""
    if review is not None and review <= budget:
        raise ConfigError(
            f"review {review:g}: not above the budget {budget:g}; it is the share of pristine "
            "pictures that may be damaged or review together"
        )


def references_digest(reference_ids: Sequence[str]) -> str:
    """What a product was compared with; the order says nothing."""
    return digest_json(sorted(reference_ids))[:16]


def as_body(calibration: SidelineCalibration) -> dict[str, Any]:
    """What is kept of it, as JSON values; scores to 5 significant digits."""
    body = asdict(calibration)
    del body["calibration_id"]
    for product in body["products"].values():
        for name in ("left_out", "pictures"):
            product[name] = {
                kind: [float(f"{score:.5g}") for score in scores]
                for kind, scores in product[name].items()
            }
    return body


def from_body(body: Mapping[str, Any], *, calibration_id: str) -> SidelineCalibration:
    """What `as_body` gave. Raises `DamagedGallery` where it is no calibration."""
    try:
        return SidelineCalibration(
            budget=float(body["budget"]),
            review=None if body["review"] is None else float(body["review"]),
            build=body["build"],
            delta=body["delta"],
            catalog_seq=int(body["catalog_seq"]),
            scoring=body["scoring"],
            embedding=body["embedding"],
            priors={name: Prior(**prior) for name, prior in body["priors"].items()},
            products={name: PristineScores(**found) for name, found in body["products"].items()},
            calibration_id=calibration_id,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedGallery(f"calibration {calibration_id} is not one ({error!r})") from error


def current_calibration(root: Path) -> SidelineCalibration | None:
    """The one that CURRENT names, or None. Raises `DamagedGallery`, `UnknownCalibration`."""
    named = read_current(root).calibration
    if named is None:
        return None
    return from_body(read_calibration(root, named), calibration_id=named)
