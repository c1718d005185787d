"""How many threads numerical libraries work with in this process; nothing sets it at import."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

import cv2

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")


def limit_threads(count: int) -> None:
    """Let torch and OpenCV use `count` threads each from now on, in the whole process."""
    import torch

    torch.set_num_threads(count)
    cv2.setNumThreads(count)


class _OneBlasThread:
    """numpy's BLAS held at one thread while anyone needs it; then the old numbers come back."""

    def __init__(self) -> None:
        self._lock, self._holders, self._held = threading.Lock(), 0, None

    def __enter__(self) -> None:
        with self._lock:
            if self._holders == 0:
                self._held = _libraries().limit(limits=1)
            self._holders += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._holders -= 1
            if self._holders == 0 and self._held is not None:
                self._held.restore_original_limits()


class _OneOpenCvThread:
    """OpenCV held at one thread while anyone needs it; then the old number comes back."""

    def __init__(self) -> None:
        self._lock, self._holders, self._before = threading.Lock(), 0, 1

    def __enter__(self) -> None:
        with self._lock:
            if self._holders == 0:
                self._before = cv2.getNumThreads()
                cv2.setNumThreads(1)
            self._holders += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._holders -= 1
            if self._holders == 0:
                cv2.setNumThreads(self._before)


one_opencv_thread = _OneOpenCvThread()
"""For work that is spread over several pictures at a time, as building is."""


@cache
def _libraries() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(internal_api="openblas")


one_blas_thread = _OneBlasThread()
"""OpenBLAS's threads wait for more work by spinning, tens of milliseconds long, and take the cores
from the network that runs next: on 2 cores everything took twice as long. Our products in numpy
are small; the large ones go through torch."""


_most: int | None = None


def limit_threads_here(count: int) -> None:
    """Make `threads_here` give `count` at most from now on: for a process that shares its cores
    with others like it."""
    global _most
    _most = count


def threads_here(wanted: int) -> int:
    """How many of `wanted` threads work should be spread over in this process."""
    return wanted if _most is None else min(wanted, _most)


def each(work: Callable[[_Item], _Answer], items: Sequence[_Item]) -> list[_Answer]:
    """[work(item) for item in items], spread over as many threads as OpenCV may use now: pictures
    of this size are too small for it to spread one of them well.

    `work` must not call `each` itself: it would wait for threads that wait for it.
    """
    if min(len(items), cv2.getNumThreads()) < 2:
        return [work(item) for item in items]
    return list(_pool(os.getpid(), cv2.getNumThreads()).map(work, items))


@cache
def _pool(process: int, count: int) -> ThreadPoolExecutor:
    """Threads don't outlive a fork: each process has its own."""
    return ThreadPoolExecutor(count, thread_name_prefix="amiss-each")
