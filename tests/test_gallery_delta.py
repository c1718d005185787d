"""Deltas: what they answer is what a rebuild with the same content answers."""

from __future__ import annotations

import pickle
import unicodedata
from typing import Any

import pytest
from delta_shop import Shop

from gallery import Gallery, check, open_catalog, read_current
from gallery.errors import UnknownProduct
from gallery.history import rollback
from gallery.layer import read_delta


@pytest.fixture
def shop(make_shop: Any) -> Shop:
    made: Shop = make_shop()
    return made


def turmoil(shop: Shop) -> None:
    """All that can happen to products, before and after a first update."""
    shop.add("product-00", 9001)
    shop.withdraw("product-01", 0)
    shop.withdraw("product-02", 1, deed="quarantine")
    shop.withdraw("product-03")
    shop.add("a new one", 9002, 9003)
    shop.add("gone at once", 9004)
    assert shop.update().published
    shop.withdraw("product-02", 1, deed="release")
    shop.withdraw("product-02", 2, deed="quarantine")
    shop.withdraw("gone at once")
    shop.add("a new one", 9005)
    shop.withdraw("product-04", 0, 1)


# Equal to a rebuild


@pytest.mark.parametrize(("products", "covers_all"), [(6, True), (70, False)])
def test_build_and_delta_answer_as_rebuilds_of_the_same_content(
    make_shop: Any, queries: Any, products: int, covers_all: bool
) -> None:
    shop = make_shop(products)
    before = shop.answers(queries)
    turmoil(shop)
    report = shop.update()
    assert (report.published, report.pending, report.gone) == (True, 0, 1)
    manifest = read_delta(shop.root, report.delta_id)
    assert manifest.covers_all == covers_all  # both ways of searching are tried
    incremental, full = shop.copy("incremental"), shop.copy("full")
    built = incremental.rebuild()
    assert built.tally.embedded == 0  # the delta's records are taken over
    assert full.rebuild(full=True).tally.embedded == report.references
    for other in (incremental, full):
        assert read_current(other.root).delta is None
        assert other.answers(queries) == shop.answers(queries)
    assert report.content_digest == built.content_digest
    assert shop.answers(queries) != before
    assert check(shop.root).sound
    assert check(shop.root).pending == 0


def test_what_nothing_changed_in_is_left_alone(shop: Shop, queries: Any) -> None:
    before = (shop.root / "CURRENT").read_bytes()
    assert shop.update().unchanged
    shop.add("product-00", 9001)
    first = shop.update()
    assert (first.tally.embedded, first.tally.copied, first.overlaid) == (1, 3, 4)
    served = shop.answers(queries)
    again = shop.update()
    assert (again.unchanged, again.published, again.delta_id) == (True, False, first.delta_id)
    shop.withdraw("product-00", 3)
    back = shop.update()
    assert (back.published, back.delta_id) == (True, None)
    assert (shop.root / "CURRENT").read_bytes() == before
    assert shop.answers(queries) != served


def test_products_that_did_not_change_since_the_last_delta_are_not_looked_at_again(
    shop: Shop,
) -> None:
    shop.add("product-00", 9001)
    shop.update()
    shop.audit.seen.clear()
    shop.add("product-01", 9002)
    report = shop.update()
    assert shop.audit.seen == ["product-01"]
    assert (report.tally.embedded, report.tally.shards_shared) == (1, 1)


def test_a_product_that_is_gone_needs_no_describer_and_no_step(shop: Shop) -> None:
    class Unwilling:
        fingerprint, dims = shop.describer().fingerprint, shop.describer().dims

        def describe(self, rows: Any) -> Any:
            raise AssertionError("nothing must be described")

    shop.withdraw("product-01")
    shop.audit.seen.clear()
    report = shop.update(describer=Unwilling())
    assert (report.published, report.overlaid, report.gone) == (True, 0, 1)
    assert shop.audit.seen == []
    with Gallery.open(shop.root) as gallery:
        assert "product-01" not in gallery
        with pytest.raises(UnknownProduct):
            gallery.references("product-01")
        assert "product-00" in gallery


