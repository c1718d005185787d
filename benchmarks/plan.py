"""What a comparison asks of every scorer: sets, numbers of references, seeds."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.datasets import Split, distinct_seeds, distinct_shots, load
from embeddings import DEFAULT_BACKBONE, DEFAULT_SIZE_PX


@dataclass(frozen=True)
class Plan:
    """`limit`: most queries of a set, for each seed and number of references. `weights`: backbone
    of our scorers, as `open_backbone` takes it."""

    data: Path
    sets: tuple[str, ...]
    shots: tuple[int, ...]
    seeds: tuple[int, ...]
    limit: int | None = None
    size_px: int = DEFAULT_SIZE_PX
    weights: str = DEFAULT_BACKBONE

    def splits(self) -> Iterator[Split]:
        """All splits, the same ones in the same order for every scorer. A number of references or a
        seed that makes no difference for a set isn't asked twice."""
        for name in self.sets:
            for shots in distinct_shots(name, self.shots):
                for seed in distinct_seeds(name, self.seeds):
                    yield from load(name, self.data, shots=shots, seed=seed, limit=self.limit)

    def arguments(self) -> list[str]:
        """The command-line arguments that say the same."""
        return ["--data", str(self.data), *self._asked(), "--weights", self.weights]

    def shown(self) -> str:
        """The same without folders, which are others on every machine."""
        name, at, file = self.weights.rpartition("@")
        other = (
            [] if self.weights == DEFAULT_BACKBONE else ["--weights", name + at + Path(file).name]
        )
        return " ".join([*self._asked(), *other])

    def _asked(self) -> list[str]:
        limit = [] if self.limit is None else ["--limit", str(self.limit)]
        return [
            "--sets", *self.sets, "--shots", *map(str, self.shots),
            "--seeds", *map(str, self.seeds), "--size", str(self.size_px), *limit,
        ]  # fmt: skip


def plan_of(arguments: argparse.Namespace) -> Plan:
    """The plan that command-line arguments ask for."""
    return Plan(
        data=Path(arguments.data),
        sets=tuple(arguments.sets),
        shots=tuple(arguments.shots),
        seeds=tuple(arguments.seeds),
        limit=arguments.limit,
        size_px=arguments.size,
        weights=arguments.weights,
    )


def add_plan_arguments(parser: argparse.ArgumentParser, **defaults: Any) -> None:
    """--data, --sets, --shots, --seeds, --limit, --size, --weights."""
    parser.add_argument("--data", default=defaults.get("data"), help="folder of the sets")
    parser.add_argument("--sets", nargs="+", default=defaults.get("sets"))
    parser.add_argument("--shots", nargs="+", type=int, default=defaults.get("shots"))
    parser.add_argument("--seeds", nargs="+", type=int, default=defaults.get("seeds"))
    parser.add_argument("--limit", type=int, help="most queries of a set")
    parser.add_argument("--size", type=int, default=DEFAULT_SIZE_PX, help="longest side in px")
    parser.add_argument(
        "--weights", default=DEFAULT_BACKBONE, metavar="NAME|NAME@FILE|FOLDER",
        help="backbone of our scorers, for example a DINOv2 file for anomalydino and rad",
    )  # fmt: skip
