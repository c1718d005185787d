"""Deltas: seconds until an added picture is used, or a removed one isn't; what searching costs.

    AMISS_DATA=... python -m benchmarks.bench_delta [--quick]
                               (about 15 minutes on 2 cores; 2 with --quick)

Real: a gallery of 16 cookies, 16 carton tops and 8 pictures of each of 16 grocery packages
(--quick: 4, 4 and none; one round in place of five; 5 000 products, not 50 000). Time from the
call (Python API in this process, or the command line with its start) until CURRENT has moved, and
until the first inspection that uses the delta has ended in an inspector that was open before.
Synthetic: products x 3 references, of which a delta changes 1, 10 or 200 products; time of the
update and of one search (count 20, 1 thread) with the delta against without, in turn.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from anomaly import Inspector, build_gallery, import_source, update_gallery, withdraw
from benchmarks.bench_gallery_scale import REFERENCES, SyntheticCatalog, SyntheticDescriber
from benchmarks.machine import data_folder, save
from benchmarks.perturbed import RealVectors, perturbed, real_vectors
from embeddings.threads import limit_threads
from gallery import CatalogRow, Gallery, build, publish
from gallery.delta import MOST_CHANGED, update

COUNT, SEARCHES, WARM = 20, 60, 5


def pictures(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))


def lay_out(data: Path, out: Path, *, quick: bool) -> list[Path]:
    """A folder per product; returns cookies that are in none."""
    groups = {"cookies": pictures(data / "cookies/normal"),
              "carton_top": pictures(data / "carton_top/normal")}  # fmt: skip
    chosen = {name: found[: 4 if quick else 16] for name, found in groups.items()}
    for home in sorted((data / "grocery/gallery").iterdir()) if not quick else ():
        chosen[home.name] = pictures(home)[:8]
    for name, found in chosen.items():
        (out / name).mkdir(parents=True)
        for path in found:
            shutil.copy(path, out / name)
    return groups["cookies"][16:]


def amiss(*words: str | Path) -> None:
    command = [sys.executable, "-m", "anomaly.cli", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"amiss {words[0]} ended with {done.returncode}: {done.stderr}")


def deeds(root: Path, pictured: Path, torn: str, *, cli: bool) -> dict[str, Callable[[], Any]]:
    """{what: a function that does it}: `pictured` holds a folder per product, `torn` goes."""

    def add(product: str) -> None:
        import_source(pictured / product, root, product_id=product)
        update_gallery(root)

    def add_by_cli(product: str) -> None:
        amiss("add", pictured / product, root, "--product", product)

    def drop(*words: str) -> None:
        withdraw(root, words[0], words[1:] or None, deed="remove", why="benchmark")

    def drop_by_cli(*words: str) -> None:
        amiss("remove", root, *words)

    adding, dropping = (add_by_cli, drop_by_cli) if cli else (add, drop)
    return {
        "add": lambda: adding("cookies"),
        "remove": lambda: dropping("cookies", torn),
        "add a product": lambda: adding("newcomer"),
        "remove a product": lambda: dropping("newcomer"),
    }


def real(data: Path, work: Path, *, quick: bool) -> dict[str, Any]:
    spare = lay_out(data, work / "references", quick=quick)
    built = build_gallery(work / "references", work / "gallery").built
    present = iter(pictures(work / "references/cookies"))
    fresh, newcomer, query = iter(spare[:-2]), spare[-2], str(spare[-1])
    figures: dict[str, Any] = {"products": built.products, "references": built.references}
    with Inspector.open(work / "gallery") as inspector:
        inspector.inspect(query, product_id="cookies")
        for label in ("python", "command line"):
            times: dict[str, list[tuple[float, float]]] = {}
            for number in range(1 if quick else 5):
                home = work / f"{label}-{number}"
                for product, picture in (("cookies", next(fresh)), ("newcomer", newcomer)):
                    (home / product).mkdir(parents=True)
                    shutil.copy(picture, home / product)
                cli, torn = label != "python", next(present).name
                for what, do in deeds(work / "gallery", home, torn, cli=cli).items():
                    times.setdefault(what, []).append(timed(do, inspector, query))
            figures[label] = {what: medians(found) for what, found in times.items()}
    return figures


def timed(do: Callable[[], Any], inspector: Inspector, query: str) -> tuple[float, float]:
    """Seconds until it serves, and until an inspection that uses it has ended."""
    before = inspector.inspect(query, product_id="cookies").delta
    start = time.perf_counter()
    do()
    serves = time.perf_counter() - start
    after = inspector.inspect(query, product_id="cookies").delta
    used = time.perf_counter() - start
    assert after is not None
    assert after != before
    return serves, used


def medians(found: Sequence[tuple[float, float]]) -> dict[str, float]:
    return {
        "s until it serves": round(statistics.median(serves for serves, _ in found), 3),
        "s until it was used": round(statistics.median(used for _, used in found), 3),
    }


class Changed(SyntheticCatalog):
    """The synthetic catalog with one reference more of each of the first `changed` products."""

    def __init__(self, base: SyntheticCatalog, changed: int) -> None:
        vars(self).update(vars(base))
        self.seq, self._changed = base.seq + changed, changed

    def rows(self) -> list[CatalogRow]:
        new = [
            replace(row, slot=REFERENCES, image=f"{row.product_no:032x}{REFERENCES:032x}"[::-1])
            for row in super().rows()
            if row.slot == 0 and row.product_no < self._changed
        ]
        return sorted([*super().rows(), *new], key=lambda row: row.key)

    def refresh(self) -> None:
        return None


def synthetic(root: Path, products: int, real: RealVectors) -> dict[str, Any]:
    vectors = perturbed(real, products=products, each=REFERENCES + 1, seed=0)
    slots = np.arange(REFERENCES + 1, dtype=np.int64)
    keys = (np.arange(products, dtype=np.int64)[:, None] << 16 | slots).ravel()
    catalog, describer = SyntheticCatalog(root, products), SyntheticDescriber(keys, vectors)
    built = build(catalog, describer, config={})  # type: ignore[arg-type]
    publish(root, built.build_id)
    limit_threads(1)
    unseen = vectors[REFERENCES :: REFERENCES + 1][-SEARCHES - WARM :]  # of unchanged products
    figures: dict[str, Any] = {"products": products, "references": built.references}
    for changed in (1, 10, 200):
        start = time.perf_counter()
        moved: Any = Changed(catalog, changed)  # a catalog but for its originals
        report = update(moved, describer, most=MOST_CHANGED)
        seconds = time.perf_counter() - start
        assert report.published, report.gates
        figures[f"{changed} products changed"] = {
            "s of the update": round(seconds, 3), **report.seconds, **searching(root, unseen),
        }  # fmt: skip
    return figures


def searching(root: Path, queries: np.ndarray[Any, Any]) -> dict[str, float]:
    """Milliseconds of a search with the delta and without, asked in turn."""
    times: dict[str, list[float]] = {"without": [], "with": []}
    with Gallery.open(root) as layered, Gallery.open(root, build=layered.build_id) as bare:
        for number, query in enumerate(queries):
            for label, gallery in (("without", bare), ("with", layered)):
                start = time.perf_counter()
                gallery.index.search(query, count=COUNT)
                if number >= WARM:  # the first ones verify and map
                    times[label].append(1000 * (time.perf_counter() - start))
    medians = {label: statistics.median(found) for label, found in times.items()}
    return {
        "ms of a search without": round(medians["without"], 3),
        "ms of a search with": round(medians["with"], 3),
        "ratio": round(medians["with"] / medians["without"], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as work:
        data, root = data_folder(), Path(work) / "synthetic"
        figures = {
            "real gallery": real(data, Path(work), quick=quick),
            "synthetic gallery": synthetic(root, 5_000 if quick else 50_000, real_vectors(data)),
        }
    command = "AMISS_DATA=... python -m benchmarks.bench_delta" + " --quick" * quick
    save("delta", command, figures)


if __name__ == "__main__":
    main()
