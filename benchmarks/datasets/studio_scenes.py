"""One photograph of the studio, told by small values: rendered when read, the same every time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np

from anomaly.studio import (
    Damage,
    Nuisance,
    Photograph,
    Product,
    Shot,
    art_carton,
    design_variant,
    labelled_box,
    make_product,
    render,
)
from benchmarks.datasets.sample import Sample
from embeddings.images import Mask, Pixels

SIZE = (480, 640)
LABELLED_BOX = "labelled-box"
_LEAST_SHARE = 0.002  # of the product's pixels: a damage that shows less is drawn anew
_TRIES = 40


@dataclass(frozen=True)
class Item:
    """A product by its seed: one of the studio's dozen, a labelled box, or a carton with printed
    `art`."""

    seed: int
    word: str
    art: str = ""

    @property
    def product_id(self) -> str:
        return f"s{self.seed}-{self.word}"

    @property
    def is_set(self) -> bool:
        return self.word.endswith("-set")

    @property
    def is_carton(self) -> bool:
        return "carton" in self.word

    @property
    def is_soft(self) -> bool:
        return self.word in ("bag", "sachet")


@dataclass(frozen=True)
class Scene:
    """All that decides a photograph's bytes."""

    item: Item
    shot: Shot
    seed: int
    damage: Damage | None = None
    nuisances: tuple[Nuisance, ...] = ()
    face: str = "front"
    variant: int = 0


def sample_of(scene: Scene, *, sample_id: str, slice_name: str = "") -> Sample:
    """The scene as a sample; nothing is rendered before it is read."""
    damage = scene.damage
    return Sample(
        sample_id,
        scene.item.product_id,
        partial(_read_image, scene),
        damaged=damage is not None,
        defect_types=() if damage is None else (damage.kind,),
        read_mask=None if damage is None else partial(_read_damage, scene),
        read_item_mask=partial(_read_product, scene),
        slice=slice_name,
    )


@lru_cache(maxsize=2)  # a picture and its masks are read one after the other
def photograph(scene: Scene) -> Photograph:
    """Render the scene. Don't write to what it returns.

    Damage of which too little shows, outside the frame in a partial view, is drawn from the next
    seed until enough does.
    """
    product = design_variant(_product(scene.item), number=scene.variant)
    for attempt in range(_TRIES):
        damage = scene.damage
        if damage is not None:
            first = scene.seed if damage.seed is None else damage.seed
            damage = replace(damage, seed=first + 7919 * attempt)
        found = render(
            product, shot=scene.shot, seed=scene.seed, face=scene.face, damage=damage,
            size=SIZE, nuisances=scene.nuisances,
        )  # fmt: skip
        least = _LEAST_SHARE * found.product_mask.sum()
        if damage is None or found.damage_mask.sum() >= least:
            return found
    raise RuntimeError(f"no damage shows in {_TRIES} tries of {scene}")


@lru_cache(maxsize=6)
def _product(item: Item) -> Product:
    if item.art:
        rng = np.random.default_rng([item.seed, 5])
        return art_carton(rng, product_id=item.product_id, art=item.art)
    if item.word == LABELLED_BOX:
        return labelled_box(np.random.default_rng([item.seed, 6]), product_id=item.product_id)
    return make_product(item.word, seed=item.seed)


def _read_image(scene: Scene) -> Pixels:
    return photograph(scene).image.copy()


def _read_damage(scene: Scene) -> Mask:
    return photograph(scene).damage_mask.copy()


def _read_product(scene: Scene) -> Mask:
    return photograph(scene).product_mask.copy()
