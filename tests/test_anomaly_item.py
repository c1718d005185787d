"""Several views of one item: what they come to, and that the budget holds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from anomaly import Inspector, item_as_json, load_item_schema
from anomaly.calibrate import NullScores, calibrate
from anomaly.errors import ViewsError
from anomaly.item import ItemInspection, agreed_product, decide_item, simes
from anomaly.results import Calibration, Inspection, Reason, Unreadable, Verdict
from anomaly.studio import Damage, Photograph

CARTON, SET, WRECK = "s0-carton-0", "s0-razor-set", "s0-wreck-carton"
BUDGET = 0.04
BROKEN = Unreadable("z.jpg", "truncated_image", "z.jpg: ends too early")


def _view(
    verdict: Verdict = "ok",
    p_value: float | None = 0.5,
    *,
    product: str | None = "p",
    code: str = "code",
) -> Inspection:
    return Inspection(
        "id", "a.jpg", product, "claimed", verdict, Reason(code, f"says {verdict}"), "b", 1, "c",
        score=1.0, p_value=p_value, threshold=2.0, calibration=Calibration("pooled", 199, 0.005),
    )  # fmt: skip


def _decided(
    *views: Inspection | Unreadable, product: str | None = "p", claimed: bool = True
) -> ItemInspection:
    return decide_item(views, item="box 7", product_id=product, claimed=claimed, budget=BUDGET)


def test_simes_by_hand() -> None:
    assert simes([0.3]) == 0.3
    assert simes([0.01, 0.5, 0.5, 0.5]) == pytest.approx(0.04)  # Bonferroni's
    assert simes([0.03, 0.02, 0.9, 0.9]) == pytest.approx(0.06)  # 4 / 2 of the second
    assert simes([0.02] * 4) == pytest.approx(0.02)
    assert simes([0.9] * 4) == 0.9


@pytest.mark.parametrize("shared", [0.0, 0.6, 1.0])
def test_pristine_items_are_damaged_as_often_as_the_budget_says(shared: float) -> None:
    """4 views that share nothing, much or all: conformal p-values of fresh calibrations."""
    draw, called, items = np.random.default_rng(5), 0, 4000
    for _ in range(items):
        null = NullScores("product", draw.normal(size=199).astype(np.float32))
        scores = np.sqrt(shared) * draw.normal() + np.sqrt(1 - shared) * draw.normal(size=4)
        views = []
        for score in scores:
            found = calibrate(float(score), [null], budget=BUDGET / 4)
            assert found is not None
            verdict: Verdict = "damaged" if found.suspicious else "ok"
            views.append(_view(verdict, found.p_value))
        called += _decided(*views).verdict == "damaged"
    assert called / items < BUDGET + 2 * np.sqrt(BUDGET / items)
    assert called > 0


@pytest.mark.parametrize(
    ("views", "verdict", "code", "deciding"),
    [
        ([_view(), _view()], "ok", "like_references", None),
        ([_view(), _view("damaged", 0.01)], "damaged", "view_beyond_pristine", 1),
        ([_view("ok", 0.03), _view("ok", 0.035)], "damaged", "views_beyond_pristine", 0),
        ([_view("ok", 0.03), _view("ok", 0.5)], "ok", "like_references", None),
        ([_view(), _view("review", 0.01)], "damaged", "views_beyond_pristine", 1),
        ([_view(), _view("review", 0.3)], "review", "view_to_review", 1),
        ([_view("review", 0.001, code="not_aligned"), _view()], "review", "view_to_review", 0),
        ([_view(), _view("cannot_compare", 0.001)], "cannot_compare", "view_not_comparable", 1),
        ([_view(), BROKEN], "cannot_compare", "view_unreadable", 1),
        ([BROKEN, BROKEN], "cannot_compare", "no_view_readable", None),
        ([_view("damaged", 0.01), BROKEN], "damaged", "view_beyond_pristine", 0),
        ([_view("damaged", 0.01), _view("wrong_product", 0.01)], "wrong_product",
         "view_of_other_product", 1),
        ([_view("wrong_product"), _view("wrong_product")], "wrong_product", "other_product", 0),
        ([_view("unknown_product", None)], "unknown_product", "code", None),
    ],
)  # fmt: skip
def test_verdicts(
    views: Sequence[Inspection | Unreadable], verdict: str, code: str, deciding: int | None
) -> None:
    found = _decided(*views)
    assert (found.verdict, found.reason.code, found.deciding) == (verdict, code, deciding)
    if deciding is not None:
        assert f"view {deciding + 1} of {len(views)}" in found.reason.text


def test_ok_says_how_near_it_was() -> None:
    text = _decided(_view("ok", 0.03), _view("ok", 0.5)).reason.text
    assert text == (
        "its 2 views differ from the references no more than pristine items may; "
        f"p = 0.06, budget {BUDGET:g}"
    )
    assert _decided(_view()).reason.text.startswith("its one view differs")


def test_nothing_unseen_makes_an_item_ok_and_order_does_not_matter() -> None:
    kinds = [
        _view(),
        BROKEN,
        _view("cannot_compare", None),
        _view("review"),
        _view("damaged", 0.001),
    ]
    for some in itertools.combinations(kinds, 3):
        verdicts = {_decided(*order).verdict for order in itertools.permutations(some)}
        assert len(verdicts) == 1
        assert "ok" not in verdicts


def test_p_values_that_round_to_either_side_of_the_budget_are_within_it() -> None:
    """6 * p / 5 is within .022 for p = 11 / 600, though p isn't within .022 * 5 / 6."""
    views = [_view("ok", 11 / 600)] * 5 + [_view("ok", 0.9)]
    found = decide_item(views, item="i", product_id="p", claimed=True, budget=0.022)
    assert found.verdict == "damaged"
    assert "5 of 6 views" in found.reason.text
    # So is what differs from a share of the budget in its last digit.
    for budget, n, count in ((0.0048, 1, 3), (0.15, 2, 3)):
        for near in (np.nextafter(budget * n / count, 1), np.nextafter(budget * n / count, 0)):
            views = [_view("ok", float(near))] * n + [_view("ok", 0.9)] * (count - n)
            found = decide_item(views, item="i", product_id="p", claimed=True, budget=budget)
            assert found.verdict == "damaged"


