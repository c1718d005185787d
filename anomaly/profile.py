"""What a product's references say about each other: learned at build, one record per product.

References are turned to lie alike (`pose`); then each is examined against its nearest siblings,
itself left out (`left_out`). That tells whether the product has a form (its references register
with each other) or none (cookies, loose bags), what each channel says of pristine pictures, where
on the product it says it (`tolerance`), and how far apart their vectors lie. A copy of another
reference (`duplicates`) is left aside, as if it weren't there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np

from anomaly.duplicates import Copies, certain, find_copies
from anomaly.left_out import LeftOut, raw_of, read_left_out
from anomaly.pipeline import SCORING, Query, examine
from anomaly.pose import POSE_VERSION, full_size, pose, stored_poses, with_poses
from anomaly.results import IN_PLACE, Channel, EvidenceKind, Null, Places, evidence_kind
from anomaly.score import Prior, combine, fit_null, studentised
from anomaly.tolerance import Maps, eased, own_maps
from embeddings.embedder import Embedder, Embedding
from embeddings.exposure import clipped_pixels
from embeddings.fingerprint import digest_json
from embeddings.images import Pixels, read_image
from embeddings.patches import Floats
from embeddings.threads import threads_here
from gallery.describe import Reference
from gallery.errors import DamagedGallery
from gallery.records import Record

PROFILE_VERSION = 8
STEP = "profile"
MOST_COMPARED = 4
"""References that a picture is compared with: the nearest ones by global vector."""
# A picture differs more from its references than they do from each other: spreads count for so many
# times themselves. Most where no alignment tells what lies beside the product. `product` and
# `missing` ask nearly the same, and would count twice.
_LOOSE = {
    "product": 1.5, "novel": 1.2, "missing": 1.5, "rim": 0.9, "detail": 0.9,
    "surroundings": 1.5, "absent": 2.0, "around": 4.0,
}  # fmt: skip
# Print of a stiff product moves least of all, and spreads that soft ones share in say too much.
_STIFF, _SOFT = math.log(1 / 3), 0.0  # centre of its bends: a third of a pixel, a pixel
_STIFF_LOOSE = 0.6
_LITTLE_KNOWN = 2.0  # of `novel`: what a single reference has nowhere may be usual
# Of these, pristine pictures reach four spreads and more.
_TAIL = {"bend": 0.5, "rim": 0.6, "outline": 0.35, "detail": 0.35}
# Patches searched wherever they lie find the nearer ones the more references there are: distances
# fall as the count to the power of -1/d. A trial on `cookies` with 2 to 8 references gave 1/d
# of .19 to .23 but for the fewest. In place no such fall shows: pictures differ by how they were
# aligned.
_FALL = {"anywhere": 0.2, "around": 0.2}
BARE = "bare "  # before a channel's name: of products that don't know what is usual where
LOOSE = "loose "  # and of those without a form
_FORM = 0.25  # share of pairs that must register for a product of many faces to have a form
_LONERS = 0.1  # share of references, or one, that may register with none of their siblings then
_RELIABLE = 0.75  # share of pairs that must, for "it registers with none" to say something
_TURNS = 0.2  # share of pairs whose print went round the body, from which the product turns


@dataclass(frozen=True)
class Profile:
    """`left_out`: one entry per reference; empty for a product with a single one. `posed`: IDs of
    references that were brought to where another lies (`pose`). `alike`: those that are copies
    of others or nearly are."""

    left_out: tuple[LeftOut, ...]
    posed: frozenset[str] = frozenset()
    alike: Copies = field(default_factory=dict)

    @property
    def copies(self) -> Copies:
        """References that don't count, and are not compared with."""
        return certain(self.alike)

    @property
    def has_form(self) -> bool:
        """Whether pictures of the product can be laid upon each other; assumed of a single one.

        Most pairs register, or nearly every reference has one that it registers with: faces. Of
        cookies a few of which were photographed twice, some have none.
        """
        return _has_form(self.left_out)

    @property
    def reliable(self) -> bool:
        """Whether a picture that registers with no reference shows something else."""
        return _registers(self.left_out, _RELIABLE) and all(e.registered for e in self.left_out)

    @property
    def turns(self) -> bool:
        """Whether the product is a body that turns about its axis, as bottles and cans do: print
        that goes round it has no place."""
        return _turns([(entry.laid, entry.gliding) for entry in self.left_out])

    @property
    def learned(self) -> dict[str, Maps]:
        """What is usual at each place, by reference ID."""
        return _learned(self.left_out)

    def raw(self, *, without: int | None = None) -> dict[str, list[float]]:
        """Raw scores by channel, leaving out one reference's."""
        rows = [entry for row, entry in enumerate(self.left_out) if row != without]
        return _collected([{**entry.placed, **entry.anywhere} for entry in rows])

    def bare(self) -> dict[str, list[float]]:
        """Raw scores by channel that a product without maps would have."""
        bare = _collected([e.bare for e in self.left_out])
        return {f"{BARE}{name}": values for name, values in bare.items()}

    def loose(self) -> dict[str, list[float]]:
        """Raw scores by channel of content, of a product without a form; else none."""
        found = {} if self.has_form else _collected([e.anywhere for e in self.left_out])
        return {f"{LOOSE}{name}": values for name, values in found.items()}

    def nulls(
        self,
        priors: Mapping[str, Prior],
        *,
        without: int | None = None,
        only: Collection[str] | None = None,
        form: bool | None = None,
    ) -> dict[str, Null]:
        """What each channel, or each of `only`, says of pristine pictures: of new ones, or of the
        reference that is left out, which has one fewer to be compared with. `form`: whether the
        product has one, if these are some of its references."""
        raw = self.raw(without=without)
        priors = self._own(priors, form=self.has_form if form is None else form)
        if without is None:
            raw = self._of_new_ones(raw)
        wanted = sorted({*raw, *priors} if only is None else only)
        fitted = {name: fit_null(raw.get(name, ()), priors.get(name)) for name in wanted}
        return {
            name: replace(null, spread=null.spread * _loose(name, null), tail=_TAIL.get(name, 1.0))
            for name, null in fitted.items()
            if null is not None
        }

    def _own(self, priors: Mapping[str, Prior], *, form: bool) -> dict[str, Prior]:
        """The priors of products that know what is usual at each place, or of those that don't; of
        content, those of products with a form or without."""
        own = {n: prior for n, prior in priors.items() if not n.startswith((BARE, LOOSE))}
        kinds = [BARE] * (not self.learned) + [LOOSE] * (not form)
        return own | {n: priors[kind + n] for kind in kinds for n in own if kind + n in priors}

    def _of_new_ones(self, raw: Mapping[str, list[float]]) -> dict[str, list[float]]:
        count = len(self.left_out)
        fall = {name: ((count - 1) / count) ** power for name, power in _FALL.items() if count}
        return {name: [fall.get(name, 1.0) * v for v in values] for name, values in raw.items()}

    def kind(self, *, placed: bool, relit: bool = False) -> EvidenceKind:
        """Of the evidence that a picture of the product gives, by whether it was `placed`, and
        `relit`; one without a form never is."""
        form = self.has_form
        return evidence_kind(placed=placed and form, turning=self.turns, relit=relit, form=form)

    def null_scores(self, priors: Mapping[str, Prior], *, kind: EvidenceKind) -> Floats:
        """The references' own scores, each under nulls that it had no part in. What a product that
        doesn't turn would score if it did is `turning`; one that does has none in place, be they
        `placed` or `relit`, and one without a form has `loose` ones only."""
        scores: list[float] = []
        for row, entry in enumerate(self.left_out):
            of_its_own = self.kind(placed=kind in IN_PLACE, relit=entry.relit)
            if kind != of_its_own and not (kind == "turning" and self.has_form):
                continue
            raw = raw_of(entry, kind)
            nulls = self.nulls(priors, without=row, only=raw)
            if found := studentised(raw, nulls):
                scores.append(combine(found, nulls))
        return np.asarray(scores, np.float32)


