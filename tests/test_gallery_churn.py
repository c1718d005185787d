"""Processes that read while builds are published and pruned under them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gallery import Gallery, SourceRow, check, list_builds, open_catalog
from gallery.history import prune

READER = """
    import hashlib, json, sys
    from pathlib import Path
    from gallery import Gallery, identify

    root, stop = Path(sys.argv[1]), Path(sys.argv[2])
    turns = 0
    while not stop.exists():
        with Gallery.open(root) as gallery:
            for _ in range(3):
                told = hashlib.sha256()
                for name in gallery.product_ids():
                    for reference in gallery.references(name):
                        told.update(reference.reference_id.encode() + reference.vector.tobytes())
                vector = gallery.vectors("product-00")[0]
                best = identify(gallery, vector, fingerprint=gallery.fingerprint, top=1)
                assert best.candidates[0].product_id == "product-00", best
                told.update(str(len(gallery.index)).encode())
                print(gallery.build_id, told.hexdigest(), flush=True)
                turns += 1
        if turns == 3:
            Path(f"{stop}-{sys.argv[3]}").touch()
"""


def told(root: Path, build_id: str) -> str:
    """What a reader should say of a build."""
    found = hashlib.sha256()
    with Gallery.open(root, build=build_id) as gallery:
        for name in gallery.product_ids():
            for reference in gallery.references(name):
                found.update(reference.reference_id.encode() + reference.vector.tobytes())
        found.update(str(gallery.manifest.references).encode())
    return found.hexdigest()


def test_readers_get_whole_answers_of_one_build_while_builds_come_and_go(
    tmp_path: Path, gallery_copy: Path, build_at: Callable[..., Any], make_png
) -> None:
    stop, root = tmp_path / "stop", gallery_copy
    program = textwrap.dedent(READER)
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(root), str(stop), str(number)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number in range(3)
    ]  # fmt: skip
    try:
        while len([*tmp_path.glob("stop-*")]) < len(readers):
            assert all(reader.poll() is None for reader in readers)
            time.sleep(0.01)
        expected = {}
        for seed in range(90, 96):
            (tmp_path / f"{seed}.png").write_bytes(make_png(seed))
            row = SourceRow("product-03", tmp_path / f"{seed}.png")
            open_catalog(root).import_rows([row])
            with Gallery.open(root) as before:
                expected[before.build_id] = told(root, before.build_id)
            build_id = build_at(root).build_id
            expected[build_id] = told(root, build_id)
            prune(root, keep=1)
    finally:
        stop.touch()
        said = [reader.communicate(timeout=60) for reader in readers]
    assert [errors for _, errors in said] == ["", "", ""]
    assert [reader.returncode for reader in readers] == [0, 0, 0]
    lines = [line.split() for out, _ in said for line in out.splitlines()]
    assert {build for build, _ in lines} <= expected.keys()
    assert [line for line in lines if expected[line[0]] != line[1]] == []
    for out, _ in said:
        assert len({line.split()[0] for line in out.splitlines()}) >= 2
    prune(root, keep=1)  # nobody holds any
    assert [name for name, _ in list_builds(root)] == [build_id]
    assert check(root).sound
