"""The verb that learns what pristine pictures score and sets the rates: calibrate."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from anomaly import output
from anomaly.calibrator import CalibrationReport, calibrate_gallery


def calibrate_command(
    gallery: Annotated[Path, typer.Argument(help="The gallery's folder.")],
    budget: Annotated[
        float, typer.Option(help="Share of pristine pictures that may be sidelined.")
    ],
    review: Annotated[
        float | None,
        typer.Option(help="Share that may be sidelined or reviewed, above the budget."),
    ] = None,
    normals: Annotated[
        Path | None, typer.Option(help="Pristine pictures, a folder per product; no references.")
    ] = None,
    damaged: Annotated[
        Path | None, typer.Option(help="Damaged ones likewise, for recall against sideline rate.")
    ] = None,
    log: Annotated[
        Path | None, typer.Option(help="What `inspect --log` wrote; confirmed inspections count.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="Default: as torch decides.")] = None,
    json: Annotated[bool, typer.Option("--json", help="JSON lines on stdout, no else.")] = False,
) -> None:
    """Learn what pristine pictures score and set the sideline budget that inspections follow.

    Replaces all that was calibrated before. Exit code 4 if a picture can't be read or shows no
    product of the gallery.
    """
    with output.progress_bar() as bar:
        report = calibrate_gallery(
            gallery, budget=budget, review=review, normals=normals, damaged=damaged, log=log,
            device=device, threads=threads, progress=bar,
        )  # fmt: skip
    output.emit(_as_row(report)) if json else _show(report, gallery)
    raise typer.Exit(output.IMAGE_ERRORS if report.faults else output.DONE)


def _as_row(report: CalibrationReport) -> dict[str, Any]:
    return {
        "schema": "amiss.calibrate/2",
        **asdict(report),
        "attained": report.attained,
        "points": [point.as_json() for point in report.points],
    }


def _show(report: CalibrationReport, root: Path) -> None:
    output.show_problems(report.left, what="does not count")
    counts = report.counts
    output.out.print(
        f"{root}: calibration {report.calibration_id} serves now: budget {report.budget:g}"
        + (f", review {report.review:g}" if report.review else "")
        + f"; {counts['left_out']:,} references, {counts['normals']:,} pristine pictures, "
        f"{counts['log']:,} confirmed inspections of {report.products:,} products",
        markup=False,
    )
    if report.replaced is not None and report.forgotten:
        output.err.print(
            f"replaces calibration {report.replaced.calibration_id}, which had "
            f"{', '.join(report.forgotten)}: give everything that is to count each time",
            style="yellow", markup=False,
        )  # fmt: skip
    for found in report.attainable:
        if not report.promises(found):
            known = "no score" if found.rate is None else f"at best p = {found.rate:.2g}"
            output.err.print(
                f"compared {found.compared} (products: {found.products:,}): {known}; where Amiss's "
                "own null can't promise the budget, either, damage is for review: give more "
                "pristine pictures (--normals)",
                style="yellow", markup=False,
            )  # fmt: skip
    if report.points:
        header = ("sideline rate", "recall", "95 %", "found")
        rows = [
            (f"{p.rate:g}", f"{p.recall:.3f}", "{:.3f} to {:.3f}".format(*p.interval),
             f"{p.found} of {p.damaged}")
            for p in report.points if p.promised
        ]  # fmt: skip
        output.show_table(header, rows)
    page = root / "calibrations" / f"{report.calibration_id}.html"
    output.out.print(f"look at {page}", markup=False)
