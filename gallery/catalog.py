"""The source of truth: originals, content-addressed, and a journal of what was done with them.

    catalog/catalog.json            {format, gallery_id, created, sha256}
    catalog/originals/ab/ab12...    bytes as they came; the name is their sha256
    catalog/journal.jsonl           one checked line per deed: who, when, why, what

The journal only grows. An original is on the disk before the line that names it, and a line is on
the disk before an import reports it. A line that a crash cut short is not part of the journal.
"""

from __future__ import annotations

import concurrent.futures
import datetime
import json
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

from embeddings.images import printable
from gallery import durable
from gallery.errors import DamagedGallery, GalleryExists, NotAGallery, SourceError
from gallery.intake import Intake, take_in
from gallery.journal import journal_lines, sealed, user_name
from gallery.lease import require_lease
from gallery.naming import chosen, did_you_mean, is_named
from gallery.originals import read_original
from gallery.sources import Problem, SourceRow

MAX_SLOTS = 1 << 16
FIRST_SETTINGS = "first_settings.json"  # sealed; until there is a build to ask
_CHUNK = 128
_DEEDS = ("add", "remove", "quarantine", "release")


@dataclass(frozen=True)
class CatalogRow:
    """One reference as the catalog knows it; digests are sha256 hex of original bytes."""

    product_id: str
    product_no: int
    slot: int
    image: str
    mask: str | None
    depth: str | None
    view: str | None
    variant: str | None
    valid_from: str | None
    name: str

    @property
    def reference_id(self) -> str:
        """Content-hash string, unique within the product."""
        return self.image[:32]

    @property
    def key(self) -> int:
        """int64 for indexes: `product_no << 16 | slot`; never reused."""
        return self.product_no << 16 | self.slot


@dataclass
class ImportReport:
    """What an import did. `problems` were not imported; `notes` were, or were there already."""

    added: int = 0
    duplicates: int = 0
    ignored: int = 0
    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)
    catalog_seq: int = 0


@dataclass(frozen=True)
class Replacement:
    """`removed`: the reference that went, or none where it was so already; `row` is in service."""

    removed: tuple[CatalogRow, ...]
    row: CatalogRow


@dataclass
class _Product:
    number: int
    next_slot: int = 0
    rows: dict[str, CatalogRow] = field(default_factory=dict)
    quarantined: set[str] = field(default_factory=set)


