"""The planting benchmark counts what it says it counts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from benchmarks.bench_audit import tally
from benchmarks.planting import BAD, Known, Planted, read_truth, studio_gallery, write_gallery


def test_found_and_wrongly_accused_are_counted_by_hand() -> None:
    pairs = [
        (Known("a", "0", "good"), None), (Known("a", "1", "good"), "damaged"),
        (Known("a", "2", "good"), "undecided"), (Known("a", "3", "good"), "variant"),
        (Known("b", "0", "good"), "variant"), (Known("b", "1", "design"), None),
        (Known("b", "2", "design"), None), (Known("c", "0", "damaged"), "damaged"),
        (Known("c", "1", "damaged"), None), (Known("c", "2", "good"), "duplicate"),
    ]  # fmt: skip
    found = tally(pairs)
    assert (found["references"], found["good"]) == (10, 6)
    assert found["wrongly_accused"] == {"count": 1, "share": round(1 / 6, 4)}
    assert (found["wrongly_undecided"], found["wrongly_duplicate"]) == (1, 1)
    # b has two designs: either of them may be called the variant.
    assert (found["wrongly_variant"], found["told_apart"]) == (1, 1)
    assert found["products_with_two_designs"] == 1
    assert found["planted"]["damaged"] == {"planted": 2, "found": 1, "as": {"damaged": 1}}


def test_a_rendered_gallery_holds_the_shares_that_it_promises(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("benchmarks.planting._Camera.album", _names_only)
    made = studio_gallery(seed=9000, dozens=4)
    truths = Counter(one.truth for one in made)
    assert len(made) == 336
    assert sum(truths[kind] for kind in set(BAD)) == 17  # a twentieth
    assert 17 <= truths["design"] + truths["lone_design"] <= 19  # whole groups
    bad = Counter(one.product_id for one in made if one.truth in BAD)
    assert set(bad.values()) == {1}
    assert bad.keys().isdisjoint(o.product_id for o in made if "design" in o.truth)
    write_gallery(made[:8], tmp_path)
    assert [(k.name, k.truth) for k in read_truth(tmp_path)] == [
        (one.name, one.truth) for one in made[:8]
    ]


def _names_only(self, truths, **_: object) -> list[Planted]:
    name = self._item.product_id
    return [Planted(name, f"{slot}.png", truth, b"x") for slot, truth in enumerate(truths)]