def _loose(name: str, null: Null) -> float:
    if name == "novel" and null.guessed:
        return _LITTLE_KNOWN
    if name != "bend":
        return _LOOSE.get(name, 1.0)
    return float(np.interp(null.centre, (_STIFF, _SOFT), (_STIFF_LOOSE, 1.0)))


def profile_fingerprint() -> str:
    """What decides which profile is learned from the same references."""
    return digest_json([PROFILE_VERSION, POSE_VERSION, MOST_COMPARED, SCORING.digest])


class ProfileStep:
    """The build step. `picture` gives the original of a reference, by its ID. Final."""

    name = STEP

    def __init__(
        self, embedder: Embedder, picture: Callable[[str], bytes], *, threads: int = 1
    ) -> None:
        self._embedder, self._picture, self._threads = embedder, picture, threads
        self.fingerprint = profile_fingerprint()

    def __call__(self, references: Sequence[Reference]) -> Record:
        alike = find_copies(references, self._picture)
        references = [r for r in references if r.reference_id not in certain(alike)]
        with self._embedder.repeatable(), ThreadPoolExecutor(threads_here(self._threads)) as pool:
            poses, arrays = stored_poses(pose(references, self._picture, self._embedder, pool))
            # From what was stored: readers will see the same.
            posed = with_poses(references, Record(STEP, {"poses": poses}, arrays))
            found = self._compared(references, posed, pool)
            if poses and not _has_form(found):
                poses, arrays, found = {}, {}, self._compared(references, references, pool)
        learned = _learned(found)
        maps = {
            f"{one.reference_id}/{name}": stored.cells
            for one in found
            for name, stored in one.maps.items()
        }
        meta = {"left_out": [_entry(one, learned) for one in found], "poses": poses}
        if alike:
            meta["alike"] = {name: list(copy) for name, copy in alike.items()}
        return Record(STEP, meta, {**maps, **arrays})

    def _compared(
        self, given: Sequence[Reference], posed: Sequence[Reference], pool: ThreadPoolExecutor
    ) -> list[_Looked]:
        """Each picture as given, as others will be, with its siblings as they are posed; twice
        where the first look says that the product turns."""
        rows = range(len(given)) if len(given) > 1 else range(0)
        found = list(pool.map(lambda row: self._looked(given, posed, row), rows))
        if not _turns([(len(one.places), one.gliding) for one in found]):
            return found
        again = pool.map(lambda row: self._looked(given, posed, row, turning=True), rows)
        return [replace(a, gliding=o.gliding) for a, o in zip(again, found, strict=True)]

    def _looked(
        self, given: Sequence[Reference], posed: Sequence[Reference], row: int, *,
        turning: bool = False,
    ) -> _Looked:  # fmt: skip
        one, others = given[row], [other for other in range(len(given)) if other != row]
        siblings, as_given = (nearest(one.vector, [rs[i] for i in others]) for rs in (posed, given))
        query = as_query(one, self._picture)
        placed = examine(query, siblings, embedder=self._embedder, turning=turning)
        turned = not np.array_equal(placed.view.matrix, np.eye(3))
        same = not turned and all(sibling.frame is None for sibling in siblings)
        free = placed if same else examine(query, as_given, embedder=self._embedder, placed=False)
        refuted = placed.comparison.refuted
        assert placed.alignment is not None
        return _Looked(
            reference_id=one.reference_id,
            channels=placed.comparison.placed,
            places=placed.comparison.places,
            maps=own_maps(placed.comparison.placed, placed.view, posed[row]),
            anywhere=_scores(free.comparison.anywhere),
            registered=sum(
                p.ok and p.reference_id not in refuted for p in placed.alignment.pairings
            ),
            compared=len(siblings),
            distance=1 - max(float(s.vector @ one.vector) for s in siblings),
            gliding=placed.comparison.gliding,
            relit=placed.comparison.relit,
        )


