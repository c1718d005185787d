"""The inspector on rendered products with the real backbone: verdicts, bad input, following."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from anomaly import Inspector, build_gallery, import_source, rebuild
from anomaly.errors import ConfigError
from anomaly.results import Inspection, Unreadable
from anomaly.studio import Damage, Photograph
from embeddings import ImageError
from gallery import list_builds
from gallery.errors import GalleryError, NotAGallery
from gallery.identify import Identification, Identifier

CARTON, SET, WRECK = "s0-carton-0", "s0-razor-set", "s0-wreck-carton"
Shoot = Callable[..., Photograph]


def _plain(result: Inspection) -> Inspection:
    """A result without what may differ between two runs."""
    return replace(result, timings_ms={}, picture=None)


def _resized(image: Any, factor: float) -> Any:
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


@pytest.fixture
def inspector(shop: Path) -> Any:
    with Inspector.open(shop) as opened:
        yield opened


@pytest.mark.parametrize("product", [CARTON, SET, WRECK])
def test_pristine_products_are_ok_printed_damage_included(
    inspector: Inspector, shoot: Shoot, product: str
) -> None:
    for take in (1, 2):
        result = inspector.inspect(shoot(product, take).image, product_id=product)
        assert result.verdict == "ok", result
        assert result.alignment is not None
        assert result.alignment.status == "aligned"
        assert result.score is not None
        assert result.threshold is not None
        assert result.score <= result.threshold
        assert not result.findings


def _cut_off(photograph: Photograph, share: float) -> Any:
    """The picture without what lies right of `share` of the product's width."""
    columns = np.flatnonzero(photograph.product_mask.any(axis=0))
    return photograph.image[:, : round(columns[0] + share * (columns[-1] - columns[0]))].copy()


@pytest.mark.parametrize("product", [CARTON, SET])
def test_a_pristine_product_that_the_picture_cuts_off_is_ok(
    inspector: Inspector, shoot: Shoot, product: str
) -> None:
    result = inspector.inspect(_cut_off(shoot(product, 1), 0.75), product_id=product)
    assert result.verdict == "ok", result
    little = inspector.inspect(_cut_off(shoot(product, 1), 0.35), product_id=product)
    assert little.verdict == "cannot_compare"


@pytest.mark.parametrize("kind", ["tear", "hole"])
def test_damage_is_found_where_it_is(inspector: Inspector, shoot: Shoot, kind: str) -> None:
    photograph = shoot(CARTON, 3, damage=Damage(kind, strength=0.8))
    result = inspector.inspect(photograph.image, product_id=CARTON)
    assert result.verdict == "damaged", result
    best = result.findings[0]
    assert best.bbox_px is not None
    x0, y0, x1, y1 = (round(v) for v in best.bbox_px)
    hit = photograph.damage_mask[y0:y1, x0:x1].sum() / photograph.damage_mask.sum()
    assert hit > 0.5
    scores = [finding.score for finding in result.findings]
    assert scores == sorted(scores, reverse=True)


def test_a_missing_unit_scores_above_every_pristine_picture(shop: Path, shoot: Shoot) -> None:
    with Inspector.open(shop, budget=0.03) as opened:
        pristine = [opened.inspect(shoot(SET, t).image, product_id=SET).score for t in range(1, 5)]
        gone = opened.inspect(shoot(SET, 5, damage=Damage("missing_unit")).image, product_id=SET)
    assert gone.score is not None
    assert gone.score > max(score for score in pristine if score is not None)
    assert "missing" in {finding.kind for finding in gone.findings}


def test_a_spill_beside_the_product_is_a_spill(inspector: Inspector, shoot: Shoot) -> None:
    photograph = shoot(CARTON, 6, damage=Damage("spill", strength=0.8))
    result = inspector.inspect(photograph.image, product_id=CARTON)
    assert result.verdict == "damaged"
    assert result.findings[0].kind == "spill"


def test_a_face_that_no_reference_shows_is_never_damaged(
    inspector: Inspector, shoot: Shoot
) -> None:
    for take in (7, 8):
        image = shoot(CARTON, take, face="back").image
        result = inspector.inspect(image, product_id=CARTON)
        assert (result.verdict, result.reason.code) == ("cannot_compare", "view_not_covered")
        assert result.score is not None
        assert np.isfinite(result.score)
        assert not result.findings