class Catalog:
    """The state that the journal tells. Reading needs no lock; writing takes the writer lock."""

    def __init__(self, root: Path) -> None:
        """Use `open_catalog` or `create_catalog`."""
        self.root = root
        self.folder = root / "catalog"
        self.seq = 0
        self._products: dict[str, _Product] = {}
        self._owners: dict[str, str] = {}
        self._end = 0  # bytes of the journal that are whole lines
        self._ahead = False  # deeds were applied that the journal doesn't tell yet
        self._next_number = 0
        self._replay()

    def rows(self) -> list[CatalogRow]:
        """Every reference in service, in the order of their keys."""
        return sorted(
            (row for p in self._products.values() for id, row in p.rows.items()
             if id not in p.quarantined),
            key=lambda row: row.key,
        )  # fmt: skip

    def product_ids(self) -> list[str]:
        """Every product that it was ever told of, be all of its references withdrawn."""
        return list(self._products)

    def quarantined(self) -> list[CatalogRow]:
        """References withheld from builds, in the order of their keys."""
        found = (p.rows[id] for p in self._products.values() for id in p.quarantined)
        return sorted(found, key=lambda row: row.key)

    def refresh(self) -> None:
        """Take in what other processes wrote since, and forget what could not be written."""
        if self._ahead or (self.folder / "journal.jsonl").stat().st_size != self._end:
            self._replay()

    def unfinished_bytes(self) -> int:
        """Length of a journal line that a killed writer left; the next writer drops it."""
        return (self.folder / "journal.jsonl").stat().st_size - self._end

    def original_path(self, digest: str) -> Path:
        return self.folder / "originals" / digest[:2] / digest

    def read_original(self, digest: str) -> bytes:
        """An original's bytes, after their checksum; `DamagedGallery` names the file."""
        return read_original(self.root, digest)

    def import_rows(
        self,
        rows: Sequence[SourceRow],
        *,
        why: str = "import",
        by: str | None = None,
        threads: int = 2,
        progress: Callable[[int], None] = lambda done: None,
    ) -> ImportReport:
        """Add references; what is there already is left alone, so that it can be run again.

        Every picture is decoded before it is accepted: the catalog holds no file that a build
        can't read. `progress` is told how many rows are done.
        """
        report = ImportReport()
        with durable.writer_lock(self.folder):
            self.refresh()
            self._drop_unfinished()
            done, take = 0, partial(take_in, original_path=self.original_path)
            with concurrent.futures.ThreadPoolExecutor(threads) as pool:
                for chunk in _chunks(rows):
                    deeds = []
                    for outcome in pool.map(take, chunk):
                        if isinstance(outcome, Problem):
                            report.problems.append(outcome)
                        elif (deed := self._admit(outcome, report)) is not None:
                            deeds.append(deed)
                        done += 1
                        progress(done)
                    self._append(deeds, why=why, by=by)
            report.catalog_seq = self.seq
        return report

    def withdraw(
        self,
        product_id: str,
        references: str | Sequence[str] | None,
        *,
        deed: str,
        why: str,
        by: str | None = None,
    ) -> list[CatalogRow]:
        """`remove`, `quarantine` or `release` references by ID, first 8 digits or file name; None:
        all of the product. What is so already is left alone; returns the others. Originals stay.
        """
        if deed not in _DEEDS[1:]:
            raise SourceError(f"{deed!r}; expected remove, quarantine or release")
        with durable.writer_lock(self.folder):
            self.refresh()
            self._drop_unfinished()
            product = self._products.get(product_id)
            if product is None:
                near = did_you_mean(product_id, self._products)
                raise SourceError(f"the catalog has no product {product_id!r}{near}")
            wanted = [references] if isinstance(references, str) else references
            found = chosen(product.rows.values(), product_id, wanted)
            if deed != "remove":
                held = product.quarantined
                found = [r for r in found if (r.reference_id in held) == (deed == "release")]
            named = {"deed": deed, "product_id": product_id}
            deeds: list[dict[str, object]] = [
                {**named, "reference_id": row.reference_id} for row in found
            ]
            self._append(deeds, why=why, by=by)
        return found

    def replace(self, old: str, new: SourceRow, *, why: str, by: str | None = None) -> Replacement:
        """Put the picture of `new` in the place of reference `old` of the same product.

        `old`: reference ID, first 8 digits or file name. One deed, so a crash leaves one of the two
        in service. View, variant and date are the old one's unless `new` has its own. Done again,
        it changes nothing. Raises `SourceError` for a picture that can't be read, or that is
        another reference of the product already.
        """
        with durable.writer_lock(self.folder):
            self.refresh()
            self._drop_unfinished()
            read = take_in(new, self.original_path)
            if isinstance(read, Problem):
                raise SourceError(read.message)
            product = self._products.get(new.product_id)
            if product is None:
                raise SourceError(f"the catalog has no product {new.product_id!r}")
            there = product.rows.get(read.image[:32])
            gone = [row for row in product.rows.values() if is_named(row, old)]
            if there is not None and gone in ([], [there]):
                return Replacement((), there)
            return self._replace(product, old, _after(new, gone), read, why, by)

    def _replace(
        self, product: _Product, old: str, new: SourceRow, read: Intake, why: str, by: str | None
    ) -> Replacement:
        gone = chosen(product.rows.values(), new.product_id, [old])
        if len(gone) > 1:
            raise SourceError(
                f"{len(gone)} references of {new.product_id!r} are called {old!r}; name one by its "
                f"ID: {', '.join(row.reference_id[:8] for row in gone)}"
            )
        report = ImportReport()
        deed = self._admit(replace(read, row=new), report)
        if deed is None:
            raise SourceError("; ".join(p.message for p in (*report.problems, *report.notes)))
        deed = {**deed, "deed": "replace", "reference_id": gone[0].reference_id}
        self._append([deed], why=why, by=by)
        return Replacement(tuple(gone), product.rows[read.image[:32]])

    def _admit(self, read: Intake, report: ImportReport) -> dict[str, object] | None:
        """The `add` deed for a row, or None when it is a duplicate or refused."""
        self._ahead = True
        row, reference_id = read.row, read.image[:32]
        product = self._products.get(row.product_id)
        if product is None:
            product = self._products[row.product_id] = _Product(self._next_number)
            self._next_number += 1
        known = product.rows.get(reference_id)
        if known is not None:
            report.duplicates += 1
            old = (known.mask, known.depth, known.view, known.variant, known.valid_from)
            same = old == (read.mask, read.depth, row.view, row.variant, row.valid_from)
            code = "duplicate_image" if same else "conflicting_row"
            text = f"the same picture is reference {reference_id} of {row.product_id!r} already"
            where = report.notes if same else report.problems
            extra = (
                ""
                if same
                else ", with another mask, depth, view, variant or date; it was left as it is"
            )
            where.append(Problem(row.where, code, text + extra))
            return None
        owner = self._owners.get(read.image)
        if owner is not None and owner != row.product_id:
            text = f"the same picture is a reference of {owner!r} too; one of them may be wrong"
            report.notes.append(Problem(row.where, "shared_image", text))
        if product.next_slot >= MAX_SLOTS:
            text = f"{row.product_id!r} has used all its {MAX_SLOTS} reference slots"
            report.problems.append(Problem(row.where, "product_full", text))
            return None
        entry = CatalogRow(
            row.product_id, product.number, product.next_slot, read.image, read.mask, read.depth,
            row.view, row.variant, row.valid_from, printable(row.image.name),
        )  # fmt: skip
        deed: dict[str, object] = {"deed": "add", **asdict(entry)}
        self._apply(deed)
        report.added += 1
        return deed

    def _append(self, deeds: Iterable[dict[str, object]], *, why: str, by: str | None) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        lines, self._ahead = [], True
        for deed in deeds:
            self.seq += 1
            entry = {"seq": self.seq, "time": now, "by": by or user_name(), "why": why, **deed}
            if deed["deed"] != "add":  # additions are applied as they are admitted
                self._apply(deed)
            lines.append(sealed(json.dumps(entry, ensure_ascii=False, sort_keys=True)))
        if not lines:
            self._ahead = False
            return
        require_lease(self.folder)
        path, data = self.folder / "journal.jsonl", b"".join(lines)
        with durable.storage_errors(path), path.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self._end, self._ahead = self._end + len(data), False

    def _replay(self) -> None:
        self.seq, self._end, self._next_number, self._ahead = 0, 0, 0, False
        self._products, self._owners = {}, {}
        path = self.folder / "journal.jsonl"
        for number, (line, entry) in enumerate(journal_lines(path), start=1):
            if entry.get("seq") != self.seq + 1:
                raise DamagedGallery(f"{path} line {number}: deed {self.seq + 1} is missing")
            try:
                self._apply(entry)
            except (KeyError, TypeError) as error:
                raise DamagedGallery(f"{path} line {number}: not a deed ({error})") from error
            self.seq += 1
            self._end += len(line)

    def _apply(self, entry: dict[str, object]) -> None:
        product_id = str(entry["product_id"])
        if entry["deed"] in ("add", "replace"):
            row = CatalogRow(**{k: entry[k] for k in CatalogRow.__annotations__})  # type: ignore[arg-type]
            product = self._products.setdefault(product_id, _Product(row.product_no))
            product.rows[row.reference_id] = row
            product.next_slot = row.slot + 1
            self._next_number = max(self._next_number, row.product_no + 1)
            self._owners.setdefault(row.image, product_id)
            if entry["deed"] == "add":
                return
        product, reference_id = self._products[product_id], str(entry["reference_id"])
        if entry["deed"] in ("remove", "replace"):
            del product.rows[reference_id]
            product.quarantined.discard(reference_id)
        elif entry["deed"] == "quarantine":
            product.quarantined.add(reference_id)
        elif entry["deed"] == "release":
            product.quarantined.discard(reference_id)
        else:
            raise KeyError(f"unknown deed {entry['deed']!r}")

    def _drop_unfinished(self) -> None:
        """What a killed writer left: files not yet whole, a journal line cut short."""
        durable.remove_partials(self.folder)
        path = self.folder / "journal.jsonl"
        if path.exists() and path.stat().st_size > self._end:
            with durable.storage_errors(path):
                os.truncate(path, self._end)


