"""Peers: the process, its protocol and scorers on top; a small program stands in for anomalib."""

from __future__ import annotations

import gc
import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anomaly.scorers import Model, NoReferences, NotAPicture, Scorer
from benchmarks.peers import errors, open_peers, worker
from benchmarks.peers.environment import Environment
from benchmarks.peers.scorer import PeerScorer, check_features
from benchmarks.peers.worker import Worker
from embeddings.backbones import Features
from embeddings.images import Pixels

# --- a worker that needs numpy only ---------------------------------------------------------------
# Score: mean absolute difference to the references' mean. `mood` makes it misbehave on `score`.
FAKE = """
import json, os, sys, time
import numpy as np
mood = sys.argv[1]
say = lambda value: print(json.dumps(value), flush=True)
if mood == "stillborn":
    sys.exit("ImportError: no module named anomalib")
say({"ready": True} if mood != "unready" else {"hello": 1})
models = {}
for line in sys.stdin:
    ask = json.loads(line)
    for gone in ask["forget"]:
        models.pop(gone, None)
    reply = {"id": ask["id"], "peak_memory_mib": 10.0 + ask["id"]}
    if ask["do"] == "fit":
        references = [np.load(p).astype(float) for p in ask["references"]]
        models[ask["model"]] = np.mean(references, axis=0)
        reply |= {"models": sorted(models), "asked": ask, "threads": sys.argv[2:]}
    elif ask["do"] == "features":
        for stride, path in zip((8, 16), ask["features"]):
            np.save(path, np.load(ask["query"])[::stride, ::stride].astype(np.float32))
    elif ask["model"] not in models:
        reply["error"] = {"type": "LookupError", "message": "no model " + ask["model"]}
    elif mood == "die":
        sys.exit("out of memory")
    elif mood == "garble":
        print("Selecting Coreset Indices", flush=True)
    elif mood == "list":
        say([1])
    elif mood == "sleep":
        time.sleep(60)
    elif mood == "raise":
        reply["error"] = {"type": "RuntimeError", "message": "shapes"}
    elif mood == "other":
        reply["id"] = 99
    elif mood == "empty":
        pass
    else:
        off = np.abs(np.load(ask["query"]) - models[ask["model"]]).mean(axis=2)
        if mood != "blind":
            np.save(ask["heat"], off)
        reply |= {"score": float(off.mean()) if mood != "nan" else float("nan")}
        reply |= {"timings_ms": {"prepare": 1, "embed": 2.5, "match": 3}}
    say(reply)
"""
NAME = "anomalib-patchcore"
HERE = Environment(Path("nowhere"), Path(sys.executable), {"anomalib": "2.7.0"})


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    program, opened = tmp_path / "fake.py", list[Worker]()
    program.write_text(FAKE, "utf-8")

    def open_one(mood: str = "well", **limits: Any) -> Worker:
        opened.append(Worker([sys.executable, "-I", str(program), mood], **limits))
        return opened[-1]

    yield open_one
    for one in opened:
        folder = one.folder
        one.close()
        one.close()
        assert not folder.exists()


def flat(value: int, *, side: int = 8) -> Pixels:
    return np.full((side, side, 3), value, np.uint8)


# --- scorers --------------------------------------------------------------------------------------
def test_a_peer_is_a_scorer_and_its_answer_arrives_unchanged(start: Callable[..., Worker]) -> None:
    peer: Scorer = PeerScorer(NAME, HERE, worker=start())
    model: Model = peer.fit([flat(10), flat(30)], seed=0)
    query = flat(20)
    query[:, 4:] = 26
    result = model.score(query)
    assert result.score == pytest.approx(3.0)
    assert result.heat is not None
    assert result.heat.dtype == np.float32
    np.testing.assert_array_equal(result.heat[0], [0, 0, 0, 0, 6, 6, 6, 6])
    assert result.timings_ms == {"prepare": 1.0, "embed": 2.5, "match": 3.0}


