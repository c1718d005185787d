"""A folder for people: an overlay per picture and one page for the batch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from anomaly.item import ItemInspection
from anomaly.overlay import write_overlay
from anomaly.report import Row, item_row, report_row, write_report
from anomaly.results import Inspection, Unreadable
from embeddings.images import printable
from gallery.durable import make_writable

_LONGEST_NAME = 80


class BatchReport:
    """Overlays are written as results come; pictures are not kept in memory. Final."""

    def __init__(self, folder: Path) -> None:
        """Makes `folder` if there is none. Raises `StorageError` where it can't be written to."""
        make_writable(folder)
        self._folder = folder
        self._rows: list[Row] = []

    def add(self, result: Inspection | Unreadable | ItemInspection) -> None:
        """Write the overlays, if there are pictures to draw them from, and remember the row; the
        views of an item are one row."""
        if isinstance(result, ItemInspection):
            for number, view in enumerate(result.views):
                self._draw(view, f"{len(self._rows):04d}.{number}")
            self._rows.append(item_row(result))
        else:
            self._draw(result, f"{len(self._rows):04d}")
            self._rows.append(report_row(result))

    def _draw(self, result: Inspection | Unreadable, number: str) -> None:
        if isinstance(result, Inspection) and result.picture is not None:
            stem = printable(Path(result.image).stem).encode()[:_LONGEST_NAME]
            name = f"{number}-{stem.decode('utf-8', 'ignore')}.png"
            write_overlay(self._folder / name, result, result.picture)

    def finish(self, title: str, *, truth: Mapping[str, str] | None = None) -> Path:
        """Write `report.html` over all results; `truth` says what was expected, by image."""
        path = self._folder / "report.html"
        write_report(path, self._rows, title=title, truth=truth)
        return path
