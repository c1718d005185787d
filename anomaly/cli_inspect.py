"""The verbs that look at pictures: inspect, confirm, demo."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer

from anomaly import output
from anomaly.batch_report import BatchReport
from anomaly.inspector import Inspector
from anomaly.item import ItemInspection
from anomaly.log import InspectionLog
from anomaly.results import Inspection, Reason, Unreadable
from anomaly.schema import as_json, item_as_json
from embeddings.errors import EmbeddingsError
from embeddings.images import printable, read_bytes
from gallery.absence import why_absent
from gallery.errors import GalleryError
from gallery.reader import Gallery

COLOURS = {
    "ok": "green", "review": "yellow", "damaged": "red", "wrong_product": "magenta",
    "unknown_product": "magenta", "cannot_compare": "magenta",
}  # fmt: skip
_Result = Inspection | Unreadable | ItemInspection
LogFolder = Annotated[Path, typer.Argument(help="The folder that `inspect --log` wrote.")]
Views = Annotated[
    int | None, typer.Option(help="So many pictures in a row show one item, judged as one.")
]

Budget = Annotated[
    float | None,
    typer.Option(help="Share of pristine pictures that may be sidelined. Default: calibrated."),
]
Review = Annotated[
    float | None,
    typer.Option(help="Share that may be sidelined or reviewed, above the budget."),
]


def inspect_command(
    gallery: Annotated[Path, typer.Argument(help="The gallery's folder.")],
    images: Annotated[list[str], typer.Argument(help="Pictures to inspect.")],
    product: Annotated[
        str | None, typer.Option(help="ID of the product they show. Default: identify each.")
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="Where the product is; for a single picture.")
    ] = None,
    views: Views = None,
    out: Annotated[
        Path | None, typer.Option(help="Write an overlay per picture and report.html here.")
    ] = None,
    log: Annotated[
        Path | None, typer.Option(help="Append each inspection and keep its picture here.")
    ] = None,
    budget: Budget = None,
    review: Review = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="Default: as torch decides.")] = None,
    json: Annotated[bool, typer.Option("--json", help="JSON lines on stdout, no else.")] = False,
) -> None:
    """Say whether products are damaged. Exit code 1 if one is, 4 if a picture can't be read."""
    _check_usage(images, mask, views)
    record = InspectionLog(log) if log is not None else None
    found: set[str] = set()
    opened = Inspector.open(gallery, device=device, threads=threads, budget=budget, review=review)
    with _reported(out, len(images)) as report, opened as inspector:
        _warn(inspector)
        results = _results(inspector, images, product, mask, views, out is not None)
        for result in map(_explaining(gallery, product), results):
            output.emit(_as_json(result)) if json else _show(result)
            found |= _outcomes(result)
            report(result)
            if record is not None:
                _keep(record, result, mask)
    raise typer.Exit(_code(found))


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
    whole = InspectionLog(log).confirm(inspection_id, label, kind=kind, by=by)
    output.out.print(f"{whole}: {label}" + (f", {kind}" if kind else ""), markup=False)


