"""Compare anomaly scorers, ours and the peers', on the same splits and weights.

    AMISS_DATA=... python -m benchmarks            # 4 sets; 1, 4 and 16 references; 5 seeds
    AMISS_DATA=... python -m benchmarks --slices   # rendered slices: print, missing units, pose ...
    python -m benchmarks --quick                   # a few queries, base install only, no peers
    python -m benchmarks --sets cookies --scorers amiss anomalib-patchcore --shots 4 --seeds 0

Each scorer runs in a process of its own and writes what it says of every query to
OUT/SCORER.parquet; tables, page and summary are made from these files alone. Peers are installed
into an environment of their own first (6 GB, some minutes, once). Without AMISS_DATA only rendered
sets are compared. `--save` keeps the summary in benchmarks/results/, as `own_...` where ours ran
alone (a bootstrap against the others needs their answers). `--reuse NAME...` takes what OUT already
holds of a scorer, for example a peer's answers after ours has changed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from anomaly.scorers import SCORERS
from benchmarks.datasets import RENDERED
from benchmarks.evaluate import Evaluation, evaluate
from benchmarks.exhibits import exhibits
from benchmarks.machine import RESULTS
from benchmarks.peers import PEERS, PeersError, prepare_environment
from benchmarks.plan import Plan, add_plan_arguments, plan_of
from benchmarks.records import Records, read_records
from benchmarks.report import write_report
from benchmarks.summary import summary_json, tables
from gallery import durable

_SETS = ("cookies", "carton_top", "deeppcb", "studio")
_SHOTS, _SEEDS = (1, 4, 16), (0, 1, 2, 3, 4)
_SCORERS = ("amiss", "patchcore", "rad", "difference", "anomalib-patchcore")
_SLICES = tuple(name for name in RENDERED if "/" in name)
_SLICE_SCORERS = ("amiss", "patchcore", "anomalib-patchcore")
_QUICK = ("amiss", "patchcore", "difference", "chance")
_QUICK_LIMIT = 24
_CHAMPION = "amiss"
_WIDTH = 132


def main() -> int:
    arguments = _parser().parse_args()
    console = Console(stderr=True)
    plan, scorers = _asked(arguments, console)
    if any(name in PEERS for name in scorers if name not in arguments.reuse):
        try:
            prepare_environment(say=console.print)
        except PeersError as error:
            sys.exit(f"{error}\nor compare without peers: --scorers {' '.join(SCORERS)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    paths = [
        _reused(name, arguments.out)
        if name in arguments.reuse
        else _exported(name, plan, arguments.out, console)
        for name in scorers
    ]
    records = read_records(paths)
    evaluation = evaluate(records, champion=_CHAMPION if _CHAMPION in scorers else None)
    _show(records, evaluation, plan, arguments.out)
    if arguments.save:
        name = "slices" if arguments.slices else "comparison"
        kept = f"own_{name}" if scorers == [_CHAMPION] else name
        durable.write_file(RESULTS / f"{kept}.json", summary_json(evaluation).encode())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_plan_arguments(parser, data=os.environ.get("AMISS_DATA") or None)
    known = (*SCORERS, *PEERS)
    parser.add_argument(
        "--scorers", nargs="+", choices=known, metavar="NAME", help=f"of {', '.join(known)}"
    )
    parser.add_argument(
        "--reuse", nargs="+", choices=known, default=(), metavar="NAME",
        help="scorers whose answers OUT already holds",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="few queries, no peers")
    parser.add_argument("--slices", action="store_true", help="rendered slices, 4 references")
    parser.add_argument("--out", type=Path, default=Path("benchmark-runs"), help="for all results")
    parser.add_argument("--save", action="store_true", help="keep the summary in results/")
    return parser


def _asked(arguments: argparse.Namespace, console: Console) -> tuple[Plan, list[str]]:
    """Plan and scorers: what was given, else the defaults of the kind of run; says what is left
    out."""
    small = arguments.quick or arguments.slices
    sets = arguments.sets or list(_SLICES if arguments.slices else _SETS)
    if arguments.data is None:
        photographed = [name for name in sets if name not in RENDERED]
        if photographed and arguments.sets:
            sys.exit(f"{', '.join(photographed)}: set AMISS_DATA to the folder that holds them")
        if photographed:
            console.print(f"left out, as AMISS_DATA is not set: {', '.join(photographed)}")
        sets = [name for name in sets if name in RENDERED]
        arguments.data = Path()
    arguments.sets = sets
    arguments.shots = arguments.shots or ((4,) if small else _SHOTS)
    arguments.seeds = arguments.seeds or ((0,) if small else _SEEDS)
    scorers = arguments.scorers or (
        _QUICK if arguments.quick else _SLICE_SCORERS if arguments.slices else _SCORERS
    )
    if arguments.quick and not arguments.scorers:
        console.print(f"peers are left out: --quick needs no more than the base install "
                      f"({', '.join(PEERS)})")  # fmt: skip
    plan = plan_of(arguments)
    if arguments.quick and plan.limit is None:
        plan = replace(plan, limit=_QUICK_LIMIT)
    return plan, list(dict.fromkeys(scorers))


def _reused(name: str, out: Path) -> Path:
    """The file of an earlier run; that it answers the same plan is checked as it is read."""
    path = out / f"{name}.parquet"
    if not path.is_file():
        sys.exit(f"{path}: nothing to reuse; run {name} without --reuse first")
    return path


def _exported(name: str, plan: Plan, out: Path, console: Console) -> Path:
    """Run one scorer's export in a process of its own, with a progress bar over splits."""
    command = [sys.executable, "-m", "benchmarks.export", name, "--out", str(out)]
    path = out / f"{name}.parquet"
    path.unlink(missing_ok=True)  # an export that fails must not leave an older one's answers
    with (
        Progress(console=console) as progress,
        subprocess.Popen(
            [*command, *plan.arguments()], stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        task = progress.add_task(name, total=None)
        assert process.stdout is not None
        for line in process.stdout:
            done, _, total = line.strip().partition("/")
            if done.isdigit() and total.isdigit():
                progress.update(task, completed=int(done), total=int(total))
    if process.returncode:
        sys.exit(f"{name} ended with exit code {process.returncode}; its message is above")
    return path


def _show(records: Records, evaluation: Evaluation, plan: Plan, out: Path) -> None:
    """Tables on the terminal, page and summary in `out`."""
    console = Console()
    if console.width < _WIDTH:  # a pipe, or a narrow window: wrapped lines beat cut figures
        console = Console(width=_WIDTH)
    for table in tables(evaluation):
        console.print(table)
    shown = exhibits(records, plan, scorer=evaluation.comparisons[0].first
                     if evaluation.comparisons else records.rows[0].scorer)  # fmt: skip
    write_report(out / "report.html", records, evaluation, exhibits=shown)
    durable.write_file(out / "summary.json", summary_json(evaluation).encode())
    console.print(f"look at {out / 'report.html'}")


if __name__ == "__main__":
    sys.exit(main())
