"""Sees the system calls by which a function changes a folder, and can refuse them or kill there.

The function runs in a forked child under a seccomp filter that reports each such call to its
parent before the kernel does it (seccomp_unotify(2), Linux >= 5.5). Nothing of the code is known
here: a write by LMDB, FAISS or a process of a pool is seen like any other. Not seen: writes to
mapped memory. `fsync` is answered without being done, which only makes it quicker.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import pickle
import platform
import select
import signal
import socket
import struct
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECONDS = 60  # a child that takes longer hangs
_AT_FDCWD, _RENAMES = -100, ("rename", "renameat", "renameat2")
# How a call names what it changes: a descriptor ("fd") or a path ("path"), each the position of its
# argument, or a folder's descriptor with a path ("at"). Renames name two.
_CALLS: dict[str, tuple[str, tuple[int, ...]]] = {
    "write": ("fd", (0,)), "pwrite64": ("fd", (0,)), "writev": ("fd", (0,)),
    "pwritev": ("fd", (0,)), "pwritev2": ("fd", (0,)), "sendfile": ("fd", (0,)),
    "copy_file_range": ("fd", (2,)), "ftruncate": ("fd", (0,)), "fallocate": ("fd", (0,)),
    "fsync": ("fd", (0,)), "fdatasync": ("fd", (0,)), "sync_file_range": ("fd", (0,)),
    "fchmod": ("fd", (0,)), "truncate": ("path", (0,)), "chmod": ("path", (0,)),
    "open": ("path", (0,)), "creat": ("path", (0,)), "mkdir": ("path", (0,)),
    "rmdir": ("path", (0,)), "unlink": ("path", (0,)), "rename": ("path", (0, 1)),
    "openat": ("at", (0,)), "mkdirat": ("at", (0,)), "unlinkat": ("at", (0,)),
    "fchmodat": ("at", (0,)), "renameat": ("at", (0, 2)), "renameat2": ("at", (0, 2)),
    "symlinkat": ("at", (1,)), "linkat": ("at", (0, 2)), "link": ("path", (0, 1)),
    "symlink": ("path", (1,)),
}  # fmt: skip
_NUMBERS: dict[str, dict[str, int]] = {
    "x86_64": {
        "write": 1, "open": 2, "pwrite64": 18, "writev": 20, "sendfile": 40, "fsync": 74,
        "fdatasync": 75, "truncate": 76, "ftruncate": 77, "rename": 82, "mkdir": 83, "rmdir": 84,
        "creat": 85, "link": 86, "unlink": 87, "symlink": 88, "chmod": 90, "fchmod": 91,
        "openat": 257, "mkdirat": 258, "unlinkat": 263, "renameat": 264, "linkat": 265,
        "symlinkat": 266, "fchmodat": 268, "sync_file_range": 277, "fallocate": 285,
        "pwritev": 296, "renameat2": 316, "copy_file_range": 326, "pwritev2": 328,
    },
    "aarch64": {
        "mkdirat": 34, "unlinkat": 35, "symlinkat": 36, "linkat": 37, "renameat": 38,
        "truncate": 45, "ftruncate": 46, "fallocate": 47, "fchmod": 52, "fchmodat": 53,
        "openat": 56, "write": 64, "writev": 66, "pwrite64": 68, "pwritev": 70, "sendfile": 71,
        "fsync": 82, "fdatasync": 83, "sync_file_range": 84, "renameat2": 276,
        "copy_file_range": 285, "pwritev2": 287,
    },
}  # fmt: skip
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_OPENS = {"open": 1, "openat": 2}  # the position of the flags
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_SYNCS = ("fsync", "fdatasync", "sync_file_range")
_MAKES = ("open", "openat", "creat", "mkdir", "mkdirat")
_GROWS = ("write", "pwrite64", "writev", "pwritev", "pwritev2", "sendfile", "copy_file_range",
          "ftruncate", "fallocate", *_MAKES)  # fmt: skip
_NOTIFICATION, _ANSWER = struct.Struct("<QIIiIQ6Q"), struct.Struct("<QqiI")
_RECEIVE, _SEND, _CONTINUE = 0xC0502100, 0xC0182101, 1


@dataclass(frozen=True)
class Call:
    """One call that changes something below the watched folder; `paths` are relative to it.

    `makes`: whether there is nothing of that name yet (of calls that may make it).
    """

    name: str
    paths: tuple[str, ...]
    makes: bool = False

    @property
    def syncs(self) -> bool:
        return self.name in _SYNCS

    @property
    def renames(self) -> bool:
        return self.name in _RENAMES

    @property
    def grows(self) -> bool:
        """Whether it may need room on the disk."""
        return self.name in _GROWS

    def __str__(self) -> str:
        return f"{self.name}({', '.join(self.paths)})"


KILL = -1
Judge = Callable[[int, Call], int]
"""(number of the call, call) -> 0: let it be; an errno: refuse it; KILL: SIGKILL before it."""


@dataclass
class Outcome:
    """What a watched run did. `value` is what the function returned, unless it raised `error`."""

    calls: list[Call] = field(default_factory=list)
    value: Any = None
    error: BaseException | None = None
    where: str = ""
    killed: bool = False


def available() -> str | None:
    """None where runs can be watched, else why not."""
    if platform.system() != "Linux" or platform.machine() not in _NUMBERS:
        return "system calls are watched on Linux on x86_64 and aarch64 only"
    try:
        watched(lambda: None, Path("/nowhere"))
    except OSError as error:
        return f"the kernel lets no process watch another's system calls ({error})"
    return None


def watched(work: Callable[[], Any], root: Path, judge: Judge = lambda number, call: 0) -> Outcome:
    """Run `work` in a forked child and report each call that changes what is below `root`."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        _be_watched(work, theirs)
    theirs.close()
    outcome = Outcome()
    try:
        _, handles, _, _ = socket.recv_fds(ours, 1, 1)
        if not handles:
            raise OSError(int.from_bytes(ours.recv(4), "little"), "seccomp refused")
        with os.fdopen(handles[0], "rb", buffering=0) as listener:
            _listen(listener.fileno(), child, root.resolve(), judge, outcome)
        answer = b"".join(iter(lambda: ours.recv(1 << 16), b""))
    finally:
        ours.close()
        _, status = os.waitpid(child, 0)
    outcome.killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    if answer:
        outcome.value, outcome.error, outcome.where = pickle.loads(answer)
    elif not outcome.killed:
        raise RuntimeError(f"the watched child ended with status {status:#x}")
    return outcome


