"""One pass of the network, the yardstick of costs: batch 1, a picture as it is embedded.

    plain   the network as timm runs it, which is what peers on the same weights pay
    own     as Amiss runs it: norms folded (`embeddings.folded`), channels last

Multiples of `plain` compare from one version to the next; `own` says what is left to gain.
"""

from __future__ import annotations

import time

from embeddings import Embedder, Pixels
from embeddings.backbones import LITE0, Backbone, TimmBackbone, _load_lite0
from embeddings.embedder import _pad
from embeddings.images import fit_longest_side


class Passes:
    """Times passes of an embedder's network. Final. Raises `ValueError` if it is not the default
    one on a CPU: another has no plain counterpart here."""

    def __init__(self, embedder: Embedder) -> None:
        if embedder._backbone.spec != LITE0 or embedder._backbone.device_class != "cpu":
            raise ValueError(
                f"expected {LITE0.model} on a CPU; hide CUDA devices from this process"
            )
        self._size_px = embedder.size_px
        plain = TimmBackbone(LITE0.model, LITE0, "cpu", _load_lite0())
        plain._placed = True  # its layout stays timm's
        self._backbones: dict[str, Backbone] = {"plain": plain, "own": embedder._backbone}

    def __call__(self, image: Pixels) -> dict[str, float]:
        """Milliseconds of one pass over an (H, W, 3) uint8 RGB picture, by name."""
        padded = _pad(fit_longest_side(image, self._size_px), LITE0.pad_multiple)[None]
        return {name: _timed(backbone, padded) for name, backbone in self._backbones.items()}


def _timed(backbone: Backbone, batch: Pixels) -> float:
    start = time.perf_counter()
    backbone.extract(batch)
    return 1000 * (time.perf_counter() - start)
