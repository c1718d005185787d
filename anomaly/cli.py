"""The command line: `amiss VERB`. Thin: a verb calls one function and prints what it returned."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from anomaly import output
from anomaly.builder import (
    Outlook,
    build_gallery,
    foresee,
    published_settings,
    rebuild,
)
from anomaly.cli_audit import audit_command, freeze_command
from anomaly.cli_calibrate import calibrate_command
from anomaly.cli_gallery import (
    diff_command,
    prune_command,
    publish_command,
    quarantine_command,
    release_command,
    remove_command,
    replace_command,
    rollback_command,
)
from anomaly.cli_inspect import confirm_command, demo_command, inspect_command
from anomaly.cli_update import add_command, import_command, show_import, update_command
from anomaly.config import BuildConfig, build_config
from anomaly.errors import AnomalyError
from anomaly.joblog import JobLog, failure, summary
from embeddings.errors import EmbeddingsError
from embeddings.images import printable
from gallery.build import BuildReport
from gallery.catalog import ImportReport
from gallery.check import check
from gallery.errors import GalleryError
from gallery.listing import list_references
from gallery.publish import failed_gates, list_builds, read_current
from gallery.reader import Gallery

app = typer.Typer(
    help="Finds damage on products by comparing them with pristine references.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

SourceArgument = Annotated[
    str, typer.Argument(help="A folder per product, a .csv, a .parquet, or Kaputt.")
]
GalleryArgument = Annotated[Path, typer.Argument(help="The gallery's folder.")]
ProductOption = Annotated[
    str | None,
    typer.Option("--product", help="ID of the one product whose pictures SOURCE holds."),
]
BackboneOption = Annotated[
    str | None,
    typer.Option(help="efficientnet_lite0, a timm model, NAME@FILE, a weights FILE or DIRECTORY."),
]
SizeOption = Annotated[int | None, typer.Option("--size", help="Longest side in px. Default 448.")]
DeviceOption = Annotated[str | None, typer.Option(help="auto, cpu or cuda.")]
ThreadsOption = Annotated[int | None, typer.Option(help="Pictures at a time. Default: all cores.")]
WorkersOption = Annotated[
    int | None, typer.Option(help="Processes that share the work, and the threads. Default 1.")
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="A TOML file of settings: size_px, most_lost, ... (README)."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON lines on stdout, nothing else.")]


@app.command("build")
def build_command(
    source: SourceArgument,
    gallery: GalleryArgument,
    product: ProductOption = None,
    backbone: BackboneOption = None,
    size: SizeOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Make a new gallery from SOURCE: import, rebuild, publish."""
    given = {"backbone": backbone, "size_px": size, "device": device, "threads": threads}
    settings = build_config(config, given=given)
    with output.progress_bar() as bar:
        made = build_gallery(source, gallery, config=settings, product_id=product, progress=bar)
    if json:
        code = _code(made.built, made.imported)
        output.emit({**summary(made.built, exit_code=code), "import": asdict(made.imported)})
    else:
        show_import(made.imported, gallery)
        _show_build(made.built, gallery)
    raise typer.Exit(_code(made.built, made.imported))


