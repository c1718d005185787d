"""Import, build, publish: the verbs that schedulers, clusters and the command line call.

This is where what `gallery` can't know is put together with it: the embedder, the settings, the
steps and gates that need scoring.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anomaly.config import BuildConfig, build_config
from anomaly.contamination import Contamination
from anomaly.profile import ProfileStep
from anomaly.regression import Regression
from anomaly.sharpness import SharpnessStep
from embeddings.embedder import Embedder, Known, open_embedder
from embeddings.recall import recall
from embeddings.threads import one_blas_thread
from gallery import durable
from gallery.assemble import EmbeddingDescriber, ProductStep
from gallery.build import BuildReport, build
from gallery.catalog import FIRST_SETTINGS, ImportReport, create_catalog, open_catalog
from gallery.delta import served_keys
from gallery.describe import RECORD_CODEC
from gallery.errors import EmptyCatalog, GalleryError, GalleryExists, GateFailed, SourceError
from gallery.gates import Gate, default_gates
from gallery.manifest import read_manifest
from gallery.originals import read_reference_picture
from gallery.publish import publish, read_current
from gallery.reader import Gallery
from gallery.sources import Source, read_source

Progress = Callable[[str, int, int], None]
"""Told (stage, done, total)."""


def _quiet(stage: str, done: int, total: int) -> None:
    return None


@dataclass(frozen=True)
class NewGallery:
    """What `build_gallery` did: the import and the build, which is published if it passed."""

    imported: ImportReport
    built: BuildReport


def build_gallery(
    source: str | Path,
    root: str | Path,
    *,
    config: BuildConfig | None = None,
    product_id: str | None = None,
    progress: Progress = _quiet,
) -> NewGallery:
    """Make a gallery at `root` from `source` and publish it: import, rebuild, publish.

    Raises `GalleryExists` for a gallery that is there already, `SourceError` or `EmptyCatalog`
    when there is nothing to build from; then nothing is left behind.
    """
    place, settings = Path(root), config or build_config()
    if (place / "catalog" / "catalog.json").exists():
        raise GalleryExists(
            f"{place}: there is a gallery already; `amiss import SOURCE {place}` adds to it, "
            f"`amiss rebuild {place}` builds it anew"
        )
    found = _read(source, product_id)
    embedder = _open(settings)
    existed = place.exists()
    create_catalog(place)
    durable.write_sealed(place / "catalog" / FIRST_SETTINGS, settings.content())
    imported = _import(place, found, settings.threads, progress)
    if imported.added == 0:
        shutil.rmtree(place / "catalog") if existed else shutil.rmtree(place)
        reasons = "; ".join(f"{p.where}: {p.message}" for p in imported.problems[:3])
        raise EmptyCatalog(
            f"{source}: none of {len(found.rows)} pictures could be imported ({reasons}); "
            "no gallery was made"
        )
    return NewGallery(imported, _build(place, settings, embedder, None, None, False, progress))


def import_source(
    source: str | Path,
    root: str | Path,
    *,
    product_id: str | None = None,
    why: str = "import",
    by: str | None = None,
    threads: int = 2,
    progress: Progress = _quiet,
) -> ImportReport:
    """Add references to the catalog at `root`, which is made if it is absent; builds nothing.

    `why` and `by` (default: the user) go into the journal.
    """
    place, found = Path(root), _read(source, product_id)
    if not (place / "catalog" / "catalog.json").exists():
        with contextlib.suppress(GalleryExists):  # another made it in between
            create_catalog(place)
    return _import(place, found, threads, progress, why=why, by=by)


def rebuild(
    root: str | Path,
    *,
    config: BuildConfig | None = None,
    steps: Sequence[ProductStep] | None = None,
    gates: Sequence[Gate] | None = None,
    full: bool = False,
    progress: Progress = _quiet,
) -> BuildReport:
    """Build what the catalog says and publish it if it passes its gates.

    Without `config`, backbone and size are those of the published build. Only what changed is
    embedded, unless `full`. `steps` are what is learned per product: profile and sharpness, unless
    given. `report.published` tells whether CURRENT moved.
    """
    place = Path(root)
    settings = config or build_config(inherited=published_settings(place))
    embedder = _open(settings) if full else _reopen(place, settings)
    return _build(place, settings, embedder, steps, gates, full, progress)


@dataclass(frozen=True)
class Outlook:
    """What a rebuild would do. References to `embed`, to be `kept` as they are stored, that go
    (`dropped`); products that come and go; `lost` is what `count_delta` would judge, 0 to 1."""

    parent: str | None
    embed: int
    kept: int
    dropped: int
    products_added: tuple[str, ...]
    products_removed: tuple[str, ...]
    lost: float


def foresee(root: str | Path, *, config: BuildConfig | None = None, full: bool = False) -> Outlook:
    """What `rebuild` with the same arguments would do; nothing is written."""
    place = Path(root)
    settings = config or build_config(inherited=published_settings(place))
    rows = open_catalog(place).rows()
    wanted = {row.key: row.product_id for row in rows}
    if not (place / "CURRENT").is_file():
        names = tuple(sorted({*wanted.values()}))
        return Outlook(None, len(rows), 0, 0, names, (), 0.0)
    fingerprint = _reopen(place, settings).fingerprint(codec=RECORD_CODEC)
    with Gallery.open(place) as parent, Gallery.open(place, build=parent.build_id) as built:
        keys, stored = set(built.keys().tolist()), set(parent.keys().tolist())
        before = frozenset(built.product_ids())
        anew = full or fingerprint != parent.fingerprint
        kept = 0 if anew else len(stored & wanted.keys())  # from the delta, too
        after = frozenset(wanted.values())
        pairs = ((len(before), len(after)), (len(keys), len(rows)))
        return Outlook(
            parent.build_id,
            embed=len(rows) - kept,
            kept=kept,
            dropped=len(keys - wanted.keys()),
            products_added=tuple(sorted(after - before)),
            products_removed=tuple(sorted(before - after)),
            lost=max(max(0.0, (was - now) / was) for was, now in pairs),
        )


def _keep_up(root: Path, served: Collection[int]) -> None:
    """Let go of what was withdrawn while a build was made, and let back in what served by then."""
    from anomaly.update import update_gallery  # which needs this module

    report = update_gallery(root, withdrawals=True, also=served)
    if not report.passed:
        failed = ", ".join(gate.name for gate in report.gates if not gate.passed)
        raise GateFailed(
            f"{root}: build {report.build_id} serves, but not what the catalog was told while it "
            f"was made: a delta with that did not pass {failed}; run `amiss update`"
        )


def published_settings(root: Path) -> dict[str, Any]:
    """Backbone and size of the published build, or of the `build` that was cut short before it."""
    if not (root / "CURRENT").is_file():
        first = root / "catalog" / FIRST_SETTINGS
        if not first.is_file():
            return {}
        kept = durable.read_sealed(first, what="first settings")
        return {key: kept[key] for key in ("backbone", "size_px")}
    try:
        with Gallery.open(root, build=read_current(root).build) as gallery:
            return dict(gallery.manifest.config)
    except GalleryError as error:
        raise GalleryError(
            f"the settings of the published build can't be read ({error}); give --backbone and "
            "--size to rebuild without them"
        ) from error


def embedder_for(gallery: Gallery, *, device: str = "auto") -> Embedder:
    """The embedder whose vectors compare with the gallery's; `FingerprintMismatch` if none."""
    embedder = _open(build_config(given={**gallery.manifest.config, "device": device}))
    gallery.fingerprint.require_comparable(embedder.fingerprint(codec=gallery.fingerprint.codec))
    return embedder


