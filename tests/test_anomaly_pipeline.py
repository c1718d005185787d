"""What the order of the stages guarantees, whatever the stages do."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from anomaly.calibrate import NullScores
from anomaly.pipeline import Judgement, Query, StageClock, examine, judge
from anomaly.results import Alignment, Calibrated, Calibration, Null, Pairing, Scored
from embeddings import fake_embedder
from embeddings.exposure import clipped_pixels
from embeddings.foreground import Foreground
from embeddings.keypoints import detect_keypoints
from embeddings.registration import Registration
from gallery import CatalogRow, Reference
from gallery.describe import describe, from_record, to_record

SIZE = (144, 192)
EMBEDDER = fake_embedder(size_px=192)
ROW = CatalogRow("p", 1, 0, "r0", None, None, None, None, None, "r0")


def picture(*, glare: bool = False, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(14, 18, 3)).astype(np.float32)
    smooth = cv2.resize(noise, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    image = np.clip(110 + 40 * smooth, 0, 230).astype(np.uint8)
    if glare:  # clipped in its middle, fading around it
        light = np.zeros(SIZE, np.float32)
        light[60:90, 80:110] = 400
        lit = image + cv2.GaussianBlur(light, (0, 0), 5)[..., None]
        image = np.clip(lit, 0, 255).astype(np.uint8)
    return image


def reference_of(image: np.ndarray) -> Reference:
    described = describe(image, EMBEDDER)
    return from_record(to_record(ROW, described), described.vector)


def query_of(image: np.ndarray) -> Query:
    return Query(
        lambda: image,
        Foreground(np.ones(SIZE, np.bool_), 0.0, "estimated"),
        lambda: detect_keypoints(image),
        clipped=lambda: clipped_pixels(image),
    )


def test_glare_is_left_out_of_the_evidence() -> None:
    reference = reference_of(picture())
    seen = examine(query_of(picture(glare=True)), [reference], embedder=EMBEDDER, placed=False)
    blind = replace(query_of(picture(glare=True)), clipped=None)
    unmasked = examine(blind, [reference], embedder=EMBEDDER, placed=False)
    scores = [
        {c.name: c.score for c in evidence.comparison.channels}["anywhere"]
        for evidence in (seen, unmasked)
    ]
    assert seen.view.glare > 0
    assert unmasked.view.glare == 0
    assert scores[0] < 0.7 * scores[1]


def test_the_best_reference_is_one_that_patches_bear_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another face registers with more features, of print that both share."""
    right = reference_of(picture())
    wrong = replace(reference_of(picture(seed=1)), reference_id="wrong")

    def shared(*_: object, **__: object) -> Alignment:
        still = [Registration(np.eye(3), "similarity", 80, count, 0.3, 1.0,
                              np.zeros((0, 2), np.intp), None) for count in (60, 20)]  # fmt: skip
        pairings = [
            Pairing(name, found, 0.0, 1.0, 1.0, (95.5, 71.5))
            for name, found in zip(("wrong", "r0"), still, strict=True)
        ]
        return Alignment(tuple(pairings), 0)

    monkeypatch.setattr("anomaly.pipeline.align", shared)
    found = examine(query_of(picture()), [wrong, right], embedder=EMBEDDER)
    assert found.comparison.refuted == ("wrong",)
    assert found.comparison.placed
    assert found.alignment is not None
    assert found.alignment.fitting is not None
    assert found.alignment.fitting.reference_id == "r0"
    assert found.shown is right
    alone = examine(query_of(picture()), [wrong], embedder=EMBEDDER)
    assert alone.shown is None


def test_clipping_that_pristine_pictures_have_as_well_is_no_glare() -> None:
    """A white label, a binarised scan: white is information there."""
    query = query_of(picture(glare=True))
    white = reference_of(picture(glare=True))
    assert white.exposure.bright.any()
    assert examine(query, [white], embedder=EMBEDDER, placed=False).view.glare == 0
    placed = examine(query, [white], embedder=EMBEDDER)
    assert placed.comparison.placed
    assert placed.view.glare == 0
    assert examine(query, [reference_of(picture())], embedder=EMBEDDER).view.glare > 0
    dark = reference_of(picture())
    scan = replace(dark, exposure=replace(dark.exposure, clipped=0.5))
    assert examine(query, [scan], embedder=EMBEDDER).view.glare == 0


