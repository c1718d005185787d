"""Which references of a gallery are bad, doubtful, copies, or another design.

    audit = audit_gallery("gallery/")
    for finding in audit.findings: print(finding.product_id, finding.name, finding.kind, ...)
    quarantine_found("gallery/", audit)

A first look at what the build stored suspects (`suspects`), a second examines the suspects again
(`second_look`), rules say what they are (`accusation`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from anomaly.accusation import ACCUSED, KINDS, Accusation, AuditKind, Facts, accuse
from anomaly.builder import embedder_for
from anomaly.duplicates import SAME
from anomaly.errors import AuditError
from anomaly.groups import candidate_groups
from anomaly.results import Finding, Picture
from anomaly.second_look import Looked, SecondLook
from anomaly.serving import Serving
from anomaly.sharpness import STEP as SHARPNESS_STEP
from anomaly.sharpness import SharpnessStep
from anomaly.suspects import (
    DEFAULT_RARITY,
    Stored,
    Suspicion,
    elsewhere,
    reliable_without,
    stored_of,
    suspicions,
)
from embeddings.embedder import Embedder
from embeddings.threads import one_blas_thread
from gallery.catalog import CatalogRow, open_catalog
from gallery.reader import Gallery

_NO_DESIGN: tuple[AuditKind, ...] = ("wrong_product", "blurred")
Progress = Callable[[int, int], None]
"""Told products done and in all."""


@dataclass(frozen=True)
class AuditFinding:
    """One reference that is amiss, or said to be.

    figure    what was measured and `limit`, where it begins to count: a p-value (damaged), grey
              levels (duplicate), a share of the siblings' sharpness (blurred), cosine gained or
              siblings that register (wrong_product), see `reason`
    siblings  reference IDs of those it was held against, the best fitting first
    group     of a variant: the reference IDs that are proposed to be one
    regions   where it differs from its siblings
    aligned   whether it registers with one of them
    """

    product_id: str
    reference_id: str
    name: str
    kind: AuditKind
    figure: float
    limit: float
    reason: str
    siblings: tuple[str, ...] = ()
    group: tuple[str, ...] = ()
    regions: tuple[Finding, ...] = ()
    aligned: bool = False
    picture: Picture | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Audit:
    """What an audit of `build` found, worst kind first.

    audited  references that were held against siblings; copies of others are not
    alone    references without a sibling: they can't be judged by any
    """

    build: str
    findings: tuple[AuditFinding, ...]
    audited: int
    alone: int

    @property
    def accused(self) -> tuple[AuditFinding, ...]:
        """Findings that call a reference bad: not copies, proposals or doubts."""
        return tuple(finding for finding in self.findings if finding.kind in ACCUSED)


def audit_gallery(
    gallery: str | os.PathLike[str],
    *,
    products: Sequence[str] | None = None,
    rarity: float = DEFAULT_RARITY,
    pictures: bool = False,
    device: str = "auto",
    embedder: Embedder | None = None,
    progress: Progress = lambda done, total: None,
) -> Audit:
    """Audit the published build, or only some `products` of it.

    `rarity`: the p-value from which a reference is too unlike its siblings. `pictures`: keep what
    overlays are drawn from. Raises `UnknownProduct`, `NotAGallery`, `DamagedGallery`.
    """
    with Gallery.open(gallery) as opened, one_blas_thread:
        names = list(products) if products else list(opened.product_ids())
        serving = Serving(opened, embedder or embedder_for(opened, device=device))
        look = SecondLook(opened, serving.embedder, serving.nulls, rarity=rarity)
        catalog = {(r.product_id, r.reference_id): r for r in open_catalog(opened.root).rows()}
        findings: list[AuditFinding] = []
        kin: list[bool] = []
        for done, name in enumerate(names, start=1):
            stored = _learned(serving, name)
            kin += [bool(stored.kin(row)) for row in range(len(stored.references))]
            findings += _Auditor(opened, stored, look, catalog, rarity, pictures).findings()
            progress(done, len(names))
        findings += _shared(opened, names, findings, catalog)
    ordered = tuple(sorted(findings, key=_order))
    return Audit(opened.build_id, ordered, audited=sum(kin), alone=len(kin) - sum(kin))


def _learned(serving: Serving, product_id: str) -> Stored:
    """What the build learned of a product; learned now where it is of another version."""
    gallery = serving.gallery
    sharpness = gallery.extra(product_id, SHARPNESS_STEP)
    if sharpness is None or gallery.manifest.steps.get(SHARPNESS_STEP) != SharpnessStep.fingerprint:
        sharpness = SharpnessStep()(gallery.references(product_id))
    return stored_of(gallery, product_id, serving.profile(product_id), sharpness)


def quarantine_found(
    root: str | os.PathLike[str],
    audit: Audit,
    *,
    kinds: Sequence[str] = ACCUSED,
    by: str | None = None,
) -> list[AuditFinding]:
    """Withhold what was found of these kinds from builds; journalled with its reason.

    A product of which nothing would be left is left alone. Returns what was withheld now.
    """
    checked_kinds(kinds)
    catalog, done = open_catalog(Path(root)), []
    left: dict[str, set[str]] = {}
    for row in catalog.rows():
        left.setdefault(row.product_id, set()).add(row.reference_id)
    for finding in audit.findings:
        rest = left.get(finding.product_id, set())
        if finding.kind in kinds and finding.reference_id in rest and len(rest) > 1:
            why = f"audit: {finding.kind}, {finding.reason}"
            catalog.withdraw(
                finding.product_id, finding.reference_id, deed="quarantine", why=why, by=by
            )
            rest.discard(finding.reference_id)
            done.append(finding)
    return done


def checked_kinds(kinds: Sequence[str]) -> Sequence[str]:
    """The kinds themselves; `AuditError` unless they are some of `KINDS`."""
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown or not kinds:
        raise AuditError(f"kinds {', '.join(unknown)}; expected some of {', '.join(KINDS)}")
    return kinds


@dataclass(frozen=True)
class _Auditor:
    """One product, from suspicion to findings."""

    gallery: Gallery
    stored: Stored
    look: SecondLook
    catalog: Mapping[tuple[str, str], CatalogRow]
    rarity: float
    pictures: bool

    def findings(self) -> list[AuditFinding]:
        alike = self._alike()
        found = {}
        for row, causes in self._suspects(alike).items():
            # What may be a copy speaks for its original: both are looked at without the other.
            hidden = {*alike, alike.get(row, row)}
            kin = [other for other in self.stored.kin(row) if other not in hidden]
            accused = self._accused(row, causes, kin) if kin else None
            if accused is not None:
                found[row] = accused
        for row, variant in self._variants(found, alike).items():
            found[row] = variant
        named = {finding.reference_id for finding in found.values()}
        return [*(c for c in self._copies() if c.reference_id not in named), *found.values()]

    def _alike(self) -> dict[int, int]:
        """Rows of references that may be copies and count all the same, and of their originals."""
        rows = {one.reference_id: row for row, one in enumerate(self.stored.references)}
        told = self.stored.profile.alike
        return {rows[copy]: rows[of] for copy, (of, *_) in told.items() if copy in rows}

    def _suspects(self, alike: Mapping[int, int]) -> dict[int, list[Suspicion]]:
        rows: dict[int, list[Suspicion]] = {row: [] for row in {*alike, *alike.values()}}
        other = partial(elsewhere, self.gallery)
        for suspicion in suspicions(self.stored, self.look.nulls, other, rarity=self.rarity):
            rows.setdefault(suspicion.row, []).append(suspicion)
        return rows

    def _accused(
        self, row: int, causes: Sequence[Suspicion], kin: Sequence[int]
    ) -> AuditFinding | None:
        looked = self.look.look(self.stored, row, kin)
        elsewhere = self.look.shown_elsewhere(self.stored, row) if not looked.registered else None
        facts = Facts(
            causes={suspicion.cause: suspicion for suspicion in causes},
            siblings=len(kin),
            registered=looked.registered,
            p_value=looked.p_value,
            source=looked.source,
            marked=looked.marked,
            located=looked.located,
            shown=elsewhere[0] if elsewhere else None,
            has_form=self.stored.profile.has_form,
            rarity=self.rarity,
        )
        accusation = accuse(facts)
        return None if accusation is None else self._finding(row, accusation, looked)

    def _copies(self) -> Iterator[AuditFinding]:
        for copy, (original, gap, _) in self.stored.profile.alike.items():
            yield AuditFinding(
                self.stored.product_id, copy, self._name(copy), "duplicate", gap, SAME,
                f"the same photograph as {self._name(original)}, encoded again, resized or cut "
                f"({gap:.1f} levels)",
                siblings=(original,),
                picture=self.look.beside(copy, original) if self.pictures else None,
            )  # fmt: skip

    def _variants(
        self, found: Mapping[int, AuditFinding], alike: Collection[int]
    ) -> dict[int, AuditFinding]:
        """Groups that agree with each other and not with the rest; damage is one by one."""
        proposed: dict[int, AuditFinding] = {}
        out = {row for row, finding in found.items() if finding.kind in _NO_DESIGN}.union(alike)
        for rows in self._labelled(out):
            for group in candidate_groups(self.stored.vectors[rows]):
                members = [rows[place] for place in group]
                rest = [row for row in rows if row not in members and row not in proposed]
                if proposed.keys().isdisjoint(members) and len(rest) >= len(members):
                    proposed |= self._variant(members, rest)
        return proposed

    def _labelled(self, out: set[int]) -> list[list[int]]:
        """Rows by view and variant, without those `out`."""
        by_label: dict[tuple[str | None, str | None], list[int]] = {}
        for row, reference in enumerate(self.stored.references):
            if row not in out:
                by_label.setdefault((reference.view, reference.variant), []).append(row)
        return list(by_label.values())

    def _variant(self, members: Sequence[int], rest: Sequence[int]) -> dict[int, AuditFinding]:
        apart = {}
        for place, row in enumerate(members):
            looked = self.look.look(self.stored, row, rest)
            if self._odd(looked, members):
                apart[row] = looked
            elif place - len(apart) >= (len(members) - 1) // 2:
                return {}  # no majority left
        if len(apart) < 2 or any(
            self._odd(self.look.look(self.stored, row, [m for m in members if m != row]), members)
            for row in apart
        ):
            return {}
        said = self._design(len(members), len(rest), apart)
        group = tuple(self.stored.references[row].reference_id for row in members)
        return {
            row: replace(
                self._finding(row, said, looked), group=group if said.kind == "variant" else ()
            )
            for row, looked in apart.items()
        }

    def _design(self, members: int, rest: int, apart: Mapping[int, Looked]) -> Accusation:
        """What a group is that keeps apart: another product's pictures, or another design."""
        for row in (row for row, looked in apart.items() if not looked.registered):
            shown = self.look.shown_elsewhere(self.stored, row)
            if shown is not None:
                text = f"{members} references register with none of the other {rest} but"
                return Accusation("wrong_product", 0.0, 1.0, f"{text} with {shown[0]!r}")
        text = (
            f"{members} references agree with each other and not with the other {rest}: "
            "a second design? label them with a `variant`, or a `view` if it is another face"
        )
        least = min((one.p_value for one in apart.values() if one.p_value is not None), default=0.0)
        return Accusation("variant", least, self.rarity, text)

    def _odd(self, looked: Looked, members: Sequence[int]) -> bool:
        """Whether it differs from those that it was held against, `members` left aside."""
        if not looked.registered and reliable_without(self.stored.profile, members):
            return True
        return looked.located and looked.p_value is not None and looked.p_value <= self.rarity

    def _finding(self, row: int, said: Accusation, looked: Looked) -> AuditFinding:
        name = self.stored.references[row].reference_id
        picture = self.look.picture(self.stored, row, looked) if self.pictures else None
        return AuditFinding(
            self.stored.product_id, name, self._name(name), said.kind, said.figure, said.limit,
            said.reason, looked.against,
            regions=looked.judged.findings, aligned=looked.registered > 0, picture=picture,
        )  # fmt: skip

    def _name(self, reference_id: str) -> str:
        row = self.catalog.get((self.stored.product_id, reference_id))
        return row.name if row else reference_id[:8]


