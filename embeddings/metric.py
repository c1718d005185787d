"""A distance that makes little of what changes between photographs of the same thing.

Light, shadows, focus, noise, JPEG and fractions of a cell's shift move a patch's features, too,
and along some directions far more than along others. The metric multiplies dense features by the
inverse root of the covariance of such differences, so that Euclidean distance afterwards counts in
their spreads: within-class covariance normalisation (Hatch, Kajarekar & Stolcke, Interspeech 2006).

What differences there are was learned for one set of weights, from pairs of renders of the same
pristine product (`python -m benchmarks.make_metric`). Other backbones have none: `shipped_metric`
is None, and features are compared as they are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from embeddings.backbones import BackboneSpec
    from embeddings.patches import Floats

METRIC_VERSION = 1
FILE = "metric.npz"
_SHRINKAGE = 0.1  # of the mean variance; 0.02 to 0.5 differ little


@dataclass(frozen=True)
class Metric:
    """`weights`: one (D_i, D) float32 matrix per layer; dense = sum of layer @ weights."""

    weights: tuple[Floats, ...]


def whitening(differences: Floats) -> Floats:
    """(N, D) differences between features of the same place -> (D, D) float32, symmetric.

    Scaled so that the differences themselves keep their mean square.
    """
    wide = np.asarray(differences, np.float64)
    covariance = wide.T @ wide / len(wide)
    mean = float(np.trace(covariance)) / len(covariance)
    values, vectors = np.linalg.eigh(covariance + _SHRINKAGE * mean * np.eye(len(covariance)))
    root = (vectors * values**-0.5) @ vectors.T
    after = float(np.trace(root @ covariance @ root)) / len(covariance)
    return np.asarray(root * np.sqrt(mean / after), np.float32)


def features_of(spec: BackboneSpec) -> dict[str, object]:
    """What decides whether a metric fits: weights, layers, and how layers are normalised."""
    return {
        "version": METRIC_VERSION,
        "weights_sha256": spec.weights_sha256,
        "layers": list(spec.layers),
        "floors": [round(floor, 6) for floor in spec.floors],
    }


def shipped_metric(spec: BackboneSpec) -> Metric | None:
    """The metric in the wheel, or None if it was learned for other features."""
    file = resources.files("embeddings") / FILE
    if not file.is_file():
        return None
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
        if json.loads(str(stored["made"]))["features"] != features_of(spec):
            return None
        ends = np.cumsum(stored["dims"])[:-1]
        return Metric(tuple(np.split(stored["whitening"], ends, axis=0)))
