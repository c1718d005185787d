"""What scorers raise on purpose.

ScorerError
├── NoReferences    `fit` was given none
├── NotAPicture     an array that is no (H, W, 3) uint8 picture
├── ScorerOption    an option of a scorer that is out of range
└── UnknownScorer   a name that no scorer has
"""

from __future__ import annotations

from anomaly.errors import AnomalyError


class ScorerError(AnomalyError):
    code = "scorer_error"


class NoReferences(ScorerError, ValueError):
    code = "no_references"


class NotAPicture(ScorerError, ValueError):
    code = "not_a_picture"


class ScorerOption(ScorerError, ValueError):
    code = "scorer_option"


class UnknownScorer(ScorerError, ValueError):
    code = "unknown_scorer"
