"""Catalog -> an immutable build, resumable by shard, published by nobody but `publish`.

The plan says for each shard which references it holds; a digest of that plan names what its
content will be. A shard whose plan is unchanged is shared with the parent build, or found again
after a kill; in a changed one only the references that are new are embedded, the others' records
are copied. `Describer` is the seam for tests and synthetic galleries.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from embeddings.recall import CODE, code_digest
from gallery import durable
from gallery.assemble import Describer, ProductStep, ShardTask, Tally
from gallery.build_report import write_report
from gallery.catalog import Catalog, CatalogRow
from gallery.errors import EmptyCatalog, GalleryError
from gallery.gates import Candidate, Gate, GateResult, default_gates
from gallery.index import common_direction, settled_direction
from gallery.index_choice import IndexChoice, make_index
from gallery.manifest import Manifest, ShardEntry, content_of
from gallery.plan import plan_shards, shard_count
from gallery.products import ProductTable, write_products
from gallery.publish import failed_gates, read_current
from gallery.reader import Gallery
from gallery.shard import Shard, describe_files
from gallery.workers import gather_shards

_PACKAGES = (
    "amiss", "torch", "timm", "faiss-cpu", "faiss-gpu", "lmdb", "numpy", "opencv-python-headless",
)  # fmt: skip


@dataclass
class BuildReport:
    """What a build did. Seconds are wall time per stage; `published` is the caller's to set.

    `index`: which kind was written, why, and how fast it searched; None where none was.
    `unchanged`: the published build says all that the catalog says; `build_id` is that build's.
    """

    build_id: str = ""
    parent: str | None = None
    content_digest: str = ""
    products: int = 0
    references: int = 0
    tally: Tally = field(default_factory=Tally)
    bytes_per_reference: float = 0.0
    index: IndexChoice | None = None
    gates: list[GateResult] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    published: bool = False
    unchanged: bool = False

    @property
    def passed(self) -> bool:
        return all(gate.passed for gate in self.gates)

    @contextlib.contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - start, 3)


def build(
    catalog: Catalog,
    describer: Describer,
    *,
    config: Mapping[str, Any],
    steps: Sequence[ProductStep] = (),
    gates: Sequence[Gate] | None = None,
    full: bool = False,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> BuildReport:
    """Build what the catalog says and judge it by `gates`; nothing is published.

    `full` describes every reference anew; with several `workers`, shards are made by as many
    processes. `progress` is told references done and in all. Raises `EmptyCatalog`, `GalleryBusy`,
    `StorageError`, `WorkerLost`, or `DamagedGallery` for an original that is not what was imported.
    A build that fails a gate stays in `builds/` with its report.
    """
    rows, root = catalog.rows(), catalog.root
    if not rows:
        raise EmptyCatalog(f"{root}: the catalog holds no references; `amiss import` adds some")
    report = BuildReport(references=len(rows), products=len({r.product_id for r in rows}))
    with durable.writer_lock(root / "builds"), contextlib.ExitStack() as held:
        for name in ("builds", "shards"):
            durable.remove_partials(root / name)
        parent = held.enter_context(_parent(root) or contextlib.nullcontext())
        report.parent = parent.build_id if parent else None
        count = shard_count(
            report.products, parent_count=parent.manifest.shard_count if parent else None
        )
        named = [(step.name, step.fingerprint) for step in steps]
        plans = plan_shards(rows, count, describer.fingerprint, named)
        with report.timed("shards"):
            told = functools.partial(_tell, progress, len(rows))
            source = None if full else parent
            tasks = [ShardTask(root, plan, describer, tuple(steps), source) for plan in plans]
            entries = gather_shards(
                tasks, anew=full, workers=workers, tally=report.tally, told=told
            )
        draft = _draft(catalog, describer, config, steps, count, entries, report)
        if parent is not None and not full and _same(draft, parent.manifest):
            # Unpublished, when its build was cut short before CURRENT moved: publish it then.
            report.build_id, report.content_digest = parent.build_id, draft.content_digest
            report.unchanged = _serves(root, parent.build_id)
            return report
        _finish(catalog, draft, rows, parent, default_gates() if gates is None else gates, report)
    return report


def _finish(
    catalog: Catalog,
    draft: Manifest,
    rows: Sequence[CatalogRow],
    parent: Gallery | None,
    gates: Sequence[Gate],
    report: BuildReport,
) -> None:
    """Index, gates, report and manifest; then the build appears under its ID, whole."""
    root = catalog.root
    with durable.storage_errors(root):
        (root / "builds").mkdir(exist_ok=True)
    with durable.staging_folder(root / "builds") as folder:
        with report.timed("index"):
            draft, report.index = _index(folder, draft, rows, parent)
        with report.timed("gates"):
            candidate = Gallery(root, folder, draft, lease=None)
            report.gates = [ask(gate, Candidate(candidate, parent, rows)) for gate in gates]
            candidate.close()
        found = [asdict(gate) for gate in report.gates]
        durable.write_json(folder / "gates.json", {"format": durable.FORMAT, "gates": found})
        write_report(folder / "report.html", draft, report.gates, report.index)
        names_of_files = ("index.faiss", "products.parquet", "gates.json", "report.html")
        final = replace(draft, files=describe_files(folder, names_of_files))
        durable.write_file(folder / "manifest.json", final.encode())
        durable.write_file(folder / "lease", b"")
        report.build_id, report.content_digest = final.build_id(), final.content_digest
        target = root / "builds" / report.build_id
        if not target.exists():  # else the same manifest, to the second: the same build
            durable.settle(folder, target)
    data = sum(int(f["bytes"]) for s in draft.shards for f in s.files.values())
    report.bytes_per_reference = round(data / len(rows), 1)


def _index(
    folder: Path, draft: Manifest, rows: Sequence[CatalogRow], parent: Gallery | None
) -> tuple[Manifest, IndexChoice]:
    """Write index and product table; the draft with both in it, and why that kind of index."""
    shards = folder.parent.parent / "shards"
    tables = np.concatenate([Shard(shards / entry.digest).vectors() for entry in draft.shards])
    tables = tables[np.argsort(tables["key"])]
    comparable = parent is not None and parent.fingerprint == draft.fingerprint
    kept = parent.manifest.index["centre"] if parent and comparable else None
    centre = settled_direction(
        common_direction(tables["key"] >> 16, tables["vector"]),
        parent=None if kept is None else np.asarray(kept, np.float32),
    )
    choice = make_index(folder / "index.faiss", tables["key"], tables["vector"], centre=centre)
    names = {row.product_no: row.product_id for row in rows}
    numbers = np.array(sorted(names), np.int64)
    table = ProductTable(numbers, [names[int(n)] for n in numbers])
    write_products(folder / "products.parquet", table)
    files = describe_files(folder, ("index.faiss", "products.parquet"))
    return replace(draft, index=choice.settings(centre), files=files), choice


def ask(gate: Gate, candidate: Candidate) -> GateResult:
    """A gate's answer; a candidate that can't even be read has not passed."""
    try:
        return gate(candidate)
    except GalleryError as error:
        return GateResult(gate.name, False, None, "a readable build", str(error))


def _same(draft: Manifest, parent: Manifest) -> bool:
    """Whether a build would say nothing that its parent doesn't."""
    if draft.shards != parent.shards:  # the same content after a repair, but other bytes
        return False
    return (draft.content_digest, draft.catalog_seq, draft.config, draft.fingerprint) == (
        parent.content_digest, parent.catalog_seq, parent.config, parent.fingerprint
    )  # fmt: skip


