"""Inspections and what people said of them, on disk.

    images/ab/ab12...    pictures and masks as they came; the name is their sha256
    log.jsonl            one checked line per inspection or label, oldest first

The log only grows. Several processes may append at once. A picture is on the disk before the line
that names it, and a line is on the disk before `append` returns. A last line that a crash cut
short is no part of the log; the next writer drops it.
"""

from __future__ import annotations

import datetime
import difflib
import fcntl
import getpass
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

from anomaly.errors import LogError
from anomaly.results import Inspection, Kind
from anomaly.schema import as_json
from gallery import durable

FORMAT = 1
LABELS = ("pristine", "damaged")
_SHORTEST_PREFIX = 4
_BLOCK = 1 << 16
_SEAL = b',"check":"'


@dataclass(frozen=True)
class Label:
    """What an inspected product really was. `time` is UTC, ISO 8601; `kind` only with damaged."""

    label: Literal["pristine", "damaged"]
    kind: Kind | None
    by: str
    time: str


@dataclass(frozen=True)
class LogEntry:
    """An inspection with its latest label; `result` is an `amiss.inspect/1` object. `mask_sha256`:
    None where no mask was given, or before logs kept them."""

    inspection_id: str
    time: str
    image_sha256: str
    result: Mapping[str, Any]
    label: Label | None
    mask_sha256: str | None = None


@dataclass(frozen=True)
class _Line:
    number: int
    start: int
    entry: dict[str, Any]


