"""Which shards are on the disk already, and whether they are what was written.

A build trusts nothing that it shares or copies from: every byte of it is hashed first. That costs
a thousandth of describing the same pictures, and damage is healed on the night it is found.
"""

from __future__ import annotations

import contextlib
import datetime
import shutil
from pathlib import Path
from typing import Any

from gallery import durable
from gallery.errors import DamagedGallery, GalleryError, UnknownProduct
from gallery.manifest import ShardEntry
from gallery.plan import ShardPlan
from gallery.reader import Gallery
from gallery.shard import Shard, describe_files


class Shelf:
    """The shards of a gallery, each hashed at most once. Final."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._by_input = _shards_by_input(root)
        self._sound: dict[Path, bool] = {}

    def find(self, plan: ShardPlan) -> str | None:
        """The digest of the sound shard that was made for this plan."""
        digest = self._by_input.get(plan.input_digest)
        known = digest is not None and self.is_sound(self._root / "shards" / digest)
        return digest if known else None

    def source(self, plan: ShardPlan, parent: Gallery | None) -> Gallery | None:
        """`parent`, unless an LMDB of it that holds products of the plan is damaged.

        Records have checksums of their own, LMDB's pages have none: a wild page pointer ends the
        process that follows it.
        """
        return parent if all(_as_written(f, "data.mdb") for f in _holding(plan, parent)) else None

    def is_sound(self, folder: Path) -> bool:
        if folder not in self._sound:
            self._sound[folder] = _as_written(folder)
        return self._sound[folder]

    @property
    def damaged(self) -> int:
        """How many were looked at and found damaged."""
        return sum(not sound for sound in self._sound.values())


def shard_entry(root: Path, number: int, digest: str) -> ShardEntry:
    """What a build's manifest says of the shard that was made or found."""
    folder = root / "shards" / digest
    manifest = read_shard_manifest(folder)
    return ShardEntry(
        number,
        digest,
        manifest["products"],
        manifest["references"],
        manifest["content_sum"],
        {**manifest["files"], **describe_files(folder, ("manifest.json",))},
    )


def _shards_by_input(root: Path) -> dict[str, str]:
    """Digests of all complete shards by the digest of the plan they were made for."""
    found = {}
    for path in (root / "shards").glob("*/manifest.json"):
        if not durable.is_partial(path.parent):
            with contextlib.suppress(DamagedGallery):  # a damaged shard is made again
                manifest = read_shard_manifest(path.parent)
                found[str(manifest["input_digest"])] = path.parent.name
    return found


def read_shard_manifest(folder: Path) -> dict[str, Any]:
    """Its manifest, after names and sizes of its files; `DamagedGallery` names what is wrong."""
    manifest = durable.read_json(folder / "manifest.json", what="shard manifest")
    for name, entry in manifest["files"].items():  # type: ignore[attr-defined]
        path = folder / name
        if not path.is_file() or path.stat().st_size != entry["bytes"]:
            raise DamagedGallery(f"{path}: missing or of another size than its manifest says")
    if manifest["content_digest"] != folder.name:
        raise DamagedGallery(f"{folder}/manifest.json: belongs to another shard")
    return manifest


def set_aside_if_damaged(folder: Path) -> None:
    """Rename a shard whose bytes are not what its manifest says, so that it can be replaced."""
    if not _as_written(folder):
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S%f")
        with durable.storage_errors(folder):
            shutil.move(folder, folder.with_name(f"damaged-{stamp}-{folder.name}"))


def copies_lost(plan: ShardPlan, parent: Gallery) -> int:
    """How many references of the plan a parent that must not be read would have given."""
    keys = {row.key for row in plan.rows}
    lost = 0
    for folder in _holding(plan, parent):
        with contextlib.suppress(DamagedGallery):
            lost += len(keys.intersection(Shard(folder).vectors()["key"].tolist()))
    return lost


def _holding(plan: ShardPlan, parent: Gallery | None) -> set[Path]:
    """Folders of the parent's shards in which products of the plan are, if they are there."""
    folders = set()
    for product_id in {row.product_id for row in plan.rows} if parent else ():
        with contextlib.suppress(UnknownProduct):
            assert parent is not None
            folders.add(parent.shard_of(product_id).folder)
    return folders


def _as_written(folder: Path, name: str | None = None) -> bool:
    """Whether all files of a shard, or the named one, have the bytes that its manifest says."""
    try:
        files = read_shard_manifest(folder)["files"]
        names = [name] if name else list(files)
        return all(durable.file_digest(folder / n) == files[n]["sha256"] for n in names)
    except (GalleryError, KeyError, TypeError, AttributeError):
        return False
