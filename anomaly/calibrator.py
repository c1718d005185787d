"""Learns a calibration and makes it serve: what `amiss calibrate` does.

Pristine scores come from three places: each product's references against their siblings (stored by
the build), further pristine pictures, and inspections that people confirmed pristine, whose
pictures are inspected again under what serves now. A picture that is a reference, or came before,
counts for nothing: it would match itself. Nor does one that can't be compared or shows another
product: no score decides about those.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from anomaly.answer import Request
from anomaly.builder import Progress, _quiet, embedder_for
from anomaly.calibrate import within
from anomaly.calibration import (
    CALIBRATED,
    PristineScores,
    SidelineCalibration,
    as_body,
    check_rates,
    kept_as,
    references_digest,
)
from anomaly.calibration_report import calibration_page
from anomaly.config import inspect_config
from anomaly.inspection import inspect_picture
from anomaly.log import InspectionLog
from anomaly.nulls import comparable_fields, counted
from anomaly.operating import OperatingPoint, Shown, operating_points
from anomaly.pipeline import SCORING, StageClock
from anomaly.results import EvidenceKind, Inspection
from anomaly.serving import Serving
from embeddings.embedder import Embedder
from embeddings.errors import EmbeddingsError
from embeddings.images import printable, read_bytes, read_image, read_mask
from embeddings.threads import limit_threads, one_blas_thread
from gallery.calibrations import adopt_calibration, read_calibration
from gallery.errors import DamagedGallery, UnknownCalibration
from gallery.naming import did_you_mean
from gallery.publish import read_current
from gallery.reader import Gallery
from gallery.sources import Problem, read_source

_UNDECIDED = ("cannot_compare", "wrong_product", "unknown_product", "not_sharp")
"""Verdicts and reasons of pictures whose score no threshold is held to."""
_LOOKED_AT = {"seen_before", "cannot_compare", "wrong_product", "not_sharp", "no_longer_known"}


@dataclass(frozen=True)
class Evidenced:
    """A picture that people know the truth of. `where`: what messages call it; `origin`: normals
    or log; `mask`: reads where the product is, None: nobody said."""

    origin: str
    where: str
    product_id: str
    read: Callable[[], bytes]
    mask: Callable[[], bytes] | None = None


@dataclass(frozen=True)
class Attainable:
    """The smallest `rate` that can be promised to the `products` of a gallery that may be compared
    so and have so many `references`, 3 stands for more as well; None where there is no score. Kinds
    of evidence that don't hang on their number have 1 for all."""

    kind: EvidenceKind
    references: int
    products: int
    rate: float | None

    @property
    def compared(self) -> str:
        """How they are, in words."""
        if self.kind in ("turning", "anywhere"):
            return {"turning": "as they turn", "anywhere": "without place"}[self.kind]
        count = {1: "one reference", 2: "two references", 3: "three references or more"}
        how = {"placed": "in place", "loose": "as loose goods"}[self.kind]
        return f"{how} with {count[self.references]}"


@dataclass(frozen=True)
class Replaced:
    """The calibration that was in force: how many pictures it knew, and its review band."""

    calibration_id: str
    normals: int
    log: int
    review: float | None


@dataclass
class CalibrationReport:
    """What was made of what.

    counts      scores by origin: left_out, normals, log; damaged
    attainable  the smallest rate that can be promised to a product
    points      recall against sideline rate; empty without damaged pictures
    left        pictures that don't count, and why
    replaced    what served before, or None
    """

    calibration_id: str
    budget: float
    review: float | None
    products: int
    counts: dict[str, int]
    attainable: list[Attainable]
    points: list[OperatingPoint] = field(default_factory=list)
    left: list[Problem] = field(default_factory=list)
    replaced: Replaced | None = None

    @property
    def faults(self) -> list[Problem]:
        """Those of `left` that could not even be looked at: unreadable, or of no product."""
        return [problem for problem in self.left if problem.code not in _LOOKED_AT]

    @property
    def forgotten(self) -> list[str]:
        """What the calibration before had and this one has not, in words."""
        old, words = self.replaced, list[str]()
        if old is None:
            return words
        for origin, what in (("normals", "pristine pictures"), ("log", "confirmed inspections")):
            had, has = getattr(old, origin), self.counts[origin]
            if had > has:
                words.append(f"{had:,} {what} (now {has:,})")
        if old.review is not None and self.review is None:
            words.append(f"a review band of {old.review:g} (now none)")
        return words

    @property
    def attained(self) -> bool:
        """Whether the budget can be promised to all products. Of one with a form that couldn't be
        placed nothing is decided."""
        return all(self.promises(found) for found in self.attainable if found.kind != "anywhere")

    def promises(self, found: Attainable) -> bool:
        """Whether the budget can be promised to these products."""
        return found.rate is not None and within(found.rate, self.budget)


