"""Vectors as they were given, those of a source's segments that searches have lately compared.

A row of a segment that is not void is what the segment was made of, so its vector may be kept for
as long as the segment stands. Those that were read first make room for others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final

_WITH_CODES_BYTES: Final = 20 * 1024 * 1024
"""What is kept of one source, together with its codes, ..."""
_LEAST_BYTES: Final = 4 * 1024 * 1024
"""... unless these leave less than this."""
_ROW_BYTES: Final = 160
"""What a row takes besides its data, about."""

Read = Callable[[Sequence[int]], Iterable[tuple[int, bytes]]]


class Originals:
    """Vectors by row number. Thread-safe."""

    def __init__(self, codes_bytes: int) -> None:
        self.used_bytes = 0
        self._limit_bytes = max(_WITH_CODES_BYTES - codes_bytes, _LEAST_BYTES)
        self._held: dict[int, bytes] = {}
        self._lock = threading.Lock()

    def find(self, rows: Sequence[int], read: Read) -> dict[int, bytes]:
        """The vectors of these rows: those held, and those of the others that ``read`` has."""
        get = self._held.get
        found = {row: data for row in rows if (data := get(row)) is not None}
        if len(found) == len(rows):
            return found
        new = dict(read([row for row in rows if row not in found]))
        self._keep(new)
        return found | new

    def _keep(self, new: dict[int, bytes]) -> None:
        held = self._held
        with self._lock:
            held.update(new)
            size = max(map(len, new.values()), default=0) + _ROW_BYTES
            for row in list(islice(held, max(0, len(held) - self._limit_bytes // size))):
                del held[row]
            self.used_bytes = size * len(held)
