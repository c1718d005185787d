"""What a nightly job did, for machines: JSON lines while it runs, one summary when it ends."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gallery import durable
from gallery.build import BuildReport

_TOLD_EVERY_S = 30.0


def summary(report: BuildReport, *, exit_code: int) -> dict[str, Any]:
    """A rebuild as one JSON object (`amiss.build/1`): build, parent, counts, seconds, gates."""
    value = {"schema": "amiss.build/1", "passed": report.passed, **asdict(report)}
    return {**value, "exit_code": exit_code}


def failure(error: Exception, *, exit_code: int) -> dict[str, Any]:
    """The summary of a rebuild that ended in an error."""
    told = {"code": getattr(error, "code", "internal_error"), "message": str(error)}
    return {"schema": "amiss.build/1", "published": False, "error": told, "exit_code": exit_code}


class JobLog:
    """Appends a JSON line per event to a file; with no file it does nothing. Final.

    Events: `start`, `progress` (every 30 s: done, total, seconds left as they look), `stage` with
    its seconds, `end` with the summary. Raises `StorageError` when the file can't be written.
    """

    def __init__(self, path: Path | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = path, clock
        self._told = clock()
        self._first: tuple[float, int] | None = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Progress, as `rebuild` tells it."""
        now = self._clock()
        if self._first is None:
            self._first = (now, done)  # what was found done, not what it took
        if now - self._told < _TOLD_EVERY_S:
            return
        self._told = now
        spent, made = now - self._first[0], done - self._first[1]
        left = round(spent * (total - done) / made, 1) if made else None
        self._write("progress", {"stage": stage, "done": done, "total": total, "left_s": left})

    def start(self, verb: str, gallery: Path) -> None:
        self._write("start", {"verb": verb, "gallery": str(gallery)})

    def end(self, found: Mapping[str, Any]) -> None:
        """A line per stage, and the summary."""
        for stage, seconds in found.get("seconds", {}).items():
            self._write("stage", {"stage": stage, "seconds": seconds})
        self._write("end", found)

    def _write(self, event: str, content: Mapping[str, Any]) -> None:
        if self._path is None:
            return
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        line = json.dumps({"time": now, "event": event, **content}, allow_nan=False)
        with durable.storage_errors(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
