"""anomalib's models as scorers among ours: same references, same weights, a process of their own.

    with open_peers(["anomalib-patchcore"], threads=2) as [scorer]:
        model = scorer.fit(references, seed=0)
        model.score(query)

anomalib 2.7, at its defaults but for what must be equal: the network (EfficientNet-Lite0 with the
weights that ours has, blocks.2 and blocks.4) and its input, a square of 448 px, (x - 127) / 128.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anomaly.scorers import Score
from anomaly.scorers.pictures import checked, checked_references
from benchmarks.peers.environment import Environment, prepare_environment
from benchmarks.peers.errors import (
    FeaturesDiffer,
    PeerFailed,
    TooFewReferences,
    UnknownPeer,
    WorkerGarbled,
)
from benchmarks.peers.worker import Worker, open_worker
from embeddings.backbones import LITE0, Backbone
from embeddings.images import Pixels
from embeddings.patches import Floats

SIZE_PX = 448
_CHECKED = "anomalib-patchcore"
_SAME_FEATURES = 1e-3  # versions of torch differ by some 1e-6


@dataclass(frozen=True)
class Peer:
    """kind: the model's name in the worker; least_references: with fewer it has no answer."""

    kind: str
    settings: Mapping[str, Any]
    least_references: int = 1


PEERS: Mapping[str, Peer] = {
    # Roth et al. 2022, arXiv 2106.08265. num_neighbors is anomalib's default; so is the ratio 0.1.
    "anomalib-patchcore": Peer("patchcore", {"num_neighbors": 9, "coreset_ratio": 1.0}),
    "anomalib-patchcore-coreset": Peer("patchcore", {"num_neighbors": 9, "coreset_ratio": 0.1}),
    # Defard et al. 2021, arXiv 2011.08785. 100 dims is its choice for its smallest network; the
    # covariance of one reference is 0 / 0.
    "anomalib-padim": Peer("padim", {"n_features": 100}, least_references=2),
}


class PeerScorer:
    """One peer behind the protocol of `anomaly.scorers`. Final.

    worker  the process to ask, which its opener closes; None: one of its own, started on first use
            and ended by `close`
    """

    def __init__(
        self, name: str, environment: Environment, *, worker: Worker | None = None
    ) -> None:
        if name not in PEERS:
            raise UnknownPeer(f"no peer {name!r}; there are {', '.join(PEERS)}")
        self.name, self._peer = name, PEERS[name]
        self.versions: Mapping[str, str] = dict(environment.versions)
        self._owned = worker is None
        self._worker = open_worker(environment) if worker is None else worker

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that the peer's scores depend on, as JSON."""
        return {
            "layers": list(LITE0.layers),
            "weights_sha256": LITE0.weights_sha256,
            "size_px": SIZE_PX,
            "mean": list(LITE0.mean),
            "std": list(LITE0.std),
            **self._peer.settings,
        }

    @property
    def peak_memory_mib(self) -> float:
        """Of the peers' process, with all that it did so far; 0 before the first fit."""
        return self._worker.peak_memory_mib

    def fit(self, references: Sequence[Pixels], *, seed: int) -> PeerModel:
        """Learn (H, W, 3) uint8 RGB pictures, one by one, in the order given.

        Raises `NoReferences` and `NotAPicture` as all scorers do, `TooFewReferences`, and what
        `Worker.ask` raises.
        """
        if len(checked_references(references)) < self._peer.least_references:
            raise TooFewReferences(
                f"{self.name} got {len(references)} references, needs at least "
                f"{self._peer.least_references}"
            )
        name = self._worker.new_name()
        with ExitStack() as stack:
            paths = [stack.enter_context(_lent(self._worker, pixels)) for pixels in references]
            self._worker.ask(
                "fit", model=name, peer=self._peer.kind, settings=self.settings, seed=seed,
                references=[str(path) for path in paths],
            )  # fmt: skip
        return PeerModel(name, self._worker)

    def close(self) -> None:
        """End the process, if it is this scorer's own."""
        if self._owned:
            self._worker.close()


