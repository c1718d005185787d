"""Everything `anomaly` can raise on purpose, beside what `embeddings` and `gallery` raise.

AnomalyError
└── ConfigError    a setting that is unknown or out of range; names file and field
"""

from __future__ import annotations


class AnomalyError(Exception):
    code = "anomaly_error"


class ConfigError(AnomalyError):
    code = "config_error"
