"""Copies of one photograph among a product's references count once, wherever references count."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from test_anomaly_profile import EMBEDDER, POSES, flat, flat_record, learned, posed, reference_of

from anomaly import Inspector, build_gallery, profile, rebuild, update_gallery
from anomaly.audit import audit_gallery
from anomaly.calibrator import calibrate_gallery
from anomaly.duplicates import find_copies
from anomaly.nulls import Nulls
from anomaly.pose import with_poses
from anomaly.profile import ProfileStep, profile_fingerprint, read_profile
from anomaly.schema import as_json
from anomaly.studio import Damage
from gallery import Gallery, check, open_catalog
from gallery.delta import DeltaReport
from gallery.sources import read_source

Pictures = dict[str, np.ndarray]
CARTON = "s0-carton-0"


def jpeg(image: np.ndarray, quality: int = 92) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return file.getvalue()


@cache
def again(row: int, quality: int = 92) -> np.ndarray:
    """A reference of the flat product, encoded once more."""
    return np.asarray(Image.open(io.BytesIO(jpeg(posed(*POSES[row]), quality))))


def copies_of(images: Pictures, sizes: dict[str, int] | None = None) -> dict[str, str]:
    """By name of each copy, its original; `sizes` of files in bytes, all alike unless given."""
    references = [reference_of(image, name) for name, image in images.items()]

    def png(name: str) -> bytes:
        data = cv2.imencode(".png", images[name][:, :, ::-1])[1].tobytes()
        return data.ljust((sizes or {}).get(name, 1_000_000), b"\0")

    return {name: of for name, (of, *_) in find_copies(references, png).items()}


def test_of_two_that_are_one_photograph_the_poorer_or_later_is_the_copy() -> None:
    whole = posed(*POSES[0])
    small = cv2.resize(whole, (180, 135), interpolation=cv2.INTER_AREA)
    assert copies_of({"a": small, "b": whole}) == {"a": "b"}
    assert copies_of({"a": again(0), "b": whole}) == {"b": "a"}
    assert copies_of({"a": again(0), "b": whole}, {"b": 1_000_001}) == {"a": "b"}
    assert copies_of(flat()) == {}


def test_many_copies_are_copies_of_one() -> None:
    """More than siblings are held against each other, in clusters of their own."""
    whole = posed(*POSES[0])
    images = {f"png{n}": whole for n in range(10)} | {f"jpg{n}": again(0, 60) for n in range(10)}
    found = copies_of(images | {"other": posed(*POSES[1])})
    assert found == dict.fromkeys([*images][1:], "png0")


def test_what_has_no_local_features_is_known_again_by_its_pixels() -> None:
    plain = np.full((180, 240, 3), 200, np.uint8)
    assert copies_of({"a": plain, "b": plain}) == {"b": "a"}
    # What was stored of them says so; the pictures don't.
    one = reference_of(plain, "a")
    files = {"a": plain, "b": plain // 2}
    data = {name: cv2.imencode(".png", image)[1].tobytes() for name, image in files.items()}
    assert find_copies([one, replace(one, reference_id="b")], data.__getitem__) == {}


def test_a_profile_is_to_the_last_bit_what_it_would_be_without_copies() -> None:
    record = learned(flat(3) | {f"again{n}": posed(*POSES[n]) for n in (1, 2)})
    assert {copy: of for copy, (of, *_) in read_profile(record).copies.items()} == {
        "again1": "r1", "again2": "r2",
    }  # fmt: skip
    meta = {key: value for key, value in record.meta.items() if key != "alike"}
    assert replace(record, meta=meta).digest() == learned(flat(3)).digest()


def _from_a_rig(seed: int, *, scratched: bool = False) -> np.ndarray:
    """The same product in the same place, photographed anew: noise, and a little more light."""
    rng = np.random.default_rng(seed)
    image = posed(*POSES[0]).astype(np.float32)
    if scratched:
        image[60:70, 80:92] = 20
    image = image * (1 + 0.005 * (-1) ** seed) + rng.normal(0, 3, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def test_photographs_from_a_steady_rig_are_told_of_but_count() -> None:
    """They are as alike as copies of poor quality are."""
    images = {f"r{n}": _from_a_rig(n) for n in range(3)}
    profile = read_profile(learned(images))
    assert profile.alike
    assert profile.copies == {}
    assert len(profile.left_out) == 3


def test_a_scratch_makes_no_copy() -> None:
    whole = posed(*POSES[0])
    scratched = whole.copy()
    scratched[60:66, 80:86] = 20
    assert read_profile(learned({"a": whole, "b": scratched})).copies == {}
    assert len(read_profile(learned({"a": whole, "b": again(0)})).copies) == 1


def test_copies_alone_are_a_single_reference() -> None:
    found = read_profile(learned({"a": posed(*POSES[0]), "b": again(0), "c": again(0, 80)}))
    assert found.left_out == ()
    assert len(found.copies) == 2
    assert found.has_form
    pooled = {"placed": {count: object() for count in (1, 2, 3)}}
    nulls = Nulls({}, pooled)  # type: ignore[arg-type]
    assert nulls.beyond(found)["placed"] == (pooled["placed"][1],)


def test_without_copies_a_profile_is_the_same_to_the_last_bit(monkeypatch) -> None:
    monkeypatch.setattr(profile, "find_copies", lambda references, picture: {})
    unasked = learned(flat())
    assert unasked.digest() == flat_record().digest()
    assert "copies" not in flat_record().meta


def test_references_in_memory_are_those_that_count() -> None:
    images = {"a": posed(*POSES[0]), "b": again(0), "c": posed(*POSES[1])}
    references = [reference_of(image, name) for name, image in images.items()]
    png = {n: cv2.imencode(".png", i[:, :, ::-1])[1].tobytes() for n, i in images.items()}
    record = ProfileStep(EMBEDDER, png.__getitem__)(references)
    (copy,) = read_profile(record).copies
    names = [r.reference_id for r in with_poses(references, record)]
    assert names == [n for n in images if n != copy]


# Through a gallery


@pytest.fixture(scope="module")
def two(shoot: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`plain`, of two references; `copied` got a JPEG of each as a delta. Never write to them."""
    home = tmp_path_factory.mktemp("two")
    for folder in ("references", "more"):
        (home / folder / CARTON).mkdir(parents=True)
    for slot in range(2):
        image = shoot(CARTON, 100 + slot).image
        Image.fromarray(image).save(home / "references" / CARTON / f"{slot}.png")
        (home / "more" / CARTON / f"{slot}.jpg").write_bytes(jpeg(image))
    build_gallery(home / "references", home / "plain")
    shutil.copytree(home / "plain", home / "copied")
    open_catalog(home / "copied").import_rows(read_source(home / "more").rows)
    report = update_gallery(home / "copied")
    assert isinstance(report, DeltaReport)
    assert report.published
    return home


