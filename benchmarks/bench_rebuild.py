"""The nightly job: a full build by stage, a night without news, a night with 1 % news.

    AMISS_DATA=... python -m benchmarks.bench_rebuild [--references 5000] [--workers 1]
                                                       (about 1 hour on 2 cores; 400: 5 minutes)

Products are cut from photographs (cookies, cartons, groceries): a crop each, photographed 3 or 4
times with another turn, scale, light and frame, as JPEG of 640 px. Everything runs in processes of
their own, as a scheduler would: import, full build with keypoints and profiles, a rebuild without
changes, a rebuild after `replace` of 1 % of the references, each of another product.

`busy_s` is work by stage over all threads, and `times_embedding` the same in units of the stage
`embed` (resize, network, pooling): that is the bare embedding time of the same run. Stages of the
full build that run once, on one thread, are `wall_s`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.machine import data_folder, save
from embeddings.images import Pixels, read_image
from gallery import open_catalog
from gallery.sources import SourceRow

PHOTOGRAPHS = ("cookies/normal", "carton_top/normal", "grocery/gallery", "grocery/query")
LONGEST_PX = 640
NEWS = 0.01
_JOB = """
import dataclasses, json, sys, time
start = time.perf_counter()
from anomaly.builder import rebuild
from anomaly.config import build_config
from pathlib import Path
root, given = Path(sys.argv[1]), json.loads(sys.argv[2])
if __name__ == "__main__":
    imported = time.perf_counter() - start
    from anomaly.builder import published_settings
    report = rebuild(root, config=build_config(inherited=published_settings(root), given=given))
    print(json.dumps({"report": dataclasses.asdict(report), "imports_s": imported,
                      "torch": "torch" in sys.modules}))
"""


def references_of(number: int) -> int:
    """3 or 4 pictures a product, in turn."""
    return 3 + number % 2


def photograph(original: Pixels, product: int, take: int) -> Pixels:
    """Take `take` of the product that is cut from `original`: at most 640 px, seeded."""
    part = np.random.default_rng([product, 0])
    shot = np.random.default_rng([product, 1, take])
    height, width = original.shape[:2]
    side = part.uniform(0.55, 0.8) * min(height, width)
    x, y = part.uniform(0.4, 0.6) * width, part.uniform(0.4, 0.6) * height
    scale = LONGEST_PX / side * shot.uniform(0.92, 1.0)
    turn = cv2.getRotationMatrix2D((x, y), shot.uniform(-12, 12), scale)
    frame = (LONGEST_PX, int(LONGEST_PX * (0.7 + 0.3 * part.random())))
    turn[:, 2] += np.array(frame) / 2 - (x, y) + shot.uniform(-12, 12, 2)
    moved = cv2.warpAffine(
        original, turn, frame, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT_101
    )
    lit = moved.astype(np.float32) * shot.uniform(0.85, 1.1) + shot.normal(0, 2.5, moved.shape)
    return np.asarray(np.clip(lit, 0, 255), np.uint8)


def write_source(data: Path, folder: Path, references: int) -> int:
    """A folder per product, `references` pictures at least; how many products."""
    files = [f for name in PHOTOGRAPHS for f in sorted((data / name).rglob("*.jpg"))]
    products = 0
    while references > 0:
        references -= references_of(products)
        products += 1

    def write(number: int) -> None:
        original = read_image(files[number % len(files)])
        home = folder / f"product-{number:05d}"
        home.mkdir(parents=True)
        for take in range(references_of(number)):
            save_jpeg(home / f"{take}.jpg", photograph(original, number, take))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, range(products)))
    return products


def save_jpeg(path: Path, pixels: Pixels) -> None:
    done, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    assert done
    path.write_bytes(data.tobytes())


def job(root: Path, **given: Any) -> dict[str, Any]:
    """One rebuild in a process of its own; what it reported and how long it all took."""
    script = root.parent / "job.py"
    script.write_text(_JOB)
    start = time.perf_counter()
    command = [sys.executable, str(script), str(root), json.dumps(given)]
    path = os.pathsep.join(p for p in (str(Path.cwd()), os.environ.get("PYTHONPATH")) if p)
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    if done.returncode:
        sys.exit(f"the job ended with {done.returncode}: {done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**found, "seconds": time.perf_counter() - start}


def figures_of(found: dict[str, Any]) -> dict[str, Any]:
    report, tally = found["report"], found["report"]["tally"]
    busy, bare = tally["seconds"], tally["seconds"].get("embed", 0.0)
    return {
        "seconds": round(found["seconds"], 1),
        "torch_imported": found["torch"],
        "unchanged": report["unchanged"],
        "embedded": tally["embedded"],
        "copied": tally["copied"],
        "shards": tally["shards_written"] + tally["shards_shared"],
        "wall_s": {"imports": round(found["imports_s"], 2), **report["seconds"]},
        "busy_s": {stage: round(spent, 2) for stage, spent in sorted(busy.items())},
        "times_embedding": {k: round(v / bare, 3) for k, v in sorted(busy.items())} if bare else {},
        "times_embedding_all": round(sum(busy.values()) / bare, 2) if bare else None,
    }


def replace_some(root: Path, data: Path, count: int, folder: Path) -> None:
    """Another photograph in the place of the first reference of every so many products."""
    catalog, files = open_catalog(root), sorted((data / "grocery/gallery").rglob("*.jpg"))
    first = {row.product_id: row for row in reversed(catalog.rows())}
    rows = [first[name] for name in sorted(first)]
    for number, row in enumerate(rows[:: max(1, len(rows) // count)][:count]):
        path = folder / f"{number}.jpg"
        original = read_image(files[number % len(files)])
        save_jpeg(path, photograph(original, 10**6 + number, 0))
        new = SourceRow(row.product_id, path, where=path.name)
        catalog.replace(row.reference_id, new, why="bench")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--references", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--dry", action="store_true", help="print, keep no result")
    arguments, data = parser.parse_args(), data_folder()
    with tempfile.TemporaryDirectory() as work:
        home, root = Path(work), Path(work) / "gallery"
        products = write_source(data, home / "source", arguments.references)
        figures: dict[str, Any] = {"products": products, "workers": arguments.workers}
        words = [sys.executable, "-m", "anomaly.cli", "import", str(home / "source"), str(root)]
        start = time.perf_counter()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        figures["import_s"] = round(time.perf_counter() - start, 1)
        full = figures["full"] = figures_of(job(root, workers=arguments.workers))
        figures["references"] = full["embedded"]
        still = figures["no change"] = figures_of(job(root))
        (home / "news").mkdir()
        count = max(1, round(NEWS * full["embedded"]))
        replace_some(root, data, count, home / "news")
        news = figures["1 % changed"] = figures_of(job(root, workers=arguments.workers))
        figures["no change / full"] = round(still["seconds"] / full["seconds"], 4)
        figures["1 % changed / full"] = round(news["seconds"] / full["seconds"], 4)
    command = "AMISS_DATA=... python -m benchmarks.bench_rebuild"
    command += f" --references {arguments.references} --workers {arguments.workers}"
    if arguments.dry:
        print(json.dumps(figures, indent=1))
    else:
        save("rebuild", command, figures)


if __name__ == "__main__":
    main()