class PeerModel:
    """A peer that knows its references; forgotten over there once it is gone here. Final."""

    def __init__(self, name: str, worker: Worker) -> None:
        self._name, self._worker = name, worker
        weakref.finalize(self, worker.forget, name)

    def score(self, query: Pixels) -> Score:
        """(H, W, 3) uint8 RGB -> the image score, and the anomaly map as (448, 448) `heat`: the
        square that the whole picture was resized to. Times are the peer's own, without the way to
        its process. Raises `NotAPicture`, and what `Worker.ask` raises."""
        with _lent(self._worker, query) as path, _lent(self._worker) as heat:
            fields = {"query": str(path), "heat": str(heat)}
            answer = self._worker.ask("score", model=self._name, **fields)
            return _score_of(answer, heat)

    def score_many(self, queries: Iterable[Pixels]) -> Iterator[Score]:
        """In order, one picture in memory at a time. The way to the process costs some
        milliseconds a picture: there is nothing to gain by sending more at once."""
        return (self.score(query) for query in queries)

    def features(self, picture: Pixels) -> tuple[Floats, ...]:
        """The maps (h, w, D) of each layer, averaged over 3x3 cells, fine to coarse."""
        with ExitStack() as stack:
            path = stack.enter_context(_lent(self._worker, picture))
            maps = [stack.enter_context(_lent(self._worker)) for _ in LITE0.layers]
            fields = {"query": str(path), "features": [str(m) for m in maps]}
            self._worker.ask("features", model=self._name, **fields)
            return tuple(_read_map(m) for m in maps)


def feature_difference(model: PeerModel, picture: Pixels, backbone: Backbone) -> float:
    """The largest difference of the peer's features to `backbone`'s, in units of the layer's
    largest feature. picture: (448, 448, 3), so that neither resizes it. Border cells are left out:
    anomalib averages them with zeros from outside, we don't."""
    theirs, ours = model.features(picture), backbone.extract(picture[None]).layers
    inner = (slice(1, -1), slice(1, -1))
    for a, b in zip(theirs, ours, strict=True):
        if a.shape != b.shape[1:]:
            raise FeaturesDiffer(f"the peer's features are {a.shape}, ours {b.shape[1:]}")
    return max(
        float(np.abs(a[inner] - b[0][inner]).max() / np.abs(b).max())
        for a, b in zip(theirs, ours, strict=True)
    )


def check_features(scorer: PeerScorer, backbone: Backbone) -> float:
    """`feature_difference` on a picture of seeded noise; `FeaturesDiffer` above 1e-3."""
    size = (SIZE_PX // 16, SIZE_PX // 16, 3)
    coarse = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    picture = coarse.repeat(16, axis=0).repeat(16, axis=1)
    difference = feature_difference(scorer.fit([picture], seed=0), picture, backbone)
    if not difference <= _SAME_FEATURES:
        raise FeaturesDiffer(
            f"{scorer.name} gives features {difference:.2g} away from ours, at most "
            f"{_SAME_FEATURES:g} expected: other weights, scaling or layers"
        )
    return difference


@contextmanager
def open_peers(
    names: Sequence[str] = tuple(PEERS),
    *,
    environment: Environment | None = None,
    threads: int | None = None,
    backbone: Backbone | None = None,
) -> Iterator[list[PeerScorer]]:
    """Peers that share one process, which ends with the block.

    environment  None: `prepare_environment()`, which installs it where it isn't
    threads      torch's, over there
    backbone     ours, which the peer's features must equal (`check_features`); None: unchecked
    """
    environment = prepare_environment() if environment is None else environment
    with open_worker(environment, threads=threads) as worker:
        scorers = [PeerScorer(name, environment, worker=worker) for name in names]
        if backbone is not None:
            check_features(PeerScorer(_CHECKED, environment, worker=worker), backbone)
        yield scorers


@contextmanager
def _lent(worker: Worker, pixels: Pixels | None = None) -> Iterator[Path]:
    """A file of the exchange folder, with `pixels` in it if there are any; removed afterwards."""
    path = worker.folder / f"{worker.new_name()}.npy"
    try:
        if pixels is not None:
            np.save(path, checked(pixels), allow_pickle=False)
        yield path
    finally:
        path.unlink(missing_ok=True)


def _score_of(answer: Mapping[str, Any], heat: Path) -> Score:
    try:
        score = float(answer["score"])
        timings = {str(stage): float(ms) for stage, ms in answer["timings_ms"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WorkerGarbled(f"an answer without score or times: {answer}") from error
    if not math.isfinite(score):
        raise PeerFailed(f"the score is {score}; expected a finite number")
    return Score(score=score, heat=_read_map(heat), timings_ms=timings)


def _read_map(path: Path) -> Floats:
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise WorkerGarbled(f"the answer's array can't be read: {error}") from error
    return np.asarray(values, np.float32)