def demo_command(
    out: Annotated[Path, typer.Option(help="Where pictures, gallery and report go.")] = Path(
        "amiss-demo"
    ),
    seed: Annotated[int, typer.Option(help="Another seed prints other products.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="JSON lines on stdout, no else.")] = False,
) -> None:
    """Render a dozen products, build a gallery, inspect pristine and damaged ones, report."""
    from anomaly.demo import run_demo

    right = 0
    outcomes = []
    with output.progress_bar() as bar:
        for outcome in run_demo(out, seed=seed, progress=bar):
            outcomes.append(outcome)
            right += outcome.as_expected
            if json:
                expected = {"expected": outcome.expected, "as_expected": outcome.as_expected}
                output.emit({**as_json(outcome.result), **expected})
    if not json:
        header = ("picture", "expected", "verdict", "score", "findings", "")
        output.show_table(header, [o.cells() for o in outcomes])
        output.out.print(
            f"{right} of {len(outcomes)} as expected; look at {out / 'report.html'}", markup=False
        )
    raise typer.Exit(output.DONE if right == len(outcomes) else output.GATE_FAILED)


def _check_usage(images: Sequence[str], mask: Path | None, views: int | None) -> None:
    if mask is not None and (len(images) > 1 or views is not None):
        raise typer.BadParameter("--mask goes with one picture, without --views")
    if views is not None and (views < 1 or len(images) % views):
        raise typer.BadParameter(f"--views {views}: {len(images)} pictures are no multiple of it")


@contextmanager
def _reported(out: Path | None, asked: int) -> Iterator[Callable[[_Result], None]]:
    """Takes results; what came is reported under `out`, however the batch of `asked` pictures
    ends."""
    page = BatchReport(out) if out is not None else None
    done = 0

    def add(result: _Result) -> None:
        nonlocal done
        done += len(_pictures(result))
        if page is not None:
            page.add(result)

    try:
        yield add
    except Exception:
        text = f"ended early: {done} of {asked} pictures were inspected"
        output.err.print(text, style="yellow", markup=False)
        raise
    finally:
        if page is not None and done:
            of = "" if done == asked else f" of {asked}"
            page.finish(f"Inspection of {done}{of} pictures")


@contextmanager
def _naming(pictures: str) -> Iterator[None]:
    """An error that nobody foresaw says which picture it came with."""
    try:
        yield
    except Exception as error:
        error.add_note(f"while {printable(pictures)} was inspected")
        raise


def _warn(inspector: Inspector) -> None:
    if inspector.objection is not None:
        text = f"{inspector.objection}: only its rates are used; run `amiss calibrate` again"
        output.err.print(text, style="yellow", markup=False)


def _code(found: set[str]) -> int:
    if "unreadable" in found:
        return output.IMAGE_ERRORS
    return output.GATE_FAILED if "damaged" in found else output.DONE


def _results(
    inspector: Inspector,
    images: Sequence[str],
    product: str | None,
    mask: Path | None,
    views: int | None,
    draw: bool,
) -> Iterable[_Result]:
    if views is None:
        return _inspected(inspector, images, product, mask, draw)
    return _items(inspector, images, product, views, draw)


def _inspected(
    inspector: Inspector, images: Sequence[str], product: str | None, mask: Path | None, draw: bool
) -> Iterator[Inspection | Unreadable]:
    for image in images:
        try:
            with _naming(image):
                found = inspector.inspect(image, product_id=product, mask=mask, picture=draw)
            yield replace(found, image=image)  # the argument, verbatim
        except (EmbeddingsError, GalleryError) as error:
            yield Unreadable(image, error.code, str(error))


def _items(
    inspector: Inspector, images: Sequence[str], product: str | None, views: int, draw: bool
) -> Iterator[ItemInspection]:
    for first in range(0, len(images), views):
        names = images[first : first + views]
        name = ", ".join(names)
        with _naming(name):
            item = inspector.inspect_views(names, product_id=product, name=name, picture=draw)
        said = [replace(v, image=name) for v, name in zip(item.views, names, strict=True)]
        yield replace(item, views=tuple(said))  # the arguments, verbatim


def _explaining(gallery: Path, product: str | None) -> Callable[[_Result], _Result]:
    """Adds why a claimed product doesn't serve to results that say that it is none."""

    @cache
    def why() -> str:
        with Gallery.open(gallery) as opened:
            return why_absent(gallery, product or "", served=opened.product_ids())

    def whole(reason: Reason) -> Reason:
        missing = reason.code == "not_in_gallery"
        return replace(reason, text=reason.text + why()) if missing else reason

    def of_picture(result: Inspection | Unreadable) -> Inspection | Unreadable:
        if isinstance(result, Unreadable):
            return result
        return replace(result, reason=whole(result.reason))

    def of_any(result: _Result) -> _Result:
        if not isinstance(result, ItemInspection):
            return of_picture(result)
        views = tuple(map(of_picture, result.views))
        return replace(result, reason=whole(result.reason), views=views)

    return of_any


def _pictures(result: _Result) -> tuple[Inspection | Unreadable, ...]:
    return result.views if isinstance(result, ItemInspection) else (result,)


def _keep(record: InspectionLog, result: _Result, mask: Path | None) -> None:
    for view in _pictures(result):
        if isinstance(view, Inspection):
            marked = None if mask is None else read_bytes(mask)
            record.append(view, read_bytes(view.image), mask_bytes=marked)


def _outcomes(result: _Result) -> set[str]:
    """The verdict, and `unreadable` where a picture is."""
    unread = {"unreadable" for v in _pictures(result) if v.verdict == "unreadable"}
    return {result.verdict, *unread}


def _as_json(result: _Result) -> dict[str, Any]:
    return item_as_json(result) if isinstance(result, ItemInspection) else as_json(result)


def _show(result: _Result, *, before: str = "") -> None:
    if isinstance(result, Unreadable):
        output.err.print(f"error {result.message}", style="red", markup=False)
        return
    output.out.print(before + f"{result.verdict:<15} ", style=COLOURS[result.verdict], end="")
    product = "" if result.product_id is None else f" ({printable(result.product_id)})"
    if isinstance(result, ItemInspection):
        text = f"{printable(result.item)}{product}: {result.reason.text}"
        output.out.print(text, markup=False)
        for view in result.views:
            _show(view, before="  ")
        return
    output.out.print(
        f"{printable(result.image)}{product}: {result.reason.text}{_figures(result)} "
        f"[{result.inspection_id}, build {result.build}]",
        markup=False,
    )  # fmt: skip


def _figures(result: Inspection) -> str:
    """Score and threshold, which the reason of `ok` gives itself."""
    if result.score is None or result.verdict == "ok":
        return ""
    threshold = "" if result.threshold is None else f", threshold {result.threshold:.3g}"
    return f", score {result.score:.3g}{threshold}"
