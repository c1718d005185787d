"""Makes `embeddings/metric.npz`: how patch features differ between photographs of the same thing.

    python -m benchmarks.make_metric    # 2 minutes on 2 cores

Renders pristine products, each twice from the same place: once plainly, once under other light,
noise, focus and JPEG, with a shadow, glare or film folds, and moved a little in the frame. The
differences between the features of the same place are what `embeddings.metric` whitens. Cells that
glare hides don't count. Products have other seeds than the demo's, the tests' and the benchmarks';
no real photograph and no damage is involved. Run it again when the default backbone, its layers or
their normalisation change; then `benchmarks.make_shipped_null`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

import embeddings
from anomaly.compare import _sample
from anomaly.studio import LEVELS, Nuisance, Product, Shot, make_products, render
from benchmarks.machine import machine
from embeddings import Embedder, Pixels, open_backbone
from embeddings.exposure import clipped_pixels
from embeddings.metric import FILE, features_of, whitening
from embeddings.patches import Floats
from embeddings.registration import Matrix, transform
from gallery import durable

_SEEDS = range(1000, 1004)  # of those that `make_shipped_null` renders
_KINDS = ("", "", "shadow", "glare", "film_folds")
_CELLS = 600  # of each pair
_BORDER_PX = 20
_HALO = np.ones((25, 25), np.uint8)  # pixels beside clipped ones, at 448 px


def main() -> None:
    backbone = open_backbone(device="cpu")
    embedder = Embedder(backbone)
    found = []
    with embedder.repeatable():
        for seed in _SEEDS:
            for place, product in enumerate(make_products(seed=seed)):
                rng = np.random.default_rng([seed, place])
                found += list(_differences(product, place, rng, embedder))
            print(f"{len(found)} pairs", flush=True)
    differences = np.concatenate(found)
    made = {
        "command": "python -m benchmarks.make_metric",
        "pairs": len(found),
        "features": features_of(backbone.spec),
    } | machine()
    file = io.BytesIO()
    np.savez(
        file,
        whitening=whitening(differences),
        dims=[layer.features.shape[2] for layer in _layers(embedder)],
        made=json.dumps(made),
    )
    path = Path(embeddings.__file__).parent / FILE
    durable.write_file(path, file.getvalue())
    print(f"wrote {path.name}: {len(differences)} differences of {differences.shape[1]} features")


def _differences(
    product: Product, place: int, rng: np.random.Generator, embedder: Embedder
) -> Iterator[Floats]:
    """(N, D) differences for each kind of nuisance."""
    shot = LEVELS["easy"].draw(rng, background=("tray", "belt")[place % 2])
    shot = replace(shot, scale=float(rng.uniform(0.6, 1.5)))
    plain = embedder.embed([_photograph(product, shot, rng)])[0].patches
    features = plain.dense()
    centres = plain.centres_px().reshape(-1, 2).astype(np.float64)
    for kind in _KINDS:
        image, matrix = _moved(_photograph(product, _relit(shot, rng), rng, kind), rng)
        grid = embedder.embed([image])[0].patches
        there = transform(matrix, centres)
        values, inside = _sample(grid.dense(), grid.cells_of(there))
        rows = np.flatnonzero(inside & _shown(there, image))
        differences = values[rows] - features.reshape(-1, features.shape[2])[rows]
        yield differences[rng.permutation(len(differences))[:_CELLS]]


def _photograph(product: Product, shot: Shot, rng: np.random.Generator, kind: str = "") -> Pixels:
    strength, seed = float(rng.uniform(0.2, 0.9)), int(rng.integers(2**31))
    nuisances = (Nuisance(kind, strength),) if kind else ()
    return render(product, shot=shot, seed=seed, nuisances=nuisances).image


def _relit(shot: Shot, rng: np.random.Generator) -> Shot:
    other = LEVELS["medium"].draw(rng)
    return replace(shot, light=other.light, noise_sigma=other.noise_sigma,
                   blur_sigma=other.blur_sigma, jpeg_quality=other.jpeg_quality)  # fmt: skip


def _moved(image: Pixels, rng: np.random.Generator) -> tuple[Pixels, Matrix]:
    """Turned, scaled and shifted as far as views are compared without being turned."""
    height, width = image.shape[:2]
    angle, zoom = float(rng.uniform(-6, 6)), float(np.exp(rng.uniform(-0.12, 0.12)))
    matrix = np.vstack([cv2.getRotationMatrix2D((width / 2, height / 2), angle, zoom), [0, 0, 1]])
    matrix[:2, 2] += rng.uniform(-6, 6, 2)
    moved = cv2.warpAffine(image, matrix[:2], (width, height), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.uint8), matrix


def _shown(points: np.ndarray, image: Pixels) -> np.ndarray:
    """Which (N, 2) points of the picture are well inside and under no glare."""
    height, width = image.shape[:2]
    inside = (points > _BORDER_PX).all(axis=1)
    inside &= (points < [width - _BORDER_PX, height - _BORDER_PX]).all(axis=1)
    hidden = cv2.dilate(clipped_pixels(image).astype(np.uint8), _HALO)
    scale = np.array([hidden.shape[1] / width, hidden.shape[0] / height])
    x, y = np.clip((points * scale).astype(np.intp), 0, np.array(hidden.shape[::-1]) - 1).T
    return np.asarray(inside & (hidden[y, x] == 0))


def _layers(embedder: Embedder) -> tuple:  # type: ignore[type-arg]
    return embedder.embed([np.zeros((64, 64, 3), np.uint8)])[0].patches.layers


if __name__ == "__main__":
    main()
