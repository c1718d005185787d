"""Galleries with bad references and new designs planted in them, and the truth about each."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from PIL import Image

from anomaly.studio import BACKGROUNDS, DOZEN, LEVELS, Damage, Shot
from benchmarks.datasets.listing import pictures
from benchmarks.datasets.studio_scenes import Item, Scene, photograph
from embeddings.images import Pixels, read_image

Truth = Literal[
    "good", "damaged", "wrong_product", "stranger", "blurred", "duplicate", "design", "lone_design"
]
BAD: tuple[Truth, ...] = ("damaged", "wrong_product", "blurred", "damaged", "stranger", "duplicate")
"""Planted in turn. stranger: a wrong product that the gallery doesn't have."""
_GROUPS = (2, 1, 3)  # references of a new design, by product in turn
_KINDS = ("tear", "stain", "hole", "crush", "scuff", "dirt", "dent")
_SET_KINDS = ("missing_unit", "wrong_unit", "tear")
_AREAS = (0.006, 0.04)


@dataclass(frozen=True)
class Planted:
    """One reference of a gallery: an encoded picture and what it really is."""

    product_id: str
    name: str
    truth: Truth
    data: bytes


def studio_gallery(*, seed: int, dozens: int, share: float = 0.05) -> list[Planted]:
    """6 to 8 rendered references each of a dozen products for each of `dozens` seeds from `seed`.

    A `share` of the references is bad (one a product at most), as many show a new design (in
    other products). Every second product is photographed at level medium, the others at easy.
    """
    items = [Item(seed + number, word) for number in range(dozens) for word in DOZEN]
    counts = [6 + place % 3 for place in range(len(items))]
    wanted = round(share * sum(counts))
    rng = np.random.default_rng([seed, 1])
    order = rng.permutation(len(items)).tolist()
    bad = {place: BAD[number % len(BAD)] for number, place in enumerate(order[:wanted])}
    designs: dict[int, int] = {}
    for number, place in enumerate(order[wanted:]):
        if sum(designs.values()) < wanted:
            designs[place] = _GROUPS[number % len(_GROUPS)]
    found = []
    for place, (item, count) in enumerate(zip(items, counts, strict=True)):
        camera = _Camera(item, place)
        truths: list[Truth] = ["good"] * count
        for slot in range(designs.get(place, 0)):
            truths[slot] = "design" if designs[place] > 1 else "lone_design"
        truths[0] = bad.get(place, truths[0])
        rng.shuffle(truths)
        other = _Camera(items[(place + 5) % len(items)], place)
        stranger = _Camera(Item(seed + 50 + place // 12, item.word), place)
        found += camera.album(truths, other=other, stranger=stranger)
    return found


class _Camera:
    """Photographs of one product at its level and on its ground."""

    def __init__(self, item: Item, place: int) -> None:
        self._item, self._place = item, place
        self._level = LEVELS["medium" if place // 2 % 2 else "easy"]
        self._rng = np.random.default_rng([item.seed, place, 2])

    def album(self, truths: Sequence[Truth], *, other: _Camera, stranger: _Camera) -> list[Planted]:
        goods = {slot: self.shoot() for slot, truth in enumerate(truths) if truth == "good"}
        made = []
        for slot, truth in enumerate(truths):
            if truth == "good":
                data = encoded(goods[slot])
            elif truth == "duplicate":
                data = copied(next(iter(goods.values())), self._rng)
            elif truth == "blurred":
                data = encoded(blurred(self.shoot(), self._rng))
            elif truth == "wrong_product":
                data = encoded(other.shoot())
            elif truth == "stranger":
                data = encoded(stranger.shoot())
            elif truth == "damaged":
                data = encoded(self.shoot(damage=self._damage()))
            else:
                data = encoded(self.shoot(variant=1))
            made.append(Planted(self._item.product_id, f"{slot}.png", truth, data))
        return made

    def shoot(self, *, damage: Damage | None = None, variant: int = 0) -> Pixels:
        shot: Shot = self._level.draw(
            self._rng, background=BACKGROUNDS[self._place % len(BACKGROUNDS)]
        )
        scene = Scene(self._item, shot, seed=int(self._rng.integers(2**31)), variant=variant)
        return photograph(replace(scene, damage=damage)).image.copy()

    def _damage(self) -> Damage:
        kinds = _SET_KINDS if self._item.is_set else _KINDS
        kind = str(self._rng.choice(kinds))
        low, high = np.log(_AREAS)
        area = float(np.exp(self._rng.uniform(low, high)))
        strength = float(self._rng.uniform(0.2, 0.9))
        return Damage(kind, strength, seed=int(self._rng.integers(2**31)), area=area)


def photograph_gallery(data: Path, *, seed: int, count: int = 16) -> list[Planted]:
    """`count` photographs each of two real products, `cookies` and `carton_top`: of each one
    damaged and one of the other product or blurred or a copy; the rest is good."""
    rng, found = np.random.default_rng(seed), []
    for place, product in enumerate(("cookies", "carton_top")):
        other = ("carton_top", "cookies")[place]
        bad: Truth = ("wrong_product", "blurred", "duplicate")[(seed + place) % 3]
        good = _drawn(data / product / "normal", seed, count - 1)
        hurt = _drawn(data / product / "anomalous", seed, 1)[0]
        made = [Planted(product, f"good-{n}.png", "good", encoded(p)) for n, p in
                enumerate(good[: count - 2])]  # fmt: skip
        made.append(Planted(product, "damaged.png", "damaged", encoded(hurt)))
        odd = {
            "wrong_product": lambda: encoded(_drawn(data / other / "normal", seed + 900, 1)[0]),  # noqa: B023
            "blurred": lambda: encoded(blurred(good[-1], rng)),  # noqa: B023
            "duplicate": lambda: copied(good[0], rng),  # noqa: B023
        }[bad]()
        found += [*made, Planted(product, f"{bad}.png", bad, odd)]
    return found


@dataclass(frozen=True)
class Known:
    """What a reference really is."""

    product_id: str
    name: str
    truth: Truth


def write_gallery(planted: Sequence[Planted], folder: Path) -> None:
    """`folder`/source with a folder per product, as `amiss build` reads it, and the truth."""
    for one in planted:
        home = folder / "source" / one.product_id
        home.mkdir(parents=True, exist_ok=True)
        (home / one.name).write_bytes(one.data)
    known = [[one.product_id, one.name, one.truth] for one in planted]
    (folder / "truth.json").write_text(json.dumps(known, indent=1) + "\n", "utf-8")


def read_truth(folder: Path) -> list[Known]:
    """What `write_gallery` planted in `folder`."""
    return [Known(*row) for row in json.loads((folder / "truth.json").read_text("utf-8"))]


def encoded(image: Pixels, *, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format=kind, **options)
    return file.getvalue()


def blurred(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Out of focus: by 0.4 to 0.8 % of the longer side (2.5 to 5 px of 640)."""
    sigma = float(rng.uniform(0.004, 0.008)) * max(image.shape[:2])
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def copied(image: Pixels, rng: np.random.Generator) -> bytes:
    """The same photograph again: as a JPEG, and half of the time smaller or cropped."""
    height, width = image.shape[:2]
    how = int(rng.integers(4))
    if how == 0:
        scale = float(rng.uniform(0.5, 0.9))
        size = (round(scale * width), round(scale * height))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    elif how == 1:
        down, right = round(0.03 * height), round(0.03 * width)
        image = np.ascontiguousarray(image[down:, : width - right])
    return encoded(image, kind="JPEG", quality=int(rng.integers(60, 91)))


def _drawn(folder: Path, seed: int, count: int) -> list[Pixels]:
    names = pictures(folder)
    random.Random(seed).shuffle(names)
    return [read_image(name) for name in names[:count]]
