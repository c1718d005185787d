"""How the command line speaks: JSON lines on stdout, everything else on stderr, exit codes.

0 done · 1 a gate failed, a delta won't do (or something damaged was found in a picture) · 2 usage ·
3 environment or gallery unreadable · 4 some images had errors (wins over 1) ·
5 another process writes to the gallery: try again later ·
130 interrupted · 141 whoever read stdout went away (`| head`), as of any program on Unix
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from anomaly.builder import Progress as Told
from anomaly.errors import AnomalyError, AuditError, ConfigError, LogError
from embeddings.errors import EmbeddingsError
from gallery.errors import (
    EmptyCatalog,
    GalleryBusy,
    GalleryError,
    GalleryExists,
    GateFailed,
    NoDelta,
    SourceError,
    UnknownBuild,
    UnknownProduct,
)
from gallery.sources import Problem

DONE, GATE_FAILED, USAGE, UNREADABLE, IMAGE_ERRORS, BUSY = range(6)
INTERRUPTED, PIPE_CLOSED = 130, 141
_SHOWN = 20


class _Console(Console):
    """Prints names as they are but for what would steer the terminal."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(_shown(o) if isinstance(o, str) else o for o in objects), **options)

    def on_broken_pipe(self) -> None:
        _reader_is_gone()


def _shown(text: str) -> str:
    """Control characters, but for line ends, as escapes; a terminal obeys them otherwise."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape", "replace").decode()
        for c in text
    )


def _reader_is_gone() -> NoReturn:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(PIPE_CLOSED)


# Tables are not folded to 80 columns where nobody looks at a terminal.
out = _Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else 200)
err = _Console(stderr=True, soft_wrap=True, highlight=False)


def emit(value: dict[str, Any]) -> None:
    """One JSON line on stdout; floats to 6 significant digits, no NaN."""
    text = json.dumps(rounded(value), ensure_ascii=False, allow_nan=False)
    if not text.isprintable():  # an argument that is no Unicode stays verbatim as an escape
        text = json.dumps(rounded(value), allow_nan=False)
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # typer would say 1, which means damage was found
        _reader_is_gone()


@contextmanager
def progress_bar(also: Told = lambda stage, done, total: None) -> Iterator[Told]:
    """Yield a callback for `rebuild`'s progress; draws on a terminal only. `also` is told, too."""
    columns = (
        TextColumn("{task.description:>8}"), BarColumn(), MofNCompleteColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=err, disable=not err.is_terminal) as bar:
        tasks: dict[str, Any] = {}

        def told(stage: str, done: int, total: int) -> None:
            also(stage, done, total)
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done, total=total)

        yield told


def rounded(value: Any) -> Any:
    """JSON values with floats to 6 significant digits."""
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(entry) for entry in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def show_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table()
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(escape(_shown(cell)) for cell in row))
    out.print(table)


def show_problems(problems: Sequence[Problem], *, what: str) -> None:
    """A list on stderr, cut where it would bury the rest; `--json` has all of them."""
    for problem in problems[:_SHOWN]:
        err.print(f"[yellow]{what}[/] {escape(f'{problem.where}: {problem.message}')}")
    if len(problems) > _SHOWN:
        err.print(f"... and {len(problems) - _SHOWN} more; --json lists all")


def exit_code(error: Exception) -> int:
    """The exit code that an error stands for."""
    if isinstance(error, GateFailed | NoDelta):
        return GATE_FAILED
    if isinstance(error, GalleryBusy):
        return BUSY
    usage = (SourceError, GalleryExists, EmptyCatalog, UnknownBuild, UnknownProduct, ConfigError,
             LogError, AuditError)  # fmt: skip
    return USAGE if isinstance(error, usage) else UNREADABLE


def _noted(error: Exception) -> str:
    """What it says, and the notes that were added to it."""
    return "; ".join([str(error).strip(), *getattr(error, "__notes__", ())])


def run(command: Callable[[], None]) -> None:
    """Run the command line; every error ends as one line on stderr and an exit code."""
    try:
        try:
            command()
        finally:
            sys.stdout.flush()
    except (AnomalyError, EmbeddingsError, GalleryError) as error:
        err.print(f"[bold red]error[/] {escape(str(error))}")
        sys.exit(exit_code(error))
    except SystemExit as stop:
        if stop.code == INTERRUPTED:  # typer has caught the KeyboardInterrupt
            err.print("interrupted; what was finished is kept, run the command again to go on")
        raise
    except BrokenPipeError:
        _reader_is_gone()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # may be what is full
        err.print(f"[bold red]error[/] the system refused: {escape(str(error))}")
        sys.exit(UNREADABLE)
    except Exception as error:
        if os.environ.get("AMISS_TRACEBACK"):
            raise
        err.print(
            f"[bold red]internal error[/] {escape(f'{type(error).__name__}: {_noted(error)}')}\n"
            "this is a bug; AMISS_TRACEBACK=1 shows where"
        )
        sys.exit(UNREADABLE)
