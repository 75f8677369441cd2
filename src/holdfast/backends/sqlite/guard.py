"""Refuses what would break the locks on a file, or give it a second log.

POSIX drops all of a process's locks on a file when any of its descriptors is closed. The stdlib's
sqlite3 is another copy of SQLite that does not know of ours: opening and closing a held file
through it would silently unlock it, and another process could write in the middle of our
transaction. Other processes may open the file freely.

SQLite puts the log beside the name by which a file was opened. Under two names, hard links or
mounts, one file has two logs: what is committed to one is lost to those who read the other. So a
file is refused while it is in use under another name, in this process or, where the system has
POSIX locks, in any other. A name that nobody uses, such as a backup tool's, does no harm.
"""

from __future__ import annotations

import os
import sys
import threading
from functools import cache
from typing import Any, Final

from holdfast.core.errors import Forbidden

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_held: dict[tuple[int, int], int] = {}
_names: dict[tuple[int, int], str] = {}
"""By which name each file is held."""
_lock = threading.Lock()

_SHARED_BYTES: Final = (0x40000002, 510)
"""Where SQLite locks a database while it is open in WAL mode: the first byte, and how many."""
_LOG_IN_USE_BYTE: Final = (128, 1)
"""Where it locks the index of a log that is in use."""


def hold(path: str) -> tuple[int, int]:
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


def _are_two(held: str, name: str, mark: tuple[int, int]) -> bool:
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
    return not _is_locked(f"{path}-shm", *_LOG_IN_USE_BYTE)


def _is_locked(path: str, first: int, count: int) -> bool:
    """Whether another process has locked these bytes. Not for a file that this one holds."""
    try:
        with open(path, "rb+") as file:
            if fcntl is not None:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, count, first)
    except BlockingIOError:
        return True
    except OSError:  # there is none, or it may not be written
        pass
    return False


def release(mark: tuple[int, int]) -> None:
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


def identity(path: str) -> tuple[int, int] | None:
    """What tells the file at the path from all others; None where there is none."""
    try:
        return _identity(path)
    except OSError:
        return None


@cache
def _install_hook() -> None:
    """An audit hook cannot be taken back, so there is one for the life of the process."""
    sys.addaudithook(_audit)


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


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
