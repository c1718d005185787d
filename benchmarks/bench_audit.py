"""Plant bad references and new designs in galleries, audit them: what is found, who is accused.

    AMISS_DATA=... python -m benchmarks.bench_audit           # about 8 minutes on 2 cores
    python -m benchmarks.bench_audit --dev                     # seeds that limits were chosen on

Rendered: 48 products with 6 to 8 references (level easy or medium by product), 5 % bad (damage,
another product of the gallery, a stranger, out of focus, a copy), 5 % of a new design, in groups
of one to three. Photographs: `cookies` and `carton_top` with 16 references each, one damaged and
one other fault of 16, in several rounds; a damaged one is drawn from all that are labelled so.
Seconds are those of this run: galleries that `--work` held already took none to build. Seeds are
other than those of the shipped null, the metric and `--dev`. `found` counts planted
references that were named at all; `as` what they were called. One rule was changed after these
rounds of photographs were seen (before, two groups of cookies in a pose were proposed as designs):
`wrongly_variant` of photographs is no held-out figure.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from anomaly.accusation import ACCUSED
from anomaly.audit import Audit, audit_gallery
from anomaly.builder import build_gallery
from anomaly.contamination import Contamination
from benchmarks.machine import data_folder, save
from benchmarks.planting import (
    Known,
    Planted,
    photograph_gallery,
    read_truth,
    studio_gallery,
    write_gallery,
)
from gallery import Candidate, Gallery

Make = Callable[[], Sequence[Planted]]
# First seed of the studio, dozens of products, seeds of the rounds of photographs.
_DEV, _TEST = (8000, 3, range(2)), (8200, 4, range(10, 14))


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.bench_audit")
    arguments.add_argument("--dev", action="store_true", help="other seeds; nothing is saved")
    arguments.add_argument("--work", type=Path, help="keep galleries here, use those that are")
    given = arguments.parse_args()
    data = data_folder()
    seed, dozens, rounds = _DEV if given.dev else _TEST
    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        studio = {f"studio-{seed}": partial(studio_gallery, seed=seed, dozens=dozens)}
        photographs = {f"photo-{n}": partial(photograph_gallery, data, seed=n) for n in rounds}
        figures = {name: measured(planted, work=work) for name, planted in
                   (("studio", studio), ("photographs", photographs))}  # fmt: skip
    if given.dev:
        print(json.dumps(figures, indent=1))
    else:
        save("audit", "AMISS_DATA=... python -m benchmarks.bench_audit", figures)


def measured(galleries: Mapping[str, Make], *, work: Path) -> dict[str, Any]:
    """Build each gallery unless it is in `work`, audit it; figures over all of them together."""
    pairs: list[tuple[Known, str | None]] = []
    gates = []
    seconds = {"build": 0.0, "gate": 0.0, "audit": 0.0}
    for name, make in galleries.items():
        folder, root = work / name, work / name / "gallery"
        if not (root / "CURRENT").is_file():
            write_gallery(make(), folder)
            seconds["build"] += _timed(partial(build_gallery, folder / "source", root))[0]
        with Gallery.open(root) as opened:
            spent, gate = _timed(partial(Contamination(), Candidate(opened, None, ())))
        seconds["gate"] += spent
        gates.append({"figure": gate.figure and round(gate.figure, 4), "passed": gate.passed})
        spent, audit = _timed(partial(audit_gallery, root))
        seconds["audit"] += spent
        pairs += named(read_truth(folder), audit)
    taken = {name: round(spent, 2) for name, spent in seconds.items() if spent}
    return {**tally(pairs), "gates": gates, "seconds": taken}


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def named(known: Sequence[Known], audit: Audit) -> list[tuple[Known, str | None]]:
    """Each reference with what the audit calls it."""
    called = {(f.product_id, f.name): f.kind for f in audit.findings}
    return [(one, called.get((one.product_id, one.name))) for one in known]


def tally(pairs: Sequence[tuple[Known, str | None]]) -> dict[str, Any]:
    """Found by kind; wrongly accused and wrongly proposed as a variant, count and share.

    Of two designs either may be proposed as the variant: it is found if one of them is, and right
    if the product has two.
    """
    good = [called for one, called in pairs if one.truth == "good"]
    several = {one.product_id for one, _ in pairs if one.truth == "design"}
    told_apart = {
        one.product_id for one, called in pairs if called == "variant" and one.product_id in several
    }
    planted = {}
    for kind in sorted({one.truth for one, _ in pairs} - {"good"}):
        called = [c for one, c in pairs if one.truth == kind]
        planted[kind] = {
            "planted": len(called),
            "found": sum(c is not None for c in called),
            "as": dict(Counter(c for c in called if c is not None).most_common()),
        }
    accused = sum(called in ACCUSED for called in good)
    return {
        "references": len(pairs),
        "good": len(good),
        "wrongly_accused": {"count": accused, "share": round(accused / len(good), 4)},
        "wrongly_undecided": good.count("undecided"),
        "wrongly_variant": sum(
            called == "variant" and one.product_id not in several for one, called in pairs
        ),
        "wrongly_duplicate": good.count("duplicate"),
        "products_with_two_designs": len(several),
        "told_apart": len(told_apart),
        "planted": planted,
    }


if __name__ == "__main__":
    main()
