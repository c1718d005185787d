"""The table of a build's products."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from gallery.durable import file_digest
from gallery.products import ProductTable, read_products, write_products

_THREADS = """
import os, sys, pyarrow.parquet
from pathlib import Path
from gallery.products import read_products
count = lambda: len(os.listdir("/proc/self/task"))
before = count()
read_products(Path(sys.argv[1]), sys.argv[2])
print(count() - before)
"""


def test_what_is_written_is_read(tmp_path: Path) -> None:
    table = ProductTable(np.arange(3), ("a", "b c", "d/é"))
    write_products(tmp_path / "products.parquet", table)
    found = read_products(tmp_path / "products.parquet", file_digest(tmp_path / "products.parquet"))
    assert found.names == list(table.names)
    np.testing.assert_array_equal(found.numbers, table.numbers)


def test_reading_it_leaves_no_thread_behind(tmp_path: Path) -> None:
    """One of Arrow's aborted a process that ended soon after, now and then."""
    path = tmp_path / "products.parquet"
    write_products(path, ProductTable(np.arange(3), ("a", "b", "c")))
    words = [sys.executable, "-c", _THREADS, str(path), file_digest(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert int(done.stdout) == 0
