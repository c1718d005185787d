"""A dozen products for a seed; another seed prints another dozen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from anomaly.studio.artwork import SUBJECTS
from anomaly.studio.cartons import carton, damaged_looking_carton, draw_brand
from anomaly.studio.face import Product
from anomaly.studio.packs import bag, blister_set, sachet, tube

CARTONS = 6


def make_products(*, seed: int = 0) -> tuple[Product, ...]:
    """Six cartons, one with damage-like art, two sets, a bag, a sachet and a tube."""
    makers: dict[str, Callable[..., Product]] = {
        "wreck-carton": damaged_looking_carton,
        "razor-set": _razor_set,
        "battery-set": _battery_set,
        "bag": bag,
        "sachet": sachet,
        "tube": tube,
    }
    streams = np.random.default_rng([seed, 0]).spawn(CARTONS + len(makers) + 1)
    pictures = streams[-1].permutation(sorted(SUBJECTS))  # no two cartons share one
    first_layout = int(streams[-1].integers(5))
    cartons = [
        carton(
            rng,
            product_id=f"s{seed}-carton-{number}",
            brand=draw_brand(rng, picture=str(pictures[number])),
            layout=first_layout + number,
        )
        for number, rng in enumerate(streams[:CARTONS])
    ]
    others = [
        make(rng, product_id=f"s{seed}-{word}")
        for (word, make), rng in zip(makers.items(), streams[CARTONS:-1], strict=True)
    ]
    return (*cartons, *others)


def _razor_set(rng: np.random.Generator, *, product_id: str) -> Product:
    return blister_set(rng, product_id=product_id, unit="razor", count=3)


def _battery_set(rng: np.random.Generator, *, product_id: str) -> Product:
    return blister_set(rng, product_id=product_id, unit="battery", count=4)
