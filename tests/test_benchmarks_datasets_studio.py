"""Rendered sets: their counts, their seeds, and that what is read is what was promised."""

from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import pytest

from anomaly.studio import DAMAGES, LABEL_DAMAGES
from benchmarks.datasets import RENDERED, Sample, Split, load, studio, studio_scenes
from benchmarks.datasets.errors import BadRequest, UnknownSet
from benchmarks.datasets.studio_scenes import photograph


def scene_of(sample: Sample) -> studio_scenes.Scene:
    (scene,) = sample.read.args  # type: ignore[attr-defined]
    assert isinstance(scene, studio_scenes.Scene)
    return scene


def queries(name: str, *, shots: int = 1, seed: int = 0) -> list[Sample]:
    return [q for split in load(name, "", shots=shots, seed=seed) for q in split.queries]


def levels(samples: list[Sample]) -> dict[str, Counter[bool | None]]:
    found: dict[str, Counter[bool | None]] = {}
    for sample in samples:
        found.setdefault(sample.slice, Counter())[sample.damaged] += 1
    return found


@pytest.fixture(params=RENDERED)
def splits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[Split]:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a picture was rendered")

    monkeypatch.setattr(studio_scenes, "render", refuse)
    monkeypatch.setattr(studio_scenes, "make_product", refuse)
    monkeypatch.setattr(studio_scenes, "labelled_box", refuse)
    return load(request.param, "no/such/folder", shots=4, seed=0)


def test_listing_renders_nothing_and_tells_pictures_apart(splits: list[Split]) -> None:
    samples = [s for split in splits for s in (*split.references, *split.queries)]
    assert len({s.sample_id for s in samples}) == len(samples)
    assert len({split.product_id for split in splits}) == len(splits)
    for split in splits:
        assert len(split.references) == split.shots == 4
        assert not any(reference.damaged for reference in split.references)
        assert {s.product_id for s in (*split.references, *split.queries)} == {split.product_id}
        shown = [scene_of(s) for s in split.references]
        assert len({scene.seed for scene in shown}) == 4
        assert not {scene.seed for scene in shown} & {scene_of(q).seed for q in split.queries}
    for sample in samples:
        assert (sample.read_mask is not None) == (sample.damaged is True)
        assert sample.read_item_mask is not None
        assert set(sample.defect_types) <= set(DAMAGES)


def test_both_labels_come_in_each_slice(splits: list[Split]) -> None:
    for counts in levels([q for split in splits for q in split.queries]).values():
        assert counts[True] > 0
        assert counts[False] > 0


def test_nuisances_do_not_tell_the_label(splits: list[Split]) -> None:
    seen = {True: Counter[str](), False: Counter[str]()}
    for query in (q for split in splits for q in split.queries):
        assert query.damaged is not None
        seen[query.damaged].update(n.kind for n in scene_of(query).nuisances)
    assert set(seen[True]) == set(seen[False])


def test_no_seed_is_the_demos_the_tests_or_the_shipped_nulls(splits: list[Split]) -> None:
    seeds = {scene_of(q).item.seed for split in splits for q in split.queries}
    assert min(seeds) >= 7000


def test_the_headline_has_sixty_of_each_label_and_all_types() -> None:
    found = queries("studio")
    assert Counter(q.damaged for q in found) == {True: 60, False: 60}
    assert len({q.product_id for q in found}) == 12
    types = Counter(kind for q in found for kind in q.defect_types)
    assert set(types) == set(DAMAGES) - set(LABEL_DAMAGES)
    assert min(types.values()) >= 4
    assert levels(found) == {name: Counter({True: 30, False: 30}) for name in ("tray", "belt")}
    pristine = [scene_of(q) for q in found if not q.damaged]
    kinds = {n.kind for scene in pristine for n in scene.nuisances}
    assert kinds == {"glare", "shadow", "film_folds", "lot_code"}


def test_the_slices_have_what_issue_4_asks_for() -> None:
    art = queries("studio/printed-art")
    assert Counter(q.damaged for q in art) == {False: 300, True: 100}
    assert len(levels(art)) == 5
    missing = queries("studio/missing-units")
    assert sum(q.defect_types == ("missing_unit",) for q in missing) >= 150
    assert sum(q.damaged is False for q in missing) >= 80
    spills = queries("studio/spills")
    assert Counter(q.defect_types for q in spills) == {("spill",): 60, (): 60}
    assert set(levels(queries("studio/coverage"))) == {
        "seen face", "unseen face", "partial view", "second version",
    }  # fmt: skip


