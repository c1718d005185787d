"""Rendered sets: made-up products, pristine and damaged, whose truth is known to the pixel.

    studio                 120 queries of a dozen products, all types of damage, hard negatives
    studio/printed-art     300 pristine cartons with damage-like art, 100 with real damage as well
    studio/missing-units   156 sets without a unit, 12 with a wrong one, 84 whole
    studio/spills          60 products beside a spill, 60 without one, shadows on both
    studio/pose            48 queries at each rotation and each perspective, references upright
    studio/labels          12 plain boxes with one label: missing, peeled or torn in part, or whole
    studio/coverage        faces that no reference shows, partial views, two print versions

All are of medium difficulty (`anomaly.studio.LEVELS`); references are easy and pristine. Every
second product lies on a belt, with its references. Protocol: queries are the same for every number
of shots and every seed; the seed draws the references, and fewer shots are the beginning of more.
Nothing lies on disk: a sample renders when it is read, within 0.1 s or so.

Nuisances (glare, shadows, film folds) come with pristine and damaged queries alike; products with a
lot code carry one on every photograph, its text another each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, cycle, islice
from pathlib import Path

import numpy as np

from anomaly.studio import ART, BACKGROUNDS, DOZEN, LEVELS, Damage, Nuisance, Shot, tilt_for
from benchmarks.datasets.errors import UnknownSet
from benchmarks.datasets.sample import Sample, Split
from benchmarks.datasets.studio_scenes import LABELLED_BOX, Item, Scene, sample_of

# The demo, tests and the shipped null draw from seeds below 2000.
_FIRST_SEED = {
    None: 7000, "printed-art": 7100, "missing-units": 7200, "spills": 7300, "pose": 7400,
    "coverage": 7500, "labels": 7600,
}  # fmt: skip
PARTS = tuple(part for part in _FIRST_SEED if part is not None)
ROTATIONS = (0, 30, 60, 90, 120, 150, 180)
PERSPECTIVES = (0.0, 0.15, 0.3, 0.45)
_NEAR = 1.2  # longest sides from which perspectives are taken
# Shares of the face, by type of damage; others take the first.
_AREAS = {"": (0.006, 0.04), "dent": (0.008, 0.04), "open_flap": (0.02, 0.09),
          "spill": (0.006, 0.04), "dirt": (0.008, 0.04), "peeled_label": (0.01, 0.1),
          "torn_label": (0.01, 0.1)}  # fmt: skip
_PRINT_DAMAGES = ("tear", "crush", "hole", "stain", "scuff", "dirt")


@dataclass(frozen=True)
class Query:
    """What a query shows, before its light, camera and seeds are drawn."""

    kind: str = ""  # of damage; "": pristine
    nuisances: tuple[str, ...] = ()
    slice_name: str = ""
    face: str = "front"
    variant: int = 0
    pose: tuple[str, float] = ("", 0.0)
    twin: int | None = None  # queries of one number share light, camera, damage and seeds


Plan = Callable[[Item, int], Sequence[Query]]


def read_studio(
    home: Path, *, dataset: str, part: str | None, shots: int, seed: int
) -> list[Split]:
    """The set's splits, one for each product; `home` is not looked at."""
    if part not in _FIRST_SEED:
        raise UnknownSet(dataset, f"no such studio set; expected {', '.join(PARTS)} or no part")
    first = _FIRST_SEED[part]
    return [
        _split(item, place, _PLANS[part](item, place), dataset, shots, seed)
        for place, item in enumerate(_items(part, first))
    ]


def _items(part: str | None, first: int) -> list[Item]:
    if part == "printed-art":
        return [Item(first + n, f"{art}-carton", art) for art in ART for n in range(4)]
    if part == "missing-units":
        words = ("razor-set", "battery-set")
        return [Item(first + n, word) for n in range(6) for word in words]
    if part == "labels":
        return [Item(first + n, LABELLED_BOX) for n in range(12)]
    return [Item(first, word) for word in DOZEN]


