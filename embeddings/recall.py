"""An embedder that is not loaded until it embeds: what it is was recorded when it was last opened.

A nightly job that finds nothing new must compare fingerprints, and for most backbones they come
from a loaded network. `recall` gives the recorded one where everything that shapes it is provably
the same: settings, the versions of torch and timm, the code of this package, the device class, and
every byte of the weights file. Any doubt (weights from a hub, a GPU that only torch can be asked
about) is None: then the embedder must be opened. When a recalled one is opened after all, what it
is must be what was recorded.

The default backbone needs none of this: its description is written in `backbones`.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cache
from importlib import metadata
from pathlib import Path

from embeddings import weights
from embeddings.backbones import (
    Backbone,
    BackboneSpec,
    Features,
    find_weights,
    knows_device,
    one_intra_op_thread,
    reopened,
)
from embeddings.embedder import Embedder, Known
from embeddings.errors import EmbeddingsError, FingerprintMismatch
from embeddings.images import Pixels

CODE = "embeddings code"
"""The name under which a build's versions hold `code_digest`."""
_SHAPERS = ("torch", "timm")


@cache
def code_digest() -> str:
    """sha256 hex over this package's source: a fingerprint is what this code makes of a network."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def recall(
    known: Known, versions: Mapping[str, str], backbone: str, *, size_px: int, device: str
) -> Embedder | None:
    """The embedder that was `known` under `versions`, unopened, if it is the same today, else None.

    `versions`: {distribution: version} and `CODE`. That backbone and size are those of `known` is
    the caller's to see to, who recorded them.
    """
    device_class = known.fingerprint.device_class
    if versions.get(CODE) != code_digest() or not knows_device(device, device_class):
        return None
    for name in _SHAPERS:
        with suppress(metadata.PackageNotFoundError):
            if metadata.version(name) == versions.get(name):
                continue
        return None
    try:
        architecture, file = find_weights(backbone)
        sha256 = weights.file_sha256(file) if file is not None else None
    except EmbeddingsError:
        return None
    if (architecture, sha256) != (known.fingerprint.model, known.fingerprint.weights_sha256):
        return None
    return Embedder(DeferredBackbone(backbone, size_px, known), size_px=size_px, known=known)


class DeferredBackbone:
    """Opens a backbone when it is needed; `FingerprintMismatch` if it isn't what was known. Final.

    Safe to share between threads; pickled by its settings.
    """

    def __init__(self, name: str, size_px: int, known: Known) -> None:
        self._name, self._size_px, self._known = name, size_px, known
        self._backbone: Backbone | None = None
        self._opening = threading.Lock()

    def __reduce__(self) -> tuple[object, ...]:
        return (DeferredBackbone, (self._name, self._size_px, self._known))

    @property
    def spec(self) -> BackboneSpec:
        return self._opened().spec

    @property
    def device_class(self) -> str:
        return self._known.fingerprint.device_class

    def extract(self, batch: Pixels) -> Features:
        return self._opened().extract(batch)

    def repeatable(self) -> AbstractContextManager[None]:
        return one_intra_op_thread if self.device_class == "cpu" else nullcontext()

    def _opened(self) -> Backbone:
        with self._opening:
            if self._backbone is None:
                opened = reopened(self._name, self.device_class)
                known = self._known.fingerprint
                found = Embedder(opened, size_px=self._size_px).fingerprint(codec=known.codec)
                if found != known:
                    raise FingerprintMismatch(
                        f"{self._name} is {found}, recorded was {known}; `amiss rebuild --full` "
                        "embeds everything anew"
                    )
                self._backbone = opened
            return self._backbone
