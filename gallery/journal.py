"""The catalog's journal: checked lines, of which a crash can cut short only the last."""

from __future__ import annotations

import getpass
import hashlib
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path

from gallery.errors import DamagedGallery, GalleryError


def journal_lines(path: Path) -> Iterator[tuple[bytes, dict[str, object]]]:
    """Whole lines with their entries. A last line without an end is a crash's, and ignored."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise DamagedGallery(f"{path}: the journal can't be read ({error.strerror})") from error
    for number, line in enumerate(lines, start=1):
        if not line.endswith(b"\n"):
            return
        try:
            yield line, _unsealed(line)
        except GalleryError as error:
            raise DamagedGallery(f"{path} line {number}: {error}") from error


def keys_added(path: Path, *, until: int) -> frozenset[int]:
    """Keys of all references that the first `until` deeds brought, whatever became of them."""
    entries = itertools.islice((entry for _, entry in journal_lines(path)), until)
    return frozenset(
        int(str(e["product_no"])) << 16 | int(str(e["slot"]))
        for e in entries
        if e["deed"] in ("add", "replace")
    )


def sealed(text: str) -> bytes:
    """A line that tells whether it is whole."""
    body = text.encode()
    return hashlib.sha256(body).hexdigest()[:16].encode() + b" " + body + b"\n"


def _unsealed(line: bytes) -> dict[str, object]:
    seal, _, body = line.rstrip(b"\n").partition(b" ")
    if hashlib.sha256(body).hexdigest()[:16].encode() != seal:
        raise DamagedGallery("the line's checksum does not match")
    return dict(json.loads(body))


def user_name() -> str:
    """Who does a deed, where nobody says."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no passwd entry, as in many containers
        return f"uid {os.getuid()}"
