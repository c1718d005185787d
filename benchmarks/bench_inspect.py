"""Inspecting real photographs by the command line: AUROC and verdicts at 4 and 16 references.

    AMISS_DATA=... python -m benchmarks.bench_inspect           # 8 minutes on 2 cores
    AMISS_DATA=... python -m benchmarks.bench_inspect --quick   # one seed, 4 references; not saved

cookies and carton_top, seeds 0 to 2: the sorted normal pictures are shuffled with
`random.Random(seed)`, the first K are references, the next 40 negatives, 40 shuffled anomalous ones
positives. `amiss build` and `amiss inspect --product --json` do the work, with default settings.
Both sets are development sets.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import data_folder, save

SETS = ("cookies", "carton_top")
_SHOTS, _SEEDS = (4, 16), (0, 1, 2)
_MOST = 40


def main() -> None:
    quick = "--quick" in sys.argv
    figures = []
    for name in SETS:
        for shots in _SHOTS[:1] if quick else _SHOTS:
            runs = [run(name, shots, seed) for seed in (_SEEDS[:1] if quick else _SEEDS)]
            mean = round(float(np.mean([r["auroc"] for r in runs])), 4)
            figures.append({"set": name, "references": shots, "mean_auroc": mean, "runs": runs})
            print(f"{name} {shots}: {mean}", file=sys.stderr)
    if quick:
        print(json.dumps(figures, indent=1))
    else:
        save("inspect", "AMISS_DATA=... python -m benchmarks.bench_inspect", figures)


def run(name: str, shots: int, seed: int) -> dict[str, Any]:
    """One split: build, inspect, AUROC and verdicts."""
    normal, anomalous = (
        sorted((data_folder() / name / kind).glob("*.jpg")) for kind in ("normal", "anomalous")
    )
    rng = random.Random(seed)
    rng.shuffle(normal)
    rng.shuffle(anomalous)
    negatives, positives = normal[shots : shots + _MOST], anomalous[:_MOST]
    with tempfile.TemporaryDirectory() as folder:
        gallery = _build(Path(folder), name, normal[:shots])
        rows = _inspect(gallery, name, [*negatives, *positives])
    scores = np.array([row["score"] for row in rows])
    return {
        "seed": seed,
        "auroc": round(auroc(scores[: len(negatives)], scores[len(negatives) :]), 4),
        "normal": _verdicts(rows[: len(negatives)]),
        "anomalous": _verdicts(rows[len(negatives) :]),
    }


def auroc(negatives: Any, positives: Any) -> float:
    """Share of pairs in which the positive scores higher; ties count half."""
    higher = positives[None, :] > negatives[:, None]
    ties = positives[None, :] == negatives[:, None]
    return float((higher + 0.5 * ties).mean())


def _build(folder: Path, name: str, references: list[Path]) -> Path:
    source = folder / "references" / name
    source.mkdir(parents=True)
    for path in references:
        shutil.copy(path, source)
    _amiss("build", str(source.parent), str(folder / "gallery"))
    return folder / "gallery"


def _inspect(gallery: Path, product: str, pictures: list[Path]) -> list[dict[str, Any]]:
    text = _amiss(
        "inspect", str(gallery), *map(str, pictures), "--product", product, "--json", allowed=(0, 1)
    )
    return [json.loads(line) for line in text.splitlines()]


def _amiss(*arguments: str, allowed: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "anomaly.cli", *arguments], capture_output=True, text=True
    )
    if done.returncode not in allowed:
        sys.exit(f"amiss {' '.join(arguments[:2])}: {done.returncode}\n{done.stderr}")
    return done.stdout


def _verdicts(rows: list[dict[str, Any]]) -> dict[str, int]:
    counts = Counter(row["verdict"] for row in rows)
    counts["aligned"] = sum(row["alignment"]["status"] == "aligned" for row in rows)
    return dict(sorted(counts.items()))


if __name__ == "__main__":
    main()
