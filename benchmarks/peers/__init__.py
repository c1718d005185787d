"""anomalib's models on our splits and weights, in an environment and a process of their own."""

from benchmarks.peers.environment import Environment, default_folder, prepare_environment
from benchmarks.peers.errors import PeersError
from benchmarks.peers.scorer import (
    PEERS,
    SIZE_PX,
    PeerModel,
    PeerScorer,
    check_features,
    open_peers,
)
from benchmarks.peers.worker import Worker, open_worker

__all__ = [
    "PEERS",
    "SIZE_PX",
    "Environment",
    "PeerModel",
    "PeerScorer",
    "PeersError",
    "Worker",
    "check_features",
    "default_folder",
    "open_peers",
    "open_worker",
    "prepare_environment",
]
