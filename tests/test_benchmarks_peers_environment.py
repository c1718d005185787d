"""Peers: their environment's folder, and the real worker with a stand-in for anomalib's classes."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.peers import environment as environments
from benchmarks.peers import errors, prepare_environment, scorer
from benchmarks.peers.environment import Environment
from benchmarks.peers.scorer import PEERS, PeerScorer, check_features
from benchmarks.peers.worker import Worker
from embeddings import open_backbone

NAME = "anomalib-patchcore"
HERE = Environment(Path("nowhere"), Path(sys.executable), {"anomalib": "2.7.0"})


# --- the environment ------------------------------------------------------------------------------
class Installer:
    """Stands in for pip: makes what looks like an environment, counts how often."""

    def __init__(self) -> None:
        self.calls = 0
        self.fails = False

    def __call__(self, env: Path, requirements: Sequence[str], log: Path) -> Mapping[str, str]:
        self.calls += 1
        (env / "bin").mkdir(parents=True, exist_ok=True)
        if self.fails:
            raise errors.SetUpFailed("pip ended with 1: no registry")
        (env / "bin" / "python").touch()
        return {"anomalib": f"2.7.{self.calls}", "torch": "2.15.0", "attrs": "26.1.0"}


def prepare(folder: Path, install: Installer, **options: Any) -> Environment:
    return prepare_environment(folder, install=install, say=lambda line: None, **options)


def test_the_environment_is_made_once_and_used_again(tmp_path: Path) -> None:
    install, folder = Installer(), tmp_path / "cache" / "peers"
    made = prepare(folder, install)
    assert made.python == folder / "env" / "bin" / "python"
    assert made.versions["anomalib"] == "2.7.1"
    assert "attrs" not in made.versions
    assert prepare(folder, install) == made
    assert install.calls == 1
    record = json.loads((folder / "environment.json").read_text("utf-8"))
    assert record["requirements"] == list(environments.REQUIREMENTS)
    assert record["versions"]["attrs"] == "26.1.0"


def test_it_is_made_anew_when_it_no_longer_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install = Installer()
    prepare(tmp_path, install)
    assert prepare(tmp_path, install, requirements=["anomalib==2.8.0"]).versions["anomalib"] == (
        "2.7.2"
    )
    assert prepare(tmp_path, install, requirements=["anomalib==2.8.0"], refresh=True)
    assert install.calls == 3
    (tmp_path / "env" / "bin" / "python").unlink()
    prepare(tmp_path, install, requirements=["anomalib==2.8.0"])
    assert install.calls == 4
    monkeypatch.setattr(environments, "_our_python", lambda: "3.99")
    prepare(tmp_path, install, requirements=["anomalib==2.8.0"])
    assert install.calls == 5


def test_a_set_up_that_failed_is_made_anew(tmp_path: Path) -> None:
    install = Installer()
    install.fails = True
    with pytest.raises(errors.SetUpFailed, match="no registry"):
        prepare(tmp_path, install)
    install.fails = False
    assert prepare(tmp_path, install).versions["torch"] == "2.15.0"
    assert install.calls == 2


@pytest.mark.parametrize(
    "files",
    [{"notes.txt": "mine"}, {"environment.json": "{}"}, {"environment.json": "["}, {"env/x": ""}],
)
def test_a_folder_with_anything_else_in_it_is_left_alone(
    tmp_path: Path, files: dict[str, str]
) -> None:
    install = Installer()
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(errors.ForeignFolder, match="set AMISS_PEERS"):
        prepare(tmp_path, install)
    assert install.calls == 0
    assert all((tmp_path / name).read_text("utf-8") == text for name, text in files.items())


def test_a_folder_that_can_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(errors.SetUpFailed, match="set AMISS_PEERS"):
        prepare(tmp_path / "file" / "peers", Installer())


def test_a_second_set_up_waits_for_the_first(tmp_path: Path) -> None:
    began, said = threading.Event(), list[str]()
    release = threading.Event()

    class Slow(Installer):
        def __call__(self, *args: Any) -> Mapping[str, str]:
            began.set()
            assert release.wait(10)
            return super().__call__(*args)

    install = Slow()
    first = threading.Thread(target=prepare, args=(tmp_path, install))
    first.start()
    assert began.wait(10)

    def say(line: str) -> None:
        said.append(line)
        release.set()

    prepare_environment(tmp_path, install=install, say=say)
    first.join()
    assert install.calls == 1
    assert "waiting" in said[0]


def test_the_folder_is_the_users_choice_or_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMISS_PEERS", str(tmp_path / "mine"))
    assert environments.default_folder() == tmp_path / "mine"
    monkeypatch.delenv("AMISS_PEERS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert environments.default_folder() == tmp_path / "amiss" / "peers"


def test_too_little_room_is_said_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "_NEEDED_BYTES", 10**18)
    with pytest.raises(errors.SetUpFailed, match="GB free; setting the peers up"):
        prepare_environment(tmp_path, say=lambda line: None)
    assert not (tmp_path / "env").exists()


def test_a_command_that_fails_is_told_by_its_last_words(tmp_path: Path) -> None:
    log = tmp_path / "install.log"
    program = "print('ERROR: No matching distribution'); print('bye'); raise SystemExit(3)"
    with pytest.raises(errors.SetUpFailed, match=r"ended with 3: ERROR: No matching .*install.log"):
        environments.run_logged([sys.executable, "-c", program], log)
    assert "bye" in log.read_text("utf-8")
    assert environments.run_logged([sys.executable, "-c", "print('[]')"], log) == "[]\n"
    with pytest.raises(errors.SetUpFailed, match="no-such-program"):
        environments.run_logged(["no-such-program"], log)


# --- the real worker, with a stand-in for anomalib's classes --------------------------------------
ANOMALIB = """
import timm, torch
from types import SimpleNamespace
print("a library that prints when it is imported")

