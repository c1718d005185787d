"""The package from outside: the real command, what importing it loads, the README's Python."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from block_pictures import write_references

import anomaly.builder  # noqa: F401
from anomaly.results import Verdict
from embeddings import fake_embedder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_references(tmp_path / "references")


def test_the_real_thing_end_to_end_in_processes_of_their_own(source: Path, tmp_path: Path) -> None:
    """Shipped weights, real subprocesses; the content digest repeats in another process."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}

    def amiss(*words: str | Path) -> list[dict[str, object]]:
        done = subprocess.run(
            [sys.executable, "-m", "anomaly.cli", *map(str, words), "--json"],
            capture_output=True, text=True, env=environment, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    digests = []
    for name, threads in (("a", "1"), ("b", "2")):
        (built,) = amiss("build", source, tmp_path / name, "--size", "128", "--threads", threads)
        digests.append(built["content_digest"])
    assert digests[0] == digests[1]
    query = source / "product 2" / "0.png"
    (found,) = amiss("identify", tmp_path / "a", query)
    assert found["candidates"][0]["product_id"] == "product 2"  # type: ignore[index]


def test_importing_anomaly_is_quick_and_loads_no_network_library() -> None:
    program = (
        "import time; start = time.perf_counter(); import anomaly; "
        "seconds = time.perf_counter() - start; import sys; "
        "heavy = {'torch', 'timm', 'faiss', 'pyarrow'} & set(sys.modules); print(seconds, heavy)"
    )
    runs = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        for _ in range(5)
    ]
    seconds = min(float(run.stdout.split()[0]) for run in runs)
    assert all(run.stdout.split()[1] == "set()" for run in runs), runs[0].stdout
    assert seconds <= 0.3


def test_what_the_package_exports_is_there_whatever_was_imported_first() -> None:
    program = (
        "import anomaly.builder, anomaly.cli, anomaly; "
        "found = {n: getattr(anomaly, n) for n in anomaly.__all__}; "
        "assert set(found) <= set(dir(anomaly)); "
        "import types; assert not any(isinstance(v, types.ModuleType) for v in found.values())"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        sys.modules["anomaly"].nothing  # noqa: B018


def test_the_readmes_python_runs_as_it_stands(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
    snippet = readme.partition("```python\n")[2].partition("```")[0]
    monkeypatch.setattr(
        sys.modules["anomaly.builder"],
        "open_embedder",
        lambda backbone, *, size_px, device: fake_embedder(size_px=size_px),
    )
    monkeypatch.chdir(tmp_path)
    (source / "product 2").rename(source / "razor-3")
    for name in ("query.jpg", "another.jpg"):
        shutil.copy(source / "razor-3" / "1.png", tmp_path / name)
    exec(compile(snippet, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    verdict = lines[0].split()[0]
    assert verdict in get_args(Verdict)
    assert lines[-2:] == [f"query.jpg {verdict}", f"another.jpg {verdict}"]
