"""What is said of pictures that show another face than the references do, or only a part.

    python -m benchmarks.bench_coverage                      # 8 minutes on one idle core
    ... python -m benchmarks.bench_coverage --seeds development   # other products; not saved

Rendered products of medium difficulty, galleries of a dozen products with 4 references each, all of
them of the front. Five groups: the front, pristine and damaged; the front with 10 to 40 % of the
product's height or width out of the picture, pristine and damaged (in the part that is seen); the
back, pristine. Budget 1 %. Intervals are Wilson's, 95 %.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from anomaly import Inspector, build_gallery
from anomaly.studio import LEVELS, Damage, Photograph, Product, Shot, make_products, render
from benchmarks.bench_identify import interval
from benchmarks.machine import save
from embeddings.threads import limit_threads

BUDGET, REFERENCES = 0.01, 4
_SEEDS = {"reported": range(9100, 9109), "development": range(9000, 9009)}
_DAMAGES = ("tear", "crush", "hole", "stain", "scuff", "dirt")
_LEAST_SHOWN = 0.004  # of the product's pixels: a damage that shows less is drawn anew
_TRIES = 40


@dataclass(frozen=True)
class Group:
    """face: that is shown; partial: whether some of it is out of the picture."""

    name: str
    face: str = "front"
    partial: bool = False
    damaged: bool = False


GROUPS = (
    Group("seen face, pristine"),
    Group("seen face, damaged", damaged=True),
    Group("partial view, pristine", partial=True),
    Group("partial view, damaged", partial=True, damaged=True),
    Group("unseen face, pristine", face="back"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Unseen faces and partial views.")
    parser.add_argument("--seeds", choices=sorted(_SEEDS), default="reported")
    asked = parser.parse_args()
    limit_threads(1)
    counts: dict[str, Counter[str]] = {group.name: Counter() for group in GROUPS}
    for seed in _SEEDS[asked.seeds]:
        with tempfile.TemporaryDirectory() as work:
            for group, verdict, code in _verdicts(seed, Path(work)):
                counts[group.name][f"{verdict} {code}"] += 1
    figures = {"budget": BUDGET, "groups": {n: table(found) for n, found in counts.items()}}
    if asked.seeds == "reported":
        save("coverage", "python -m benchmarks.bench_coverage", figures)
    else:
        print(json.dumps(figures, indent=1))


def _verdicts(seed: int, work: Path) -> Iterator[tuple[Group, str, str]]:
    root = gallery_of(seed, work)
    with Inspector.open(root, budget=BUDGET, threads=1) as inspector:
        for product_id, group, photograph in pictures(seed):
            result = inspector.inspect(photograph.image, product_id=product_id)
            yield group, result.verdict, result.reason.code


def gallery_of(seed: int, work: Path) -> Path:
    """A dozen products, their fronts."""
    for place, product in enumerate(make_products(seed=seed)):
        rng, home = np.random.default_rng([seed, place, 77]), work / "source" / product.product_id
        home.mkdir(parents=True)
        for number in range(REFERENCES):
            shot = LEVELS["easy"].draw(rng, background=_background(place))
            image = render(product, shot=shot, seed=int(rng.integers(2**31))).image
            cv2.imwrite(str(home / f"{number}.png"), image[:, :, ::-1])
    build_gallery(work / "source", work / "gallery")
    return work / "gallery"


def pictures(seed: int) -> Iterator[tuple[str, Group, Photograph]]:
    """Every product in every group."""
    for place, product in enumerate(make_products(seed=seed)):
        for number, group in enumerate(GROUPS):
            rng = np.random.default_rng([seed, place, 88, number])
            yield product.product_id, group, _photograph(product, group, place, rng)


def _photograph(product: Product, group: Group, place: int, rng: np.random.Generator) -> Photograph:
    shot = LEVELS["medium"].draw(rng, background=_background(place))
    if group.partial:
        shot = _pushed_out(shot, rng)
    kind, area, strength = rng.choice(_DAMAGES), rng.uniform(0.01, 0.04), rng.uniform(0.4, 0.9)
    damage = Damage(str(kind), float(strength), area=float(area)) if group.damaged else None
    for _ in range(_TRIES):
        found = render(
            product, shot=shot, seed=int(rng.integers(2**31)), face=group.face, damage=damage
        )
        if damage is None or found.damage_mask.sum() >= _LEAST_SHOWN * found.product_mask.sum():
            return found
    raise RuntimeError(f"no damage shows in {_TRIES} tries of {product.product_id}")


def _pushed_out(shot: Shot, rng: np.random.Generator) -> Shot:
    amount, edge = float(rng.uniform(0.1, 0.4)), float(rng.choice([-0.2, 1.2]))
    centre = (edge, shot.centre[1]) if rng.random() < 0.5 else (shot.centre[0], edge)
    return replace(shot, centre=centre, overhang=amount)


def _background(place: int) -> str:
    return "belt" if place % 2 else "tray"


def table(found: Counter[str]) -> dict[str, Any]:
    """Counts by verdict and reason, and the shares that matter."""
    total = found.total()

    def share(*words: str) -> dict[str, Any]:
        return interval(sum(n for word, n in found.items() if word.startswith(words)), total)

    return {
        "pictures": total,
        "verdicts": dict(found.most_common()),
        "cannot_compare": share("cannot_compare"),
        "damaged": share("damaged"),
        "damaged_or_review": share("damaged", "review"),
        "ok": share("ok"),
    }


if __name__ == "__main__":
    main()
