"""Vectors as they were given, those of a source's segments that searches have lately compared.

A row of a segment that is not void is what the segment was made of, so its vector may be kept for
as long as the segment stands. They lie in one matrix, so that many are compared at once; where it
does not hold all of a source, those that were read first make room for others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy

from holdfast.core.ranking import cosine_scores

_SHORT, _LONG = 1e-12, 1e12
"""Lengths of vectors between which products in float32 neither vanish nor overflow."""
_ROW_BYTES: Final = 8
"""What a row takes besides its vector."""

Read = Callable[[Any], Sequence[tuple[int, bytes]]]
"""The vectors of some rows, by their numbers, each with its number and in their order."""


@dataclass(frozen=True)
class Compared:
    """Rows, by their numbers, with their vectors."""

    rows: Any
    matrix: Any
    near: Any
    """How similar each is to the query: cosines in single precision."""

    def best(self, count: int, slack: float = 0.0) -> Compared:
        """Those that are nearest, and what is at most ``slack`` behind the last of them."""
        if self.near.size <= count:
            return self
        return self.where((self.near >= greatest(self.near, count) - slack).nonzero()[0])

    def where(self, kept: Any) -> Compared:
        """Some of them: by a mask or by their order."""
        return Compared(self.rows[kept], self.matrix[kept], self.near[kept])

    def and_(self, other: Compared) -> Compared:
        """These and others."""
        if not other.rows.size:
            return self
        if not self.rows.size:
            return other
        return Compared(
            numpy.concatenate((self.rows, other.rows)),
            numpy.concatenate((self.matrix, other.matrix)),
            numpy.concatenate((self.near, other.near)),
        )


def greatest(numbers: Any, count: int) -> Any:
    """The least of the ``count`` greatest."""
    parted = numbers.copy()
    parted.partition(-count)
    return parted[-count]


class Vectors:
    """Rows with their vectors, ready to be compared with any query."""

    def __init__(self, rows: Any, matrix: Any) -> None:
        self.rows = rows
        self.matrix = matrix
        self._lengths = _lengths(matrix)

    @property
    def nbytes(self) -> int:
        """What they take in memory."""
        return int(self.rows.nbytes + self.matrix.nbytes + self._lengths.nbytes)

    def compared(self, query: Any) -> Compared:
        """All of them, beside a query of length 1."""
        return Compared(self.rows, self.matrix, _near(self.matrix, self._lengths, query))


class Originals:
    """Vectors by their rows' places in the segments, as one number through all. Thread-safe."""

    def __init__(self, rows: int, width: int, limit_bytes: int) -> None:
        self._row_bytes = 4 * width + _ROW_BYTES
        room = min(limit_bytes // self._row_bytes, rows)
        self.holds_all = room == rows
        """Whether there is room for every row, so that comparing many soon reads nothing."""
        self._width = width
        self._slots = numpy.full(rows, -1, "i4")
        self._owners = numpy.full(room, -1, "i4")
        # The system gives this memory as it is filled.
        self._matrix = numpy.empty((room, width), "<f4")
        self._lengths = numpy.empty(room, "f4")
        self._next = self._filled = 0
        self._lock = threading.Lock()

    @property
    def used_bytes(self) -> int:
        """What it takes in memory."""
        return int(self._slots.nbytes) + self._filled * self._row_bytes

    def compared(self, places: Any, rows: Any, query: Any, read: Read) -> Compared:
        """The rows at ``places``, both rising, that have a vector, beside a query of length 1."""
        with self._lock:
            slots = self._slots.take(places)
            held = slots >= 0
            lacking = places.size - numpy.count_nonzero(held)
            if lacking:
                slots = slots[held]
            matrix, lengths = self._matrix.take(slots, axis=0), self._lengths.take(slots)
        if lacking:
            new = read(rows[~held])
            at = rows.searchsorted([row for row, _ in new])
            fresh = numpy.frombuffer(b"".join([data for _, data in new]), "<f4")
            fresh = fresh.reshape(len(new), self._width)
            measured = _lengths(fresh)
            self._keep(places[at], fresh, measured)
            rows = numpy.concatenate((rows[held], rows[at]))
            matrix = numpy.concatenate((matrix, fresh))
            lengths = numpy.concatenate((lengths, measured))
        return Compared(rows, matrix, _near(matrix, lengths, query))

    def _keep(self, places: Any, matrix: Any, lengths: Any) -> None:
        with self._lock:
            new = (self._slots.take(places) < 0).nonzero()[0][: self._owners.size]
            if new.size < places.size:
                places, matrix, lengths = places[new], matrix[new], lengths[new]
            # All in one stretch: what does not fit at the end begins anew.
            first = self._next if self._next + places.size <= self._owners.size else 0
            last = self._next = first + places.size
            gone = self._owners[first:last]
            self._slots[gone[gone >= 0]] = -1
            self._owners[first:last] = places
            self._slots[places] = numpy.arange(first, last)
            self._matrix[first:last], self._lengths[first:last] = matrix, lengths
            self._filled = max(self._filled, last)


def _lengths(matrix: Any) -> Any:
    """The length of each vector; 0 where it is not safe to compare it in float32 as it is."""
    with numpy.errstate(over="ignore"):
        lengths = numpy.sqrt(numpy.vecdot(matrix, matrix))
    if lengths.size and not _SHORT < lengths.min() <= lengths.max() < _LONG:
        lengths[~((lengths > _SHORT) & (lengths < _LONG))] = 0.0
    return lengths


def _near(matrix: Any, lengths: Any, query: Any) -> Any:
    if not lengths.all():
        return cosine_scores(matrix, query)
    # Not a product of the matrix, for which BLAS would wake other threads.
    return numpy.vecdot(matrix, query) / lengths