def test_views_that_say_nothing_count_as_not_rare() -> None:
    assert _decided(_view("ok", 0.02), BROKEN).p_value == pytest.approx(0.04)
    assert _decided(_view("wrong_product", 0.01), BROKEN).p_value is None
    assert _decided(_view(), _view(), _view(), _view()).attainable == pytest.approx(0.02)


def test_what_the_views_agree_on() -> None:
    a, b, none = _view(product="a"), _view(product="b"), _view(product=None)
    assert agreed_product([a, b, a, none, BROKEN]) == "a"
    assert agreed_product([a, b]) is None
    assert agreed_product([none, BROKEN]) is None
    torn = _decided(a, b, product=None, claimed=False)
    assert (torn.verdict, torn.reason.code) == ("unknown_product", "views_disagree")
    assert "'a', 'b'" in torn.reason.text


def test_the_json_is_what_its_schema_says() -> None:
    schema = load_item_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    checker = jsonschema.Draft202012Validator(schema)
    for views in ([_view("damaged", 0.01), BROKEN], [BROKEN], [_view("ok", None)]):
        value = item_as_json(_decided(*views))
        checker.validate(value)
        assert set(value) == set(schema["required"])
    for key, wrong in (("verdict", "fine"), ("p_value", 2), ("views", []), ("views", [{}])):
        value = item_as_json(_decided(_view()))
        assert not checker.is_valid({**value, key: wrong})
    assert all(entry.get("description") for entry in schema["properties"].values())


@pytest.fixture(scope="module")
def inspector(shop: Path) -> Any:
    with Inspector.open(shop) as opened:
        yield opened


def test_an_item_of_no_views(inspector: Inspector) -> None:
    with pytest.raises(ViewsError, match="at least one picture"):
        inspector.inspect_views([])


def test_one_view_is_an_inspection(inspector: Inspector, shoot: Callable[..., Photograph]) -> None:
    for image in (shoot(CARTON, 1).image, shoot(CARTON, 3, damage=Damage("tear", 0.8)).image):
        item = inspector.inspect_views([image], product_id=CARTON, name="box")
        (view,) = item.views
        alone = inspector.inspect(image, product_id=CARTON)
        assert isinstance(view, Inspection)
        assert replace(view, timings_ms={}) == replace(alone, timings_ms={})
        assert (item.item, item.verdict, item.p_value) == ("box", alone.verdict, alone.p_value)


def test_damage_that_one_view_shows_and_views_that_show_another_product(
    shop: Path, shoot: Callable[..., Photograph]
) -> None:
    pristine = [shoot(CARTON, take).image for take in (1, 2)]
    torn = shoot(CARTON, 3, damage=Damage("tear", strength=0.8)).image
    other = shoot(WRECK, 9).image
    with Inspector.open(shop, budget=0.03) as opened:
        sound = opened.inspect_views(pristine, product_id=CARTON)
        assert (sound.verdict, sound.product_id_source) == ("ok", "claimed")
        damaged = opened.inspect_views([*pristine, torn])
        assert (damaged.verdict, damaged.deciding) == ("damaged", 2), damaged
        assert (damaged.product_id, damaged.product_id_source) == (CARTON, "identified")
        assert damaged.view_budget == pytest.approx(0.01)
        mixed = opened.inspect_views([other, *pristine])
        assert (mixed.verdict, mixed.product_id, mixed.deciding) == ("wrong_product", CARTON, 0)
        assert WRECK in mixed.reason.text
        broken = opened.inspect_views([pristine[0], b"nothing"], product_id=CARTON)
        assert (broken.verdict, broken.reason.code) == ("cannot_compare", "view_unreadable")
