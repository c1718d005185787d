"""Inspect from many processes while builds are published and pruned under them.

    AMISS_DATA=... python -m benchmarks.bench_readers           (about 4 minutes on 2 cores)

A small gallery of grocery photographs on the real backbone. Eight processes, each with an
`Inspector` that follows CURRENT, inspect query after query while this one adds a reference, builds,
publishes and prunes, twenty times. Every result names its build; it must be, to 6 significant
digits, what an inspector that sees nothing but that build says (`mixed` counts the others).
Latencies are those of eight processes on few cores beside a build: they show no stall, not speed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anomaly import Inspector
from anomaly.builder import build_gallery, import_source, rebuild
from anomaly.config import build_config
from anomaly.output import rounded
from anomaly.schema import as_json
from benchmarks.machine import data_folder, save
from gallery import list_builds
from gallery.history import prune

PRODUCTS, REFERENCES, QUERIES = 3, 3, 2
_LEFT_OUT = ("inspection_id", "timings_ms")


def told(inspector: Inspector, query: Path) -> tuple[str, str]:
    """(build, digest of what is said about a query beside times and the inspection's own ID)."""
    result = as_json(inspector.inspect(query, product_id=query.parent.name))
    kept = {key: value for key, value in result.items() if key not in _LEFT_OUT}
    text = json.dumps(rounded(kept), sort_keys=True)
    return str(result["build"]), hashlib.sha256(text.encode()).hexdigest()


def read(root: Path, queries: Sequence[Path], out: Path, stop: Path) -> None:
    """A reader's life: (query, build, digest, ms) for each inspection, or its error."""
    lines: list[list[Any]] = []
    with Inspector.open(root, threads=1) as inspector:
        while not stop.exists():
            for query in queries:
                start = time.perf_counter()
                try:
                    build, digest = told(inspector, query)
                except Exception as error:
                    build, digest = "error", repr(error)
                lines.append([query.name, build, digest, 1000 * (time.perf_counter() - start)])
            out.with_suffix(".ready").touch()
    out.write_text(json.dumps(lines))


def churn(root: Path, queries: Sequence[Path], late: Sequence[Path]) -> dict[str, dict[str, str]]:
    """Publish and prune a build for each late picture; {build: {query: what it must say}}."""
    expected = {}
    config = build_config(given={"threads": 1})
    with Inspector.open(root, threads=1) as inspector:
        for number, picture in enumerate([None, *late]):
            if picture is not None:
                import_source(picture.parent, root, product_id=picture.parent.name, threads=1)
                assert rebuild(root, config=config).published
            expected[inspector.build_id] = {q.name: told(inspector, q)[1] for q in queries}
            gone = prune(root, keep=1)
            print(
                f"build {number}: {len(gone.held)} held, {len(gone.builds)} gone", file=sys.stderr
            )
    return expected


def prepare(home: Path, builds: int) -> tuple[Path, list[Path], list[Path]]:
    """(root of a published gallery, queries, pictures to come), the last each in a folder."""
    gallery, query = data_folder() / "grocery/gallery", data_folder() / "grocery/query"
    products = sorted(gallery.iterdir())[:PRODUCTS]
    queries, late = [], []
    for product in products:
        pictures = sorted(product.iterdir())
        folder = home / "first" / product.name
        folder.mkdir(parents=True)
        for picture in pictures[:REFERENCES]:
            shutil.copy(picture, folder)
        queries += sorted((query / product.name).iterdir())[:QUERIES]
        late.append(pictures[REFERENCES:])
    coming = [late[n % PRODUCTS][n // PRODUCTS] for n in range(builds)]
    placed = []
    for number, picture in enumerate(coming):
        folder = home / "late" / str(number) / picture.parent.name
        folder.mkdir(parents=True)
        placed.append(Path(shutil.copy(picture, folder)))
    made = build_gallery(
        home / "first", home / "gallery", config=build_config(given={"threads": 1})
    )
    assert made.built.published
    return home / "gallery", queries, placed


def figures_of(lines: list[list[list[Any]]], expected: dict[str, dict[str, str]]) -> dict[str, Any]:
    every = [line for reader in lines for line in reader]
    errors = [line[2] for line in every if line[1] == "error"]
    answered = [line for line in every if line[1] != "error"]
    mixed = [
        1 for name, build, digest, _ in answered if expected.get(build, {}).get(name) != digest
    ]
    taken = np.array([line[3] for line in answered])
    return {
        "readers": len(lines),
        "builds_published": len(expected) - 1,
        "inspections": len(every),
        "errors": sorted(set(errors)),
        "mixed": len(mixed),
        "builds_seen_by_reader": [len({line[1] for line in reader}) for reader in lines],
        "different_answers": len(
            {digest for told in expected.values() for digest in told.values()}
        ),
        "ms_median": round(float(np.median(taken)), 1),
        "ms_p95": round(float(np.percentile(taken, 95)), 1),
        "ms_longest": round(float(taken.max()), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--readers", type=int, default=8)
    parser.add_argument("--builds", type=int, default=20)
    given = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as work:
        home = Path(work)
        root, queries, late = prepare(home, given.builds)
        outs, stop = [home / f"{number}.json" for number in range(given.readers)], home / "stop"
        readers = [context.Process(target=read, args=(root, queries, out, stop)) for out in outs]
        for reader in readers:
            reader.start()
        while not all(out.with_suffix(".ready").exists() for out in outs):
            assert all(reader.is_alive() for reader in readers)
            time.sleep(0.1)
        try:
            expected = churn(root, queries, late)
        finally:
            stop.touch()
            for reader in readers:
                reader.join()
        prune(root, keep=1)
        figures = figures_of([json.loads(out.read_text()) for out in outs], expected)
        figures["builds_left"] = len(list_builds(root))
    command = (
        f"python -m benchmarks.bench_readers --readers {given.readers} --builds {given.builds}"
    )
    save("readers", command, figures)
    sys.exit(1 if figures["errors"] or figures["mixed"] else 0)


if __name__ == "__main__":
    main()
