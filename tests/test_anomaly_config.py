"""Settings in a TOML file: which there are, and what is said of those that there are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from anomaly import BuildConfig, build_config
from anomaly.errors import ConfigError


def test_the_readme_lists_every_setting() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
    assert [key for key in BuildConfig.model_fields if f"`{key}`" not in readme] == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("size = 320", r"size: .*; did you mean 'size_px'\?; settings are backbone, size_px"),
        ("Threads = 2", r"Threads: .*; did you mean 'threads'\?"),
        ("budget = 0.05", r"budget: .*; `amiss calibrate` sets it for a gallery"),
        ("colour = 1", r"colour: Extra inputs are not permitted \(got 1\); settings are "),
        ("size_px = 1", r"size_px: .*32 \(got 1\); settings are "),
    ],
)
def test_a_setting_that_is_none_is_refused_with_what_to_do(
    tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "amiss.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said):
        build_config(file)
