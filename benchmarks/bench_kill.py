"""Kill the command line at seeded random moments; nothing may be lost or corrupted.

    AMISS_DATA=... python -m benchmarks.bench_kill [--kills 100]      (about 25 minutes on 2 cores)

A small gallery of grocery photographs goes through its stages undisturbed first: import, rebuild,
import more, remove, rebuild, prune, each a process of its own on the real backbone. Then a stage is
drawn, run again on a copy of what was before it, and its whole process group killed (SIGKILL) at a
moment drawn from what that stage took after it first touched the gallery. After each kill the
published build must answer as before or after the stage, `check` must find no damage, the catalog
must hold every deed it held; the same command must then complete, and after a rebuild the content
digest must be the undisturbed life's. A kill leaves written pages to the kernel: it does not test
fsync (tests/test_gallery_faults.py tests that everything is synced before it gets its name).
Shards hold one product each instead of 512, so that there is something to resume.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import data_folder, save
from gallery import Gallery, check, open_catalog

_AMISS = (
    "import gallery.plan; gallery.plan.PRODUCTS_PER_SHARD = 1; from anomaly.cli import main; main()"
)
STAGES: dict[str, tuple[str, ...]] = {
    "import": ("import", "{home}/first", "{root}"),
    "build": ("rebuild", "{root}"),
    "import more": ("import", "{home}/more", "{root}"),
    "remove": ("remove", "{root}", "{product}", "0.jpg"),
    "rebuild": ("rebuild", "{root}"),
    "prune": ("prune", "{root}", "--keep", "1"),
}
OFTEN = {"import": 0.15, "build": 0.3, "import more": 0.1, "rebuild": 0.3, "prune": 0.15}


@dataclass(frozen=True)
class Stage:
    """What an undisturbed stage did: seconds until it touched the gallery, and after that;
    digests of content and answers that serve afterwards, deeds, content after a rebuild."""

    before_s: float
    after_s: float
    serves: tuple[str, str] | None
    served: tuple[str, str] | None
    deeds: int
    embedded: int
    rebuilt: str


@dataclass(frozen=True)
class Trial:
    """`embedded`: by the next run. `wrong`: what did not hold, in words."""

    stage: str
    moment_s: float
    killed: bool
    partials: int
    embedded: int
    wrong: list[str]


class Life:
    """The gallery at `home`/STAGE before each stage, and what an undisturbed run makes of it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.product = _sources(home)
        self.stages: dict[str, Stage] = {}
        root, served = home / "life", None
        for name in STAGES:
            if root.exists():
                shutil.copytree(root, home / name)
            line, before_s, after_s = self.run(name, root)
            serves = answers(root)
            copy = Path(shutil.copytree(root, home / "copy"))
            rebuilt = self.run("rebuild", copy)[0]["content_digest"]
            shutil.rmtree(copy)
            embedded = line.get("tally", {}).get("embedded", 0)
            deeds = open_catalog(root).seq
            self.stages[name] = Stage(before_s, after_s, serves, served, deeds, embedded, rebuilt)
            served = serves
            print(f"{name}: {before_s:.1f} + {after_s:.1f} s", file=sys.stderr)

    def start(self, name: str, root: Path) -> subprocess.Popen[str]:
        given = {"home": self.home, "root": root, "product": self.product}
        words = [word.format(**given) for word in STAGES[name]]
        return subprocess.Popen(
            [sys.executable, "-c", _AMISS, *words, "--json"], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def run(self, name: str, root: Path) -> tuple[dict[str, Any], float, float]:
        """(what it said, seconds before it touched the gallery, seconds after that)."""
        start, seen = time.perf_counter(), touched(root)
        process = self.start(name, root)
        first = _await_touch(process, root, seen)
        out, err = process.communicate()
        end = time.perf_counter()
        if process.returncode:
            raise RuntimeError(f"amiss {name} ended with {process.returncode}: {err}")
        return json.loads(out.splitlines()[-1]), first - start, end - first

    def kill(self, name: str, share: float) -> Trial:
        """Run a stage on a copy, kill it when `share` of its time is over, and go on."""
        root, old = self.home / "trial", self.home / name
        if old.exists():
            shutil.copytree(old, root)
        moment = share * self.stages[name].after_s
        seen = touched(root)
        process = self.start(name, root)
        _await_touch(process, root, seen)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        killed = process.returncode == -signal.SIGKILL
        partials = len([*root.rglob(".partial-*")])
        wrong = self._held(name, root, old)
        embedded = 0
        try:
            embedded = self._goes_on(name, root, wrong)
        except Exception as error:
            wrong.append(f"the next run: {error}")
        shutil.rmtree(root)
        return Trial(name, round(moment, 3), killed, partials, embedded, wrong)

    def _held(self, name: str, root: Path, old: Path) -> list[str]:
        expected, wrong = self.stages[name], []
        journal = old / "catalog/journal.jsonl"
        if journal.exists() and not (root / "catalog/journal.jsonl").read_bytes().startswith(
            journal.read_bytes()
        ):
            wrong.append("lines of the journal are lost")
        try:
            if expected.served and answers(root) not in (expected.served, expected.serves):
                wrong.append("another answer")
            if (root / "catalog/catalog.json").exists():
                wrong += [f"{found.path}: {found.message}" for found in check(root).damaged]
        except Exception as error:
            wrong.append(f"after the kill: {error!r}")
        return wrong

    def _goes_on(self, name: str, root: Path, wrong: list[str]) -> int:
        expected = self.stages[name]
        line = self.run(name, root)[0]
        again = self.run("rebuild", root)[0] if name != "rebuild" else line
        if again["content_digest"] != expected.rebuilt:
            wrong.append("another content digest")
        if open_catalog(root).seq != expected.deeds:
            wrong.append(f"{open_catalog(root).seq} deeds, expected {expected.deeds}")
        report = check(root)
        left = [*root.rglob(".partial-*")]
        if not report.sound or report.pending or left:
            wrong.append(f"after the next run: {report.damaged}, {report.pending}, {left}")
        return int(line.get("tally", {}).get("embedded", 0))


def answers(root: Path) -> tuple[str, str] | None:
    """(content digest, sha256 of all references as they are served), None before publishing."""
    if not (root / "CURRENT").exists():
        return None
    told = hashlib.sha256()
    with Gallery.open(root) as gallery:
        for product in gallery.product_ids():
            for reference in gallery.references(product):
                told.update(reference.reference_id.encode() + reference.vector.tobytes())
                for layer in reference.patches.layers:
                    told.update(layer.features.tobytes())
        return gallery.manifest.content_digest, told.hexdigest()


def touched(root: Path) -> list[int]:
    """When the locks were last taken; 0 where there is none."""
    locks = (root / "catalog/lock", root / "builds/lock")
    return [path.stat().st_mtime_ns if path.exists() else 0 for path in locks]


def _await_touch(process: subprocess.Popen[str], root: Path, seen: list[int]) -> float:
    while process.poll() is None and touched(root) == seen:
        time.sleep(0.005)
    return time.perf_counter()


def _sources(home: Path) -> str:
    """Five products with three pictures, then two more pictures; the product that loses one."""
    products = sorted((data_folder() / "grocery/gallery").iterdir())[:6]
    for number, product in enumerate(products):
        for slot, picture in enumerate(sorted(product.iterdir())[:3]):
            late = number == 5 and slot < 2
            if late or number < 5:
                folder = home / ("more" if late else "first") / product.name
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy(picture, folder / f"{slot}{picture.suffix}")
    return products[0].name


def _work(trials: list[Trial], life: Life, name: str) -> dict[str, Any]:
    mine = [trial for trial in trials if trial.stage == name]
    figures: dict[str, Any] = {"killed": sum(trial.killed for trial in mine)}
    if life.stages[name].embedded and mine:
        again = [trial.embedded for trial in mine if trial.killed]
        figures["embedded_undisturbed"] = life.stages[name].embedded
        figures["embedded_by_the_next_run_mean"] = round(float(np.mean(again)), 2)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    draw = np.random.default_rng(given.seed)
    trials: list[Trial] = []
    with tempfile.TemporaryDirectory() as work:
        life = Life(Path(work))
        while sum(trial.killed for trial in trials) < given.kills:
            name = str(draw.choice(list(OFTEN), p=list(OFTEN.values())))
            trials.append(life.kill(name, float(draw.random())))
            print(len(trials), trials[-1], file=sys.stderr)
        figures = {
            "kills": sum(trial.killed for trial in trials),
            "ended_before_the_kill": sum(not trial.killed for trial in trials),
            "left_partials": sum(trial.partials > 0 for trial in trials),
            "wrong": dict(Counter(word for trial in trials for word in trial.wrong)),
            "stages": {name: _work(trials, life, name) for name in OFTEN},
            "undisturbed": {name: asdict(stage) for name, stage in life.stages.items()},
        }
    command = f"python -m benchmarks.bench_kill --kills {given.kills} --seed {given.seed}"
    save("kill", command, figures)
    sys.exit(1 if figures["wrong"] else 0)


if __name__ == "__main__":
    main()
