"""Makes `anomaly/shipped_null.json`: what pristine pictures score when nothing else is known.

    python -m benchmarks.make_shipped_null          # 10 minutes on 2 cores
    python -m benchmarks.make_shipped_null --quick  # 1 minute; prints, writes nothing

Renders pristine products with 1 to 6 references each, on trays and belts, and examines further
pristine photographs of them. None is a body that turns: what they would score if they did is kept
as well (`turning`). Every second one is turned freely in the picture; only the others tell what
content without place says: printed products that lie anyhow are not what it is used for. Goods
that have no form (`loose`) are heaps of pieces, poured anew for each photograph. Theirs and scores
in place are kept by the number of references, on which they hang; for that products follow that
have one or two, and that nothing else is learned from. Every second picture that is compared in
place lies in a shadow or mirrors the lamp, as no reference does: what then is lit otherwise than
all references (`relit`) has scores of its own. What isn't, as most glare, counts nowhere but where
light isn't told apart: how often a line has glare nobody knows. Run it again whenever the scoring's
fingerprint changes; the demo's and the tests' products have other seeds. No real photograph and no
damage is involved.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

import numpy as np

import anomaly
from anomaly.left_out import without_places
from anomaly.nulls import COUNTS, KINDS, SHIPPED, comparable_fields, counted, pooled_priors
from anomaly.pipeline import SCORING, examine
from anomaly.profile import LOOSE, Profile, nearest
from anomaly.results import IN_PLACE, EvidenceKind
from anomaly.score import Prior, combine, studentised
from anomaly.studio import (
    Goods,
    Nuisance,
    Photograph,
    Product,
    draw_shot,
    lying,
    make_goods,
    make_products,
    render,
)
from benchmarks.machine import machine
from benchmarks.rendered import Rendered, as_query, as_references, shooter
from embeddings import Embedder, Pixels, open_embedder
from embeddings.threads import limit_threads
from gallery.describe import RECORD_CODEC

_FIRST_SEED = 1000  # the demo draws seed 0
_COUNTS = (4, 2, 4, 4, 1, 3, 4, 6, 3)  # references per product, in turn
_QUERIES = 3
_DOZENS, _FEW_DOZENS = 12, 7  # the second: of products with one or two references
_FEW_QUERIES = 4
_LIGHT = ("glare", "shadow")  # of every second picture that is compared in place, in turn
_CONTENT = frozenset({"anywhere"})
_LIT_SEED = 100_000  # their photographs' seeds; others are numbered from 0
_GOODS = 120  # heaps of loose pieces
_GOODS_COUNTS = (2, 4, 2, 3, 2, 6)  # references of each, in turn
_GOODS_QUERIES = 4
CONTENT = ("anywhere", "around", "absent")
Raw = dict[EvidenceKind, dict[str, float]]
Scores = dict[EvidenceKind, dict[int, list[float]]]


def main() -> None:
    quick = "--quick" in sys.argv
    dozens = [0, _DOZENS] if quick else range(_DOZENS + _FEW_DOZENS)
    goods = range(12 if quick else _GOODS)
    found, loose = [], []
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    # One thread per process: small products of matrices gain nothing from more.
    with ProcessPoolExecutor(mp_context=get_context("spawn"), initializer=limit_threads,
                             initargs=(1,)) as pool:  # fmt: skip
        for part in pool.map(_dozen, dozens):
            found += part
            print(f"\r{len(found)}/{12 * len(dozens)}", end="", file=sys.stderr, flush=True)
        for heap in pool.map(_heap, goods):
            loose.append(heap)
            print(f"\r{len(loose)}/{len(goods)} loose", end="", file=sys.stderr, flush=True)
    usual = found[: 12 if quick else 12 * _DOZENS]
    priors = pooled_priors([profile for profile, _ in usual])
    upright = pooled_priors([profile for profile, _ in usual[::2]])
    priors |= {name: prior for name, prior in upright.items() if name in CONTENT}
    poured = pooled_priors([profile for profile, _ in loose])
    priors |= {name: prior for name, prior in poured.items() if name.startswith(LOOSE)}
    scores = gathered([*found, *loose], priors, usual=len(usual))
    _report(scores, priors)
    if not quick:
        _write(scores, priors, len(found) + len(loose))


def gathered(
    found: Sequence[tuple[Profile, Sequence[Raw]]], priors: Mapping[str, Prior], *, usual: int
) -> Scores:
    """Scores by kind of evidence and number of references, of products in the order in which they
    were drawn; of those after the `usual` ones, only what counts in place, or of loose goods."""
    scores: Scores = {kind: {count: [] for count in COUNTS[kind]} for kind in KINDS}
    for number, (profile, queries) in enumerate(found):
        for kind, channels in (item for raw in queries for item in raw.items()):
            lies_anyhow = kind == "anywhere" and number % 2
            if lies_anyhow or (kind in ("turning", "anywhere") and number >= usual):
                continue
            count = counted(kind, len(profile.left_out))
            scores[kind][count].append(_score(channels, profile, priors))
    return scores


def _dozen(number: int) -> list[tuple[Profile, list[Raw]]]:
    """A dozen products, none of which another seed's dozen has."""
    embedder = open_embedder(device="cpu")
    products = make_products(seed=_FIRST_SEED + number)
    return [_examined(p, 12 * number + i, embedder) for i, p in enumerate(products)]


