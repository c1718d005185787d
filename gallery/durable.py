"""How bytes reach the disk and stay there: every write of the gallery goes through this file.

A file appears under its name whole or not at all (written beside it, fsynced, renamed, folder
fsynced). A folder of files likewise. One writer at a time holds `writer_lock`; the kernel drops it
when the process dies, so no lock outlives its owner on this host; other hosts see a `lease`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gallery.errors import DamagedGallery, GalleryBusy, StorageError, UnsupportedFormat
from gallery.lease import busy_message, leased, read_lease

FORMAT = 1
"""The on-disk format that this version writes; FORMAT and FORMAT - 1 are read."""
PARTIAL = ".partial-"
"""How names of what is not yet, or no longer, whole begin."""


def write_file(path: Path, data: bytes, *, staged_in: Path | None = None) -> None:
    """Put `data` at `path`, whole or not at all, and on the disk before returning.

    `staged_in`: the folder where a kill leaves what is not yet whole; by default the file's own.
    """
    with storage_errors(path):
        make_folder(path.parent)
        handle, name = tempfile.mkstemp(prefix=PARTIAL, dir=staged_in or path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def write_json(path: Path, value: object) -> None:
    """`write_file` of a JSON value, keys sorted, readable by people."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_file(path, text.encode() + b"\n")


def write_sealed(path: Path, body: dict[str, object]) -> None:
    """`write_json` of `body` with format and its own checksum: for files that no manifest lists."""
    write_json(path, {"format": FORMAT, **body, "sha256": _seal({"format": FORMAT, **body})})


def read_sealed(path: Path, *, what: str) -> dict[str, object]:
    """What `write_sealed` wrote; `DamagedGallery` if a byte of its content differs."""
    value = read_json(path, what=what)
    if value.pop("sha256", None) != _seal(value):
        raise DamagedGallery(f"{path}: the {what} is damaged (checksum differs)")
    return value


def read_json(path: Path, *, what: str) -> dict[str, object]:
    """A JSON object with a `format` that this version reads; `DamagedGallery` names the file."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise DamagedGallery(f"{path}: the {what} is missing") from error
    except OSError as error:
        raise StorageError(f"{path}: can't be read ({error.strerror})") from error
    except ValueError as error:
        raise DamagedGallery(f"{path}: the {what} is not valid JSON ({error})") from error
    if not isinstance(value, dict) or not isinstance(value.get("format"), int):
        raise DamagedGallery(f"{path}: the {what} has no format number")
    require_format(value["format"], str(path))
    return value


def require_format(found: int, where: str) -> None:
    """Raise `UnsupportedFormat` unless this version reads format `found`."""
    if found not in (FORMAT, FORMAT - 1) or found < 1:
        readable = " or ".join(str(n) for n in (FORMAT - 1, FORMAT) if n >= 1)
        raise UnsupportedFormat(
            f"{where}: written in format {found}, this version reads {readable}; "
            "use the amiss version that wrote it, or rebuild the gallery from its catalog"
        )


@contextmanager
def staging_folder(parent: Path) -> Iterator[Path]:
    """Yield an empty folder in `parent` to fill and then `settle`; otherwise it vanishes."""
    with storage_errors(parent):
        make_folder(parent)
        made = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=parent))
        os.chmod(made, 0o755)
    try:
        yield made
    finally:
        if made.exists():
            shutil.rmtree(made, ignore_errors=True)


def settle(folder: Path, target: Path) -> None:
    """Give a filled staging folder its name: files, folder and name are on the disk afterwards."""
    with storage_errors(target):
        for file in folder.iterdir():
            _sync(file)
        sync_folder(folder)
        os.rename(folder, target)
        sync_folder(target.parent)


def make_folder(folder: Path) -> None:
    """Make `folder` and its parents; each new name is on the disk before returning."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def make_writable(folder: Path) -> None:
    """Make `folder` if there is none and try to write there: for what would fail only after hours.
    Raises `StorageError`."""
    there = next((place for place in (folder, *folder.parents) if place.exists()), folder)
    if there.exists() and not there.is_dir():
        raise StorageError(f"{there}: a file, not a folder; give a folder, there or new")
    with storage_errors(folder):
        make_folder(folder)
        tempfile.TemporaryFile(dir=folder).close()


def sync_folder(folder: Path) -> None:
    """Make names in `folder` durable."""
    _sync(folder)


def remove_partials(folder: Path) -> int:
    """Delete what killed writers left unfinished in `folder`; call with the writer lock held."""
    partials = list(folder.glob(f"{PARTIAL}*")) if folder.is_dir() else []
    with storage_errors(folder):
        for path in partials:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return len(partials)


def is_partial(path: Path) -> bool:
    return path.name.startswith(PARTIAL)


def file_digest(path: Path) -> str:
    """sha256 hex of a file's bytes."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise DamagedGallery(f"{path}: the file is missing") from error
    except OSError as error:
        raise StorageError(f"{path}: can't be read ({error.strerror})") from error


@contextmanager
def writer_lock(folder: Path, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the one writer lock of `folder`, or raise `GalleryBusy` with who holds it.

    `wait_s`: how long to try, for work that others do in seconds.
    """
    path = folder / "lock"
    with storage_errors(path):
        make_folder(path.parent)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            _lock(handle, wait_s)
        except BlockingIOError as error:
            raise GalleryBusy(busy_message(folder, read_lease(folder))) from error
        with leased(handle, folder):
            yield
    finally:
        os.close(handle)


def _lock(handle: int, wait_s: float) -> None:
    until = time.monotonic() + wait_s
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise
            time.sleep(0.05)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the system's refusals (disk full, read-only, gone) into `StorageError`."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path}: can't be written ({error.strerror or error})") from error


def _seal(body: dict[str, object]) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
