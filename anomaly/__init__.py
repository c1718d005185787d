"""Query against gallery: inspecting, and making galleries. Importing it loads no network."""

from anomaly.config import BuildConfig, build_config
from anomaly.errors import AnomalyError
from anomaly.inspector import Inspector
from anomaly.rebuild import NewGallery, build_gallery, embedder_for, import_source, rebuild
from anomaly.results import Finding, Inspection, Reason, Unreadable
from anomaly.schema import as_json, load_schema

__all__ = [
    "AnomalyError",
    "BuildConfig",
    "Finding",
    "Inspection",
    "Inspector",
    "NewGallery",
    "Reason",
    "Unreadable",
    "as_json",
    "build_config",
    "build_gallery",
    "embedder_for",
    "import_source",
    "load_schema",
    "rebuild",
]