def _split(
    item: Item, place: int, plan: Sequence[Query], dataset: str, shots: int, seed: int
) -> Split:
    name = item.product_id
    queries = tuple(
        sample_of(
            _scene(item, place, number, query),
            sample_id=f"{name}/{number:03d}-{query.kind or 'pristine'}",
            slice_name=query.slice_name,
        )
        for number, query in enumerate(plan)
    )
    variants = sorted({query.variant for query in plan})
    references = islice(_references(item, place, seed, variants), shots)
    return Split(dataset, name, shots, seed, tuple(references), queries)


def _references(item: Item, place: int, seed: int, variants: Sequence[int]) -> Iterator[Sample]:
    """Upright and well lit, from a stream of their own; print versions in turn."""
    rng = np.random.default_rng([item.seed, place, 1, seed])
    for number, variant in zip(count(), cycle(variants)):
        shot = draw_reference(rng, place)
        scene = Scene(
            item, shot, seed=int(rng.integers(2**31)), nuisances=_coded(place), variant=variant
        )
        yield sample_of(scene, sample_id=f"{item.product_id}/reference-{seed}-{number:03d}")


def draw_reference(rng: np.random.Generator, place: int) -> Shot:
    return LEVELS["easy"].draw(rng, background=_background(place))


def _scene(item: Item, place: int, number: int, query: Query) -> Scene:
    rng = np.random.default_rng([item.seed, place, 0, number if query.twin is None else query.twin])
    shot = _posed(rng, LEVELS["medium"].draw(rng, background=_background(place)), query.pose)
    seed = int(rng.integers(2**31))
    low, high = _AREAS.get(query.kind, _AREAS[""])
    area = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    strength = float(rng.uniform(0.2, 0.9))
    damage = Damage(query.kind, strength, seed=seed, area=area) if query.kind else None
    nuisances = (Nuisance(kind, float(rng.uniform(0.35, 0.9))) for kind in query.nuisances)
    return Scene(item, shot, seed, damage, (*_coded(place), *nuisances), query.face, query.variant)


def _posed(rng: np.random.Generator, shot: Shot, pose: tuple[str, float]) -> Shot:
    """The shot in a pose that is asked for; as many draws whatever the pose."""
    (jitter, tilt), (side, axis) = rng.uniform(-4, 4, 2).tolist(), rng.integers(2, size=2).tolist()
    sign, (family, amount) = (1 if side else -1), pose
    if family == "rotation":
        return replace(shot, angle_deg=sign * amount + jitter, tilt_x_deg=tilt, tilt_y_deg=-tilt,
                       camera_distance=4.0)  # fmt: skip
    if family == "perspective":
        lean = sign * tilt_for(amount, camera_distance=_NEAR)
        tilts = (lean, 0.0) if axis else (0.0, lean)
        return replace(shot, angle_deg=jitter, tilt_x_deg=tilts[0], tilt_y_deg=tilts[1],
                       camera_distance=_NEAR)  # fmt: skip
    if family == "partial":
        edge = 1.2 if side else -0.2
        centre = (edge, shot.centre[1]) if axis else (shot.centre[0], edge)
        return replace(shot, centre=centre, overhang=amount)
    return shot


def _background(place: int) -> str:
    return BACKGROUNDS[place % len(BACKGROUNDS)]


def _coded(place: int) -> tuple[Nuisance, ...]:
    """Two products in five carry a lot code."""
    return (Nuisance("lot_code"),) if place % 5 in (1, 3) else ()


def _damages(item: Item, place: int) -> Iterator[str]:
    """Types that the item can have, without end; other items begin elsewhere."""
    if item.is_set:
        return cycle(("missing_unit", "wrong_unit", "tear", "missing_unit", "wrong_unit",
                      "dent", "scuff", "spill", "stain"))  # fmt: skip
    kinds = (*_PRINT_DAMAGES, "dent", *(["open_flap"] if item.is_carton else []), "spill")
    return islice(cycle(kinds), 5 * place % len(kinds), None)


