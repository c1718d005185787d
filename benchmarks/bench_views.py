"""Four views of an item against one: does the item's sideline rate meet the budget, what is found?

    python -m benchmarks.bench_views export --part 0/2 &   # 12 minutes on one core each; resumable
    python -m benchmarks.bench_views export --part 1/2
    python -m benchmarks.bench_views evaluate              # seconds; writes results/views.json
    ... --seeds development                                # other products, a third; not saved

Rendered products with 4 references each, turned freely, a third on a belt. One half of them tells
what pristine pictures score (the calibration), the other half gives items: pristine ones and
damaged ones of strength 0.5, each photographed four times, the damage the same in each. A damaged
item is judged by its first view, by all four, and with only its first view damaged. Rules: `simes`
is what `anomaly.item` does, `bonferroni` its classic, `uncorrected` what happens without either.
The interval is the 95 % beta-binomial one of the calls that n calibration scores leave to as many
exchangeable items; items of one product are alike, so the true one is wider.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import betabinom

from anomaly.calibrate import NullScores, calibrate
from anomaly.item import simes
from anomaly.nulls import read_shipped
from anomaly.pipeline import SCORING, examine
from anomaly.profile import Profile, nearest
from anomaly.score import Prior, score
from anomaly.studio import Damage, Product, draw_shot, make_products, render
from benchmarks.machine import save
from benchmarks.rendered import Rendered, as_query, as_references, kept_as, shooter
from benchmarks.shares import add_part
from embeddings import Embedder, Pixels, open_embedder
from embeddings.threads import limit_threads
from gallery.describe import RECORD_CODEC

VIEWS, REFERENCES = 4, 4
BUDGETS = (0.05, 0.02, 0.01)
_SEEDS = {"reported": (5000, 16), "development": (6000, 5)}  # first of the dozens, how many
_CALIBRATION, _PRISTINE, _DAMAGED = 8, 3, 2  # pictures, items, items of a product
_FLAT = ("tear", "hole", "crush", "stain", "spill", "dirt", "scuff", "dent")
_SETS = ("missing_unit", "wrong_unit", "tear", "spill")


@dataclass(frozen=True)
class Scored:
    """One view: `role` calibration, pristine or damaged; `evidence` placed, anywhere, or untrusted
    where a product with a form was not aligned."""

    product: str
    role: str
    item: int
    view: int
    damage: str | None
    evidence: str
    score: float


def main() -> None:
    parser = argparse.ArgumentParser(description="Four views against one.")
    parser.add_argument("deed", choices=("export", "evaluate"))
    add_part(parser)
    parser.add_argument("--seeds", choices=sorted(_SEEDS), default="reported")
    parser.add_argument("--folder", type=Path, default=Path("benchmark-runs/views"))
    given = parser.parse_args()
    home = given.folder / given.seeds
    if given.deed == "export":
        part, parts = given.part
        export(home, seeds=given.seeds, part=part, parts=parts)
        return
    figures = evaluate(read(home))
    if given.seeds == "reported":
        save("views", "python -m benchmarks.bench_views export, then evaluate", figures)
    else:
        print(json.dumps(figures, indent=1))


def export(home: Path, *, seeds: str, part: int, parts: int) -> None:
    """A file of scores per product; those that are there under this scoring are kept."""
    limit_threads(1)
    home.mkdir(parents=True, exist_ok=True)
    embedder = open_embedder(device="cpu")
    shipped = read_shipped(embedder.fingerprint(codec=RECORD_CODEC))
    assert shipped is not None, "run benchmarks.make_shipped_null first"
    first, dozens = _SEEDS[seeds]
    for number in range(part, 12 * dozens, parts):
        path = home / f"{number:04d}-{SCORING.digest[:12]}.json"
        if path.exists():
            continue
        product = make_products(seed=first + number // 12)[number % 12]
        rows = [asdict(row) for row in _scored(product, number, embedder, shipped.priors)]
        path.with_suffix(".part").write_text(json.dumps(rows), "utf-8")
        path.with_suffix(".part").rename(path)
        print(f"{path.name}: {len(rows)} views", flush=True)


def read(home: Path) -> list[Scored]:
    """What was exported under the scoring that is in force."""
    files = sorted(home.glob(f"*-{SCORING.digest[:12]}.json"))
    assert files, f"nothing exported in {home} under this scoring: run export first"
    return [Scored(**row) for file in files for row in json.loads(file.read_text("utf-8"))]


def _scored(
    product: Product, number: int, embedder: Embedder, priors: Mapping[str, Prior]
) -> Iterator[Scored]:
    background = "belt" if number % 3 == 2 else "tray"
    shoot = shooter(product, seed=number, background=background)
    photographs = [shoot() for _ in range(REFERENCES)]
    rendered = as_references(product.product_id, photographs, embedder=embedder)

    def one(role: str, item: int, view: int, damage: Damage | None = None) -> Scored:
        rng = np.random.default_rng([number, 1 + item, view])
        shot = draw_shot(rng, background=background)
        image = render(product, shot=shot, seed=1000 * number + item, damage=damage).image
        evidence, value = _judged(image, rendered, embedder, priors)
        kind = None if damage is None else damage.kind
        return Scored(product.product_id, role, item, view, kind, evidence, value)

    if number // 12 % 2:  # a dozen to calibrate, a dozen to be judged
        yield from (one("calibration", item, 0) for item in range(_CALIBRATION))
        return
    kinds = _SETS if product.faces["front"].units else _FLAT
    for item in range(_PRISTINE):
        yield from (one("pristine", item, view) for view in range(VIEWS))
    for item in range(_DAMAGED):
        damage = Damage(kinds[(_DAMAGED * number + item) % len(kinds)], 0.5)
        yield from (one("damaged", _PRISTINE + item, view, damage) for view in range(VIEWS))


def _judged(
    image: Pixels, rendered: Rendered, embedder: Embedder, priors: Mapping[str, Prior]
) -> tuple[str, float]:
    profile: Profile = rendered.profile
    references = nearest(embedder.embed([image])[0].vector, rendered.references)
    found = examine(
        as_query(image), references, embedder=embedder, placed=profile.has_form,
        turning=profile.turns, learned=profile.learned,
    ).comparison  # fmt: skip
    value = score(found.channels, profile.nulls(priors)).score
    untrusted = profile.has_form and not found.placed
    return "untrusted" if untrusted else kept_as(found), round(float(value), 4)


def evaluate(rows: Sequence[Scored]) -> dict[str, Any]:
    """Realised sideline rates and recall by budget, rule and number of views."""
    nulls = {
        kind: NullScores("pooled", np.array(
            [r.score for r in rows if r.role == "calibration" and r.evidence == kind], np.float32))
        for kind in ("placed", "anywhere", "loose")
    }  # fmt: skip
    items: dict[tuple[str, int], list[Scored]] = {}
    for row in rows:
        if row.role != "calibration":
            items.setdefault((row.product, row.item), []).append(row)
    sizes = {kind: len(null.scores) for kind, null in nulls.items()}
    budgets = [_at(budget, nulls, list(items.values())) for budget in BUDGETS]
    return {"references": REFERENCES, "calibration": sizes, "budgets": budgets}


def _at(
    budget: float, nulls: dict[str, NullScores], items: Sequence[Sequence[Scored]]
) -> dict[str, Any]:
    def p_value(row: Scored, views: int) -> float:
        if row.evidence == "untrusted":  # `review`, whatever it scores
            return 1.0
        found = calibrate(row.score, [nulls[row.evidence]], budget=budget / views)
        return 1.0 if found is None else found.p_value

    def rates(some: Sequence[Sequence[Scored]]) -> dict[str, Any]:
        one = np.array([p_value(item[0], 1) for item in some])
        all_ = np.sort([[p_value(row, len(item)) for row in item] for item in some], axis=1)
        count = all_.shape[1]
        return {
            "items": len(some),
            "one_view": _share(one <= budget),
            "simes": _share(np.array([simes(list(p)) for p in all_]) <= budget),
            "bonferroni": _share(count * all_[:, 0] <= budget),
            "uncorrected": _share(all_[:, 0] <= budget),
        }

    pristine = [item for item in items if item[0].role == "pristine"]
    damaged = [item for item in items if item[0].role == "damaged"]
    sound = {item[0].product: item for item in pristine}
    hidden = [[item[0], *sound[item[0].product][1:]] for item in damaged]
    return {
        "budget": budget,
        "interval": _interval(budget, len(nulls["placed"].scores), len(pristine)),
        "pristine": rates(pristine),
        "damage_in_every_view": rates(damaged),
        "damage_in_one_view": rates(hidden),
    }


def _interval(budget: float, calibration: int, items: int) -> list[float]:
    """95 % of realised rates lie within it if the threshold is a calibration score's."""
    above = max(1, int(budget * (calibration + 1)))
    low, high = betabinom(items, above, calibration + 1 - above).ppf([0.025, 0.975])
    return [round(float(low) / items, 4), round(float(high) / items, 4)]


def _share(hits: np.ndarray[Any, Any]) -> float:
    return round(float(np.mean(hits)), 4)


if __name__ == "__main__":
    main()