@dataclass(frozen=True)
class _Looked:
    """A reference examined against its siblings, before what is usual where is known: its placed
    `channels`, the `places` of the siblings' cells on them, and the rest of `LeftOut`."""

    reference_id: str
    channels: tuple[Channel, ...]
    places: Mapping[str, Places]
    maps: Maps
    anywhere: Mapping[str, float]
    registered: int
    compared: int
    distance: float
    gliding: int
    relit: bool


def _collected(scores: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for one in scores:
        for name, value in one.items():
            found.setdefault(name, []).append(value)
    return found


def _has_form(entries: Sequence[LeftOut | _Looked]) -> bool:
    if _registers(entries, _RELIABLE):
        return True
    loners = sum(entry.registered == 0 for entry in entries)
    few = loners <= max(1, _LONERS * len(entries))
    return few and _registers(entries, _FORM)


def _registers(entries: Sequence[LeftOut | _Looked], share: float) -> bool:
    """Whether `share` of the pairs do."""
    compared = sum(entry.compared for entry in entries)
    return sum(entry.registered for entry in entries) >= share * compared


def _turns(counts: Sequence[tuple[int, int]]) -> bool:
    """By siblings laid, and those of them that glide, of each reference."""
    laid = sum(some for some, _ in counts)
    return laid > 0 and sum(gliding for _, gliding in counts) >= _TURNS * laid


def _learned(entries: Sequence[LeftOut | _Looked]) -> dict[str, Maps]:
    """By reference ID; nothing where references seldom register: cookies of which a few were
    photographed twice have no places."""
    if not _registers(entries, _RELIABLE):
        return {}
    return {entry.reference_id: entry.maps for entry in entries if entry.maps}


def _entry(one: _Looked, learned: Mapping[str, Maps]) -> dict[str, object]:
    """What is stored as JSON of a `LeftOut`."""
    return {
        "reference_id": one.reference_id,
        "placed": _rounded(_scores(eased(one.channels, one.places, learned))),
        "bare": _rounded(_scores(one.channels)),
        "anywhere": _rounded(one.anywhere),
        "registered": one.registered,
        "compared": one.compared,
        "distance": float(f"{one.distance:.5g}"),
        "maps": {name: stored.highest for name, stored in one.maps.items()},
        "laid": len(one.places),
        "gliding": one.gliding,
        "relit": one.relit,
    }


def as_query(reference: Reference, picture: Callable[[str], bytes]) -> Query:
    """A reference as given, to be examined; `picture` is read only where pixels are needed."""
    thumbnail = reference.thumbnail

    @cache
    def pixels() -> Pixels:
        return read_image(picture(reference.reference_id))

    return Query(
        pixels,
        full_size(reference),
        lambda: reference.keypoints,
        Embedding(reference.vector, reference.patches),
        clipped=(lambda: clipped_pixels(pixels())) if reference.exposure.clipped else None,
        small=None if thumbnail is None else lambda: thumbnail,
    )


def nearest(vector: Floats, references: Sequence[Reference]) -> list[Reference]:
    """The references that a picture is compared with, in their own order."""
    vectors = np.stack([r.vector for r in references])
    return [references[row] for row in nearest_rows(vector, vectors)]


def nearest_rows(vector: Floats, vectors: Floats) -> list[int]:
    """Rows of the (K, D) vectors nearest to a (D,) one, at most `MOST_COMPARED`, ascending."""
    order = np.argsort(-(vectors @ vector), kind="stable")[:MOST_COMPARED]
    return sorted(int(row) for row in order)


def read_profile(record: Record) -> Profile:
    """The profile that a build stored. Raises `DamagedGallery` if it is none."""
    try:
        entries = tuple(read_left_out(entry, record) for entry in record.meta["left_out"])
        alike = {n: (of, gap, sure) for n, (of, gap, sure) in record.meta.get("alike", {}).items()}
        return Profile(entries, frozenset(record.meta.get("poses", ())), alike)
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedGallery(f"a product's profile is not one ({error!r})") from error


def _scores(channels: Sequence[Channel]) -> dict[str, float]:
    return {channel.name: channel.score for channel in channels}


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    # Threads and processors differ in the last bits: not in what is stored.
    return {name: float(f"{value:.5g}") for name, value in values.items() if np.isfinite(value)}