def test_one_process_serves_several_peers_and_models(start: Callable[..., Worker]) -> None:
    process = start()
    dark = PeerScorer(NAME, HERE, worker=process).fit([flat(0)], seed=0)
    light = PeerScorer("anomalib-patchcore-coreset", HERE, worker=process).fit([flat(90)], seed=1)
    queries = [flat(0), flat(30)]
    assert [s.score for s in dark.score_many(queries)] == [0.0, 30.0]
    assert [s.score for s in light.score_many(iter(queries))] == [90.0, 60.0]
    assert list(light.score_many([])) == []
    assert not list(process.folder.glob("*.npy")), "exchanged arrays are removed"


def test_the_worker_is_told_seed_and_the_weights_and_scaling_that_ours_has(
    start: Callable[..., Worker],
) -> None:
    process = start()
    asked: list[dict[str, Any]] = []
    whole = process.ask

    def listen(do: str, **fields: Any) -> dict[str, Any]:
        asked.append({"do": do, **fields})
        return whole(do, **fields)

    process.ask = listen  # type: ignore[method-assign]
    peer = PeerScorer("anomalib-patchcore-coreset", HERE, worker=process)
    peer.fit([flat(0)], seed=7)
    assert asked[0]["seed"] == 7
    assert asked[0]["peer"] == "patchcore"
    assert asked[0]["settings"] == peer.settings
    assert json.loads(json.dumps(peer.settings)) == peer.settings
    assert (peer.settings["coreset_ratio"], peer.settings["size_px"]) == (0.1, 448)
    assert peer.settings["layers"] == ["blocks.2", "blocks.4"]
    assert (peer.settings["mean"], peer.settings["std"]) == ([127.0] * 3, [128.0] * 3)
    assert peer.versions == {"anomalib": "2.7.0"}


def test_models_are_forgotten_there_once_they_are_gone_here(start: Callable[..., Worker]) -> None:
    process = start()
    peer = PeerScorer(NAME, HERE, worker=process)
    first = peer.fit([flat(0)], seed=0)
    kept = peer.fit([flat(50)], seed=0)
    fields: dict[str, Any] = {"references": [], "settings": {}}
    assert len(process.ask("fit", model="x", **fields)["models"]) == 3
    del first
    gc.collect()
    assert len(process.ask("fit", model="y", **fields)["models"]) == 3  # first left, y came
    assert kept.score(flat(50)).score == 0.0
    assert peer.peak_memory_mib == 10.0 + 5  # of the fifth answer, the largest


def test_pictures_that_are_none_and_too_few_references_are_refused(
    start: Callable[..., Worker],
) -> None:
    process = start()
    peer = PeerScorer(NAME, HERE, worker=process)
    with pytest.raises(NoReferences):
        peer.fit([], seed=0)
    with pytest.raises(NotAPicture):
        peer.fit([flat(0).astype(np.float32)], seed=0)
    with pytest.raises(NotAPicture):
        peer.fit([flat(0)], seed=0).score(flat(0)[:, :, 0])
    with pytest.raises(errors.TooFewReferences, match="got 1 references, needs at least 2"):
        PeerScorer("anomalib-padim", HERE, worker=process).fit([flat(0)], seed=0)
    with pytest.raises(errors.UnknownPeer, match="anomalib-padim"):
        PeerScorer("patchcore", HERE)


def test_threads_reach_the_worker(start: Callable[..., Worker]) -> None:
    answer = start(threads=2).ask("fit", model="m", references=[], settings={})
    assert answer["threads"] == ["--threads", "2"]


