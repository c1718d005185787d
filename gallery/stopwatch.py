"""Where the seconds of a build go: work of all threads and processes, added up by stage."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class Stopwatch:
    """Adds up seconds by stage, from any thread. Final.

    They are wall seconds of each piece of work, so that eight threads can spend eight in one, and
    waiting for a core counts.
    """

    def __init__(self) -> None:
        self._lock, self._seconds = threading.Lock(), dict[str, float]()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add({stage: time.perf_counter() - start})

    def add(self, seconds: Mapping[str, float]) -> None:
        with self._lock:
            for stage, spent in seconds.items():
                self._seconds[stage] = self._seconds.get(stage, 0.0) + spent

    def seconds(self) -> dict[str, float]:
        """What was added up until now."""
        with self._lock:
            return dict(self._seconds)

    def since(self, before: Mapping[str, float]) -> dict[str, float]:
        """What was added since `seconds` gave `before`; stages that cost nothing are left out."""
        now = self.seconds()
        return {k: now[k] - before.get(k, 0.0) for k in now if now[k] > before.get(k, 0.0)}


busy = Stopwatch()
"""The stages of making shards in this process. Two builds at once in one process share it."""
