"""A batch of inspections as one self-contained HTML page; everything in it is escaped.

rows = [report_row(result) for result in results]    # a row keeps a thumbnail, not the picture
write_report(Path("report.html"), rows, title="Line 3")
"""

from __future__ import annotations

import base64
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from anomaly.item import ItemInspection
from anomaly.overlay import draw_panels
from anomaly.results import Inspection, Unreadable
from anomaly.schema import as_json, item_as_json
from gallery import durable

_ORDER = (
    "damaged", "review", "cannot_compare", "wrong_product", "unknown_product", "error", "ok",
)  # fmt: skip
_PANEL_PX = 217  # four of them and their gaps are 908 px wide
_QUALITY = 75
_WORDS = {"pristine": "ok", "unreadable": "error"} | {outcome: outcome for outcome in _ORDER}


@dataclass(frozen=True)
class Row:
    """One line of a report.

    result     the `amiss.inspect/1` object, or `amiss.item/1` where there are `views`
    thumbnail  JPEG of the panels, or None where no picture was kept
    size       (width, height) of the thumbnail in pixels
    views      a row for each view of an item; empty for a picture by itself
    """

    result: Mapping[str, Any]
    thumbnail: bytes | None = None
    size: tuple[int, int] = (0, 0)
    views: tuple[Row, ...] = ()

    @property
    def outcome(self) -> str:
        """The verdict, or `error`."""
        return "error" if "error" in self.result else str(self.result["verdict"])


def report_row(result: Inspection | Unreadable) -> Row:
    """What a report says of one result; the result's picture may be dropped afterwards."""
    if isinstance(result, Unreadable) or result.picture is None:
        return Row(as_json(result))
    from PIL import Image

    panels = draw_panels(result, result.picture, panel_px=_PANEL_PX)
    data = io.BytesIO()
    Image.fromarray(panels).save(data, "JPEG", quality=_QUALITY, optimize=True)
    return Row(as_json(result), data.getvalue(), (panels.shape[1], panels.shape[0]))


def item_row(item: ItemInspection) -> Row:
    """What a report says of an item and its views."""
    return Row(item_as_json(item), views=tuple(report_row(view) for view in item.views))


def write_report(
    path: Path,
    rows: Sequence[Row],
    *,
    title: str,
    truth: Mapping[str, str] | None = None,
    date: str | None = None,
) -> None:
    """Write the page, most suspicious first. Raises `StorageError`.

    `truth`: image -> what was expected: outcomes (a verdict, or error) joined by " or ", where
    pristine means ok; what follows in brackets is only shown: "damaged (missing blade)". `date`:
    shown as it is; the same arguments give the same bytes.
    """
    import jinja2

    template = resources.files("anomaly").joinpath("report.html.j2").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        finalize=lambda value: _unicode(value) if type(value) is str else value,
    )  # fmt: skip
    shown = [_shown(row, truth) for row in sorted(rows, key=_suspicion)]
    counts = Counter(row.outcome for row in rows)
    page = environment.from_string(template).render(
        title=title,
        date=date,
        rows=shown,
        counts={outcome: counts[outcome] for outcome in _ORDER if counts[outcome]},
        builds=sorted({str(r.result["build"]) for r in _pictures(rows) if "build" in r.result}),
        pictures=len(_pictures(rows)),
        items=sum(bool(row.views) for row in rows),
        truth=truth is not None,
        judged=sum(row["matched"] is not None for row in shown),
        matches=sum(row["matched"] is True for row in shown),
    )
    durable.write_file(path, page.encode())


def matches_truth(outcome: str, expected: str) -> bool | None:
    """Whether a verdict (or `error`) is what was expected; None if that names no outcome."""
    words = re.split(r"\s+or\s+|\|", expected.partition("(")[0].strip())
    named = [_WORDS.get(word.strip().lower().replace(" ", "_")) for word in words]
    wanted = {outcome for outcome in named if outcome is not None}
    return outcome in wanted if wanted else None


def _pictures(rows: Sequence[Row]) -> list[Row]:
    return [picture for row in rows for picture in (row.views or (row,))]


def _suspicion(row: Row) -> tuple[int, float]:
    score = row.result.get("score")
    return _ORDER.index(row.outcome), float("inf") if score is None else -score


def _shown(row: Row, truth: Mapping[str, str] | None) -> dict[str, Any]:
    """What the template needs of a row, in its words."""
    result = row.result
    name = str(result["item"] if row.views else result["image"])
    expected = None if truth is None else truth.get(name)
    code, text = _reason(result)
    thumbnail = row.thumbnail and base64.b64encode(row.thumbnail).decode()
    return {
        "result": result,
        "name": name,
        "views": [_shown(view, None) for view in row.views],
        "outcome": row.outcome,
        "rank": _ORDER.index(row.outcome),
        "code": code,
        "sentence": text if row.outcome == "error" else _sentence(text),
        "thumbnail": thumbnail,
        "size": row.size,
        "findings": [_finding(finding) for finding in result.get("findings", ())],
        "bar": _bar(result.get("score"), result.get("threshold")),
        "alignment": _alignment(result.get("alignment")),
        "total_ms": _total_ms(row),
        "expected": expected,
        "matched": None if expected is None else matches_truth(row.outcome, expected),
    }


def _total_ms(row: Row) -> float | None:
    spent = [r.result["timings_ms"] for r in _pictures([row]) if r.result.get("timings_ms")]
    return sum(sum(stages.values()) for stages in spent) if spent else None


def _reason(result: Mapping[str, Any]) -> tuple[str, str]:
    if "error" in result:
        return result["error"]["code"], result["error"]["message"]
    return result["reason"]["code"], result["reason"]["text"]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _finding(finding: Mapping[str, Any]) -> dict[str, Any]:
    where = "no place in the picture"
    if finding["bbox_px"] is not None:
        x0, y0, x1, y1 = finding["bbox_px"]
        where = f"{x1 - x0:.0f} x {y1 - y0:.0f} px at {x0:.0f}, {y0:.0f}"
    return {"kind": finding["kind"], "score": finding["score"], "where": where}


def _bar(score: float | None, threshold: float | None) -> dict[str, float] | None:
    """Score in percent of a bar that ends at twice the threshold; None where that has no sense."""
    if score is None or threshold is None or threshold <= 0:
        return None
    return {"percent": round(min(max(score / threshold, 0.0), 2.0) * 50, 1)}


def _alignment(alignment: Mapping[str, Any] | None) -> str:
    if alignment is None:
        return "nothing compared"
    if alignment["status"] == "failed":
        return "fits no reference"
    if alignment["status"] == "fallback":
        return "compared without place"
    inliers = alignment["inliers"]
    parts = [f"aligned, {inliers} inliers" if inliers else "aligned in place"]
    if alignment["residual_px"] is not None:
        parts.append(f"{alignment['residual_px']:.1f} px off")
    if alignment["overlap_fraction"] is not None:
        parts.append(f"{alignment['overlap_fraction']:.0%} shown")
    return ", ".join(parts)


def _unicode(text: str) -> str:
    """Names of files may be bytes that are no text: those are shown as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()
