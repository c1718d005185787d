"""Is everything on the disk what was written? Every file, every checksum, named where it isn't."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from embeddings.fingerprint import digest_json
from gallery import durable
from gallery.calibrations import (
    FOLDER,
    calibration_path,
    list_calibrations,
    read_calibration,
)
from gallery.catalog import FIRST_SETTINGS, Catalog, open_catalog
from gallery.errors import GalleryError, NotAGallery
from gallery.layer import DeltaManifest, list_deltas, read_delta
from gallery.manifest import Manifest, read_manifest
from gallery.publish import read_current
from gallery.reader import Gallery


@dataclass(frozen=True)
class Finding:
    """`path`: the file that is wrong."""

    path: str
    message: str


@dataclass
class CheckReport:
    """`damaged` must be empty in a sound gallery.

    serves   the build that CURRENT names, or None where nothing is published
    pending  references that catalog and service don't share: `amiss update` or a rebuild serves
             them. None when nothing is published, or what is can't be trusted.
    orphans  complete files that nothing refers to; harmless
    """

    damaged: list[Finding] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    serves: str | None = None
    pending: int | None = None
    builds: int = 0
    files: int = 0
    deltas: int = 0

    @property
    def sound(self) -> bool:
        return not self.damaged

    @property
    def idle(self) -> bool:
        """Whether there are builds and none of them serves: the pointer is missing."""
        return self.builds > 0 and self.serves is None


def check(path: str | Path) -> CheckReport:
    """Verify all that is on the disk. Raises `NotAGallery`; damage is reported."""
    root, report = Path(path), CheckReport()
    catalog = _catalog(root, report)
    _sealed(root / "catalog" / FIRST_SETTINGS, "first settings", report)
    readable: list[Manifest | DeltaManifest] = [*_builds(root, report), *_deltas(root, report)]
    _shards(root, readable, report)
    if catalog is not None:
        _originals(catalog, report)
    _frozen(root, report)
    _calibrations(root, report)
    _current(root, catalog, report)
    return report


def _catalog(root: Path, report: CheckReport) -> Catalog | None:
    try:
        return open_catalog(root)
    except NotAGallery:
        if not (root / "catalog" / "journal.jsonl").is_file():
            raise
        path = root / "catalog" / "catalog.json"
        report.damaged.append(Finding(str(path), "the catalog head is missing"))
    except GalleryError as error:
        path = root / "catalog"
        head = path / ("catalog.json" if "catalog.json" in str(error) else "journal.jsonl")
        report.damaged.append(Finding(str(head), str(error)))
    return None


def _builds(root: Path, report: CheckReport) -> list[Manifest]:
    found = []
    folders = sorted((root / "builds").iterdir()) if (root / "builds").is_dir() else []
    for folder in (f for f in folders if f.is_dir()):
        if durable.is_partial(folder):
            report.orphans.append(str(folder))
            continue
        report.builds += 1
        try:
            found.append(read_manifest(root, folder.name))
        except GalleryError as error:
            report.damaged.append(Finding(str(folder / "manifest.json"), str(error)))
            continue
        _files(folder, found[-1].files, report)
        _lease(folder, report)
    return found


def _deltas(root: Path, report: CheckReport) -> list[DeltaManifest]:
    found = []
    report.orphans += [str(p) for p in sorted((root / "delta").glob(f"{durable.PARTIAL}*"))]
    for name in list_deltas(root):
        report.deltas += 1
        folder = root / "delta" / name
        try:
            found.append(read_delta(root, name))
        except GalleryError as error:
            report.damaged.append(Finding(str(folder / "manifest.json"), str(error)))
            continue
        _files(folder, found[-1].files, report)
        _lease(folder, report)
    return found


def _lease(folder: Path, report: CheckReport) -> None:
    if not (folder / "lease").is_file() or (folder / "lease").stat().st_size:
        message = "the lease file is missing or not empty"
        report.damaged.append(Finding(str(folder / "lease"), message))


def _shards(root: Path, manifests: Sequence[Manifest | DeltaManifest], report: CheckReport) -> None:
    listed = {(s.digest, digest_json(s.files)): s for m in manifests for s in m.shards}
    for _, shard in sorted(listed.items()):
        _files(root / "shards" / shard.digest, shard.files, report)
    used = {digest for digest, _ in listed}
    if len(manifests) < report.builds + report.deltas:
        return  # a build that can't be read may use what looks like an orphan
    folder = root / "shards"
    present = sorted(p for p in folder.iterdir()) if folder.is_dir() else []
    report.orphans += [str(p) for p in present if p.name not in used]


def _files(folder: Path, files: object, report: CheckReport) -> None:
    assert isinstance(files, dict)
    for name, entry in sorted(files.items()):
        report.files += 1
        try:
            if durable.file_digest(folder / name) != entry["sha256"]:
                message = "not what was built (sha256 differs)"
                report.damaged.append(Finding(str(folder / name), message))
        except GalleryError as error:
            report.damaged.append(Finding(str(folder / name), str(error)))


def _originals(catalog: Catalog, report: CheckReport) -> None:
    rows = [*catalog.rows(), *catalog.quarantined()]
    named = {d for row in rows for d in (row.image, row.mask, row.depth) if d is not None}
    for digest in sorted(named):
        report.files += 1
        path = catalog.original_path(digest)
        try:
            if durable.file_digest(path) != digest:
                message = "the original is not what was imported (sha256 differs)"
                report.damaged.append(Finding(str(path), message))
        except GalleryError as error:
            report.damaged.append(Finding(str(path), str(error)))
    folder = catalog.folder / "originals"
    present = (p for p in folder.glob("*/*") if p.name not in named) if folder.is_dir() else ()
    report.orphans += sorted(str(p) for p in present)


def _frozen(root: Path, report: CheckReport) -> None:
    """Pictures that builds are held to: each is named by its own sha256."""
    _sealed(root / "regression" / "set.json", "regression set", report)
    folder = root / "regression" / "pictures"
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        report.files += 1
        if durable.is_partial(path):
            report.orphans.append(str(path))
        elif durable.file_digest(path) != path.name:
            message = "the picture is not what was frozen (sha256 differs)"
            report.damaged.append(Finding(str(path), message))


def _sealed(path: Path, what: str, report: CheckReport) -> None:
    """A file that may be absent."""
    if not path.is_file():
        return
    report.files += 1
    try:
        durable.read_sealed(path, what=what)
    except GalleryError as error:
        report.damaged.append(Finding(str(path), str(error)))


def _calibrations(root: Path, report: CheckReport) -> None:
    """Each is sealed; a page without one was cut short."""
    folder = root / FOLDER
    report.orphans += [str(path) for path in sorted(folder.glob(f"{durable.PARTIAL}*"))]
    names = list_calibrations(root)
    for name in names:
        report.files += 1
        try:
            read_calibration(root, name)
        except GalleryError as error:
            report.damaged.append(Finding(str(calibration_path(root, name)), str(error)))
    pages = sorted(folder.glob("*.html"))
    report.orphans += [str(page) for page in pages if page.stem not in names]


def _current(root: Path, catalog: Catalog | None, report: CheckReport) -> None:
    try:
        current = read_current(root)
    except NotAGallery:
        return  # nothing is published yet
    except GalleryError as error:
        report.damaged.append(Finding(str(root / "CURRENT"), str(error)))
        return
    report.serves = current.build
    named = (
        ("builds", current.build, current.build),
        ("delta", current.delta, current.delta),
        (FOLDER, current.calibration, f"{current.calibration}.json"),
    )
    for kind, name, file in named:
        if name is not None and file is not None and not (root / kind / file).exists():
            message = f"names the {kind.removesuffix('s')} {name}, which is not there"
            report.damaged.append(Finding(str(root / "CURRENT"), message))
    if report.damaged:
        return  # counting what a damaged build holds would say nothing
    with Gallery.open(root, build=current.build, delta=current.delta) as gallery:
        built = set(gallery.keys().tolist())
    if catalog is not None and catalog.seq < current.catalog_seq:
        path, seq = catalog.folder / "journal.jsonl", current.catalog_seq
        message = f"ends at deed {catalog.seq}, but a build was made from deed {seq}"
        report.damaged.append(Finding(str(path), message))
    elif catalog is not None:
        if unfinished := catalog.unfinished_bytes():
            report.orphans.append(f"{catalog.folder}/journal.jsonl: {unfinished} unfinished bytes")
        report.pending = len(built.symmetric_difference(row.key for row in catalog.rows()))
