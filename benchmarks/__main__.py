"""Compare anomaly scorers, ours and the peers', on the same splits and weights.

    AMISS_DATA=... python -m benchmarks                # all sets, 1, 4 and 16 references, 3 seeds
    AMISS_DATA=... python -m benchmarks --quick        # two minutes: few queries, no peers
    AMISS_DATA=... python -m benchmarks --sets cookies --scorers amiss patchcore --shots 4 --seeds 0

Each scorer runs in a process of its own and writes what it says of every query to
OUT/SCORER.parquet; tables, page and summary are made from these files alone. `--save` keeps the
summary as benchmarks/results/comparison.json.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.progress import Progress

from anomaly.scorers import SCORERS
from benchmarks.evaluate import Evaluation, evaluate
from benchmarks.export import Plan, add_plan_arguments, plan_of
from benchmarks.machine import RESULTS, data_folder
from benchmarks.records import Records, read_records
from benchmarks.report import Exhibit, notable, write_report
from benchmarks.summary import summary_json, tables
from gallery import durable

_SETS = ("cookies", "carton_top", "deeppcb")
_SHOTS, _SEEDS = (1, 4, 16), (0, 1, 2)
_CHAMPION = "amiss"
_QUICK = ("amiss", "patchcore", "pixels", "chance")
_THUMBNAIL_PX = 320


def main() -> int:
    arguments = _parser().parse_args()
    if arguments.data is None:
        arguments.data = data_folder()
    plan = plan_of(arguments)
    scorers = list(arguments.scorers or SCORERS)
    if arguments.quick:
        plan = replace(plan, shots=(4,), seeds=(0,), limit=plan.limit or 24)
        scorers = [name for name in scorers if arguments.scorers or name in _QUICK]
    arguments.out.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True)
    paths = [_exported(name, plan, arguments.out, console) for name in scorers]
    if not arguments.scorers:
        console.print("peers are skipped: --quick needs the base install only"
                      if arguments.quick else "peers are run by python -m benchmarks.peers")  # fmt: skip
    records = read_records(paths)
    evaluation = evaluate(records, champion=_CHAMPION if _CHAMPION in scorers else None)
    _show(records, evaluation, plan, arguments.out)
    if arguments.save:
        RESULTS.mkdir(exist_ok=True)
        durable.write_file(RESULTS / "comparison.json", summary_json(evaluation).encode())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_plan_arguments(parser, sets=_SETS, shots=_SHOTS, seeds=_SEEDS)
    parser.add_argument("--scorers", nargs="+", choices=SCORERS, help="default: all of ours")
    parser.add_argument("--quick", action="store_true", help="few queries, no peers")
    parser.add_argument("--out", type=Path, default=Path("benchmark-runs"))
    parser.add_argument("--save", action="store_true", help="keep the summary in results/")
    return parser


def _exported(name: str, plan: Plan, out: Path, console: Console) -> Path:
    """Run one scorer's export in a process of its own, with a progress bar over splits."""
    command = [sys.executable, "-m", "benchmarks.export", name, "--out", str(out)]
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
    return out / f"{name}.parquet"


def _show(records: Records, evaluation: Evaluation, plan: Plan, out: Path) -> None:
    """Tables on the terminal, page and summary in `out`."""
    console = Console()
    for table in tables(evaluation):
        console.print(table)
    exhibits = list(_exhibits(records, plan))
    write_report(out / "report.html", records, evaluation, exhibits=exhibits)
    durable.write_file(out / "summary.json", summary_json(evaluation).encode())
    console.print(f"look at {out / 'report.html'}")


def _exhibits(records: Records, plan: Plan) -> Sequence[Exhibit]:
    """Pictures of our best and worst queries, for the first seed and four references."""
    samples = {
        (split.dataset, split.shots, split.seed, sample.sample_id): sample
        for split in plan.splits()
        if split.seed == plan.seeds[0]
        for sample in split.queries
    }
    found = []
    for dataset, shots in sorted({(key[0], key[1]) for key in samples}):
        if shots != 4 and len(plan.shots) > 1:
            continue
        for one in notable(
            records, scorer=_CHAMPION, dataset=dataset, shots=shots, seed=plan.seeds[0]
        ):
            row = one.record
            sample = samples[row.dataset, row.shots, row.seed, row.sample_id]
            found.append(Exhibit(one, _jpeg(sample.read())))
    return found


def _jpeg(pixels: object) -> bytes:
    image = Image.fromarray(pixels)  # type: ignore[arg-type]
    image.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=80)
    return file.getvalue()


if __name__ == "__main__":
    sys.exit(main())
