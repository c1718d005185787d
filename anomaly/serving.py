"""One build, open for inspecting: its gallery, the embedder that fits it, profiles and nulls."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from dataclasses import replace

import numpy as np

from anomaly.calibrate import NullScores
from anomaly.calibration import CALIBRATED, SidelineCalibration
from anomaly.nulls import Nulls, counted, known_nulls
from anomaly.pose import ArraysOf, read_pose
from anomaly.profile import MOST_COMPARED, STEP, Profile, ProfileStep, nearest_rows, read_profile
from anomaly.results import EvidenceKind, Null
from embeddings.embedder import Embedder
from embeddings.fingerprint import EmbeddingFingerprint
from embeddings.patches import Floats
from embeddings.threads import each
from gallery.describe import Reference
from gallery.identify import Identifier
from gallery.originals import read_reference_picture
from gallery.reader import Gallery
from gallery.records import Record
from gallery.shard import StoredReference

_KEPT = 4096  # profiles; a few hundred bytes each
_KEPT_RECORDS = 64  # learned on demand, with the grids and pictures of poses


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
        # Fitting these anew for each picture takes the longer the more references there are.
        self.channel_nulls = functools.lru_cache(_KEPT)(self._channel_nulls)
        self._learn = functools.lru_cache(_KEPT_RECORDS)(
            lambda product_id: self._step(gallery.references(product_id))
        )
        self._own_scores = functools.lru_cache(_KEPT)(self._known_scores)
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
                self._nulls = replace(found, priors=used.priors) if used else found
            return self._nulls

    @property
    def calibration_id(self) -> str | None:
        """The calibration whose scores are used."""
        return self._scores.calibration_id if self._scores else None

    @property
    def _scores(self) -> SidelineCalibration | None:
        return None if self.objection else self.calibration

    def _channel_nulls(self, product_id: str) -> dict[str, Null]:
        """What each channel says of a product's pristine pictures. Read-only."""
        return self.profile(product_id).nulls(self.nulls.priors)

    def _known_scores(self, product_id: str) -> dict[EvidenceKind, tuple[NullScores, ...]]:
        return self.nulls.of(self.profile(product_id))

    def null_scores(self, product_id: str) -> dict[EvidenceKind, tuple[NullScores, ...]]:
        """All null scores that hold for a product, the most specific first."""
        if self._scores is None:
            return self._own_scores(product_id)
        known = self.nulls.beyond(self.profile(product_id))
        ids = [reference.reference_id for reference in self.counted(product_id)]
        found = dict(self._own_scores(product_id))
        for kind in CALIBRATED:
            own = self._scores.sources(product_id, ids, kind=kind)
            # What is beyond the sources that the calibration has.
            rest = (n for n in known[kind] if len(own) < 2 or n.source == "shipped")
            found[kind] = (*own, *rest)
        if self._scores.by_pictures("placed", counted("placed", len(ids))):
            # They show the line's own light; references never do.
            lent = (n for n in found["placed"] if n.source != "shipped")
            found["relit"] = (*lent, *(n for n in known["relit"] if n.source == "shipped"))
        return found

    def profile(self, product_id: str) -> Profile:
        """What the build learned of a product; learned now if it was built under another scoring.

        That takes as long as inspecting each of its references once, and gives the same.
        """
        with self._lock:
            if product_id in self._profiles:
                self._profiles.move_to_end(product_id)
                return self._profiles[product_id]
        profile = read_profile(self._learned(product_id, ArraysOf()))
        with self._lock:
            self._profiles[product_id] = profile
            while len(self._profiles) > _KEPT:
                self._profiles.popitem(last=False)
        return profile

    def _learned(self, product_id: str, names: ArraysOf) -> Record:
        record = None
        if self.gallery.manifest.steps.get(STEP) == self._step.fingerprint:
            record = self.gallery.extra(product_id, STEP, only=names)
        return self._learn(product_id) if record is None else record

    def counted(self, product_id: str) -> list[StoredReference]:
        """The references that count and that pictures are compared with: all but copies."""
        stored, copies = self.gallery.stored(product_id), self.profile(product_id).copies
        return [one for one in stored.references if one.reference_id not in copies]

    def wants_vector(self, product_id: str) -> bool:
        """Whether a query's vector is needed to choose among the product's references."""
        return len(self.counted(product_id)) > MOST_COMPARED

    def references(self, product_id: str, vector: Floats | None) -> list[Reference]:
        """The references that a query is compared with, as they are posed: all that count, or those
        nearest to its vector."""
        posed = self.profile(product_id).posed
        chosen, shard = self.counted(product_id), self.gallery.shard_of(product_id)
        if vector is not None and len(chosen) > MOST_COMPARED:
            vectors = np.stack([shard.vector(one) for one in chosen])
            chosen = [chosen[row] for row in nearest_rows(vector, vectors)]
        turned = posed & {one.reference_id for one in chosen}
        record = self._learned(product_id, ArraysOf(turned)) if turned else None

        def fetched(one: StoredReference) -> Reference:
            found = None
            if record is not None:
                found = read_pose(record, one.reference_id, shard.vector(one))
            return shard.reference(product_id, one) if found is None else found

        return each(fetched, chosen)

    def close(self) -> None:
        self.gallery.close()
