"""Catalog changes served at once, as a delta over the published build, without a rebuild.

The network is loaded only if a picture must be described or a profile learned again: taking a
whole product away costs neither.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from anomaly.builder import Progress, embedder_for
from anomaly.profile import STEP, ProfileStep, profile_fingerprint
from anomaly.sharpness import SharpnessStep
from embeddings.errors import FingerprintMismatch
from embeddings.fingerprint import EmbeddingFingerprint
from embeddings.threads import one_blas_thread
from gallery.assemble import Described, Describer, EmbeddingDescriber, ProductStep
from gallery.catalog import Catalog, CatalogRow, open_catalog
from gallery.delta import DeltaReport, update
from gallery.describe import Reference
from gallery.errors import NoDelta
from gallery.originals import read_reference_picture
from gallery.publish import read_current
from gallery.reader import Gallery
from gallery.records import Record


def _quiet(stage: str, done: int, total: int) -> None:
    return None


def update_gallery(
    root: str | Path,
    *,
    withdrawals: bool = False,
    also: Collection[int] = (),
    threads: int = 2,
    progress: Progress = _quiet,
) -> DeltaReport:
    """Serve what the catalog holds beyond the published build, in seconds.

    With `withdrawals` only what was removed or quarantined takes effect, and references whose keys
    are in `also` come in. `report.published` tells whether CURRENT moved; a delta that failed its
    gates is not served. Raises `NotAGallery` where nothing is published, `NoDelta` where a rebuild
    is needed (too much changed, or another embedder), else what `gallery.delta.update` raises.
    """
    return _update(open_catalog(Path(root)), withdrawals, also, threads, progress)


def _update(
    catalog: Catalog, withdrawals: bool, also: Collection[int], threads: int, progress: Progress
) -> DeltaReport:
    with Gallery.open(catalog.root, build=read_current(catalog.root).build) as base:
        maker = _Maker(base, catalog, threads)
    with one_blas_thread:
        return update(
            catalog,
            maker,
            steps=(_LateProfile(maker.profile), SharpnessStep()),
            withdrawals=withdrawals,
            also=also,
            progress=lambda done, total: progress("embed", done, total),
        )


@dataclass(frozen=True)
class Withdrawn:
    """`rows` that a deed changed; `served`: how it took effect, None where nothing is published."""

    rows: Sequence[CatalogRow]
    served: DeltaReport | None


def withdraw(
    root: str | Path,
    product_id: str,
    references: str | Sequence[str] | None = None,
    *,
    deed: str,
    why: str,
    by: str | None = None,
) -> Withdrawn:
    """`remove`, `quarantine` or `release` in the catalog (see `Catalog.withdraw`), and serve it.

    Nothing else that is pending comes in. What the update raises leaves the deed in the catalog;
    `update_gallery` can then be called again.
    """
    catalog = open_catalog(Path(root))
    rows = catalog.withdraw(product_id, references, deed=deed, why=why, by=by)
    return Withdrawn(rows, serve_deed(catalog, rows, deed=deed))


def serve_deed(catalog: Catalog, rows: Sequence[CatalogRow], *, deed: str) -> DeltaReport | None:
    """Make a deed take effect that changed `rows`; None where nothing is published yet."""
    if not (catalog.root / "CURRENT").is_file():
        return None
    also = [row.key for row in rows] if deed in ("release", "replace") else ()
    return _update(catalog, True, also, 2, _quiet)


class _Maker:
    """The describer of a build's references, which opens its embedder when it is first needed."""

    def __init__(self, base: Gallery, catalog: Catalog, threads: int) -> None:
        self._base, self._catalog, self._threads = base, catalog, threads

    @property
    def fingerprint(self) -> EmbeddingFingerprint:
        return self._base.fingerprint

    @property
    def dims(self) -> int:
        return self._base.manifest.dims

    def describe(self, rows: Sequence[CatalogRow]) -> Iterator[Described]:
        yield from self._opened[0].describe(rows)

    def profile(self, references: Sequence[Reference]) -> Record:
        return self._opened[1](references)

    @functools.cached_property
    def _opened(self) -> tuple[Describer, ProductStep]:
        root = self._base.root
        try:
            embedder = embedder_for(self._base, device=self._base.fingerprint.device_class)
        except FingerprintMismatch as error:
            raise NoDelta(
                f"{root}: what is pending can't be compared with the published build ({error}); "
                "run `amiss rebuild`"
            ) from error
        pictures = functools.partial(read_reference_picture, root)
        return (
            EmbeddingDescriber(self._catalog, embedder, threads=self._threads),
            ProfileStep(embedder, pictures, threads=self._threads),
        )


class _LateProfile:
    """The profile step, of which only the fingerprint is known until it is asked."""

    def __init__(self, learn: Callable[[Sequence[Reference]], Record]) -> None:
        self.name, self.fingerprint, self._learn = STEP, profile_fingerprint(), learn

    def __call__(self, references: Sequence[Reference]) -> Record:
        return self._learn(references)