def test_a_step_that_the_build_does_not_have_waits_for_the_rebuild(shop: Shop) -> None:
    shop.audit.fingerprint = "audit/2"
    shop.audit.seen.clear()
    shop.add("product-00", 9001)
    assert shop.update().published
    assert shop.audit.seen == []
    with Gallery.open(shop.root) as gallery:
        assert gallery.extra("product-00", "audit") is None
        assert gallery.extra("product-01", "audit") is not None


# Only what was withdrawn


def test_withdrawals_let_nothing_in_but_what_is_named(shop: Shop) -> None:
    shop.add("product-00", 9001)
    shop.add("a new one", 9002)
    shop.withdraw("product-01", 0, deed="quarantine")
    report = shop.update(withdrawals=True)
    assert (report.published, report.pending, report.tally.embedded) == (True, 2, 0)
    with Gallery.open(shop.root) as gallery:
        counts = {name: len(gallery.references(name)) for name in gallery.product_ids()}
    assert (counts["product-00"], counts["product-01"], "a new one" in counts) == (3, 2, False)
    assert check(shop.root).pending == 2
    shop.withdraw("product-01", 0, deed="release")
    (back,) = [r.key for r in open_catalog(shop.root).rows()
               if (r.product_id, r.slot) == ("product-01", 0)]  # fmt: skip
    report = shop.update(withdrawals=True, also=[back])
    assert (report.delta_id, report.pending) == (None, 2)
    assert shop.update().pending == 0


def test_going_back_takes_the_delta_away_and_withdrawals_bring_nothing_back(shop: Shop) -> None:
    first = read_current(shop.root).build
    shop.add("product-00", 9001)
    shop.rebuild()
    shop.add("product-02", 9002)
    shop.update()
    assert rollback(shop.root).build == first
    assert read_current(shop.root).delta is None
    shop.withdraw("product-05")
    assert shop.update(withdrawals=True).published
    with Gallery.open(shop.root) as gallery:
        assert (gallery.build_id, len(gallery), gallery.reference_count) == (first, 5, 15)
        assert len(gallery.references("product-00")) == 3


# Readers


def test_a_product_is_found_by_any_spelling_of_its_id(shop: Shop) -> None:
    shop.add("crème", 9001)
    shop.update()
    with Gallery.open(shop.root) as gallery:
        spelled = f" {unicodedata.normalize('NFD', 'crème')}"
        (stored,) = gallery.stored(spelled).references
        assert spelled in gallery
        assert gallery.stored(spelled) == gallery.stored("crème")
        for read in (gallery.keypoints, gallery.cells):
            assert repr(read(spelled, stored)) == repr(read("crème", stored))


def test_a_reader_keeps_what_it_opened_and_the_next_one_sees_the_delta(shop: Shop) -> None:
    with Gallery.open(shop.root) as old:
        shop.add("product-00", 9001)
        shop.update()
        with Gallery.open(shop.root) as one:
            data = pickle.dumps(one)
            shop.withdraw("product-00", 0, 1)
            shop.update()
            with Gallery.open(shop.root) as two, pickle.loads(data) as again:
                assert [len(g.references("product-00")) for g in (old, one, two, again)] == [
                    3, 4, 2, 4,
                ]  # fmt: skip
                assert old.delta_id is None
                assert again.delta_id == one.delta_id != two.delta_id
                assert two.build_id == old.build_id
                assert two.catalog_seq > one.catalog_seq


def test_equally_near_references_come_in_the_order_of_a_rebuild(
    make_shop: Any, queries: Any
) -> None:
    shop = make_shop(70)
    shop.add("twin", 0, 1)  # pictures of product-00
    shop.add("product-50", 0)
    shop.update()
    rebuilt = shop.copy("rebuilt")
    rebuilt.rebuild()
    assert shop.answers(queries) == rebuilt.answers(queries)
