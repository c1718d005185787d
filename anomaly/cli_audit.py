"""`amiss audit`: which references are bad, and away with them if so asked. `amiss freeze`: the
pictures that no build may get worse at."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from anomaly import output
from anomaly.accusation import ACCUSED
from anomaly.cli_update import ByOption, GalleryArgument, JsonOption
from anomaly.suspects import DEFAULT_RARITY
from embeddings.images import printable
from gallery.durable import make_writable

_REPORT = "report.html"


def audit_command(
    gallery: GalleryArgument,
    products: Annotated[list[str] | None, typer.Argument(help="Product IDs. Default: all.")] = None,
    quarantine: Annotated[
        bool, typer.Option("--quarantine", help="Withhold what is found from service and builds.")
    ] = False,
    kinds: Annotated[
        str, typer.Option(help="What --quarantine withholds; never copies and variants unasked.")
    ] = ",".join(ACCUSED),
    out: Annotated[Path | None, typer.Option(help="Folder for report.html with pictures.")] = None,
    rarity: Annotated[
        float, typer.Option(min=0.0001, max=0.5, help="p-value from which a reference is unlike.")
    ] = DEFAULT_RARITY,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    by: ByOption = None,
    json: JsonOption = False,
) -> None:
    """Hold every reference against its siblings; exit code 1 if anything is found."""
    from anomaly.audit import audit_gallery, checked_kinds, quarantine_found
    from anomaly.audit_report import write_audit_report
    from anomaly.update import update_gallery

    policy = checked_kinds(kinds.split(","))
    if out is not None:
        make_writable(out)
    with output.progress_bar() as bar:
        audit = audit_gallery(
            gallery, products=products, rarity=rarity, pictures=out is not None, device=device,
            progress=lambda done, total: bar("audit", done, total),
        )  # fmt: skip
    withheld = quarantine_found(gallery, audit, kinds=policy, by=by) if quarantine else []
    if withheld:
        update_gallery(gallery, withdrawals=True)
    if out is not None:
        write_audit_report(
            out / _REPORT, audit, title=f"Audit of {gallery.resolve().name}", withheld=withheld
        )
    _emit(audit, withheld) if json else _show(audit, withheld, out)
    raise typer.Exit(output.GATE_FAILED if audit.findings else output.DONE)


def freeze_command(
    source: Annotated[Path, typer.Argument(help="Holds ok/PRODUCT/ and damaged/PRODUCT/.")],
    gallery: GalleryArgument,
    by: ByOption = None,
    json: JsonOption = False,
) -> None:
    """Freeze pictures with known answers, in place of those frozen before.

    A build that gets worse at them is not published.
    """
    from anomaly.regression import freeze

    frozen = freeze(source, gallery, by=by)
    damaged = sum(case.damaged for case in frozen.cases)
    if json:
        output.emit({
            "schema": "amiss.freeze/1", "pictures": len(frozen.cases), "damaged": damaged,
            "problems": [asdict(problem) for problem in frozen.problems],
        })  # fmt: skip
    else:
        text = f"{len(frozen.cases)} pictures frozen, {damaged} of them damaged"
        output.out.print(text, markup=False)
        output.show_problems(frozen.problems, what="not frozen")
    raise typer.Exit(output.IMAGE_ERRORS if frozen.problems else output.DONE)


def _emit(audit: Any, withheld: list[Any]) -> None:
    output.emit({
        "schema": "amiss.audit/1", "build": audit.build, "audited": audit.audited,
        "alone": audit.alone,
        "findings": [
            {
                "product_id": f.product_id, "reference_id": f.reference_id, "name": f.name,
                "kind": f.kind, "figure": f.figure, "limit": f.limit, "reason": f.reason,
                "siblings": list(f.siblings), "group": list(f.group),
                "quarantined": f in withheld,
            }
            for f in audit.findings
        ],
    })  # fmt: skip


def _show(audit: Any, withheld: list[Any], out: Path | None) -> None:
    if audit.findings:
        header = ("product", "reference", "what", "figure", "why")
        cells = [
            (printable(f.product_id), f"{f.name} ({f.reference_id[:8]})", f.kind.replace("_", " "),
             f"{f.figure:.2g} / {f.limit:.2g}", f.reason)
            for f in audit.findings
        ]  # fmt: skip
        output.show_table(header, cells)
    parts = [f"{audit.audited} references held against siblings, {len(audit.findings)} found"]
    parts += [f"{audit.alone} have no sibling and could not be"] if audit.alone else []
    parts += [f"look at {out / _REPORT}"] if out is not None else []
    output.out.print("; ".join(parts), markup=False)
    if withheld:
        output.out.print(f"{len(withheld)} quarantined, no longer served", markup=False)
