"""Line charts and scatter charts as inline SVG, and the curves that are drawn in them.

Colours and dashes are classes (`s0` to `s7`) that the page's style sheet fills in for light and
dark; text is set in the page's own type. Coordinates are rounded, so the same data give the same
bytes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.evaluate import Result, by_seed, labelled
from benchmarks.metrics import Sweep, sweep
from benchmarks.records import Record

Floats = NDArray[np.floating[Any]]
COLOURS = 8
_WIDTH, _HEIGHT = 380, 290
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 10, 42
_RADIUS = 4.0
_GRID = np.linspace(0, 1, 201)
_LEVEL = re.compile(r"(.+?)\s+(-?\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Series:
    """Points of one scorer.

    colour  its place among the scorers
    spread  half the height of each point's bar
    radii   of the dots, in units of the drawing
    """

    name: str
    colour: int
    x: Sequence[float]
    y: Sequence[float]
    spread: Sequence[float] = ()
    radii: Sequence[float] = ()


@dataclass(frozen=True)
class Axis:
    """label; low and high ends; ticks as (value, text); a logarithmic scale if asked for."""

    label: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """0 at the low end, 1 at the high end; values beyond are held at the end."""
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        if self.logarithmic:
            low, high, at = math.log(low), math.log(high), math.log(at)
        return (at - low) / (high - low)


def unit_axis(label: str, *, low: float = 0.0) -> Axis:
    """From `low` to 1."""
    step = 0.2 if low < 0.25 else 0.1 if low < 0.75 else 0.05
    count = round((1 - low) / step)
    return Axis(label, low, 1.0, [(1 - i * step, f"{1 - i * step:.3g}") for i in range(count + 1)])


def log_axis(label: str, values: Sequence[float]) -> Axis:
    """Around positive values, ticks at 1, 3 and 10 of each decade."""
    positive = [value for value in values if value > 0] or [1.0]
    low, high = min(positive) / 1.4, max(positive) * 1.8
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [factor * 10.0**decade for decade in decades for factor in (1, 3)]
    return Axis(label, low, high, [(t, f"{t:g}") for t in ticks if low <= t <= high], True)


def level_axis(label: str, values: Sequence[float]) -> Axis:
    """Around the levels, a tick at each, at most 7."""
    levels = sorted(set(values))
    shown = levels[:: -(-len(levels) // 7)]
    margin = (levels[-1] - levels[0]) * 0.04 or 1.0
    ticks = [(level, f"{level:g}") for level in shown]
    return Axis(label, levels[0] - margin, levels[-1] + margin, ticks)


def chart(
    series: Sequence[Series], x: Axis, y: Axis, *, title: str, points: bool, diagonal: bool = False
) -> str:
    """An SVG of lines; `points`: marked, with bars of their spread. The first series is on top."""
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">',
        *_frame(x, y),
    ]
    if diagonal:
        parts.append(f'<path class="chance" d="{_path(x, y, (0, 1), (0, 1))}"/>')
    for one in reversed(series):
        parts.append(f'<g class="s{one.colour % COLOURS}"><title>{escape(one.name)}</title>')
        parts.append(f'<path class="line" d="{_path(x, y, one.x, one.y)}"/>')
        parts += _marks(one, x, y) if points else []
        parts.append("</g>")
    return "".join([*parts, "</svg>"])


def roc_curve(rows: Sequence[Record]) -> tuple[Floats, Floats]:
    """False positive rate and recall, the recall averaged over seeds at each rate."""

    def curve(swept: Sweep) -> Floats:
        fpr, recall = np.append(0.0, swept.fpr), np.append(0.0, swept.recall)
        last = np.append(fpr[1:] != fpr[:-1], True)  # of thresholds with equal rates
        return np.asarray(np.interp(_GRID, fpr[last], recall[last]))

    return _GRID, _over_seeds(rows, curve)


def pr_curve(rows: Sequence[Record]) -> tuple[Floats, Floats]:
    """Recall and precision, the precision averaged over seeds at each recall.

    At each recall the strictest threshold that reaches it: the area below is average precision.
    """

    def curve(swept: Sweep) -> Floats:
        first = np.searchsorted(swept.recall, _GRID[1:] - 1e-9)
        return np.asarray(swept.precision[np.minimum(first, swept.recall.size - 1)])

    return _GRID[1:], _over_seeds(rows, curve)


def level_order(name: str) -> tuple[str, float]:
    """Sorts the slices of a family by their number: "rotation 45" before "rotation 135"."""
    match = _LEVEL.fullmatch(name.strip())
    return (match[1], float(match[2])) if match else (name, 0.0)


def stress(results: Sequence[Result], figure: str = "auroc") -> dict[str, list[Result]]:
    """Families of slices that are named by a number, such as "rotation 45": who was measured.

    Family -> results that have the figure at two levels or more; see `stress_series`.
    """
    families: dict[str, list[Result]] = {}
    for result in results:
        for family in sorted({name for name, _ in _levels(result, figure)}):
            if len({level for name, level in _levels(result, figure) if name == family}) > 1:
                families.setdefault(family, []).append(result)
    return families


def stress_series(result: Result, family: str, colour: int, figure: str = "auroc") -> Series:
    """The figure of each level of a family, levels rising."""
    levels = sorted(
        (level, spread)
        for (name, level), spread in _levels(result, figure).items()
        if name == family
    )
    return Series(
        result.scorer,
        colour,
        [level for level, _ in levels],
        [mean for _, (mean, _) in levels],
        [sd for _, (_, sd) in levels],
    )


def _levels(result: Result, figure: str) -> dict[tuple[str, float], tuple[float, float]]:
    found = {}
    for name, figures in result.slices.items():
        match = _LEVEL.fullmatch(name.strip())
        if match and figure in figures:
            spread = figures[figure]
            found[match[1], float(match[2])] = (spread.mean, spread.sd or 0.0)
    return found


def _over_seeds(rows: Sequence[Record], curve: Callable[[Sweep], Floats]) -> Floats:
    """Mean curve of the seeds that have both classes; empty without one."""
    swept = [
        sweep([row.score for row in own], [bool(row.damaged) for row in own])
        for own in by_seed(labelled(rows)).values()
    ]
    curves = [curve(one) for one in swept if one.tp[-1] and one.fp[-1]]
    return np.mean(curves, 0) if curves else np.zeros(0)


def _frame(x: Axis, y: Axis) -> list[str]:
    """Grid, ticks and labels."""
    left, right, top, bottom = _LEFT, _WIDTH - _RIGHT, _TOP, _HEIGHT - _BOTTOM
    parts = []
    for value, text in y.ticks:
        at = _y(y, value)
        parts.append(f'<path class="grid" d="M{left} {at}H{right}"/>')
        parts.append(f'<text class="end" x="{left - 6}" y="{at + 4:g}">{escape(text)}</text>')
    for value, text in x.ticks:
        at = _x(x, value)
        parts.append(f'<path class="grid" d="M{at} {top}V{bottom}"/>')
        parts.append(f'<text class="mid" x="{at}" y="{bottom + 16}">{escape(text)}</text>')
    middle = (left + right) / 2
    parts.append(f'<text class="mid" x="{middle:g}" y="{_HEIGHT - 6}">{escape(x.label)}</text>')
    middle = (top + bottom) / 2
    turned = f'x="11" y="{middle:g}" transform="rotate(-90 11 {middle:g})"'
    parts.append(f'<text class="mid" {turned}>{escape(y.label)}</text>')
    return parts


def _marks(one: Series, x: Axis, y: Axis) -> list[str]:
    """Bars below dots."""
    bars, dots = [], []
    count = len(one.x)
    spreads, radii = one.spread or [0.0] * count, one.radii or [_RADIUS] * count
    for value, height, half, radius in zip(one.x, one.y, spreads, radii, strict=True):
        at = _x(x, value)
        if half:
            low, high = _y(y, height - half), _y(y, height + half)
            bars.append(f'<path class="bar" d="M{at} {low}V{high}"/>')
        dots.append(f'<circle cx="{at}" cy="{_y(y, height)}" r="{radius:g}"/>')
    return bars + dots


def _path(x: Axis, y: Axis, xs: Sequence[float], ys: Sequence[float]) -> str:
    return "M" + "L".join(f"{_x(x, a)} {_y(y, b)}" for a, b in zip(xs, ys, strict=True))


def _x(axis: Axis, value: float) -> float:
    return round(_LEFT + axis.place(float(value)) * (_WIDTH - _LEFT - _RIGHT), 1)


def _y(axis: Axis, value: float) -> float:
    return round(_HEIGHT - _BOTTOM - axis.place(float(value)) * (_HEIGHT - _TOP - _BOTTOM), 1)
