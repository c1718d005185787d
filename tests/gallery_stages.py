"""The life of a small gallery in stages, on the fake embedder, and what must hold after each.

For runs that are disturbed: everything here is called in processes of its own.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from system_calls import KILL, Call, Judge, Outcome, watched

import anomaly.builder  # noqa: F401
from anomaly.config import build_config
from embeddings import fake_embedder
from embeddings.images import Pixels
from gallery import Gallery, check, describe, identify, open_catalog, plan, publish
from gallery.errors import StorageError
from gallery.history import list_builds, prune, rollback

CONFIG = build_config(given={"backbone": "fake", "size_px": 64, "threads": 1})


def prepare() -> None:
    """What a process needs before it is forked: libraries loaded but no threads, small shards, the
    fake embedder."""
    import cv2
    import faiss  # noqa: F401
    import jinja2  # noqa: F401
    import pyarrow.dataset
    import pyarrow.parquet  # noqa: F401

    cv2.setNumThreads(1)
    describe(_picture(0), fake_embedder(size_px=64))  # what the first call sets up is then there
    plan.PRODUCTS_PER_SHARD = 1
    builder = sys.modules["anomaly.builder"]
    builder.open_embedder = lambda *_, size_px, **__: fake_embedder(size_px=size_px)  # type: ignore[attr-defined]


def write_sources(home: Path) -> None:
    """`home/first` and `home/more`: two products, then another reference of the first."""
    pictures = {"first": ("a/0", "a/1", "b/0"), "more": ("a/2",)}
    for seed, (source, name) in enumerate((s, n) for s, names in pictures.items() for n in names):
        path = home / source / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(_picture(seed)).save(path)


def _picture(seed: int) -> Pixels:
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return np.kron(blocks, np.ones((6, 6, 1), np.uint8))


def _import(source: str) -> Callable[[Path], object]:
    return lambda root: sys.modules["anomaly.builder"].import_source(
        root.parent / source, root, threads=1
    )


def _rebuild(root: Path) -> object:
    report = sys.modules["anomaly.builder"].rebuild(root, config=CONFIG, steps=())
    assert report.published or report.unchanged, report
    return None


def _remove(root: Path) -> object:
    catalog = open_catalog(root)
    names = [row.name for row in catalog.rows() if row.product_id == "a"]
    return catalog.withdraw("a", "0.png", deed="remove", why="") if "0.png" in names else None


STAGES: Mapping[str, Callable[[Path], object]] = {
    "import": _import("first"),
    "build": _rebuild,
    "import more": _import("more"),
    "remove": _remove,
    "rebuild": _rebuild,
    "roll back": lambda root: rollback(root, list_builds(root)[0][0]),
    "publish": lambda root: publish(root, list_builds(root)[-1][0]),
    "prune": lambda root: prune(root, keep=1),
}


@dataclass
class Undisturbed:
    """A whole life without faults.

    calls      of each stage
    before     content digest of what serves before each stage, or None
    answers    what the build of each content digest answers
    serving    content digest of what serves after each stage, or None
    rebuilt    content digest after each stage and a rebuild
    seq        deeds in the catalog after each stage
    found      by `check` after each stage and a rebuild: orphans
    """

    calls: dict[str, list[Call]] = field(default_factory=dict)
    before: dict[str, str | None] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)
    serving: dict[str, str | None] = field(default_factory=dict)
    rebuilt: dict[str, str] = field(default_factory=dict)
    seq: dict[str, int] = field(default_factory=dict)
    found: dict[str, list[str]] = field(default_factory=dict)


def live(home: Path) -> Undisturbed:
    """Go through all stages; the state before each is kept in `home/STAGE/gallery`."""
    life = Undisturbed()
    root = home / "undisturbed" / "gallery"
    write_sources(root.parent)
    serving: str | None = None
    for stage, act in STAGES.items():
        shutil.copytree(root.parent, home / stage)
        outcome = watched(lambda act=act: bool(act(root)), root)
        assert outcome.error is None, outcome.where
        life.calls[stage] = outcome.calls
        seen = _done(watched(lambda: _state(root), root))
        life.before[stage], serving = serving, seen[0]
        life.serving[stage], life.seq[stage] = serving, seen[2]
        copy = home / f"after {stage}" / "gallery"
        shutil.copytree(root.parent, copy.parent)
        life.rebuilt[stage], answer, _, life.found[stage] = _done(
            watched(lambda copy=copy: (_rebuild(copy), _state(copy))[1], copy)
        )
        life.answers |= {life.rebuilt[stage]: answer} | ({seen[0]: seen[1]} if seen[0] else {})
    return life


def _done(outcome: Outcome) -> tuple[Any, str, int, list[str]]:
    assert outcome.error is None, outcome.where
    found: tuple[Any, str, int, list[str]] = outcome.value
    return found


def _state(root: Path) -> tuple[str | None, str, int, list[str]]:
    """(content digest of what serves, its answers, deeds, what `check` finds but sound)."""
    report = check(root)
    found = [str(Path(orphan).relative_to(root)) for orphan in report.orphans]
    found += [f"damaged {damaged}" for damaged in report.damaged]
    found += [f"pending {report.pending}"] if report.pending else []
    seq = open_catalog(root).seq
    return (*(answers(root) if (root / "CURRENT").exists() else (None, "")), seq, found)


def answers(root: Path) -> tuple[str, str]:
    """(content digest, sha256 of all that the published build answers)."""
    told = hashlib.sha256()
    with Gallery.open(root) as gallery:
        for name in gallery.product_ids():
            for reference in gallery.references(name):
                told.update(
                    f"{name} {reference.reference_id}".encode() + reference.vector.tobytes()
                )
                for layer in reference.patches.layers:
                    told.update(layer.features.tobytes())
                found = identify(gallery, reference.vector, fingerprint=gallery.fingerprint, top=2)
                told.update(repr([(c.product_id, c.score) for c in found.candidates]).encode())
        return gallery.manifest.content_digest, told.hexdigest()


def trials(calls: list[Call]) -> list[tuple[int, str]]:
    """(number of the call, fault) of what is tried: each call fails, and before each it ends.

    A kill before a sync is one before the call after it, and of a row of like calls the first and
    the last stand for the others. Calls that need room find the disk full every other time.
    """
    tried = []
    for number, call in enumerate(calls):
        if call in calls[number - 1 : number] and call in calls[number + 1 : number + 2]:
            continue
        tried.append((number, "full" if call.grows and number % 2 else "eio"))
        if not call.syncs:
            tried.append((number, "kill"))
    return tried


def judge(number: int, fault: str) -> Judge:
    """kill: at that call. eio: that call fails. full: no room from there on. read-only: EROFS."""

    def verdict(at: int, call: Call) -> int:
        if fault == "kill":
            return KILL if at == number else 0
        if fault == "eio":
            return 5 if at == number else 0
        if fault == "full":
            return 28 if at >= number and call.grows else 0
        return 30 if at >= number else 0

    return verdict


def trial(home: Path, life: Undisturbed, stage: str, number: int, fault: str) -> list[str]:
    """Disturb a stage once and go on; what did not hold then, in words."""
    place = home / f"trial {stage} {number} {fault}"
    root = place / "gallery"
    shutil.copytree(home / stage, place)
    outcome = watched(lambda: bool(STAGES[stage](root)), root, judge(number, fault))
    wrong = _reported(outcome, number, fault)
    complete = outcome.error is None and not outcome.killed
    after = watched(lambda: _hold(root, home / stage / "gallery", life, stage, complete), root)
    wrong += [after.where] if after.error is not None else after.value
    shutil.rmtree(place)
    call = str(outcome.calls[number]) if number < len(outcome.calls) else "?"
    return [f"{stage}, call {number} {call}, {fault}: {what}" for what in wrong]


def prune_on_a_full_disk(home: Path) -> list[str]:
    """What is not as it should be when no call may take room."""
    place = home / "full"
    shutil.copytree(home / "prune", place)
    root = place / "gallery"
    outcome = watched(lambda: prune(root, keep=1).builds, root, judge(1, "full"))
    left = len([p for p in (root / "builds").iterdir() if p.is_dir()])
    done = outcome.error is None and len(outcome.value) == 1 and left == 1
    return [] if done else [f"{left} builds; {outcome.where}"]


def _reported(outcome: Outcome, number: int, fault: str) -> list[str]:
    if number >= len(outcome.calls):
        return ["the call did not come"]
    if fault == "kill" and not outcome.killed:
        return ["it was not killed"]
    if outcome.error is not None and not isinstance(outcome.error, StorageError):
        return [f"an error that is not ours\n{outcome.where}"]
    return []


def _hold(root: Path, old: Path, life: Undisturbed, stage: str, complete: bool) -> list[str]:
    """What must hold after a fault: what served serves, nothing is lost, the next run heals."""
    wrong = []
    if (old / "catalog" / "journal.jsonl").exists():
        journal = (old / "catalog" / "journal.jsonl").read_bytes()
        if not (root / "catalog" / "journal.jsonl").read_bytes().startswith(journal):
            wrong.append("lines of the journal are lost")
    if (root / "catalog" / "catalog.json").exists():
        catalog = open_catalog(root)
        for row in catalog.rows():
            catalog.read_original(row.image)
        if complete and catalog.seq != life.seq[stage]:
            wrong.append(f"{catalog.seq} deeds, {life.seq[stage]} were reported")
        wrong += [f"{f.path}: {f.message}" for f in check(root).damaged]
    if life.before[stage] is not None:
        digest, answer = answers(root)
        known = (life.before[stage], life.serving[stage])
        if digest not in known or answer != life.answers[digest]:
            wrong.append(f"{digest} serves, with other answers")
    for run in {STAGES[stage]: 1, _rebuild: 1}:  # the next run, and a rebuild
        run(root)
    expected = (life.rebuilt[stage], life.answers[life.rebuilt[stage]], life.seq[stage])
    found = _state(root)
    if found != (*expected, life.found[stage]):
        wrong.append(f"after the next run: {found}; expected {expected}, {life.found[stage]}")
    wrong += [f"left over: {p.relative_to(root)}" for p in root.rglob(".partial-*")]
    return wrong
