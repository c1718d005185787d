"""What people pass to an inspector: pictures that are none, one for many, IDs that are none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from anomaly import Inspector
from anomaly.results import Unreadable
from anomaly.studio import Photograph

CARTON = "s0-carton-0"
Shoot = Callable[..., Photograph]


@pytest.fixture(scope="module")
def inspector(shop: Path) -> Iterator[Inspector]:
    with Inspector.open(shop) as opened:
        yield opened


def test_a_loop_over_results_needs_no_case_for_unreadable_pictures(
    inspector: Inspector, shoot: Shoot, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"not a picture")
    pictures = [shoot(CARTON, 1).image, broken]
    many = list(inspector.inspect_many(pictures, product_id=CARTON))
    views = inspector.inspect_views(pictures, product_id=CARTON)
    for good, bad in (many, views.views):
        assert [good.verdict, bad.verdict] == ["ok", "unreadable"]
        assert isinstance(bad, Unreadable)
        assert (bad.reason.code, bad.reason.text) == (bad.code, bad.message)
    assert views.verdict == "cannot_compare"