def test_peers_opened_together_share_a_process_that_ends_with_the_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "fake.py"
    program.write_text(FAKE.replace("sys.argv[1]", "'well'"), "utf-8")
    monkeypatch.setattr(worker, "WORKER", program)
    with open_peers([NAME, "anomalib-padim"], environment=HERE) as peers:
        assert [peer.name for peer in peers] == [NAME, "anomalib-padim"]
        model = peers[1].fit([flat(1), flat(3)], seed=0)
        assert model.score(flat(2)).score == 0.0
    with pytest.raises(errors.WorkerDied, match="closed"):
        model.score(flat(2))
    alone = PeerScorer(NAME, HERE)
    assert alone.fit([flat(5)], seed=0).score(flat(5)).score == 0.0
    alone.close()


class Strided:
    """A `Backbone` whose features are the pixels that the fake worker gives, times `factor`."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def extract(self, batch: Pixels) -> Features:
        maps = [(self.factor * batch[:, ::s, ::s]).astype(np.float32) for s in (8, 16)]
        return Features(tuple(maps), maps[-1])


def test_features_that_are_not_ours_are_noticed(start: Callable[..., Worker]) -> None:
    peer = PeerScorer(NAME, HERE, worker=start())
    assert check_features(peer, Strided(1.0)) == 0.0  # type: ignore[arg-type]
    with pytest.raises(errors.FeaturesDiffer, match="other weights"):
        check_features(peer, Strided(0.99))  # type: ignore[arg-type]


# --- the process ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("mood", "raised", "says"),
    [
        ("die", errors.WorkerDied, r"ended \(1\): out of memory"),
        ("garble", errors.WorkerGarbled, "Selecting Coreset"),
        ("list", errors.WorkerGarbled, r"said '\[1\]"),
        ("sleep", errors.WorkerSilent, "no answer in 1 s"),
        ("raise", errors.PeerFailed, "score: RuntimeError: shapes"),
        ("other", errors.WorkerGarbled, "answered 99 to question"),
        ("empty", errors.WorkerGarbled, "without score"),
        ("blind", errors.WorkerGarbled, "array can't be read"),
        ("nan", errors.PeerFailed, "score is nan"),
    ],
)
def test_what_goes_wrong_over_there_is_a_typed_error(
    start: Callable[..., Worker], mood: str, raised: type[Exception], says: str
) -> None:
    peer = PeerScorer(NAME, HERE, worker=start(mood, answer_s=1.0))
    model = peer.fit([flat(0)], seed=0)
    with pytest.raises(raised, match=says):
        model.score(flat(0))
    peer.fit([flat(0)], seed=0)  # whatever happened, the next fit finds a process that answers


@pytest.mark.parametrize(
    ("mood", "says"), [("stillborn", "no module named anomalib"), ("unready", "begin with ready")]
)
def test_a_process_that_does_not_come_up(
    start: Callable[..., Worker], mood: str, says: str
) -> None:
    with pytest.raises(errors.PeersError, match=says):
        PeerScorer(NAME, HERE, worker=start(mood)).fit([flat(0)], seed=0)


def test_a_python_that_is_not_there() -> None:
    with (
        Worker(["no-such-python"]) as nobody,
        pytest.raises(errors.WorkerDied, match="can't be started"),
    ):
        nobody.ask("fit")


def test_a_model_of_a_process_that_ended_says_so(start: Callable[..., Worker]) -> None:
    process = start("die")
    peer = PeerScorer(NAME, HERE, worker=process)
    model = peer.fit([flat(0)], seed=0)
    with pytest.raises(errors.WorkerDied):
        model.score(flat(0))
    with pytest.raises(errors.PeerFailed, match="no model"):
        model.score(flat(0))


def test_questions_of_several_threads_get_their_own_answers(start: Callable[..., Worker]) -> None:
    model = PeerScorer(NAME, HERE, worker=start()).fit([flat(0)], seed=0)
    wrong: list[tuple[int, float]] = []

    def ask(value: int) -> None:
        for _ in range(5):
            if (found := model.score(flat(value)).score) != value:
                wrong.append((value, found))

    threads = [threading.Thread(target=ask, args=(value,)) for value in (3, 60, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
