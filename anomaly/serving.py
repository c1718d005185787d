"""One build, open for inspecting: its gallery, the embedder that fits it, profiles and nulls."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict

from anomaly.nulls import Nulls, known_nulls
from anomaly.profile import MOST_COMPARED, STEP, Profile, ProfileStep, nearest_rows, read_profile
from embeddings.embedder import Embedder
from embeddings.fingerprint import EmbeddingFingerprint
from embeddings.patches import Floats
from gallery.describe import Reference
from gallery.identify import Identifier
from gallery.originals import read_reference_picture
from gallery.reader import Gallery

_KEPT = 4096  # profiles; a few hundred bytes each


class Serving:
    """Everything that inspections of one build share. Safe between threads. Final."""

    def __init__(self, gallery: Gallery, embedder: Embedder) -> None:
        self.gallery, self.embedder = gallery, embedder
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
                self._nulls = known_nulls(self.gallery, step=self._step.fingerprint)
            return self._nulls

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
        return [shard.reference(product_id, stored[row]) for row in rows]

    def close(self) -> None:
        self.gallery.close()
