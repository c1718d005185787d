"""The peers' process, seen from here: kept open, asked one line at a time.

Lines are JSON and small; pictures and maps are .npy files in a folder that both sides see, and
that goes when the worker is closed. The protocol stands at the top of `anomalib_worker.py`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from benchmarks.peers.environment import WORKER, Environment
from benchmarks.peers.errors import PeerFailed, WorkerDied, WorkerGarbled, WorkerSilent

_STOP_S = 5.0


class Worker:
    """A process that starts at the first question, and anew at the first after it ended.

    start_s, answer_s  how long it may take to load, and to answer, in seconds
    Safe to share between threads: questions are answered in turn. Close it, or use `with`. Final.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        threads: int | None = None,
        start_s: float = 600.0,
        answer_s: float = 1800.0,
    ) -> None:
        self._command = [*command, *(["--threads", str(threads)] if threads else [])]
        self._environ = {**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
        self._start_s, self._answer_s = start_s, answer_s
        self._folder = tempfile.TemporaryDirectory(prefix="amiss-peers-")
        self._asking = threading.Lock()
        self._running: _Process | None = None
        self._asked, self._closed = 0, False
        self._names = itertools.count()
        self._forgotten: deque[str] = deque()
        self.peak_memory_mib = 0.0

    @property
    def folder(self) -> Path:
        """Where arrays are exchanged; `WorkerDied` once the worker was closed."""
        if self._closed:
            raise WorkerDied("the peers' process was closed; open another one")
        return Path(self._folder.name)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def new_name(self) -> str:
        """For a model or a file: never given before, whatever process answers."""
        return f"n{next(self._names)}"

    def forget(self, model: str) -> None:
        """Let go of a model with the next question. Asks nothing: garbage collection calls it."""
        self._forgotten.append(model)

    def close(self) -> None:
        """End the process and remove the folder; closing twice does no harm."""
        with self._asking:
            self._stop()
            self._closed = True
            self._folder.cleanup()

    def ask(self, do: str, **fields: Any) -> dict[str, Any]:
        """The answer to one question, or `PeerFailed` where the peer raised.

        `WorkerDied`, `WorkerSilent` and `WorkerGarbled` end the process and its models with it.
        """
        with self._asking:
            try:
                if self._running is None:
                    self._running = _Process(self._command, self._environ, self.folder)
                    if self._running.receive(self._start_s).get("ready") is not True:
                        raise WorkerGarbled("the peers' process did not begin with ready")
                self._asked += 1
                forget = [self._forgotten.popleft() for _ in range(len(self._forgotten))]
                self._running.send({"id": self._asked, "do": do, "forget": forget, **fields})
                answer = self._running.receive(self._answer_s)
                if answer.get("id") != self._asked:
                    raise WorkerGarbled(
                        f"the peers' process answered {answer.get('id')!r} to question "
                        f"{self._asked}"
                    )
            except BaseException:  # an answer left unread would be taken for the next one's
                self._stop()
                raise
        peak = answer.get("peak_memory_mib", 0.0)
        self.peak_memory_mib = max(self.peak_memory_mib, float(peak))
        if (error := answer.get("error")) is not None:
            raise PeerFailed(f"{do}: {error.get('type')}: {error.get('message')}")
        return answer

    def _stop(self) -> None:
        if self._running is not None:
            self._running.stop()
            self._running = None


def open_worker(environment: Environment, *, threads: int | None = None) -> Worker:
    """A worker of the peers' environment; `threads`: torch's, as many as it likes if None."""
    # -I: the worker's own folder and PYTHONPATH are not on its import path, so nothing of ours is.
    return Worker([str(environment.python), "-I", str(WORKER)], threads=threads)


class _Process:
    """A started process: lines in, lines out, with time limits. Final."""

    def __init__(self, command: Sequence[str], environ: dict[str, str], folder: Path) -> None:
        self._said = folder / "stderr.log"
        try:
            with self._said.open("wb") as stderr:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr,
                    text=True, encoding="utf-8", errors="replace", env=environ,
                )  # fmt: skip
        except OSError as error:
            raise WorkerDied(f"{command[0]} can't be started ({error.strerror})") from error
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        assert self._process.stdout is not None
        args = (self._process.stdout, self._lines)
        self._reader = threading.Thread(target=_read_lines, args=args, daemon=True)
        self._reader.start()

    def send(self, question: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._died() from error

    def receive(self, limit_s: float) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=limit_s)
        except queue.Empty:
            raise WorkerSilent(f"the peers' process gave no answer in {limit_s:g} s") from None
        if line is None:
            raise self._died()
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise WorkerGarbled(f"the peers' process said {line[:80]!r}; expected a JSON object")
        return answer

    def stop(self) -> None:
        """Let it end by itself, else end it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if self._process.poll() is None:
            self._process.kill()  # it keeps nothing that needs tidying
        self._process.wait()
        self._reader.join(_STOP_S)
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):  # a line that was never read
                pipe.close()

    def _died(self) -> WorkerDied:
        try:
            code: object = self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            code = "its output closed"
        said = self._said.read_text("utf-8", "replace").strip().splitlines()[-2:]
        return WorkerDied(f"the peers' process ended ({code}): {' | '.join(said) or 'no word'}")


def _read_lines(stdout: IO[str], lines: queue.SimpleQueue[str | None]) -> None:
    for line in stdout:
        lines.put(line)
    lines.put(None)
