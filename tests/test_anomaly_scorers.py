"""One contract for all scorers, and our engine behind it: the inspector's score, exactly."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from anomaly import AnomalyError, Inspector, build_gallery
from anomaly.profile import MOST_COMPARED
from anomaly.scorers import (
    SCORERS,
    Amiss,
    Model,
    NoReferences,
    NotAPicture,
    Score,
    UnknownScorer,
    open_scorer,
)
from anomaly.studio import Damage
from embeddings import fake_embedder, open_embedder
from embeddings.images import Pixels

EMBEDDER = fake_embedder(size_px=96)
CARTON = "s0-carton-0"


def noise(seed: int, height: int, width: int) -> Pixels:
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(height // 5 + 2, width // 5 + 2, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(128 + 60 * smooth, 0, 255).astype(np.uint8)


def pristine(take: int) -> Pixels:
    """A printed product on a plain tray, each time a little elsewhere."""
    image = np.full((150, 200, 3), 215, np.uint8)
    top, left = 30 + 3 * take, 40 - 4 * take
    image[top : top + 80, left : left + 110] = noise(1, 80, 110)
    rng = np.random.default_rng(take)
    return np.clip(image + rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8)


def damaged(picture: Pixels) -> Pixels:
    """Half of it torn away, something else spilled there."""
    image = picture.copy()
    image[40:110, 40:90] = (150, 20, 20)
    image[60:100, 95:140] = noise(9, 40, 45)
    return image


REFERENCES = tuple(pristine(take) for take in range(3))


@cache
def fitted(name: str) -> Model:
    return open_scorer(name, EMBEDDER).fit(REFERENCES, seed=5)


def alike(one: Score, other: Score, *, rel: float = 0.0) -> bool:
    same = one.heat is None and other.heat is None
    if one.heat is not None and other.heat is not None:
        same = np.allclose(one.heat, other.heat, rtol=rel, atol=10 * rel, equal_nan=True)
    return same and one.score == pytest.approx(other.score, rel=rel, abs=0)


@pytest.mark.parametrize("name", SCORERS)
@pytest.mark.parametrize("size", [(1, 1), (3, 90), (97, 2), (149, 83), (61, 400)])
def test_any_size_gets_a_finite_score_and_heat_over_the_picture(
    name: str, size: tuple[int, int]
) -> None:
    query = noise(3, *size)
    found = fitted(name).score(query)
    assert isinstance(found.score, float)
    assert np.isfinite(found.score)
    assert found.timings_ms
    assert all(value >= 0 for value in found.timings_ms.values())
    if found.heat is None:
        assert name == "chance"
        return
    assert found.heat.dtype == np.float32
    assert found.heat.ndim == 2
    assert np.isfinite(found.heat).any()
    for x0, y0, x1, y1 in found.regions:
        assert 0 <= x0 < x1 <= size[1]
        assert 0 <= y0 < y1 <= size[0]


@pytest.mark.parametrize("name", SCORERS)
def test_heat_has_the_aspect_of_the_picture(name: str) -> None:
    heat = fitted(name).score(noise(3, 149, 83)).heat
    if heat is not None and name != "patchcore_square":
        assert heat.shape[0] / heat.shape[1] == pytest.approx(149 / 83, rel=0.2)


@pytest.mark.parametrize("name", [n for n in SCORERS if n != "chance"])
def test_gross_damage_scores_above_a_reference_and_is_hot_where_it_is(name: str) -> None:
    broken = fitted(name).score(damaged(REFERENCES[0]))
    assert broken.score > fitted(name).score(REFERENCES[0]).score
    assert broken.heat is not None
    rows, columns = broken.heat.shape
    y, x = np.mgrid[0:rows, 0:columns]
    inside = ((y + 0.5) * 150 / rows > 40) & ((y + 0.5) * 150 / rows < 110)
    inside &= ((x + 0.5) * 200 / columns > 40) & ((x + 0.5) * 200 / columns < 140)
    assert np.nanmean(broken.heat[inside]) > 1.5 * np.nanmean(broken.heat[~inside])


@pytest.mark.parametrize("name", SCORERS)
def test_the_same_twice_and_nothing_changed(name: str) -> None:
    query = damaged(REFERENCES[1])
    references = [picture.copy() for picture in REFERENCES]
    kept = query.copy()
    for picture in (*references, query):
        picture.flags.writeable = False
    model = open_scorer(name, EMBEDDER).fit(references, seed=5)
    first, second = model.score(query), model.score(query)
    assert alike(first, second)
    assert alike(first, fitted(name).score(kept))
    assert (query == kept).all()
    assert all((a == b).all() for a, b in zip(references, REFERENCES, strict=True))


@pytest.mark.parametrize("name", SCORERS)
def test_the_order_of_references_does_not_matter(name: str) -> None:
    query = damaged(REFERENCES[2])
    turned = open_scorer(name, EMBEDDER).fit(REFERENCES[::-1], seed=5)
    assert alike(turned.score(query), fitted(name).score(query), rel=1e-4)


@pytest.mark.parametrize("name", SCORERS)
def test_one_reference_or_the_same_one_twice_is_enough(name: str) -> None:
    for references in (REFERENCES[:1], REFERENCES[:1] * 2):
        found = open_scorer(name, EMBEDDER).fit(references, seed=0)
        assert np.isfinite(found.score(pristine(7)).score)


@pytest.mark.parametrize("name", SCORERS)
def test_bad_input_is_refused_by_what_came_and_what_is_wanted(name: str) -> None:
    scorer = open_scorer(name, EMBEDDER)
    assert scorer.name == name
    nothing: Sequence[Pixels] = []
    with pytest.raises(NoReferences, match="at least one"):
        scorer.fit(nothing, seed=0)
    wrong: list[Any] = [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), "u1")]
    for picture in (*wrong, "picture.jpg"):
        with pytest.raises(NotAPicture, match=r"expected uint8 \[H, W, 3\]"):
            scorer.fit([picture], seed=0)
        with pytest.raises(NotAPicture, match="got"):
            fitted(name).score(picture)


def test_a_name_that_no_scorer_has() -> None:
    with pytest.raises(UnknownScorer, match=r"expected one of amiss, patchcore"):
        open_scorer("padim", EMBEDDER)
    assert issubclass(UnknownScorer, AnomalyError)
    assert issubclass(NoReferences, ValueError)


def test_a_cache_stands_in_for_the_embedder() -> None:
    asked: list[tuple[int, ...]] = []

    def embed(picture: Pixels) -> Any:
        asked.append(picture.shape)
        return EMBEDDER.embed([picture])[0]

    model = open_scorer("patchcore_square", EMBEDDER, embed=embed).fit(REFERENCES, seed=0)
    model.score(pristine(4))
    assert asked == [(96, 96, 3)] * 4


# Our engine: what the inspector says.


def _png(image: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG")
    return file.getvalue()


def test_our_score_is_the_inspectors(shop: Path, shoot: Callable[..., Any]) -> None:
    pictures = [shoot(CARTON, 100 + slot).image for slot in range(4)]  # those of the shop
    model = Amiss(open_embedder()).fit(pictures, seed=0)
    shots = [shoot(CARTON, 3), shoot(CARTON, 3, damage=Damage("tear", strength=0.9))]
    with Inspector.open(shop) as inspector:
        for shot in shots:
            result = inspector.inspect(shot.image, product_id=CARTON)
            found = model.score(shot.image)
            assert result.alignment is not None
            assert result.alignment.status == "aligned"
            assert found.score == pytest.approx(result.score, rel=1e-5)
            assert set(found.timings_ms) <= set(result.timings_ms)
    assert result.verdict == "damaged"
    boxes = [f.bbox_px for f in result.findings if f.bbox_px is not None]
    assert np.allclose(found.regions, boxes, atol=1e-3)
    assert found.heat is not None
    mask = cv2.resize(shots[1].damage_mask.astype(np.uint8) * 255, found.heat.shape[::-1])
    assert np.nanmean(found.heat[mask > 127]) > 2 * np.nanmean(found.heat[mask == 0])


def test_our_score_is_the_inspectors_with_any_embedder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "references" / "thing"
    folder.mkdir(parents=True)
    pictures = [pristine(take) for take in range(6)]  # more than are compared
    for slot, picture in enumerate(pictures):
        (folder / f"{slot}.png").write_bytes(_png(picture))
    monkeypatch.setattr("anomaly.builder._open", lambda settings: EMBEDDER)
    build_gallery(tmp_path / "references", tmp_path / "gallery")
    model = Amiss(EMBEDDER).fit(pictures, seed=0)
    with Inspector.open(tmp_path / "gallery") as inspector:
        for query in (pristine(8), damaged(pristine(8)), noise(4, 90, 120)):
            result = inspector.inspect(query, product_id="thing")
            assert len(result.references) == MOST_COMPARED
            assert model.score(query).score == pytest.approx(result.score, rel=1e-5)