def calibrate_gallery(
    root: str | Path,
    *,
    budget: float,
    review: float | None = None,
    normals: str | Path | None = None,
    damaged: str | Path | None = None,
    log: str | Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    progress: Progress = _quiet,
) -> CalibrationReport:
    """Learn what pristine pictures score and make it serve, with these rates.

    `normals`, `damaged`: pictures by product, as `import` reads them. `log`: its inspections
    confirmed pristine or damaged count, too. Raises `ConfigError` for rates that are none,
    `SourceError`, `LogError`, and what opening a gallery does.
    """
    config = inspect_config(
        given={"device": device, "threads": threads, "budget": budget, "review": review}
    )
    check_rates(budget, review)
    if threads is not None:
        limit_threads(threads)
    left: list[Problem] = []
    pristine = [*_listed(normals, left), *_confirmed(log, "pristine")]
    broken = [*_listed(damaged, left), *_confirmed(log, "damaged")]
    with Gallery.open(root) as gallery, one_blas_thread:
        serving = Serving(gallery, embedder_for(gallery, device=config.device))
        bench = _Bench(serving, left, progress)
        products = bench.profiles()
        counts = {"left_out": sum(max(map(len, p.left_out.values())) for p in products.values())}
        counts |= bench.add(products, pristine)
        made = _made(serving, budget, review, products)
        shown = list(bench.shown(broken))
        counts["damaged"] = len(shown)
        return _adopted(Path(root), serving.embedder, made, gallery, counts, shown, left)


def _adopted(
    root: Path,
    embedder: Embedder,
    made: SidelineCalibration,
    gallery: Gallery,
    counts: dict[str, int],
    shown: list[Shown],
    left: list[Problem],
) -> CalibrationReport:
    serving = Serving(gallery, embedder, calibration=made)
    points = operating_points(serving, shown) if shown else []
    attainable = _attainable(made)
    report = CalibrationReport(
        "", made.budget, made.review, len(made.products), counts, attainable, points, left,
        _replaced(root),
    )  # fmt: skip
    body = as_body(made) | {
        "counts": counts,
        "operating_points": [point.as_json() for point in points],
    }
    page = calibration_page(report, build=made.build)
    return replace(report, calibration_id=adopt_calibration(root, body, page=page))


def _replaced(root: Path) -> Replaced | None:
    """What is in force. One that can't be read is nothing to keep."""
    with suppress(DamagedGallery, UnknownCalibration):
        if (named := read_current(root).calibration) is not None:
            body = read_calibration(root, named)
            counts = body.get("counts", {})
            return Replaced(
                named, counts.get("normals", 0), counts.get("log", 0), body.get("review")
            )
    return None


def _attainable(made: SidelineCalibration) -> list[Attainable]:
    found = []
    for kind in CALIBRATED:
        asked = [product for product in made.products.values() if kind in product.left_out]
        groups = [counted(kind, product.count) for product in asked]
        for group in sorted(set(groups)):
            rate = made.attainable(kind, group)
            found.append(Attainable(kind, group, groups.count(group), rate))
    return found


def _made(
    serving: Serving,
    budget: float,
    review: float | None,
    products: dict[str, PristineScores],
) -> SidelineCalibration:
    gallery = serving.gallery
    return SidelineCalibration(
        budget=budget,
        review=review,
        build=gallery.build_id,
        delta=gallery.delta_id,
        catalog_seq=gallery.catalog_seq,
        scoring=SCORING.digest,
        embedding=comparable_fields(serving.fingerprint),
        priors=serving.nulls.priors,
        products=products,
    )


