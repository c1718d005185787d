"""Which pictures of which products the shipped scores are taken from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from anomaly.left_out import LeftOut
from anomaly.profile import Profile
from anomaly.score import Prior
from anomaly.studio import make_products
from benchmarks import make_shipped_null
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
        "loose": {"anywhere": 2.0},
    }
    found = [(product(count), [picture] * 2) for count in (4, 1, 2, 3, 1, 2, 1, 6)]
    scores = gathered(found, PRIORS, usual=4)
    numbers = {
        kind: {count: len(some) for count, some in of.items()} for kind, of in scores.items()
    }
    # In place, and loose: two pictures of each. Those of the first four else, and `anywhere` of
    # every second.
    each = {"placed": {1: 6, 2: 4, 3: 6}, "relit": {3: 0}, "loose": {2: 10, 3: 6}}
    assert numbers == {**each, "turning": {1: 8}, "anywhere": {1: 4}}
    assert min(scores["placed"][3]) > max(scores["turning"][1])


@pytest.mark.parametrize(("number", "references"), [(0, 4), (1, 2)])
def test_each_picture_in_place_has_another_in_other_light_and_content_is_seen_once(
    monkeypatch: pytest.MonkeyPatch, number: int, references: int
) -> None:
    seen: dict[bool, list[Any]] = {True: [], False: []}

    def note(image: Any, *_: object, placed: bool) -> Raw:
        seen[placed].append(image)
        if not placed:
            return {"anywhere": {"anywhere": 1.0}}
        return {"relit" if len(seen[True]) == 2 else "placed": {"novel": 1.0, "rim": 2.0}}

    def described(_: str, photographs: Any, **__: object) -> Any:
        assert len(photographs) == references
        return SimpleNamespace(profile=None)

    monkeypatch.setattr(make_shipped_null, "_seen", note)
    monkeypatch.setattr(make_shipped_null, "as_references", described)
    product, embedder = make_products(seed=0)[0], SimpleNamespace()
    _, queries = make_shipped_null._examined(product, number, embedder)  # type: ignore[arg-type]
    assert len(seen[True]) == len(queries) == 2 * len(seen[False])
    assert [a is b for a, b in zip(seen[True][::2], seen[False], strict=True)] == [True] * 3
    assert len({image.tobytes() for image in seen[True]}) == len(seen[True])
    assert all(raw["turning"] == {"novel": 1.0} for raw in queries)
    assert [sorted(raw)[0] == "anywhere" for raw in queries] == [False, True] * 3
    # What lies in other light and isn't told from plain light says nothing of plain light.
    lit = [sorted(raw.keys() - {"anywhere", "turning"}) for raw in queries[1::2]]
    assert lit == [["relit"], *[[] if references > 2 else ["placed"]] * 2]
    assert all("placed" in raw for raw in queries[::2])


@pytest.mark.parametrize("formless", [True, False])
def test_loose_goods_are_seen_without_place_unless_they_can_be_laid_upon_each_other(
    monkeypatch: pytest.MonkeyPatch, formless: bool
) -> None:
    poured: list[Any] = []

    def note(image: Any, *_: object, placed: bool) -> Raw:
        assert not placed
        poured.append(image)
        return {"loose": {"anywhere": 1.0}}

    def described(name: str, photographs: Any, **__: object) -> Any:
        assert name == "g1001"
        poured.extend(photograph.image for photograph in photographs)
        return SimpleNamespace(profile=SimpleNamespace(has_form=not formless))

    monkeypatch.setattr(make_shipped_null, "open_embedder", lambda **_: SimpleNamespace())
    monkeypatch.setattr(make_shipped_null, "_seen", note)
    monkeypatch.setattr(make_shipped_null, "as_references", described)
    _, queries = make_shipped_null._heap(1)
    assert len({image.tobytes() for image in poured}) == len(poured) == 4 + 4 * formless
    assert [list(raw) for raw in queries] == [["loose"]] * 4 * formless
