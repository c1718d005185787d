"""Distances that make little of what changes between photographs of the same thing.

Light, shadows, focus, noise, JPEG and fractions of a cell's shift move a patch's features, too,
and along some directions far more than along others. A metric multiplies dense features by a
matrix, so that Euclidean distance afterwards counts what matters. There are three:

    anywhere  the inverse root of the covariance of such differences: they become round, and
              distance counts in their spreads (within-class covariance normalisation: Hatch,
              Kajarekar & Stolcke, Interspeech 2006). For patches that are searched wherever they
              lie: what sets one cookie's crumbs off from another's is no damage.
    placed    of that space only the directions along which patches before and after damage lie
              farthest apart, and these the more the farther (Fisher's discriminants, Annals of
              Eugenics 1936). For patches of one place, where anything that is not the same thing
              counts; so patches of different things are among what is to be told apart, a little.
    beside    the same for what lies beside products.

A picture is judged by its few worst patches. So it is the rare, large differences of pristine
pictures that discriminants must be blind to, not the usual ones: they count by the fourth power of
their length.

What differences there are was learned for one set of weights, from rendered products
(`python -m benchmarks.make_metric`). Other backbones have none: `shipped_metrics` is None, and
features are compared as they are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from embeddings.backbones import BackboneSpec
    from embeddings.patches import Floats

METRIC_VERSION = 3
FILE = "metric.npz"
# Of the mean variance; 0.02 to 0.5 differ little for the one, 0.1 to 1 for the other.
_SHRINKAGE, _SHRINKAGE_PLACED = 0.1, 0.3
_DISCRIMINANTS = 64  # 48 to 96 differ little
_POWER = 0.5  # of a direction's ratio of variances: its weight in distances is the square
_TAIL = 4  # power of its length by which a pristine difference counts; 2 to 6 differ little
_TEXTURES = 0.25  # of what products count, pristine: 0.1 to 1 trade products for photographs
_ELSEWHERE = 0.1  # of what other places count beside damage; 0.03 to 0.3 differ little


@dataclass(frozen=True)
class Metric:
    """`weights`: one (D_i, D) float32 matrix per layer; dense = sum of layer @ weights."""

    weights: tuple[Floats, ...]


@dataclass(frozen=True)
class Metrics:
    """See the module: for patches wherever they lie, of one place, and beside products."""

    anywhere: Metric
    placed: Metric
    beside: Metric


def whitening(within: Floats, textures: Floats) -> Floats:
    """(N, D) differences between features of the same place of products, and (M, D) of anything in
    real photographs -> (D, D) float32, symmetric.

    Scaled so that the differences keep their mean square.
    """
    covariance = _usual(within, textures)
    return _scaled(_inverse_root(covariance, _SHRINKAGE), covariance)


def discriminants(
    within: Floats,
    textures: Floats,
    damage: Floats,
    elsewhere: Floats,
    *,
    count: int = _DISCRIMINANTS,
) -> Floats:
    """As for `whitening`, (K, D) differences of places before and after damage, and (L, D) between
    places drawn at random -> (D, `count`) float32, fewer where D is less; the weightiest first.

    Differences of the same place count by the fourth power of their length. Scaled so that they
    keep their mean square.
    """
    root = _inverse_root(_usual(within, textures, _TAIL), _SHRINKAGE_PLACED)
    hurt, other = _second_moments(damage), _second_moments(elsewhere)
    apart = hurt / np.trace(hurt) + _ELSEWHERE * other / np.trace(other)
    ratios, directions = np.linalg.eigh(root @ apart @ root)
    kept = np.argsort(ratios)[::-1][:count]
    weights = np.maximum(ratios[kept], 0.0) ** _POWER
    return _scaled(root @ directions[:, kept] * weights, _usual(within, textures))


def _usual(within: Floats, textures: Floats, power: int = 0) -> NDArray[np.float64]:
    """Second moments of both, those of textures scaled to the trace of the others."""
    own, other = _second_moments(within, power), _second_moments(textures, power)
    share = _TEXTURES / (1 + _TEXTURES)
    return np.asarray((1 - share) * own + share * other * (np.trace(own) / np.trace(other)))


def _second_moments(differences: Floats, power: int = 0) -> NDArray[np.float64]:
    """Each counts by a power of its length."""
    wide = np.asarray(differences, np.float64)
    weights = np.linalg.norm(wide, axis=1) ** power
    moments: NDArray[np.float64] = (wide.T * weights) @ wide / weights.sum()
    return moments


def _inverse_root(covariance: NDArray[np.float64], shrinkage: float) -> NDArray[np.float64]:
    mean = float(np.trace(covariance)) / len(covariance)
    values, vectors = np.linalg.eigh(covariance + shrinkage * mean * np.eye(len(covariance)))
    root: NDArray[np.float64] = (vectors * values**-0.5) @ vectors.T
    return root


def _scaled(weights: NDArray[np.float64], covariance: NDArray[np.float64]) -> Floats:
    after = float(np.trace(weights.T @ covariance @ weights))
    return np.asarray(weights * np.sqrt(float(np.trace(covariance)) / after), np.float32)


def features_of(spec: BackboneSpec) -> dict[str, object]:
    """What decides whether metrics fit: weights, layers, and how layers are normalised."""
    return {
        "version": METRIC_VERSION,
        "weights_sha256": spec.weights_sha256,
        "layers": list(spec.layers),
        "floors": [round(floor, 6) for floor in spec.floors],
    }


def shipped_metrics(spec: BackboneSpec) -> Metrics | None:
    """The metrics in the wheel, or None if they were learned for other features."""
    file = resources.files("embeddings") / FILE
    if not file.is_file():
        return None
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
        if json.loads(str(stored["made"]))["features"] != features_of(spec):
            return None
        ends = np.cumsum(stored["dims"])[:-1]
        return Metrics(*(
            Metric(tuple(np.split(stored[field.name], ends, axis=0))) for field in fields(Metrics)
        ))  # fmt: skip
