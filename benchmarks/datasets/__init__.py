"""Datasets by local path: products with references and queries. Never a download.

load("cookies", root, shots=4, seed=0)           -> list[Split]
load_identification("grocery", root)             -> Identification

Each layout, and the protocol by which references and queries are drawn, is told by its module:
`folder`, `mvtec`, `visa`, `kaputt`, `pairs`, `grocery`. `studio` renders its sets: no files.
"""

from benchmarks.datasets.errors import DatasetError
from benchmarks.datasets.grocery import Identification
from benchmarks.datasets.registry import (
    IDENTIFICATION_SETS,
    RENDERED,
    SETS,
    Layout,
    distinct_seeds,
    distinct_shots,
    load,
    load_identification,
)
from benchmarks.datasets.sample import Sample, Split

__all__ = [
    "IDENTIFICATION_SETS",
    "RENDERED",
    "SETS",
    "DatasetError",
    "Identification",
    "Layout",
    "Sample",
    "Split",
    "distinct_seeds",
    "distinct_shots",
    "load",
    "load_identification",
]
