"""A reference's picture as it was imported, for those who must see more than its record."""

from __future__ import annotations

import hashlib
from pathlib import Path

from gallery.errors import DamagedGallery


def read_reference_picture(root: Path, reference_id: str) -> bytes:
    """The bytes of a reference's original in the catalog of the gallery at `root`, verified.

    Raises `DamagedGallery` when the catalog no longer holds it, or holds something else.
    """
    folder = root / "catalog" / "originals" / reference_id[:2]
    found = sorted(folder.glob(f"{reference_id}*"))
    if len(found) != 1:
        raise DamagedGallery(f"{folder}: {len(found)} originals of reference {reference_id}")
    try:
        data = found[0].read_bytes()
    except OSError as error:
        raise DamagedGallery(f"{found[0]}: can't be read ({error.strerror})") from error
    if hashlib.sha256(data).hexdigest() != found[0].name:
        raise DamagedGallery(f"{found[0]}: not what was imported (sha256 differs)")
    return data


def read_original(root: Path, digest: str) -> bytes:
    """An original's bytes by their sha256, verified; `DamagedGallery` names the file."""
    path = root / "catalog" / "originals" / digest[:2] / digest
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DamagedGallery(f"{path}: the original can't be read ({error.strerror})") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise DamagedGallery(f"{path}: the original is not what was imported (sha256 differs)")
    return data
