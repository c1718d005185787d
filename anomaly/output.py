"""How the command line speaks: JSON lines on stdout, everything else on stderr, exit codes.

0 done · 1 a gate failed (or something damaged was found in a picture) · 2 usage ·
3 environment or gallery unreadable · 4 some images had errors (wins over 1)
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from anomaly.builder import Progress as Told
from anomaly.errors import AnomalyError, AuditError, ConfigError, LogError
from embeddings.errors import EmbeddingsError
from gallery.errors import (
    EmptyCatalog,
    GalleryError,
    GalleryExists,
    GateFailed,
    SourceError,
    UnknownBuild,
    UnknownProduct,
)
from gallery.sources import Problem

DONE, GATE_FAILED, USAGE, UNREADABLE, IMAGE_ERRORS = range(5)
_SHOWN = 20

# Tables are not folded to 80 columns where nobody looks at a terminal.
out = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else 200)
err = Console(stderr=True, soft_wrap=True, highlight=False)


def emit(value: dict[str, Any]) -> None:
    """One JSON line on stdout; floats to 6 significant digits, no NaN."""
    text = json.dumps(_rounded(value), ensure_ascii=False, allow_nan=False)
    if not text.isprintable():  # an argument that is no Unicode stays verbatim as an escape
        text = json.dumps(_rounded(value), allow_nan=False)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@contextmanager
def progress_bar() -> Iterator[Told]:
    """Yield a callback for `rebuild`'s progress; draws on a terminal only."""
    columns = (
        TextColumn("{task.description:>8}"), BarColumn(), MofNCompleteColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=err, disable=not err.is_terminal) as bar:
        tasks: dict[str, Any] = {}

        def told(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done, total=total)

        yield told


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(entry) for entry in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def show_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table()
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    out.print(table)


def show_problems(problems: Sequence[Problem], *, what: str) -> None:
    """A list on stderr, cut where it would bury the rest; `--json` has all of them."""
    for problem in problems[:_SHOWN]:
        err.print(f"[yellow]{what}[/] {escape(f'{problem.where}: {problem.message}')}")
    if len(problems) > _SHOWN:
        err.print(f"... and {len(problems) - _SHOWN} more; --json lists all")


def exit_code(error: Exception) -> int:
    """The exit code that an error stands for."""
    if isinstance(error, GateFailed):
        return GATE_FAILED
    usage = (SourceError, GalleryExists, EmptyCatalog, UnknownBuild, UnknownProduct, ConfigError,
             LogError, AuditError)  # fmt: skip
    return USAGE if isinstance(error, usage) else UNREADABLE


def run(command: Callable[[], None]) -> None:
    """Run the command line; every error ends as one line on stderr and an exit code."""
    try:
        command()
    except (AnomalyError, EmbeddingsError, GalleryError) as error:
        err.print(f"[bold red]error[/] {escape(str(error))}")
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        err.print("interrupted; what was finished is kept, run the command again to go on")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(DONE)
    except Exception as error:
        if os.environ.get("AMISS_TRACEBACK"):
            raise
        err.print(
            f"[bold red]internal error[/] {escape(f'{type(error).__name__}: {error}')}\n"
            "this is a bug; AMISS_TRACEBACK=1 shows where"
        )
        sys.exit(UNREADABLE)
