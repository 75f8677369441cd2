"""Vectors as they were given, those of a source's segments that searches have lately compared.

A row of a segment that is not void is what the segment was made of, so its vector may be kept for
as long as the segment stands. They lie in one matrix, so that many are compared at once; where it
does not hold all of a source, those that were read first make room for others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy

from holdfast.core.ranking import cosine_scores

_SHORT, _LONG = 1e-12, 1e12
"""Lengths of vectors between which products in float32 neither vanish nor overflow."""
_ROW_BYTES: Final = 8
"""What a row takes besides its vector."""

Read = Callable[[Any], Iterable[tuple[int, bytes]]]
"""The vectors at some places, each with its place."""


@dataclass(frozen=True)
class Compared:
    """Rows, by their numbers or places, with their vectors."""

    rows: Any
    matrix: Any
    near: Any
    """How similar each is to the query: cosines in single precision."""

    def best(self, count: int) -> Compared:
        """Those that are nearest, and what ties with the last of them."""
        if self.near.size <= count:
            return self
        limit = numpy.partition(self.near, -count)[-count]
        return self.where((self.near >= limit).nonzero()[0])

    def where(self, kept: Any) -> Compared:
        """Some of them: by a mask or by their order."""
        return Compared(self.rows[kept], self.matrix[kept], self.near[kept])

    def and_(self, other: Compared) -> Compared:
        """These and others."""
        if not other.rows.size:
            return self
        return Compared(
            numpy.concatenate((self.rows, other.rows)),
            numpy.concatenate((self.matrix, other.matrix)),
            numpy.concatenate((self.near, other.near)),
        )


class Vectors:
    """Rows with their vectors, ready to be compared with any query."""

    def __init__(self, rows: Any, matrix: Any) -> None:
        self.rows = rows
        self.matrix = matrix
        self._lengths = _lengths(matrix)

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

    def compared(self, places: Any, query: Any, read: Read) -> Compared:
        """Those of ``places`` that have a vector, in any order, beside a query of length 1."""
        with self._lock:
            slots = self._slots.take(places)
            held = slots >= 0
            if not held.all():
                slots = slots[held]
            matrix, lengths = self._matrix.take(slots, axis=0), self._lengths.take(slots)
        if slots.size < places.size:
            new = dict(read(places[~held]))
            at = numpy.fromiter(new, "i8", len(new))
            fresh = numpy.frombuffer(b"".join(new.values()), "<f4").reshape(len(new), self._width)
            measured = _lengths(fresh)
            self._keep(at, fresh, measured)
            places = numpy.concatenate((places[held], at))
            matrix = numpy.concatenate((matrix, fresh))
            lengths = numpy.concatenate((lengths, measured))
        return Compared(places, matrix, _near(matrix, lengths, query))

    def _keep(self, places: Any, matrix: Any, lengths: Any) -> None:
        room = self._owners.size
        with self._lock:
            new = numpy.flatnonzero(self._slots[places] < 0)[:room]
            if not new.size:
                return
            at = (self._next + numpy.arange(new.size)) % room
            gone = self._owners[at]
            self._slots[gone[gone >= 0]] = -1
            self._owners[at] = places[new]
            self._slots[places[new]] = at
            self._matrix[at], self._lengths[at] = matrix[new], lengths[new]
            self._next = int(at[-1] + 1) % room
            self._filled = min(self._filled + new.size, room)


def _lengths(matrix: Any) -> Any:
    """The length of each vector; 0 where it is not safe to compare it in float32 as it is."""
    wide = matrix.astype("f8")
    lengths = numpy.sqrt(numpy.einsum("ij,ij->i", wide, wide))
    lengths[(lengths < _SHORT) | (lengths > _LONG)] = 0.0
    return lengths.astype("f4")


def _near(matrix: Any, lengths: Any, query: Any) -> Any:
    if not lengths.all():
        return cosine_scores(matrix, query)
    # Not a product of the matrix, for which BLAS would wake other threads.
    return numpy.vecdot(matrix, query) / lengths
