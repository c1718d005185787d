"""The frozen regression set: what people froze, and builds that get worse at it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from anomaly import regression
from anomaly.regression import Regression, freeze, frozen_cases
from embeddings import fake_embedder
from gallery import Gallery, check
from gallery.errors import DamagedGallery, SourceError
from gallery.gates import Candidate


@pytest.fixture
def root(make_gallery: Callable[..., Path]) -> Path:
    return make_gallery(products=3)


@pytest.fixture
def confirmed(tmp_path: Path, make_png: Callable[..., bytes]) -> Path:
    """Two whole and two damaged pictures of each of two products."""
    for kind, first in (("ok", 500), ("damaged", 600)):
        for product in range(2):
            folder = tmp_path / "confirmed" / kind / f"product-0{product}"
            folder.mkdir(parents=True)
            for shot in range(2):
                (folder / f"{kind}-{product}{shot}.png").write_bytes(
                    make_png(first + 10 * product + shot)
                )
    return tmp_path / "confirmed"


def judged(root: Path, monkeypatch: pytest.MonkeyPatch, now: Any, before: Any) -> Any:
    """The gate's answer when the candidate's verdicts are `now(name)` and the parent's `before`."""
    with Gallery.open(root) as candidate, Gallery.open(root) as parent:

        def inspect(request: Any, serving: Any, *, clock: Any) -> Any:
            verdicts = now if serving.gallery is candidate else before
            return SimpleNamespace(verdict=verdicts(request.name))

        monkeypatch.setattr("anomaly.inspection.inspect_picture", inspect)
        return Regression(fake_embedder(size_px=64))(Candidate(candidate, parent, ()))


def right(name: str) -> str:
    return "ok" if name.startswith("ok") else "damaged"


def test_a_build_that_answers_worse_is_stopped_and_one_that_answers_better_is_not(
    root: Path, confirmed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [case.damaged for case in freeze(confirmed, root, by="me").cases] == [False] * 4 + [
        True
    ] * 4
    same = judged(root, monkeypatch, right, right)
    assert (same.passed, same.figure) == (True, 0)

    def missed(name: str) -> str:
        return "ok" if name == "damaged-10.png" else right(name)

    worse = judged(root, monkeypatch, missed, right)
    assert (worse.passed, worse.figure) == (False, 1 / 8)
    assert "0 answered wrongly before, 1 now; newly wrong: damaged-10.png" in worse.message
    better = judged(root, monkeypatch, right, missed)
    assert (better.passed, better.figure) == (True, -1 / 8)
    alarmed = judged(root, monkeypatch, lambda name: "review", right)
    assert (alarmed.passed, alarmed.figure) == (False, 0.5)  # review is right for damage only


def test_without_a_set_or_a_parent_there_is_nothing_to_get_worse_at(
    root: Path, confirmed: Path
) -> None:
    with Gallery.open(root) as gallery:
        found = Regression(fake_embedder(size_px=64))(Candidate(gallery, gallery, ()))
        assert (found.passed, found.figure) == (True, None)
        assert "amiss freeze" in found.message
        freeze(confirmed, root)
        first = Regression(fake_embedder(size_px=64))(Candidate(gallery, None, ()))
    assert (first.passed, first.figure) == (True, 0)


def test_what_is_frozen_is_replaced_as_a_whole_and_checked(
    root: Path, confirmed: Path, tmp_path: Path, flip: Callable[..., None]
) -> None:
    freeze(confirmed, root)
    with pytest.raises(SourceError, match="no pictures to freeze"):
        freeze(tmp_path / "confirmed" / "ok", root)
    assert len(frozen_cases(root)) == 8
    (confirmed / "ok/product-00/ok-00.png").write_bytes(b"not a picture")
    (confirmed / "ok/product-01").rename(confirmed / "ok/nobody")
    again = freeze(confirmed, root)
    assert len(again.cases) == 5
    assert [p.code for p in again.problems].count("unknown_product") == 2
    assert len(again.problems) == 3
    (broken,) = (p for p in again.problems if p.code == "not_an_image")
    assert broken.where.endswith("ok-00.png")
    assert broken.message.startswith("not a readable image")  # not: 13 bytes: ...
    assert frozen_cases(root) == again.cases
    assert check(root).damaged == []
    picture = root / "regression" / "pictures" / again.cases[0].picture
    flip(picture, 40)
    assert [found.path for found in check(root).damaged] == [str(picture)]
    with pytest.raises(DamagedGallery, match="not what was frozen"):
        regression._picture(root, again.cases[0])
    flip(root / "regression" / "set.json", 60)
    with pytest.raises(DamagedGallery):
        frozen_cases(root)


def test_the_gate_is_asked_by_every_rebuild(
    root: Path, confirmed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from anomaly import cli

    monkeypatch.setattr("sys.argv", ["amiss", "freeze", str(confirmed), str(root), "--json"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    assert json.loads(capsys.readouterr().out)["pictures"] == 8
    from anomaly.builder import _gates
    from anomaly.config import build_config

    names = [gate.name for gate in _gates(build_config(), fake_embedder())]
    assert names[-2:] == ["contamination", "regression"]
