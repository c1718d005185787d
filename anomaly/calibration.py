"""What an operator had learned of pristine scores, and the rates they set: a calibration.

It holds scores by product, so that each can be told to hold or not: a product's own ones while its
references are those it was compared with, all others as what products of this gallery score that
are known by as many references (`nulls.COUNTS`): what few don't show makes pristine pictures score
high. It serves every build and delta until another takes its place; under another scoring or
embedding its scores mean nothing, and only its rates go on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from anomaly.calibrate import NullScores, within
from anomaly.config import DEFAULT_BUDGET, InspectConfig
from anomaly.errors import ConfigError
from anomaly.hierarchy import Hierarchy, fit_hierarchy, most_of_one
from anomaly.nulls import COUNTS, comparable_fields, counted
from anomaly.pipeline import SCORING
from anomaly.results import IN_PLACE, EvidenceKind
from anomaly.score import Prior
from embeddings.fingerprint import EmbeddingFingerprint, digest_json
from embeddings.patches import Floats
from gallery.calibrations import read_calibration
from gallery.errors import DamagedGallery
from gallery.publish import read_current

CALIBRATED: tuple[EvidenceKind, ...] = ("placed", "turning", "anywhere", "loose")
"""Kinds of evidence whose scores are kept; see `kept_as`."""
_LEAST_PRODUCTS = 8  # with as many pictures each, before they speak for the others
_SAMPLE = 4096  # products that are pooled
Scores = Mapping[EvidenceKind, Sequence[float]]
_Group = tuple[EvidenceKind, int]  # and by how many references, as `COUNTS` has them


def kept_as(kind: EvidenceKind) -> EvidenceKind:
    """The kind that a pristine picture's score is kept by. Pictures are of the line's own light,
    whatever it is: those that are `relit` are among the placed."""
    return "placed" if kind in IN_PLACE else kind


@dataclass(frozen=True)
class PristineScores:
    """Of one product, by kind of evidence.

    references  digest of the references they were learned against (`references_digest`)
    count       how many they were; copies of others are not among them
    left_out    of its references, each against its siblings
    pictures    of other pristine pictures of it, against all of them
    """

    references: str
    count: int
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
        if not all(found.count for found in self.products.values()):
            return f"calibration {self.calibration_id} doesn't say how many references it had"
        return None

    def sources(
        self, product_id: str, references: Sequence[str], *, kind: EvidenceKind
    ) -> tuple[NullScores, ...]:
        """Null scores that hold for a product with references of these IDs: its own, then the
        gallery's brought to it: of products with as many, and after them of those with fewer, the
        nearest first, which promise no less. Fewer than three products lend nothing."""
        found = self.products.get(product_id)
        fresh = found is not None and found.references == references_digest(references)
        own = found if fresh else None
        alone = self._alone(own, kind)
        return NullScores("product", alone, self.calibration_id, len(alone)), *(
            self._brought(pool, self._own(own, kind, group))
            for group, pool in self._lent(kind, len(references))
        )

    def _brought(self, pool: Hierarchy, own: Floats) -> NullScores:
        return NullScores("pooled", pool.null_for(own), self.calibration_id, len(own))

    def attainable(self, kind: EvidenceKind, references: int) -> float | None:
        """The smallest p-value that each product with so many references can get: from a pool, or
        where there is none, from its own scores; None where one has none."""
        pools = [pool for _, pool in self._lent(kind, references)]
        if pools:
            return 1 / (1 + max(sum(map(len, pool.groups)) for pool in pools))
        same = [
            product
            for product in self.products.values()
            if kind in product.left_out
            and counted(kind, product.count) == counted(kind, references)
        ]
        least = min((len(self._alone(product, kind)) for product in same), default=0)
        return 1 / (1 + least) if least else None

    def _lent(self, kind: EvidenceKind, references: int) -> list[tuple[int, Hierarchy]]:
        """Pools that hold for so many references, the nearest first."""
        fewer = [group for group in COUNTS[kind] if group <= counted(kind, references)]
        found = [(group, self._pools[kind, group]) for group in reversed(fewer)]
        return [(group, pool) for group, pool in found if pool is not None]

    @cached_property
    def _pools(self) -> dict[_Group, Hierarchy | None]:
        return {
            (kind, group): self._pool(kind, group) for kind in CALIBRATED for group in COUNTS[kind]
        }

    def _pool(self, kind: EvidenceKind, group: int) -> Hierarchy | None:
        own = {name: self._own(found, kind, group) for name, found in self.products.items()}
        names = sorted(name for name, scores in own.items() if len(scores))
        rows = np.unique(np.linspace(0, len(names) - 1, min(_SAMPLE, len(names))).astype(int))
        return fit_hierarchy({names[row]: own[names[row]] for row in rows})

    def _own(self, found: PristineScores | None, kind: EvidenceKind, group: int) -> Floats:
        """A product's scores against as many references as the group has."""
        if found is None:
            return np.zeros(0, np.float32)
        left_out, pictures = _grouped(found, kind, group)
        scores = pictures if self.by_pictures(kind, group) else [*left_out, *pictures]
        return np.asarray(scores, np.float32)

    def _alone(self, found: PristineScores | None, kind: EvidenceKind) -> Floats:
        """What holds for the product itself: its references, each against one fewer than it has,
        promise no less than its pictures."""
        if found is None:
            return np.zeros(0, np.float32)
        left_out, pictures = found.left_out.get(kind, ()), found.pictures.get(kind, ())
        enough = self.by_pictures(kind, counted(kind, found.count))
        return np.asarray(pictures if enough else [*left_out, *pictures], np.float32)

    def by_pictures(self, kind: EvidenceKind, group: int) -> bool:
        """Whether pristine pictures alone tell what the budget needs; else the references' own
        scores count, too, though siblings may be alike or few."""
        return (kind, group) in self._enough

    @cached_property
    def _enough(self) -> frozenset[_Group]:
        counts = {
            (kind, group): [len(_grouped(p, kind, group)[1]) for p in self.products.values()]
            for kind in CALIBRATED
            for group in COUNTS[kind]
        }
        return frozenset(
            group
            for group, found in counts.items()
            if _speak(list(filter(None, found)), self.budget)
        )


def _speak(pictures: Sequence[int], budget: float) -> bool:
    """Whether so many pictures by product can promise the budget to others, and are worth those of
    enough products: Kish's effective number (Survey Sampling, 1965), (Σn)² / Σn², rounded."""
    if not pictures:
        return False
    most = most_of_one(pictures)
    counts = [min(count, most) for count in pictures]
    total, squares = sum(counts), sum(count**2 for count in counts)
    return within(1 / (total + 1), budget) and round(total**2 / squares) >= _LEAST_PRODUCTS


def _grouped(
    found: PristineScores, kind: EvidenceKind, group: int
) -> tuple[Sequence[float], Sequence[float]]:
    """A product's scores left out and of pictures, those that the group has. References are held
    against one fewer than there are."""
    left_out, pictures = found.left_out.get(kind, ()), found.pictures.get(kind, ())
    return (
        left_out if counted(kind, found.count - 1) == group else (),
        pictures if counted(kind, found.count) == group else (),
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
            products={
                name: PristineScores(**{"count": 0, **found})  # older ones don't say
                for name, found in body["products"].items()
            },
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
