"""Everything `benchmarks.peers` can raise on purpose. A benchmark without peers goes on: it says
`peers skipped: ` and the error.

    PeersError
    ├── SetUpFailed         the environment can't be made: no registry, no disk, a broken package
    ├── ForeignFolder       the folder for the environment holds something else; left as it is
    ├── UnknownPeer         no peer of this name
    ├── TooFewReferences    fewer than a peer can learn from; a ValueError, too
    ├── PeerFailed          the peer raised; its process goes on
    ├── FeaturesDiffer      the peer's network doesn't give our features: other weights or scaling
    ├── WorkerDied          the peers' process could not start, or ended
    ├── WorkerSilent        no answer in time; the process was ended
    └── WorkerGarbled       an answer that is not the protocol's; the process was ended
"""

from __future__ import annotations


class PeersError(Exception):
    code = "peers_error"


class SetUpFailed(PeersError):
    code = "peers_set_up_failed"


class ForeignFolder(PeersError):
    code = "peers_foreign_folder"


class UnknownPeer(PeersError):
    code = "unknown_peer"


class TooFewReferences(PeersError, ValueError):
    code = "peers_too_few_references"


class PeerFailed(PeersError):
    code = "peer_failed"


class FeaturesDiffer(PeersError):
    code = "peer_features_differ"


class WorkerDied(PeersError):
    code = "peers_worker_died"


class WorkerSilent(PeersError):
    code = "peers_worker_silent"


class WorkerGarbled(PeersError):
    code = "peers_worker_garbled"
