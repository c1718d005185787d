"""The first pass: one scorer's answers to all queries, as Parquet. Run by `python -m benchmarks`,
one process for each scorer, so that peak memory is that scorer's own.

    python -m benchmarks.export patchcore --out runs --sets cookies --shots 4 --seeds 0
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from anomaly.scorers import SCORERS, Scorer, open_scorer
from benchmarks.cached import CachedBackbone
from benchmarks.datasets import Split
from benchmarks.machine import machine
from benchmarks.metrics import Heated, cut_heat
from benchmarks.peers import PEERS, SIZE_PX, PeerScorer, open_peers
from benchmarks.plan import Plan, add_plan_arguments, plan_of
from benchmarks.records import Provenance, Record, Scored, records_of, write_records
from embeddings import DEFAULT_BACKBONE, Embedder, open_backbone

POINTING = ("amiss",)  # scorers that give regions; others give heat only


@dataclass(frozen=True)
class Source:
    """A scorer with the cache it may use, and what is known of it once it has run."""

    scorer: Scorer
    backbone: CachedBackbone

    @property
    def settings(self) -> Mapping[str, Any]:
        return self.scorer.settings if isinstance(self.scorer, PeerScorer) else {}

    @property
    def versions(self) -> Mapping[str, str]:
        own: Mapping[str, str] = machine()["versions"]
        return self.scorer.versions if isinstance(self.scorer, PeerScorer) else own

    @property
    def peak_memory_mib(self) -> float:
        if isinstance(self.scorer, PeerScorer):
            return self.scorer.peak_memory_mib
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def export(name: str, plan: Plan, out: Path) -> Path:
    """Score all of the plan's queries with a scorer of ours or a peer; writes `out`/NAME.parquet.

    Raises `UnknownScorer`, and what `open_peers` raises.
    """
    backbone = CachedBackbone(open_backbone(plan.weights, device="cpu"), out / "embeddings")
    with _opened(name, plan, backbone) as scorer:
        source = Source(scorer, backbone)
        rows = list(_rows(source, plan))
        path = out / f"{name}.parquet"
        write_records(path, rows, provenance(source, plan))
    return path


@contextmanager
def _opened(name: str, plan: Plan, backbone: CachedBackbone) -> Iterator[Scorer]:
    if name not in PEERS:
        yield open_scorer(name, Embedder(backbone, size_px=plan.size_px))
        return
    if plan.size_px != SIZE_PX:
        sys.exit(f"{name} runs at {SIZE_PX} px; --size {plan.size_px} would compare unlike things")
    if plan.weights != DEFAULT_BACKBONE:
        sys.exit(f"{name} runs on {DEFAULT_BACKBONE}; --weights would compare unlike things")
    with open_peers([name], backbone=backbone) as (peer,):
        yield peer


def provenance(source: Source, plan: Plan) -> Provenance:
    """Where the rows come from."""
    here, name, spec = machine(), source.scorer.name, source.backbone.spec
    return Provenance(
        scorer=name,
        config={
            "size_px": plan.size_px,
            "backbone": spec.model,
            "weights_sha256": spec.weights_sha256,
            "limit": plan.limit,
        },
        settings=source.settings,
        versions=source.versions,
        machine={key: here[key] for key in ("processor", "cores", "system")} | {"device": "cpu"},
        date=here["date"],
        command=f"python -m benchmarks.export {name} {plan.shown()}",
        peak_memory_mib=round(source.peak_memory_mib, 1),
        points_at_regions=name in POINTING,
    )


def _rows(source: Source, plan: Plan) -> Iterator[Record]:
    """Rows of all splits; box figures need all splits of one set, shots and seed together."""
    splits = list(plan.splits())
    done = 0
    for _, group in groupby(splits, key=lambda split: (split.dataset, split.shots, split.seed)):
        rows: list[Record] = []
        heated: dict[int, Heated] = {}
        for split in group:
            scored = _scored(source, split)
            heated |= {len(rows) + i: h for i, h in _heated(scored).items()}
            rows += records_of(source.scorer.name, split, scored)
            done += 1
            print(f"{done}/{len(splits)}", flush=True)  # for the caller's progress bar
        cuts = dict(zip(heated, cut_heat(list(heated.values())), strict=True))
        yield from (replace(row, cut=cuts.get(i)) for i, row in enumerate(rows))


def _scored(source: Source, split: Split) -> list[Scored]:
    """One model, all its queries. Times are those of a run without a cache."""
    references = [sample.read() for sample in split.references]
    model = source.scorer.fit(references, seed=split.seed)
    found = []
    for sample in split.queries:
        pixels = sample.read()
        saved, start = source.backbone.saved_ms, time.perf_counter()
        answer = model.score(pixels)
        total = 1000 * (time.perf_counter() - start) + source.backbone.saved_ms - saved
        found.append(Scored(sample, answer, (pixels.shape[0], pixels.shape[1]), total))
    return found


def _heated(scored: Sequence[Scored]) -> dict[int, Heated]:
    """Heat of the queries of a set that has boxes, by place in `scored`."""
    if not any(one.sample.boxes for one in scored):
        return {}
    return {
        i: Heated(one.score.heat, one.size, one.sample.boxes)
        for i, one in enumerate(scored)
        if one.score.heat is not None
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.export", description=__doc__)
    parser.add_argument("scorer", choices=(*SCORERS, *PEERS))
    parser.add_argument("--out", type=Path, required=True)
    add_plan_arguments(parser)
    arguments = parser.parse_args()
    export(arguments.scorer, plan_of(arguments), arguments.out)


if __name__ == "__main__":
    main()
