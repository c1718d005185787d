"""The first look: made-up profiles in, suspicions out."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly.calibrate import NullScores
from anomaly.left_out import LeftOut
from anomaly.nulls import Nulls
from anomaly.profile import Profile
from anomaly.score import Prior
from anomaly.suspects import (
    BLUR,
    Stored,
    rareness,
    reliable_without,
    sharpness_share,
    suspicions,
)
from gallery.shard import StoredReference

PRIOR = {"product": Prior(1.0, 0.1, 0.1), "anywhere": Prior(0.7, 0.05, 0.05)}
EVEN = np.linspace(-2, 4, 199).astype(np.float32)  # 4 is as rare as one in 200
SHIPPED = dict.fromkeys((1, 2, 3), NullScores("shipped", EVEN))
NULLS = Nulls(PRIOR, shipped=dict.fromkeys(("placed", "anywhere", "loose"), SHIPPED))


def entry(product: float = 1.0, *, registered: int = 3, compared: int = 3) -> LeftOut:
    placed = {"product": product} if registered else {}
    return LeftOut(placed, {"anywhere": 0.7}, registered, compared, 0.1)


def reference(slot: int, view: str | None = None, variant: str | None = None) -> StoredReference:
    return StoredReference(slot, f"{slot:032x}", f"{slot:064x}", None, view, variant, None, slot, 0)


def stored(*entries: LeftOut, sharpness: list[float] | None = None, labels=()) -> Stored:
    count = len(entries)
    return Stored(
        "p", 0,
        tuple(reference(n, *(labels[n] if labels else ())) for n in range(count)),
        np.eye(count, dtype=np.float32),
        Profile(tuple(entries)),
        np.asarray(sharpness or [100.0] * count, np.float32),
    )  # fmt: skip


def nowhere(_: Stored, __: int) -> None:
    return None


def causes(product: Stored, other=nowhere) -> list[tuple[int, str]]:
    return [(s.row, s.cause) for s in suspicions(product, NULLS, other)]


def test_siblings_that_agree_are_not_suspected() -> None:
    assert causes(stored(*(entry(v) for v in (0.9, 1.0, 1.1, 1.05)))) == []


def test_one_far_above_its_siblings_is_unlike_them_and_the_p_value_is_by_hand() -> None:
    product = stored(entry(), entry(), entry(2.0), entry())
    assert causes(product) == [(2, "unlike")]
    # Centre (3 * 1 + 1) / 4; variance 12 * 0.1^2 / 14, times 1 + 1/4; 1.5 times the spread, as is
    # `product`'s: nothing of the null is above.
    found = rareness(product.profile, 2, NULLS)
    assert found is not None
    assert found.score == pytest.approx(1.0 / (1.5 * np.sqrt(12 * 0.01 / 14 * 1.25)), rel=1e-5)
    assert found.p_value == pytest.approx(1 / 200)
    assert found.source == "shipped"


def test_it_does_not_raise_the_bar_that_it_is_held_to() -> None:
    two_bad = stored(entry(), entry(), entry(2.0), entry(2.0), entry(), entry())
    assert causes(two_bad) == [(2, "unlike"), (3, "unlike")]


def test_one_that_registers_with_none_is_unplaced_only_where_the_others_do() -> None:
    alone = entry(registered=0)
    rest = [entry(registered=2) for _ in range(3)]
    assert causes(stored(alone, *rest)) == [(0, "unplaced")]
    assert causes(stored(alone, *(entry(registered=0) for _ in range(3)))) == []
    assert causes(stored(alone, entry(registered=0, compared=1))) == []  # a pair tells nothing
    assert reliable_without(stored(alone, *rest).profile, [0])
    assert not reliable_without(stored(alone, *rest).profile, [1])
    assert not reliable_without(stored(alone, *rest).profile, [0, 1, 2])  # one is no pair


def test_it_is_foreign_where_another_product_is_nearer_than_any_sibling() -> None:
    product = stored(entry(registered=0), *(entry(registered=2) for _ in range(3)))
    near = suspicions(product, NULLS, lambda _, __: ("q", 0.3))  # siblings are at 0
    assert [(s.row, s.cause, s.other) for s in near] == [(0, "unplaced", None), (0, "foreign", "q")]
    assert near[1].figure == pytest.approx(0.3)
    assert causes(product, lambda _, __: ("q", -0.1)) == [(0, "unplaced")]


def test_where_many_fit_none_they_are_faces_and_not_suspected() -> None:
    far = LeftOut({}, {"anywhere": 1.6}, 0, 3, 0.5)
    usual = LeftOut({}, {"anywhere": 0.7}, 0, 3, 0.1)
    everywhere = lambda _, __: ("q", 0.9)  # noqa: E731
    assert causes(stored(far, usual, usual, usual), everywhere) == [(0, "unlike"), (0, "foreign")]
    assert causes(stored(far, far), everywhere) == []
    assert causes(stored(far, far, usual, usual), everywhere) == []


def test_other_products_are_asked_only_for_what_registers_with_no_sibling() -> None:
    def never(_: Stored, __: int) -> None:
        raise AssertionError("asked")

    assert causes(stored(*(entry() for _ in range(4))), never) == []


def test_blur_is_a_share_of_the_siblings_median_not_of_its_own() -> None:
    product = stored(*(entry() for _ in range(4)), sharpness=[100, 20, 110, 90])
    assert causes(product) == [(1, "blurred")]
    assert sharpness_share(product, 1) == pytest.approx(0.2)
    edge = stored(*(entry() for _ in range(4)), sharpness=[100, 100 * BLUR, 100, 100])
    assert causes(edge) == []
    assert sharpness_share(stored(entry(), entry(), sharpness=[0, 0]), 0) is None


def test_only_the_same_view_and_variant_are_siblings_and_the_lonely_are_left_alone() -> None:
    labels = [("front", None), ("front", None), ("back", None), ("front", "new")]
    product = stored(*(entry(9.0) for _ in range(4)), labels=labels)
    assert [product.kin(row) for row in range(4)] == [[1], [0], [], []]
    assert {row for row, _ in causes(product)} <= {0, 1}
    assert causes(stored(entry(9.0, registered=0, compared=0))) == []


def test_the_shipped_null_is_asked_before_the_gallerys_own_which_is_in_doubt() -> None:
    own = NullScores("pooled", np.full(300, 50.0, np.float32))
    both = Nulls(PRIOR, {"placed": {3: own}}, {"placed": SHIPPED})
    found = both.clean("placed", 3)
    assert found is not None
    assert found.source == "shipped"
    pooled = Nulls(PRIOR, {"placed": {3: own}}).clean("placed", 3)
    assert pooled is not None
    assert pooled.source == "pooled"
    assert Nulls(PRIOR).clean("placed", 3) is None
    product = stored(entry(), entry(), entry(2.0), entry())
    assert suspicions(product, Nulls(PRIOR), nowhere) == []
