"""Shards: a slice of products in LMDB and one .npy, shared, forked, pickled, threaded, damaged."""

from __future__ import annotations

import os
import pickle
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gallery import CatalogRow, GalleryError, Record
from gallery.errors import DamagedGallery
from gallery.shard import Shard, ShardWriter, product_hash, shard_number

DIMS = 6
PRODUCTS = {f"product {n}": 1 + n % 3 for n in range(7)}


def catalog_row(product_id: str, number: int, slot: int) -> CatalogRow:
    image = f"{number:02x}{slot:02x}" * 16
    return CatalogRow(product_id, number, slot, image, None, None, None, None, None, "x.png")


def payload(number: int, slot: int) -> Record:
    rng = np.random.default_rng([number, slot])
    meta = {"reference_id": catalog_row("", number, slot).reference_id}
    return Record("reference", meta, {"a": rng.integers(0, 255, 900, np.uint8)})


def vector_of(number: int, slot: int) -> np.ndarray[Any, Any]:
    vector = np.random.default_rng([number, slot]).normal(size=DIMS)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def fill(folder: Path, names: list[str], *, extras: bool = True) -> dict[str, Any]:
    """Products in the order of `names`; slots start at 1 so that a slot is no row number."""
    folder.mkdir()
    writer = ShardWriter(folder, dims=DIMS, input_digest="test")
    try:
        for name in names:
            number = int(name.split()[1])
            slots = range(1, 1 + PRODUCTS[name])
            learned = {"audit": Record("audit", {"of": name}, {})} if extras and number % 2 else {}
            writer.add_product(
                [catalog_row(name, number, s) for s in slots],
                [payload(number, s) for s in slots],
                [vector_of(number, s) for s in slots],
                learned,
            )
    except BaseException:
        writer.abandon()
        raise
    return writer.finish()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fill(tmp_path / "shard", sorted(PRODUCTS, key=product_hash))
    return tmp_path / "shard"


@pytest.fixture
def shard(folder: Path):
    shard = Shard(folder)
    yield shard
    shard.close()


def read_all(shard: Shard) -> int:
    """Read every reference and compare it with what was written; the number of references."""
    count = 0
    for name in PRODUCTS:
        product = shard.product(name)
        assert product is not None
        for stored in product.references:
            record = shard.record(name, stored)
            expected = payload(product.product_no, stored.slot)
            assert record.meta == expected.meta
            assert np.array_equal(record.arrays["a"], expected.arrays["a"])
            vector = shard.vector(stored)
            assert np.array_equal(vector, vector_of(product.product_no, stored.slot))
            count += 1
    return count


def test_every_product_is_found_with_its_own_references(shard: Shard) -> None:
    assert read_all(shard) == sum(PRODUCTS.values())
    for name, count in PRODUCTS.items():
        product = shard.product(name)
        assert product is not None
        assert (product.product_id, product.product_no) == (name, int(name.split()[1]))
        assert [r.slot for r in product.references] == list(range(1, 1 + count))
        audit = shard.extra(name, "audit")
        assert (audit.meta if audit else None) == ({"of": name} if product.extras else None)
    assert shard.extra("product 1", "other") is None


@pytest.mark.parametrize("name", ["product 7", "", "product", "product 1 ", "PRODUCT 1"])
def test_absent_products_are_none(shard: Shard, name: str) -> None:
    assert shard.product(name) is None


def test_products_come_in_key_order_and_vector_rows_follow_it(shard: Shard) -> None:
    products = list(shard.products())
    assert [p.product_id for p in products] == sorted(PRODUCTS, key=product_hash)
    rows = [r.row for p in products for r in p.references]
    assert rows == list(range(sum(PRODUCTS.values())))
    keys = [p.product_no << 16 | r.slot for p in products for r in p.references]
    assert shard.vectors()["key"].tolist() == keys


@pytest.mark.parametrize("order", ["descending", "repeated"])
def test_products_out_of_order_are_refused(tmp_path: Path, order: str) -> None:
    names = sorted(PRODUCTS, key=product_hash)
    names = names[::-1] if order == "descending" else [names[0], names[0]]
    with pytest.raises(AssertionError, match="keys out of order"):
        fill(tmp_path / "bad", names)


def test_the_content_digest_covers_every_record_vector_and_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = sorted(PRODUCTS, key=product_hash)
    same = [fill(tmp_path / f"same{i}", names)["content_digest"] for i in range(2)]
    others = [
        fill(tmp_path / "fewer", names[:-1])["content_digest"],
        fill(tmp_path / "bare", names, extras=False)["content_digest"],
    ]
    whole = vector_of
    monkeypatch.setitem(globals(), "vector_of", lambda n, s: np.nextafter(whole(n, s), 2.0))
    others.append(fill(tmp_path / "vectors", names)["content_digest"])
    assert same[0] == same[1]
    assert len({same[0], *others}) == 4


def test_an_empty_shard_can_be_read(tmp_path: Path) -> None:
    fill(tmp_path / "empty", [])
    shard = Shard(tmp_path / "empty")
    assert (list(shard.products()), shard.product("x"), len(shard.vectors())) == ([], None, 0)
    shard.close()