def test_another_products_picture_is_the_wrong_product(inspector: Inspector, shoot: Shoot) -> None:
    result = inspector.inspect(shoot(WRECK, 9).image, product_id=CARTON)
    assert result.verdict == "wrong_product"
    assert WRECK in result.reason.text


def test_print_that_products_share_makes_no_face_another_product(
    inspector: Inspector, shoot: Shoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Registration names the wreck; patches don't bear it out for a carton's back."""
    monkeypatch.setattr("anomaly.inspection.better_product", lambda *_, **__: WRECK)
    back = inspector.inspect(shoot(CARTON, 7, face="back").image, product_id=CARTON)
    assert (back.verdict, back.reason.code) == ("cannot_compare", "view_not_covered")
    wreck = inspector.inspect(shoot(WRECK, 9).image, product_id=CARTON)
    assert wreck.verdict == "wrong_product"


def test_unknown_products(inspector: Inspector, shoot: Shoot) -> None:
    claimed = inspector.inspect(shoot(CARTON, 1).image, product_id="never seen")
    assert (claimed.verdict, claimed.reason.code) == ("unknown_product", "not_in_gallery")
    assert claimed.score is None
    stranger = inspector.inspect(shoot("s0-carton-3", 1).image)
    assert (stranger.verdict, stranger.reason.code) == ("unknown_product", "no_product_alike")
    assert stranger.product_id is None


@pytest.mark.parametrize("product", ["never seen", None])
def test_a_picture_of_no_known_product_is_shown_if_one_asks(
    inspector: Inspector, shoot: Shoot, product: str | None
) -> None:
    image = shoot("s0-carton-3", 1).image
    found = inspector.inspect(image, product_id=product, picture=True)
    assert found.verdict == "unknown_product"
    assert found.picture is not None
    assert np.array_equal(found.picture.image, image)
    assert (found.picture.reference, found.picture.heat) == (None, None)
    assert inspector.inspect(image, product_id=product).picture is None


@pytest.mark.parametrize(
    ("known", "verdict"),
    [(False, "unknown_product"), (True, "cannot_compare"), (None, "cannot_compare")],
)
def test_what_was_recognised_but_looks_like_no_reference_may_be_no_product_at_all(
    inspector: Inspector,
    shoot: Shoot,
    monkeypatch: pytest.MonkeyPatch,
    known: bool | None,
    verdict: str,
) -> None:
    """`known`: what identification says of it; None where the gallery is too small to tell."""
    asked = Identifier.identify

    def identify(self: Identifier, *arguments: Any, **options: Any) -> Identification:
        return replace(asked(self, *arguments, **options), known=known)

    monkeypatch.setattr(Identifier, "identify", identify)
    # Some print that it shares registers.
    monkeypatch.setattr("anomaly.inspection.stranger", lambda *_, **__: None)
    image = shoot(CARTON, 7, face="back").image
    found = inspector.inspect(image, picture=True)
    assert found.verdict == verdict
    assert found.picture is not None
    assert (found.product_id is None) == (verdict == "unknown_product")
    name = found.product_id or CARTON
    assert inspector.inspect(image, product_id=name).verdict == "cannot_compare"


def test_a_claim_is_taken_as_the_gallery_spells_it(inspector: Inspector, shoot: Shoot) -> None:
    """Blanks, or accents that are characters of their own: such a claim found damaged records."""
    torn = shoot(CARTON, 3, damage=Damage("tear", strength=0.8)).image
    for image in (torn, shoot(WRECK, 9).image):
        plain = inspector.inspect(image, product_id=CARTON)
        other = inspector.inspect(image, product_id=f" {CARTON} ")
        assert (other.inspection_id, other.product_id) == (plain.inspection_id, CARTON)
        assert (other.verdict, other.reason) == (plain.verdict, plain.reason)
    item = inspector.inspect_views([torn, torn], product_id=f"{CARTON} ")
    assert (item.product_id, item.verdict) == (CARTON, "damaged")
    assert inspector.inspect(torn, product_id=" never seen").product_id == " never seen"


def test_without_a_claim_the_product_is_identified(inspector: Inspector, shoot: Shoot) -> None:
    image = shoot(SET, 1).image
    found, claimed = inspector.inspect(image), inspector.inspect(image, product_id=SET)
    assert (found.product_id, found.product_id_source) == (SET, "identified")
    assert (found.verdict, found.score) == (claimed.verdict, pytest.approx(claimed.score, rel=1e-4))


def test_identify_ranks_products_and_says_how_rare(inspector: Inspector, shoot: Shoot) -> None:
    shown = inspector.identify(shoot(SET, 1).image, top=2)
    assert [c.product_id for c in shown.candidates][:1] == [SET]
    assert len(shown.candidates) == 2
    stranger = inspector.identify(shoot("s0-carton-3", 1).image)
    assert shown.candidates[0].p_value == pytest.approx(1 / 13)  # what 12 references attain
    assert stranger.candidates[0].p_value > shown.candidates[0].p_value
    assert shown.known is stranger.known is None


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_the_querys_size_does_not_matter(inspector: Inspector, shoot: Shoot, factor: float) -> None:
    result = inspector.inspect(_resized(shoot(CARTON, 1).image, factor), product_id=CARTON)
    assert result.verdict == "ok"


def test_another_aspect_is_compared(inspector: Inspector, shoot: Shoot) -> None:
    image = shoot(CARTON, 1).image
    square = np.pad(image, ((80, 80), (0, 0), (0, 0)), mode="edge")
    upright = np.ascontiguousarray(np.rot90(image))
    for other in (square, upright):
        result = inspector.inspect(other, product_id=CARTON)
        assert result.verdict in ("ok", "review")
        assert result.alignment is not None
        assert result.alignment.status == "aligned"


def test_an_empty_tray_is_not_judged(inspector: Inspector) -> None:
    rng = np.random.default_rng(0)
    tray = np.clip(rng.normal(205, 2, (480, 640, 3)), 0, 255).astype(np.uint8)
    for image in (tray, np.zeros((480, 640, 3), np.uint8)):
        result = inspector.inspect(image, product_id=CARTON)
        assert result.verdict == "cannot_compare"
        assert result.score is not None
        assert np.isfinite(result.score)


def test_half_a_product_is_not_judged(inspector: Inspector, shoot: Shoot) -> None:
    photograph = shoot(CARTON, 1)
    columns = np.flatnonzero(photograph.product_mask.any(axis=0))
    cut = int(columns[0] + 0.4 * len(columns))
    half = np.ascontiguousarray(photograph.image[:, :cut])
    result = inspector.inspect(half, product_id=CARTON)
    assert result.verdict in ("cannot_compare", "damaged", "review")
    assert result.verdict != "ok"


def test_a_mask_tells_where_the_product_is(inspector: Inspector, shoot: Shoot) -> None:
    photograph = shoot(CARTON, 2)
    mask = photograph.product_mask.astype(np.uint8) * 255
    result = inspector.inspect(photograph.image, product_id=CARTON, mask=mask)
    assert result.verdict == "ok"
    other = inspector.inspect(photograph.image, product_id=CARTON)
    assert other.inspection_id != result.inspection_id


def test_an_unreadable_picture_does_not_stop_the_others(
    inspector: Inspector, shoot: Shoot, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"not a picture")
    good = shoot(CARTON, 1).image
    for workers in (1, 2):
        found = list(
            inspector.inspect_many([good, broken, good], product_id=CARTON, workers=workers)
        )
        assert [type(f) for f in found] == [Inspection, Unreadable, Inspection]
        assert isinstance(found[1], Unreadable)
        assert str(broken) in found[1].message
    with pytest.raises(ImageError):
        inspector.inspect(broken, product_id=CARTON)
    assert list(inspector.inspect_many([])) == []


def test_a_thin_picture_does_not_stop_the_others(inspector: Inspector, shoot: Shoot) -> None:
    strip = np.random.default_rng(0).integers(0, 255, (6, 2000, 3), dtype=np.uint8)
    image = shoot(CARTON, 1).image
    first, thin, last = inspector.inspect_many([image, strip, image], product_id=CARTON)
    assert isinstance(first, Inspection)
    assert isinstance(thin, Inspection)
    assert isinstance(last, Inspection)
    assert (first.verdict, last.verdict) == ("ok", "ok")
    assert thin.verdict in ("cannot_compare", "wrong_product")
    assert inspector.inspect(strip).verdict == "unknown_product"


def test_threads_give_the_answers_of_one(inspector: Inspector, shoot: Shoot) -> None:
    images = [shoot(p, t).image for p in (CARTON, SET) for t in (1, 2)]
    images.append(shoot(CARTON, 3, damage=Damage("tear")).image)
    alone = [_plain(inspector.inspect(image, product_id=CARTON)) for image in images]
    with ThreadPoolExecutor(8) as pool:
        together = list(
            pool.map(
                lambda i: _plain(inspector.inspect(images[i % 5], product_id=CARTON)), range(16)
            )
        )
    assert together == [alone[i % 5] for i in range(16)]


def test_it_follows_what_is_published_without_a_restart(shop_copy: Path, shoot: Shoot) -> None:
    image = shoot("s0-carton-3", 1).image
    with Inspector.open(shop_copy) as opened:
        before = opened.build_id
        assert opened.inspect(image, product_id="s0-carton-3").verdict == "unknown_product"
        source = shop_copy.parent / "more" / "s0-carton-3"
        source.mkdir(parents=True)
        for take in (2, 3):
            pixels = shoot("s0-carton-3", take).image
            cv2.imwrite(str(source / f"{take}.png"), pixels[:, :, ::-1])
        import_source(source.parent, shop_copy)
        with opened._serving() as serving:  # an inspection under way
            report = rebuild(shop_copy)
            assert report.published
            assert opened.inspect(image, product_id="s0-carton-3").verdict == "ok"
            assert serving.gallery.build_id == before
            assert serving.gallery.references(CARTON)
        assert opened.build_id == report.build_id != before
    assert len(list_builds(shop_copy)) == 2


def test_profiles_that_a_build_lacks_are_learned_with_the_same_result(
    shop: Path, shop_copy: Path, shoot: Shoot
) -> None:
    rebuild(shop_copy, steps=())
    image = shoot(CARTON, 3, damage=Damage("hole")).image
    with Inspector.open(shop) as built, Inspector.open(shop_copy) as bare:
        with bare._serving() as serving:
            assert serving.gallery.extra(CARTON, "profile") is None
            learned = serving.profile(CARTON)
        with built._serving() as serving:
            assert serving.profile(CARTON) == learned
        assert bare.inspect(image, product_id=CARTON).score == pytest.approx(
            built.inspect(image, product_id=CARTON).score, rel=1e-5
        )


def test_one_reference_is_enough_to_compare(shoot: Shoot, tmp_path: Path) -> None:
    folder = tmp_path / "references" / CARTON
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "only.png"), shoot(CARTON, 0).image[:, :, ::-1])
    build_gallery(folder.parent, tmp_path / "gallery")
    with Inspector.open(tmp_path / "gallery") as opened:
        good = opened.inspect(shoot(CARTON, 1).image, product_id=CARTON)
        bad = opened.inspect(
            shoot(CARTON, 3, damage=Damage("hole", strength=0.8)).image, product_id=CARTON
        )
    assert good.verdict == "ok"
    assert bad.verdict in ("damaged", "review")
    assert good.score is not None
    assert bad.score is not None
    assert bad.score > good.score


def test_it_can_be_closed_pickled_and_used_again(shop: Path, shoot: Shoot) -> None:
    image = shoot(CARTON, 1).image
    opened = Inspector.open(shop)
    first = _plain(opened.inspect(image, product_id=CARTON))
    opened.close()
    assert _plain(opened.inspect(image, product_id=CARTON)) == first
    again = pickle.loads(pickle.dumps(opened))
    assert _plain(again.inspect(image, product_id=CARTON)) == first
    again.close()
    opened.close()


def test_bad_settings_and_places_are_refused(shop: Path, tmp_path: Path) -> None:
    for budget in (0.0, 0.7, -1.0):
        with pytest.raises(ConfigError, match="budget"):
            Inspector.open(shop, budget=budget)
    with pytest.raises(NotAGallery):
        Inspector.open(tmp_path)
    with pytest.raises(GalleryError):
        Inspector.open(tmp_path / "absent")


def test_timings_are_disjoint_stages(inspector: Inspector, shoot: Shoot) -> None:
    result = inspector.inspect(shoot(CARTON, 1).image, product_id=CARTON)
    assert {"read", "foreground", "keypoints", "fetch", "align", "embed", "compare"} <= set(
        result.timings_ms
    )
    assert all(value >= 0 for value in result.timings_ms.values())
    assert "total" not in result.timings_ms
