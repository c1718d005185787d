"""FAISS, keyed by reference: the only file that knows faiss.

Exact inner product over unit vectors, after the gallery's common direction (`common_direction`)
is taken away from references and queries alike: what all products share tells none of them apart.
IDs are `product_no << 16 | slot`, so a product is a
contiguous range. FAISS accepts NaN, repeated IDs and damaged payloads in silence: all three are
refused here.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embeddings.patches import Floats
from gallery import durable
from gallery.errors import DamagedGallery, GalleryError, StorageError

Keys = NDArray[np.int64]
_SHRINKAGE = 4
_SETTLED = 0.02  # how far a common direction may be from what would be computed anew
_opening = threading.Lock()


def _renew_lock() -> None:
    global _opening
    _opening = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def limit_threads(count: int) -> None:
    """Let FAISS search with `count` threads from now on, in the whole process."""
    import faiss

    faiss.omp_set_num_threads(count)


@dataclass(frozen=True)
class Neighbours:
    """`keys`: (K,) int64 reference keys, nearest first. `cosine`: (K,) float32."""

    keys: Keys
    cosine: Floats


def common_direction(product_nos: Keys, vectors: Floats) -> Floats:
    """(D,) mean of the products' mean vectors, shrunk by n / (n + 4) for n products.

    (N,) product numbers of (N, D) vectors, in any order. With one product there is little to tell
    apart and next to nothing is taken away.
    """
    order = np.argsort(product_nos, kind="stable")
    numbers, starts = np.unique(product_nos[order], return_index=True)
    sums = np.add.reduceat(vectors[order].astype(np.float64), starts, axis=0)
    means = sums / np.diff(np.r_[starts, len(vectors)])[:, None]
    count = len(numbers)
    return np.asarray(means.mean(axis=0) * (count / (count + _SHRINKAGE)), dtype=np.float32)


def settled_direction(fresh: Floats, *, parent: Floats | None) -> Floats:
    """The direction that a build takes away: its parent's, unless the `fresh` one is another.

    Equal to the parent's while that is nearly right, so that a delta, an incremental and a full
    rebuild of the same content rank and score alike, and scores don't drift from day to day.
    """
    if parent is None or float(np.linalg.norm(fresh - parent)) > _SETTLED:
        return fresh
    return parent


def write_index(path: Path, keys: Keys, vectors: Floats, *, centre: Floats | None = None) -> None:
    """Write the index of (N,) keys and (N, D) unit vectors to `path` (not atomic: see `build`).

    `centre` (D,) is taken away from each vector; an `Index` must be given the same.
    """
    import faiss

    require_unit(vectors)
    if len(np.unique(keys)) != len(keys):
        raise GalleryError(f"{len(keys) - len(np.unique(keys))} reference keys occur twice")
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(vectors.shape[1]))
    index.add_with_ids(_centred(vectors, centre), keys)
    # Through a file of our own: when FAISS's last write fails (disk full), nobody is told.
    with durable.storage_errors(path), path.open("wb") as file:
        try:
            faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))
        except RuntimeError as error:
            raise StorageError(f"{path}: faiss can't write it ({error})") from error


def require_unit(vectors: Floats) -> None:
    """Raise `GalleryError` unless all (N, D) vectors are finite and of length 1 within 1e-3."""
    length = np.linalg.norm(vectors.astype(np.float64), axis=1)
    bad = np.flatnonzero(~np.isfinite(length) | (np.abs(length - 1) > 1e-3))
    if len(bad):
        raise GalleryError(
            f"{len(bad)} of {len(vectors)} vectors are not finite and of unit length; the first "
            f"is row {bad[0]} with length {length[bad[0]]}"
        )


def _centred(vectors: Floats, centre: Floats | None) -> Floats:
    moved = vectors if centre is None else vectors - centre
    length = np.linalg.norm(moved, axis=1, keepdims=True)
    # A vector that *is* the common direction has no direction left: it keeps its own.
    kept = np.where(length > 1e-6, moved / np.maximum(length, 1e-6), vectors)
    return np.ascontiguousarray(kept, np.float32)


class Index:
    """A read-only index on disk, mapped into memory. Final; searching is thread-safe."""

    def __init__(self, path: Path, sha256: str, *, centre: Floats | None = None) -> None:
        """Opens nothing; the file is mapped, and its checksum verified, at the first search."""
        self._path, self._sha256, self._centre = path, sha256, centre
        self._index: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self._path, "sha256": self._sha256, "centre": self._centre}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def search(self, vector: Floats, *, count: int) -> Neighbours:
        """The `count` nearest references to a (D,) vector, or all when there are fewer."""
        index = self._opened()
        if vector.shape != (index.d,) or not np.isfinite(vector).all():
            raise GalleryError(
                f"a query vector of shape {list(vector.shape)}; expected [{index.d}], all finite"
            )
        cosine, keys = index.search(self.centred(vector[None]), min(count, index.ntotal))
        order = np.lexsort((keys[0], -cosine[0]))  # equally near ones in the order of their keys
        return Neighbours(keys[0][order], cosine[0][order])

    def centred(self, vectors: Floats) -> Floats:
        """(N, D) unit vectors as the index compares them."""
        return _centred(vectors, self._centre)

    def __len__(self) -> int:
        return int(self._opened().ntotal)

    def keys(self) -> Keys:
        """(N,) all reference keys in stored order."""
        import faiss

        return np.asarray(faiss.vector_to_array(self._opened().id_map), dtype=np.int64)

    def _opened(self) -> Any:
        if self._index is not None:
            return self._index
        with _opening:
            if self._index is None:
                import faiss

                # A flipped byte in the payload loads without complaint: the checksum is ours.
                if durable.file_digest(self._path) != self._sha256:
                    raise DamagedGallery(
                        f"{self._path}: the index is not what was built (sha256 differs); "
                        "run `amiss check` and rebuild"
                    )
                try:
                    self._index = faiss.read_index(str(self._path), faiss.IO_FLAG_MMAP_IFC)
                except RuntimeError as error:
                    raise DamagedGallery(f"{self._path}: faiss can't read it ({error})") from error
            return self._index
