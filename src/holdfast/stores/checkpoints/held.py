"""Bytes of logs that a handle has read, so that states which share them need not read them again.

A log's bytes stay what they are while it grows. They may still become others: where a unit, or a
server that went down, took back what it had written, and something else was written in its place.
So only states that can be compared with a checksum are put together from what is held.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from holdfast.stores.checkpoints.layout import Stretches

HELD_LIMIT: Final = 16 * 1024 * 1024
"""Bytes of logs that a handle holds."""


class Held:
    """Stretches by log; the logs least recently asked for go first when they hold too much."""

    def __init__(self) -> None:
        self._logs: OrderedDict[str, _Log] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def find(self, log: str, first: int, stop: int) -> Stretches | None:
        """The stretches from one place of a log to another; None if they are not all held."""
        with self._lock:
            held = self._logs.get(log)
            if held is None:
                return None
            self._logs.move_to_end(log)
            return held.find(first, stop)

    def add(self, log: str, stretches: Stretches) -> None:
        """Hold stretches of a log, in the place of those that stand within them."""
        with self._lock:
            held = self._logs.setdefault(log, _Log())
            self._logs.move_to_end(log)
            self._size += sum([held.add(start, data) for start, data in stretches])
            while self._size > HELD_LIMIT:
                self._size -= self._logs.popitem(last=False)[1].size

    def drop(self, logs: Iterable[str]) -> None:
        """Hold nothing of these logs any more."""
        with self._lock:
            for log in logs:
                held = self._logs.pop(log, None)
                self._size -= 0 if held is None else held.size


class _Log:
    """Stretches of one log in their order."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._pieces: list[bytes] = []
        self.size = 0

    def find(self, first: int, stop: int) -> Stretches | None:
        at = max(bisect_right(self._starts, first) - 1, 0)
        found: list[tuple[int, bytes]] = []
        place = first
        while place < stop:
            if at == len(self._starts):
                return None
            start, data = self._starts[at], self._pieces[at]
            if not start <= place < start + len(data):
                return None
            found.append((start, data))
            place = start + len(data)
            at += 1
        return found

    def add(self, start: int, data: bytes) -> int:
        """Put a stretch in its place, and say by how many bytes that is more."""
        low = bisect_left(self._starts, start)
        high = bisect_left(self._starts, start + len(data))
        more = len(data) - sum(map(len, self._pieces[low:high]))
        self._starts[low:high] = [start]
        self._pieces[low:high] = [data]
        self.size += more
        return more