@pytest.mark.parametrize("count", [1, 2, 8, 1024])
def test_shard_numbers_are_in_range_even_and_nested(count: int) -> None:
    """Twice as many shards split each in two, so a grown gallery moves products only there."""
    names = [f"p{n}" for n in range(4000)]
    numbers = np.array([shard_number(name, count) for name in names])
    assert numbers.min() >= 0
    assert numbers.max() < count
    if count <= 8:
        assert np.bincount(numbers, minlength=count).min() > 0.8 * len(names) / count
    assert [shard_number(name, 2 * count) // 2 for name in names] == numbers.tolist()


# Sharing, threads, fork, pickling


def test_two_shards_of_one_folder_read_side_by_side_and_one_may_close(folder: Path) -> None:
    first, second = Shard(folder), Shard(folder.parent / "." / "shard")
    assert read_all(first) == read_all(second)
    first.close()
    assert read_all(second) == sum(PRODUCTS.values())
    assert read_all(first) == sum(PRODUCTS.values())  # opens anew
    second.close()
    second.close()
    assert read_all(first) == sum(PRODUCTS.values())
    first.close()


def test_eight_threads_read_one_shard_and_eight_of_their_own(folder: Path) -> None:
    shared, expected = Shard(folder), sum(PRODUCTS.values())

    def work(number: int) -> set[int]:
        own = Shard(folder)
        counts = set()
        for _ in range(10):
            counts |= {read_all(shared), read_all(own)}
            own.close()  # while others read
        return counts

    with ThreadPoolExecutor(8) as pool:
        assert set().union(*pool.map(work, range(8))) == {expected}
    shared.close()


def in_child(work: Callable[[], object]) -> int:
    """The exit code of a forked child that does `work`; 99 when it hangs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is the point
        pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    for _ in range(2000):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return 99


def test_an_open_shard_reads_on_in_a_forked_child_and_in_the_parent(shard: Shard) -> None:
    expected = read_all(shard)

    def work() -> None:
        assert read_all(shard) == expected
        shard.close()
        assert read_all(shard) == expected

    assert in_child(work) == 0
    assert read_all(shard) == expected


def test_a_pickled_shard_opens_anew(shard: Shard) -> None:
    expected = read_all(shard)
    data = pickle.dumps(shard)
    assert len(data) < 1000
    copy = pickle.loads(data)
    assert read_all(copy) == expected
    copy.close()


# Damage


def test_a_flipped_byte_of_a_vector_is_noticed_and_the_others_are_read(folder: Path, flip) -> None:
    rows = sum(PRODUCTS.values())
    size = (folder / "vectors.npy").stat().st_size
    row_bytes = 8 + 4 * DIMS
    flip(folder / "vectors.npy", size - 2 * row_bytes + 8 + 5)  # in the last row but one
    shard, bad = Shard(folder), []
    for product in shard.products():
        for stored in product.references:
            try:
                shard.vector(stored)
            except DamagedGallery as error:
                bad.append((stored.row, "vectors.npy" in str(error)))
    assert bad == [(rows - 2, True)]
    shard.close()


def test_a_flipped_byte_of_any_stored_value_is_noticed_and_never_an_answer(
    folder: Path, flip
) -> None:
    data = (folder / "data.mdb").read_bytes()
    starts = [i for i in range(len(data)) if data.startswith(b"AMR1", i)]
    assert len(starts) >= sum(PRODUCTS.values()) + len(PRODUCTS)
    rng = np.random.default_rng(0)
    for start in starts[::3]:
        position = start + int(rng.integers(0, 60))
        flip(folder / "data.mdb", position)
        shard = Shard(folder)
        with pytest.raises(DamagedGallery, match=r"data\.mdb"):
            read_products_and_all(shard)
        shard.close()
        flip(folder / "data.mdb", position)
    shard = Shard(folder)
    assert read_all(shard) == sum(PRODUCTS.values())
    shard.close()


def read_products_and_all(shard: Shard) -> None:
    read_all(shard)
    for product in shard.products():
        for name in product.extras:
            shard.extra(product.product_id, name)


def test_any_damaged_byte_in_the_head_of_the_vector_table_is_an_error_of_ours(
    folder: Path, flip
) -> None:
    """numpy's reader raises what it likes; the header is text, and each of its bytes is tried."""
    path = folder / "vectors.npy"
    for position in range(128):
        for mask in (0x01, 0x10, 0x80):
            flip(path, position, mask)
            try:
                shard = Shard(folder)
                for product in shard.products():
                    for stored in product.references:
                        shard.vector(stored)
            except GalleryError:
                pass
            except Exception as error:
                pytest.fail(f"byte {position} ^ {mask:#x}: {type(error).__name__}: {error}")
            finally:
                shard.close()
                flip(path, position, mask)


@pytest.mark.parametrize("name", ["data.mdb", "vectors.npy"])
@pytest.mark.parametrize("content", [None, b"", b"\0" * 20000])
def test_a_missing_or_empty_file_is_a_gallery_error_that_names_it(
    folder: Path, name: str, content: bytes | None
) -> None:
    (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
    shard = Shard(folder)
    with pytest.raises(GalleryError, match=name):
        read_all(shard)
    shard.close()
