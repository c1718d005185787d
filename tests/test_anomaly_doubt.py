"""When a picture is asked once more whether it shows the product that it is held to."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anomaly import Inspector, import_source, update_gallery
from anomaly.calibrate import NullScores
from anomaly.decide import Decision
from anomaly.doubt import in_doubt, stranger, unless_mistaken, unless_stranger
from anomaly.recognise import Recognised
from anomaly.results import Reason, Verdict
from anomaly.studio import Photograph
from gallery.identify import Identification, Identifier, ProductCandidate

PLAIN = NullScores("shipped", np.linspace(0, 4, 199, dtype=np.float32))
OK, REVIEW = Decision("ok", Reason("like_references", "")), Decision("review", Reason("x", ""))
CARTON, WRECK = "s0-carton-0", "s0-wreck-carton"


def _doubtful(
    decision: Decision, *, kind: str = "placed", score: float = 5.0, claimed: bool = False,
    status: str = "aligned",
) -> bool:  # fmt: skip
    alignment = SimpleNamespace(status=status)
    facts: Any = SimpleNamespace(product_id="p", budget=0.01, alignment=alignment)
    evidence: Any = SimpleNamespace(comparison=SimpleNamespace(kind=kind))
    judged: Any = SimpleNamespace(scored=SimpleNamespace(score=score))
    serving: Any = SimpleNamespace(null_scores=lambda _: {"placed": (PLAIN,)})
    return in_doubt(decision, facts, evidence, judged, serving, claimed=claimed)


@pytest.mark.parametrize(
    ("verdict", "code", "relit", "score", "doubt"),
    [
        ("cannot_compare", "view_not_covered", False, 9.0, True),
        ("cannot_compare", "view_not_covered", True, 9.0, True),
        ("cannot_compare", "product_out_of_picture", False, 9.0, False),
        ("damaged", "beyond_pristine", True, 9.0, False),
        ("ok", "like_references", False, 5.0, False),
        ("ok", "like_references", True, 5.0, True),  # in plain light it would be damaged
        ("ok", "like_references", True, 3.0, False),
        ("review", "in_review_band", True, 5.0, True),  # no more is known of it than of that
        ("review", "in_review_band", False, 5.0, False),
    ],
)
def test_what_looks_like_no_reference_or_passes_by_its_light_alone(
    verdict: Verdict, code: str, relit: bool, score: float, doubt: bool
) -> None:
    decision = Decision(verdict, Reason(code, ""))
    kind = "relit" if relit else "placed"
    assert _doubtful(decision, kind=kind, score=score) is doubt
    assert not _doubtful(decision, kind=kind, score=score, claimed=True)


@pytest.mark.parametrize("claimed", [False, True])
def test_what_passes_though_it_lies_on_no_reference(claimed: bool) -> None:
    for decision in (OK, REVIEW):
        assert _doubtful(decision, kind="anywhere", status="fallback", claimed=claimed)
    damaged = Decision("damaged", Reason("beyond_pristine", ""))
    assert not _doubtful(damaged, kind="loose", status="fallback", claimed=claimed)


def _identified(name: str, known: bool | None) -> Identification:
    return Identification((ProductCandidate(name, 0.2, 0.2, "r"),), known)


@pytest.mark.parametrize(
    ("name", "known", "claimed", "unclaimed"),
    [
        ("p", True, "like_references", "like_references"),
        ("p", None, "like_references", "like_references"),  # too small a gallery to tell
        ("p", False, "like_references", "no_product_alike"),  # a claim says more
        ("q", False, "looks_otherwise", "no_product_alike"),
        ("q", None, "looks_otherwise", "like_references"),
        ("q", True, "looks_otherwise", "like_references"),
    ],
)
def test_identification_knows_better(
    name: str, known: bool | None, claimed: str, unclaimed: str
) -> None:
    facts: Any = SimpleNamespace(product_id="p")
    found = _identified(name, known)
    assert unless_mistaken(OK, facts, found).reason.code == claimed
    assert unless_stranger(OK, facts, found).reason.code == unclaimed
    assert unless_mistaken(REVIEW, facts, found) is REVIEW
    assert ("'q'" in unless_mistaken(OK, facts, found).reason.text) == (name == "q")


@pytest.mark.parametrize(
    ("reliable", "distance", "name", "known", "strange"),
    [
        (False, 0.12, "q", False, False),  # as near as its references lie to each other
        (False, 0.2, "p", True, False),  # farther, but known
        (False, 0.2, "q", True, True),
        (False, 0.2, "p", None, True),
        (True, 0.0, "p", True, True),  # a picture of it would register
    ],
)
def test_what_registers_with_nothing_is_of_no_product_unless_it_is_known(
    reliable: bool, distance: float, name: str, known: bool | None, strange: bool
) -> None:
    profile = SimpleNamespace(reliable=reliable, left_out=[SimpleNamespace(distance=0.1)])
    serving: Any = SimpleNamespace(profile=lambda _: profile)
    likely = [Recognised("p", 0, 0, distance)]
    found = stranger(likely, serving, known=lambda: _identified(name, known))
    assert (found is not None) == strange
    registered = [Recognised("p", 30, 0, 0.5)]
    assert stranger(registered, serving, known=lambda: _identified(name, known)) is None


@pytest.fixture
def unlike_faces(shop: Path, shoot: Callable[..., Photograph], tmp_path: Path) -> Path:
    """The shop with one product more, the two references of which don't resemble each other."""
    root, faces = tmp_path / "gallery", tmp_path / "more" / "faces"
    shutil.copytree(shop, root)
    faces.mkdir(parents=True)
    for name, face in (("s0-carton-3", "front"), ("s0-sachet", "back")):
        Image.fromarray(shoot(name, 1, face=face).image).save(faces / f"{face}.png")
    import_source(faces.parent, root)
    update_gallery(root)
    return root


@pytest.mark.parametrize(
    ("known", "expected"),
    [(None, "review"), (False, "review"), (True, "wrong_product")],
)
def test_next_to_references_that_hardly_resemble_each_other_much_passes(
    unlike_faces: Path,
    shoot: Callable[..., Photograph],
    monkeypatch: pytest.MonkeyPatch,
    known: bool | None,
    expected: str,
) -> None:
    """`known`: what identification says; None, of so small a gallery."""
    asked = Identifier.identify

    def identify(self: Identifier, *arguments: Any, **options: Any) -> Identification:
        return replace(asked(self, *arguments, **options), known=known)

    monkeypatch.setattr(Identifier, "identify", identify)
    with Inspector.open(unlike_faces) as inspector:
        result = inspector.inspect(shoot(WRECK, 9).image, product_id="faces")
    assert result.verdict == expected