def _be_watched(work: Callable[[], Any], channel: socket.socket) -> None:
    """The child's whole life."""
    try:
        os.setpgid(0, 0)
        try:
            handle = _filter()
        except OSError as error:
            channel.send(b"-" + (error.errno or errno.EPERM).to_bytes(4, "little"))
            os._exit(0)
        socket.send_fds(channel, [b"+"], [handle])
        os.close(handle)
        try:
            answer = pickle.dumps((work(), None, ""))
        except BaseException as error:
            answer = pickle.dumps((None, error, traceback.format_exc()))
        channel.sendall(answer)
    finally:
        os._exit(0)


def _filter() -> int:
    """Put this process under the filter; the descriptor that its calls are reported to."""
    libc, machine = ctypes.CDLL(None, use_errno=True), platform.machine()
    numbers = _NUMBERS[machine]
    load_number, allow, notify = (0x20, 0, 0, 0), (0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x7FC00000)
    program = [load_number]
    for name, number in numbers.items():
        if name in _OPENS:  # reading is not reported
            flags = (0x20, 0, 0, 16 + 8 * _OPENS[name])
            program += [(0x15, 0, 4, number), flags, (0x45, 0, 1, _WRITING), notify, allow]
        else:
            program += [(0x15, 0, 1, number), notify]
    program.append(allow)
    code = b"".join(struct.pack("<HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    head = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(buffer)))
    if libc.prctl(38, 1, 0, 0, 0):  # PR_SET_NO_NEW_PRIVS
        raise OSError(ctypes.get_errno(), "prctl refused")
    handle = libc.syscall(_SECCOMP[machine], 1, 8, head)  # a filter with a new listener
    if handle < 0:
        raise OSError(ctypes.get_errno(), "seccomp refused")
    return int(handle)


def _listen(listener: int, child: int, root: Path, judge: Judge, outcome: Outcome) -> None:
    """Answer every report until no process of the child's is left."""
    names = {number: name for name, number in _NUMBERS[platform.machine()].items()}
    waiting, deadline = select.poll(), time.monotonic() + SECONDS
    waiting.register(listener, select.POLLIN)
    while True:
        events = waiting.poll(1000)
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
            raise TimeoutError(
                f"the watched child took more than {SECONDS} s: {outcome.calls[-3:]}"
            )
        if not events:
            continue
        if not events[0][1] & select.POLLIN:
            return
        report = bytearray(_NOTIFICATION.size)
        try:
            fcntl.ioctl(listener, _RECEIVE, report, True)
        except OSError:  # it died since
            continue
        identity, pid, _, number, _, _, *arguments = _NOTIFICATION.unpack(report)
        call = _call(names[number], arguments, pid, root)
        answer = (identity, 0, 0, _CONTINUE)
        if call is not None:
            outcome.calls.append(call)
            verdict = judge(len(outcome.calls) - 1, call)
            if verdict == KILL:
                os.killpg(child, signal.SIGKILL)
                continue
            if verdict or call.syncs:
                answer = (identity, 0, -verdict, 0)
        try:
            fcntl.ioctl(listener, _SEND, _ANSWER.pack(*answer))
        except OSError as error:
            if error.errno != errno.ENOENT:  # it died since
                raise


def _call(name: str, arguments: list[int], pid: int, root: Path) -> Call | None:
    """What a report says, or None where it is about something outside `root`."""
    how, places = _CALLS[name]
    try:
        if how == "fd":
            found = [os.readlink(f"/proc/{pid}/fd/{arguments[i]}") for i in places]
        elif how == "path":
            found = [_path(pid, _AT_FDCWD, arguments[i]) for i in places]
        else:
            found = [_path(pid, _signed(arguments[i]), arguments[i + 1]) for i in places]
    except OSError:  # it died since
        return None
    if not any(Path(path).is_relative_to(root) for path in found):
        return None
    makes = name in _MAKES and not os.path.lexists(found[0])
    return Call(name, tuple(os.path.relpath(path, root) for path in found), makes)


def _path(pid: int, folder: int, address: int) -> str:
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        text = b""
        while b"\0" not in text and (more := memory.read(256 - (address + len(text)) % 256)):
            text += more
    name = os.fsdecode(text.partition(b"\0")[0])
    if os.path.isabs(name):
        return os.path.normpath(name)
    base = "cwd" if folder == _AT_FDCWD else f"fd/{folder}"
    return os.path.normpath(os.path.join(os.readlink(f"/proc/{pid}/{base}"), name))


def _signed(value: int) -> int:
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def unsynced(calls: list[Call]) -> Iterator[str]:
    """What a power cut could undo: content renamed before it was synced, names never synced.

    Of what is still there at the end; whatever a name that begins with `.partial-` holds may go.
    """
    content: set[str] = set()  # files written since they were last synced
    names: set[str] = set()  # paths made or renamed since their folder was last synced
    for call in calls:
        path = call.paths[0]
        if call.syncs:
            content.discard(path)
            names = {
                name for name in names if os.path.dirname(name) != ("" if path == "." else path)
            }
        elif call.renames:
            old, new = call.paths
            for dirty in sorted(content | names - {old}):
                if dirty == old or dirty.startswith(f"{old}/"):
                    yield f"{dirty} got its name {new} before it was synced"
            names = {name for name in names if name != old} | {new}
        elif call.name in ("unlink", "unlinkat", "rmdir"):
            content.discard(path)
            names.discard(path)
        elif call.name in _MAKES:
            names |= {path} if call.makes else set()
        elif call.name not in ("chmod", "fchmod", "fchmodat"):
            content.add(path)
    for path in sorted(content | names):
        if ".partial-" not in path and os.path.basename(path) != "lock":
            yield f"{path} was never synced"
