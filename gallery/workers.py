"""All shards of a build: those that are there, and the others made, here or by a pool of processes.

Processes are spawned: torch, faiss and lmdb don't survive a fork. So a script that builds with
several must guard what it runs by `if __name__ == "__main__":`, as Python asks of it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from typing import Any

from embeddings.errors import EmbeddingsError
from embeddings.threads import limit_threads_here
from gallery.assemble import ShardMade, ShardTask, Tally, make_shard
from gallery.errors import GalleryError, WorkerLost
from gallery.found import Shelf, copies_lost, shard_entry
from gallery.manifest import ShardEntry
from gallery.stopwatch import busy

_LOOK_S = 0.5  # how often progress is asked for


def gather_shards(
    tasks: Sequence[ShardTask],
    *,
    anew: bool,
    workers: int,
    tally: Tally,
    told: Callable[[int], None],
) -> tuple[ShardEntry, ...]:
    """The shards of `tasks`: those that are there and sound (unless `anew`), the others made.

    What is copied from is hashed first, too. `told`: references done, found ones included.
    """
    if not tasks:
        return ()
    shelf, before = Shelf(tasks[0].root), busy.seconds()
    with busy("verify"):
        found = [None if anew else shelf.find(task.plan) for task in tasks]
        missing = []
        for task in (t for t, digest in zip(tasks, found, strict=True) if digest is None):
            source = shelf.source(task.plan, task.parent)
            if task.parent is not None and source is None:
                tally.mended += copies_lost(task.plan, task.parent)
            missing.append(replace(task, parent=source))
    tally.seconds |= busy.since(before)
    tally.shards_shared, tally.shards_damaged = len(tasks) - len(missing), shelf.damaged
    shared = sum(len(task.plan.rows) for task, d in zip(tasks, found, strict=True) if d)
    told(shared)
    made = make_shards(missing, workers=workers, told=lambda done: told(shared + done))
    entries = []
    for task, digest in zip(tasks, found, strict=True):
        if digest is None:
            one = next(made)
            tally.add(one)
            digest = one.digest
        entries.append(shard_entry(task.root, task.plan.number, digest))
    return tuple(entries)


def make_shards(
    tasks: Sequence[ShardTask], *, workers: int, told: Callable[[int], None]
) -> Iterator[ShardMade]:
    """What was made, in the order of `tasks`. `told`: references done so far, of all tasks.

    With one worker, or one task, all is done in this process. Otherwise each worker gets an equal
    share of the threads that describer and steps ask for. The first error ends it, after the
    shards that are being made are whole: the next run finds them. Raises `WorkerLost` when a
    worker is killed.
    """
    count = min(workers, len(tasks))
    if count > 1:
        yield from _pooled(tasks, count, told)
        return
    before = 0
    for task in tasks:
        made = make_shard(task, told=partial(_tell, told, before))
        before += len(task.plan.rows)
        yield made


def _tell(told: Callable[[int], None], before: int, done: int) -> None:
    told(before + done)


def _pooled(
    tasks: Sequence[ShardTask], count: int, told: Callable[[int], None]
) -> Iterator[ShardMade]:
    context = multiprocessing.get_context("spawn")
    done = context.RawArray("q", len(tasks))  # a place for each task, so no lock to die with
    pool = futures.ProcessPoolExecutor(count, context, _start, (done, count))
    try:
        jobs = [pool.submit(_make, number, task) for number, task in enumerate(tasks)]
        waiting = set(jobs)
        while waiting:
            over, waiting = futures.wait(waiting, _LOOK_S, futures.FIRST_COMPLETED)
            told(sum(done))
            for job in over:
                job.result()
        yield from (job.result() for job in jobs)
    except BrokenProcessPool as error:
        raise WorkerLost(
            f"one of {count} worker processes was killed, perhaps for memory; nothing was "
            "published and finished shards are kept: run it again, with fewer workers if it recurs"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_done: Any = None


def _start(done: Any, count: int) -> None:
    """In a new worker: its share of the threads; it ends when the process that it serves does."""
    global _done
    _done = done
    limit_threads_here(max(1, (os.cpu_count() or 1) // count))
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _make(number: int, task: ShardTask) -> ShardMade:
    def told(count: int) -> None:
        _done[number] = count

    try:
        return make_shard(task, told=told)
    except Exception as error:
        raise _portable(error) from None


def _portable(error: Exception) -> Exception:
    """The error itself if it survives the way back; else one of ours that says the same."""
    with contextlib.suppress(Exception):
        again = pickle.loads(pickle.dumps(error))
        if isinstance(error, GalleryError | EmbeddingsError) and str(again) == str(error):
            return error
    return GalleryError(f"a worker failed: {type(error).__name__}: {error}")
