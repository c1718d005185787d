"""The verbs that look at pictures: inspect, confirm, demo."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from anomaly import output
from anomaly.inspector import Inspector
from anomaly.log import InspectionLog
from anomaly.results import Inspection, Unreadable
from anomaly.schema import as_json
from embeddings.errors import EmbeddingsError
from embeddings.images import printable, read_bytes
from gallery.errors import GalleryError

COLOURS = {
    "ok": "green", "review": "yellow", "damaged": "red", "wrong_product": "magenta",
    "unknown_product": "magenta", "cannot_compare": "magenta",
}  # fmt: skip
LogFolder = Annotated[Path, typer.Argument(help="The folder that `inspect --log` wrote.")]


def inspect_command(
    gallery: Annotated[Path, typer.Argument(help="The gallery's folder.")],
    images: Annotated[list[str], typer.Argument(help="Pictures to inspect.")],
    product: Annotated[
        str | None, typer.Option(help="ID of the product they show. Default: identify each.")
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="Where the product is; for a single picture.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write an overlay per picture and report.html here.")
    ] = None,
    log: Annotated[
        Path | None, typer.Option(help="Append each inspection and keep its picture here.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(help="Share of pristine pictures that may be sidelined.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="Default: as torch decides.")] = None,
    json: Annotated[bool, typer.Option("--json", help="JSON lines on stdout, no else.")] = False,
) -> None:
    """Say whether products are damaged. Exit code 1 if one is, 4 if a picture can't be read."""
    if mask is not None and len(images) > 1:
        raise typer.BadParameter("--mask goes with one picture")
    record = InspectionLog(log) if log is not None else None
    report = _Report(out) if out is not None else None
    damaged = unreadable = False
    with Inspector.open(gallery, device=device, threads=threads, budget=budget) as inspector:
        for result in _inspected(inspector, images, product, mask, report is not None):
            output.emit(as_json(result)) if json else _show(result)
            damaged |= isinstance(result, Inspection) and result.verdict == "damaged"
            unreadable |= isinstance(result, Unreadable)
            if record is not None and isinstance(result, Inspection):
                record.append(result, read_bytes(result.image))
            if report is not None:
                report.add(result)
    if report is not None:
        report.finish(f"Inspection of {len(images)} pictures")
    raise typer.Exit(
        output.IMAGE_ERRORS if unreadable else output.GATE_FAILED if damaged else output.DONE
    )


def confirm_command(
    log: LogFolder,
    inspection_id: Annotated[str, typer.Argument(help="As `inspect` printed it, or its start.")],
    label: Annotated[str, typer.Argument(help="pristine or damaged.")],
    kind: Annotated[
        str | None, typer.Option(help="added, missing, changed or spill; with damaged.")
    ] = None,
    by: Annotated[str | None, typer.Option(help="Who says so.")] = None,
) -> None:
    """Say what an inspected product really was; calibration and review feed on it."""
    InspectionLog(log).confirm(inspection_id, label, kind=kind, by=by)
    output.out.print(f"{inspection_id}: {label}" + (f", {kind}" if kind else ""), markup=False)


class _Report:
    """Overlays as they come, the page at the end; pictures are not kept in memory. Final."""

    def __init__(self, folder: Path) -> None:
        from gallery.durable import make_folder

        make_folder(folder)
        self._folder = folder
        self._rows: list[Any] = []

    def add(self, result: Inspection | Unreadable) -> None:
        from anomaly.overlay import write_overlay
        from anomaly.report import report_row

        if isinstance(result, Inspection) and result.picture is not None:
            name = f"{len(self._rows):04d}-{Path(result.image).stem}.png"
            write_overlay(self._folder / name, result, result.picture)
        self._rows.append(report_row(result))

    def finish(self, title: str, **options: Any) -> Path:
        from anomaly.report import write_report

        path = self._folder / "report.html"
        write_report(path, self._rows, title=title, **options)
        return path


def _inspected(
    inspector: Inspector, images: Sequence[str], product: str | None, mask: Path | None, draw: bool
) -> Iterator[Inspection | Unreadable]:
    for image in images:
        try:
            found = inspector.inspect(image, product_id=product, mask=mask, picture=draw)
            yield replace(found, image=image)  # the argument, verbatim
        except (EmbeddingsError, GalleryError) as error:
            yield Unreadable(image, error.code, str(error))


def _show(result: Inspection | Unreadable) -> None:
    if isinstance(result, Unreadable):
        output.err.print(f"error {result.message}", style="red", markup=False)
        return
    output.out.print(f"{result.verdict:<15} ", style=COLOURS[result.verdict], end="")
    product = "" if result.product_id is None else f" ({printable(result.product_id)})"
    score = "" if result.score is None else f", score {result.score:.2f}"
    output.out.print(
        f"{printable(result.image)}{product}: {result.reason.text}{score} "
        f"[{result.inspection_id}]",
        markup=False,
    )  # fmt: skip
