"""What damage is called: true kind against the kind of the finding that lies upon it.

    python -m benchmarks.bench_naming export --part 0/2 &   # 6 minutes on one core each; resumable
    python -m benchmarks.bench_naming export --part 1/2
    python -m benchmarks.bench_naming evaluate              # seconds; writes results/naming.json
    ... --seeds development                                 # other products, a fifth; not saved

Rendered products, 4 references each, turned freely, a third on a belt; each with damage of strength
0.6 in turn, sets with more missing units than others. A picture counts under the kind of the
finding that covers most of the true mask, `not_found` where none touches it. The threshold is the
shipped null's at 1 %. Right are: missing_unit -> missing, spill -> spill, dent -> changed or
missing (it takes some of the silhouette away), all others -> changed or added (a stain, a hole,
another product's unit: `changed` is what the contract says).
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anomaly.nulls import Nulls, read_shipped
from anomaly.pipeline import SCORING, examine, judge
from anomaly.results import Finding
from anomaly.studio import Damage, Photograph, Product, draw_shot, make_products, render
from benchmarks.machine import save
from benchmarks.rendered import Rendered, as_query, as_references, shooter
from benchmarks.shares import add_part
from embeddings import Embedder, open_embedder
from embeddings.images import Mask
from embeddings.threads import limit_threads
from gallery.describe import RECORD_CODEC

BUDGET, REFERENCES, STRENGTH = 0.01, 4, 0.6
_SEEDS = {"reported": (7000, 10), "development": (8000, 2)}  # first of the dozens, how many
_SETS = ("missing_unit", "wrong_unit", "missing_unit", "tear", "missing_unit", "spill")
_FLAT = ("tear", "hole", "stain", "spill", "crush", "scuff", "dirt", "dent")
_OF_FLAT = 4


def main() -> None:
    parser = argparse.ArgumentParser(description="What damage is called.")
    parser.add_argument("deed", choices=("export", "evaluate"))
    add_part(parser)
    parser.add_argument("--seeds", choices=sorted(_SEEDS), default="reported")
    parser.add_argument("--folder", type=Path, default=Path("benchmark-runs/naming"))
    given = parser.parse_args()
    home = given.folder / given.seeds
    if given.deed == "export":
        part, parts = given.part
        export(home, seeds=given.seeds, part=part, parts=parts)
        return
    files = sorted(home.glob(f"*-{SCORING.digest[:12]}.json"))
    products = 12 * _SEEDS[given.seeds][1]
    assert len(files) == products, f"{len(files)} of {products} products in {home}: export all"
    figures = table([row for file in files for row in json.loads(file.read_text("utf-8"))])
    if given.seeds == "reported":
        save("naming", "python -m benchmarks.bench_naming export, then evaluate", figures)
    else:
        print(json.dumps(figures, indent=1))


def export(home: Path, *, seeds: str, part: int, parts: int) -> None:
    """A file of [true kind, named kind] per product; those that are there are kept, so that
    another naming wants another folder."""
    limit_threads(1)
    home.mkdir(parents=True, exist_ok=True)
    embedder = open_embedder(device="cpu")
    known = read_shipped(embedder.fingerprint(codec=RECORD_CODEC))
    assert known is not None, "run benchmarks.make_shipped_null first"
    first, dozens = _SEEDS[seeds]
    for number in range(part, 12 * dozens, parts):
        path = home / f"{number:04d}-{SCORING.digest[:12]}.json"
        if path.exists():
            continue
        product = make_products(seed=first + number // 12)[number % 12]
        rendered = referenced(product, number, embedder)
        rows = [
            [photograph.kind, named(findings_of(photograph, rendered, embedder, known),
                                    photograph.damage_mask)]
            for photograph in damaged(product, number)
        ]  # fmt: skip
        path.write_text(json.dumps(rows), "utf-8")
        print(f"{path.name}: {rows}", flush=True)


def referenced(product: Product, number: int, embedder: Embedder) -> Rendered:
    shoot = shooter(product, seed=number, background=_ground(number))
    photographs = [shoot() for _ in range(REFERENCES)]
    return as_references(product.product_id, photographs, embedder=embedder)


def damaged(product: Product, number: int) -> Iterator[Photograph]:
    """One photograph per kind; sets have kinds of their own."""
    start = _OF_FLAT * number
    flat = [_FLAT[(start + step) % len(_FLAT)] for step in range(_OF_FLAT)]
    for take, kind in enumerate(_SETS if product.faces["front"].units else flat):
        shot = draw_shot(np.random.default_rng([number, take]), background=_ground(number))
        yield render(product, shot=shot, seed=100 * number + take, damage=Damage(kind, STRENGTH))


def _ground(number: int) -> str:
    return "belt" if number % 3 == 2 else "tray"


def findings_of(
    photograph: Photograph, rendered: Rendered, embedder: Embedder, known: Nulls
) -> Sequence[Finding]:
    """As an inspection would give them."""
    profile = rendered.profile
    evidence = examine(
        as_query(photograph.image), rendered.references, embedder=embedder,
        placed=profile.has_form, turning=profile.turns, learned=profile.learned,
    )  # fmt: skip
    nulls = profile.nulls(known.priors)
    return judge(evidence, nulls=nulls, sources=known.beyond(profile), budget=BUDGET).findings


def named(findings: Sequence[Finding], truth: Mask) -> str:
    """The kind of the finding whose box holds most of the truth; the smaller box at a draw."""
    best, kind = (0.0, 0.0), "not_found"
    for finding in findings:
        if finding.bbox_px is not None:
            x0, y0, x1, y1 = (round(edge) for edge in finding.bbox_px)
            held = float(truth[y0:y1, x0:x1].sum()), -float((x1 - x0) * (y1 - y0))
            if held[0] > 0 and held > best:
                best, kind = held, finding.kind
    return kind


def table(rows: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Counts by true and named kind, and the share of right names among what was found."""
    counts: dict[str, Counter[str]] = {}
    for true, said in rows:
        counts.setdefault(true, Counter())[said] += 1
    right = {"missing_unit": {"missing"}, "spill": {"spill"}, "dent": {"changed", "missing"}}
    shares = {}
    for true, row in sorted(counts.items()):
        found = sum(row.values()) - row["not_found"]
        hits = sum(row[kind] for kind in right.get(true, {"changed", "added"}))
        shares[true] = round(hits / found, 3) if found else None
    return {
        "pictures": len(rows),
        "named": {true: dict(sorted(row.items())) for true, row in sorted(counts.items())},
        "right_of_found": shares,
    }


if __name__ == "__main__":
    main()
