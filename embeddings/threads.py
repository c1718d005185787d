"""How many threads numerical libraries work with in this process; nothing sets it at import."""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

import cv2


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
