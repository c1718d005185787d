"""Settings at the border: checked once, unknown ones refused, hashed into what they made."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from anomaly.errors import ConfigError
from embeddings.backbones import DEFAULT_BACKBONE
from embeddings.embedder import DEFAULT_SIZE_PX
from gallery.gates import MAX_LOST
from gallery.naming import did_you_mean

DEFAULT_BUDGET = 0.01
"""Share of pristine pictures that may be called damaged."""

MAX_CONTAMINATED = 0.1
"""Share of a build's references that may look bad to its gate."""

MAX_WORSE = 0.02
"""Share of the frozen regression set that a build may answer wrongly where its parent did not."""
_RATES = ("budget", "review")  # of a gallery, not of a build


class BuildConfig(BaseModel):
    """How a gallery is built. `content` shapes what is stored; the rest only how fast."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: str = Field(DEFAULT_BACKBONE, min_length=1)
    size_px: int = Field(DEFAULT_SIZE_PX, ge=32, le=4096)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1, le=1024)
    workers: int = Field(1, ge=1, le=256)
    most_lost: float = Field(MAX_LOST, ge=0, le=1)
    most_contaminated: float = Field(MAX_CONTAMINATED, ge=0, le=1)
    most_worse: float = Field(MAX_WORSE, ge=0, le=1)

    def content(self) -> dict[str, Any]:
        """The settings that a build records and the next one takes over."""
        return {"backbone": self.backbone, "size_px": self.size_px}


class InspectConfig(BaseModel):
    """How pictures are inspected. `threads` None leaves torch and OpenCV as they are; rates of None
    are the calibration's, else `DEFAULT_BUDGET` and no review band."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(None, ge=1, le=1024)
    budget: float | None = Field(None, gt=0, le=0.5)
    review: float | None = Field(None, gt=0, le=0.5)


def inspect_config(*, given: Mapping[str, Any] | None = None) -> InspectConfig:
    """Settings of an inspector; one of None was not given. Raises `ConfigError`."""
    try:
        return InspectConfig(**{k: v for k, v in (given or {}).items() if v is not None})
    except ValidationError as error:
        raise _refusal(error, "settings", InspectConfig) from error


def build_config(
    file: Path | None = None,
    *,
    inherited: Mapping[str, Any] | None = None,
    given: Mapping[str, Any] | None = None,
) -> BuildConfig:
    """Settings from, in rising order: defaults, `inherited`, the TOML `file`, and `given`.

    A `given` setting of None was not given. The file's keys are those of `BuildConfig`. Raises
    `ConfigError` with the field and what is allowed.
    """
    merged: dict[str, Any] = dict(inherited or {})
    if file is not None:
        merged |= _read_toml(file)
    merged |= {key: value for key, value in (given or {}).items() if value is not None}
    try:
        return BuildConfig(**merged)
    except ValidationError as error:
        raise _refusal(error, str(file or "settings"), BuildConfig) from error


def _refusal(error: ValidationError, where: str, model: type[BaseModel]) -> ConfigError:
    lines = "; ".join(
        f"{'.'.join(map(str, e['loc']))}: {e['msg']} (got {e['input']!r})"
        + _instead(str(e["loc"][0]), model)
        for e in error.errors()
    )
    return ConfigError(f"{where}: {lines}; settings are {', '.join(model.model_fields)}")


def _instead(key: str, model: type[BaseModel]) -> str:
    """What to do about a key that `model` doesn't have."""
    if key in model.model_fields:
        return ""
    if key in _RATES:
        return "; `amiss calibrate` sets it for a gallery, `amiss inspect` takes it for one run"
    return did_you_mean(key, model.model_fields)


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: can't be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not a TOML file ({error})") from error
