"""The first pass: one scorer's answers to all queries, as Parquet. Run by `python -m benchmarks`,
one process for each scorer, so that peak memory is that scorer's own.

    python -m benchmarks.export patchcore --out runs --sets cookies --shots 4 --seeds 0
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anomaly.scorers import Scorer, open_scorer
from benchmarks.cached import CachedBackbone
from benchmarks.datasets import Split, distinct_shots, load
from benchmarks.machine import machine
from benchmarks.records import Provenance, Record, Scored, records_of, write_records
from embeddings import DEFAULT_SIZE_PX, Embedder, open_backbone


@dataclass(frozen=True)
class Plan:
    """What is asked of every scorer. `limit`: most queries of a set, for each seed and shots."""

    data: Path
    sets: tuple[str, ...]
    shots: tuple[int, ...]
    seeds: tuple[int, ...]
    limit: int | None = None
    size_px: int = DEFAULT_SIZE_PX

    def splits(self) -> Iterator[Split]:
        """All splits, the same ones in the same order for every scorer."""
        for name in self.sets:
            for shots in distinct_shots(name, self.shots):
                for seed in self.seeds:
                    yield from load(name, self.data, shots=shots, seed=seed, limit=self.limit)

    def arguments(self) -> list[str]:
        """The command-line arguments that say the same."""
        limit = [] if self.limit is None else ["--limit", str(self.limit)]
        return [
            "--data", str(self.data), "--sets", *self.sets,
            "--shots", *map(str, self.shots), "--seeds", *map(str, self.seeds),
            "--size", str(self.size_px), *limit,
        ]  # fmt: skip


def export(name: str, plan: Plan, out: Path) -> Path:
    """Score all of the plan's queries with a scorer of ours and write `out`/NAME.parquet."""
    backbone = CachedBackbone(open_backbone(device="cpu"), out / "embeddings")
    scorer = open_scorer(name, Embedder(backbone, size_px=plan.size_px))
    rows = list(_rows(scorer, plan, backbone))
    path = out / f"{name}.parquet"
    write_records(path, rows, provenance(name, plan, backbone, rows))
    return path


def provenance(
    name: str, plan: Plan, backbone: CachedBackbone, rows: Sequence[Record]
) -> Provenance:
    """Where the rows come from. Versions are those of this process."""
    here = machine()
    return Provenance(
        scorer=name,
        config={
            "size_px": plan.size_px,
            "backbone": backbone.spec.model,
            "weights_sha256": backbone.spec.weights_sha256,
            "limit": plan.limit,
        },
        settings={},
        versions=here["versions"],
        machine={key: here[key] for key in ("processor", "cores", "system")} | {"device": "cpu"},
        date=here["date"],
        command=f"python -m benchmarks.export {name} " + _shown(plan),
        peak_memory_mib=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        points_at_regions=any(row.boxes is not None for row in rows) and name == "amiss",
    )


def _rows(scorer: Scorer, plan: Plan, backbone: CachedBackbone) -> Iterator[Record]:
    splits = list(plan.splits())
    for number, split in enumerate(splits):
        references = [sample.read() for sample in split.references]
        model = scorer.fit(references, seed=split.seed)
        scored = []
        for sample in split.queries:
            pixels = sample.read()
            saved, start = backbone.saved_ms, time.perf_counter()
            answer = model.score(pixels)
            total = 1000 * (time.perf_counter() - start) + backbone.saved_ms - saved
            scored.append(Scored(sample, answer, pixels.shape[:2], total))
        yield from records_of(scorer.name, split, scored)
        print(f"{number + 1}/{len(splits)}", flush=True)  # for the caller's progress bar


def _shown(plan: Plan) -> str:
    """The arguments without the data folder, which is another one on every machine."""
    return " ".join(plan.arguments()[2:])


def plan_of(arguments: argparse.Namespace) -> Plan:
    """The plan that command-line arguments ask for."""
    return Plan(
        data=Path(arguments.data),
        sets=tuple(arguments.sets),
        shots=tuple(arguments.shots),
        seeds=tuple(arguments.seeds),
        limit=arguments.limit,
        size_px=arguments.size,
    )


def add_plan_arguments(parser: argparse.ArgumentParser, **defaults: Any) -> None:
    """--data, --sets, --shots, --seeds, --limit, --size."""
    parser.add_argument("--data", default=defaults.get("data"), help="folder of the sets")
    parser.add_argument("--sets", nargs="+", default=defaults.get("sets"))
    parser.add_argument("--shots", nargs="+", type=int, default=defaults.get("shots"))
    parser.add_argument("--seeds", nargs="+", type=int, default=defaults.get("seeds"))
    parser.add_argument("--limit", type=int, help="most queries of a set")
    parser.add_argument("--size", type=int, default=DEFAULT_SIZE_PX, help="longest side in px")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.export", description=__doc__)
    parser.add_argument("scorer")
    parser.add_argument("--out", type=Path, required=True)
    add_plan_arguments(parser)
    arguments = parser.parse_args()
    export(arguments.scorer, plan_of(arguments), arguments.out)


if __name__ == "__main__":
    sys.exit(main())