@dataclass
class _Bench:
    """Where pictures are inspected. `left`: takes those that don't count."""

    serving: Serving
    left: list[Problem]
    progress: Progress
    seen: set[str] = field(default_factory=set)

    def profiles(self) -> dict[str, PristineScores]:
        """What each product's references score; the pictures are to come."""
        found, gallery, priors = {}, self.serving.gallery, self.serving.nulls.priors
        for number, name in enumerate(gallery.product_ids()):
            profile = self.serving.profile(name)
            kinds = [profile.kind(placed=placed) for placed in (True, False)]
            left_out = {k: profile.null_scores(priors, kind=k).tolist() for k in kinds}
            if "placed" in left_out:
                left_out["placed"] += profile.null_scores(priors, kind="relit").tolist()
            ids = [reference.reference_id for reference in self.serving.counted(name)]
            found[name] = PristineScores(
                references_digest(ids), len(ids), left_out, {kind: [] for kind in kinds}
            )
            self.progress("profiles", number + 1, len(gallery))
        return found

    def add(
        self, products: dict[str, PristineScores], pictures: Sequence[Evidenced]
    ) -> dict[str, int]:
        """Inspect pristine pictures; how many count, by origin."""
        counts = {"normals": 0, "log": 0}
        for number, picture in enumerate(pictures):
            shown = self._inspected(picture)
            if shown is not None:
                scores = products[shown.product_id].pictures[kept_as(shown.kind)]
                assert isinstance(scores, list)
                scores.append(shown.score)
                counts[picture.origin] += 1
            self.progress("pristine", number + 1, len(pictures))
        return counts

    def shown(self, pictures: Sequence[Evidenced]) -> Iterator[Shown]:
        """Inspect damaged pictures; one that can't be compared is a damage that isn't found."""
        for number, picture in enumerate(pictures):
            found = self._inspected(picture, damaged=True)
            if found is not None:
                yield found
            self.progress("damaged", number + 1, len(pictures))

    def _inspected(self, picture: Evidenced, *, damaged: bool = False) -> Shown | None:
        gallery, where = self.serving.gallery, picture.where
        if picture.product_id not in gallery:
            gone = picture.origin == "log"
            code = "no_longer_known" if gone else "unknown_product"
            near = did_you_mean(picture.product_id, gallery.product_ids())
            self._leave(picture, code, f"no product {picture.product_id!r}{near}")
            return None
        try:
            data = picture.read()
            pixels = read_image(data, name=where)
            size = (pixels.shape[0], pixels.shape[1])
            marked = picture.mask
            mask = None if marked is None else read_mask(marked(), size=size, name=where)
        except EmbeddingsError as error:
            self._leave(picture, error.code, str(error).removeprefix(f"{where}: "))
            return None
        digest = hashlib.sha256(data).hexdigest()
        stored = gallery.stored(picture.product_id).references
        if digest in self.seen or any(digest.startswith(r.reference_id) for r in stored):
            self._leave(picture, "seen_before", "is a reference, or came before")
            return None
        self.seen.add(digest)
        request = Request(pixels, picture.where, picture.product_id, mask, 0.01, False)
        result = inspect_picture(request, self.serving, clock=StageClock())
        undecided = _undecided(result)
        if undecided is not None and not damaged:
            self._leave(picture, undecided, result.reason.text)
            return None
        return _shown(result)

    def _leave(self, picture: Evidenced, code: str, message: str) -> None:
        self.left.append(Problem(picture.where, code, message))


def _undecided(result: Inspection) -> str | None:
    """The verdict or reason by which no score decides; None where one does."""
    said = (result.verdict, result.reason.code)
    return next((word for word in said if word in _UNDECIDED), None)


def _shown(result: Inspection) -> Shown:
    assert result.product_id is not None
    assert result.alignment is not None
    assert result.evidence is not None
    assert result.score is not None
    in_its_place = result.alignment.status == "aligned" or result.evidence == "loose"
    decided = in_its_place and _undecided(result) is None
    return Shown(result.product_id, result.evidence, result.score, decided=decided)


def _listed(source: str | Path | None, left: list[Problem]) -> Iterator[Evidenced]:
    """Pictures by product in a folder or table."""
    if source is None:
        return
    found = read_source(source)
    left += found.problems
    for row in found.rows:
        read = partial(read_bytes, row.image)
        mask = None if row.mask is None else partial(read_bytes, row.mask)
        yield Evidenced("normals", printable(row.image), row.product_id, read, mask)


def _confirmed(log: str | Path | None, label: str) -> Iterator[Evidenced]:
    """Inspections that people confirmed to be this, by the product that they were held against."""
    if log is None:
        return
    record = InspectionLog(Path(log))
    for entry in record.entries():
        if entry.label is not None and entry.label.label == label and entry.result["product_id"]:
            read = partial(record.read_image, entry.image_sha256)
            marked = entry.mask_sha256
            mask = None if marked is None else partial(record.read_image, marked)
            yield Evidenced("log", entry.inspection_id, entry.result["product_id"], read, mask)
