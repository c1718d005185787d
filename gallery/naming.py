"""Which references of a product people mean: by ID, its first digits, or the file's name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from gallery.errors import SourceError

_DIGITS = 8  # of an ID that are enough


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
    return row.name == name or (len(name) >= _DIGITS and row.reference_id.startswith(name))
