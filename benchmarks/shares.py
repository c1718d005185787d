"""Work that is split over processes: `--part i/n` is the i-th of n shares, counted from 0."""

from __future__ import annotations

import argparse
import re


def add_part(parser: argparse.ArgumentParser) -> None:
    """`--part`: parsed to (i, n); what is no share of anything is refused."""
    parser.add_argument(
        "--part", type=_part, default=(0, 1), metavar="I/N",
        help="the I-th of N shares of the products, from 0/N to N-1/N",
    )  # fmt: skip


def _part(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if found is None or not int(found[1]) < int(found[2]):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no share; expected I/N with I from 0 to N-1, for example 0/2 and 1/2"
        )
    return int(found[1]), int(found[2])
