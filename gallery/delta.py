"""Catalog changes -> a delta over the published build, served in seconds until the next build.

A product with any change is laid over the build whole: records of references that stay are copied,
new ones described, build steps asked again. One delta at most is live; the next one starts from
the build again, and finds the shards of products that did not change in between.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from gallery import durable
from gallery.assemble import Describer, ProductStep, ShardTask
from gallery.build import BuildReport, ask
from gallery.catalog import Catalog, CatalogRow
from gallery.errors import DamagedGallery, EmptyCatalog, GalleryError, NoDelta
from gallery.gates import Candidate, CountsAgree, FilesIntact, SelfRetrieval, VectorsUnit
from gallery.index import Keys, common_direction, settled_direction, write_index
from gallery.journal import keys_added
from gallery.layer import DeltaManifest, Layer
from gallery.manifest import ShardEntry, content_of
from gallery.plan import plan_shards
from gallery.publish import Current, point_to, read_current
from gallery.reader import Gallery
from gallery.shard import describe_files
from gallery.workers import gather_shards

MOST_CHANGED = 1000
"""References that a delta may hold, or overrule: searching asks for that many more."""
_SHARDS = 64  # few products share one, so that little is written when one of them changes
_PATIENCE_S = 10.0


@dataclass
class DeltaReport(BuildReport):
    """What an update did. `build_id` serves, with `delta_id` over it (None: as it was built).

    `products` and `references` are those served, `overlaid` the references in the delta, `gone`
    the build's products that no longer serve, `pending` references that catalog and service don't
    share. `published`: CURRENT moved. `unchanged`: there was nothing to do.
    """

    delta_id: str | None = None
    catalog_seq: int = 0
    overlaid: int = 0
    gone: int = 0
    pending: int = 0


@dataclass(frozen=True)
class _Changes:
    """rows: all that shall serve; overlaid: those of products that differ from the build.

    hidden: {number: ID} of the build's products that are overruled, with `hidden_keys` in all.
    """

    rows: Sequence[CatalogRow]
    overlaid: Sequence[CatalogRow]
    hidden: Mapping[int, str]
    hidden_keys: int

    @property
    def products(self) -> dict[str, int]:
        return {row.product_id: row.product_no for row in self.overlaid}

    @property
    def gone(self) -> dict[str, int]:
        left = self.products
        return {name: number for number, name in self.hidden.items() if name not in left}


@dataclass(frozen=True)
class _Ground:
    """What a delta is made over and from: `live` is what serves, `base` its build alone."""

    root: Path
    base: Gallery
    live: Gallery
    changes: _Changes
    catalog_seq: int
    report: DeltaReport = field(repr=False)


def update(
    catalog: Catalog,
    describer: Describer,
    *,
    steps: Sequence[ProductStep] = (),
    withdrawals: bool = False,
    also: Collection[int] = (),
    most: int = MOST_CHANGED,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> DeltaReport:
    """Serve what the catalog holds beyond the published build, as a delta over it.

    With `withdrawals` nothing comes in that doesn't serve (`served_keys`) but the references whose
    keys are in `also`; what the catalog withdrew goes all the same. A delta that fails a gate
    isn't served and is not kept; `report.gates` says why. `most`: references that it may hold or
    overrule.

    Raises `NotAGallery` where nothing is published, `NoDelta` where only a rebuild will do,
    `EmptyCatalog` if nothing would be left, `GalleryBusy`, `StorageError`, `DamagedGallery`.
    """
    root, report = catalog.root, DeltaReport()
    with durable.writer_lock(root / "builds", wait_s=_PATIENCE_S), contextlib.ExitStack() as held:
        current = read_current(root)
        for name in ("delta", "shards"):
            durable.remove_partials(root / name)
        base = held.enter_context(Gallery.open(root, build=current.build))
        live = held.enter_context(_live(root, current))
        catalog.refresh()  # as it is now that nobody else can publish
        rows = _wanted(catalog, withdrawals, also)
        ground = _Ground(root, base, live, _changes(rows, base), catalog.seq, report)
        _begin(ground, catalog)
        if live.delta_id == current.delta and _keys(rows).tolist() == live.keys().tolist():
            report.unchanged, report.delta_id = True, current.delta
            report.content_digest = live.content_digest
            return report
        if not ground.changes.hidden and not ground.changes.overlaid:  # back to what was built
            point_to(root, replace(current, catalog_seq=base.catalog_seq, delta=None))
            report.published, report.content_digest = True, base.content_digest
            return report
        _require_little(ground, most)
        _require_comparable(base, describer)
        known = [step for step in steps if base.manifest.steps.get(step.name) == step.fingerprint]
        _serve(ground, current, _shards(ground, describer, known, progress))
    return report


def served_keys(catalog: Catalog) -> frozenset[int]:
    """Keys of all references that serve; none where nothing does.

    Where that can't be read, of all that the catalog had been given by then: what serves is among
    them, and what was pending may be.
    """
    try:
        current = read_current(catalog.root)
    except GalleryError:
        return frozenset()
    with contextlib.suppress(GalleryError), _opened(catalog.root, current) as live:
        return frozenset(live.keys().tolist())
    return keys_added(catalog.folder / "journal.jsonl", until=current.catalog_seq)


def _opened(root: Path, current: Current) -> Gallery:
    return Gallery.open(root, build=current.build, delta=current.delta)


def _live(root: Path, current: Current) -> Gallery:
    """What serves; without a delta that is damaged, so that a new one can take its place."""
    try:
        return _opened(root, current)
    except DamagedGallery:
        return Gallery.open(root, build=current.build)


def _wanted(catalog: Catalog, withdrawals: bool, also: Collection[int]) -> list[CatalogRow]:
    rows = catalog.rows()
    if withdrawals:
        let_in = served_keys(catalog).union(also)
        rows = [row for row in rows if row.key in let_in]
    if not rows:
        raise EmptyCatalog(
            f"{catalog.root}: no reference would be left to serve, so what was published still "
            "serves; `amiss import` adds some"
        )
    return rows


def _changes(rows: Sequence[CatalogRow], base: Gallery) -> _Changes:
    built = base.keys()
    changed = np.unique(np.setxor1d(_keys(rows), built) >> 16)
    numbers = frozenset(changed.tolist())
    hidden = built[np.isin(built >> 16, changed)]
    return _Changes(
        rows,
        tuple(row for row in rows if row.product_no in numbers),
        {n: base.product_id_of(n << 16) for n in np.unique(hidden >> 16).tolist()},
        len(hidden),
    )


def _keys(rows: Sequence[CatalogRow]) -> Keys:
    """In the order of the rows: ascending, as `Catalog.rows` gives them."""
    return np.array([row.key for row in rows], np.int64)


def _begin(ground: _Ground, catalog: Catalog) -> None:
    report, changes = ground.report, ground.changes
    report.build_id, report.parent = ground.base.build_id, ground.base.build_id
    report.catalog_seq = ground.catalog_seq
    report.references = len(changes.rows)
    report.products = len({row.product_no for row in changes.rows})
    report.overlaid, report.gone = len(changes.overlaid), len(changes.gone)
    report.pending = len(np.setxor1d(_keys(catalog.rows()), _keys(changes.rows)))


def _require_little(ground: _Ground, most: int) -> None:
    count = max(len(ground.changes.overlaid), ground.changes.hidden_keys)
    if count > most:
        raise NoDelta(
            f"{ground.root}: {count} references of products that changed are too many for a delta "
            f"(at most {most}); run `amiss rebuild`"
        )


def _require_comparable(base: Gallery, describer: Describer) -> None:
    if base.fingerprint != describer.fingerprint:
        raise NoDelta(
            f"{base.root}: build {base.build_id} was embedded by another model, version or device "
            "class, and a delta must be comparable with it; run `amiss rebuild`"
        )


def _shards(
    ground: _Ground,
    describer: Describer,
    steps: Sequence[ProductStep],
    progress: Callable[[int, int], None],
) -> tuple[ShardEntry, ...]:
    total, report = len(ground.changes.overlaid), ground.report
    named = [(step.name, step.fingerprint) for step in steps]
    plans = plan_shards(ground.changes.overlaid, _SHARDS, ground.base.fingerprint, named)
    tasks = [ShardTask(ground.root, plan, describer, tuple(steps), ground.live) for plan in plans]
    with report.timed("shards"):
        entries = gather_shards(
            tasks,
            anew=False,
            workers=1,
            tally=report.tally,
            told=lambda done: progress(done, total),
        )
    return entries


def _serve(ground: _Ground, current: Current, entries: tuple[ShardEntry, ...]) -> None:
    """Index, gates and manifest; then the delta appears under its ID, and CURRENT moves."""
    root, report = ground.root, ground.report
    with durable.staging_folder(root / "delta") as folder:
        with report.timed("index"):
            draft = _index(folder, ground, _draft(ground, entries))
        with report.timed("gates"):
            _judge(folder, ground, draft)
        if not report.passed:
            return
        found = [asdict(gate) for gate in report.gates]
        durable.write_json(folder / "gates.json", {"format": durable.FORMAT, "gates": found})
        names = [p.name for p in folder.iterdir()]
        final = replace(draft, files=describe_files(folder, names))
        durable.write_file(folder / "manifest.json", final.encode())
        durable.write_file(folder / "lease", b"")
        report.delta_id, report.content_digest = final.delta_id(), final.content_digest
        durable.settle(folder, root / "delta" / report.delta_id)
    point_to(root, replace(current, catalog_seq=ground.catalog_seq, delta=report.delta_id))
    report.published = True


def _draft(ground: _Ground, entries: tuple[ShardEntry, ...]) -> DeltaManifest:
    base, changes = ground.base, ground.changes
    less = sum(
        base.shard_of(name).product_digest(base.stored(name)) for name in changes.hidden.values()
    )
    return DeltaManifest(
        base=base.build_id,
        # To the microsecond: a new one for a damaged one must not get its ID.
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds"),
        catalog_seq=ground.catalog_seq,
        content_digest=content_of(base.fingerprint, [*base.shard_entries, *entries], less=less),
        products=changes.products,
        gone=changes.gone,
        hidden=changes.hidden_keys,
        product_count=ground.report.products,
        reference_count=len(changes.rows),
        shard_count=_SHARDS,
        shards=entries,
        centre=tuple(base.manifest.index["centre"]),
        covers_all=False,
        files={},
    )


def _index(folder: Path, ground: _Ground, draft: DeltaManifest) -> DeltaManifest:
    """The draft with its index: of its own references, unless the common direction moved on.

    A build with the same content would then compare otherwise, so all references are indexed anew.
    That happens in small galleries only, or when much changed: each product counts alike.
    """
    layer = Layer(ground.root, folder, draft, lease=None)
    table = np.concatenate(layer.tables_over(ground.base.vector_tables()))
    fresh = common_direction(table["key"] >> 16, table["vector"])
    kept = np.asarray(draft.centre, np.float32)
    centre = settled_direction(fresh, parent=kept)
    covers_all = centre is not kept
    if not covers_all:
        table = np.concatenate([table[:0], *layer.tables()])
    layer.close()
    draft = replace(draft, centre=tuple(float(x) for x in centre), covers_all=covers_all)
    if not len(table):
        return draft
    table = table[np.argsort(table["key"])]
    write_index(folder / "index.faiss", table["key"], table["vector"], centre=centre)
    return replace(draft, files=describe_files(folder, ("index.faiss",)))


def _judge(folder: Path, ground: _Ground, draft: DeltaManifest) -> None:
    """The gates of a build that cost little; retrieval is asked of what is new."""
    base, changes = ground.base, ground.changes
    layer = Layer(ground.root, folder, draft, lease=None)
    served = Gallery(
        ground.root, ground.root / "builds" / base.build_id, base.manifest, lease=None, layer=layer
    )
    retrieval = SelfRetrieval(among=_keys(changes.overlaid), most=100)
    candidate = Candidate(served, ground.live, changes.rows)
    ground.report.gates = [
        ask(gate, candidate) for gate in (FilesIntact(), CountsAgree(), VectorsUnit(), retrieval)
    ]
    served.close()
