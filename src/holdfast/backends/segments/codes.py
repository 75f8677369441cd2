"""Vectors as codes: a bit a dimension to sieve all rows by, two more to order what passes.

A vector is turned first, always in the same way, so that its weight spreads over all dimensions:
signs say little of a vector that is zero almost everywhere, as hashed words are, and much of the
same vector turned. The first sieve counts in how many dimensions signs differ. Rows that pass are
ordered by an estimate of their cosine, from signs and four levels of magnitude. The caller compares
the first of those exactly.
"""

from __future__ import annotations

import math
from functools import lru_cache, reduce
from operator import or_
from typing import Any, Final

import numpy

from holdfast.backends.segments.parts import Loader

_BITS: Final = 64
_TURNED_AT_ONCE: Final = 16 * 1_024
"""So many numbers of vectors are turned in one go: BLAS wakes other threads for larger products,
which take longer than they save."""
_STEP: Final = 0.586
"""Of the magnitudes, in standard deviations: the best one for a normal distribution (Max, 1960)."""
_SHIFTS: Final = numpy.array([[0], [2], [4], [6]], "u8")
_LEVELS: Final = numpy.uint64(0x0303030303030303)
"""Of eight bytes at once."""
_LOST: Final = 0.0374
"""Of the variance, by eight levels so far apart that stand for a normal distribution (the same)."""
_ALONG: Final = 0.05
"""At least so much of it is counted, since what is lost is not the same for all vectors."""
_SURE: Final = 3.5
"""Standard deviations beyond which nothing is expected."""
_MANY: Final = 256
"""Dimensions from which on what is lost spreads as it should."""
ALL: Final = slice(None)
AT_ONCE: Final = 1 << 16
"""Words of signs that are counted in one go; of more, word by word, so that caches hold a word."""
_STRETCH: Final = 1 << 15
"""Of so many rows at a time, so that caches hold what is made of a word, too."""
_TOLD_AT_ONCE: Final = 96 * 1_024
"""Numbers of which estimates are made in one go, so that a core's own cache holds them."""
_COUNTED: Final = 3
"""Words whose differing bits, together, fit into a byte."""
_SAMPLED: Final = 8
_EVERY: Final = 8
_SPARE: Final = 48
"""To count more than so many times what is wanted, every eighth is looked at first, and so many
more of these are allowed for."""