def _open(settings: BuildConfig) -> Embedder:
    return open_embedder(settings.backbone, size_px=settings.size_px, device=settings.device)


def _reopen(root: Path, settings: BuildConfig) -> Embedder:
    """The embedder of the published build, not loaded yet, where it is certain to be the same."""
    with contextlib.suppress(GalleryError):
        last = read_manifest(root, read_current(root).build)
        if dict(last.config) == settings.content():
            known = Known(last.fingerprint, last.dims)
            found = recall(
                known, last.versions, settings.backbone,
                size_px=settings.size_px, device=settings.device,
            )  # fmt: skip
            if found is not None:
                return found
    return _open(settings)


def _read(source: str | Path, product_id: str | None) -> Source:
    found = read_source(source, product_id=product_id)
    if not found.rows:
        reasons = "; ".join(f"{p.where}: {p.message}" for p in found.problems[:3])
        raise SourceError(f"{source}: no pictures to import" + (f" ({reasons})" if reasons else ""))
    return found


def _import(
    root: Path,
    source: Source,
    threads: int,
    progress: Progress,
    *,
    why: str = "import",
    by: str | None = None,
) -> ImportReport:
    total = len(source.rows)
    report = open_catalog(root).import_rows(
        source.rows, why=why, by=by, threads=threads,
        progress=lambda done: progress("import", done, total),
    )  # fmt: skip
    report.problems[:0] = source.problems
    report.notes[:0] = source.notes
    report.ignored = source.ignored
    return report


def _build(
    root: Path,
    settings: BuildConfig,
    embedder: Embedder,
    steps: Sequence[ProductStep] | None,
    gates: Sequence[Gate] | None,
    full: bool,
    progress: Progress,
) -> BuildReport:
    catalog = open_catalog(root)
    pictures = functools.partial(read_reference_picture, root)
    profile = ProfileStep(embedder, pictures, threads=settings.threads)
    with one_blas_thread:
        report = build(
            catalog,
            EmbeddingDescriber(catalog, embedder, threads=settings.threads),
            config=settings.content(),
            steps=(profile, SharpnessStep()) if steps is None else steps,
            gates=_gates(settings, embedder) if gates is None else gates,
            full=full,
            workers=settings.workers,
            progress=lambda done, total: progress("embed", done, total),
        )
    if report.passed and not report.unchanged:
        built_from = catalog.seq
        served: set[int] = set()
        publish(root, report.build_id, replacing=report.parent,
                before=lambda: served.update(served_keys(catalog)))  # fmt: skip
        report.published = True
        catalog.refresh()
        if catalog.seq > built_from:
            _keep_up(root, served)
    return report


def _gates(settings: BuildConfig, embedder: Embedder) -> tuple[Gate, ...]:
    return (
        *default_gates(most_lost=settings.most_lost),
        Contamination(most=settings.most_contaminated),
        Regression(embedder, most=settings.most_worse),
    )
