"""Query against gallery; for now: making galleries. Importing this loads no network library."""

from anomaly.config import BuildConfig, build_config
from anomaly.errors import AnomalyError
from anomaly.rebuild import NewGallery, build_gallery, embedder_for, import_source, rebuild

__all__ = [
    "AnomalyError",
    "BuildConfig",
    "NewGallery",
    "build_config",
    "build_gallery",
    "embedder_for",
    "import_source",
    "rebuild",
]
