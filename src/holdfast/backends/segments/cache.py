"""What a process holds of segments, by id, up to a limit; the least recently used goes first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

from holdfast.core.errors import Invalid

CACHE_LIMIT_BYTES: Final = 256 * 1024 * 1024
"""What a store holds in memory for searches at most, unless it is told otherwise.

A search reads all codes of its tenant. Where they are more than this, each search reads them anew:
at a million vectors of 384 numbers, which take 160 MiB, that was ten times as slow."""


class Cache:
    """Values by key with their sizes. Thread-safe. What is immutable is never invalidated."""

    def __init__(self, limit_bytes: int = CACHE_LIMIT_BYTES) -> None:
        if isinstance(limit_bytes, bool) or not isinstance(limit_bytes, int) or limit_bytes < 0:
            raise Invalid("search_cache_bytes", expected="bytes, 0 or more", got=repr(limit_bytes))
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._held: OrderedDict[Any, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Any) -> Any:
        """The value, or None."""
        with self._lock:
            found = self._held.get(key)
            if found is None:
                return None
            self._held.move_to_end(key)
            return found[0]

    def put(self, key: Any, value: Any, size: int) -> None:
        """Hold a value; others go until all fit. One that is too large for all is not held."""
        with self._lock:
            before = self._held.pop(key, None)
            if before is not None:
                self.used_bytes -= before[1]
            if size > self.limit_bytes:
                return
            self._held[key] = (value, size)
            self.used_bytes += size
            while self.used_bytes > self.limit_bytes:
                _, (_, freed) = self._held.popitem(last=False)
                self.used_bytes -= freed

    def grow(self, key: Any, value: Any, size: int) -> None:
        """Note another size of a value, if it is held still."""
        if self.get(key) is value:
            self.put(key, value, size)

    def load(self, key: Any, make: Callable[[], tuple[Any, int]]) -> Any:
        """The value, made if it is not held. Two threads may both make it; both are right."""
        found = self.get(key)
        if found is None:
            found, size = make()
            self.put(key, found, size)
        return found
