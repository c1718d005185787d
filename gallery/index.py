"""FAISS, keyed by reference: the only file that knows faiss.

Inner product over unit vectors, after the gallery's common direction (`common_direction`) is taken
away from references and queries alike: what all products share tells none of them apart. IDs are
`product_no << 16 | slot`, so a product is a contiguous range. FAISS accepts NaN, repeated IDs and
damaged payloads in silence: all three are refused here.

    flat_ip      every vector is compared: exact
    ivf_flat_ip  k-means parts the vectors into `nlist` lists; those in the `nprobe` lists nearest
                 to the query are compared (Sivic & Zisserman, ICCV 2003)

`index_choice` decides which.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from embeddings.patches import Floats
from gallery import durable
from gallery.errors import DamagedGallery, GalleryError, StorageError, UnsupportedFormat

Keys = NDArray[np.int64]
FLAT, IVF = "flat_ip", "ivf_flat_ip"
_SHRINKAGE = 4
_SETTLED = 0.02  # how far a common direction may be from what would be computed anew
_BLOCK = 1 << 16  # vectors that are centred and added at a time
_ROUNDS = 10  # of k-means
_TRAINING = 40  # vectors per list that k-means looks at; faiss asks for 39 at least
_opening = threading.Lock()


def _renew_lock() -> None:
    global _opening
    _opening = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One OpenMP thread for what this thread asks of FAISS, then the old number again: torch, which
    may share the library, takes its own from it.

    One query is one thread's work: a second one makes it slower (30 000 references: 1.3 ms alone,
    28 ms with one that must be waited for on a busy machine).
    """
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


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


def write_index(
    path: Path, keys: Keys, vectors: Floats, *, centre: Floats | None = None, lists: int = 0
) -> None:
    """Write the index of (N,) keys and (N, D) unit vectors to `path` (not atomic: see `build`).

    `centre` (D,) is taken away from each vector; an `Index` must be given the same. With `lists`
    an IVF index of so many lists, else a flat one. The same vectors give the same index: k-means is
    seeded, and on a CPU runs in one thread, as BLAS rounds differently in two.
    """
    import faiss

    require_unit(vectors)
    if len(np.unique(keys)) != len(keys):
        raise GalleryError(f"{len(keys) - len(np.unique(keys))} reference keys occur twice")
    if lists > len(keys):
        raise GalleryError(f"{lists} lists for {len(keys)} vectors; expected at most one for each")
    if lists:
        with threadpool_limits(1):
            index = _parted(keys, vectors, centre, lists)
    else:
        index = faiss.IndexIDMap2(faiss.IndexFlatIP(vectors.shape[1]))
        for block in _blocks(len(keys)):
            index.add_with_ids(_centred(vectors[block], centre), keys[block])
    # Through a file of our own: when FAISS's last write fails (disk full), nobody is told.
    with durable.storage_errors(path), path.open("wb") as file:
        try:
            faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))
        except RuntimeError as error:
            raise StorageError(f"{path}: faiss can't write it ({error})") from error


def training_device() -> str:
    """`gpu` where FAISS sees one (it is then used by `write_index`), else `cpu`."""
    import faiss

    gpus = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
    return "gpu" if gpus else "cpu"


def _parted(keys: Keys, vectors: Floats, centre: Floats | None, lists: int) -> Any:
    """An IVF index. All that is worth a GPU is finding the nearest of the lists' means: a flat
    index does that, on a GPU or not, and the index itself never leaves main memory.
    """
    import faiss

    dims = vectors.shape[1]
    assigner = faiss.IndexFlatIP(dims)
    if training_device() == "gpu":
        assigner = faiss.index_cpu_to_all_gpus(assigner)
    looked_at = np.random.default_rng(lists).permutation(len(keys))[: _TRAINING * lists]
    means = faiss.Clustering(dims, lists)
    means.niter, means.spherical, means.seed = _ROUNDS, True, 1
    means.min_points_per_centroid, means.max_points_per_centroid = 1, _TRAINING
    means.train(_centred(vectors[np.sort(looked_at)], centre), assigner)
    centroids = faiss.vector_to_array(means.centroids).reshape(lists, dims)
    assigner.reset()
    assigner.add(centroids)
    quantiser = faiss.IndexFlatIP(dims)
    quantiser.add(centroids)
    index = faiss.IndexIVFFlat(quantiser, dims, lists, faiss.METRIC_INNER_PRODUCT)
    for block in _blocks(len(keys)):
        moved = _centred(vectors[block], centre)
        nearest = assigner.search(moved, 1)[1].ravel()
        named = np.ascontiguousarray(keys[block], np.int64)
        # As faiss.contrib.ivf_tools.add_preassigned, which lets go of keys before they are read.
        pointers = [faiss.swig_ptr(array) for array in (moved, named, nearest)]
        index.add_core(len(moved), *pointers)
    return index


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, start + _BLOCK) for start in range(0, count, _BLOCK))


def require_unit(vectors: Floats) -> None:
    """Raise `GalleryError` unless all (N, D) vectors are finite and of length 1 within 1e-3."""
    length = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
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