class Extractor(torch.nn.Module):
    def __init__(self, network, layers):
        super().__init__()
        self.layers = layers
        self.feature_extractor = timm.create_model(
            network, pretrained=False, features_only=True, exportable=True, out_indices=[2, 3])
    def forward(self, x):
        return dict(zip(self.layers, self.feature_extractor(x)))

class PatchcoreModel(torch.nn.Module):
    def __init__(self, layers, backbone, pre_trained, num_neighbors):
        super().__init__()
        assert not pre_trained
        self.layers, self.embedding_store = layers, []
        self.feature_extractor = Extractor(backbone, layers).eval()
    def forward(self, x):
        fine = self.feature_extractor(x)[self.layers[0]]
        rows = fine.permute(0, 2, 3, 1).flatten(0, 2)
        if self.training:
            self.embedding_store.append(rows)
            return
        assert not self.feature_extractor.feature_extractor.training
        off = torch.cdist(rows, self.memory_bank).amin(1).reshape(1, 1, *fine.shape[2:])
        return SimpleNamespace(pred_score=off.amax()[None], anomaly_map=off)
    def subsample_embedding(self, ratio):
        raise RuntimeError(f"a coreset of {ratio}")
    def train(self, mode=True):
        super().train(mode)
        self.feature_extractor.eval()
        return self
"""


@pytest.fixture
def real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    image = tmp_path / "anomalib" / "models" / "image"
    for name, text in (("patchcore", ANOMALIB), ("padim", "class PadimModel: pass")):
        (image / name).mkdir(parents=True)
        (image / name / "torch_model.py").write_text(text, "utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Worker([sys.executable, str(environments.WORKER)], threads=1) as process:
        yield process


def test_the_worker_loads_our_weights_and_scales_pictures_as_we_do(real: Worker) -> None:
    peer = PeerScorer(NAME, HERE, worker=real)
    assert check_features(peer, open_backbone(device="cpu")) < 1e-5
    rng = np.random.default_rng(0)
    reference = rng.integers(0, 256, (60, 80, 3), np.uint8)
    model = peer.fit([reference], seed=0)
    same = model.score(reference)
    torn = reference.copy()
    torn[20:40, 20:50] = 0
    result = model.score(torn)
    assert result.score > 10
    # cdist by products: zero but for rounding, which grows with the features' length and differs
    # between processors.
    assert 0 <= same.score < 0.01 * result.score
    assert result.heat is not None
    assert result.heat.shape == (56, 56)
    row, column = np.unravel_index(result.heat.argmax(), result.heat.shape)
    assert (16 < row < 40, 12 < column < 37) == (True, True)
    assert set(result.timings_ms) == {"prepare", "embed", "match"}
    assert min(result.timings_ms.values()) > 0
    with pytest.raises(errors.PeerFailed, match=r"RuntimeError: a coreset of 0\.1"):
        PeerScorer("anomalib-patchcore-coreset", HERE, worker=real).fit([reference], seed=0)
    other = {**peer.settings, "weights_sha256": "0" * 64}
    with pytest.raises(errors.PeerFailed, match="sha256"):
        real.ask("fit", model="m", peer="patchcore", settings=other, seed=0, references=[])
    assert peer.peak_memory_mib > 100


def test_the_worker_imports_nothing_of_the_repository() -> None:
    text = environments.WORKER.read_text("utf-8")
    for package in ("benchmarks", "anomaly", "embeddings", "gallery"):
        assert f"from {package}" not in text
        assert f"import {package}" not in text
    assert all(peer.kind in text for peer in PEERS.values())
    assert scorer.SIZE_PX % 32 == 0
