"""One handle for each configuration in a process, whoever asks for it first."""

from __future__ import annotations

import os
import threading
from collections.abc import Hashable, Mapping
from typing import Any, Final

from holdfast.core.values import check_text
from holdfast.open import file_of, open, url_of
from holdfast.storage import Storage


class _Slot:
    """The handle of one configuration. Who comes first opens it; the others wait for that."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.storage: Storage | None = None
        self.options: Mapping[str, Any] = {}


class _Handles:
    """All slots, by process, place and options, and the lock over them."""

    def __init__(self) -> None:
        self.slots: dict[tuple[int, Hashable, Hashable], _Slot] = {}
        self.renew_lock()

    def renew_lock(self) -> None:
        """In a forked child: another thread of the parent may have held it.

        The parent's handles stay in memory, because letting go of one would close its files.
        """
        self.lock = threading.Lock()


_handles: Final = _Handles()


def shared(url: str | os.PathLike[str], **options: Any) -> Storage:
    """The process's handle on a store, opened by whoever asks first; arguments as for ``open``.

    The same URL and options give the same handle, also to threads that ask at once. An option that
    is an object, such as an embedder, is the same when it is that object. After ``close``, and in a
    forked process, the next call opens anew; an open that fails is not remembered.
    """
    url = url_of(url)
    check_text("url", url)
    named = frozenset((name, _identity(value)) for name, value in options.items())
    with _handles.lock:
        slot = _handles.slots.setdefault((os.getpid(), _place(url), named), _Slot())
    with slot.lock:
        if slot.storage is None or slot.storage.closed:
            slot.storage = open(url, **options)
            slot.options = options  # kept, so that no other object gets the identity of one of them
        return slot.storage


def close_shared() -> None:
    """Close every handle that ``shared`` has given and forget it; for tests and shutdowns."""
    with _handles.lock:
        own = [known for known in _handles.slots if known[0] == os.getpid()]
        slots = [_handles.slots.pop(known) for known in own]
    for slot in slots:
        with slot.lock:
            if slot.storage is not None:
                slot.storage.close()


def _place(url: str) -> str:
    """The URL; a path as it is from anywhere."""
    return os.path.abspath(url) if file_of(url) == url else url


def _identity(value: Any) -> Hashable:
    if isinstance(value, Mapping):
        return tuple(sorted((name, _identity(held)) for name, held in value.items()))
    if value is None or isinstance(value, str | int | float):
        return type(value).__name__, value
    return "object", id(value)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_handles.renew_lock)
