"""BLAS threads are held while needed and come back afterwards; work is spread over OpenCV's."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from threadpoolctl import ThreadpoolController

from embeddings.threads import each, one_blas_thread, one_opencv_thread


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


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    yield
    cv2.setNumThreads(before)


@pytest.mark.usefixtures("three_threads")
def test_each_answers_in_order_from_several_threads() -> None:
    together = threading.Barrier(3, timeout=20)

    def work(item: int) -> tuple[int, str]:
        together.wait()  # passes only if three run at a time
        return item * item, threading.current_thread().name

    answers = each(work, range(9))
    assert [square for square, _ in answers] == [item * item for item in range(9)]
    assert threading.current_thread().name not in {name for _, name in answers}


@pytest.mark.usefixtures("three_threads")
def test_each_stays_in_the_callers_thread_where_opencv_is_held_at_one() -> None:
    with one_opencv_thread:
        names = each(lambda _: threading.current_thread().name, range(4))
    assert set(names) == {threading.current_thread().name}


@pytest.mark.usefixtures("three_threads")
def test_each_raises_what_work_raises() -> None:
    with pytest.raises(ZeroDivisionError):
        each(lambda item: 1 // item, [3, 2, 1, 0])


@pytest.mark.usefixtures("three_threads")
def test_each_may_be_called_from_more_threads_than_it_has() -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda start: each(abs, range(-start, 0)), range(40)))
    assert found == [list(range(start, 0, -1)) for start in range(40)]
