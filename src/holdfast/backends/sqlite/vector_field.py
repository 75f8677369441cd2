"""The rows of a vector field as one search sees them: which may pass, and which come closest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

import numpy

from holdfast.backends.segments import codes, columns
from holdfast.backends.segments.originals import Compared, Vectors, greatest
from holdfast.backends.sqlite.index import Chosen, Index, Picture, Source
from holdfast.backends.sqlite.narrowing import Narrowing
from holdfast.core.search import VectorLeg

ROUNDING: Final = 1e-4
"""How far a float32 product may be from the exact cosine; candidates are kept this far below."""
_SIEVED_SIGNS: Final = 256_000
"""Rows with so many signs between them pass the sieve at least, since narrow ones say less ..."""
_SIEVED_PER_COMPARED: Final = 10
"""... and this many more for each that is to be compared, of the first so many of these ..."""
_FIRST: Final = 100
_SIEVED_PER_FURTHER: Final = 4
"""... and this many for each beyond them."""
_FEW: Final = 128
"""So many rows are all compared exactly, ..."""
_FEW_NUMBERS: Final = 768 * 1_024
"""... and where memory holds all of the source as many as have so many numbers between them, ..."""
_FEW_PER_WANTED: Final = 60
"""... or so many for each that is wanted: of fewer, too many would pass the sieve."""
_FIRST_WORDS: Final = 4
"""Of so many words the signs are compared first: of 256 dimensions."""
_TRIED: Final = 3
"""So many rows for each that is wanted say, by the best of them, how good the best are at least."""
_SCATTERED: Final = 8
"""If more than one in so many rows are near by their first signs, the rest are not gathered."""


def unit(query: Any) -> Any:
    """The query at length 1."""
    wide = query.astype("f8")
    return (wide / math.sqrt(float(wide @ wide))).astype("f4")


class Field:
    """The rows of a vector field that may pass the filter, as far as segments say, and a query."""

    def __init__(
        self, index: Index, source: Source, picture: Picture, leg: VectorLeg, within: Narrowing
    ) -> None:
        width = leg.vector.width
        self._unit = unit(numpy.frombuffer(leg.vector.data, "<f4"))
        self._void = codes.padded(width) + 1
        """The distance of a row that is no more: greater than that of any."""
        self._index, self._within = index, within
        self._source, self._picture = source, picture
        self._segments = [segment.id for segment in picture.segments]
        self._packed = [codes.Packed(index.loader(number), width) for number in self._segments]
        self._bases = [0]
        for packed in self._packed:
            self._bases.append(self._bases[-1] + packed.rows.size)
        self._gone = picture.gone([packed.rows for packed in self._packed])
        self._none = Compared(_NO_ROWS, _NO_ROWS.astype("f4"), numpy.empty((0, width), "f4"))
        self._originals = index.originals(source, picture)
        self._chosen: Chosen | None = None
        """The rows that may pass, where that is not all of them."""
        self._hinted = bool(within.hints)
        """Whether that is what the copies of fields say."""
        if self._hinted:
            self._chosen = index.chosen(source, picture, within.hinted, self._allowed)
        self.packed = int(self._bases[-1] - self._gone.size)
        """Rows that segments hold, that count, and that may pass."""
        if self._chosen is not None:
            self.packed = self._chosen.places.size
        self.loose = picture.loose_vectors().compared(self._unit) if picture.tail else self._none
        """Rows that no segment holds."""

    @property
    def count(self) -> int:
        """How many rows may pass."""
        return int(self.packed + self.loose.rows.size)

    def few(self, wanted: int) -> int:
        """How many rows are so few that all of them are compared."""
        if not self._originals.holds_all:
            return _FEW
        return max(_FEW, self._side_by_side, _FEW_PER_WANTED * wanted)

    @property
    def _side_by_side(self) -> int:
        """Of how many rows that a filter chose the vectors are held as a matrix of their own."""
        return _FEW_NUMBERS // int(self._unit.size)

    def choose(self, rows: Any) -> None:
        """Leave out all rows but these, which rise."""
        if self._packed:
            mask = self._mask([numpy.isin(p.rows, rows, assume_unique=True) for p in self._packed])
            self._chosen, self._hinted = self._gathered(mask), False
            self.packed = self._chosen.places.size
        self.loose = self.loose.where(numpy.isin(self.loose.rows, rows, assume_unique=True))

    def everything(self) -> tuple[Compared, Compared]:
        """All rows, compared: those of segments and those of the tail."""
        return self._every(), self.loose

    def closest(self, count: int, best: int = 0) -> Compared:
        """The rows of segments that come closest, ``count`` of them and what ties.

        With ``best``, fewer: none of which codes say that so many others are better.
        """
        if self.packed <= count:
            return self._every()
        further = max(count - _FIRST, 0)
        most = _SIEVED_PER_COMPARED * (count - further) + _SIEVED_PER_FURTHER * further
        most += _SIEVED_SIGNS // codes.padded(self._unit.size)
        if math.isinf(self._code.doubt(0.0)):
            best = 0
        near = self._promising(most, count, best) if best else self._closest(most)
        if not self._originals.holds_all and near.size > (best or count):
            near = self._likely(near, count, best)
        found = self._compared(self._places(near))
        if best and self._within.all:
            return found.best(best, ROUNDING)
        return found.best(count)

    def closest_loose(self, count: int) -> Compared:
        """The rows of the tail that come closest."""
        return self.loose.best(count)

    def _closest(self, most: int) -> Any:
        return codes.closest(self._distances(), most, self._void - 1)

    def _promising(self, most: int, count: int, best: int) -> Any:
        """The same without those that are too far to be as good as so many others.

        Of many rows some signs are compared first, and the rest where these are near enough.
        """
        first, rest = codes.ALL, None
        words, rows = codes.words(self._unit.size), self._rows
        if words > _FIRST_WORDS and words * rows > codes.AT_ONCE:
            first, rest = slice(_FIRST_WORDS), slice(_FIRST_WORDS, None)
        distance = self._distances(first)
        count = min(count, _TRIED * best)
        tried = self._nearness(codes.closest(distance, count, self._void - 1))
        bound = float(greatest(tried, best)) if tried.size >= best else -1.0
        limit = min(self._code.reach(bound), self._void - 1)
        if rest is None:
            return codes.closest(distance, most, limit)
        near = (distance <= min(self._code.reach(bound, first), limit)).nonzero()[0]
        if near.size * _SCATTERED > rows:
            return codes.closest(distance + self._distances(rest), most, limit)
        distance = distance[near] + self._code.distances(self._signs(near, rest), rest)
        return near[codes.closest(distance, most, limit)]

    def _likely(self, near: Any, count: int, best: int) -> Any:
        """Those of sieved rows that codes put first."""
        estimated, count = self._estimates(near), min(count, near.size)
        limit = greatest(estimated, count)
        if best:
            bound = float(greatest(estimated, best))
            limit = max(limit, bound - self._code.doubt(bound))
        return near[estimated >= limit]

    def _nearness(self, at: Any) -> Any:
        """How similar rows are, exactly where all are at hand and as codes say where not."""
        if self._originals.holds_all:
            return self._compared(self._places(at)).near
        return self._estimates(at)

    @cached_property
    def _code(self) -> codes.Query:
        return codes.Query(self._unit)

    @property
    def _rows(self) -> int:
        """Of how many rows `_distances` speaks."""
        return self._bases[-1] if self._chosen is None else int(self._chosen.places.size)

    def _distances(self, words: slice = codes.ALL) -> Any:
        """By how many signs each row is away; those that count no more are beyond all others."""
        if self._chosen is not None:
            return self._code.distances(self._chosen.signs[words], words)
        distance = numpy.empty(self._bases[-1], "u2")
        for packed, base in zip(self._packed, self._bases, strict=False):
            part = distance[base : base + packed.rows.size]
            self._code.distances(packed.signs[words], words, part)
        if self._gone.size:
            distance[self._gone] = self._void
        return distance

    def _signs(self, at: Any, words: slice = codes.ALL) -> Any:
        """The signs of the rows of which `_distances` speaks at ``at``, rising; by word."""
        if self._chosen is not None:
            return self._chosen.signs[words].take(at, axis=1)
        return _joined([p.signs[words].take(own, axis=1) for p, own in self._parts(at)], axis=1)

    def _places(self, at: Any) -> Any:
        """Where the rows stand of which `_distance` speaks at ``at``."""
        return at if self._chosen is None else self._chosen.places.take(at)

    def _allowed(self) -> Chosen | None:
        """Which rows the copies of fields let pass; None where no segment has a copy."""
        index, hints = self._index, self._within.hints
        masks = [columns.allowed(index.loader(number), hints) for number in self._segments]
        if all(mask is None for mask in masks):
            return None
        return self._gathered(self._mask(masks))

    def _mask(self, masks: Sequence[Any]) -> Any:
        """Rows in the masks, one for each segment, that count still."""
        mask = numpy.ones(self._bases[-1], bool)
        for base, own in zip(self._bases, masks, strict=False):
            if own is not None:
                mask[base : base + own.size] = own
        mask[self._gone] = False
        return mask

    def _gathered(self, mask: Any) -> Chosen:
        """The places in a mask, with their signs."""
        self._chosen = None
        places = numpy.flatnonzero(mask)
        return Chosen(places, self._signs(places))

    def _estimates(self, at: Any) -> Any:
        parts = self._parts(self._places(at))
        levels = _joined([packed.levels.take(own, axis=0) for packed, own in parts])
        scales = _joined([packed.scales.take(own) for packed, own in parts])
        return self._code.estimates(self._signs(at).T.copy(), levels, scales)

    def _parts(self, places: Any) -> list[tuple[codes.Packed, Any]]:
        """Rising places as those of each segment that has any; of the first if there is none."""
        if len(self._packed) == 1:
            return [(self._packed[0], places)]
        cuts = places.searchsorted(self._bases).tolist()
        parts = [
            (packed, places[cuts[n] : cuts[n + 1]] - self._bases[n])
            for n, packed in enumerate(self._packed)
            if cuts[n] < cuts[n + 1]
        ]
        return parts or [(packed, places) for packed in self._packed[:1]]

    def _every(self) -> Compared:
        """All rows of segments, compared."""
        if not self.packed:
            return self._none
        if self._chosen is None:
            return self._compared(self._mask([]).nonzero()[0])
        if not self._hinted or self.packed > self._side_by_side:
            return self._compared(self._chosen.places)
        matrix = self._index.matrix(
            self._source, self._picture, self._within.hinted, self._few_vectors
        )
        found: Compared = matrix.compared(self._unit)
        return found

    def _few_vectors(self) -> Vectors:
        """The vectors of all that the filter may let pass."""
        assert self._chosen is not None
        found = self._compared(self._chosen.places)
        return Vectors(found.rows, found.matrix)

    def _compared(self, places: Any) -> Compared:
        """The rows at rising places, by their numbers."""
        rows = _joined([packed.rows.take(own) for packed, own in self._parts(places)])
        return self._originals.compared(places, rows, self._unit, self._read)

    def _read(self, rows: Any, into: Any) -> Any:
        return self._index.vectors(self._source, rows, into)


def _joined(arrays: list[Any], axis: int = 0) -> Any:
    return arrays[0] if len(arrays) == 1 else numpy.concatenate(arrays, axis)


_NO_ROWS: Final = numpy.empty(0, "i8")