class InspectionLog:
    """The log in `folder`. Holds nothing open and may be shared between threads. Final."""

    def __init__(self, folder: Path) -> None:
        """A folder that is absent or empty becomes a log with the first `append`.

        Raises `LogError` where there is something else.
        """
        self.folder = folder
        self._path = folder / "log.jsonl"
        if folder.exists() and not folder.is_dir():
            raise LogError(f"{folder}: a file, not a log; give the folder of a log, or a new one")
        if folder.is_dir() and not self._path.exists() and self._foreign():
            raise LogError(
                f"{folder}: not empty and not a log (no log.jsonl); give the folder of a log, "
                "or a new one"
            )

    def append(
        self, result: Inspection, image_bytes: bytes, *, mask_bytes: bytes | None = None
    ) -> None:
        """Keep the picture, the mask that it was inspected with, and the result. Raises
        `StorageError` when the disk refuses."""
        entry = {"kind": "inspection", "image_sha256": self._keep(image_bytes)}
        if mask_bytes is not None:
            entry["mask_sha256"] = self._keep(mask_bytes)
        self._write({**entry, "result": as_json(result)})

    def confirm(
        self, inspection_id: str, label: str, *, kind: str | None = None, by: str | None = None
    ) -> str:
        """Say what an inspected product was: pristine or damaged. A later label wins;
        returns the whole ID.

        `inspection_id` may be the start of an ID, as long as it fits only one. `kind`: added,
        missing, changed or spill. `by` defaults to who runs this. Raises `LogError` for an
        unknown ID, label or kind, and where there is no log.
        """
        if label not in LABELS:
            raise LogError(f"label {label!r}; expected {' or '.join(LABELS)}")
        if kind is not None and kind not in get_args(Kind):
            raise LogError(f"kind {kind!r}; expected one of {', '.join(get_args(Kind))}")
        if kind is not None and label != "damaged":
            raise LogError(f"kind {kind!r} goes with damaged only; leave it out for {label}")
        whole = self._resolve(inspection_id)
        entry = {
            "kind": "label", "inspection_id": whole, "label": label,
            "damage_kind": kind, "by": by or _user(),
        }  # fmt: skip
        self._write(entry)
        return whole

    def entries(self) -> Iterator[LogEntry]:
        """Every inspection once, as last appended, in that order, with its latest label.

        Memory grows with the IDs, not with the results. Raises `LogError` naming file and line
        for a line that is damaged, and where there is no log.
        """
        latest: dict[str, int] = {}
        labels: dict[str, Label] = {}
        with self._open() as file:
            end = _whole(file)
            for line in _lines(file, self._path, end=end):
                entry = line.entry
                if entry["kind"] == "inspection":
                    latest[entry["result"]["inspection_id"]] = line.start
                elif entry["kind"] == "label":
                    labels[entry["inspection_id"]] = Label(
                        entry["label"], entry["damage_kind"], entry["by"], entry["time"]
                    )
            for line in _lines(file, self._path, end=end):
                if line.entry["kind"] != "inspection":
                    continue
                name = line.entry["result"]["inspection_id"]
                if latest[name] == line.start:
                    yield LogEntry(
                        name, line.entry["time"], line.entry["image_sha256"],
                        line.entry["result"], labels.get(name), line.entry.get("mask_sha256"),
                    )  # fmt: skip

    def image_path(self, image_sha256: str) -> Path:
        """Where the picture or mask with this digest is kept."""
        return self.folder / "images" / image_sha256[:2] / image_sha256

    def read_image(self, image_sha256: str) -> bytes:
        """A kept picture's or mask's bytes, after their checksum; `LogError` names the file."""
        path = self.image_path(image_sha256)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise LogError(f"{path}: the picture can't be read ({error.strerror})") from error
        if hashlib.sha256(data).hexdigest() != image_sha256:
            raise LogError(f"{path}: the picture is not what was inspected (sha256 differs)")
        return data

    def _keep(self, image_bytes: bytes) -> str:
        """Store a picture under its digest, and return that."""
        digest = hashlib.sha256(image_bytes).hexdigest()
        path = self.image_path(digest)
        # A damaged copy is healed by writing the same content again.
        if not path.exists() or durable.file_digest(path) != digest:
            durable.write_file(path, image_bytes)
        return digest

    def _foreign(self) -> bool:
        """Whether something lies here that a first `append` doesn't leave."""
        return any(p.name != "images" and not durable.is_partial(p) for p in self.folder.iterdir())

    def _resolve(self, given: str) -> str:
        with self._open() as file:
            lines = _lines(file, self._path, end=_whole(file))
            found = [x.entry["result"]["inspection_id"] for x in lines if "result" in x.entry]
        ids: list[str] = list(dict.fromkeys(found))
        if given in ids:
            return given
        fits = [name for name in ids if name.startswith(given)]
        if len(fits) == 1 and len(given) >= _SHORTEST_PREFIX:
            return fits[0]
        if fits:
            raise LogError(
                f"inspection ID {given!r} fits {len(fits)} of the log, among them "
                f"{', '.join(fits[-3:])}; give at least {_SHORTEST_PREFIX} characters of one"
            )
        near = difflib.get_close_matches(given, ids[-1000:], n=3)
        hint = f"the nearest: {', '.join(near)}" if near else f"the last: {', '.join(ids[-3:])}"
        raise LogError(
            f"{self.folder}: no inspection {given!r} among the log's {len(ids)}"
            + (f"; {hint}" if ids else "; `amiss inspect --log` adds some")
        )

    def _write(self, entry: Mapping[str, Any]) -> None:
        """Append one line; whole and on the disk when this returns."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        data = _sealed({"format": FORMAT, "time": now, **entry})
        with durable.storage_errors(self._path):
            new = not self._path.exists()
            durable.make_folder(self.folder)
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            with os.fdopen(handle, "r+b", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # until closed
                os.ftruncate(handle, _end_of_lines(file))
                if os.write(handle, data) < len(data):
                    raise OSError("the disk took only a part of a line; is it full?")
                os.fsync(handle)
            if new:
                durable.sync_folder(self.folder)

    @contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        try:
            file = self._path.open("rb")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise LogError(
                f"{self.folder}: not a log (no log.jsonl); `amiss inspect --log DIR` makes one"
            ) from error
        except OSError as error:
            raise LogError(f"{self._path}: can't be read ({error.strerror})") from error
        with file:
            yield file


def _whole(file: BinaryIO) -> int:
    """Bytes of whole lines now; they never change, so that they are read without the lock."""
    fcntl.flock(file, fcntl.LOCK_SH)
    try:
        return _end_of_lines(file)
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _end_of_lines(file: Any) -> int:
    """Where the last whole line ends: 0 if there is none."""
    start = file.seek(0, os.SEEK_END)
    while start:
        stop, start = start, max(0, start - _BLOCK)
        file.seek(start)
        newline = file.read(stop - start).rfind(b"\n")
        if newline >= 0:
            return int(start + newline + 1)
    return 0


def _lines(file: BinaryIO, path: Path, *, end: int) -> Iterator[_Line]:
    """The lines before byte `end`, checked; `LogError` names file and line."""
    file.seek(0)
    start = number = 0
    while start < end:
        data = file.readline()
        number += 1
        try:
            entry = _unsealed(data)
        except (ValueError, KeyError, TypeError) as error:
            raise LogError(
                f"{path} line {number}: {error}; restore the file from a copy, or take the line out"
            ) from error
        yield _Line(number, start, entry)
        start += len(data)


def _sealed(body: Mapping[str, Any]) -> bytes:
    # ASCII: a picture's name that is no Unicode goes through as an escape.
    text = json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
    seal = hashlib.sha256(text).hexdigest()[:16].encode()
    return text.removesuffix(b"}") + _SEAL + seal + b'"}\n'


def _unsealed(line: bytes) -> dict[str, Any]:
    """A line's content; `ValueError` says what is wrong with it."""
    body, _, seal = line.rpartition(_SEAL)
    wanted = hashlib.sha256(body + b"}").hexdigest()[:16].encode() + b'"}\n'
    if seal != wanted:
        raise ValueError("the line is damaged (its checksum does not match)")
    entry: dict[str, Any] = json.loads(line)
    if entry.get("format") != FORMAT:
        raise ValueError(
            f"written in format {entry.get('format')!r}, this version reads {FORMAT} "
            "(use the amiss version that wrote it)"
        )
    return entry


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no passwd entry, as in many containers
        return f"uid {os.getuid()}"
