"""Which pictures of which products the shipped scores are taken from."""

from __future__ import annotations

from anomaly.profile import LeftOut, Profile
from anomaly.score import Prior
from benchmarks.make_shipped_null import Raw, gathered

PRIORS = {name: Prior(0.0, 1.0, 0.0) for name in ("product", "novel", "anywhere")}


def product(references: int) -> Profile:
    left_out = references if references > 1 else 0
    one = LeftOut({"product": 0.0, "novel": 0.0}, {"anywhere": 0.0}, 3, 3, 0.1)
    return Profile((one,) * left_out)


def test_scores_go_by_kind_and_by_references_in_place_alone() -> None:
    picture: Raw = {
        "placed": {"product": 5.0, "novel": 1.0},
        "turning": {"novel": 1.0},
        "anywhere": {"anywhere": 2.0},
    }
    found = [(product(count), [picture] * 2) for count in (4, 1, 2, 3, 1, 2, 1, 6)]
    scores = gathered(found, PRIORS, usual=4)
    numbers = {
        kind: {count: len(some) for count, some in of.items()} for kind, of in scores.items()
    }
    # In place: two pictures of each. Those of the first four else, and `anywhere` of every second.
    assert numbers == {"placed": {1: 6, 2: 4, 3: 6}, "turning": {1: 8}, "anywhere": {1: 4}}
    assert min(scores["placed"][3]) > max(scores["turning"][1])
