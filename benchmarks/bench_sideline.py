"""Is as much sidelined as was budgeted? Held-back pristine renders against calibrated nulls.

    python -m benchmarks.bench_sideline export --part 0/2 &  # 40 minutes, one core each; resumable
    python -m benchmarks.bench_sideline export --part 1/2
    python -m benchmarks.bench_sideline evaluate             # seconds; writes results/sideline.json
    ... --seeds development                                  # other products, a tenth; not saved

The studio's slices (`datasets.studio`), made of other products. Every product has references and a
profile, pristine pictures that calibrate, others that are judged, and damaged ones; no two pictures
share a seed. The nulls of a product:

    flat       one pool of all calibrating pictures
    hierarchy  what `amiss calibrate` makes of them (`anomaly.hierarchy`): the pool brought to the
               product by its own
    few        the same if it had only four of its own; hierarchy of nine tenths of the products,
               of which it is none
    others     the flat pool of these nine tenths: nothing of its own but references

`lent`: products with one reference if the flat pool of those with four holds for them. Slices: all
at 4 references, at 16 those without poses and coverage. Pictures that weren't compared in place are
never called damaged by their score. The interval is the 95 % beta-binomial one of the calls that n
calibration scores leave to as many exchangeable pictures, for slices corrected by Bonferroni over
slices and budgets. It takes pictures of one product for independent, which they are not.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy.stats import betabinom

from anomaly.calibrate import NullScores, calibrate
from anomaly.hierarchy import LEAST_PRODUCTS, fit_hierarchy
from anomaly.nulls import KINDS, read_shipped
from anomaly.pipeline import SCORING, examine
from anomaly.profile import nearest
from anomaly.results import Comparison
from anomaly.score import score
from benchmarks.datasets import load
from benchmarks.datasets.sample import Sample
from benchmarks.datasets.studio import _PLANS, Query, _items, _references, _scene
from benchmarks.datasets.studio_scenes import Item, sample_of
from benchmarks.machine import data_folder, save
from benchmarks.rendered import Rendered, as_query, as_references, kept_as
from benchmarks.shares import add_part
from embeddings import Embedder, open_embedder
from embeddings.patches import Floats
from embeddings.threads import limit_threads
from gallery.describe import RECORD_CODEC

SLICE_BUDGETS, BUDGETS = (0.05, 0.01), (0.05, 0.02, 0.01, 0.005)
REAL = ("cookies", "carton_top")
# Of each set: how many draws of its products, and pristine pictures of a product and slice, to
# calibrate and to be judged.
_PLAN: Mapping[int, Mapping[str | None, tuple[int, int, int]]] = {
    1: {None: (2, 12, 4), "printed-art": (1, 12, 4)},
    4: {None: (2, 20, 5), "printed-art": (3, 20, 5), "missing-units": (2, 20, 5),
        "spills": (2, 20, 5), "pose": (2, 9, 2), "coverage": (2, 9, 2)},
    16: {None: (1, 17, 5), "printed-art": (1, 26, 7), "missing-units": (1, 17, 5),
         "spills": (1, 17, 5)},
}  # fmt: skip
_GATED = (4, 16)  # references
_DAMAGED = 2  # of a product
_FIRST_SEED = {"reported": 8000, "development": 9000}
_FOLDS, _FEW = 10, 4


@dataclass(frozen=True)
class Unit:
    """A product to be rendered, and how many pictures of it. Final."""

    name: str
    part: str | None
    item: Item
    place: int
    shots: int
    calibrating: int
    judged: int


@dataclass(frozen=True)
class Scored:
    """One picture: `role` calibration, pristine or damaged; `evidence` placed, loose ..., or
    untrusted where too little of a product with a form was aligned."""

    product: str
    slice: str
    shots: int
    role: str
    evidence: str
    score: float


def main() -> None:
    parser = argparse.ArgumentParser(description="Realised sideline rates.")
    parser.add_argument("deed", choices=("export", "evaluate"))
    add_part(parser)
    parser.add_argument("--seeds", choices=sorted(_FIRST_SEED), default="reported")
    parser.add_argument("--out", type=Path, default=Path("benchmark-runs/sideline"))
    given = parser.parse_args()
    home = given.out / given.seeds
    if given.deed == "export":
        part, parts = given.part
        export(home, list(units(given.seeds))[part::parts], real=part == 0)
        return
    figures = evaluate(read(home))
    if given.seeds == "reported":
        save("sideline", "python -m benchmarks.bench_sideline export, then evaluate", figures)
    else:
        print(json.dumps(figures, indent=1))


def units(seeds: str) -> Iterator[Unit]:
    """Products in an order in which any share of them has some of each set; in development, a
    tenth of them."""
    found = []
    for shots, sets in _PLAN.items():
        for place, (part, (draws, calibrating, judged)) in enumerate(sets.items()):
            for draw in range(draws):
                first = _FIRST_SEED[seeds] + 100 * place + 10 * draw
                for row, item in enumerate(_items(part, first)):
                    name = f"{part or 'studio'}-{draw}-{row:02d}-{shots:02d}"
                    found.append(Unit(name, part, item, row, shots, calibrating, judged))
    order = np.random.default_rng(0).permutation(len(found))
    few = len(found) // 10 if seeds == "development" else len(found)
    return (found[row] for row in order[:few])


def export(home: Path, todo: Sequence[Unit], *, real: bool) -> None:
    """A file of scores per product; those that are there under this scoring are kept."""
    limit_threads(1)
    home.mkdir(parents=True, exist_ok=True)
    embedder = open_embedder(device="cpu")
    for number, unit in enumerate(todo):
        _kept(home / unit.name, lambda unit=unit: _rendered(unit, embedder))  # type: ignore[misc]
        print(f"{number + 1}/{len(todo)} {unit.name}", flush=True)
    for name in REAL if real else ():
        _kept(home / name, lambda name=name: _photographed(name, embedder))  # type: ignore[misc]


def _kept(stem: Path, make: Callable[[], Iterable[Scored]]) -> None:
    path = stem.with_name(f"{stem.name}-{SCORING.digest[:12]}.json")
    if path.exists():
        return
    text = json.dumps([asdict(row) for row in make()])
    path.with_suffix(".part").write_text(text, "utf-8")
    path.with_suffix(".part").rename(path)


def read(home: Path) -> list[Scored]:
    """What was exported under the scoring that is in force."""
    files = sorted(home.glob(f"*-{SCORING.digest[:12]}.json"))
    assert files, f"nothing exported in {home} under this scoring: run export first"
    return [Scored(**row) for file in files for row in json.loads(file.read_text("utf-8"))]


def _rendered(unit: Unit, embedder: Embedder) -> Iterator[Scored]:
    item, place = unit.item, unit.place
    plan = [replace(q, twin=None) for q in _PLANS[unit.part](item, place)]  # twins look alike
    pristine: dict[str, list[Query]] = defaultdict(list)
    for query in plan:
        if not query.kind and query.face == "front":
            pristine[query.slice_name].append(query)
    variants = sorted({query.variant for query in plan})
    look = looker(islice(_references(item, place, 0, variants), unit.shots), embedder)
    number = 0

    def one(query: Query, role: str) -> Scored:
        nonlocal number
        number += 1
        sample = sample_of(_scene(item, place, number, query), sample_id=f"{number}")
        name = f"{unit.part or 'studio'} / {query.slice_name}"
        return Scored(f"{unit.part}-{item.product_id}", name, unit.shots, role, *look(sample))

    for queries in pristine.values():
        every = islice(cycle(queries), unit.calibrating + unit.judged)
        for row, query in enumerate(every):
            yield one(query, "pristine" if row < unit.judged else "calibration")
    damaged = [q for q in plan if q.kind and q.face == "front"]
    for query in islice(cycle(damaged), place, place + _DAMAGED):
        yield one(query, "damaged")


def _photographed(name: str, embedder: Embedder) -> Iterator[Scored]:
    for split in load(name, data_folder(), shots=4, seed=0):
        look = looker(split.references, embedder)
        for sample in split.queries:
            role = "damaged" if sample.damaged else "pristine"
            yield Scored(split.product_id, name, split.shots, role, *look(sample))


def looker(
    samples: Iterable[Sample], embedder: Embedder, *, kind_of: Callable[[Comparison], str] = kept_as
) -> Callable[[Sample], tuple[str, float]]:
    """Learns the references; gives evidence and score of a picture, as an inspection would."""
    shipped = read_shipped(embedder.fingerprint(codec=RECORD_CODEC))
    assert shipped is not None, "run benchmarks.make_shipped_null first"
    photographs: list[Any] = [SimpleNamespace(image=sample.read()) for sample in samples]
    rendered: Rendered = as_references("product", photographs, embedder=embedder)
    profile, nulls = rendered.profile, rendered.profile.nulls(shipped.priors)

    def look(sample: Sample) -> tuple[str, float]:
        image, references = sample.read(), rendered.references
        if len(references) > 4:
            references = nearest(embedder.embed([image])[0].vector, references)
        found = examine(
            as_query(image), references, embedder=embedder, placed=profile.has_form,
            turning=profile.turns, learned=profile.learned,
        )  # fmt: skip
        seen = found.comparison
        value = score(seen.channels, nulls).score
        untrusted = profile.has_form and (not seen.placed or seen.coverage < 0.5)
        return "untrusted" if untrusted else kind_of(seen), round(float(value), 4)

    return look


def evaluate(rows: Sequence[Scored]) -> dict[str, Any]:
    """Realised rates and recall, by number of references: overall, by slice, on photographs."""
    rendered = [row for row in rows if row.slice not in REAL]
    slices = sorted({(row.shots, row.slice) for row in rendered if row.shots in _GATED})
    gates = len(slices) * len(SLICE_BUDGETS)
    figures: dict[str, Any] = {"gates": gates}
    for shots in sorted({row.shots for row in rendered}):
        found = [row for row in rendered if row.shots == shots]
        figures[f"{shots} references"] = {
            "overall": _figures(found, BUDGETS, level=0.95),
            "slices": {
                name: _figures(
                    [row for row in found if row.slice == name],
                    SLICE_BUDGETS,
                    level=1 - 0.05 / gates,
                )
                for count, name in slices
                if count == shots
            },
        }
    one, many = ([row for row in rendered if row.shots == shots] for shots in (1, 4))
    figures["lent"] = _lent(one, many)
    figures["photographs"] = {
        name: _halves([row for row in rows if row.slice == name])
        for name in REAL
        if any(row.slice == name for row in rows)
    }
    return figures


def _figures(rows: Sequence[Scored], budgets: Sequence[float], *, level: float) -> dict[str, Any]:
    groups = _by_product(row for row in rows if row.role == "calibration")
    if len(groups) < 2 * LEAST_PRODUCTS:  # a run that has only begun
        return {"products": len(groups)}
    count = sum(map(len, groups.values()))
    pristine = [row for row in rows if row.role == "pristine"]
    judged = [row for row in pristine if row.evidence == "placed"]
    damaged = [row for row in rows if row.role == "damaged"]
    nulls = {name: _nulls(groups, how=name) for name in ("flat", "hierarchy", "few", "others")}
    return {
        "products": len(groups),
        "calibration": count,
        "pristine": len(pristine),
        "in_place": len(judged),
        "damaged": len(damaged),
        "budgets": [
            {
                "budget": budget,
                "interval": _interval(budget, count, len(judged), level=level),
                "rates": {n: _rate(judged, found, budget) for n, found in nulls.items()},
                "recall": {n: _rate(damaged, found, budget) for n, found in nulls.items()},
                "worst_tenth": {n: _worst(judged, found, budget) for n, found in nulls.items()},
            }
            for budget in budgets
            if (count + 1) * budget >= 1
        ],
    }


def _lent(rows: Sequence[Scored], lenders: Sequence[Scored]) -> list[dict[str, Any]]:
    """Rates and recall of products if the flat pool of others holds for them."""
    groups = _by_product(row for row in lenders if row.role == "calibration")
    if not rows or len(groups) < LEAST_PRODUCTS:  # a run that has only begun
        return []
    nulls = {"": _nulls(groups, how="flat")[""]}
    asked = {
        "rate": [row for row in rows if row.role == "pristine" and row.evidence == "placed"],
        "recall": [row for row in rows if row.role == "damaged"],
    }
    return [
        {"budget": budget} | {name: _rate(some, nulls, budget) for name, some in asked.items()}
        for budget in SLICE_BUDGETS
    ]


def _by_product(rows: Iterable[Scored]) -> dict[str, Floats]:
    groups: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row.evidence == "placed":
            groups[row.product].append(row.score)
    return {name: np.array(scores, np.float32) for name, scores in sorted(groups.items())}


def _nulls(groups: Mapping[str, Floats], *, how: str) -> dict[str, NullScores]:
    """Null scores by product; "" for one that has none of its own."""
    none = np.zeros(0, np.float32)
    if how in ("flat", "hierarchy"):
        model = fit_hierarchy(groups)
        assert model is not None, "fewer than three products: export more"
        own = groups if how == "hierarchy" else {}
        return {
            name: NullScores("pooled", model.null_for(own.get(name, none)))
            for name in ("", *groups)
        }
    names, found = list(groups), {}
    for fold in range(_FOLDS):
        inside = set(names[fold::_FOLDS])
        model = fit_hierarchy({n: g for n, g in groups.items() if n not in inside})
        assert model is not None, "fewer than three products: export more"
        for name in inside:
            scores = groups[name][:_FEW] if how == "few" else none
            found[name] = NullScores("pooled", model.null_for(scores))
    return found | {"": _nulls(groups, how="flat")[""]}


def _flagged(rows: Sequence[Scored], nulls: Mapping[str, NullScores], budget: float) -> list[bool]:
    thresholds = {}
    for name, null in nulls.items():
        found = calibrate(0.0, [null], budget=budget)
        assert found is not None
        thresholds[name] = found.threshold if found.entitled else float("inf")
    return [
        row.evidence == "placed" and row.score > thresholds.get(row.product, thresholds[""])
        for row in rows
    ]


def _rate(rows: Sequence[Scored], nulls: Mapping[str, NullScores], budget: float) -> float | None:
    return round(float(np.mean(_flagged(rows, nulls, budget))), 4) if rows else None


def _worst(rows: Sequence[Scored], nulls: Mapping[str, NullScores], budget: float) -> float | None:
    """Rate among the tenth of the products that are sidelined most."""
    hits: dict[str, list[bool]] = defaultdict(list)
    for row, flag in zip(rows, _flagged(rows, nulls, budget), strict=True):
        hits[row.product].append(flag)
    ordered = sorted(hits.values(), key=np.mean, reverse=True)
    worst = [flag for flags in ordered[: max(1, len(ordered) // 10)] for flag in flags]
    return round(float(np.mean(worst)), 4) if worst else None


def _interval(budget: float, calibration: int, judged: int, *, level: float) -> list[float] | None:
    """`level` of realised rates lie within it if the threshold is a calibration score's."""
    above = int(budget * (calibration + 1) + 1e-9)
    if not judged or not above:
        return None
    ends = [(1 - level) / 2, (1 + level) / 2]
    low, high = betabinom(judged, above, calibration + 1 - above).ppf(ends)
    return [round(float(low) / judged, 4), round(float(high) / judged, 4)]


