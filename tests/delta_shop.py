"""A gallery that is changed, rebuilt and updated by a delta, and everything that it answers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from embeddings import fake_embedder
from gallery import (
    EmbeddingDescriber,
    Gallery,
    Record,
    Reference,
    SourceRow,
    build,
    delta,
    identify,
    open_catalog,
    publish,
)

CONFIG = {"backbone": "fake", "size_px": 64}


class Audit:
    """A step whose finding depends on which references there are, and in which order. Final."""

    name, fingerprint = "audit", "audit/1"

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, references: Sequence[Reference]) -> Record:
        self.seen.append(references[0].product_id)
        vectors = np.stack([r.vector for r in references])
        meta = {"references": [r.reference_id for r in references]}
        return Record("audit", meta, {"cosines": vectors @ vectors.T})


class Shop:
    """A gallery with a catalog that is changed, rebuilt and updated. Final."""

    def __init__(self, root: Path, png: Callable[[int], bytes]) -> None:
        self.root, self._png, self.audit = root, png, Audit()

    def add(self, product_id: str, *seeds: int) -> None:
        rows = []
        for seed in seeds:
            path = self.root.parent / f"{seed}.png"
            path.write_bytes(self._png(seed))
            rows.append(SourceRow(product_id, path))
        assert open_catalog(self.root).import_rows(rows).problems == []

    def withdraw(self, product_id: str, *slots: int, deed: str = "remove") -> None:
        catalog = open_catalog(self.root)
        held = catalog.quarantined() if deed == "release" else catalog.rows()
        mine = [row for row in held if row.product_id == product_id]
        ids = [row.reference_id for row in mine if not slots or row.slot in slots]
        assert ids
        catalog.withdraw(product_id, ids, deed=deed, why="test")

    def describer(self) -> EmbeddingDescriber:
        return EmbeddingDescriber(open_catalog(self.root), fake_embedder(size_px=64), threads=2)

    def update(self, **options: Any) -> delta.DeltaReport:
        catalog = open_catalog(self.root)
        options.setdefault("describer", self.describer())
        return delta.update(catalog, steps=[self.audit], **options)

    def rebuild(self, *, full: bool = False) -> Any:
        """Past `count_delta`: much may be gone."""
        report = build(open_catalog(self.root), self.describer(), config=CONFIG,
                       steps=[self.audit], gates=(), full=full)  # fmt: skip
        publish(self.root, report.build_id)
        return report

    def answers(self, queries: np.ndarray[Any, Any]) -> dict[str, Any]:
        with Gallery.open(self.root) as gallery:
            return answers(gallery, queries)

    def copy(self, name: str) -> Shop:
        return Shop(Path(shutil.copytree(self.root, self.root.parent / name)), self._png)


def answers(gallery: Gallery, queries: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Everything that a gallery answers, to be compared for equality."""
    names = list(gallery.product_ids())
    found: dict[str, Any] = {
        "names": names,
        "counts": (len(gallery), gallery.reference_count, len(gallery.index)),
        "content": gallery.content_digest,
        "keys": (gallery.keys().tolist(), sorted(gallery.index.keys().tolist())),
        "steps": dict(gallery.manifest.steps),
    }
    for name in names:
        stored = gallery.stored(name)
        shard = gallery.shard_of(name)
        found[name] = (
            stored.product_no,
            [(r.slot, r.reference_id, shard.record(name, r).digest()) for r in stored.references],
            [r.patches.dense().tobytes() for r in gallery.references(name)],
            gallery.vectors(name).tobytes(),
            None if (extra := gallery.extra(name, "audit")) is None else extra.digest(),
            name in gallery,
        )
        keys = [stored.product_no << 16 | r.slot for r in stored.references]
        assert {gallery.product_id_of(key) for key in keys} == {name}
    for row, query in enumerate(queries):
        ranked = identify(gallery, query, fingerprint=gallery.fingerprint, top=7)
        found[f"query {row}"] = ranked.candidates
        near = gallery.index.search(query, count=9)
        found[f"search {row}"] = (near.keys.tolist(), near.cosine.tolist())
    return found