def _shared(
    gallery: Gallery,
    names: Sequence[str],
    findings: Sequence[AuditFinding],
    catalog: Mapping[tuple[str, str], CatalogRow],
) -> list[AuditFinding]:
    """Files that are references of several products: one of them is wrong, unless it is known
    which."""
    owners: dict[str, list[str]] = {}
    for product_id in gallery.product_ids():
        for reference in gallery.stored(product_id).references:
            owners.setdefault(reference.reference_id, []).append(product_id)
    settled = {f.reference_id for f in findings if f.kind == "wrong_product"}
    known = {(f.product_id, f.reference_id) for f in findings}
    made = []
    for reference_id, products in owners.items():
        if len(products) < 2 or reference_id in settled:
            continue
        for product_id in set(products) & set(names):
            if (product_id, reference_id) in known:
                continue
            others = ", ".join(repr(p) for p in products if p != product_id)
            row = catalog.get((product_id, reference_id))
            made.append(AuditFinding(
                product_id, reference_id, row.name if row else reference_id[:8], "undecided",
                float(len(products)), 1.0,
                f"the same file is a reference of {others}, too; a person must say whose it is",
            ))  # fmt: skip
    return made


def _order(finding: AuditFinding) -> tuple[int, str, str]:
    return KINDS.index(finding.kind), finding.product_id, finding.name
