"""Shards over processes: the same content, errors that are told, work that is not lost."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embeddings import ImageError, fake_embedder
from embeddings.threads import threads_here
from gallery import EmbeddingDescriber, Gallery, Record, Reference, check, open_catalog
from gallery.assemble import ShardTask, make_shard
from gallery.errors import DamagedGallery, WorkerLost
from gallery.plan import plan_shards


class Spread:
    """A step that can be pickled; says what process it ran in. Final."""

    name = "spread"
    fingerprint = "spread/1"

    def __init__(self, *, fatal: str = "") -> None:
        self._fatal = fatal

    def __call__(self, references: Sequence[Reference]) -> Record:
        if references[0].product_id == self._fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        vectors = np.stack([r.vector for r in references])
        return Record("spread", {}, {"cosines": (vectors @ vectors.T).round(5)})


def test_two_processes_make_what_one_makes(
    tmp_path: Path, write_pictures, catalog_at, build_at, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gallery.plan.PRODUCTS_PER_SHARD", 2)
    source = write_pictures(tmp_path / "source", products=6)
    told: list[int] = []
    built = [
        build_at(
            catalog_at(tmp_path / f"g{workers}", source), workers=workers, steps=[Spread()],
            progress=lambda done, total: told.append(done),
        )
        for workers in (1, 2)
    ]  # fmt: skip
    assert built[0].tally.shards_written > 1
    assert built[0].content_digest == built[1].content_digest
    one, two = ({p.name for p in (tmp_path / n / "shards").iterdir()} for n in ("g1", "g2"))
    assert one == two
    assert (built[1].tally.embedded, built[1].tally.shards_written) == (12, len(two))
    assert {"decode", "embed", "compress", "spread", "store"} <= set(built[1].tally.seconds)
    assert told[-1] == 12
    assert check(tmp_path / "g2").sound


def test_a_killed_worker_fails_the_build_and_what_others_finished_is_found_again(
    eight: Path, build_at, counting
) -> None:
    last = max(plans(eight), key=lambda plan: plan.number).rows[-1].product_id
    with pytest.raises(WorkerLost, match="run it again"):
        build_at(eight, workers=2, steps=[Spread(fatal=last)])
    assert not (eight / "CURRENT").exists()
    kept = {p.name for p in (eight / "shards").iterdir() if not p.name.startswith(".")}
    assert kept
    report = build_at(eight, steps=[Spread()])
    assert report.published
    assert report.tally.shards_shared == len(kept)
    assert not list(eight.rglob(".partial-*"))


class Waits(Spread):
    """Says which process it runs in, and never ends."""

    def __init__(self, note: Path) -> None:
        super().__init__()
        self._note = note

    def __call__(self, references: Sequence[Reference]) -> Record:
        self._note.write_text(str(os.getpid()))
        while True:
            time.sleep(0.05)


KILLED = """
import sys; from pathlib import Path
sys.path.insert(0, sys.argv[1])
if __name__ == "__main__":
    from conftest import _build_at
    from gallery import plan
    from test_gallery_workers import Waits
    plan.PRODUCTS_PER_SHARD = 2
    _build_at(Path(sys.argv[2]), workers=2, steps=[Waits(Path(sys.argv[3]))])
