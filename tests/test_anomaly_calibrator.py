"""`calibrate_gallery` on rendered products, and an inspector that follows what it made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from anomaly import Inspector, calibrator
from anomaly.builder import _quiet, embedder_for
from anomaly.calibrate import calibrate
from anomaly.calibration import PristineScores, SidelineCalibration, current_calibration
from anomaly.calibrator import Attainable, Evidenced, _attainable, calibrate_gallery
from anomaly.cli import app
from anomaly.errors import ConfigError
from anomaly.log import InspectionLog
from anomaly.operating import Shown, operating_points, wilson
from anomaly.results import AlignmentSummary, EvidenceKind, Inspection, Reason
from anomaly.schema import as_json
from anomaly.serving import Serving
from anomaly.studio import Damage, Photograph
from embeddings import estimate_foreground
from gallery import Gallery, read_current
from gallery.calibrations import adopt_calibration, read_calibration
from gallery.sources import Problem
from tests.conftest import SHOP, _encoded

Shoot = Callable[..., Photograph]


@pytest.fixture(scope="session")
def calibrated(shop: Path, shoot: Shoot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`gallery` with a calibration by two pictures of each product; `normals`, `log`. Never write
    to it."""
    home = tmp_path_factory.mktemp("calibrated")
    root = Path(shutil.copytree(shop, home / "gallery"))
    for folder, damage in (("normals", None), ("damaged", Damage("tear", strength=0.8))):
        for product in SHOP:
            (home / folder / product).mkdir(parents=True)
            for take in (31, 32) if damage is None else (33,):
                data = _encoded(shoot(product, take, damage=damage).image)
                (home / folder / product / f"{take}.png").write_bytes(data)
    # What must not count: a reference, the same picture again, another product's, no picture.
    first = home / "normals" / SHOP[0]
    reference = next((root / "catalog" / "originals").glob("*/*")).read_bytes()
    for product in SHOP:
        (home / "normals" / product / "reference.png").write_bytes(reference)
    (first / "again.png").write_bytes((first / "31.png").read_bytes())
    (first / "broken.png").write_bytes(b"no picture")
    (home / "normals" / "a stranger").mkdir()
    shutil.copy(first / "31.png", home / "normals" / "a stranger" / "1.png")
    log = InspectionLog(home / "log")
    with Inspector.open(root) as inspector:
        for take, label in ((41, "pristine"), (42, None), (31, "pristine")):
            data = _encoded(shoot(SHOP[0], take).image)
            result = inspector.inspect(data, product_id=SHOP[0])
            log.append(result, data)
            if label is not None:
                log.confirm(result.inspection_id, label)
    return home


@pytest.fixture(scope="session")
def report(calibrated: Path) -> calibrator.CalibrationReport:
    return calibrate_gallery(
        calibrated / "gallery", budget=0.05, review=0.2, normals=calibrated / "normals",
        damaged=calibrated / "damaged", log=calibrated / "log",
    )  # fmt: skip


def test_scores_are_counted_by_where_they_come_from(
    calibrated: Path, report: calibrator.CalibrationReport
) -> None:
    assert report.counts == {"left_out": 12, "normals": 6, "log": 1, "damaged": 3}
    made = current_calibration(calibrated / "gallery")
    assert made is not None
    assert made.calibration_id == report.calibration_id
    pictures = made.products[SHOP[0]].pictures
    assert sum(len(scores) for scores in pictures.values()) == 3
    assert not made.by_pictures("placed", 3)
    (placed,) = (found for found in report.attainable if found.kind == "placed")
    assert (placed.references, placed.products) == (3, 3)
    assert placed.compared == "in place with three references or more"
    assert placed.rate is not None
    assert report.attained == (placed.rate <= 0.05)


