"""One record = a few named arrays and a JSON head, checked as a whole on every read.

    b"AMR1" | 16 bytes blake2b of the rest | uint32 head length | head (JSON) | arrays, deflated

A record's *digest* is taken over the head and the arrays as they were before deflating, so it does
not depend on the version of zlib that wrote it.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gallery.durable import FORMAT, require_format
from gallery.errors import DamagedGallery

_MAGIC = b"AMR1"
_CHECK = 16
_HEAD = struct.Struct("<I")


Names = Container[str]
"""Of arrays that are wanted of a record."""


@dataclass(frozen=True)
class Record:
    """`meta` is JSON; `arrays` are little-endian numpy arrays by name.

    packed  the bytes that it was unpacked from, so that a copy need not be deflated again
    """

    kind: str
    meta: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]
    packed: bytes | None = field(default=None, compare=False, repr=False)

    def digest(self) -> str:
        """sha256 hex of the content, independent of how it was compressed."""
        described = [[n, a.dtype.str, list(a.shape)] for n, a in sorted(self.arrays.items())]
        digest = hashlib.sha256(_json([self.kind, self.meta, described]))
        for _, array in sorted(self.arrays.items()):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def pack(record: Record) -> bytes:
    if record.packed is not None:
        return record.packed
    described, payload = [], []
    for name, array in sorted(record.arrays.items()):
        data = _deflate(np.ascontiguousarray(array).tobytes())
        described.append([name, array.dtype.str, list(array.shape), len(data)])
        payload.append(data)
    head = _json({"format": FORMAT, "kind": record.kind, "meta": record.meta, "arrays": described})
    body = _HEAD.pack(len(head)) + head + b"".join(payload)
    return _MAGIC + hashlib.blake2b(body, digest_size=_CHECK).digest() + body


def packed(record: Record) -> Record:
    """The record with its bytes, for whoever packs it later; deflating is the slow part."""
    return replace(record, packed=pack(record))


def unpack(data: bytes, *, where: str, only: Names | None = None) -> Record:
    """The record in `data`; raises `DamagedGallery` naming `where` unless it is what was packed.

    `only`: names of arrays; others are checked but not inflated, and such a part of a record can't
    be packed again.
    """
    check, body = data[len(_MAGIC) : len(_MAGIC) + _CHECK], data[len(_MAGIC) + _CHECK :]
    intact = hashlib.blake2b(body, digest_size=_CHECK).digest() == check
    if not data.startswith(_MAGIC) or not intact:
        raise DamagedGallery(f"{where}: the record's checksum does not match; run `amiss check`")
    (length,) = _HEAD.unpack_from(body)
    head = json.loads(body[_HEAD.size : _HEAD.size + length])
    require_format(head["format"], where)
    arrays, start = {}, _HEAD.size + length
    for name, dtype, shape, size in head["arrays"]:
        if only is None or name in only:
            raw = zlib.decompress(body[start : start + size])
            arrays[name] = np.frombuffer(raw, np.dtype(dtype)).reshape(shape)
        start += size
    # What an older format wrote is written anew when it is copied.
    packed = bytes(data) if head["format"] == FORMAT and only is None else None
    return Record(head["kind"], head["meta"], arrays, packed)


def _deflate(raw: bytes) -> bytes:
    # Z_FILTERED: residuals are small numbers with few repeats, so Huffman coding does the work.
    packer = zlib.compressobj(4, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_FILTERED)
    return packer.compress(raw) + packer.flush()


def _json(value: object) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()
