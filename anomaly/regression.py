"""The frozen regression set: pictures with known answers that no build may get worse at.

    GALLERY/regression/set.json            {format, frozen, by, cases, sha256}
    GALLERY/regression/pictures/<sha256>   bytes as they came

It is frozen by people (`amiss freeze`), from pictures that were inspected and confirmed, and
replaced as a whole; builds never change it. Without one the gate passes and says so.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from anomaly.config import DEFAULT_BUDGET, MAX_WORSE
from embeddings.embedder import Embedder
from embeddings.errors import EmbeddingsError
from embeddings.images import printable, read_bytes, read_image
from gallery import durable
from gallery.catalog import open_catalog
from gallery.errors import DamagedGallery, SourceError
from gallery.gates import Candidate, GateResult
from gallery.journal import user_name
from gallery.reader import Gallery
from gallery.sources import Problem, SourceRow, read_source

KINDS = ("ok", "damaged")
_NAMED = 10


@dataclass(frozen=True)
class Case:
    """A picture of a product and whether it shows damage; `picture`: sha256 hex of its bytes."""

    product_id: str
    picture: str
    damaged: bool
    name: str


@dataclass(frozen=True)
class Frozen:
    """What `freeze` kept, and what it could not read."""

    cases: tuple[Case, ...]
    problems: tuple[Problem, ...]


def freeze(source: str | Path, root: str | Path, *, by: str | None = None) -> Frozen:
    """Make the pictures in `source`/ok and `source`/damaged, a folder per product in each, the set.

    It takes the place of the set that is there. Raises `SourceError` if neither folder holds a
    picture of a product of the catalog that can be read; then that set stays.
    """
    place, folder = Path(source), open_catalog(Path(root)).root / "regression"
    products = {row.product_id for row in open_catalog(Path(root)).rows()}
    cases: dict[str, Case] = {}
    problems: list[Problem] = []
    for kind in KINDS:
        if not (place / kind).is_dir():
            continue
        found = read_source(place / kind)
        problems += found.problems
        for row in found.rows:
            case = _taken(row, folder, products, damaged=kind == "damaged")
            if isinstance(case, Problem):
                problems.append(case)
            else:
                cases[f"{case.picture} {case.product_id}"] = case
    if not cases:
        raise SourceError(
            f"{place}: no pictures to freeze; expected {place}/ok/PRODUCT/*.jpg and "
            f"{place}/damaged/PRODUCT/*.jpg"
        )
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    kept = tuple(cases.values())
    durable.write_sealed(
        folder / "set.json",
        {"frozen": now, "by": by or user_name(), "cases": [asdict(case) for case in kept]},
    )
    return Frozen(kept, tuple(problems))


def _taken(row: SourceRow, folder: Path, products: set[str], *, damaged: bool) -> Case | Problem:
    """The case of a row, its picture stored; or why there is none."""
    where = printable(row.image)
    if row.product_id not in products:
        return Problem(where, "unknown_product", f"the catalog has no product {row.product_id!r}")
    try:
        data = read_bytes(row.image)
        read_image(data, name=where)
    except EmbeddingsError as error:
        return Problem(where, error.code, str(error).removeprefix(f"{where}: "))
    digest = hashlib.sha256(data).hexdigest()
    durable.write_file(folder / "pictures" / digest, data)
    return Case(row.product_id, digest, damaged, printable(row.image.name))


def frozen_cases(root: Path) -> tuple[Case, ...]:
    """The set of the gallery at `root`; empty where none was frozen. Raises `DamagedGallery`."""
    path = root / "regression" / "set.json"
    if not path.is_file():
        return ()
    rows = durable.read_sealed(path, what="regression set")["cases"]
    return tuple(Case(**row) for row in rows)  # type: ignore[attr-defined]


class Regression:
    """The frozen pictures are answered as well as by what serves now.

    Right is `ok` for a pristine picture, `damaged` or `review` for a damaged one. The figure is the
    share that is answered wrongly now and was not before, less the other way round; a picture whose
    product one of the two builds hasn't got is left out. It takes two inspections a picture.
    """

    name = "regression"

    def __init__(self, embedder: Embedder, *, most: float = MAX_WORSE) -> None:
        self._embedder, self._most = embedder, most

    def __call__(self, candidate: Candidate) -> GateResult:
        allowed = f"<= {self._most:.0%} more answered wrongly"
        gallery, parent = candidate.gallery, candidate.parent
        cases = frozen_cases(gallery.root)
        if not cases:
            message = "no pictures are frozen; `amiss freeze` does"
            return GateResult(self.name, True, None, allowed, message)
        known = [
            case
            for case in cases
            if case.product_id in gallery and (parent is None or case.product_id in parent)
        ]
        now = _wrong(known, gallery, self._embedder)
        before = now if parent is None else _wrong(known, parent, self._embedder)
        worse = [case.name for case in known if case in now - before]
        figure = (len(now) - len(before)) / max(1, len(known))
        message = (
            f"{len(known)} of {len(cases)} frozen pictures: {len(before)} answered wrongly before, "
            f"{len(now)} now"
        )
        if worse:
            message += f"; newly wrong: {', '.join(worse[:_NAMED])}"
        return GateResult(self.name, figure <= self._most, figure, allowed, message)


def _wrong(cases: Sequence[Case], gallery: Gallery, embedder: Embedder) -> set[Case]:
    """The cases that a build answers wrongly."""
    from anomaly.answer import Request
    from anomaly.inspection import inspect_picture
    from anomaly.pipeline import StageClock
    from anomaly.serving import Serving

    serving = Serving(gallery, embedder)
    found = set()
    for case in cases:
        pixels = read_image(_picture(gallery.root, case))
        request = Request(pixels, case.name, case.product_id, None, DEFAULT_BUDGET, picture=False)
        verdict = inspect_picture(request, serving, clock=StageClock()).verdict
        if (verdict in ("damaged", "review")) if case.damaged else verdict == "ok":
            continue
        found.add(case)
    return found


def _picture(root: Path, case: Case) -> bytes:
    path = root / "regression" / "pictures" / case.picture
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DamagedGallery(f"{path}: can't be read ({error.strerror})") from error
    if hashlib.sha256(data).hexdigest() != case.picture:
        raise DamagedGallery(f"{path}: the picture is not what was frozen (sha256 differs)")
    return data