def test_what_can_be_promised_is_told_for_products_that_are_compared_so() -> None:
    def product(count: int, **left_out: list[float]) -> PristineScores:
        return PristineScores("", count, left_out, {kind: [] for kind in left_out})  # type: ignore[arg-type]

    boxes = {f"box{n}": product(4, placed=[1.0] * 4, anywhere=[1.0] * 4) for n in range(5)}
    bottles = {f"bottle{n}": product(2, turning=[1.0] * 2, anywhere=[1.0] * 2) for n in range(3)}
    nuts = {f"nuts{n}": product(4, loose=[1.0] * 4) for n in range(3)}
    made = SidelineCalibration(
        0.05, None, "B", None, 0, "", {}, {}, {**boxes, **bottles, **nuts}
    )  # fmt: skip
    assert _attainable(made) == [
        Attainable("placed", 3, 5, 1 / 21),
        Attainable("turning", 1, 3, 1 / 7),
        Attainable("anywhere", 1, 8, 1 / 27),
        Attainable("loose", 3, 3, 1 / 13),
    ]
    words = [found.compared for found in _attainable(made)]
    assert words[2:] == ["without place", "as loose goods with three references or more"]


@pytest.mark.parametrize("kind", ["placed", "loose", "turning"])
@pytest.mark.parametrize(("rate", "attained"), [(None, False), (1 / 13, False), (0.01, True)])
def test_a_budget_is_attained_only_if_it_can_be_promised_to_all_products(
    kind: EvidenceKind, rate: float | None, attained: bool
) -> None:
    # Print that can't be placed is never called damaged.
    told = [Attainable(kind, 3, 3, rate), Attainable("anywhere", 1, 3, None)]
    report = calibrator.CalibrationReport("C", 0.01, None, 8, {}, told)
    assert report.attained is attained


def test_a_budget_is_attained_by_a_rate_that_equals_it_but_for_rounding() -> None:
    told = [Attainable("placed", 3, 3, 1 / 40)]
    assert calibrator.CalibrationReport("C", 0.075 / 3, None, 8, {}, told).attained


def test_what_does_not_count_is_said(report: calibrator.CalibrationReport) -> None:
    codes = [problem.code for problem in report.left]
    assert codes.count("unknown_product") == 1
    assert codes.count("seen_before") >= 3  # again, the reference, the log's copy of a normal
    (broken,) = (problem for problem in report.left if "broken.png" in problem.where)
    assert broken.message.startswith("not a readable image")  # not: 7 bytes: ...


def test_an_inspector_follows_it_and_says_so(
    calibrated: Path, report: calibrator.CalibrationReport, shoot: Shoot
) -> None:
    image = shoot(SHOP[0], 1).image
    with Inspector.open(calibrated / "gallery") as inspector:
        result = inspector.inspect(image, product_id=SHOP[0])
        assert inspector.objection is None
    assert result.calibration is not None
    assert result.calibration.calibration_id == report.calibration_id
    assert (result.calibration.budget, result.calibration.review) == (0.05, 0.2)
    assert result.calibration.source == "pooled"
    assert result.calibration.own == 7  # four references and three pictures
    assert as_json(result)["calibration"]["own"] == 7
    with Inspector.open(calibrated / "gallery", budget=0.3) as inspector:
        given = inspector.inspect(image, product_id=SHOP[0])
    assert given.calibration is not None
    assert (given.calibration.budget, given.calibration.review) == (0.3, None)
    assert given.inspection_id != result.inspection_id


@pytest.mark.parametrize("enough", [False, True])
def test_pictures_in_other_light_are_held_to_pictures_and_not_to_references(
    calibrated: Path,
    report: calibrator.CalibrationReport,
    monkeypatch: pytest.MonkeyPatch,
    enough: bool,
) -> None:
    """References are all taken in one light; further pictures in the line's."""
    if enough:
        monkeypatch.setattr("anomaly.calibration._LEAST_PRODUCTS", 3)
    made = current_calibration(calibrated / "gallery")
    assert made is not None
    with Gallery.open(calibrated / "gallery") as gallery:
        embedder = embedder_for(gallery, device="cpu")
        serving = Serving(gallery, embedder, calibration=replace(made, budget=0.2))
        sources = serving.null_scores(SHOP[0])
    lent = {kind: [s for s in found if s.calibration_id] for kind, found in sources.items()}
    assert [s.source for s in lent["placed"]] == ["product", "pooled"]
    assert lent["relit"] == (lent["placed"] if enough else [])
    assert sources["relit"][-1].source == sources["placed"][-1].source == "shipped"
    assert sources["relit"][-1].scores.max() > sources["placed"][-1].scores.max()


