"""FAISS, keyed by reference: the only file that knows faiss.

Exact inner product over unit vectors. IDs are `product_no << 16 | slot`, so a product is a
contiguous range. FAISS accepts NaN, repeated IDs and damaged payloads in silence: all three are
refused here.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embeddings.patches import Floats
from gallery import durable
from gallery.errors import DamagedGallery, GalleryError

Keys = NDArray[np.int64]


@dataclass(frozen=True)
class Neighbours:
    """`keys`: (K,) int64 reference keys, nearest first. `cosine`: (K,) float32."""

    keys: Keys
    cosine: Floats


def write_index(path: Path, keys: Keys, vectors: Floats) -> None:
    """Write the index of (N,) keys and (N, D) unit vectors to `path` (not atomic: see `build`)."""
    import faiss

    require_unit(vectors)
    if len(np.unique(keys)) != len(keys):
        raise GalleryError(f"{len(keys) - len(np.unique(keys))} reference keys occur twice")
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(vectors.shape[1]))
    index.add_with_ids(np.ascontiguousarray(vectors, np.float32), keys)
    with durable.storage_errors(path):
        faiss.write_index(index, str(path))


def require_unit(vectors: Floats) -> None:
    """Raise `GalleryError` unless all (N, D) vectors are finite and of length 1 within 1e-3."""
    length = np.linalg.norm(vectors.astype(np.float64), axis=1)
    bad = np.flatnonzero(~np.isfinite(length) | (np.abs(length - 1) > 1e-3))
    if len(bad):
        raise GalleryError(
            f"{len(bad)} of {len(vectors)} vectors are not finite and of unit length; the first "
            f"is row {bad[0]} with length {length[bad[0]]}"
        )


class Index:
    """A read-only index on disk, mapped into memory. Final; searching is thread-safe."""

    def __init__(self, path: Path, sha256: str) -> None:
        """Opens nothing; the file is mapped, and its checksum verified, at the first search."""
        self._path, self._sha256 = path, sha256
        self._lock = threading.Lock()
        self._index: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_path": self._path, "_sha256": self._sha256}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_path"], state["_sha256"])  # type: ignore[misc]

    def search(self, vector: Floats, *, count: int) -> Neighbours:
        """The `count` nearest references, or all when there are fewer."""
        index = self._opened()
        query = np.ascontiguousarray(vector, np.float32).reshape(1, -1)
        if query.shape[1] != index.d or not np.isfinite(query).all():
            raise GalleryError(
                f"a query vector of {query.shape[1]} values; expected {index.d}, all finite"
            )
        cosine, keys = index.search(query, min(count, index.ntotal))
        return Neighbours(keys[0], cosine[0])

    def __len__(self) -> int:
        return int(self._opened().ntotal)

    def keys(self) -> Keys:
        """(N,) all reference keys in stored order."""
        import faiss

        return np.asarray(faiss.vector_to_array(self._opened().id_map), dtype=np.int64)

    def _opened(self) -> Any:
        with self._lock:
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
