"""Builds over time: what two of them differ in, going back to an older one, letting old ones go.

Nothing published is changed: going back moves CURRENT, pruning removes whole builds that nobody
reads, and shards that no build is left to use.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gallery import durable
from gallery.calibrations import prune_calibrations
from gallery.errors import DamagedGallery, NotAGallery, UnknownBuild
from gallery.layer import list_deltas, read_delta
from gallery.manifest import Manifest
from gallery.publish import Current, failed_gates, list_builds, publish, read_current
from gallery.reader import Gallery


@dataclass(frozen=True)
class BuildDiff:
    """What `new` has that `old` has not, and the other way round: {product ID: reference IDs}.

    embedded_anew   whether the embedder differs, so that nothing is shared
    """

    old: str
    new: str
    added: dict[str, list[str]]
    removed: dict[str, list[str]]
    products_added: tuple[str, ...]
    products_removed: tuple[str, ...]
    embedded_anew: bool

    @property
    def same(self) -> bool:
        return not (self.added or self.removed or self.embedded_anew)


@dataclass(frozen=True)
class Pruned:
    """`builds`, `shards`, `deltas` and `calibrations` that went, `bytes` freed.

    held  builds and deltas that a reader's lease kept
    """

    builds: tuple[str, ...]
    shards: tuple[str, ...]
    held: tuple[str, ...]
    bytes: int
    deltas: tuple[str, ...] = ()
    calibrations: tuple[str, ...] = ()


def diff_builds(root: Path, old: str, new: str) -> BuildDiff:
    """References by product that one build has and the other has not. Raises `UnknownBuild`."""
    with Gallery.open(root, build=old) as first, Gallery.open(root, build=new) as second:
        keys = [_keys(first), _keys(second)]
        ids = [first.product_ids(), second.product_ids()]
        before, after = (frozenset(names) for names in ids)
        return BuildDiff(
            old,
            new,
            added=_named(second, keys[1] - keys[0]),
            removed=_named(first, keys[0] - keys[1]),
            products_added=tuple(sorted(after - before)),
            products_removed=tuple(sorted(before - after)),
            embedded_anew=first.fingerprint != second.fingerprint,
        )


def rollback(root: Path, build_id: str | None = None) -> Current:
    """Make an older build serve again: the named one, or the newest before the one that serves.

    Raises `UnknownBuild` where there is none that passed its gates, else what `publish` raises. The
    catalog stays as it is: the next rebuild builds from it again.
    """
    serving = read_current(root).build
    if build_id is None:
        build_id = _before(root, serving)
    return publish(root, build_id, replacing=serving)


def prune(root: Path, *, keep: int, dry_run: bool = False) -> Pruned:
    """Remove builds but the `keep` newest that passed their gates, the one that serves, those that
    failed since it was built, and those that a reader holds; deltas that neither serve nor are
    held; shards that nothing uses; calibrations but the one that serves and the one before it.

    With `dry_run` nothing is removed. Raises `GalleryBusy` while a build is made, `DamagedGallery`
    while a build's manifest can't be read: what it uses would look unused.
    """
    if keep < 1:
        raise ValueError(f"keep {keep}; expected at least 1 build")
    if not (root / "builds").is_dir():
        raise NotAGallery(f"{root}: not a gallery, or nothing was ever built in it")
    with durable.writer_lock(root / "builds"):
        for name in () if dry_run else ("builds", "delta", "shards", "calibrations"):
            durable.remove_partials(root / name)
        builds, deltas, current = dict(list_builds(root)), list_deltas(root), _serving(root)
        old = [root / "builds" / name for name in _dispensable(current, root, builds, keep)]
        unserved = [root / "delta" / n for n in deltas if current is None or n != current.delta]
        going, held = _let_go([*old, *unserved], dry_run)
        kept = [m for name, m in builds.items() if root / "builds" / name not in going]
        above = [read_delta(root, n) for n in deltas if root / "delta" / n not in going]
        used = {s.digest for m in kept for s in m.shards} | {
            s.digest for m in above for s in m.shards
        }
        folder = root / "shards"
        present = [p for p in folder.iterdir() if p.is_dir() and not durable.is_partial(p)]
        loose = {p: _size(p) for p in sorted(present) if p.name not in used}
        for path in loose if not dry_run else ():
            _remove(path)
        serving = current.calibration if current else None
        stale = prune_calibrations(root, serving=serving, dry_run=dry_run)
    return Pruned(
        tuple(path.name for path in going if path in old),
        tuple(path.name for path in loose),
        tuple(path.name for path in held),
        sum(going.values()) + sum(loose.values()) + sum(stale.values()),
        tuple(path.name for path in going if path in unserved),
        tuple(stale),
    )


def _let_go(folders: Sequence[Path], dry_run: bool) -> tuple[dict[Path, int], list[Path]]:
    """Those that no reader holds, which are removed, with their bytes; and those that one holds."""
    going, held = {}, []
    for folder in folders:
        with _unleased(folder) as free:
            if not free:
                held.append(folder)
                continue
            going[folder] = _size(folder)
            if not dry_run:
                _remove(folder)
    return going, held


def _keys(gallery: Gallery) -> frozenset[int]:
    return frozenset(gallery.keys().tolist())


def _named(gallery: Gallery, keys: frozenset[int]) -> dict[str, list[str]]:
    """Reference IDs by product, both sorted."""
    found: dict[str, list[str]] = {}
    for product_id in sorted({gallery.product_id_of(key) for key in keys}):
        stored = gallery.stored(product_id)
        found[product_id] = sorted(
            reference.reference_id
            for reference in stored.references
            if stored.product_no << 16 | reference.slot in keys
        )
    return found


def _before(root: Path, serving: str) -> str:
    """The newest build that is older than the one that serves and passed its gates."""
    names = [name for name, _ in list_builds(root)]
    older = names[: names.index(serving)] if serving in names else []
    for name in reversed(older):
        if not failed_gates(root, name):
            return name
    raise UnknownBuild(
        f"{root}: no build before {serving} passed its gates; `amiss list` shows all"
    )


def _dispensable(
    current: Current | None, root: Path, builds: dict[str, Manifest], keep: int
) -> list[str]:
    """Oldest first. What CURRENT names stays, and so does what failed after it."""
    passed = [name for name in builds if not failed_gates(root, name)]
    kept = {current.build if current else None, *passed[-keep:]}
    names = list(builds)
    newest = max((names.index(name) for name in kept if name in builds), default=0)
    return [n for n in names if n not in kept and (n in passed or names.index(n) < newest)]


def _serving(root: Path) -> Current | None:
    """None where nothing is published; a damaged pointer is an error: nothing goes then."""
    return read_current(root) if (root / "CURRENT").exists() else None


@contextmanager
def _unleased(folder: Path) -> Iterator[bool]:
    """Whether no reader holds the build or delta; while it is asked none can take it."""
    try:
        handle = os.open(folder / "lease", os.O_RDONLY)
    except OSError as error:
        raise DamagedGallery(f"{folder}/lease: the lease file is missing") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def _remove(folder: Path) -> None:
    """Under a name that no reader looks for first, so that it is never seen half gone."""
    gone = folder.with_name(f"{durable.PARTIAL}{folder.name}")
    with durable.storage_errors(folder):
        os.rename(folder, gone)
        durable.sync_folder(folder.parent)
        shutil.rmtree(gone)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