"""


def test_workers_do_not_outlive_a_build_that_was_killed(
    eight: Path, build_at, tmp_path: Path
) -> None:
    script, note = tmp_path / "build.py", tmp_path / "worker"
    script.write_text(KILLED)
    tests = Path(__file__).parent
    command = [sys.executable, str(script), str(tests), str(eight), str(note)]
    job = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(tests.parent)})
    try:
        assert soon(lambda: note.is_file() and note.read_text() != "")
    finally:
        job.kill()
        job.wait(30)
    worker = Path("/proc") / note.read_text()
    assert soon(lambda: ended(worker))
    assert build_at(eight, steps=[Spread()]).published
    assert not list(eight.rglob(".partial-*"))


def ended(process: Path) -> bool:
    """Gone, or a zombie that nobody has collected yet."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def soon(true: Callable[[], bool]) -> bool:
    """Whether it becomes true within a minute."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if true():
            return True
        time.sleep(0.02)
    return False


def test_an_error_in_a_worker_is_the_error_of_the_build(
    eight: Path, build_at: Callable[..., Any], flip
) -> None:
    row = open_catalog(eight).rows()[9]
    flip(open_catalog(eight).original_path(row.image), 300)
    with pytest.raises(DamagedGallery, match=row.image):
        build_at(eight, workers=2)
    assert not (eight / "CURRENT").exists()


def plans(root: Path) -> list[Any]:
    rows = open_catalog(root).rows()
    return plan_shards(rows, 4, fake_embedder(size_px=64).fingerprint(codec="x"), [])


def test_a_task_goes_through_pickle_and_makes_the_same_shard(
    tmp_path: Path, write_pictures, catalog_at, build_at
) -> None:
    """What a cluster engine does with it. The copy knows the parent, too."""
    root = catalog_at(tmp_path / "gallery", write_pictures(tmp_path / "source", products=2))
    catalog = open_catalog(root)
    describer = EmbeddingDescriber(catalog, fake_embedder(size_px=64), threads=2)
    (plan,) = plan_shards(catalog.rows(), 1, describer.fingerprint, [("spread", "spread/1")])
    task = ShardTask(root, plan, describer, (Spread(),), None)
    made = make_shard(pickle.loads(pickle.dumps(task)))
    assert made.digest == make_shard(task).digest
    assert (made.embedded, made.copied) == (4, 0)
    assert build_at(root, steps=[Spread()]).tally.shards_shared == 1
    with Gallery.open(root) as parent:
        again = pickle.dumps(ShardTask(root, plan, describer, (Spread(),), parent))
        copied = make_shard(pickle.loads(again))
    assert (copied.embedded, copied.copied, copied.digest) == (0, 4, made.digest)
    assert "embed" not in copied.seconds


def test_a_copied_record_keeps_its_bytes_and_a_changed_one_is_packed_anew(
    eight: Path, build_at, make_png, tmp_path: Path, snapshot
) -> None:
    """Only the product that changed is learned from again."""
    step = Tallied()
    build_at(eight, steps=[step])
    before, step.products = snapshot(eight), []
    (tmp_path / "more/product-03").mkdir(parents=True)
    (tmp_path / "more/product-03/new.png").write_bytes(make_png(99))
    from gallery import read_source

    open_catalog(eight).import_rows(read_source(tmp_path / "more").rows)
    report = build_at(eight, steps=[step])
    assert report.published
    assert step.products == ["product-03"]
    assert before.items() <= snapshot(eight).items()
    with Gallery.open(eight) as gallery:
        for name in gallery.product_ids():
            found = gallery.extra(name, "tallied")
            assert found is not None
            assert found.meta["count"] == len(gallery.references(name))


class Tallied:
    name = "tallied"
    fingerprint = "tallied/1"

    def __init__(self) -> None:
        self.products: list[str] = []

    def __call__(self, references: Sequence[Reference]) -> Record:
        self.products.append(references[0].product_id)
        return Record("tallied", {"count": len(references)}, {})


@pytest.mark.parametrize("name", ["data.mdb", "vectors.npy"])
def test_a_damaged_shard_is_not_shared_but_made_again(
    eight: Path, build_at, flip, name: str, snapshot
) -> None:
    build_at(eight)
    before = snapshot(eight)
    path = sorted((eight / "shards").glob(f"*/{name}"))[0]
    flip(path, path.stat().st_size - 5)
    assert not check(eight).sound
    report = build_at(eight)
    assert (report.tally.shards_damaged, report.tally.shards_written) == (1, 1)
    assert report.passed
    assert snapshot(eight) == before
    assert check(eight).sound


def test_image_errors_survive_the_way_between_processes() -> None:
    error = ImageError("a.png", "is odd")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.source, type(again)) == (str(error), "a.png", ImageError)


def test_threads_are_not_limited_in_a_process_of_its_own() -> None:
    assert threads_here(7) == 7
