"""Which scores a calibration lends to whom, when it holds, which rates are asked for."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from anomaly.calibration import (
    PristineScores,
    SidelineCalibration,
    as_body,
    check_rates,
    from_body,
    rates_of,
    references_digest,
)
from anomaly.config import DEFAULT_BUDGET, inspect_config
from anomaly.errors import ConfigError
from anomaly.hierarchy import fit_hierarchy
from anomaly.nulls import comparable_fields
from anomaly.pipeline import SCORING
from anomaly.score import Prior
from embeddings import fake_embedder
from gallery.errors import DamagedGallery

FINGERPRINT = fake_embedder().fingerprint(codec="none")


def scores(product: int, count: int) -> list[float]:
    return [product + 0.1 * n for n in range(count)]


def ids(product: int, count: int = 4) -> list[str]:
    return [f"r{product}-{n}" for n in range(count)]


def made(
    *, products: int = 10, left_out: int = 2, pictures: int = 0, references: int = 4
) -> SidelineCalibration:
    return SidelineCalibration(
        budget=0.05,
        review=None,
        build="B",
        delta=None,
        catalog_seq=3,
        scoring=SCORING.digest,
        embedding=comparable_fields(FINGERPRINT),
        priors={"product": Prior(1.0, 0.5, 0.25)},
        products={
            f"p{n}": PristineScores(
                references_digest(ids(n, references)),
                references,
                {"placed": scores(n, left_out), "anywhere": []},
                {"placed": scores(10 * n, pictures), "anywhere": []},
            )
            for n in range(products)
        },
        calibration_id="C",
    )


def test_a_products_own_scores_come_first_then_the_gallerys_brought_to_it() -> None:
    own, pooled = made().sources("p4", ids(4), kind="placed")
    assert (own.source, own.calibration_id, own.own) == ("product", "C", 2)
    assert own.scores.tolist() == pytest.approx([4.0, 4.1])
    model = fit_hierarchy({f"p{n}": np.array(scores(n, 2)) for n in range(10)})
    assert model is not None
    assert (pooled.source, pooled.own) == ("pooled", 2)
    assert pooled.scores.tolist() == pytest.approx(model.null_for(own.scores).tolist())


@pytest.mark.parametrize(
    ("product", "references"), [("p4", ["another", *ids(4, 3)]), ("a new one", ids(4))]
)
def test_scores_against_other_references_are_not_the_products_own(
    product: str, references: list[str]
) -> None:
    own, pooled = made().sources(product, references, kind="placed")
    assert len(own.scores) == own.own == pooled.own == 0
    assert sorted(pooled.scores.tolist()) == pytest.approx(
        sorted(score for n in range(10) for score in scores(n, 2))
    )


def test_pictures_speak_alone_where_they_can_promise_the_budget() -> None:
    few, many = made(pictures=1), made(pictures=2)
    assert not few.by_pictures("placed", 3)  # 10 of them: 1/11
    assert many.by_pictures("placed", 3)  # 20: 1/21
    assert few.attainable("placed", 4) == pytest.approx(1 / 31)
    assert many.attainable("placed", 4) == pytest.approx(1 / 21)
    own, _ = many.sources("p4", ids(4), kind="placed")
    assert own.scores.tolist() == pytest.approx([40.0, 40.1])


def test_pictures_that_are_mostly_of_one_product_dont_speak_for_all() -> None:
    even, busy = made(products=8, pictures=25), made(products=1, pictures=193)
    assert even.by_pictures("placed", 3)
    near = {
        name: replace(p, pictures={"placed": scores(n, 20 + n)})
        for n, (name, p) in enumerate(even.products.items())
    }
    assert replace(even, products=near).by_pictures("placed", 3)
    found = of(busy, made(products=7, pictures=1))
    assert not replace(found, budget=0.01).by_pictures("placed", 3)
    # Nor do they promise what 200 of as many products do: two each of references and nine pictures.
    assert even.attainable("placed", 4) == pytest.approx(1 / 201)
    assert 1 / 30 < (found.attainable("placed", 4) or 0) < 1 / 20


def test_a_share_of_a_budget_is_promised_by_as_many_pictures_as_its_inverse() -> None:
    third = replace(made(products=13, pictures=3), budget=0.075 / 3)  # 1/40 but for its last digit
    assert third.by_pictures("placed", 3)


def test_pictures_of_few_products_dont_speak_for_all() -> None:
    assert not made(products=7, pictures=9).by_pictures("placed", 3)


def of(*parts: SidelineCalibration) -> SidelineCalibration:
    """The products of all parts in one gallery."""
    products = {
        f"{row}{name}": p for row, part in enumerate(parts) for name, p in part.products.items()
    }
    return replace(parts[0], products=products)


def test_a_product_with_one_reference_is_not_held_to_what_those_with_more_score() -> None:
    """It scores higher, because one reference shows less; pictures of products like it tell."""
    many, single = made(pictures=3), made(pictures=2, left_out=0, references=1)
    found = of(many, single)
    _, pooled = found.sources("a new one", ["r"], kind="placed")
    assert sorted(pooled.scores) == pytest.approx(
        sorted(score for n in range(10) for score in scores(10 * n, 2))
    )
    assert found.attainable("placed", 1) == pytest.approx(1 / 21)
    (alone,) = many.sources("a new one", ["r"], kind="placed")  # none like it: nothing is lent
    assert not len(alone.scores)
    assert many.attainable("placed", 1) is None


def test_references_of_a_pair_were_each_held_against_one() -> None:
    """So what they score holds for products with one, and their pictures for products with two."""
    found = made(left_out=2, pictures=3, references=2)
    _, one = found.sources("a new one", ["r"], kind="placed")
    _, *lent = found.sources("a new one", ["r", "s"], kind="placed")
    assert [len(pool.scores) for pool in (one, *lent)] == [20, 30, 20]
    _, *more = found.sources("a new one", ids(99), kind="placed")  # they promise no less
    assert [p.scores.tolist() for p in more] == [p.scores.tolist() for p in lent]


def test_a_few_pictures_take_nothing_from_what_references_promise() -> None:
    """Three pictures of products with three references are a pool of their own; what those
    references scored, each against two, holds on."""
    many = made(products=100, left_out=3, references=3)
    some = {
        name: replace(found, pictures={"placed": [float(n)]}) if n < 3 else found
        for n, (name, found) in enumerate(many.products.items())
    }
    found = replace(many, products=some)
    _, few, all_of_them = found.sources("p50", ids(50, 3), kind="placed")
    assert (len(few.scores), len(all_of_them.scores)) == (3, 300)
    assert found.attainable("placed", 3) == pytest.approx(1 / 301)


def test_a_products_own_pictures_count_where_no_other_has_any() -> None:
    many = made(products=100, left_out=3, references=3)
    busy = replace(many.products["p4"], pictures={"placed": scores(0, 300)})
    found = replace(many, products={**many.products, "p4": busy})
    own, pooled = found.sources("p4", ids(4, 3), kind="placed")
    assert (len(own.scores), pooled.own) == (303, 3)


def test_products_that_are_rare_by_their_references_are_not_sampled_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("anomaly.calibration._SAMPLE", 8)
    many, single = made(products=60), made(products=3, pictures=5, left_out=0, references=1)
    assert of(many, single).attainable("placed", 1) == pytest.approx(1 / 16)


def test_one_that_does_not_say_how_many_references_it_had_lends_its_rates_only() -> None:
    body = as_body(made())
    for product in body["products"].values():
        del product["count"]
    older = from_body(body, calibration_id="C")
    assert "how many references" in str(older.objection(FINGERPRINT))
    assert older.budget == 0.05


def test_where_fewer_than_three_products_have_scores_each_has_its_own_only() -> None:
    found = made(products=2, pictures=37)
    (own,) = found.sources("p0", ids(0), kind="placed")
    assert (own.source, own.own) == ("product", 39)
    assert found.attainable("placed", 4) == pytest.approx(1 / 40)
    (none,) = made().sources("p0", ids(0), kind="anywhere")
    assert len(none.scores) == 0
    assert made().attainable("anywhere", 4) is None


@pytest.mark.parametrize(("others", "wanted"), [(0, None), (3, 1 / 4), (500, 1 / 401)])
def test_without_a_pool_no_more_is_promised_than_the_poorest_product_can(
    others: int, wanted: float | None
) -> None:
    rich, poor = (made(products=1, left_out=0, pictures=n, references=1) for n in (400, others))
    both = of(rich, poor)
    assert both.attainable("placed", 1) == (None if wanted is None else pytest.approx(wanted))
    (own,) = both.sources("1p0", ids(0, 1), kind="placed")
    assert len(own.scores) == others
    # One that is never compared so asks for nothing.
    turning = replace(poor.products["p0"], left_out={"turning": []}, pictures={"turning": []})
    of_those = replace(rich, products={**rich.products, "bottle": turning})
    assert of_those.attainable("placed", 1) == pytest.approx(1 / 401)


def test_another_scoring_or_embedder_is_objected_to() -> None:
    assert made().objection(FINGERPRINT) is None
    assert "scoring" in str(replace(made(), scoring="other").objection(FINGERPRINT))
    embedding = {**made().embedding, "model": "another"}
    assert "embedder" in str(replace(made(), embedding=embedding).objection(FINGERPRINT))


def test_it_is_kept_as_json_and_read_back() -> None:
    text = json.dumps(as_body(made(pictures=3)), allow_nan=False)
    assert from_body(json.loads(text), calibration_id="C") == made(pictures=3)


@pytest.mark.parametrize("change", [{"budget": None}, {"products": [1]}, {"priors": {"x": {}}}])
def test_what_is_no_calibration_is_damage(change: dict[str, object]) -> None:
    with pytest.raises(DamagedGallery, match="calibration C"):
        from_body(as_body(made()) | change, calibration_id="C")


def test_given_rates_win_over_the_calibrations_and_those_over_the_default() -> None:
    known = replace(made(), budget=0.005, review=0.03)

    def rates(**given: float) -> tuple[float, float | None]:
        found = rates_of(inspect_config(given=given), known)
        return found.budget, found.review

    assert rates() == (0.005, 0.03)
    assert rates(budget=0.02) == (0.02, 0.03)
    assert rates(budget=0.05) == (0.05, None)
    assert rates(review=0.1) == (0.005, 0.1)
    without = rates_of(inspect_config(), None)
    assert (without.budget, without.review) == (DEFAULT_BUDGET, None)


def test_a_review_rate_must_be_above_the_budget() -> None:
    check_rates(0.01, 0.02)
    with pytest.raises(ConfigError, match="above the budget"):
        check_rates(0.01, 0.01)