def _examined(product: Product, number: int, embedder: Embedder) -> tuple[Profile, list[Raw]]:
    """A product's profile, and the raw scores of pristine queries by kind of evidence."""
    background = "belt" if number % 3 == 2 else "tray"
    most_deg = 180.0 if number % 2 else 12.0
    shoot = shooter(product, seed=number, background=background, max_angle_deg=most_deg)
    few = number >= 12 * _DOZENS
    count = 1 + number // 2 % 2 if few else _COUNTS[number % len(_COUNTS)]
    rendered = as_references(product.product_id, [shoot() for _ in range(count)], embedder=embedder)
    lit = shooter(product, seed=_LIT_SEED + number, background=background, max_angle_deg=most_deg)
    untold = _CONTENT | ({"placed"} if count >= min(COUNTS["relit"]) else set())
    queries: list[Raw] = []
    for turn in range(_FEW_QUERIES if few else _QUERIES):
        plain, nuisance = shoot().image, Nuisance(_LIGHT[(number + turn) % len(_LIGHT)])
        for image, left in (plain, _CONTENT), (lit(nuisances=(nuisance,)).image, untold):
            raw = _seen(image, rendered, embedder, placed=True)
            in_place = next((found for kind, found in raw.items() if kind in IN_PLACE), None)
            if in_place is not None:
                raw["turning"] = without_places(in_place)
            queries.append({kind: found for kind, found in raw.items() if kind not in left})
        if not few:
            (queries[-1]["anywhere"],) = _seen(plain, rendered, embedder, placed=False).values()
    return rendered.profile, queries


def _heap(number: int) -> tuple[Profile, list[Raw]]:
    """Loose goods' profile, and the raw scores of pristine queries; none where the references can
    be laid upon each other all the same."""
    goods, embedder = make_goods(seed=_FIRST_SEED + number), open_embedder(device="cpu")
    shoot = _above(goods, seed=number, background="belt" if number % 3 == 2 else "tray")
    count = _GOODS_COUNTS[number % len(_GOODS_COUNTS)]
    rendered = as_references(goods.goods_id, [shoot() for _ in range(count)], embedder=embedder)
    queries = 0 if rendered.profile.has_form else _GOODS_QUERIES
    seen = [_seen(shoot().image, rendered, embedder, placed=False) for _ in range(queries)]
    return rendered.profile, seen


def _above(goods: Goods, *, seed: int, background: str) -> Callable[[], Photograph]:
    """A camera above goods that are poured anew for each photograph."""
    rng = np.random.default_rng(seed)

    def shoot() -> Photograph:
        shot = draw_shot(rng, background=background)
        return render(lying(goods, rng), shot=shot, seed=int(rng.integers(2**31)))

    return shoot


def _seen(image: Pixels, rendered: Rendered, embedder: Embedder, *, placed: bool) -> Raw:
    """Raw scores of a picture by the kind of evidence that it gives."""
    references = nearest(embedder.embed([image])[0].vector, rendered.references)
    comparison = examine(
        as_query(image), references, embedder=embedder, placed=placed,
        learned=rendered.profile.learned,
    ).comparison  # fmt: skip
    return {comparison.kind: {c.name: c.score for c in comparison.channels}}


def _score(channels: Mapping[str, float], profile: Profile, priors: Mapping[str, Prior]) -> float:
    nulls = profile.nulls(priors)
    return combine(studentised(channels, nulls), nulls)


def _report(scores: Scores, priors: dict[str, Prior]) -> None:
    for name, prior in priors.items():
        print(f"\n{name}: {asdict(prior)}", end="")
    print("\nscores by references: how many, median, 90 %, 99 %, highest", end="")
    for kind, by_count in scores.items():
        for count, values in by_count.items():
            levels = np.quantile(values or [np.nan], [0.5, 0.9, 0.99, 1.0]).round(2).tolist()
            print(f"\n{kind}, {count}: {len(values)}, {levels}", end="")
    print()


def _write(
    scores: Scores,
    priors: dict[str, Prior],
    products: int,
) -> None:
    embedder = open_embedder(device="cpu")
    value = {
        "format": 3,
        "made": {"command": "python -m benchmarks.make_shipped_null", "products": products}
        | machine(),
        "scoring": SCORING.digest,
        "embedding": comparable_fields(embedder.fingerprint(codec=RECORD_CODEC)),
        "priors": {
            name: {key: float(f"{number:.5g}") for key, number in asdict(prior).items()}
            for name, prior in priors.items()
        },
        "scores": {
            kind: {
                str(count): sorted(float(f"{number:.4g}") for number in values)
                for count, values in by_count.items()
            }
            for kind, by_count in scores.items()
        },
    }
    path = Path(anomaly.__file__).parent / SHIPPED
    path.write_text(json.dumps(value, indent=1) + "\n", "utf-8")
    print(f"wrote {path.name}")


if __name__ == "__main__":
    main()
