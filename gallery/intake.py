"""Takes a picture in: its files read, decoded, and stored before any journal line names them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from embeddings.errors import EmbeddingsError, ImageError, ImageTooSmall
from embeddings.images import printable, read_bytes, read_image, read_mask
from gallery import durable
from gallery.sources import Problem, SourceRow

MIN_SIDE_PX, MAX_ASPECT = 32, 16
"""Of what shows less nothing can be learned: four patches across a picture that is embedded as it
is; of one scaled to 448 px, the default, three and a half."""
OriginalPath = Callable[[str], Path]


@dataclass(frozen=True)
class Intake:
    """A source row whose files were read, checked and stored; digests are sha256 hex."""

    row: SourceRow
    image: str
    mask: str | None
    depth: str | None


def take_in(row: SourceRow, original_path: OriginalPath) -> Intake | Problem:
    """Every picture is decoded before it is accepted: what a build can't read, or what can't show a
    product, never comes in."""
    reading = row.image
    try:
        data = read_bytes(row.image)
        size = read_image(data).shape[:2]
        _require_room(row, size)
        reading = row.mask or row.image
        mask = read_bytes(row.mask) if row.mask else None
        if mask is not None:
            read_mask(mask, size=(size[0], size[1]))
        reading = row.depth or row.image
        depth = read_bytes(row.depth) if row.depth else None
    except EmbeddingsError as error:
        # The decoder saw only bytes: say which file they came from.
        message = str(error).removeprefix(f"{error.source}: ") if isinstance(
            error, ImageError) else str(error)  # fmt: skip
        return Problem(
            row.where or printable(row.image),
            error.code,
            f"{printable(reading.name)}: {message}",
        )
    stored = [_store(d, original_path) if d is not None else None for d in (data, mask, depth)]
    assert stored[0] is not None
    return Intake(row, stored[0], stored[1], stored[2])


def _require_room(row: SourceRow, size: tuple[int, ...]) -> None:
    short, long = sorted(size)
    if short >= MIN_SIDE_PX and long <= MAX_ASPECT * short:
        return
    raise ImageTooSmall(
        printable(row.image),
        f"{size[1]}x{size[0]} can't show a product: a reference has {MIN_SIDE_PX} px or more on "
        f"its shorter side, and is at most {MAX_ASPECT} times as long as wide",
    )


def _store(data: bytes, original_path: OriginalPath) -> str:
    digest = hashlib.sha256(data).hexdigest()
    path = original_path(digest)
    # Same name and length: already there. A damaged original is `check`'s to find, and is
    # healed here by writing the same content again.
    if not path.exists() or durable.file_digest(path) != digest:
        durable.write_file(path, data, staged_in=path.parents[2])  # the catalog's folder
    return digest