def _halves(rows: Sequence[Scored]) -> dict[str, Any]:
    """Of photographs: one half of the pristine ones calibrates, the other is judged, and back."""
    pristine = [row for row in rows if row.role == "pristine"]
    kind = max(KINDS, key=lambda k: sum(row.evidence == k for row in pristine))
    judged = [row.score for row in pristine if row.evidence == kind]
    damaged = [row for row in rows if row.role == "damaged"]
    budgets = []
    for budget in SLICE_BUDGETS:
        flags: list[bool] = []
        recall: list[float] = []
        for half in (0, 1):
            null = NullScores("product", np.array(judged[half::2], np.float32))
            found = calibrate(0.0, [null], budget=budget)
            if found is None or not found.entitled:
                continue
            flags += [score > found.threshold for score in judged[1 - half :: 2]]
            hit = [row.evidence == kind and row.score > found.threshold for row in damaged]
            recall.append(float(np.mean(hit)))
        rate = round(float(np.mean(flags)), 4) if flags else None
        found_ = round(float(np.mean(recall)), 4) if recall else None
        budgets.append({"budget": budget, "rate": rate, "recall": found_})
    return {
        "evidence": kind,
        "calibration": len(judged) // 2,
        "pristine": len(pristine),
        "judged": len(judged),
        "damaged": len(damaged),
        "budgets": budgets,
    }


if __name__ == "__main__":
    main()
