"""Refuses what would break the locks on a file, or give it a second log.

POSIX drops all of a process's locks on a file when any of its descriptors is closed. The stdlib's
sqlite3 is another copy of SQLite that does not know of ours: opening and closing a held file
through it would silently unlock it, and another process could write in the middle of our
transaction. Other processes may open the file freely.

What is seen, and what is not: `sqlite3.connect` on a held file is refused, and so is holding a
file that this process has open by other means. An ATTACH through a connection to something else
tells nobody which file it opens, and any code may open the file as plain bytes. Their closing is
noticed on Linux, which shows whose locks a file has, at the first write that is a second later or
more: writes are then refused. Locks that belong to a descriptor instead of the process are no way
out, since the other processes that share the file take SQLite's; nor is keeping the file to one
process.

SQLite puts the log beside the name by which a file was opened. Under two names, hard links or
mounts, one file has two logs: what is committed to one is lost to those who read the other. So a
file is refused while it is in use under another name, in this process or, where the system has
POSIX locks, in any other. A name that nobody uses, such as a backup tool's, does no harm.
"""

from __future__ import annotations

import os
import struct
import sys
import threading
from contextlib import suppress
from functools import cache
from typing import Any, Final

import apsw

from holdfast.core.clock import monotonic
from holdfast.core.errors import Forbidden

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

Mark = tuple[int, int]
"""What tells a file from all others, whatever its path."""
LOOK_SECONDS: Final = 1.0
"""How often it is looked whether the locks are still there: each look is a few system calls."""
_DESCRIPTORS: Final = "/dev/fd"
_FACTS: Final = "/proc/self/fdinfo"
_held: dict[Mark, int] = {}
_names: dict[Mark, str] = {}
"""By which name each file is held."""
_lock = threading.Lock()

TELLS_LOCKS: Final[bool] = sys.platform == "linux"
"""Whether it can be asked who has a lock; elsewhere one has to take it for a moment."""
_SHARED_BYTES: Final = (0x40000002, 510)
"""Where SQLite locks a database while it is open in WAL mode: the first byte, and how many."""
_LOG_IN_USE_BYTE: Final = (128, 1)
"""Where it locks the index of a log that is in use."""


def hold(path: str) -> Mark:
    """Guard a file from now on; returns the mark to `release`. May be repeated per file."""
    mark = _identity(path)
    _install_hook()
    with _lock:
        _held[mark] = _held.get(mark, 0) + 1
        _names.setdefault(mark, os.path.realpath(path))
    return mark


def check_name(path: str) -> None:
    """Forbidden for a file that is in use under another name."""
    mark = identity(path)
    if mark is None:
        return
    name = os.path.realpath(path)
    held = _names.get(mark)
    if _are_two(held, name, mark) if held else _is_used_elsewhere(name):
        raise Forbidden(
            "The file is open under another name: each name has a log of its own, and what is"
            " written under one would be lost to the other.",
            hint="Open it by the same name everywhere. Of a hard link that is to stay, copy the"
            " file instead: `holdfast backup`.",
        )


def _are_two(held: str, name: str, mark: Mark) -> bool:
    """Whether these are two names of a file, and not two spellings of one."""
    if held == name or identity(held) != mark:  # which was renamed
        return False
    if identity(os.path.dirname(held)) != identity(os.path.dirname(name)):
        return True
    return os.path.basename(held) != os.path.basename(name) and os.stat(name).st_nlink > 1


def _is_used_elsewhere(path: str) -> bool:
    """Whether other processes use a file of several names, and none of them by this one."""
    if os.stat(path).st_nlink < 2 or not _is_locked(path, *_SHARED_BYTES):
        return False
    return not is_log_in_use(path)


def is_log_in_use(path: str) -> bool:
    """Whether another process has the file open by this name, and so uses the log beside it."""
    return _is_locked(f"{path}-shm", *_LOG_IN_USE_BYTE)


def _is_locked(path: str, first: int, count: int) -> bool:
    """Whether another process has locked these bytes. Not for a file that this one holds."""
    try:
        if TELLS_LOCKS:
            with open(path, "rb") as file:
                asked = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, first, count, 0)
                found = fcntl.fcntl(file, fcntl.F_GETLK, asked)
                return bool(struct.unpack("hhqqi", found)[0] != fcntl.F_UNLCK)
        with open(path, "rb+") as file:
            if fcntl is not None:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, count, first)
    except BlockingIOError:
        return True
    except OSError:  # there is none, or it may not be written
        pass
    return False


