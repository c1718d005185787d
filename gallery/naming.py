"""What people mean: references by ID, its first digits, or the file's name; slips in names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from embeddings.images import printable
from gallery.errors import SourceError

_DIGITS = 8  # of an ID that are enough
_MOST_NAMES = 5000  # among which a slip is looked for, a tenth of a second
_ALIKE = 0.7  # difflib's ratio from which a name may be a slip for another


class Named(Protocol):
    """A reference as the catalog knows it."""

    @property
    def name(self) -> str: ...

    @property
    def slot(self) -> int: ...

    @property
    def reference_id(self) -> str: ...


Row = TypeVar("Row", bound=Named)


def chosen(rows: Iterable[Row], product_id: str, wanted: Sequence[str] | None) -> list[Row]:
    """The rows of a product that `wanted` names (None: all), in slot order.

    Raises `SourceError` for a name that no row has.
    """
    ordered = sorted(rows, key=lambda row: row.slot)
    for name in wanted or ():
        if not any(is_named(row, name) for row in ordered):
            raise SourceError(f"{product_id!r} has no reference {name!r} in the catalog")
    return [row for row in ordered if wanted is None or any(is_named(row, n) for n in wanted)]


def is_named(row: Named, name: str) -> bool:
    """As a file is called, or shown, or by its ID."""
    return printable(row.name) == printable(name) or (
        len(name) >= _DIGITS and row.reference_id.startswith(name)
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question that names the nearest of `known`, for the end of a message; empty if none is. Of
    very many, one in other letter case: others take seconds to find."""
    folded = {other.casefold(): other for other in known}
    if len(folded) > _MOST_NAMES:
        folded = {key: folded[key] for key in folded.keys() & {name.casefold()}}
    for nearest in difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=_ALIKE):
        return f"; did you mean {folded[nearest]!r}?"
    return ""
