"""A dozen products for a seed; another seed prints another dozen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from anomaly.errors import ConfigError
from anomaly.studio.artwork import SUBJECTS
from anomaly.studio.cartons import carton, damaged_looking_carton, draw_brand
from anomaly.studio.face import Product
from anomaly.studio.packs import bag, blister_set, sachet, tube

CARTONS = 6


def _razor_set(rng: np.random.Generator, *, product_id: str) -> Product:
    return blister_set(rng, product_id=product_id, unit="razor", count=3)


def _battery_set(rng: np.random.Generator, *, product_id: str) -> Product:
    return blister_set(rng, product_id=product_id, unit="battery", count=4)


_OTHERS: dict[str, Callable[..., Product]] = {
    "wreck-carton": damaged_looking_carton,
    "razor-set": _razor_set,
    "battery-set": _battery_set,
    "bag": bag,
    "sachet": sachet,
    "tube": tube,
}
DOZEN = (*(f"carton-{number}" for number in range(CARTONS)), *_OTHERS)


def make_products(*, seed: int = 0) -> tuple[Product, ...]:
    """Six cartons, one with damage-like art, two sets, a bag, a sachet and a tube."""
    return tuple(make_product(word, seed=seed) for word in DOZEN)


def make_product(word: str, *, seed: int = 0) -> Product:
    """The one of a seed's dozen whose name ends in `word`, one of `DOZEN`."""
    if word not in DOZEN:
        raise ConfigError(f"product {word!r}; expected one of {', '.join(DOZEN)}")
    streams = np.random.default_rng([seed, 0]).spawn(len(DOZEN) + 1)
    number, product_id = DOZEN.index(word), f"s{seed}-{word}"
    if word in _OTHERS:
        return _OTHERS[word](streams[number], product_id=product_id)
    pictures = streams[-1].permutation(sorted(SUBJECTS))  # no two cartons share one
    first_layout = int(streams[-1].integers(5))
    brand = draw_brand(streams[number], picture=str(pictures[number]))
    return carton(streams[number], product_id=product_id, brand=brand, layout=first_layout + number)
