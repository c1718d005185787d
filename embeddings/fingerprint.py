"""What must match for two vectors, or two scores, to be compared.

`EmbeddingFingerprint` guards vectors: other weights, another size, another codec means another
space, and the comparison is refused. `ScoringFingerprint` guards what was *learned from* vectors
(profiles, calibrations): it changes with the code and settings of foreground, align, compare and
score, and what was made under another one is recomputed without embedding anything again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from embeddings.errors import FingerprintMismatch

EMBEDDING_FORMAT = 1


def digest_json(value: object) -> str:
    """sha256 hex of a JSON value, independent of key order and white space."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class EmbeddingFingerprint:
    """How a picture became vectors; all fields are readable strings or numbers."""

    model: str
    weights_sha256: str
    preprocessing: str
    layers: str
    pooling: str
    codec: str
    device_class: str
    format: int = EMBEDDING_FORMAT

    @property
    def digest(self) -> str:
        return digest_json(asdict(self))

    def as_dict(self) -> dict[str, str | int]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> EmbeddingFingerprint:
        """Raises `FingerprintMismatch` when a field is missing, unknown or of another type."""
        expected = {f.name: int if f.name == "format" else str for f in fields(cls)}
        if set(values) != set(expected) or any(
            not isinstance(values[name], kind) for name, kind in expected.items()
        ):
            raise FingerprintMismatch(
                f"not an embedding fingerprint: {dict(values)!r}; expected {sorted(expected)}"
            )
        return cls(**values)  # type: ignore[arg-type]

    def require_comparable(self, other: EmbeddingFingerprint) -> None:
        """Raise `FingerprintMismatch` unless vectors of both may be compared.

        The device class is recorded and keeps digests apart, but does not forbid comparing: a
        gallery embedded on a GPU serves CPU lines. (float32 with TF32 off; 1 against 2 CPU threads
        already differ by 3e-5, four orders below the distances that are compared.)
        """
        mine, theirs = self.as_dict(), other.as_dict()
        differing = [k for k in mine if k != "device_class" and mine[k] != theirs[k]]
        if differing:
            lines = "; ".join(f"{k}: {mine[k]!r} against {theirs[k]!r}" for k in differing)
            raise FingerprintMismatch(
                f"these vectors come from different embedders and can't be compared ({lines}); "
                "open the gallery with the embedder it was built with, or rebuild it"
            )


@dataclass(frozen=True)
class ScoringFingerprint:
    """`versions` of the scoring stages by name, and the hash of their configuration."""

    versions: tuple[tuple[str, int], ...]
    config_sha256: str

    @property
    def digest(self) -> str:
        return digest_json([list(map(list, self.versions)), self.config_sha256])

    @classmethod
    def of(cls, versions: Mapping[str, int], config: object) -> ScoringFingerprint:
        """`config` is any JSON value: the settings of the stages that `versions` names."""
        return cls(tuple(sorted(versions.items())), digest_json(config))

    def require_same(self, other: ScoringFingerprint) -> None:
        """Raise `FingerprintMismatch` unless what was learned under `other` holds here."""
        if self != other:
            raise FingerprintMismatch(
                f"learned under scoring {other.digest[:12]} ({dict(other.versions)}), this is "
                f"{self.digest[:12]} ({dict(self.versions)}); recompute the profiles and "
                "calibrations: no picture needs embedding again"
            )