def _ordered(keys: Keys, cosine: Floats) -> Neighbours:
    order = np.lexsort((keys, -cosine))  # equally near ones in the order of their keys
    return Neighbours(keys[order], cosine[order])


class Index:
    """A read-only index on disk, mapped into memory. Final; searching is thread-safe."""

    def __init__(
        self, path: Path, sha256: str, *, centre: Floats | None = None, probes: int | None = None
    ) -> None:
        """Opens nothing; the file is mapped, and its checksum verified, at the first search.

        `probes`: how many lists of an IVF index are searched; None for a flat one.
        """
        self._path, self._sha256, self._centre, self._probes = path, sha256, centre, probes
        self._index: Any = None
        self._ids: Any = None  # of a flat index, by row

    @classmethod
    def of_build(cls, path: Path, sha256: str, settings: Mapping[str, Any]) -> Index:
        """The index that a manifest describes: `settings` is {kind, centre[, nlist, nprobe]}.

        Raises `UnsupportedFormat` for a kind that this version doesn't know.
        """
        kind = settings["kind"]
        if kind not in (FLAT, IVF):
            raise UnsupportedFormat(
                f"{path}: an index of kind {kind!r}; this version reads {FLAT!r} and {IVF!r}; use "
                "the amiss version that wrote it, or rebuild the gallery from its catalog"
            )
        probes = int(settings["nprobe"]) if kind == IVF else None
        return cls(path, sha256, centre=np.asarray(settings["centre"], np.float32), probes=probes)

    def with_probes(self, probes: int) -> Index:
        """The same IVF index with another number of lists searched; the file is shared."""
        other = Index(self._path, self._sha256, centre=self._centre, probes=probes)
        other._index = self._opened()
        return other

    @property
    def exact(self) -> bool:
        """Whether every vector is compared."""
        return self._probes is None

    def __getstate__(self) -> dict[str, Any]:
        return {
            "path": self._path, "sha256": self._sha256, "centre": self._centre,
            "probes": self._probes,
        }  # fmt: skip

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def search(self, vector: Floats, *, count: int) -> Neighbours:
        """The `count` nearest references to a (D,) vector, or all when there are fewer.

        IVF lists that hold fewer than `count` between them (FAISS fills up with key -1) make room
        for twice as many lists, until there are enough.
        """
        index = self._opened()
        if vector.shape != (index.d,) or not np.isfinite(vector).all():
            raise GalleryError(
                f"a query vector of shape {list(vector.shape)}; expected [{index.d}], all finite"
            )
        with _one_thread():
            return self._nearest(index, vector, count)

    def _nearest(self, index: Any, vector: Floats, count: int) -> Neighbours:
        query, probes = self.centred(vector[None]), self._probes
        count = min(count, index.ntotal)
        if probes is None:
            # Not through IndexIDMap2, which translates keys in parallel: of one query, on two busy
            # cores, its threads wait 20 ms for one another at the 95th percentile.
            cosine, rows = index.index.search(query, count)
            return _ordered(self._ids[rows[0]], cosine[0])
        while True:
            cosine, keys = index.search(query, count, params=_search(probes))
            there = keys[0] >= 0
            if there.all() or probes >= index.nlist:
                return _ordered(keys[0][there], cosine[0][there])
            probes *= 2

    def scanned(self, vectors: Floats) -> float:
        """Mean share of all references that searches for (N, D) vectors compare, 0 to 1."""
        index = self._opened()
        if self._probes is None or index.ntotal == 0:
            return 1.0
        sizes = np.array([index.invlists.list_size(i) for i in range(index.nlist)])
        probed = index.quantizer.search(self.centred(vectors), min(self._probes, index.nlist))[1]
        return float(sizes[probed].sum(axis=1).mean() / index.ntotal)

    def centred(self, vectors: Floats) -> Floats:
        """(N, D) unit vectors as the index compares them."""
        return _centred(vectors, self._centre)

    def __len__(self) -> int:
        return int(self._opened().ntotal)

    def keys(self) -> Keys:
        """(N,) all reference keys in stored order."""
        import faiss

        index = self._opened()
        if self.exact:
            return np.array(self._ids, np.int64)
        found = [
            faiss.rev_swig_ptr(index.invlists.get_ids(i), index.invlists.list_size(i)).copy()
            for i in range(index.nlist)
        ]
        return np.concatenate(found).astype(np.int64)

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
                    opened = faiss.read_index(str(self._path), faiss.IO_FLAG_MMAP_IFC)
                except RuntimeError as error:
                    raise DamagedGallery(f"{self._path}: faiss can't read it ({error})") from error
                if self.exact:
                    self._ids = np.asarray(faiss.vector_to_array(opened.id_map), np.int64)
                self._index = opened  # last: others look at it without the lock
            return self._index


def _search(probes: int) -> Any:
    """Parameters of one search; `nprobe` as state of the index would be shared by threads."""
    import faiss

    return faiss.SearchParametersIVF(nprobe=probes)
