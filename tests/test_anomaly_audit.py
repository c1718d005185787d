"""Audits of real galleries, planted with what an audit is for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from anomaly import rebuild
from anomaly.audit import Audit, AuditFinding, audit_gallery, quarantine_found
from anomaly.audit_report import write_audit_report
from anomaly.cli import app
from anomaly.config import MAX_CONTAMINATED
from anomaly.contamination import Contamination
from anomaly.errors import AuditError
from anomaly.results import Picture
from anomaly.studio import Damage
from gallery import Candidate, Gallery, open_catalog
from gallery.build import BuildReport
from gallery.sources import read_source

CARTON, RAZORS = "s0-carton-0", "s0-razor-set"


@dataclass
class Planted:
    root: Path
    report: BuildReport
    audit: Audit


@pytest.fixture(scope="module")
def planted(
    shop: Path, shoot: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Planted:
    """The shop with a torn carton, and a carton among the razors."""
    home = tmp_path_factory.mktemp("planted")
    root = Path(shutil.copytree(shop, home / "gallery"))
    bad = {
        (CARTON, "torn.png"): shoot(CARTON, 900, damage=Damage("tear", 0.9, area=0.015)),
        (RAZORS, "strange.png"): shoot(CARTON, 901),
    }
    for (product, name), photo in bad.items():
        (home / "more" / product).mkdir(parents=True)
        Image.fromarray(photo.image).save(home / "more" / product / name)
    open_catalog(root).import_rows(read_source(home / "more").rows)
    report = rebuild(root)
    assert report.published
    return Planted(root, report, audit_gallery(root, pictures=True))


def test_the_planted_ones_are_found_for_what_they_are_and_nobody_else(planted: Planted) -> None:
    found = [(f.product_id, f.name, f.kind) for f in planted.audit.findings]
    assert found == [
        (RAZORS, "strange.png", "wrong_product"), (CARTON, "torn.png", "damaged"),
    ]  # fmt: skip
    wrong, torn = planted.audit.findings
    assert repr(CARTON) in wrong.reason
    assert torn.figure <= torn.limit == 0.01
    assert len(torn.siblings) == 4
    assert torn.regions
    assert (planted.audit.audited, planted.audit.alone) == (14, 0)


def test_the_build_that_they_serve_in_names_them(planted: Planted) -> None:
    (gate,) = (g for g in planted.report.gates if g.name == "contamination")
    assert gate.passed
    assert gate.figure == pytest.approx(2 / 14)  # more than a tenth, but of few
    for finding in planted.audit.findings:
        assert f"{finding.product_id} {finding.reference_id[:8]}" in gate.message
    page = (planted.root / "builds" / planted.report.build_id / "report.html").read_text("utf-8")
    assert planted.audit.findings[0].reference_id[:8] in page


def test_the_verb_quarantines_reports_and_the_next_build_is_clean(
    planted: Planted, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(planted.root, tmp_path / "gallery"))
    arguments = ["audit", str(root), "--quarantine", "--by", "ann", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 1
    (line,) = done.stdout.splitlines()
    said = json.loads(line)
    assert [(f["kind"], f["quarantined"]) for f in said["findings"]] == [
        ("wrong_product", True), ("damaged", True),
    ]  # fmt: skip
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert page.count("data:image/jpeg;base64,") == 2
    assert "http" not in page.replace("http-equiv", "")
    held = {row.name for row in open_catalog(root).quarantined()}
    assert held == {"torn.png", "strange.png"}
    journal = (root / "catalog" / "journal.jsonl").read_text("utf-8").splitlines()[-2:]
    assert all('"by": "ann"' in entry and '"why": "audit: ' in entry for entry in journal)
    after = rebuild(root)
    (gate,) = (g for g in after.gates if g.name == "contamination")
    assert gate.figure == 0
    clean = CliRunner().invoke(app, ["audit", str(root), CARTON])
    assert clean.exit_code == 0
    assert "5 references" not in clean.stdout
    assert "4 references held against siblings, 0 found" in clean.stdout


# By hand, without a network


def found(kind: str, reference: str, product: str = "p", **more: Any) -> AuditFinding:
    return AuditFinding(product, reference, f"{reference}.png", kind, 0.5, 1.0, "why", **more)  # type: ignore[arg-type]


@pytest.fixture
def catalogued(tmp_path: Path, catalog_at, write_pictures) -> Path:
    return catalog_at(tmp_path / "gallery", write_pictures(tmp_path / "s", references=3))


def test_only_what_the_policy_names_is_quarantined_and_once(catalogued: Path) -> None:
    rows = open_catalog(catalogued).rows()
    kinds = ("damaged", "duplicate", "variant", "undecided", "blurred")
    audit = Audit(
        "b",
        tuple(
            found(kind, row.reference_id, row.product_id)
            for kind, row in zip(kinds, rows[::2], strict=True)
        ),
        audited=9, alone=0,
    )  # fmt: skip
    done = quarantine_found(catalogued, audit)
    assert [f.kind for f in done] == ["damaged", "blurred"]
    assert quarantine_found(catalogued, audit) == []
    assert [f.kind for f in quarantine_found(catalogued, audit, kinds=["variant"])] == ["variant"]
    with pytest.raises(AuditError, match="torn"):
        quarantine_found(catalogued, audit, kinds=["torn"])


def test_a_product_is_never_emptied(catalogued: Path) -> None:
    rows = [row for row in open_catalog(catalogued).rows() if row.product_id == "product-00"]
    audit = Audit("b", tuple(found("damaged", r.reference_id, r.product_id) for r in rows), 3, 0)
    assert len(quarantine_found(catalogued, audit)) == 2
    assert len([r for r in open_catalog(catalogued).rows() if r.product_id == "product-00"]) == 1


def test_the_page_escapes_names_and_says_what_was_done(tmp_path: Path) -> None:
    grey = np.full((60, 80, 3), 120, np.uint8)
    heat = np.full((60, 80), 1.5, np.float32)
    one = replace(
        found("damaged", "a" * 32, "<b>p</b>", siblings=("c" * 32,)),
        picture=Picture(grey, grey, heat),
    )
    two = found("variant", "d" * 32, group=("d" * 32, "e" * 32))
    write_audit_report(
        tmp_path / "r.html", Audit("b-1", (one, two), 7, 1), title="T", withheld=[one]
    )
    page = (tmp_path / "r.html").read_text("utf-8")
    assert "<b>p</b>" not in page
    assert "&lt;b&gt;p" in page
    assert page.count("quarantined</span>") == 1
    assert page.count("<img") == 1
    assert "group of 2" in page
    assert "1 have none and could not be" in page
    write_audit_report(tmp_path / "n.html", Audit("b-1", (), 7, 0), title="T")
    assert "Nothing was found." in (tmp_path / "n.html").read_text("utf-8")


# The gate


@pytest.fixture
def candidate(make_gallery: Callable[..., Path]) -> Iterator[Callable[..., Candidate]]:
    opened: list[Gallery] = []

    def of(**pictures: Any) -> Candidate:
        opened.append(Gallery.open(make_gallery(**pictures)))
        return Candidate(opened[-1], None, [])

    yield of
    for gallery in opened:
        gallery.close()


def test_a_build_without_profiles_is_not_judged_and_says_so(candidate) -> None:
    result = Contamination()(candidate())
    assert (result.passed, result.figure) == (True, None)
    assert "no profiles" in result.message
    assert f"{MAX_CONTAMINATED:.0%}" in result.allowed
