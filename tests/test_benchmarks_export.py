"""The comparison's first pass and its command, on tiny sets."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import export as export_module
from benchmarks.cached import CachedBackbone
from benchmarks.datasets import tiny
from benchmarks.evaluate import evaluate
from benchmarks.exhibits import exhibits
from benchmarks.export import export
from benchmarks.plan import Plan
from benchmarks.records import MixedConfigurations, read_records
from embeddings import fake_embedder
from embeddings.backbones import Backbone


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_tiny(tmp_path_factory.mktemp("data"))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Backbone:
    backbone = fake_embedder()._backbone
    monkeypatch.setattr(export_module, "open_backbone", lambda *_, **__: backbone)
    return backbone


def plan(data: Path, *sets: str, **options: object) -> Plan:
    return Plan(data, sets, **({"shots": (1, 2), "seeds": (0, 1)} | options))  # type: ignore[arg-type]


@pytest.mark.usefixtures("fake")
def test_every_query_of_the_plan_is_answered_once_and_the_same_again(
    data: Path, tmp_path: Path
) -> None:
    asked = plan(data, "cookies", "deeppcb")
    paths = [export(name, asked, tmp_path) for name in ("difference", "patchcore")]
    records = read_records(paths)
    wanted = {
        (s.dataset, s.shots, s.seed, s.product_id, q.sample_id)
        for s in asked.splits()
        for q in s.queries
    }
    for name in ("difference", "patchcore"):
        assert {row.query for row in records.rows if row.scorer == name} == wanted
    evaluation = evaluate(records, champion="patchcore")
    cookies = [r for r in evaluation.results if r.dataset == "cookies"]
    assert {(r.scorer, r.shots) for r in cookies} == {
        (name, shots) for name in ("difference", "patchcore") for shots in (1, 2)
    }
    again = read_records([export("difference", asked, tmp_path / "again")])
    scores = {row.query: row.score for row in records.rows if row.scorer == "difference"}
    assert {row.query: row.score for row in again.rows} == scores


@pytest.mark.usefixtures("fake")
def test_boxes_are_measured_from_heat_for_scorers_without_regions(
    data: Path, tmp_path: Path
) -> None:
    records = read_records([export("difference", plan(data, "deeppcb"), tmp_path)])
    (result,) = evaluate(records, champion="difference").results
    assert result.shots == 1  # a template each, whatever was asked for
    assert result.seeds == (0,)
    # Three of the five boxes hold a dark patch on plain ground, the others nothing.
    assert result.figures["box_recall_at_half_false"].mean == pytest.approx(3 / 5)
    assert "box_recall" not in result.figures


@pytest.mark.usefixtures("fake")
def test_runs_with_other_limits_stand_in_no_table_together(data: Path, tmp_path: Path) -> None:
    whole = export("chance", plan(data, "cookies"), tmp_path / "a")
    part = export("difference", plan(data, "cookies", limit=4), tmp_path / "b")
    with pytest.raises(MixedConfigurations, match="limit"):
        read_records([whole, part])


def test_a_plan_and_its_arguments_say_the_same(data: Path) -> None:
    asked = plan(data, "cookies", limit=3)
    assert asked.arguments()[:2] == ["--data", str(data)]
    assert str(data) not in asked.shown()
    assert "--limit 3" in asked.shown()
    assert "--limit" not in plan(data, "cookies").shown()


def test_our_scorers_run_on_weights_of_ones_own_and_peers_refuse_them(
    data: Path, tmp_path: Path
) -> None:
    timm, safetensors = pytest.importorskip("timm"), pytest.importorskip("safetensors.torch")
    file = tmp_path / "v.safetensors"
    safetensors.save_file(timm.create_model("test_vit", num_classes=0).state_dict(), file)
    asked = plan(data, "cookies", shots=(1,), seeds=(0,), limit=2, weights=f"test_vit@{file}")
    assert "--weights test_vit@v.safetensors" in asked.shown()
    assert str(tmp_path) not in asked.shown().replace(str(data), "")
    for name in ("anomalydino", "rad"):
        records = read_records([export(name, asked, tmp_path)])
        assert len(records.rows) == 2
        assert all(np.isfinite(row.score) for row in records.rows)
    with pytest.raises(SystemExit, match="would compare unlike things"):
        export("anomalib-patchcore", asked, tmp_path)


def test_the_cache_gives_the_same_features_and_remembers_what_they_took(
    fake: Backbone, tmp_path: Path
) -> None:
    batch = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), np.uint8)
    cached = CachedBackbone(fake, tmp_path)
    first, second = cached.extract(batch), cached.extract(batch)
    plain = fake.extract(batch)
    for found in (first, second):
        for one, other in zip(found.layers, plain.layers, strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(found.last, plain.last)
    assert len(list(tmp_path.rglob("*.npz"))) == 1
    cached.extract(batch[:, :, ::-1].copy())
    assert len(list(tmp_path.rglob("*.npz"))) == 2  # another picture


@pytest.mark.usefixtures("fake")
def test_exhibits_are_thumbnails_of_the_first_seed(data: Path, tmp_path: Path) -> None:
    asked = plan(data, "cookies")
    records = read_records([export("difference", asked, tmp_path)])
    shown = exhibits(records, asked, scorer="difference")
    assert {one.query.record.seed for one in shown} <= {0}
    for one in shown:
        assert max(Image.open(io.BytesIO(one.jpeg)).size) <= 320


def test_the_command_compares_and_says_what_it_leaves_out(data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--data", str(data), "--limit", "6"]
    out = tmp_path / "runs"
    done = subprocess.run(
        [*command, "--sets", "cookies", "--scorers", "difference", "chance", "--out", str(out)],
        capture_output=True, text=True, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "cookies: 6 queries" in done.stdout
    summary = json.loads((out / "summary.json").read_text("utf-8"))
    assert {one["scorer"] for one in summary["results"]} == {"chance", "difference"}
    assert "<html" in (out / "report.html").read_text("utf-8")
    before = (out / "difference.parquet").read_bytes()
    again = subprocess.run(
        [*command, "--sets", "cookies", "--scorers", "difference", "chance",
         "--reuse", "difference", "--out", str(out)],
        capture_output=True, text=True, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert (out / "difference.parquet").read_bytes() == before
    absent = subprocess.run(
        [*command, "--sets", "cookies", "--scorers", "ssim", "--reuse", "ssim", "--out", str(out)],
        capture_output=True, text=True, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert "nothing to reuse" in absent.stderr
    environment = {"PATH": "", "PYTHONPATH": str(Path(__file__).parent.parent)}
    refused = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--sets", "cookies", "--out", str(out)],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert refused.returncode == 1
    assert "set AMISS_DATA" in refused.stderr