def _harmless(item: Item) -> Iterator[tuple[str, ...]]:
    """Nuisances of one query after the other, without end."""
    fold = "film_folds" if item.is_soft else "glare"
    return cycle(((), ("glare",), ("shadow",), (fold,), ()))


def _mixed(item: Item, place: int, *, each: int, **known: object) -> list[Query]:
    """As many pristine queries as damaged ones, with the same nuisances."""
    kinds, slices = _damages(item, place), {"slice_name": _background(place)} | known
    harmless = list(islice(_harmless(item), each))
    pristine = [Query("", kind, **slices) for kind in harmless]  # type: ignore[arg-type]
    return pristine + [Query(next(kinds), kind, **slices) for kind in harmless]  # type: ignore


def _plan_headline(item: Item, place: int) -> list[Query]:
    return _mixed(item, place, each=5)


def _plan_printed_art(item: Item, place: int) -> list[Query]:
    """15 pristine, 5 damaged; the damage is most often what the art pretends."""
    name = f"printed {item.art}"
    own = item.art if item.art in _PRINT_DAMAGES else "tear"
    kinds = (own, own, own, *islice(_damages(item, place), 2))
    harmless = _harmless(item)
    pristine = [Query("", next(harmless), name) for _ in range(15)]
    return pristine + [Query(kind, next(harmless), name) for kind in kinds]


def _plan_missing_units(item: Item, place: int) -> list[Query]:
    name = item.word.replace("-", " ")
    harmless = _harmless(item)
    kinds = ("missing_unit",) * 13 + ("wrong_unit",) + ("",) * 7
    return [Query(kind, next(harmless), name) for kind in kinds]


def _plan_spills(item: Item, place: int) -> list[Query]:
    shadows = ((), ("shadow",), (), ("shadow",), ("glare",))
    return [Query(k, own, _background(place)) for k in ("", "spill") for own in shadows]


def _plan_pose(item: Item, place: int) -> list[Query]:
    """Two pristine and two damaged at each level: the same four but for their pose."""
    first, second = islice(_damages(item, place), 2)
    levels = [*(("rotation", float(n), f"rotation {n}") for n in ROTATIONS),
              *(("perspective", n, f"perspective {n}") for n in PERSPECTIVES)]  # fmt: skip
    return [
        Query(kind, (), name, pose=(family, amount), twin=twin)
        for family, amount, name in levels
        for twin, kind in enumerate(("", "", first, second))
    ]


def _plan_labels(item: Item, place: int) -> list[Query]:
    name = _background(place)
    kinds = ("",) * 6 + ("missing_unit",) * 2 + ("peeled_label",) * 2 + ("torn_label",) * 2
    harmless = _harmless(item)
    return [Query(kind, next(harmless), name) for kind in kinds]


def _plan_coverage(item: Item, place: int) -> list[Query]:
    """References show fronts of two print versions; backs are shown by none."""
    kinds = [
        k for k in islice(_damages(item, place), 12) if k not in ("missing_unit", "wrong_unit")
    ]
    views = (
        Query(slice_name="seen face"),
        Query(slice_name="unseen face", face="back"),
        Query(slice_name="partial view", pose=("partial", 0.4)),
        Query(slice_name="second version", variant=1),
    )
    return [
        replace(view, kind=kind)
        for number, view in enumerate(views)
        for kind in ("", "", *kinds[number : number + 2])
    ]


_PLANS: dict[str | None, Plan] = {
    None: _plan_headline,
    "printed-art": _plan_printed_art,
    "missing-units": _plan_missing_units,
    "spills": _plan_spills,
    "pose": _plan_pose,
    "coverage": _plan_coverage,
    "labels": _plan_labels,
}
