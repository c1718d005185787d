"""Build real galleries by the command line and identify real photographs in one of them.

    AMISS_DATA=... python -m benchmarks.bench_galleries          (about 4 minutes on 2 cores)

Builds cookies/normal, carton_top/normal, grocery/gallery and grocery/iconic with `amiss build`,
runs `amiss identify` over grocery/query, and reports top-1 and top-5, seconds, and bytes per
reference (grid + keypoints + mask + vector, all files of the shards; originals counted apart).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import data_folder, save

SOURCES = ("cookies/normal", "carton_top/normal", "grocery/gallery", "grocery/iconic")


def amiss(*words: str) -> list[dict[str, Any]]:
    """Run a verb with --json; its lines. Stops where the command fails."""
    command = [sys.executable, "-m", "anomaly.cli", *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command[:4])} ended with {done.returncode}: {done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def build(source: Path, root: Path) -> dict[str, Any]:
    start = time.perf_counter()
    (report,) = amiss("build", str(source), str(root))
    seconds = time.perf_counter() - start
    originals = sum(
        f.stat().st_size for f in (root / "catalog/originals").rglob("*") if f.is_file()
    )
    return {
        "products": report["products"],
        "references": report["references"],
        "seconds_with_start": round(seconds, 1),
        "seconds_build": round(sum(report["seconds"].values()), 1),
        "bytes_per_reference": report["bytes_per_reference"],
        "original_bytes_per_reference": round(originals / report["references"]),
    }


def identify(root: Path, queries: list[Path]) -> dict[str, Any]:
    start = time.perf_counter()
    rows = amiss("identify", str(root), *map(str, queries))
    seconds = time.perf_counter() - start
    ranked = [[c["product_id"] for c in row["candidates"]] for row in rows]
    truth = [q.parent.name for q in queries]
    return {
        "queries": len(queries),
        "top1": round(sum(r[0] == t for r, t in zip(ranked, truth, strict=True)) / len(truth), 4),
        "top5": round(sum(t in r for r, t in zip(ranked, truth, strict=True)) / len(truth), 4),
        "seconds_with_start": round(seconds, 1),
    }


def main() -> None:
    data = data_folder()
    queries = sorted((data / "grocery/query").glob("*/*.jpg"))
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as work:
        for name in SOURCES:
            figures[f"build {name}"] = build(data / name, Path(work) / name.replace("/", "-"))
        for name in ("grocery/gallery", "grocery/iconic"):
            root = Path(work) / name.replace("/", "-")
            figures[f"identify grocery/query in {name}"] = identify(root, queries)
    save("galleries", "AMISS_DATA=... python -m benchmarks.bench_galleries", figures)


if __name__ == "__main__":
    main()