def check_alone(path: str) -> None:
    """Forbidden when this process has a file open that it does not hold, unless through apsw."""
    mark = identity(path)
    if mark is None or mark in _held or not _descriptors(mark) or _is_ours(mark):
        return
    raise Forbidden(
        "This process has the file open by other means, such as sqlite3; closing that would"
        " break holdfast's locks and could lose writes.",
        hint="Close it first, or open it from another process.",
    )


def release(mark: Mark) -> None:
    """Undo one `hold`."""
    with _lock:
        left = _held.get(mark, 0) - 1
        if left > 0:
            _held[mark] = left
        else:
            _held.pop(mark, None)
            _names.pop(mark, None)


def is_held(path: str) -> bool:
    """Whether this process holds the file."""
    return identity(path) in _held


def identity(path: str) -> Mark | None:
    """What tells the file at the path from all others; None where there is none."""
    try:
        return _identity(path)
    except OSError:
        return None


class Locks:
    """Whether the locks of a held file are still there, where the system can tell."""

    def __init__(self, mark: Mark | None) -> None:
        """Made while a connection is open: that one holds a lock until it closes."""
        self._mark = mark
        self._holder: int | None = None
        """The descriptor that has shown the lock; None where the system shows none."""
        self._is_lost = False
        self._looked_at = monotonic()
        if mark is not None:
            with suppress(OSError):
                self._holder = self._find()

    def check(self) -> None:
        """Forbidden from when the locks were seen to have gone; looks once in `LOOK_SECONDS`."""
        now = monotonic()
        if now - self._looked_at >= LOOK_SECONDS:
            self._looked_at = now
            self._look()
        if self._is_lost:
            raise Forbidden(
                "The file was opened and closed beside holdfast in this process, which broke"
                " holdfast's locks. Nothing of this was written.",
                hint="Close every handle on it and open it again; `holdfast doctor` looks at the"
                " file. Use storage.connection() to read it.",
            )

    def _look(self) -> None:
        if self._holder is None:
            return
        with suppress(OSError):  # such as no descriptor left to look with: nothing is known
            if not self._shows_lock(self._holder):
                holder = self._find()  # the connection that took the lock may have been closed
                self._is_lost, self._holder = holder is None, holder

    def _find(self) -> int | None:
        return next((one for one in _descriptors(self._mark) if self._shows_lock(one)), None)

    def _shows_lock(self, descriptor: int) -> bool:
        try:
            if _mark_of(os.fstat(descriptor)) != self._mark:
                return False
            with open(f"{_FACTS}/{descriptor}", "rb", buffering=0) as facts:
                return b"\nlock:" in facts.read()
        except FileNotFoundError:
            return False


def _is_ours(mark: Mark) -> bool:
    """Whether a connection of our own SQLite has the file open, such as one that was given away."""
    try:
        return any(
            identity(each.db_filename(name)) == mark
            for each in apsw.connections()
            # Those that only one thread may use cannot be asked by another; ours are of held files.
            if not each.open_flags & apsw.SQLITE_OPEN_NOMUTEX
            for name in each.db_names()
        )
    except apsw.Error:  # in use or closed by another thread: who has what cannot be told
        return True


def _descriptors(mark: Mark | None) -> list[int]:
    """This process's descriptors of a file, where the system lists them."""
    found: list[int] = []
    try:
        listed = os.listdir(_DESCRIPTORS)
    except FileNotFoundError:
        return found
    for name in listed:
        with suppress(OSError, ValueError):
            if _mark_of(os.fstat(int(name))) == mark:
                found.append(int(name))
    return found


@cache
def _install_hook() -> None:
    """An audit hook cannot be taken back, so there is one for the life of the process."""
    sys.addaudithook(_audit)


def _identity(path: str) -> Mark:
    return _mark_of(os.stat(path))


def _mark_of(status: os.stat_result) -> Mark:
    return status.st_dev, status.st_ino


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "sqlite3.connect" or not _held:
        return
    target = arguments[0]
    if isinstance(target, bytes):
        target = os.fsdecode(target)
    if not isinstance(target, str | os.PathLike):
        return
    path = os.fspath(target)
    if isinstance(path, str) and path.startswith("file:"):
        from urllib.parse import unquote, urlsplit

        path = unquote(urlsplit(path).path)
    if is_held(os.fsdecode(path)):
        raise Forbidden(
            "This process holds the file open in holdfast; opening it through sqlite3 too would"
            " break its locks and could lose writes.",
            hint="Use storage.connection() to read it, or open it from another process.",
        )
