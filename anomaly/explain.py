"""Figures -> words: what differs, where on the product, how much of it, against which reference.

Places are those of the picture as given, in ninths of the box around the product: the "upper left"
is where the eye finds it, however the product lies. Nothing is said in units that no one measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anomaly.results import AlignmentSummary, Evidence, Finding, Units

_TOLD = 2  # findings that are described; all are counted
_ALL_OVER = 0.5  # share of the product from which a finding has no place on it
_NAME = 12  # characters of a reference's ID, as overlays show it
_WORDS = (
    ("upper left", "top", "upper right"),
    ("left", "middle", "right"),
    ("lower left", "bottom", "lower right"),
)
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Extent:
    """Where the product lies in the picture as given: the box around it, and its area."""

    box_px: Box
    area_px: float


def product_extent(evidence: Evidence) -> Extent | None:
    """From the cells that count as product; None where no cell does."""
    on = evidence.comparison.product
    if not on.any():
        return None
    centres = evidence.view.centres_in_picture().reshape(*on.shape, 2).astype(np.float64)
    height, width = evidence.view.picture_size
    low, high = np.clip([centres[on].min(axis=0), centres[on].max(axis=0)], 0, [width, height])
    right, down = (
        np.diff(centres, axis=axis)[0, 0] if centres.shape[axis] > 1 else np.zeros(2)
        for axis in (1, 0)
    )
    cell = abs(float(right[0] * down[1] - right[1] * down[0]))
    return Extent((*map(float, low), *map(float, high)), cell * float(on.sum()))  # type: ignore[arg-type]


def what_differs(
    findings: Sequence[Finding],
    *,
    product: Extent | None,
    alignment: AlignmentSummary,
    units: Units | None = None,
) -> str:
    """How many findings of each kind, then the clearest ones and their places in words."""
    if not findings:
        return "differs from its references"
    kinds = sorted(Counter(f.kind for f in findings).items(), key=lambda item: (-item[1], item[0]))
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds)
    clearest = sorted(findings, key=lambda finding: -finding.score)[:_TOLD]
    told = "; ".join(dict.fromkeys(_told(finding, product) for finding in clearest))
    if units is not None:
        told = f"{units.found} of {units.total} units found; {told}"
    return f"differs from {_against(alignment)}: {counts}: {told}"


def compared_with(alignment: AlignmentSummary, *, turning: bool) -> str:
    """How it was compared, for a picture that differs no more than pristine ones."""
    if turning:
        return "compared wherever its print lies, as it turns about its axis"
    if alignment.status == "aligned":
        return f"place by place against {_against(alignment)}"
    return "compared wherever it lies"


def place_on(box: Box, whole: Box) -> str:
    """Which ninth of `whole` the middle of `box` lies in; what lies beside it counts as its
    border."""
    row, column = (
        int(np.clip(3 * ((low + high) / 2 - start) // max(stop - start, 1e-9), 0, 2))
        for low, high, start, stop in (
            (box[1], box[3], whole[1], whole[3]),
            (box[0], box[2], whole[0], whole[2]),
        )
    )
    return _WORDS[row][column]


def _told(finding: Finding, product: Extent | None) -> str:
    if finding.bbox_px is None:
        return "something of the product is nowhere in the picture"
    if product is None:
        return f"{_VERBS[finding.kind]} in the picture"
    place = place_on(finding.bbox_px, product.box_px)
    if finding.kind == "spill":
        where = "around it" if place == "middle" else f"at its {place}"
        return f"something lies beside the product, {where}"
    share = (finding.area_px or 0.0) / max(product.area_px, 1e-9)
    if share > _ALL_OVER:
        return f"{_VERBS[finding.kind]} all over the product"
    return f"{_VERBS[finding.kind]} at the {place} of the product, {_percent(share)} of it"


_VERBS = {
    "added": "something is added",
    "missing": "something is missing",
    "changed": "it looks otherwise",
    "spill": "something lies beside the product",
}


def _against(alignment: AlignmentSummary) -> str:
    if alignment.status == "aligned" and alignment.reference_id is not None:
        return f"reference {alignment.reference_id[:_NAME]}"
    return "its references"


def _percent(share: float) -> str:
    return "less than 1%" if share < 0.01 else f"{share:.0%}"
