"""A fault at every system call by which import, rebuild, publish, rollback and prune change the
disk: what was published serves, nothing in the catalog is lost, the next run completes, and its
content is that of a life without faults.

A killed process's writes survive it, so kills say nothing of fsync; the order of syncs and renames
is tested by itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from gallery_stages import (
    STAGES,
    Undisturbed,
    live,
    prepare,
    prune_on_a_full_disk,
    trial,
    trials,
)
from system_calls import available, unsynced

REASON = available()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))


@pytest.fixture(scope="module")
def laboratory() -> Iterator[ProcessPoolExecutor]:
    """Processes that have nothing running, so that they can be forked."""
    with ProcessPoolExecutor(
        len(os.sched_getaffinity(0)), mp_context=get_context("spawn"), initializer=prepare
    ) as pool:
        yield pool


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def life(laboratory: ProcessPoolExecutor, home: Path) -> Undisturbed:
    return laboratory.submit(live, home).result()


def test_the_stages_write_what_the_trials_disturb(life: Undisturbed) -> None:
    """Each library's writes are among the calls: a trial of nothing would pass."""
    seen = {str(call).split("/")[-1].rstrip(")") for calls in life.calls.values() for call in calls}
    for name in ("data.mdb", "vectors.npy", "index.faiss", "products.parquet", "journal.jsonl"):
        assert name in seen, sorted(seen)
    for stage, calls in life.calls.items():
        assert any(call.syncs for call in calls), stage
    for stage in ("import", "build", "rebuild", "roll back", "publish", "prune"):
        assert any(call.renames for call in life.calls[stage]), stage
    assert len({*life.rebuilt.values()}) == 3  # after each change of the catalog
    assert len({*life.answers.values()}) == 3


@pytest.mark.parametrize("stage", STAGES)
def test_everything_is_on_the_disk_before_it_gets_its_name_and_before_a_stage_ends(
    life: Undisturbed, stage: str
) -> None:
    assert list(unsynced(life.calls[stage])) == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_fault_at_any_call_loses_nothing_and_the_next_run_completes(
    laboratory: ProcessPoolExecutor, home: Path, life: Undisturbed, stage: str
) -> None:
    tried = [
        laboratory.submit(trial, home, life, stage, number, fault)
        for number, fault in trials(life.calls[stage])
    ]
    wrong = [line for done in tried for line in done.result()]
    assert wrong == [], f"{len(wrong)} in {len(tried)} trials; " + "\n".join(wrong[:40])


def test_a_full_disk_can_be_pruned(
    laboratory: ProcessPoolExecutor, home: Path, life: Undisturbed
) -> None:
    assert laboratory.submit(prune_on_a_full_disk, home).result() == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_read_only_folder_is_an_error_of_ours(
    laboratory: ProcessPoolExecutor, home: Path, life: Undisturbed, stage: str
) -> None:
    """EROFS for every call: modes would not stop root."""
    assert laboratory.submit(trial, home, life, stage, 0, "read-only").result() == []
