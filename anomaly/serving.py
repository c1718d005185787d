"""One build, open for inspecting: its gallery, the embedder that fits it, profiles and nulls."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict

from anomaly.calibrate import NullScores
from anomaly.calibration import SidelineCalibration, references_digest
from anomaly.nulls import KINDS, Nulls, known_nulls
from anomaly.profile import MOST_COMPARED, STEP, Profile, ProfileStep, nearest_rows, read_profile
from anomaly.results import EvidenceKind
from embeddings.embedder import Embedder
from embeddings.fingerprint import EmbeddingFingerprint
from embeddings.patches import Floats
from embeddings.threads import each
from gallery.describe import Reference
from gallery.identify import Identifier
from gallery.originals import read_reference_picture
from gallery.reader import Gallery

_KEPT = 4096  # profiles; a few hundred bytes each


class Serving:
    """Everything that inspections of one build share. Safe between threads. Final."""

    def __init__(
        self,
        gallery: Gallery,
        embedder: Embedder,
        *,
        calibration: SidelineCalibration | None = None,
    ) -> None:
        """`calibration`: the operator's; its scores are used unless `objection` says why not,
        its rates always."""
        self.gallery, self.embedder = gallery, embedder
        self.calibration = calibration
        self.objection = calibration.objection(self.fingerprint) if calibration else None
        self.identifier = Identifier(gallery)
        self._step = ProfileStep(embedder, functools.partial(read_reference_picture, gallery.root))
        self._profiles: OrderedDict[str, Profile] = OrderedDict()
        self._nulls: Nulls | None = None
        self._lock = threading.RLock()

    @property
    def fingerprint(self) -> EmbeddingFingerprint:
        """Of the query vectors that this serving makes."""
        return self.embedder.fingerprint(codec=self.gallery.fingerprint.codec)

    @property
    def nulls(self) -> Nulls:
        """Priors and null scores beyond single products; read on first use."""
        with self._lock:
            if self._nulls is None:
                found = known_nulls(self.gallery, step=self._step.fingerprint)
                used = self._scores
                # Scores are compared under what they were scaled by.
                self._nulls = Nulls(used.priors, found.sources) if used else found
            return self._nulls

    @property
    def calibration_id(self) -> str | None:
        """The calibration whose scores are used."""
        return self._scores.calibration_id if self._scores else None

    @property
    def _scores(self) -> SidelineCalibration | None:
        return None if self.objection else self.calibration

    def null_scores(
        self, product_id: str, profile: Profile
    ) -> dict[EvidenceKind, tuple[NullScores, ...]]:
        """All null scores that hold for a product, the most specific first."""
        known = self.nulls
        if self._scores is None:
            return known.of(profile)
        stored = self.gallery.stored(product_id).references
        digest = references_digest([reference.reference_id for reference in stored])
        found = {k: self._scores.sources(product_id, digest, kind=k) for k in KINDS}
        # What is beyond the sources that the calibration has.
        return {
            kind: (
                *found[kind],
                *(n for n in known.sources[kind] if len(found[kind]) < 2 or n.source == "shipped"),
            )
            for kind in KINDS
        }

    def profile(self, product_id: str) -> Profile:
        """What the build learned of a product; learned now if it was built under another scoring.

        That takes as long as inspecting each of its references once, and gives the same.
        """
        with self._lock:
            if product_id in self._profiles:
                self._profiles.move_to_end(product_id)
                return self._profiles[product_id]
        record = None
        if self.gallery.manifest.steps.get(STEP) == self._step.fingerprint:
            record = self.gallery.extra(product_id, STEP)
        if record is None:
            record = self._step(self.gallery.references(product_id))
        profile = read_profile(record)
        with self._lock:
            self._profiles[product_id] = profile
            while len(self._profiles) > _KEPT:
                self._profiles.popitem(last=False)
        return profile

    def wants_vector(self, product_id: str) -> bool:
        """Whether a query's vector is needed to choose among the product's references."""
        return len(self.gallery.stored(product_id).references) > MOST_COMPARED

    def references(self, product_id: str, vector: Floats | None) -> list[Reference]:
        """The references that a query is compared with: all, or those nearest to its vector."""
        stored = self.gallery.stored(product_id).references
        shard = self.gallery.shard_of(product_id)
        rows = list(range(len(stored)))
        if vector is not None and len(stored) > MOST_COMPARED:
            rows = nearest_rows(vector, self.gallery.vectors(product_id))
        return each(lambda row: shard.reference(product_id, stored[row]), rows)

    def close(self) -> None:
        self.gallery.close()
