"""What searching an index costs a process that does nothing else: time, and memory by kind.

Each measurement is a process of its own. Beside wall time stands the time that the searching thread
had a core, which says what a search costs while others keep the machine busy. Memory that is mapped
from a file is shared by all readers of the build and given back when memory is short; anonymous
memory is neither.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

COUNT = 20  # what `identify` asks for first
_CHILD = """
import json, sys, time
from pathlib import Path
import numpy as np
from gallery import Gallery
from gallery.index import Index

def memory():
    rows = [line.split() for line in open('/proc/self/smaps_rollup')][1:]
    kib = {row[0]: int(row[1]) for row in rows}
    return {name: kib[key] / 1024 for name, key in (
        ('rss', 'Rss:'), ('pss', 'Pss:'), ('anonymous', 'Anonymous:'))}

def clock(deed):
    start, worked = time.perf_counter(), time.thread_time()
    found = deed()
    return found, 1000 * (time.perf_counter() - start), 1000 * (time.thread_time() - worked)

place, queries, out = sys.argv[1:]
vectors = np.load(queries)
bare = memory()
if (Path(place) / 'CURRENT').exists():
    gallery, ms_open, _ = clock(lambda: Gallery.open(place))
    index = gallery.index
else:
    settings = json.loads((Path(place) / 'settings.json').read_text())
    path = Path(place) / 'index.faiss'
    index, ms_open, _ = clock(lambda: Index.of_build(path, settings['sha256'], settings))
_, ms_first, _ = clock(lambda: index.search(vectors[0], count=20))
found, ms, core = zip(*(clock(lambda: index.search(v, count=20).keys) for v in vectors))
np.save(out, np.stack(found))
print(json.dumps({'ms_open': ms_open, 'ms_first': ms_first, 'ms': ms, 'core': core,
                  'bare': bare, 'after': memory()}))
"""


def search_costs(place: Path, queries: Path) -> dict[str, Any]:
    """Searches of the (Q, D) vectors in the file `queries` in a gallery, or in a folder that holds
    index.faiss and settings.json. `keys`: (Q, 20) found; the rest goes into results.
    """
    out = queries.with_name("found.npy")
    words = [sys.executable, "-c", _CHILD, str(place), str(queries), str(out)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"searching {place} ended with {done.returncode}: {done.stderr}")
    found = json.loads(done.stdout)
    before, after = found["bare"], found["after"]
    return {
        "keys": np.load(out),
        "ms_open": round(found["ms_open"], 2),
        "ms_first_search_with_checksum": round(found["ms_first"], 1),
        "ms_search_p50": round(float(np.percentile(found["ms"], 50)), 3),
        "ms_search_p95": round(float(np.percentile(found["ms"], 95)), 3),
        "ms_search_core_p50": round(float(np.percentile(found["core"], 50)), 3),
        "ms_search_core_p95": round(float(np.percentile(found["core"], 95)), 3),
        "mib_resident": round(after["rss"], 1),
        "mib_resident_before_opening": round(before["rss"], 1),
        "mib_anonymous_more": round(after["anonymous"] - before["anonymous"], 1),
        "mib_file_mapped_more": round(
            after["rss"] - after["anonymous"] - before["rss"] + before["anonymous"], 1
        ),
        "mib_proportional": round(after["pss"], 1),
    }


def slope(sizes: list[int], values: list[float]) -> dict[str, float]:
    """Least squares line through (size, value): value at none, and value per million."""
    per, none = np.polyfit(np.array(sizes) / 1e6, values, 1)
    return {"at_none": round(float(none), 4), "per_million": round(float(per), 3)}
