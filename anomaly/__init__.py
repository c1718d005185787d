"""Query against gallery: inspecting, and making galleries.

Names are imported when they are first asked for: `import anomaly` costs milliseconds and loads no
network library, and neither does a program that reads results only.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anomaly.audit import Audit, AuditFinding, audit_gallery, quarantine_found
    from anomaly.builder import NewGallery, build_gallery, embedder_for, import_source, rebuild
    from anomaly.calibrator import CalibrationReport, calibrate_gallery
    from anomaly.config import BuildConfig, build_config
    from anomaly.errors import AnomalyError
    from anomaly.inspector import Inspector
    from anomaly.item import ItemInspection
    from anomaly.results import Finding, Inspection, Reason, Unreadable
    from anomaly.schema import as_json, item_as_json, load_item_schema, load_schema
    from anomaly.update import Withdrawn, update_gallery, withdraw

__all__ = [
    "AnomalyError",
    "Audit",
    "AuditFinding",
    "BuildConfig",
    "CalibrationReport",
    "Finding",
    "Inspection",
    "Inspector",
    "ItemInspection",
    "NewGallery",
    "Reason",
    "Unreadable",
    "Withdrawn",
    "as_json",
    "audit_gallery",
    "build_config",
    "build_gallery",
    "calibrate_gallery",
    "embedder_for",
    "import_source",
    "item_as_json",
    "load_item_schema",
    "load_schema",
    "quarantine_found",
    "rebuild",
    "update_gallery",
    "withdraw",
]

_HOMES = {
    "audit": ("Audit", "AuditFinding", "audit_gallery", "quarantine_found"),
    "builder": ("NewGallery", "build_gallery", "embedder_for", "import_source", "rebuild"),
    "calibrator": ("CalibrationReport", "calibrate_gallery"),
    "config": ("BuildConfig", "build_config"),
    "errors": ("AnomalyError",),
    "inspector": ("Inspector",),
    "item": ("ItemInspection",),
    "results": ("Finding", "Inspection", "Reason", "Unreadable"),
    "schema": ("as_json", "item_as_json", "load_item_schema", "load_schema"),
    "update": ("Withdrawn", "update_gallery", "withdraw"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(f"anomaly.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'anomaly' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
