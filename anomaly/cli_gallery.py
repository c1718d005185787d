"""The verbs that keep a gallery in order: remove, replace, quarantine, release; publish, rollback,
diff, prune."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from anomaly import output
from anomaly.cli_update import ByOption, WhyOption, finish
from anomaly.update import serve_deed
from embeddings.images import printable
from gallery.catalog import CatalogRow, open_catalog
from gallery.history import BuildDiff, diff_builds, prune, rollback
from gallery.publish import Current, publish
from gallery.reader import Gallery
from gallery.sources import SourceRow

GalleryArgument = Annotated[Path, typer.Argument(help="The gallery's folder.")]
BuildArgument = Annotated[str, typer.Argument(help="A build, as `amiss list` names it.")]
ProductArgument = Annotated[str, typer.Argument(help="The product's ID.")]
ReferencesArgument = Annotated[
    list[str] | None,
    typer.Argument(help="Reference IDs or their first 8 digits, or file names. Default: all."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON lines on stdout, nothing else.")]


def remove_command(
    gallery: GalleryArgument,
    product: ProductArgument,
    references: ReferencesArgument = None,
    why: WhyOption = "removed",
    by: ByOption = None,
    json: JsonOption = False,
) -> None:
    """Take references, or a whole product, out of the catalog and out of service."""
    _withdraw(gallery, product, references, "remove", why, by, json)


def quarantine_command(
    gallery: GalleryArgument,
    product: ProductArgument,
    references: ReferencesArgument = None,
    why: WhyOption = "quarantined",
    by: ByOption = None,
    json: JsonOption = False,
) -> None:
    """Withhold references from service and from builds until they are released."""
    _withdraw(gallery, product, references, "quarantine", why, by, json)


def release_command(
    gallery: GalleryArgument,
    product: ProductArgument,
    references: ReferencesArgument = None,
    why: WhyOption = "released",
    by: ByOption = None,
    json: JsonOption = False,
) -> None:
    """Let quarantined references serve again."""
    _withdraw(gallery, product, references, "release", why, by, json)


def replace_command(
    gallery: GalleryArgument,
    product: ProductArgument,
    old: Annotated[str, typer.Argument(help="The reference that goes: ID, first 8 digits, name.")],
    picture: Annotated[Path, typer.Argument(help="The picture that takes its place.")],
    mask: Annotated[Path | None, typer.Option(help="Where the product is in it.")] = None,
    why: WhyOption = "replaced",
    by: ByOption = None,
    json: JsonOption = False,
) -> None:
    """Put another picture in the place of a reference, which keeps its view and variant."""
    new = SourceRow(product, picture, mask=mask, where=printable(picture))
    catalog = open_catalog(gallery)
    done = catalog.replace(old, new, why=why, by=by)
    row: dict[str, Any] = {
        "schema": "amiss.replace/1", "product_id": product,
        "removed": [row.reference_id for row in done.removed],
        "reference_id": done.row.reference_id,
    }  # fmt: skip
    if not json:
        goes = f"{_shown(done.row)} replaces {_shown(done.removed[0])}" if done.removed else ""
        output.out.print(goes or "nothing to do: it is so already", markup=False)
    finish(lambda: serve_deed(catalog, [done.row], deed="replace"), row if json else None, gallery)


def publish_command(
    gallery: GalleryArgument, build: BuildArgument, json: JsonOption = False
) -> None:
    """Make a build that passed its gates serve."""
    _show_current(publish(gallery, build), gallery, json)
    _warn_of_withdrawn(gallery)


def rollback_command(
    gallery: GalleryArgument,
    to: Annotated[str | None, typer.Option("--to", help="Default: the one before.")] = None,
    json: JsonOption = False,
) -> None:
    """Make an older build serve again, without a delta; the catalog stays as it is.

    So withdraw what was wrong, too; `update --withdrawals` lets go of what was withdrawn since.
    """
    _show_current(rollback(gallery, to), gallery, json)
    _warn_of_withdrawn(gallery)


def diff_command(
    gallery: GalleryArgument, old: BuildArgument, new: BuildArgument, json: JsonOption = False
) -> None:
    """Say which references one build has and the other has not."""
    found = diff_builds(gallery, old, new)
    if json:
        output.emit({"schema": "amiss.diff/1", "same": found.same, **asdict(found)})
        return
    _show_diff(found)


def prune_command(
    gallery: GalleryArgument,
    keep: Annotated[int, typer.Option(min=1, help="Builds that stay, the newest that passed.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    json: JsonOption = False,
) -> None:
    """Remove old builds that nobody reads, and what only they used."""
    gone = prune(gallery, keep=keep, dry_run=dry_run)
    if json:
        output.emit({"schema": "amiss.prune/1", "dry_run": dry_run, **asdict(gone)})
        return
    for name in gone.held:
        output.out.print(f"{name} stays: a reader holds it", markup=False)
    verb = "would go" if dry_run else "removed"
    for kind, names in (("build", gone.builds), ("delta", gone.deltas), ("shard", gone.shards)):
        for name in names:
            output.out.print(f"{verb}: {kind} {name}", markup=False)
    output.out.print(
        f"{verb}: {len(gone.builds)} builds, {len(gone.deltas)} deltas, "
        f"{len(gone.calibrations)} calibrations, "
        f"{len(gone.shards)} shards, {gone.bytes / 1e6:.1f} MB",
        markup=False,
    )


def _withdraw(
    gallery: Path,
    product: str,
    wanted: list[str] | None,
    deed: str,
    why: str,
    by: str | None,
    json: bool,
) -> None:
    catalog = open_catalog(gallery)
    done = catalog.withdraw(product, wanted, deed=deed, why=why, by=by)
    row: dict[str, Any] = {
        "schema": "amiss.withdraw/1", "deed": deed, "product_id": product,
        "references": [row.reference_id for row in done],
        "left": (left := sum(row.product_id == product for row in catalog.rows())),
    }  # fmt: skip
    if not json:
        for one in done:
            output.out.print(f"{deed} {_shown(one)}", markup=False)
        if not left:
            text = f"{printable(product)} has no reference left that may serve: a picture claimed "
            output.out.print(text + "to show it is unknown_product", markup=False)
        if not done:
            output.out.print("nothing to do: it is so already", markup=False)
    finish(lambda: serve_deed(catalog, done, deed=deed), row if json else None, gallery)


def _shown(row: CatalogRow) -> str:
    return f"{printable(row.product_id)} {row.reference_id[:8]} ({row.name})"


def _show_current(current: Current, gallery: Path, json: bool) -> None:
    if json:
        output.emit({"schema": "amiss.current/1", **asdict(current)})
    else:
        output.out.print(f"{gallery}: {current.build} serves", markup=False)


def _warn_of_withdrawn(root: Path) -> None:
    """Say on stderr what serves although the catalog has withdrawn it."""
    with Gallery.open(root) as gallery:
        kept = {row.key for row in open_catalog(root).rows()}
        count = len(set(gallery.keys().tolist()) - kept)
    if count:
        text = (
            f"{count} references serve again that were withdrawn since; "
            f"`amiss update {root} --withdrawals` lets go of them"
        )
        output.err.print(text, style="yellow", markup=False)


def _show_diff(found: BuildDiff) -> None:
    for sign, changes in (("+", found.added), ("-", found.removed)):
        for product, references in changes.items():
            whole = product in (*found.products_added, *found.products_removed)
            what = "product, " if whole else ""
            ids = " ".join(reference[:8] for reference in references)
            output.out.print(f"{sign} {printable(product)}: {what}{ids}", markup=False)
    if found.embedded_anew:
        output.out.print("all references were embedded by another model or version", markup=False)
    if found.same:
        output.out.print("the same references", markup=False)
