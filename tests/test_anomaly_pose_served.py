"""Posed references through a gallery: built, read, compared, told in the user's pixels."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from anomaly import Inspector, build_gallery
from anomaly.audit import audit_gallery
from anomaly.profile import STEP
from anomaly.studio import draw_shot, make_products, render
from embeddings import read_image
from gallery import Gallery
from gallery.originals import read_reference_picture

ANGLES, QUERY = (0.0, 70.0, -110.0), 150.0
NAME = "turned"


def photograph(angle: float, seed: int):
    shot = replace(draw_shot(np.random.default_rng(5), max_tilt_deg=0.0), angle_deg=angle)
    return render(make_products(seed=77)[0], shot=shot, seed=seed)


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("posed")
    for number, angle in enumerate(ANGLES):
        (folder / "pictures").mkdir(exist_ok=True)
        Image.fromarray(photograph(angle, number).image).save(folder / f"pictures/{number}.png")
    build_gallery(folder / "pictures", folder / "gallery", product_id=NAME)
    return folder / "gallery"


def test_what_is_told_of_posed_references_is_told_of_their_pictures_as_given(gallery: Path) -> None:
    query = photograph(QUERY, 9)
    with Inspector.open(gallery) as inspector, inspector._serving() as serving:
        result = inspector.inspect(query.image, product_id=NAME, picture=True)
        references = serving.references(NAME, None)
        posed = [r for r in references if r.frame is not None]
        assert {r.reference_id for r in posed} == serving.profile(NAME).posed
    assert len(posed) == 2
    assert result.verdict == "ok"
    assert result.alignment is not None
    assert result.alignment.reference_id is not None
    matrix = np.asarray(result.alignment.matrix)
    original = read_image(read_reference_picture(gallery, result.alignment.reference_id))
    moved = cv2.warpPerspective(original, matrix, query.image.shape[1::-1])
    on = cv2.erode(query.product_mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    assert result.picture is not None
    for shown in (moved, result.picture.reference):
        pairs = np.corrcoef(shown[on].astype(float).ravel(), query.image[on].astype(float).ravel())
        assert pairs[0, 1] > 0.9  # half a turn off: .3
    inverse = cv2.warpPerspective(original, np.linalg.inv(matrix), query.image.shape[1::-1])
    wrong = np.corrcoef(inverse[on].astype(float).ravel(), query.image[on].astype(float).ravel())
    assert wrong[0, 1] < 0.7


def test_every_reference_is_asked_place_by_place_however_it_lies(gallery: Path) -> None:
    from anomaly.answer import Request
    from anomaly.inspection import _look
    from anomaly.pipeline import StageClock, examine, usable

    query = _look(Request(photograph(QUERY, 9).image, "", NAME, None, 0.01, False), StageClock())
    with Inspector.open(gallery) as inspector, inspector._serving() as serving:
        given = serving.gallery.references(NAME)
        for references, wanted in ((serving.references(NAME, None), 3), (given, 1)):
            evidence = examine(query, references, embedder=serving.embedder)
            assert len(usable(evidence.alignment, evidence.view)) == wanted
            assert len(evidence.comparison.places) == wanted


def test_a_build_without_the_profile_serves_the_same_poses(
    gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Inspector.open(gallery) as inspector, inspector._serving() as serving:
        stored = serving.references(NAME, None)
        monkeypatch.setitem(serving.gallery.manifest.steps, STEP, "another")  # type: ignore[attr-defined]
        serving._profiles.clear()
        learned = serving.references(NAME, None)
        assert serving.profile(NAME).posed == {
            r.reference_id for r in stored if r.frame is not None
        }
    for one, other in zip(stored, learned, strict=True):
        assert (one.frame is None) == (other.frame is None)
        if one.frame is not None and other.frame is not None:
            np.testing.assert_allclose(one.frame, other.frame, atol=1e-6)
        gaps = one.patches.dense() - other.patches.dense()
        assert np.abs(gaps).max() < 1e-3


def test_vectors_and_references_of_the_gallery_stay_those_of_pictures_as_given(
    gallery: Path,
) -> None:
    with Gallery.open(gallery) as opened:
        for reference in opened.references(NAME):
            assert reference.frame is None
    buffer = io.BytesIO()
    Image.fromarray(photograph(ANGLES[1], 1).image).save(buffer, format="PNG")
    with Inspector.open(gallery) as inspector:
        found = inspector.identify(photograph(ANGLES[1], 1).image)
    assert found.candidates[0].product_id == NAME


def test_a_cut_copy_of_a_reference_that_is_posed_is_still_one(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for number, angle in enumerate((0.0, 4.0, -4.0, 70.0)):
        image = photograph(angle, number).image
        Image.fromarray(image).save(tmp_path / f"pictures/{number}.png")
    Image.fromarray(image[8:-2, 4:-12]).save(tmp_path / "pictures/copy.png")
    build_gallery(tmp_path / "pictures", tmp_path / "gallery", product_id=NAME)
    audit = audit_gallery(tmp_path / "gallery")
    assert [(f.name, f.kind) for f in audit.findings] == [("copy.png", "duplicate")]