def said(root: Path, image: np.ndarray) -> dict[str, Any]:
    """An inspection without what names the build or the time."""
    own = ("inspection_id", "build", "delta", "catalog_seq", "timings_ms")
    with Inspector.open(root) as inspector:
        found = as_json(inspector.inspect(image, product_id=CARTON))
    return {key: value for key, value in found.items() if key not in own}


def learned_at(root: Path) -> profile.Profile:
    with Gallery.open(root) as gallery:
        assert gallery.manifest.steps[profile.STEP] == profile_fingerprint()
        record = gallery.extra(CARTON, profile.STEP)
    assert record is not None
    return read_profile(record)


def test_copies_change_no_answer_by_a_delta_nor_by_a_rebuild(
    two: Path, shoot: Callable[..., Any], tmp_path: Path
) -> None:
    built = Path(shutil.copytree(two / "copied", tmp_path / "built"))
    report = rebuild(built)
    assert report.published
    for root in (two / "copied", built):
        assert replace(learned_at(root), alike={}) == learned_at(two / "plain")
        assert len(learned_at(root).copies) == 2
    for take in (31, 32, 33):
        image = shoot(CARTON, take).image
        plain = said(two / "plain", image)
        assert plain["verdict"] == "ok"
        assert said(two / "copied", image) == said(built, image) == plain
    (gate,) = (g for g in report.gates if g.name == "contamination")
    assert "2 of 4 references held against siblings; 2 are copies of others" in gate.message
    assert check(built).sound


def test_the_audit_names_the_copies_and_holds_the_others_against_each_other(two: Path) -> None:
    audit = audit_gallery(two / "copied", pictures=True)
    assert [(f.name, f.kind, len(f.siblings)) for f in audit.findings] == [
        ("0.jpg", "duplicate", 1), ("1.jpg", "duplicate", 1),
    ]  # fmt: skip
    assert "0.png" in audit.findings[0].reason
    assert all(finding.picture is not None for finding in audit.findings)
    assert (audit.audited, audit.alone) == (2, 0)


def test_the_audit_tells_of_what_may_be_a_copy_and_looks_at_it_all_the_same(
    shoot: Callable[..., Any], tmp_path: Path
) -> None:
    """Of poor quality, it counts; with its original it is no design, nor do they vouch for each
    other."""
    home = tmp_path / "references" / CARTON
    home.mkdir(parents=True)
    for slot in range(4):
        Image.fromarray(shoot(CARTON, 110 + slot).image).save(home / f"{slot}.png")
    torn = shoot(CARTON, 120, damage=Damage("tear", strength=0.8, area=0.01)).image
    Image.fromarray(torn).save(home / "torn.png")
    (home / "torn.jpg").write_bytes(jpeg(torn, 40))
    build_gallery(tmp_path / "references", tmp_path / "gallery")
    audit = audit_gallery(tmp_path / "gallery")
    profile = learned_at(tmp_path / "gallery")
    assert len(profile.alike) == 1
    assert profile.copies == {}
    assert sorted((f.name, f.kind) for f in audit.findings) == [
        ("torn.jpg", "damaged"), ("torn.png", "damaged"),
    ]  # fmt: skip


def test_a_calibration_counts_a_photograph_once(two: Path, tmp_path: Path) -> None:
    found = []
    for name in ("plain", "copied"):
        root = Path(shutil.copytree(two / name, tmp_path / name))
        calibrate_gallery(root, budget=0.05)
        with Inspector.open(root) as inspector, inspector._serving() as serving:
            assert serving.calibration is not None
            found.append(serving.calibration.products[CARTON])
    assert found[0].count == 2
    assert found[0] == found[1]


def test_a_copy_serves_where_its_original_was_withdrawn(
    two: Path, shoot: Callable[..., Any], tmp_path: Path
) -> None:
    root = Path(shutil.copytree(two / "copied", tmp_path / "copied"))
    catalog = open_catalog(root)
    (original,) = (row.reference_id for row in catalog.rows() if row.name == "0.png")
    catalog.withdraw(CARTON, original, deed="quarantine", why="test")
    assert update_gallery(root, withdrawals=True).published
    found = learned_at(root)
    names = {row.reference_id: row.name for row in open_catalog(root).rows()}
    assert {names[e.reference_id] for e in found.left_out} == {"0.jpg", "1.png"}
    assert [names[copy] for copy in found.copies] == ["1.jpg"]
