"""A disk that refuses: its next writes or syncs fail as the operating system lets them fail.

The log is struck through a VFS. Its syncs that do not fail are not passed on, as in `soak.disk`:
these trials are about answers. Checkpoints are struck one level lower, at the system call that
writes the database file: SQLite forgives a failed checkpoint, but an error that passes through
Python would not be forgiven.
"""

from __future__ import annotations

import ctypes
import errno
import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import apsw

BASE: Final = "unix"
Kind = Literal[
    "sync EIO",
    "write EIO",
    "write ENOSPC",
    "short write ENOSPC",
    "checkpoint EIO",
    "checkpoint ENOSPC",
]
OF_LOG: Final[tuple[Kind, ...]] = (
    "sync EIO",
    "write EIO",
    "write ENOSPC",
    "short write ENOSPC",
)
OF_CHECKPOINTS: Final[tuple[Kind, ...]] = ("checkpoint EIO", "checkpoint ENOSPC")
_PWRITE: Final = ctypes.CFUNCTYPE(
    ctypes.c_ssize_t,
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int64,
    use_errno=True,
)


@dataclass(frozen=True)
class Fault:
    """What fails: after ``skip`` operations of its sort, the next ``times``."""

    kind: Kind
    skip: int
    times: int

    @staticmethod
    def drawn(chance: random.Random, kinds: tuple[Kind, ...]) -> Fault:
        """Once, a few times, or until it is lifted."""
        skip = chance.choice((0, 1, 2, 5, 10, 20))
        return Fault(chance.choice(kinds), skip, chance.choice((1, 3, 1_000_000)))


class FaultyDisk(apsw.VFS):
    """The VFS; `arm` and `lift` say when it refuses."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.struck = 0
        self._lock = threading.Lock()
        self._fault: Fault | None = None
        self._seen = 0
        super().__init__(name, BASE)

    def arm(self, fault: Fault) -> None:
        """From now on operations may fail."""
        with self._lock:
            self._fault, self._seen, self.struck = fault, 0, 0

    def lift(self) -> int:
        """Let everything succeed again; how many operations failed."""
        with self._lock:
            self._fault = None
            return self.struck

    def meets(self, operation: str) -> Kind | None:
        """What this operation meets: None when it shall succeed."""
        with self._lock:
            fault = self._fault
            if fault is None or operation not in fault.kind.split():
                return None
            self._seen += 1
            if not fault.skip < self._seen <= fault.skip + fault.times:
                return None
            self.struck += 1
            return fault.kind

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        return _FaultyFile(self, name, flags)


class _FaultyFile(apsw.VFSFile):
    def __init__(self, disk: FaultyDisk, name: Any, flags: list[int]) -> None:
        self._disk = disk
        self._read_only = bool(flags[0] & apsw.SQLITE_OPEN_READONLY)
        super().__init__(BASE, name, flags)

    def xLock(self, level: int) -> None:
        try:
            super().xLock(level)
        except apsw.IOError as error:
            # As in soak.disk: a reader's close tries the exclusive lock and shrugs.
            if self._read_only:
                raise apsw.BusyError("a read-only file cannot be locked for writing") from error
            raise

    def xWrite(self, data: Any, offset: int) -> None:
        kind = self._disk.meets("write")
        if kind is None:
            super().xWrite(data, offset)
            return
        if kind == "short write ENOSPC":
            super().xWrite(bytes(data)[: len(data) // 2], offset)
        raise apsw.IOError("injected") if kind == "write EIO" else apsw.FullError("injected")

    def xSync(self, flags: int) -> None:
        if self._disk.meets("sync") is not None:
            raise apsw.IOError("injected")


class FailingCheckpoints:
    """Makes the system call fail that writes one file; every other file is written as ever."""

    def __init__(self, disk: FaultyDisk, path: str) -> None:
        self._disk = disk
        self._inode = os.stat(path).st_ino
        self._name = "pwrite64" if disk.xGetSystemCall("pwrite64") else "pwrite"
        address = disk.xGetSystemCall(self._name)
        if address is None:
            raise RuntimeError("this SQLite writes by another system call")
        self._address = address
        self._original = _PWRITE(address)
        self._replacement = _PWRITE(self._pwrite)

    def __enter__(self) -> None:
        address = ctypes.cast(self._replacement, ctypes.c_void_p).value or 0
        self._disk.xSetSystemCall(self._name, address)

    def __exit__(self, *_: object) -> None:
        self._disk.xSetSystemCall(self._name, self._address)

    def _pwrite(self, descriptor: int, data: Any, size: int, offset: int) -> int:
        if os.fstat(descriptor).st_ino == self._inode:
            kind = self._disk.meets("checkpoint")
            if kind is not None:
                ctypes.set_errno(errno.EIO if kind == "checkpoint EIO" else errno.ENOSPC)
                return -1
        return int(self._original(descriptor, data, size, offset))


@contextmanager
def faulty(place: Path) -> Iterator[FaultyDisk]:
    """A registered faulty disk, for `SqliteDriver(..., vfs=disk.name)`."""
    disk = FaultyDisk(f"holdfast-faulty-{place.name}")
    try:
        yield disk
    finally:
        disk.unregister()