def test_pictures_in_other_light_are_held_to_what_inspections_hold_them_to(
    calibrated: Path, report: calibrator.CalibrationReport, shoot: Shoot
) -> None:
    """And filed as the line's own light, if they are pristine."""
    image = shoot(SHOP[0], 33, damage=Damage("tear", strength=0.5)).image.astype(np.float32)
    image[:, : image.shape[1] // 2] *= 0.45
    data = _encoded(image.astype(np.uint8))
    with Inspector.open(calibrated / "gallery") as inspector:
        inspected = inspector.inspect(data, product_id=SHOP[0])
    assert inspected.evidence == as_json(inspected)["evidence"] == "relit"
    picture = Evidenced("normals", "in a shadow", SHOP[0], lambda: data)
    with Gallery.open(calibrated / "gallery") as gallery:
        made = current_calibration(calibrated / "gallery")
        serving = Serving(gallery, embedder_for(gallery, device="cpu"), calibration=made)
        (shown,) = calibrator._Bench(serving, [], _quiet).shown([picture])
        (of_relit,) = (s for s in serving.null_scores(SHOP[0])["relit"] if s.source == "shipped")
        points = operating_points(serving, [shown])
        products = calibrator._Bench(serving, [], _quiet).profiles()
        calibrator._Bench(serving, [], _quiet).add(products, [picture])
    assert (shown.kind, shown.decided) == ("relit", True)
    for point in points:
        null = calibrate(shown.score, [of_relit], budget=point.rate)
        assert null is not None
        assert point.found == (null.suspicious and null.entitled)
    assert products[SHOP[0]].pictures == {"placed": [shown.score], "anywhere": []}


def test_masks_of_tables_and_of_inspections_count(shop: Path, shoot: Shoot, tmp_path: Path) -> None:
    """Of two products side by side the one that the mask shows is scored, as it was inspected."""
    photograph, beside = shoot(SHOP[0], 51), shoot(SHOP[1], 51).image
    both = np.hstack([photograph.image, beside[: photograph.image.shape[0]]])
    mask = np.zeros(both.shape[:2], np.uint8)
    mask[:, : photograph.image.shape[1]] = 255 * estimate_foreground(photograph.image).mask
    for name, pixels in (("both.png", both), ("mask.png", mask)):
        (tmp_path / name).write_bytes(_encoded(pixels))
    table = tmp_path / "table.csv"
    rows = [f"{SHOP[0]},both.png,mask.png", f"{SHOP[0]},mask.png,none.png"]
    table.write_text("\n".join(["product_id,image,mask", *rows]))
    asked = ["inspect", str(shop), str(tmp_path / "both.png"), "--mask", str(tmp_path / "mask.png")]
    log = tmp_path / "log"
    done = CliRunner().invoke(app, [*asked, "--product", SHOP[0], "--log", str(log), "--json"])
    result = json.loads(done.stdout)
    InspectionLog(log).confirm(result["inspection_id"], "pristine")
    left: list[Problem] = []
    with Gallery.open(shop) as gallery:
        serving = Serving(gallery, embedder_for(gallery, device="cpu"))
        for pictures in (calibrator._listed(table, left), calibrator._confirmed(log, "pristine")):
            (shown,) = calibrator._Bench(serving, left, _quiet).shown(list(pictures))
            assert shown.score == pytest.approx(result["score"])
    assert [("none.png" in problem.message, problem.code) for problem in left] == [
        (True, "image_error")
    ]


def test_a_picture_whose_best_reference_was_refuted_is_of_the_kind_that_others_make_it() -> None:
    """It is held to pictures in place, though nothing is decided about it."""
    result = Inspection(
        "I", "a.png", "p", "claimed", "review", Reason("not_aligned", ""), "B", 1, "C", score=2.0,
        alignment=AlignmentSummary("fallback"), evidence="placed",
    )  # fmt: skip
    assert calibrator._shown(result) == Shown("p", "placed", 2.0, decided=False)
    loose = calibrator._shown(replace(result, evidence="loose"))
    assert loose.decided
    assert not calibrator._shown(replace(result, evidence="anywhere")).decided
    blurred = replace(result, alignment=AlignmentSummary("aligned"), reason=Reason("not_sharp", ""))
    assert not calibrator._shown(blurred).decided
    sharp = replace(blurred, reason=Reason("in_review_band", ""))
    assert calibrator._shown(sharp).decided


def test_the_score_is_the_same_as_without_a_calibration(
    calibrated: Path, report: calibrator.CalibrationReport, shop: Path, shoot: Shoot
) -> None:
    image = shoot(SHOP[1], 1).image
    found = []
    for root in (shop, calibrated / "gallery"):
        with Inspector.open(root) as inspector:
            found.append(inspector.inspect(image, product_id=SHOP[1]).score)
    assert found[0] == found[1]


def test_rates_between_budget_and_review_are_for_a_person(
    calibrated: Path, report: calibrator.CalibrationReport, shoot: Shoot
) -> None:
    """Half of all pristine pictures are to be looked at, one in twenty may be called damaged."""
    image = shoot(SHOP[0], 33, damage=Damage("tear", strength=0.8)).image
    with Inspector.open(calibrated / "gallery") as inspector:
        damaged = inspector.inspect(image, product_id=SHOP[0])
    assert damaged.verdict == "damaged"
    with Inspector.open(calibrated / "gallery", budget=0.05, review=0.5) as inspector:
        results = [
            inspector.inspect(shoot(SHOP[0], take).image, product_id=SHOP[0])
            for take in range(1, 7)
        ]
    banded = [r for r in results if r.p_value is not None and 0.05 < r.p_value <= 0.5]
    assert banded, [r.p_value for r in results]
    assert {(r.verdict, r.reason.code) for r in banded} == {("review", "in_review_band")}


def test_recall_rises_with_the_rate_and_has_its_interval(
    calibrated: Path, report: calibrator.CalibrationReport
) -> None:
    rates = [point.rate for point in report.points]
    assert rates == sorted(rates)
    assert {0.05, 0.2} <= set(rates)
    found = [point.found for point in report.points]
    assert found == sorted(found)
    assert found[-1] > 0
    body = read_calibration(calibrated / "gallery", report.calibration_id)
    assert [p["found"] for p in body["operating_points"]] == found
    page = calibrated / "gallery" / "calibrations" / f"{report.calibration_id}.html"
    text = page.read_text("utf-8")
    assert "<polyline" in text
    assert "broken.png" in text


def test_under_another_scoring_only_its_rates_go_on(
    calibrated: Path, report: calibrator.CalibrationReport, shop_copy: Path, shoot: Shoot
) -> None:
    body = read_calibration(calibrated / "gallery", report.calibration_id)
    adopt_calibration(shop_copy, body | {"scoring": "another"})
    with Inspector.open(shop_copy) as inspector:
        result = inspector.inspect(shoot(SHOP[0], 1).image, product_id=SHOP[0])
        assert "another scoring" in str(inspector.objection)
    assert result.calibration is not None
    assert result.calibration.calibration_id is None
    assert (result.calibration.budget, result.calibration.review) == (0.05, 0.2)


def test_an_open_inspector_takes_a_new_one_up(
    calibrated: Path, report: calibrator.CalibrationReport, shop_copy: Path, shoot: Shoot
) -> None:
    image = shoot(SHOP[2], 1).image
    with Inspector.open(shop_copy) as inspector:
        before = inspector.inspect(image, product_id=SHOP[2])
        body = read_calibration(calibrated / "gallery", report.calibration_id)
        name = adopt_calibration(shop_copy, body)
        after = inspector.inspect(image, product_id=SHOP[2])
    assert before.calibration is not None
    assert after.calibration is not None
    assert (before.calibration.calibration_id, after.calibration.calibration_id) == (None, name)
    assert replace(after, calibration=None).score == before.score


def test_a_review_rate_below_the_budget_is_refused_and_nothing_served(shop_copy: Path) -> None:
    with pytest.raises(ConfigError, match="above the budget"):
        calibrate_gallery(shop_copy, budget=0.05, review=0.01)
    assert read_current(shop_copy).calibration is None
    with pytest.raises(ConfigError, match="above the budget"):
        Inspector.open(shop_copy, budget=0.05, review=0.01)


def test_wilsons_interval_is_the_published_one() -> None:
    """8 of 10: 0.4902 to 0.9433 (Brown, Cai & DasGupta 2001, by their formula)."""
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 5)[0] == pytest.approx(0)
    assert wilson(5, 5)[1] == pytest.approx(1)