def test_labels_are_whole_or_missing_or_come_off_in_part() -> None:
    labels = queries("studio/labels")
    assert Counter(q.defect_types for q in labels) == {
        (): 72, ("missing_unit",): 24, ("peeled_label",): 24, ("torn_label",): 24,
    }  # fmt: skip
    assert levels(labels) == {name: Counter({True: 36, False: 36}) for name in ("tray", "belt")}


def test_each_pose_has_the_same_products_and_damage() -> None:
    found = queries("studio/pose")
    assert set(levels(found)) == {
        *(f"rotation {n}" for n in (0, 30, 60, 90, 120, 150, 180)),
        *(f"perspective {n}" for n in ("0.0", "0.15", "0.3", "0.45")),
    }
    shown: dict[str, list[object]] = {}
    for query in found:
        scene = scene_of(query)
        own = (scene.item, scene.damage, scene.seed, scene.shot.light, scene.shot.noise_sigma)
        shown.setdefault(query.slice, []).append(own)
        if query.slice.startswith("rotation"):
            assert abs(abs(scene.shot.angle_deg) - float(query.slice.split()[1])) <= 4
        else:
            assert abs(scene.shot.angle_deg) <= 4
    first = shown["rotation 0"]
    assert all(each == first for each in shown.values())
    for split in load("studio/pose", "", shots=4, seed=0):
        assert all(abs(scene_of(r).shot.angle_deg) <= 12 for r in split.references)


def test_coverage_shows_backs_only_to_queries_and_versions_to_both() -> None:
    for split in load("studio/coverage", "", shots=4, seed=0):
        shown = [scene_of(r) for r in split.references]
        assert {scene.face for scene in shown} == {"front"}
        assert [scene.variant for scene in shown] == [0, 1, 0, 1]
        backs = [q.slice for q in split.queries if scene_of(q).face == "back"]
        assert set(backs) == {"unseen face"}


@pytest.mark.parametrize("name", ["studio", "studio/coverage"])
def test_seeds_draw_references_and_leave_queries_alone(name: str) -> None:
    def drawn(shots: int, seed: int) -> list[studio_scenes.Scene]:
        return [scene_of(r) for s in load(name, "", shots=shots, seed=seed) for r in s.references]

    assert drawn(2, 0) == drawn(2, 0)
    assert not set(drawn(2, 0)) & set(drawn(2, 1))
    assert [scene_of(q) for q in queries(name)] == [
        scene_of(q) for q in queries(name, shots=16, seed=1)
    ]
    for few, more in zip(
        load(name, "", shots=1, seed=3), load(name, "", shots=16, seed=3), strict=True
    ):
        assert len(more.references) == 16
        assert scene_of(few.references[0]) == scene_of(more.references[0])


def test_limits_keep_labels_balanced() -> None:
    splits = load("studio", "", shots=1, seed=0, limit=24)
    counts = Counter((q.product_id, q.damaged) for split in splits for q in split.queries)
    assert set(counts.values()) == {1}


def test_a_sample_survives_pickling_and_reads_the_same_bytes() -> None:
    split = load("studio", "", shots=1, seed=0)[7]
    query = next(q for q in split.queries if q.damaged)
    copy = pickle.loads(pickle.dumps(query))
    pixels = query.read()
    assert pixels.shape == (480, 640, 3)
    assert pixels.dtype == np.uint8
    pixels[:] = 0  # the reader's own: the next one gets the photograph
    photograph.cache_clear()
    again = copy.read()
    assert again.any()
    photograph.cache_clear()
    assert query.read().tobytes() == again.tobytes()
    assert query.read_mask is not None
    assert query.read_item_mask is not None
    mask, item = query.read_mask(), query.read_item_mask()
    assert mask.dtype == item.dtype == np.bool_
    assert mask.shape == item.shape == (480, 640)
    assert 0.002 * item.sum() <= mask.sum() < 0.4 * item.sum()


def test_damage_that_falls_out_of_a_partial_view_is_drawn_anew() -> None:
    found = [q for q in queries("studio/coverage") if q.slice == "partial view" and q.damaged]
    for query in found[::16]:
        photo = photograph(scene_of(query))
        rows, columns = np.nonzero(photo.product_mask)
        touches = rows.min() == 0 or rows.max() == 479 or columns.min() == 0
        assert touches or columns.max() == 639
        assert photo.damage_mask.sum() >= 0.002 * photo.product_mask.sum()


def test_wrong_requests_say_what_is_allowed() -> None:
    with pytest.raises(UnknownSet, match="studio/pose"):
        load("studio/poses", "", shots=1, seed=0)
    with pytest.raises(UnknownSet, match="expected printed-art, missing-units"):
        studio.read_studio(studio.Path(), dataset="studio/x", part="x", shots=1, seed=0)
    with pytest.raises(BadRequest):
        load("studio", "", shots=0, seed=0)
