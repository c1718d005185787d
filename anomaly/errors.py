"""Everything `anomaly` can raise on purpose, beside what `embeddings` and `gallery` raise.

AnomalyError
├── ConfigError    a setting that is unknown or out of range; names file and field
├── AuditError     a kind of finding that there is none of
├── ViewsError     an item without views
└── LogError       a log folder, inspection ID or label that is not one
"""

from __future__ import annotations


class AnomalyError(Exception):
    code = "anomaly_error"


class ConfigError(AnomalyError):
    code = "config_error"


class AuditError(AnomalyError):
    code = "audit_error"


class LogError(AnomalyError):
    code = "log_error"


class ViewsError(AnomalyError):
    code = "views_error"
