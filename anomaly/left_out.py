"""One reference against its siblings, itself left out: what is kept of it in a `profile`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from anomaly.results import OF_PLACES, EvidenceKind
from anomaly.tolerance import Maps, Stored
from gallery.records import Record


@dataclass(frozen=True)
class LeftOut:
    """Raw channel scores of one reference against its siblings; `placed` empty if none registered.

    registered  siblings that registered, unless the patches refute it, of those `compared`
    distance  cosine distance to the nearest sibling's vector
    reference_id  whose they are
    maps      what its placed channels said, cell by cell
    bare      their raw scores, not set against what is usual at each place
    laid, gliding  siblings compared place by place, and those whose print went round the body
    relit     whether it lies in other light than they do, where that was asked
    """

    placed: Mapping[str, float]
    anywhere: Mapping[str, float]
    registered: int
    compared: int
    distance: float
    reference_id: str = ""
    maps: Maps = field(default_factory=dict, compare=False)
    bare: Mapping[str, float] = field(default_factory=dict)
    laid: int = 0
    gliding: int = 0
    relit: bool = False


def raw_of(entry: LeftOut, kind: EvidenceKind) -> dict[str, float]:
    """A reference's raw scores that are such evidence, by channel."""
    raw = entry.anywhere if kind in ("anywhere", "loose") else entry.placed
    return without_places(raw) if kind == "turning" else dict(raw)


def without_places(raw: Mapping[str, float]) -> dict[str, float]:
    """What a comparison by place would say if the product turned, by channel."""
    return {name: value for name, value in raw.items() if name not in OF_PLACES}


def read_left_out(entry: Mapping[str, Any], record: Record) -> LeftOut:
    """What a profile's record holds; `maps` only where the record was read with its arrays."""
    maps = {
        name: Stored(record.arrays[key], highest)
        for name, highest in entry["maps"].items()
        if (key := f"{entry['reference_id']}/{name}") in record.arrays
    }
    return LeftOut(**{**entry, "maps": maps})
