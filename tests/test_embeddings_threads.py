"""BLAS threads are held while needed and come back afterwards."""

import threading

import cv2
import numpy as np
import pytest
from threadpoolctl import ThreadpoolController

from embeddings.threads import one_blas_thread, one_opencv_thread


def _threads() -> list[int]:
    np.ones((4, 4)) @ np.ones((4, 4))
    found = ThreadpoolController().select(internal_api="openblas").info()
    return [library["num_threads"] for library in found]


def test_blas_has_one_thread_while_anyone_needs_it_and_its_own_number_afterwards() -> None:
    before = _threads()
    if not before:
        pytest.skip("this numpy has another BLAS")
    with one_blas_thread:
        assert set(_threads()) == {1}
        with one_blas_thread:
            assert set(_threads()) == {1}
        assert set(_threads()) == {1}
    assert _threads() == before


def test_holders_in_several_threads_leave_the_number_as_it_was() -> None:
    before = _threads()
    barrier = threading.Barrier(4)

    def hold() -> None:
        for _ in range(50):
            with one_blas_thread:
                pass
        barrier.wait()

    workers = [threading.Thread(target=hold) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert _threads() == before


def test_opencv_has_one_thread_while_anyone_needs_it_and_its_own_number_afterwards() -> None:
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        with one_opencv_thread:
            with one_opencv_thread:
                assert cv2.getNumThreads() == 1
            assert cv2.getNumThreads() == 1
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)
