"""Calibrations on disk: what pristine pictures score, and the rates an operator set.

    calibrations/<UTC>-<16 hex of the content's sha256>.json   sealed; its page lies beside it

`gallery` keeps them and knows which serves; what is in them is the business of who wrote it. One
that is written never changes. CURRENT names one, and keeps naming it when builds and deltas are
published or rolled back: whether it still holds for what serves is for its reader to say.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from embeddings.fingerprint import digest_json
from gallery import durable
from gallery.errors import UnknownCalibration
from gallery.publish import point_to, read_current

FOLDER = "calibrations"
_WAIT_S = 10.0


def adopt_calibration(root: Path, body: Mapping[str, Any], *, page: str | None = None) -> str:
    """Keep a calibration, with its HTML `page`, and make it serve; returns its ID.

    Raises `NotAGallery` where nothing is published, `GalleryBusy`, `StorageError`; then what served
    goes on.
    """
    now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    calibration_id = f"{now}-{digest_json(body)[:16]}"
    with durable.writer_lock(root / "builds", wait_s=_WAIT_S):
        current = read_current(root)
        durable.remove_partials(root / FOLDER)
        if page is not None:
            durable.write_file(root / FOLDER / f"{calibration_id}.html", page.encode())
        durable.write_sealed(calibration_path(root, calibration_id), dict(body))
        point_to(root, replace(current, calibration=calibration_id))
    return calibration_id


def read_calibration(root: Path, calibration_id: str) -> dict[str, Any]:
    """The body of one. Raises `UnknownCalibration`, `DamagedGallery`."""
    path = calibration_path(root, calibration_id)
    if not path.is_file():
        raise UnknownCalibration(
            f"{path}: no such calibration; `amiss calibrate {root} --budget RATE` makes one"
        )
    body = durable.read_sealed(path, what="calibration")
    del body["format"]
    return dict(body)


def list_calibrations(root: Path) -> list[str]:
    """IDs of all that are kept, oldest first."""
    return sorted(path.stem for path in (root / FOLDER).glob("*.json"))


def calibration_path(root: Path, calibration_id: str) -> Path:
    return root / FOLDER / f"{calibration_id}.json"


def prune_calibrations(root: Path, *, serving: str | None, dry_run: bool) -> dict[str, int]:
    """Remove all but the one that serves and the one before it; {ID: bytes} of those that went.

    With the builds' writer lock held only.
    """
    names = list_calibrations(root)
    older = [name for name in names if serving is None or name < serving]
    kept = {serving, *older[-1:]}
    gone = {}
    for name in names:
        if name in kept:
            continue
        files = [calibration_path(root, name), calibration_path(root, name).with_suffix(".html")]
        there = [path for path in files if path.is_file()]
        gone[name] = sum(path.stat().st_size for path in there)
        with durable.storage_errors(root / FOLDER):
            for path in there if not dry_run else ():
                path.unlink()
    if gone and not dry_run:
        durable.sync_folder(root / FOLDER)
    return gone
