"""Vectors as they were given, those of a source's segments that searches have lately compared.

A row of a segment that is not void is what the segment was made of, so its vector may be kept for
as long as the segment stands. They lie in one matrix, so that many are compared at once: each
at its row's place where there is room for all of a source; else those that were read first make
room for others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy

from holdfast.core.ranking import cosine_scores

_SHORT, _LONG = 1e-12, 1e12
"""Lengths of vectors between which products in float32 neither vanish nor overflow."""
_ROW_BYTES: Final = 8
"""What a row takes besides its vector."""
_APART: Final = 4
"""To compare one in so many rows that lie apart takes as long as to compare all in a row."""
_STRETCH_NUMBERS: Final = 96 * 1_024
"""Of rows that lie apart so many numbers are compared at once: a core's own cache holds them."""

Read = Callable[[Any, Any], Any]
"""Reads the vectors of rows, by their numbers, into a matrix; which of them have one, as a mask."""


@dataclass(frozen=True)
class Compared:
    """Rows, by their numbers, and how similar they are to a query."""

    rows: Any
    near: Any
    """Cosines in single precision."""
    held: Any
    """A matrix that holds their vectors ..."""
    at: Any = None
    """... and where; None where it holds nothing else, in their order."""

    @property
    def matrix(self) -> Any:
        """Their vectors."""
        return self.held if self.at is None else self.held.take(self.at, axis=0)

    def best(self, count: int, slack: float = 0.0) -> Compared:
        """Those that are nearest, and what is at most ``slack`` behind the last of them."""
        if self.near.size <= count:
            return self
        return self.where((self.near >= greatest(self.near, count) - slack).nonzero()[0])

    def where(self, kept: Any) -> Compared:
        """Some of them: by a mask or by their order."""
        if kept.dtype == bool:
            kept = kept.nonzero()[0]
        at = kept if self.at is None else self.at[kept]
        return Compared(self.rows[kept], self.near[kept], self.held, at)

    def and_(self, other: Compared) -> Compared:
        """These and others."""
        if not other.rows.size:
            return self
        if not self.rows.size:
            return other
        return Compared(
            numpy.concatenate((self.rows, other.rows)),
            numpy.concatenate((self.near, other.near)),
            numpy.concatenate((self.matrix, other.matrix)),
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
        return Compared(self.rows, _near(self.matrix, self._lengths, query), self.matrix)


class AllOriginals:
    """Vectors by their rows' places in the segments, as one number through all. Thread-safe."""

    holds_all = True
    """Whether there is room for every row, so that comparing many soon reads nothing."""

    def __init__(self, rows: int, width: int) -> None:
        # The system gives this memory as it is filled.
        self._matrix = numpy.zeros((rows, width), "<f4")
        self._lengths = numpy.ones(rows, "f4")
        self._known = numpy.zeros(rows, bool)
        self._lock = threading.Lock()
        self._filled = 0

    @property
    def used_bytes(self) -> int:
        """What it takes in memory."""
        vector_bytes = 4 * self._matrix.shape[1]
        return int(self._filled * vector_bytes + self._lengths.nbytes + self._known.nbytes)

    def compared(self, places: Any, rows: Any, query: Any, read: Read) -> Compared:
        """The rows at ``places``, both rising, that have a vector, beside a query of length 1."""
        known = self._known.take(places)
        if not known.all():
            self._fill(places[~known], rows[~known], read)
            known = self._known.take(places)
            places, rows = places[known], rows[known]
        if places.size * _APART > len(self._matrix):
            near = _near(self._matrix, self._lengths, query)
            if places.size < near.size:
                near = near.take(places)
        else:
            near = self._gathered(places, query)
        return Compared(rows, near, self._matrix, places)

    def _gathered(self, places: Any, query: Any) -> Any:
        """How similar rows that lie apart are, a stretch of them at a time."""
        stretch = max(1, _STRETCH_NUMBERS // query.size)
        near = [
            _near(self._matrix.take(own, axis=0), self._lengths.take(own), query)
            for start in range(0, places.size, stretch)
            if (own := places[start : start + stretch]).size
        ]
        return near[0] if len(near) == 1 else numpy.concatenate(near or [_NONE])

    def _fill(self, places: Any, rows: Any, read: Read) -> None:
        found, matrix, lengths = _read(rows, self._matrix.shape[1], read)
        places = places[found]
        with self._lock:
            self._matrix[places], self._lengths[places] = matrix, lengths
            self._known[places] = True
            self._filled = int(numpy.count_nonzero(self._known))


class Originals:
    """The same where there is no room for all: those that were read last."""

    holds_all = False

    def __init__(self, rows: int, width: int, room: int) -> None:
        self._row_bytes = 4 * width + _ROW_BYTES
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
            at, fresh, measured = _read(rows[~held], self._width, read)
            at = (~held).nonzero()[0][at]
            self._keep(places[at], fresh, measured)
            rows = numpy.concatenate((rows[held], rows[at]))
            matrix = numpy.concatenate((matrix, fresh))
            lengths = numpy.concatenate((lengths, measured))
        return Compared(rows, _near(matrix, lengths, query), matrix)

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


def originals(rows: int, width: int, limit_bytes: int) -> AllOriginals | Originals:
    """Room for the vectors of so many rows, or for as many as the limit allows."""
    room = limit_bytes // (4 * width + _ROW_BYTES)
    return AllOriginals(rows, width) if room >= rows else Originals(rows, width, room)


def _read(rows: Any, width: int, read: Read) -> tuple[Any, Any, Any]:
    """Which of some rows have a vector, these, and their lengths."""
    matrix = numpy.empty((rows.size, width), "<f4")
    found = read(rows, matrix)
    if not found.all():
        matrix = matrix[found]
    return found.nonzero()[0], matrix, _lengths(matrix)


def _lengths(matrix: Any) -> Any:
    """The length of each vector; 0 where it is not safe to compare it in float32 as it is."""
    with numpy.errstate(over="ignore"):
        lengths = numpy.sqrt(numpy.vecdot(matrix, matrix))
    if lengths.size and not _SHORT < lengths.min() <= lengths.max() < _LONG:
        lengths[~((lengths > _SHORT) & (lengths < _LONG))] = 0.0
    return lengths


def _near(matrix: Any, lengths: Any, query: Any) -> Any:
    if not lengths.all():
        unsafe = lengths == 0
        with numpy.errstate(over="ignore", invalid="ignore"):
            near = numpy.vecdot(matrix, query) / numpy.where(unsafe, 1, lengths)
        near[unsafe] = cosine_scores(matrix[unsafe], query)
        return near
    # Not a product of the matrix, for which BLAS would wake other threads.
    return numpy.vecdot(matrix, query) / lengths


_NONE: Final = numpy.empty(0, "f4")