def test_a_reference_of_which_exposure_is_not_known_hides_nothing() -> None:
    stored = to_record(ROW, describe(picture(), EMBEDDER))
    meta = {key: value for key, value in stored.meta.items() if key != "clipped"}
    arrays = {key: value for key, value in stored.arrays.items() if key != "bright"}
    old = from_record(replace(stored, meta=meta, arrays=arrays), np.ones(4, np.float32))
    assert examine(query_of(picture(glare=True)), [old], embedder=EMBEDDER).view.glare == 0


def test_every_stage_is_on_the_clock() -> None:
    clock = StageClock()
    examine(query_of(picture()), [reference_of(picture())], embedder=EMBEDDER, clock=clock)
    assert set(clock.milliseconds) == {"align", "embed", "glare", "compare"}


def test_what_is_explained_is_the_share_of_the_product_that_is_no_more_amiss_than_pristine() -> (
    None
):
    """Six cells of product: one isn't measured, two pass the threshold of 3, three don't."""
    heat = np.array([[9, 4, 3], [np.nan, 0, 2], [9, 9, 9]], np.float32)
    product = np.array([[1, 1, 1], [1, 1, 1], [0, 0, 0]], np.bool_)
    known = Calibrated(0.01, 3.0, True, True, Calibration("pooled", 99, 0.01))
    judged = Judgement(Scored(9.0, heat, {}), known, ())
    assert judged.explained(product) == 3 / 5
    assert replace(judged, calibrated=None).explained(product) == 1
    assert judged.explained(np.zeros_like(product)) == 1
    assert judged.explained(np.ones((2, 2), np.bool_)) == 1  # nothing was scored


def test_the_evidence_shows_what_it_was_compared_with() -> None:
    image, reference = picture(), reference_of(picture())
    evidence = examine(query_of(image), [reference], embedder=EMBEDDER)
    assert evidence.shown is reference
    assert evidence.look is not None
    assert np.array_equal(evidence.look, image)  # it is embedded at its own size
    apart = examine(query_of(image), [reference], embedder=EMBEDDER, placed=False)
    assert (apart.shown, apart.look) == (None, None)


@pytest.mark.parametrize("spread", [0.06, 0.15])  # how much of the place passes as evidence
@pytest.mark.parametrize("degrees", [4, 30])
def test_what_is_missing_is_told_from_pictures_however_the_product_lies(
    degrees: int, spread: float
) -> None:
    def turned(image: np.ndarray) -> np.ndarray:
        turn = cv2.getRotationMatrix2D((95.5, 71.5), degrees, 1.0)
        return cv2.warpAffine(image, turn, SIZE[::-1], borderMode=cv2.BORDER_REFLECT)

    empty, whole = picture(), picture()
    empty[48:96, 72:120] = whole[48:96, 72:120] = (90, 120, 90)
    whole[56:88:8, 80:112] = whole[57:89:8, 80:112] = (200, 30, 30)
    assert (
        named(turned(empty), reference_of(whole), pristine=turned(whole), spread=spread)
        == "missing"
    )
    hurt = empty.copy()
    hurt[56:88, 80:112] = (220, 210, 190)
    assert (
        named(turned(hurt), reference_of(whole), pristine=turned(whole), spread=spread) == "changed"
    )
    assert (
        named(turned(whole), reference_of(empty), pristine=turned(empty), spread=spread)
        != "missing"
    )


def named(image: np.ndarray, reference: Reference, *, pristine: np.ndarray, spread: float) -> str:
    """The kind of the clearest finding, on the scale of a pristine picture in the same place, which
    `spread` is a share of."""
    usual, found = (
        examine(query_of(one), [reference], embedder=EMBEDDER) for one in (pristine, image)
    )
    nulls = {
        channel.name: Null(channel.score, spread * channel.score)
        for channel in (*usual.comparison.placed, *usual.comparison.anywhere)
    }
    known = NullScores("product", np.linspace(0, 3, 200).astype(np.float32))
    return judge(found, nulls=nulls, sources={"placed": [known]}, budget=0.01).findings[0].kind
