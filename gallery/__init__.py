"""What "pristine" is, on disk: catalog, immutable builds, one pointer."""

from gallery.assemble import (
    Described,
    Describer,
    EmbeddingDescriber,
    ProductStep,
    ShardMade,
    ShardTask,
    make_shard,
)
from gallery.build import BuildReport, build
from gallery.catalog import Catalog, CatalogRow, ImportReport, create_catalog, open_catalog
from gallery.check import CheckReport, check
from gallery.describe import Description, Reference, describe
from gallery.errors import GalleryError
from gallery.gates import Candidate, Gate, GateResult, default_gates
from gallery.identify import Identification, ProductCandidate, identify
from gallery.publish import Current, list_builds, publish, read_current
from gallery.reader import Gallery
from gallery.records import Record
from gallery.sources import Problem, SourceRow, read_source

__all__ = [
    "BuildReport",
    "Candidate",
    "Catalog",
    "CatalogRow",
    "CheckReport",
    "Current",
    "Described",
    "Describer",
    "Description",
    "EmbeddingDescriber",
    "Gallery",
    "GalleryError",
    "Gate",
    "GateResult",
    "Identification",
    "ImportReport",
    "Problem",
    "ProductCandidate",
    "ProductStep",
    "Record",
    "Reference",
    "ShardMade",
    "ShardTask",
    "SourceRow",
    "build",
    "check",
    "create_catalog",
    "default_gates",
    "describe",
    "identify",
    "list_builds",
    "make_shard",
    "open_catalog",
    "publish",
    "read_current",
    "read_source",
]