def _serves(root: Path, build_id: str) -> bool:
    try:
        return read_current(root).build == build_id
    except GalleryError:
        return False


def _tell(progress: Callable[[int, int], None], total: int, done: int) -> None:
    progress(done, total)


def _draft(
    catalog: Catalog,
    describer: Describer,
    config: Mapping[str, Any],
    steps: Sequence[ProductStep],
    count: int,
    entries: tuple[ShardEntry, ...],
    report: BuildReport,
) -> Manifest:
    head = durable.read_sealed(catalog.folder / "catalog.json", what="catalog head")
    return Manifest(
        gallery_id=str(head["gallery_id"]),
        parent=report.parent,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        catalog_seq=catalog.seq,
        content_digest=content_of(describer.fingerprint, entries),
        steps={step.name: step.fingerprint for step in steps},
        fingerprint=describer.fingerprint,
        config=dict(config),
        dims=describer.dims,
        shard_count=count,
        shards=entries,
        products=sum(e.products for e in entries),
        references=sum(e.references for e in entries),
        files={},
        index={},
        versions=_versions(),
    )


def _parent(root: Path) -> Gallery | None:
    """What serves, or where it can't be read the newest build that can and passed its gates.

    A damaged pointer must neither stop the build that replaces it nor switch off the gates that
    compare with a parent.
    """
    folder = root / "builds"
    names = sorted((p.name for p in folder.iterdir() if p.is_dir()), reverse=True)
    found: list[tuple[str, str | None]] = [(name, None) for name in names]
    with contextlib.suppress(GalleryError):
        current = read_current(root)
        found[:0] = [(current.build, current.delta), (current.build, None)]
    for name, delta in found:
        with contextlib.suppress(GalleryError):
            if not failed_gates(root, name):
                return Gallery.open(root, build=name, delta=delta)
    return None


def _versions() -> dict[str, str]:
    """Installed versions by distribution, without importing any of them; and of our code."""
    found = {CODE: code_digest()}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
