"""A calibration as one self-contained HTML page: what it rests on, and recall against its rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

from anomaly.operating import OperatingPoint

if TYPE_CHECKING:
    from anomaly.calibrator import CalibrationReport

_WIDTH, _HEIGHT, _MARGIN = 640.0, 300.0, 44.0
_LABEL = 36.0  # width of a rate in figures
_GRID = (0.0, 0.25, 0.5, 0.75, 1.0)


def calibration_page(report: CalibrationReport, *, build: str) -> str:
    """The page; everything in it is escaped, nothing is loaded from outside."""
    import jinja2

    template = resources.files("anomaly").joinpath("calibration_report.html.j2").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page: str = environment.from_string(template).render(
        report=report,
        build=build,
        plot=_plot([p for p in report.points if p.promised], report.budget),
    )
    return page


def _plot(points: Sequence[OperatingPoint], budget: float) -> dict[str, Any] | None:
    """Coordinates in a box of 640 x 300: rates on a logarithmic axis, recall upwards; None for
    fewer than two points."""
    if len(points) < 2:
        return None
    low, high = math.log10(points[0].rate), math.log10(points[-1].rate)

    def x(rate: float) -> float:
        span = _WIDTH - 2 * _MARGIN
        return round(_MARGIN + span * (math.log10(rate) - low) / (high - low), 1)

    def y(share: float) -> float:
        return round(_HEIGHT - _MARGIN - (_HEIGHT - 1.5 * _MARGIN) * share, 1)

    labels = [(x(p.rate), f"{p.rate:.3g}") for p in points]
    upper = [f"{x(p.rate)},{y(p.interval[1])}" for p in points]
    lower = [f"{x(p.rate)},{y(p.interval[0])}" for p in reversed(points)]
    return {
        "width": _WIDTH,
        "height": _HEIGHT,
        "left": _MARGIN,
        "right": _WIDTH - _MARGIN,
        "bottom": y(0),
        "top": y(1),
        "band": " ".join(upper + lower),
        "line": " ".join(f"{x(p.rate)},{y(p.recall)}" for p in points),
        "dots": [{"x": x(p.rate), "y": y(p.recall)} for p in points],
        "rates": [{"x": place, "text": text} for place, text in _apart(labels)],
        "shares": [{"y": y(share), "text": f"{share:g}"} for share in _GRID],
        "budget": x(budget) if points[0].rate <= budget <= points[-1].rate else None,
    }


def _apart(labels: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """Those that don't run into the one before."""
    kept: list[tuple[float, str]] = []
    for place, text in labels:
        if not kept or place - kept[-1][0] >= _LABEL:
            kept.append((place, text))
    return kept