@app.command("rebuild")
def rebuild_command(
    gallery: GalleryArgument,
    full: Annotated[bool, typer.Option("--full", help="Embed every reference anew.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would do.")] = False,
    approve: Annotated[
        bool, typer.Option("--approve", help="Publish even if much is gone (gate count_delta).")
    ] = False,
    backbone: BackboneOption = None,
    size: SizeOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    workers: WorkersOption = None,
    config: ConfigOption = None,
    log: Annotated[
        Path | None, typer.Option("--log", help="Append JSON lines to this file as it goes.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Build what the catalog says and publish it, if it passes its gates. Exit code 5 while
    another process writes to the gallery."""
    given = {"backbone": backbone, "size_px": size, "device": device, "threads": threads,
             "workers": workers, "most_lost": 1.0 if approve else None}  # fmt: skip
    told = JobLog(log)
    try:
        inherited = {} if backbone and size else published_settings(gallery)
        settings = build_config(config, inherited=inherited, given=given)
        if dry_run:
            outlook = foresee(gallery, config=settings, full=full)
            raise typer.Exit(_show_outlook(outlook, settings, json))
        told.start("rebuild", gallery)
        with output.progress_bar(told) as bar:
            report = rebuild(gallery, config=settings, full=full, progress=bar)
    except (AnomalyError, EmbeddingsError, GalleryError) as error:
        ended = failure(error, exit_code=output.exit_code(error))
        told.end(ended)
        if json:
            output.emit(ended)
        raise
    ended = summary(report, exit_code=_code(report, None))
    told.end(ended)
    output.emit(ended) if json else _show_build(report, gallery)
    raise typer.Exit(_code(report, None))


@app.command("check")
def check_command(gallery: GalleryArgument, json: JsonOption = False) -> None:
    """Verify every file and checksum; names what is damaged. Exit code 3 if anything is, or if
    there are builds and none of them serves."""
    report = check(gallery)
    if json:
        output.emit({"schema": "amiss.check/1", "sound": report.sound, **asdict(report)})
    else:
        for finding in report.damaged:
            output.err.print(
                f"damaged {finding.path}: {finding.message}", style="red", markup=False
            )
        for orphan in report.orphans:
            output.out.print(f"orphan {orphan}", markup=False)
        state = "sound" if report.sound else f"{len(report.damaged)} damaged files"
        serves = f"{report.serves} serves" if report.serves else "nothing is published"
        pending = "not counted" if report.pending is None else str(report.pending)
        output.out.print(
            f"{state}; {report.files} files of {report.builds} builds; {serves}; pending: {pending}"
        )
    raise typer.Exit(output.DONE if report.sound and not report.idle else output.UNREADABLE)


@app.command("list")
def list_command(
    gallery: GalleryArgument,
    products: Annotated[bool, typer.Option("--products", help="List products instead.")] = False,
    product: Annotated[
        str | None, typer.Option(help="List the references of this product instead.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """List the builds of a gallery, the products of the published one, or one's references."""
    if product is not None:
        _list_references(gallery, product, json)
        return
    if products:
        _list_products(gallery, json)
        return
    serving = read_current(gallery) if (gallery / "CURRENT").exists() else None
    rows: list[dict[str, Any]] = [
        {
            "build": build_id,
            "current": (current := serving is not None and build_id == serving.build),
            "delta": serving.delta if serving is not None and current else None,
            "created": manifest.created,
            "products": manifest.products,
            "references": manifest.references,
            "failed_gates": failed_gates(gallery, build_id),
            "content_digest": manifest.content_digest,
        }
        for build_id, manifest in list_builds(gallery)
    ]
    if json:
        for row in rows:
            output.emit({"schema": "amiss.list/1", **row})
        return
    header = ("build", "serves", "products", "references", "gates", "content")
    cells = [
        (r["build"], _serves(r), f"{r['products']:,}", f"{r['references']:,}",
         ", ".join(r["failed_gates"]) + " failed" if r["failed_gates"] else "passed",
         r["content_digest"][:12])
        for r in rows
    ]  # fmt: skip
    output.show_table(header, cells)


@app.command("identify")
def identify_command(
    gallery: GalleryArgument,
    images: Annotated[list[str], typer.Argument(help="Pictures to identify.")],
    top: Annotated[int, typer.Option(min=1, help="Candidates per picture.")] = 5,
    mask: Annotated[
        Path | None, typer.Option(help="Where the product is; for a single picture.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    json: JsonOption = False,
) -> None:
    """Name the products that pictures may show, and say whether they show any."""
    from anomaly.inspector import Inspector

    if mask is not None and len(images) > 1:
        raise typer.BadParameter("--mask goes with one picture")
    failures = 0
    with Inspector.open(gallery, device=device) as opened:
        for image in images:
            try:
                row = asdict(opened.identify(image, mask=mask, top=top))
            except EmbeddingsError as error:
                failures += 1
                row = {"error": {"code": error.code, "message": str(error)}}
            row = {"schema": "amiss.identify/1", "image": image, **row}
            output.emit(row) if json else _show_identified(row)
    raise typer.Exit(output.IMAGE_ERRORS if failures else output.DONE)


@app.command("doctor")
def doctor_command(
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    json: JsonOption = False,
) -> None:
    """Say whether this machine can do the work, and what to change if not."""
    from anomaly.doctor import examine

    found = examine(device=device)
    if json:
        for finding in found:
            output.emit({"schema": "amiss.doctor/1", **asdict(finding)})
    else:
        output.show_table(("what", "state", "found"), [(f.name, f.level, f.message) for f in found])
    broken = any(f.level == "error" for f in found)
    raise typer.Exit(output.UNREADABLE if broken else output.DONE)


app.command("import")(import_command)
app.command("add")(add_command)
app.command("update")(update_command)
app.command("replace")(replace_command)
app.command("remove")(remove_command)
app.command("quarantine")(quarantine_command)
app.command("release")(release_command)
app.command("publish")(publish_command)
app.command("rollback")(rollback_command)
app.command("diff")(diff_command)
app.command("prune")(prune_command)
app.command("audit")(audit_command)
app.command("freeze")(freeze_command)
app.command("inspect")(inspect_command)
app.command("calibrate")(calibrate_command)
app.command("confirm")(confirm_command)
app.command("demo")(demo_command)


def main() -> None:
    """Entry point of `amiss`."""
    output.run(app)


def _list_products(root: Path, json: bool) -> None:
    with Gallery.open(root) as opened:
        rows = [(name, len(opened.stored(name).references)) for name in opened.product_ids()]
    if json:
        for name, count in rows:
            output.emit({"schema": "amiss.products/1", "product_id": name, "references": count})
    else:
        output.show_table(("product", "references"), [(n, str(c)) for n, c in rows])


def _list_references(root: Path, product: str, json: bool) -> None:
    rows = list_references(root, product)
    if json:
        for row in rows:
            output.emit({"schema": "amiss.references/1", **asdict(row)})
        return
    # The ID as verdicts and overlays give it.
    cells = [(row.reference_id[:12], row.name, row.state, row.added) for row in rows]
    output.show_table(("reference", "file", "state", "added"), cells)


def _serves(row: dict[str, Any]) -> str:
    if row["delta"] is not None:
        return f"with delta {row['delta']}"
    return "yes" if row["current"] else ""


def _code(built: BuildReport | None, imported: ImportReport | None) -> int:
    if imported is not None and imported.problems:
        return output.IMAGE_ERRORS
    return output.DONE if built is None or built.passed else output.GATE_FAILED


def _figure(value: float | None) -> str:
    return "no figure" if value is None else f"{value:.3g}"


def _show_build(report: BuildReport, root: Path) -> None:
    if report.unchanged:
        output.out.print(f"{root}: nothing changed, {report.build_id} keeps serving", markup=False)
        return
    for gate in report.gates:
        if not gate.passed:
            text = f"gate {gate.name} failed: {_figure(gate.figure)} (allowed {gate.allowed})"
            text += f"; {gate.message}"
            output.err.print(text, style="red", markup=False)
    if report.tally.mended:
        text = f"{report.tally.mended} references embedded anew: damaged in {report.parent}"
        output.err.print(text, style="yellow", markup=False)
    state = "published" if report.published else "NOT published"
    seconds = sum(report.seconds.values())
    output.out.print(
        f"{state} {report.build_id}: {report.products:,} products, {report.references:,} "
        f"references ({report.tally.embedded:,} embedded), "
        f"{report.bytes_per_reference / 1000:.0f} kB each, {seconds:.1f} s",
        markup=False,
    )


def _show_outlook(outlook: Outlook, settings: BuildConfig, json: bool) -> int:
    """Prints it; the exit code."""
    code = output.GATE_FAILED if outlook.lost > settings.most_lost else output.DONE
    if json:
        output.emit({"schema": "amiss.outlook/1", **asdict(outlook)})
        return code
    for sign, names in (("+", outlook.products_added), ("-", outlook.products_removed)):
        for name in names:
            output.out.print(f"{sign} {printable(name)}", markup=False)
    output.out.print(
        f"would embed {outlook.embed:,} references, keep {outlook.kept:,}, drop "
        f"{outlook.dropped:,}; {outlook.lost:.0%} of references or products lost",
        markup=False,
    )
    return code


def _show_identified(row: dict[str, Any]) -> None:
    if "error" in row:
        output.err.print(f"error {row['error']['message']}", style="red", markup=False)
        return
    best = ", ".join(_candidate(c) for c in row["candidates"])
    none = "" if row["known"] is not False else "none of these; nearest "
    output.out.print(f"{printable(row['image'])}: {none}{best}", markup=False)


def _candidate(row: dict[str, Any]) -> str:
    rarity = "" if row["p_value"] is None else f", p = {row['p_value']:.2g}"
    return f"{row['product_id']} ({row['score']:.3f}{rarity})"


if __name__ == "__main__":
    main()
