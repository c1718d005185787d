"""What stages exchange and what an inspection says: frozen dataclasses, no behaviour of their own.

Scores: higher = more anomalous. Coordinates are pixels (x right, y down) of the picture as given,
after EXIF; boxes are [x0, y0, x1, y1], half-open. Maps are (H, W) float32 on the patch grid of a
`View`; NaN = not measured, which is not zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from embeddings.images import Mask, Pixels
from embeddings.patches import Floats, PatchGrid
from embeddings.registration import Matrix, Registration, inverse, transform
from gallery.describe import Reference

Verdict = Literal["ok", "review", "damaged", "wrong_product", "unknown_product", "cannot_compare"]
Kind = Literal["added", "missing", "changed", "spill"]
EvidenceKind = Literal["placed", "relit", "turning", "anywhere", "loose"]
"""Compared place by place; so, but in other light than any reference; in its place, but as a body
that turns; wherever it lies, of a product that has a form, but couldn't be placed, and of one that
has none."""
IN_PLACE = frozenset({"placed", "relit"})
OF_PLACES = frozenset({"product", "rim", "missing", "outline", "detail", "bend"})
"""Channels that ask for places on the product. A body that turns has none."""
Places = NDArray[np.float32]
"""(H, W, 2) x, y in cells of a reference where each cell of a view has its counterpart."""


@dataclass(frozen=True)
class Reason:
    """`code` is for machines and stable; `text` is a sentence for people."""

    code: str
    text: str


@dataclass(frozen=True)
class Finding:
    """Something amiss. `bbox_px`, `area_px` are None when it has no place in the picture.

    score         peak of the scaled evidence, in the units of the inspection's score
    reference_id  the reference that shows it most clearly, or None
    """

    kind: Kind
    bbox_px: tuple[float, float, float, float] | None
    area_px: float | None
    score: float
    reference_id: str | None


@dataclass(frozen=True)
class Units:
    """Of `total` alike units that the reference shows, `found` are in the picture."""

    found: int
    total: int


@dataclass(frozen=True)
class Calibration:
    """Which null the p-value was taken from, how many scores it holds, its smallest p-value.

    calibration_id  the operator's calibration that it comes from; None: what build and wheel know
    own             how many pristine scores of the product itself brought the null to it
    budget, review  the rates that were asked for
    """

    source: Literal["product", "pooled", "shipped"]
    n: int
    attainable: float
    calibration_id: str | None = None
    own: int = 0
    budget: float | None = None
    review: float | None = None


@dataclass(frozen=True)
class AlignmentSummary:
    """How the query was brought to the reference that fits best.

    status  aligned: compared place by place · fallback: the product has no fixed form, or nothing
            registered, so patches were compared wherever they are · failed: its references
            register with each other, the query with none of them
    inliers, residual_px  0 and None where pixels showed it in place, without local features
    matrix  (3, 3) rows, reference pixels -> query pixels; None unless something registered
    """

    status: Literal["aligned", "fallback", "failed"]
    reference_id: str | None = None
    inliers: int = 0
    residual_px: float | None = None
    overlap_fraction: float | None = None
    matrix: tuple[tuple[float, ...], ...] | None = None


@dataclass(frozen=True)
class Picture:
    """What pictures of a result are drawn from; not part of the JSON.

    image      (h, w, 3) uint8 RGB, the query as given
    reference  (h, w, 3) uint8 RGB: the best reference brought to the query's place; where nothing
               registered, the reference as it is, in its own size; None when it can't be read, or
               nothing was compared
    heat       (h, w) float32: evidence as a multiple of the threshold (1 = where an inspection
               becomes suspicious); NaN where nothing was measured; None without a threshold
    """

    image: NDArray[np.uint8]
    reference: NDArray[np.uint8] | None
    heat: Floats | None


@dataclass(frozen=True)
class Inspection:
    """The verdict on one picture and what it rests on; see the schema `amiss.inspect/1`.

    score, p_value, threshold, calibration are None where nothing could be compared. `timings_ms`:
    disjoint stages. `delta`: what lay over the `build`, None for the build as it was built.
    `units`: of a set of alike units of which one is missing; else None. `evidence`: its kind, by
    which the null was chosen; None where there is none.
    """

    inspection_id: str
    image: str
    product_id: str | None
    product_id_source: Literal["claimed", "identified"]
    verdict: Verdict
    reason: Reason
    build: str
    catalog_seq: int
    config: str
    score: float | None = None
    p_value: float | None = None
    threshold: float | None = None
    calibration: Calibration | None = None
    findings: tuple[Finding, ...] = ()
    references: tuple[str, ...] = ()
    alignment: AlignmentSummary | None = None
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    delta: str | None = None
    units: Units | None = None
    evidence: EvidenceKind | None = None
    picture: Picture | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Unreadable:
    """A picture that could not be inspected; the others of its batch go on.

    It has a `verdict` and a `reason`, so that a loop over results needs no case for it, and none of
    an inspection's figures.
    """

    image: str
    code: str
    message: str

    @property
    def verdict(self) -> Literal["unreadable"]:
        """What no inspection says."""
        return "unreadable"

    @property
    def reason(self) -> Reason:
        return Reason(self.code, self.message)


@dataclass(frozen=True)
class Pairing:
    """One reference against the query.

    registration  motion from reference pixels to query pixels
    turn_deg      how far it turns the reference, -180 to 180, clockwise; 0 when it failed
    scale         query pixels per reference pixel, at the product's centre; 1 when it failed
    zoom          the same in pixels of the size at which both are embedded
    centre_xy     the product's centre in reference pixels
    span          area between the points that agree, over the reference's product; 0 when it failed
    """

    reference_id: str
    registration: Registration
    turn_deg: float
    scale: float
    zoom: float
    centre_xy: tuple[float, float]
    span: float = 0.0

    @property
    def ok(self) -> bool:
        return self.registration.ok


@dataclass(frozen=True)
class Alignment:
    """`pairings` in the order of the references; `best` is a row of it, None when all failed."""

    pairings: tuple[Pairing, ...]
    best: int | None

    @property
    def fitting(self) -> Pairing | None:
        """The pairing that fits best."""
        return None if self.best is None else self.pairings[self.best]


@dataclass(frozen=True)
class View:
    """The query's patches and where they lie.

    patches   grid in view pixels
    vector    (D,) global vector of the view
    matrix    (3, 3) picture pixels -> view pixels
    turn_deg  how far the view turned the picture; 0 for the picture as it is
    zoom      how far it enlarged what is embedded; 1 for the picture as it is
    picture_size  (height, width) of the picture as given
    measured  (H, W) bool: cells that show the picture, not glare or what was filled in beside it
    hidden    (H, W) bool: cells that glare hides from features; None where there is none
    veiled    (H, W) bool: those of them through whose glare pixels can be seen
    partial   whether some of the product lies beyond the picture, where a reference stands for it
    """

    patches: PatchGrid
    vector: Floats
    matrix: Matrix
    turn_deg: float
    zoom: float
    picture_size: tuple[int, int]
    measured: Mask
    hidden: Mask | None = None
    veiled: Mask | None = None
    partial: bool = False

    @property
    def glare(self) -> float:
        """Share of the cells that glare hides."""
        return 0.0 if self.hidden is None else float(self.hidden.mean())

    @property
    def shown(self) -> Mask:
        """(H, W) cells that show the picture, be it glare."""
        return self.measured if self.hidden is None else self.measured | self.hidden

    def centres_in_picture(self) -> Floats:
        """(H * W, 2) float32 x, y of the cells in the picture as given."""
        centres = self.patches.centres_px().reshape(-1, 2)
        return np.asarray(transform(inverse(self.matrix), centres), dtype=np.float32)


@dataclass(frozen=True)
class Channel:
    """One kind of evidence. A new one (colour, a supervised head) needs no other stage changed.

    name            product | novel | rim | surroundings | missing | outline | detail | bend, with
                    an aligned reference; anywhere | around | absent, without, and novel, where
                    the product has a form
    map             (H, W) float32 on the view's grid, NaN where not measured; None = no place
    score           raw: mean of the map's highest values; NaN when nothing was measured
    valid_fraction  share of what the channel speaks of that was measured
    """

    name: str
    map: Floats | None
    score: float
    valid_fraction: float


def evidence_kind(*, placed: bool, turning: bool, relit: bool, form: bool) -> EvidenceKind:
    """`form`: whether the product has one, so that a picture could have been placed."""
    if not placed:
        return "anywhere" if form else "loose"
    if turning:
        return "turning"
    return "relit" if relit else "placed"


@dataclass(frozen=True)
class Comparison:
    """Channels on the view's grid, and where the product lies.

    placed    channels that need an aligned reference; empty when none is
    content   gives those that don't: see `anywhere`
    product   (H, W) bool: cells of the product, from aligned references or the foreground
    coverage  share of the aligned references' product that the view shows; 0 if none is aligned
    refuted   references whose alignment the patches don't bear out
    bounded   whether an aligned reference tells the product from its surroundings with confidence
    places    by ID of the others that were aligned, see `Places`
    besides   gives what else counts of a picture that fits no reference, if its product has a form
    gliding   how many of `places` are of references whose print went round the product's body
    turning   whether the product was taken for a body that turns: none of `places` was asked
    relit     whether its light differs from place to place from that of all that were aligned, of
              three references or more
    form      whether the product has one
    """

    placed: tuple[Channel, ...]
    content: Callable[[], tuple[Channel, ...]]
    product: Mask
    coverage: float
    refuted: tuple[str, ...] = ()
    bounded: bool = True
    places: Mapping[str, Places] = field(default_factory=dict)
    besides: Callable[[], tuple[Channel, ...]] = tuple
    gliding: int = 0
    turning: bool = False
    relit: bool = False
    form: bool = True

    @cached_property
    def anywhere(self) -> tuple[Channel, ...]:
        """Channels that need no aligned reference: the evidence where `placed` is empty. Measured
        when they are asked for; a product in its place needs them to name what was found."""
        return self.content()

    @cached_property
    def channels(self) -> tuple[Channel, ...]:
        """The evidence that counts."""
        return self.placed or (*self.anywhere, *self.besides())

    @property
    def kind(self) -> EvidenceKind:
        """Which it is: their scores have nulls of their own."""
        return evidence_kind(
            placed=bool(self.placed), turning=self.turning, relit=self.relit, form=self.form
        )


@dataclass(frozen=True)
class Null:
    """A channel's raw score on pristine pictures of a product.

    guessed  from other products alone: the product's own lie around a place that nobody knows
    tail     what a spread beyond the knee counts for: less than 1 where pristine pictures reach far
    """

    centre: float
    spread: float
    guessed: bool = False
    tail: float = 1.0


@dataclass(frozen=True)
class Scored:
    """score: spreads above pristine; heat: (H, W) the same per cell, NaN = not measured."""

    score: float
    heat: Floats
    by_channel: Mapping[str, float]


@dataclass(frozen=True)
class Calibrated:
    """suspicious: p_value <= budget, or where no source attains that, beyond every pristine score.

    threshold: a score above it is suspicious. entitled: the null is large enough to promise the
    budget. to_review: above `review_threshold`, which is not above `threshold`: suspicious, or
    in the operator's review band.
    """

    p_value: float
    threshold: float
    suspicious: bool
    entitled: bool
    calibration: Calibration
    to_review: bool = False
    review_threshold: float = math.inf


@dataclass(frozen=True)
class Evidence:
    """What the references say about a query, before anything is known of what is usual.

    alignment is None when place was not asked for (products of free form). reference_ids: those
    compared, in their order. shown: the reference that fits best, unless patches refute it, and
    look, the (h, w, 3) uint8 RGB picture that the view was embedded from; both None otherwise.
    """

    reference_ids: tuple[str, ...]
    alignment: Alignment | None
    view: View
    comparison: Comparison
    shown: Reference | None = None
    look: Pixels | None = None
