"""Everything `anomaly` can raise on purpose, beside what `embeddings` and `gallery` raise.

AnomalyError
├── ConfigError    a setting that is unknown or out of range; names file and field
├── AuditError     a kind of finding that there is none of
├── ViewsError     an item without views
├── ArgumentError  an argument of a type that is none of those allowed; names it and them
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


class ArgumentError(AnomalyError):
    code = "argument_error"
