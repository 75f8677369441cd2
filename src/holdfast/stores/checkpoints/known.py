"""The last state of each session that a handle saved or read, to build the next one on."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from holdfast.core.filter import Record
from holdfast.stores.checkpoints.layout import Part, read
from holdfast.stores.checkpoints.records import LANE

KNOWN_LIMIT: Final = 16 * 1024 * 1024
"""Bytes of states that a handle remembers."""


class Known(NamedTuple):
    """A checkpoint to build on: which save it is, its bytes and its parts.

    ``log_id`` names the log that it ends in, "" for none to grow; ``log`` is that log as it was
    left, None where it has yet to be read.
    """

    mark: tuple[Any, ...]
    state: bytes
    parts: Sequence[Part]
    log_id: str
    log: Record | None

    @staticmethod
    def saved(record: Record, state: bytes, parts: Sequence[Part], log: Record | None) -> Known:
        """What a save leaves."""
        log_id = "" if log is None else log["id"]
        return Known(mark_of(record), state, parts, log_id, log)

    @staticmethod
    def loaded(record: Record, state: bytes) -> Known:
        """What a read finds."""
        # A fork would be in the way of its origin at every append, so that it begins a new log.
        logs = [] if record["forked_from"] is not None else record["logs"]
        return Known(mark_of(record), state, read(record), logs[-1] if logs else "", None)


class Recent:
    """One Known per session; the least recently set go first when they hold too much."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, Known] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, session_id: str) -> Known | None:
        """What was last set."""
        with self._lock:
            return self._held.get(session_id)

    def set(self, session_id: str, known: Known) -> None:
        """Remember it instead of what was."""
        with self._lock:
            self._drop(session_id)
            self._held[session_id] = known
            self._size += len(known.state)
            while self._size > KNOWN_LIMIT:
                self._drop(next(iter(self._held)))

    def drop(self, session_id: str) -> None:
        """Forget it."""
        with self._lock:
            self._drop(session_id)

    def _drop(self, session_id: str) -> None:
        dropped = self._held.pop(session_id, None)
        if dropped is not None:
            self._size -= len(dropped.state)


def mark_of(record: Record) -> tuple[Any, ...]:
    """Which save of which checkpoint this is; numbers of a session are never used again."""
    return (*map(record.__getitem__, LANE), record["id"], record["revision"], record["sequence"])
