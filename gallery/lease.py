"""Who writes, told to other hosts: a lease in the lock file, renewed while the writer lives.

The kernel's lock (`durable.writer_lock`) knows the processes of one kernel, and some network disks
pass it on to other hosts, some don't. So the file says who holds it and until when:

    {"process": 4711, "host": "packer-2", "boot": "5f1c...", "until": 1795432100.0}

What this kernel's lock has let go of is free at once: its process is dead. A lease of another
kernel counts until it runs out; hosts' clocks must agree to within half a minute. Where a disk does
not pass the kernel's lock on, two hosts that begin in the same milliseconds may both get it: each
looks again after writing, and before each write to the journal (`require_lease`).
"""

from __future__ import annotations

import datetime
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from gallery.errors import GalleryBusy

RENEWED_S, EXPIRES_S = 20.0, 120.0
Clock = Callable[[], float]
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Lease:
    """Who writes. `boot`: which kernel, since which start; `until`: seconds since 1970."""

    process: int
    host: str
    boot: str
    until: float

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"

    def same_holder(self, other: Lease | None) -> bool:
        return other is not None and (self.process, self.boot) == (other.process, other.boot)


@contextmanager
def leased(handle: int, folder: Path, *, clock: Clock = time.time) -> Iterator[None]:
    """Hold the lease of `folder`, whose open lock file is `handle`, this kernel's lock being held.

    Raises `GalleryBusy` while another host's lease runs.
    """
    found = read_lease(folder)
    mine = _mine(clock)
    if found is not None and found.boot != mine.boot and found.until > clock():
        raise GalleryBusy(busy_message(folder, found))
    with suppress(OSError):  # on a full disk pruning must still work
        _write(handle, mine)
    require_lease(folder)
    ended = threading.Event()
    heart = threading.Thread(target=_beat, args=(handle, folder, clock, ended), daemon=True)
    heart.start()
    try:
        yield
    finally:
        ended.set()
        heart.join()
        with suppress(OSError):  # it runs out by itself
            if mine.same_holder(read_lease(folder)):
                os.ftruncate(handle, 0)


def renew(handle: int, folder: Path, *, clock: Clock = time.time) -> bool:
    """Put the end off; False, and nothing done, when another has taken the lease over."""
    mine = _mine(clock)
    found = read_lease(folder)
    if found is not None and not mine.same_holder(found):
        return False
    with suppress(OSError):  # tried again at the next beat
        _write(handle, mine)
    return True


def require_lease(folder: Path) -> None:
    """Raise `GalleryBusy` if another than this process has the lease: it was taken over."""
    found = read_lease(folder)
    if found is not None and not _mine(time.time).same_holder(found):
        raise GalleryBusy(
            f"{folder}: {found} took over while this process did not answer for {EXPIRES_S:.0f} s; "
            "what it had finished is kept, run it again"
        )


def read_lease(folder: Path) -> Lease | None:
    """What the lock file says, or None: nobody, or a file that was cut short."""
    try:
        return Lease(**json.loads((folder / "lock").read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def busy_message(folder: Path, holder: Lease | None) -> str:
    """Who writes, and until when at least, for `GalleryBusy`."""
    if holder is None:
        return f"{folder}: another process is writing here; try again when it is done"
    until = datetime.datetime.fromtimestamp(holder.until, datetime.UTC).isoformat(" ", "seconds")
    return (
        f"{folder}: {holder} is writing here; try again when it is done "
        f"(if it is dead, its lease ends at {until})"
    )


def _beat(handle: int, folder: Path, clock: Clock, ended: threading.Event) -> None:
    while not ended.wait(RENEWED_S):
        if not renew(handle, folder, clock=clock):
            return


def _mine(clock: Clock) -> Lease:
    return Lease(os.getpid(), socket.gethostname(), _kernel(), round(clock() + EXPIRES_S, 3))


@cache
def _kernel() -> str:
    """The kernel's boot ID, which containers share with their host; the host's name without it."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return socket.gethostname()


def _write(handle: int, lease: Lease) -> None:
    data = json.dumps(asdict(lease)).encode() + b"\n"
    os.pwrite(handle, data, 0)
    os.ftruncate(handle, len(data))
    os.fsync(handle)
