"""References that lie in other light than their siblings, by hand."""

from __future__ import annotations

from dataclasses import replace

from anomaly.left_out import LeftOut
from anomaly.profile import Profile


def entry(product: float) -> LeftOut:
    return LeftOut({"product": product}, {}, 1, 1, 0.1)


def test_references_in_other_light_than_their_siblings_have_scores_of_their_own() -> None:
    alike = [entry(value) for value in (2.0, 2.1)]
    relit = replace(entry(4.0), relit=True)
    profile = Profile((*alike, relit))
    (other,) = profile.null_scores({}, kind="relit")
    placed = profile.null_scores({}, kind="placed")
    assert len(placed) == 2
    assert other > placed.max()
    assert len(profile.null_scores({}, kind="turning")) == 0  # of no channel that counts then
    assert profile.kind(placed=True, relit=True) == "relit"
    turning = Profile((replace(relit, laid=1, gliding=1),) * 2)
    assert turning.kind(placed=True, relit=True) == "turning"
    assert len(turning.null_scores({}, kind="relit")) == 0