def padded(width: int) -> int:
    """Dimensions of a turned vector: a whole number of 64-bit words."""
    return -(-width // _BITS) * _BITS


def words(width: int) -> int:
    """How many 64-bit words the signs of a vector take."""
    return padded(width) // _BITS


def size(width: int) -> int:
    """Bytes that stand for a vector: its signs and levels, its scale and its row's number."""
    return padded(width) * 3 // 8 + 12


def turned(matrix: Any) -> Any:
    """Vectors [rows, width] turned, float32 [rows, padded width]."""
    rows, width = matrix.shape
    stretch = max(1, _TURNED_AT_ONCE // padded(width))
    wide = numpy.empty((rows, padded(width)), "f4")
    for start in range(0, rows, stretch):
        own = slice(start, start + stretch)
        wide[own] = _turn(matrix[own])
    return wide


def _turn(matrix: Any) -> Any:
    """Two rounds of random signs and Walsh-Hadamard transforms of blocks, shuffled in between."""
    rows, width = matrix.shape
    full = padded(width)
    first, second, order = _chance(full)
    wide = matrix
    if width < full:
        wide = numpy.zeros((rows, full), "f4")
        wide[:, :width] = matrix
    return _transformed(_transformed(wide * first).take(order, axis=1) * second)


@lru_cache(8)
def _chance(full: int) -> tuple[Any, Any, Any]:
    chance = numpy.random.Generator(numpy.random.PCG64(full))
    first, second = (chance.integers(0, 2, full).astype("f4") * 2 - 1 for _ in range(2))
    order = numpy.argsort(chance.integers(0, 1 << 62, full), kind="stable")
    # Each of the two transforms makes a block longer by the root of its size.
    return first, second / numpy.float32(full & -full), order


def _transformed(wide: Any) -> Any:
    """Each block, as a matrix, between two small transforms: in place of one of its own size."""
    rows, full = wide.shape
    block = full & -full
    low = 1 << (block.bit_length() - 1) // 2
    halfway = (wide.reshape(-1, low) @ _hadamard(low)).reshape(-1, block // low, low)
    return (_hadamard(block // low) @ halfway).reshape(rows, full)


@lru_cache(16)
def _hadamard(size: int) -> Any:
    """The Walsh-Hadamard transform of a power of two."""
    made = numpy.ones((1, 1), "f4")
    while len(made) < size:
        made = numpy.kron(numpy.array([[1, 1], [1, -1]], "f4"), made)
    return made


def pack(matrix: Any) -> dict[str, Any]:
    """The parts that stand for vectors [rows, width].

    ``signs``: uint64 [words, rows], by word, so that a scan runs along memory. ``levels``: uint8
    [rows, padded width / 4], two bits a dimension, a quarter of them at each of four shifts.
    ``scales``: float32 [rows], one over the length of what they say.
    """
    # A row's own scale first, so that neither tiny nor huge numbers overflow on the way.
    peaks = numpy.maximum(matrix.max(axis=1), -matrix.min(axis=1))[:, None]
    wide = turned((matrix / numpy.where(peaks > 0, peaks, 1)).astype("f4", copy=False))
    signs = _signs(wide)
    size = numpy.sqrt(numpy.vecdot(wide, wide) / wide.shape[1])[:, None] * numpy.float32(_STEP)
    numpy.abs(wide, out=wide)
    wide /= numpy.where(size > 0, size, 1)
    level = numpy.minimum(wide, 3, out=wide).astype("u1")
    held = numpy.multiply(level, 2, out=wide, casting="unsafe")
    held += 1
    quarters = numpy.split(level, 4, axis=1)
    shifted = [q << shift for q, shift in zip(quarters, _SHIFTS.ravel().tolist(), strict=True)]
    return {
        "signs": signs,
        "levels": reduce(or_, shifted),
        "scales": (1 / numpy.sqrt(numpy.vecdot(held, held).astype("f8"))).astype("<f4"),
    }


def joined(packed: list[dict[str, Any]]) -> dict[str, Any]:
    """The parts for all rows, in order, from those of stretches of them."""
    return {
        "signs": numpy.concatenate([one["signs"] for one in packed], axis=1),
        "levels": numpy.concatenate([one["levels"] for one in packed]),
        "scales": numpy.concatenate([one["scales"] for one in packed]),
    }


def _signs(wide: Any) -> Any:
    bits = numpy.packbits(wide > 0, axis=1, bitorder="little")
    return numpy.ascontiguousarray(bits.view("<u8").T)


class Packed:
    """A segment's vectors as codes."""

    def __init__(self, load: Loader, width: int) -> None:
        self._load = load
        self._width = width
        self.rows = load("rows")
        self.signs = load("signs").reshape(words(width), -1)

    @property
    def levels(self) -> Any:
        """Magnitudes, [rows, padded width / 4]."""
        return self._load("levels").reshape(-1, padded(self._width) // 4)

    @property
    def scales(self) -> Any:
        """One over the length of what signs and levels say."""
        return self._load("scales")


class Query:
    """A vector that codes are compared with."""

    def __init__(self, unit: Any) -> None:
        """``unit`` is of length 1, and so is what it is turned into."""
        wide = _turn(unit.reshape(1, -1))
        self._signs = _signs(wide)
        # What codes say of a vector is at some angle to it, and so falls short of its cosine.
        told = wide[0] / numpy.float32(math.sqrt(1 - _LOST))
        self._sum = told.sum()
        self._doubled = 2 * told

    def distances(self, signs: Any, words: slice = ALL, out: Any = None) -> Any:
        """In how many dimensions each row's sign differs, as uint16; ``signs`` are these words'."""
        wanted, rows = self._signs[words], signs.shape[1]
        out = numpy.empty(rows, "u2") if out is None else out
        if signs.size <= AT_ONCE:
            differing = numpy.bitwise_count(signs ^ wanted)
            return numpy.add.reduce(differing, axis=0, dtype="u2", out=out)
        for start in range(0, rows, _STRETCH):
            own = slice(start, start + _STRETCH)
            _count(signs[:, own], wanted, out[own])
        return out

    def estimates(self, signs: Any, levels: Any, scales: Any) -> Any:
        """What codes say of the cosine; ``signs`` are those of each row together, [rows, words]."""
        told = numpy.empty(len(levels), "f4")
        stretch = max(1, _TOLD_AT_ONCE // self._doubled.size)
        for start in range(0, len(levels), stretch):
            own = slice(start, start + stretch)
            self._tell(signs[own], levels[own], told[own])
        told += self._sum
        told *= scales
        return told

    def _tell(self, signs: Any, levels: Any, out: Any) -> None:
        rows, quarter = levels.shape
        # A level l of a positive number stands for 2 l + 1, and of a negative one for -(2 l + 1),
        # which is 2 (~l) + 1; doubling and adding are left for the sums.
        held = numpy.unpackbits(signs.view("u1"), axis=1, bitorder="little").view("i1")
        held -= 1
        shifted = levels.view("u8").reshape(rows, 1, -1) >> _SHIFTS
        shifted &= _LEVELS
        held ^= shifted.view("i1").reshape(rows, 4 * quarter)
        numpy.vecdot(held.astype("f4"), self._doubled, out=out)

    def reach(self, cosine: float, words: slice = ALL) -> int:
        """The greatest distance that a row of this cosine has, but for a few in ten thousand."""
        width = _BITS * len(self._signs[words])
        share = math.acos(min(max(cosine, -1.0), 1.0)) / math.pi
        return math.ceil(width * share + _SURE * math.sqrt(width * share * (1 - share)))

    def doubt(self, cosine: float) -> float:
        """How far apart estimates of rows of this cosine are, but for a few in ten thousand.

        Infinite where there are too few dimensions to say.
        """
        width = int(self._doubled.size)
        if width < _MANY:
            return math.inf
        # What is lost of a vector lies across it, and so does what a query has beside its cosine.
        across = max(1 - cosine * cosine, _ALONG)
        return _SURE * math.sqrt(2 * _LOST * across / width)


def _count(signs: Any, wanted: Any, out: Any) -> None:
    """In how many dimensions each row's sign differs, word by word."""
    rows = signs.shape[1]
    differing, count = numpy.empty(rows, "u8"), numpy.empty(rows, "u1")
    few = numpy.empty(rows, "u1")
    out[:] = 0
    for number, word in enumerate(signs):
        numpy.bitwise_xor(word, wanted[number], out=differing)
        if number % _COUNTED:
            few += numpy.bitwise_count(differing, out=count)
            continue
        if number:
            out += few
        numpy.bitwise_count(differing, out=few)
    out += few


def closest(distance: Any, count: int, limit: int) -> Any:
    """Places of the ``count`` least distances, and all up to the distance that it takes.

    None of them is more than ``limit`` away.
    """
    if distance.size > _SAMPLED * count:
        # A sample says how far to look; what lies within is then counted.
        sample, enough = distance[::_EVERY], count // _EVERY + _SPARE
        within = min(limit, _least(sample, enough)) if sample.size > enough else limit
        places = (distance <= within).nonzero()[0]
        if places.size < count and within < limit:
            places = (distance <= limit).nonzero()[0]
    else:
        places = (distance <= limit).nonzero()[0]
    if places.size <= count:
        return places
    near = distance.take(places)
    return places[near <= _least(near, count)]


def _least(numbers: Any, count: int) -> int:
    """The greatest of the ``count`` least."""
    parted = numbers.copy()
    parted.partition(count - 1)
    return int(parted[count - 1])
