"""`--part i/n`: shares of work, counted from 0."""

from __future__ import annotations

import argparse

import pytest

from benchmarks.shares import add_part


def part_of(*arguments: str) -> tuple[int, int]:
    parser = argparse.ArgumentParser()
    add_part(parser)
    part: tuple[int, int] = parser.parse_args(arguments).part
    return part


def test_everything_is_one_share() -> None:
    assert part_of() == (0, 1)


def test_a_share_is_parsed() -> None:
    assert part_of("--part", "1/3") == (1, 3)


@pytest.mark.parametrize("text", ["2/2", "3/2", "1", "-1/2", "0/0", "a/b", "0/2/4"])
def test_what_is_no_share_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        part_of(f"--part={text}")
    assert "is no share; expected I/N" in capsys.readouterr().err
