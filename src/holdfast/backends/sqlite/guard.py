"""Refuses a second SQLite library on a file that holdfast holds in this process.

POSIX drops all of a process's locks on a file when any of its descriptors is closed. The stdlib's
sqlite3 is another copy of SQLite that does not know of ours: opening and closing a held file
through it would silently unlock it, and another process could write in the middle of our
transaction. Other processes may open the file freely.
"""

from __future__ import annotations

import os
import sys
import threading
from functools import cache
from typing import Any

from holdfast.core.errors import Forbidden

_held: dict[tuple[int, int], int] = {}
_lock = threading.Lock()


def hold(path: str) -> tuple[int, int]:
    """Guard a file from now on; returns the mark to `release`. May be repeated per file."""
    mark = _identity(path)
    _install_hook()
    with _lock:
        _held[mark] = _held.get(mark, 0) + 1
    return mark


def release(mark: tuple[int, int]) -> None:
    """Undo one `hold`."""
    with _lock:
        left = _held.get(mark, 0) - 1
        if left > 0:
            _held[mark] = left
        else:
            _held.pop(mark, None)


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