def _after(new: SourceRow, gone: Sequence[CatalogRow]) -> SourceRow:
    """`new`, with what it doesn't say taken from the reference that goes."""
    if not gone:
        return new
    old = gone[0]
    return replace(
        new,
        view=new.view or old.view,
        variant=new.variant or old.variant,
        valid_from=new.valid_from or old.valid_from,
    )


def create_catalog(root: Path) -> Catalog:
    """Start a gallery in `root`, which must be absent or an empty folder.

    Raises `NotAGallery` for another folder, `GalleryBusy` or `GalleryExists` for two at once.
    """
    head_missing = not (root / "catalog" / "catalog.json").exists()  # or a kill came before it
    ours = {"catalog"} if head_missing else set()
    if root.exists() and (not root.is_dir() or {p.name for p in root.iterdir()} - ours):
        raise NotAGallery(f"{root}: not empty and not a gallery; give a new folder")
    head: dict[str, object] = {
        "gallery_id": uuid.uuid4().hex,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    with durable.writer_lock(root / "catalog"):
        if (root / "catalog" / "catalog.json").exists():
            raise GalleryExists(f"{root}: another process has just made a gallery here")
        durable.write_file(root / "catalog" / "journal.jsonl", b"")
        durable.write_sealed(root / "catalog" / "catalog.json", head)
    return Catalog(root)


def open_catalog(root: Path) -> Catalog:
    """The catalog of the gallery at `root`; raises `NotAGallery` where there is none."""
    head = root / "catalog" / "catalog.json"
    if not head.is_file():
        raise NotAGallery(
            f"{root}: not a gallery (no catalog/catalog.json); `amiss build` makes one"
        )
    durable.read_sealed(head, what="catalog head")
    return Catalog(root)


def _chunks(rows: Sequence[SourceRow]) -> Iterator[Sequence[SourceRow]]:
    return (rows[k : k + _CHUNK] for k in range(0, len(rows), _CHUNK))
