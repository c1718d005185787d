"""Makes `embeddings/metric.npz`: how patch features differ between photographs of the same thing.

    python -m benchmarks.make_metric    # 8 minutes on 2 cores

From the differences between patches and their counterparts: of pristine rendered products
(`benchmarks.differences`) and, a little, of real textures (`benchmarks.retaken`),

    anywhere  their whitening
    placed    discriminants of products: damage, and places drawn at random, against what pristine
              photographs show
    beside    the same of what lies beside products: spills

Products have other seeds than the null's, the demo's, the tests' and the benchmarks'; no photograph
of a benchmark is involved. Run it again when the default backbone, its layers or their
normalisation change; then `benchmarks.make_shipped_null`.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

import embeddings
from benchmarks.differences import Cells, Examined, examined
from benchmarks.machine import machine
from benchmarks.retaken import retaken
from embeddings import Embedder, open_backbone
from embeddings.metric import FILE, discriminants, features_of, whitening
from embeddings.patches import Floats
from embeddings.threads import limit_threads
from gallery import durable

_SEEDS = range(1020, 1030)


def main() -> None:
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # one thread per process
    again = retaken(_embedder())
    with ProcessPoolExecutor(mp_context=get_context("spawn"), initializer=limit_threads,
                             initargs=(1,)) as pool:  # fmt: skip
        found = [one for part in pool.map(_examined, _SEEDS) for one in part]
    product = [(one.damage, one.product) for one in found]
    beside = [(one.damage, one.beside) for one in found]
    backbone = open_backbone(device="cpu")
    made = {
        "command": "python -m benchmarks.make_metric",
        "photographs": len(found),
        "features": features_of(backbone.spec),
    } | machine()
    (plain,) = Embedder(backbone).embed([np.zeros((64, 64, 3), np.uint8)])
    file = io.BytesIO()
    np.savez(
        file,
        anywhere=whitening(_pristine(product), again),
        placed=_discriminants(product, again),
        beside=_discriminants(beside, again),
        dims=[layer.features.shape[2] for layer in plain.patches.layers],
        made=json.dumps(made),
    )
    path = Path(embeddings.__file__).parent / FILE
    durable.write_file(path, file.getvalue())
    print(f"wrote {path.name}: {len(found)} photographs")


def _examined(seed: int) -> list[Examined]:
    return examined(seed, _embedder())


def _embedder() -> Embedder:
    return Embedder(open_backbone(device="cpu"))


def _discriminants(found: Sequence[tuple[str, Cells]], again: Floats) -> Floats:
    before = np.concatenate([cells.counterpart for damage, cells in found if not damage])
    elsewhere = before - np.random.default_rng(0).permutation(before)
    hurt = np.concatenate([cells.difference for damage, cells in found if damage])
    return discriminants(_pristine(found), again, hurt, elsewhere)


def _pristine(found: Sequence[tuple[str, Cells]]) -> Floats:
    return np.concatenate([cells.difference for damage, cells in found if not damage])


if __name__ == "__main__":
    main()
