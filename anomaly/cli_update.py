"""The verbs that take references in and make changes serve at once: import, add, update."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from anomaly import output
from anomaly.builder import import_source
from anomaly.config import build_config
from anomaly.update import update_gallery
from gallery.catalog import ImportReport, open_catalog
from gallery.delta import DeltaReport
from gallery.errors import GalleryError

SourceArgument = Annotated[
    str, typer.Argument(help="A folder with one folder per product, a .csv or a .parquet.")
]
GalleryArgument = Annotated[Path, typer.Argument(help="The gallery's folder.")]
ProductOption = Annotated[
    str | None,
    typer.Option("--product", help="ID of the one product whose pictures SOURCE holds."),
]
ThreadsOption = Annotated[int | None, typer.Option(help="Pictures at a time. Default: all cores.")]
WhyOption = Annotated[str, typer.Option("--why", help="Kept in the journal.")]
ByOption = Annotated[str | None, typer.Option("--by", help="Who decided. Default: you.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON lines on stdout, nothing else.")]


def import_command(
    source: SourceArgument,
    gallery: GalleryArgument,
    product: ProductOption = None,
    threads: ThreadsOption = None,
    why: WhyOption = "import",
    by: ByOption = None,
    json: JsonOption = False,
) -> None:
    """Add references to the catalog; `update` or `rebuild` makes them serve. May be run again."""
    settings = build_config(given={"threads": threads})
    with output.progress_bar() as bar:
        report = import_source(
            source, gallery, product_id=product, why=why, by=by, threads=settings.threads,
            progress=bar,
        )  # fmt: skip
    if json:
        output.emit({"schema": "amiss.import/1", **asdict(report)})
    else:
        show_import(report, gallery)
    raise typer.Exit(output.IMAGE_ERRORS if report.problems else output.DONE)


def show_import(report: ImportReport, root: Path) -> None:
    output.show_problems(report.problems, what="not imported")
    output.show_problems(report.notes, what="note")
    parts = [f"{report.added} references added"]
    parts += [f"{report.duplicates} there already"] if report.duplicates else []
    parts += [f"{report.ignored} other files ignored"] if report.ignored else []
    parts += [f"{len(report.problems)} not imported"] if report.problems else []
    output.out.print(f"{root}: " + ", ".join(parts), markup=False)


def update_command(
    gallery: GalleryArgument,
    withdrawals: Annotated[
        bool, typer.Option("--withdrawals", help="Let nothing new in, only let go.")
    ] = False,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Serve what the catalog holds beyond the published build, in seconds, without a rebuild."""
    settings = build_config(given={"threads": threads})
    with output.progress_bar() as bar:
        report = update_gallery(
            gallery, withdrawals=withdrawals, threads=settings.threads, progress=bar
        )
    output.emit(as_row(report)) if json else show_update(report, gallery)
    raise typer.Exit(output.DONE if report.passed else output.GATE_FAILED)


def add_command(
    source: SourceArgument,
    gallery: GalleryArgument,
    product: ProductOption = None,
    threads: ThreadsOption = None,
    why: WhyOption = "add",
    by: ByOption = None,
    json: JsonOption = False,
) -> None:
    """Add references to the catalog and serve them at once: import + update."""
    settings = build_config(given={"threads": threads})
    open_catalog(gallery)  # a mistyped name must not make a gallery
    with output.progress_bar() as bar:
        imported = import_source(
            source, gallery, product_id=product, why=why, by=by, threads=settings.threads,
            progress=bar,
        )  # fmt: skip
        if not json:
            show_import(imported, gallery)
        finish(
            lambda: update_gallery(gallery, threads=settings.threads, progress=bar),
            {"schema": "amiss.add/1", "import": asdict(imported)} if json else None,
            gallery,
            imported=imported,
        )


def finish(
    serve: Callable[[], DeltaReport | None],
    row: dict[str, Any] | None,
    root: Path,
    *,
    imported: ImportReport | None = None,
) -> None:
    """Serve what the catalog was told, say so, exit. `row`: the JSON line's beginning, if any.

    What can't be served is in the catalog all the same, and is said to be.
    """
    try:
        report = serve()
    except GalleryError as error:
        if row is None:
            text = f"in the catalog, but not served: {error}; the next rebuild takes it in"
            output.err.print(text, style="red", markup=False)
        else:
            message = {"code": error.code, "message": str(error)}
            output.emit({**row, "update": None, "error": message})
        raise typer.Exit(output.exit_code(error)) from error
    if row is not None:
        output.emit({**row, "update": None if report is None else as_row(report)})
    elif report is None:
        output.out.print(f"nothing is published yet: `amiss rebuild {root}` does", markup=False)
    else:
        show_update(report, root)
    if imported is not None and imported.problems:
        raise typer.Exit(output.IMAGE_ERRORS)
    raise typer.Exit(output.DONE if report is None or report.passed else output.GATE_FAILED)


def as_row(report: DeltaReport) -> dict[str, Any]:
    return {"schema": "amiss.update/1", "passed": report.passed, **asdict(report)}


def show_update(report: DeltaReport, root: Path) -> None:
    for gate in report.gates:
        if not gate.passed:
            text = f"gate {gate.name} failed: {gate.figure} (allowed {gate.allowed})"
            output.err.print(f"{text}; {gate.message}", style="red", markup=False)
    over = "" if report.delta_id is None else f" with delta {report.delta_id}"
    state = "served already" if report.unchanged else "serves now"
    if not report.passed:
        output.out.print(f"{root}: NOT served, {report.parent} serves as before", markup=False)
        return
    pending = f", {report.pending:,} pending" if report.pending else ""
    output.out.print(
        f"{root}: {state}: {report.build_id}{over}, {report.products:,} products, "
        f"{report.references:,} references ({report.overlaid:,} in the delta, "
        f"{report.tally.embedded:,} embedded){pending}, {sum(report.seconds.values()):.1f} s",
        markup=False,
    )
