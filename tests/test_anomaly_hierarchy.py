"""Partial pooling against hand-worked figures, and what it promises by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly.calibrate import NullScores, calibrate
from anomaly.hierarchy import Hierarchy, evened, fit_hierarchy, most_of_one


def drawn(
    rng: np.random.Generator, *, products: int, each: int, between: float
) -> dict[str, np.ndarray]:
    places = rng.normal(1.0, between, products)
    return {f"p{n}": rng.gumbel(places[n], 1.0, each) for n in range(products)}


def fitted(groups: dict[str, np.ndarray]) -> Hierarchy:
    found = fit_hierarchy(groups)
    assert found is not None
    return found


def test_a_hand_worked_example() -> None:
    # Means 0, 4, 8; each pair 1 above and below: within² = 6/3, between² = 16 - 2/2.
    model = fitted({"a": np.array([-1, 1]), "b": np.array([3, 5]), "c": np.array([7.0, 9])})
    assert (model.centre, model.within, model.between) == pytest.approx((4, 2**0.5, 15**0.5))
    # Each score of "a" against its other one, w = 15/17; a new product whose one score is 4.
    spread = (2 + 15 * 2 / 17) ** 0.5
    null = model.null_for(np.array([4.0]))
    assert null[0] == pytest.approx(4 + (-1 - (4 - 3 * 15 / 17)))
    assert null[1] == pytest.approx(4 + (1 - (4 - 5 * 15 / 17)))
    # None of its own: w = 0, the pool as it is. More than others have: their one other, scaled.
    assert model.null_for(np.zeros(0)).tolist() == pytest.approx([-1, 1, 3, 5, 7, 9])
    sharp = (2 + 15 * 2 / (2 * 15 + 2)) ** 0.5
    two = model.null_for(np.array([4.0, 4.0]))
    assert two[0] == pytest.approx(4 + (-1 - (4 - 3 * 15 / 17)) * sharp / spread)


def test_a_product_with_many_scores_has_its_own_place() -> None:
    groups = {"a": np.array([-1, 1]), "b": np.array([3, 5]), "c": np.array([7.0, 9])}
    assert fitted(groups).null_for(np.full(10**6, 50.0)).mean() == pytest.approx(50, abs=0.01)


def test_others_are_taken_in_turn() -> None:
    groups = {"a": np.array([1.0, 2, 4]), "b": np.array([11.0, 12, 14]), "c": np.array([21.0])}
    model = fitted(groups)
    own = np.array([12.0, 14.0])
    w = 2 * model.between**2 / (2 * model.between**2 + model.within**2)
    place = model.centre + w * (13 - model.centre)
    for row, (score, mean) in enumerate([(1, 3), (2, 2.5), (4, 1.5)]):
        residual = score - (model.centre + w * (mean - model.centre))
        assert model.null_for(own)[row] == pytest.approx(place + residual, rel=1e-5)


def test_products_that_are_alike_share_one_null() -> None:
    """No more spread between means than their own noise: shrunk all the way, residuals flat."""
    model = fitted({name: np.array([1.0, 2.0, 3.0]) for name in "abcd"})
    assert model.between == 0
    assert model.null_for(np.array([9.0])).tolist() == pytest.approx([1.0, 2.0, 3.0] * 4)


def test_single_scores_are_pooled_as_they_are() -> None:
    model = fitted(
        {name: np.array([value]) for name, value in zip("abc", (1.0, 2, 6), strict=True)}
    )
    assert sorted(model.null_for(np.zeros(0)).tolist()) == pytest.approx([1, 2, 6])
    assert model.null_for(np.array([50.0])).tolist() == model.null_for(np.zeros(0)).tolist()


def test_equal_scores_make_a_null_that_is_finite() -> None:
    model = fitted({name: np.full(4, 2.0) for name in "abc"})
    assert np.isfinite(model.null_for(np.full(4, 2.0))).all()


def test_two_products_say_nothing_of_a_third_and_empty_ones_dont_count() -> None:
    assert fit_hierarchy({}) is None
    assert fit_hierarchy({"a": np.ones(9), "b": np.ones(9), "c": np.zeros(0)}) is None


@pytest.mark.parametrize(
    ("counts", "most"),
    [
        ([20] * 8, 20), ([20], 20), ([193, 1], 193),  # none has more than twice an even share
        ([193] + [1] * 7, 2),  # 2 of 9
        ([1930] + [10] * 7, 23),  # 23 of 93
        ([100, 50, 20] + [1] * 27, 5),  # an eighth of 42
        ([99] * 40 + [20] * 140, 99),
    ],
)  # fmt: skip
def test_no_product_has_much_of_a_pool(counts: list[int], most: int) -> None:
    assert most_of_one(counts) == most
    kept = sum(min(count, most) for count in counts)
    assert most <= max(kept / 8, 2 * kept / len(counts))
    assert most_of_one(counts[::-1]) == most


def test_what_counts_of_a_product_is_drawn_evenly_and_equal_shares_are_left_alone() -> None:
    few = [np.array([float(n)]) for n in range(7)]
    assert evened([np.arange(193.0), *few])[0].tolist() == [0, 192]
    assert evened([np.arange(1930.0), *[np.ones(10)] * 7])[0][:3].tolist() == [0, 88, 175]
    same = [np.arange(9.0)] * 8
    assert all(left is given for left, given in zip(evened(same), same, strict=True))
    assert evened([]) == []


def test_one_product_with_most_pictures_does_not_decide_for_the_others() -> None:
    """193 pictures of one and one of seven others each promised 1/201 and kept .06 for .01."""
    rng = np.random.default_rng(3)
    called = {"one": 0, "many": 0}
    for _ in range(500):
        for name, each in (("one", 1), ("many", 20)):
            counts = [193 * each] + [each] * 7
            groups = {str(n): rng.normal(rng.normal(), 1, count) for n, count in enumerate(counts)}
            null = NullScores("pooled", fitted(groups).null_for(np.zeros(0)))
            answer = calibrate(rng.normal(rng.normal(), 1), [null], budget=0.01)
            assert answer is not None
            called[name] += answer.suspicious and answer.entitled
    assert called["one"] == 0  # 9 scores promise no such rate
    assert called["many"] / 500 < 0.03  # eight products with 200 each: .02


def test_the_order_of_products_makes_no_difference() -> None:
    groups = drawn(np.random.default_rng(0), products=5, each=3, between=1)
    other = fitted(dict(reversed(groups.items())))
    own = np.array([1.0, 2.0])
    assert fitted(groups).null_for(own).tolist() == other.null_for(own).tolist()


@pytest.mark.parametrize("own", [0, 2, 8])
def test_it_keeps_the_budget_and_serves_products_more_evenly_than_a_flat_pool(own: int) -> None:
    """Fresh products with `own` scores: the rate over all is the budget's, whatever they have of
    their own; with some of them, the product that is sidelined most is so less often than under
    one null for all."""
    rng, budget = np.random.default_rng(own), 0.05
    model = fitted(groups := drawn(rng, products=200, each=8, between=2))
    flat = NullScores("pooled", np.concatenate(list(groups.values())))
    fresh = drawn(rng, products=400, each=own + 50, between=2)
    rates: dict[str, list[float]] = {"flat": [], "model": []}
    for scores in fresh.values():
        shrunk = NullScores("pooled", model.null_for(scores[:own]))
        for name, null in (("flat", flat), ("model", shrunk)):
            threshold = calibrate(0.0, [null], budget=budget).threshold  # type: ignore[union-attr]
            rates[name].append(float((scores[own:] > threshold).mean()))
    assert np.mean(rates["model"]) == pytest.approx(budget, abs=0.012)
    unfair = {name: np.quantile(found, 0.95) for name, found in rates.items()}
    assert own == 0 or unfair["model"] < unfair["flat"]
