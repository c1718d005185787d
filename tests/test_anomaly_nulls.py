"""Which pristine scores a product's are held against: by how many references it has."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly.calibrate import NullScores, calibrate
from anomaly.left_out import LeftOut
from anomaly.nulls import COUNTS, KINDS, Nulls, _pooled, counted, pooled_priors, read_shipped
from anomaly.profile import Profile
from anomaly.score import Prior
from embeddings import open_embedder
from gallery.describe import RECORD_CODEC

PRIOR = {"product": Prior(1.0, 0.1, 0.1)}


def scores(highest: float) -> NullScores:
    return NullScores("shipped", np.linspace(0, highest, 199, dtype=np.float32))


SHIPPED = {1: scores(9.0), 2: scores(6.0), 3: scores(3.0)}


def product(references: int) -> Profile:
    """One reference has no siblings, so nothing was left out."""
    one = LeftOut({"product": 1.0}, {}, 3, 3, 0.1)
    return Profile((one,) * (references if references > 1 else 0))


def loose(*anywhere: float) -> Profile:
    """None of its references registers with another."""
    return Profile(tuple(LeftOut({}, {"anywhere": value}, 0, 2, 0.1) for value in anywhere))


@pytest.mark.parametrize(
    ("references", "wanted"), [(0, 1), (1, 1), (2, 2), (3, 3), (4, 3), (16, 3)]
)
def test_so_many_references_are_counted_as(references: int, wanted: int) -> None:
    assert counted("placed", references) == wanted
    assert counted("anywhere", references) == 1
    assert counted("loose", references) == max(2, wanted)  # two say that pieces lie anyhow
    assert counted("relit", references) == 3  # fewer don't tell what light is usual


@pytest.mark.parametrize(("references", "highest"), [(1, 9.0), (2, 6.0), (3, 3.0), (7, 3.0)])
def test_shipped_scores_are_those_of_products_with_as_many_references(references, highest) -> None:
    nulls = Nulls(PRIOR, shipped={"placed": SHIPPED})
    (*_, found) = nulls.of(product(references))["placed"]
    assert found.source == "shipped"
    assert found.scores.max() == highest
    judged = calibrate(4.0, [found], budget=0.01)
    assert judged is not None
    assert judged.suspicious == (highest < 4)


def test_the_products_own_come_first_then_the_gallerys_then_what_ships() -> None:
    pooled = NullScores("pooled", np.zeros(20, np.float32))
    nulls = Nulls(PRIOR, {"placed": {3: pooled}}, {"placed": SHIPPED})
    assert [s.source for s in nulls.of(product(4))["placed"]] == ["product", "pooled", "shipped"]
    assert [s.source for s in nulls.of(product(2))["placed"]] == ["product", "shipped"]
    assert [s.source for s in nulls.beyond(product(4))["placed"]] == ["pooled", "shipped"]
    assert nulls.beyond(product(4))["anywhere"] == ()
    assert [s.source for s in nulls.of(product(4))["anywhere"]] == ["product"]


def test_a_product_with_many_references_has_no_more_than_its_part_of_a_gallerys_pool() -> None:
    pooled = _pooled([product(100), *[product(4)] * 3, *[product(2)] * 4], PRIOR, "placed")
    assert {count: len(found.scores) for count, found in pooled.items()} == {3: 24, 1: 8}


def test_where_nobody_has_as_many_references_the_nearest_fewer_promise_no_less() -> None:
    one, many = scores(8.0), scores(2.0)
    pooled = {"placed": {1: one, 3: many}}
    sources = {n: Nulls(PRIOR, pooled).of(product(n))["placed"][1:] for n in (1, 2, 3, 9)}
    assert sources == {1: (one,), 2: (one,), 3: (many,), 9: (many,)}
    few = Nulls(PRIOR, {"placed": {3: many}}, {"placed": SHIPPED})
    assert few.of(product(1))["placed"][1:] == (SHIPPED[1],)  # more references promise too much
    assert Nulls(PRIOR, {"placed": {3: many}}).of(product(1))["placed"][1:] == (many,)  # or nothing


def test_what_is_lit_otherwise_is_held_to_pictures_in_other_light() -> None:
    relit, pooled = {3: scores(5.0)}, {3: scores(1.0)}
    nulls = Nulls(PRIOR, {"placed": pooled}, {"placed": SHIPPED, "relit": relit})
    assert nulls.beyond(product(4))["relit"] == (relit[3],)
    assert nulls.beyond(product(4))["placed"] == (pooled[3], SHIPPED[3])
    assert nulls.clean("relit", 3) is relit[3]
    # Where nothing ships, what the references say in their own light is all there is.
    alone = Nulls(PRIOR, {"placed": pooled})
    assert alone.beyond(product(4))["relit"] == (pooled[3],)


def test_of_content_products_without_a_form_have_priors_of_their_own() -> None:
    printed = [
        Profile(tuple(LeftOut({}, {"anywhere": value}, 2, 2, 0.1) for value in (0.5, 0.6, 0.7)))
    ] * 3
    both = pooled_priors([*printed, *[loose(0.9, 1.0, 1.1)] * 3])
    assert pooled_priors(printed).keys() == {"anywhere"}
    assert both["loose anywhere"].centre == pytest.approx(1.0)
    assert both["anywhere"].centre == pytest.approx(0.8)  # of whatever a gallery holds
    priors = {"anywhere": Prior(0.6, 0.1, 0.1), "loose anywhere": Prior(1.0, 0.1, 0.1)}
    assert set(loose().nulls(priors)) == {"anywhere"}
    # A single reference is taken for a product with a form.
    assert loose().nulls(priors)["anywhere"].centre == 0.6
    for values in ((0.9, 1.1), (0.9, 1.0, 1.1)):
        own, few = (
            loose(*values).nulls(priors),
            loose(*values).nulls({"anywhere": priors["anywhere"]}),
        )
        assert own["anywhere"].centre > few["anywhere"].centre + 0.05
    assert printed[0].nulls(priors)["anywhere"].centre < 0.61
    # Some of a product's references may say otherwise than all.
    some = loose(0.9, 1.1)
    assert some.nulls(priors, form=True) == some.nulls({"anywhere": priors["anywhere"]})


def test_loose_goods_and_print_whose_place_is_not_known_are_held_apart() -> None:
    heap, print_ = loose(0.9, 1.0, 1.1), product(3)
    assert heap.kind(placed=False) == heap.kind(placed=True) == "loose"
    assert print_.kind(placed=False) == product(1).kind(placed=False) == "anywhere"
    # Two pieces may happen to lie alike: no picture of them is held against that.
    alike = LeftOut({"product": 9.0, "novel": 3.0}, {"anywhere": 1.0}, 1, 9, 0.1)
    goods = Profile((*loose(1.0, 1.1).left_out, alike))
    assert not goods.has_form
    priors = PRIOR | {"novel": Prior(1.0, 0.1, 0.1)}
    lengths = {kind: len(goods.null_scores(priors, kind=kind)) for kind in KINDS}
    assert lengths == dict.fromkeys(KINDS, 0) | {"loose": 3}
    entry = LeftOut({"product": 1.0}, {"anywhere": 0.5}, 2, 2, 0.1)
    carton = Profile((entry,) * 3)
    lengths = {kind: len(carton.null_scores(PRIOR, kind=kind)) for kind in KINDS}
    assert (lengths["placed"], lengths["anywhere"], lengths["loose"]) == (3, 3, 0)


def test_a_reference_in_doubt_is_held_against_what_as_many_siblings_say() -> None:
    nulls = Nulls(PRIOR, shipped={"placed": SHIPPED})
    assert nulls.clean("placed", 2) is SHIPPED[2]
    assert nulls.clean("anywhere", 2) is None
    empty = dict.fromkeys((1, 2, 3), NullScores("shipped", np.zeros(0, np.float32)))
    own = Nulls(PRIOR, {"placed": {2: scores(1.0)}}, {"placed": empty})
    assert own.clean("placed", 2) is own.pooled["placed"][2]


def test_what_ships_can_promise_a_percent_whatever_the_count_and_falls_with_it() -> None:
    shipped = read_shipped(open_embedder(device="cpu").fingerprint(codec=RECORD_CODEC))
    assert shipped is not None
    for kind in KINDS:
        found = [shipped.shipped[kind][count] for count in COUNTS[kind]]
        assert all(s.attainable <= 0.01 for s in found)
    for kind in ("placed", "loose"):
        highest = [np.quantile(shipped.shipped[kind][n].scores, 0.99) for n in COUNTS[kind]]
        assert highest == sorted(highest, reverse=True)
    assert {"loose anywhere", "loose around", "loose absent"} < shipped.priors.keys()
