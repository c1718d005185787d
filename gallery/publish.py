"""Which build serves: the pointer CURRENT, and leases that readers hold on builds.

CURRENT is replaced in one rename, so a reader sees the old build or the new one. Nothing that is
published changes afterwards.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gallery import durable
from gallery.errors import (
    DamagedGallery,
    GalleryBusy,
    GalleryError,
    GateFailed,
    NotAGallery,
)
from gallery.manifest import Manifest, read_manifest


@dataclass(frozen=True)
class Current:
    """`calibration`: ID of the calibration in force, or None; `delta`: of what lies over the
    build, or None."""

    build: str
    calibration: str | None
    catalog_seq: int
    delta: str | None = None


def read_current(root: Path) -> Current:
    """What CURRENT points to. Raises `NotAGallery` where nothing is published."""
    path = root / "CURRENT"
    if not path.is_file():
        is_gallery = (root / "catalog" / "catalog.json").is_file()
        missing = "nothing is published in it yet; run `amiss rebuild`" if is_gallery else (
            "not a gallery (no CURRENT); `amiss build SOURCE GALLERY` makes one")  # fmt: skip
        raise NotAGallery(f"{root}: {missing}")
    body: dict[str, Any] = durable.read_sealed(path, what="pointer")
    delta = body.get("delta")  # pointers of before there were deltas don't say
    return Current(str(body["build"]), body["calibration"], int(body["catalog_seq"]), delta)


def point_to(root: Path, current: Current) -> None:
    """Make `current` what readers open from now on. With the builds' writer lock held only."""
    durable.write_sealed(root / "CURRENT", asdict(current))


def publish(
    root: Path,
    build_id: str,
    *,
    replacing: str | None = None,
    before: Callable[[], None] = lambda: None,
) -> Current:
    """Make a build that passed its gates serve, without a delta, under the calibration that is in
    force (whoever reads that says what of it holds). Raises `GateFailed` otherwise.

    With `replacing`, only while that build serves: `GalleryBusy` if another came in between.
    `before` is called when nobody else can publish any more, and CURRENT is about to move.
    """
    manifest = read_manifest(root, build_id)
    failed = failed_gates(root, build_id)
    if failed:
        raise GateFailed(
            f"build {build_id} did not pass {', '.join(failed)}; CURRENT stays as it is, "
            f"{root}/builds/{build_id}/report.html says why"
        )
    with durable.writer_lock(root / "builds"):
        now = _serving(root)
        if replacing is not None and now and now.build != replacing:
            raise GalleryBusy(
                f"{root}: {now.build} was published while {build_id} was being built from "
                f"{replacing}; run `amiss rebuild` again"
            )
        durable.remove_partials(root)
        before()
        current = Current(build_id, now.calibration if now else None, manifest.catalog_seq)
        point_to(root, current)
    return current


def _serving(root: Path) -> Current | None:
    try:
        return read_current(root)
    except GalleryError:
        return None


def failed_gates(root: Path, build_id: str) -> list[str]:
    """Names of the gates that a build did not pass."""
    value = durable.read_json(root / "builds" / build_id / "gates.json", what="gate report")
    gates = value.get("gates")
    if not isinstance(gates, list):
        raise DamagedGallery(f"{root}/builds/{build_id}/gates.json: no list of gates")
    return [str(g["name"]) for g in gates if not g["passed"]]


def list_builds(root: Path) -> list[tuple[str, Manifest]]:
    """(build ID, manifest) of every complete build, oldest first."""
    folder = root / "builds"
    if not folder.is_dir():
        raise NotAGallery(f"{root}: not a gallery (no builds folder)")
    names = (p.name for p in folder.iterdir() if p.is_dir() and not durable.is_partial(p))
    found = [(name, read_manifest(root, name)) for name in names]
    # Several builds may be made in one second.
    return sorted(found, key=lambda one: (one[1].created, one[1].catalog_seq, one[0]))


class Lease:
    """A reader's hold on a build or delta: pruning leaves it alone while a lease lives. Final."""

    def __init__(self, folder: Path) -> None:
        self._handle = -1
        path = folder / "lease"
        try:
            self._handle = os.open(path, os.O_RDONLY)
            fcntl.flock(self._handle, fcntl.LOCK_SH)
        except OSError as error:
            message = f"the lease file is missing or can't be locked ({error.strerror})"
            raise DamagedGallery(f"{path}: {message}") from error

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __del__(self) -> None:
        self.close()
