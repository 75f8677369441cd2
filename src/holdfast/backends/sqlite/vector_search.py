"""The vector leg: sieved by codes and compared exactly, or compared with every eligible row."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy

from holdfast.backends.segments import codes, columns
from holdfast.backends.segments.originals import Compared, Vectors
from holdfast.backends.sqlite.index import Chosen, Index, Picture, Source
from holdfast.backends.sqlite.merging import Limits
from holdfast.backends.sqlite.narrowing import Narrowing
from holdfast.core.ranking import exact_cosines
from holdfast.core.search import VectorLeg

_ROUNDING: Final = 1e-4
"""How far a float32 product may be from the exact cosine; candidates are kept this far below."""
_COMPARED: Final = 40
"""Rows that are compared exactly at least, out of those that their codes put first ..."""
_COMPARED_PER_HIT: Final = 1.5
"""... and this many more for each hit that is asked for."""
_SIEVED_SIGNS: Final = 256_000
"""Rows with so many signs between them pass the sieve at least, since narrow ones say less ..."""
_SIEVED_PER_COMPARED: Final = 10
"""... and this many more for each that is to be compared, of the first so many of these ..."""
_FIRST: Final = 100
_SIEVED_PER_FURTHER: Final = 4
"""... and this many for each beyond them."""
_SPARE: Final = 6
"""Rows beyond those asked for, or one for eight of them, that the filter may refuse before more
are looked for."""
_FEW: Final = 128
"""So many rows are all compared exactly, ..."""
_FEW_NUMBERS: Final = 768 * 1_024
"""... and as many as have so many numbers between them where memory holds all of the source."""
_FIRST_WORDS: Final = 4
"""Of so many words the signs are compared first: of 256 dimensions."""
_SCATTERED: Final = 8
"""If more than one in so many rows are near by their first signs, the rest are not gathered."""
_LISTED: Final = 1_500
"""More candidates than this are not looked up one by one; the filter is asked for all its rows."""
_WIDEN: Final = 4


@dataclass
class Found:
    """Rows with their exact cosines, and whether nothing else could have been among them."""

    rows: Any
    scores: Any
    exact: bool = True


class VectorSearch:
    """One vector leg, in one read transaction."""

    def __init__(self, index: Index, source: Source, within: Narrowing) -> None:
        self._index = index
        self._source = source
        self._within = within
        self.picture: Picture | None = index.picture(source)
        self._read = 0

    def best(self, leg: VectorLeg, k: int) -> Found:
        """At least the best k rows and what ties with the last of them."""
        query = numpy.frombuffer(leg.vector.data, "<f4")
        if self.picture is None:
            every = Vectors(*self._within.vectors(leg)).compared(_unit(query))
            self._read = every.rows.size
            return _ranked(every, query, k, exact=True)
        field = _Field(self._index, self._source, self.picture, leg, query, self._within)
        wanted = _COMPARED + math.ceil(_COMPARED_PER_HIT * k)
        if field.count <= max(wanted, field.few):
            return self._outright(field, query, k)
        return self._sieved(field, query, k, wanted)

    def is_due(self, limits: Limits) -> bool:
        """Whether so much was read that no segment holds that a merge would do good."""
        if self.picture is not None:
            return self.picture.is_due(limits)
        return limits.are_reached(self._read, 0, 0)

    def _outright(self, field: _Field, query: Any, k: int) -> Found:
        """Every row is compared; the filter is asked from the nearest on until k pass."""
        every = field.everything()
        first = k + _spare(k)
        while True:
            passing, _ = self._asked(every, k, first)
            if passing.rows.size >= k or first >= every.rows.size:
                return _ranked(passing, query, k, exact=True)
            first *= _WIDEN
            if _LISTED < first < every.rows.size:
                kept = numpy.isin(every.rows, self._within.eligible(), assume_unique=True)
                return _ranked(every.where(kept), query, k, exact=True)

    def _sieved(self, field: _Field, query: Any, k: int, wanted: int) -> Found:
        """Compare candidates from the closest on, until enough of them have passed the filter."""
        spare = 0 if self._within.all else _spare(k)
        taken, best = wanted, k + spare
        while taken <= _LISTED or best:
            packed = field.closest(taken, best)
            loose = field.closest_loose((k + spare) * taken // wanted)
            every = packed.and_(loose)
            whole = packed.rows.size >= field.packed
            rest = loose.rows.size >= field.loose.rows.size
            passing, refused = self._asked(every, k, k + spare)
            # Where no more are refused than was allowed for, what was left out is behind the best.
            if passing.rows.size >= k and ((whole and rest) or (best and refused <= spare)):
                return _ranked(passing, query, k, exact=whole)
            passing, _ = self._asked(every, k, every.rows.size)
            tail = numpy.isin(passing.rows, loose.rows, assume_unique=True).sum()
            enough = whole or passing.rows.size - tail >= wanted
            if enough and (rest or tail >= k):
                return _ranked(passing, query, k, exact=whole)
            # As many as it takes if what comes passes as often as what came, and some to spare.
            share = every.rows.size / max(passing.rows.size, 1)
            taken, best = math.ceil(2 * taken * share), 0
        return self._selected(field, query, k, wanted)

    def _selected(self, field: _Field, query: Any, k: int, wanted: int) -> Found:
        """Few rows pass the filter: find out which, and look among them alone."""
        field.choose(self._within.eligible())
        if field.count <= max(_LISTED, field.few):
            return _ranked(field.everything(), query, k, exact=True)
        every = field.closest(wanted, k).and_(field.loose)
        return _ranked(every, query, k, exact=False)

    def _asked(self, every: Compared, k: int, first: int) -> tuple[Compared, int]:
        """Of the ``first`` nearest those that pass, and how many do not.

        What may tie with the k-th of them is asked as well.
        """
        if self._within.all:
            return every, 0
        near = every.near
        limit = -numpy.inf if near.size <= first else numpy.partition(near, -first)[-first]
        asked = numpy.flatnonzero(near >= limit)
        passing = asked[self._within.passes(every.rows[asked])]
        count = asked.size
        if passing.size >= k:
            bound = numpy.partition(near[passing], -k)[-k] - _ROUNDING
            if bound < limit:
                asked = numpy.flatnonzero((near >= bound) & (near < limit))
                more = asked[self._within.passes(every.rows[asked])]
                passing, count = numpy.concatenate((passing, more)), count + asked.size
        return every.where(passing), count - passing.size


def _spare(k: int) -> int:
    return max(_SPARE, k // 8)


def _unit(query: Any) -> Any:
    """The query at length 1."""
    wide = query.astype("f8")
    return (wide / math.sqrt(float(wide @ wide))).astype("f4")


def _ranked(every: Compared, query: Any, k: int, *, exact: bool) -> Found:
    """The best k and what ties, by exact cosines."""
    if every.rows.size > k:
        near = every.near
        every = every.where(near >= numpy.partition(near, -k)[-k] - _ROUNDING)
    rows, scores = every.rows, exact_cosines(every.matrix, query)
    if rows.size > k:
        near = scores >= numpy.partition(scores, -k)[-k]
        rows, scores = rows[near], scores[near]
    return Found(rows, scores, exact)


_NOTHING: Final = Compared(numpy.empty(0, "i8"), numpy.empty((0, 0), "f4"), numpy.empty(0, "f4"))


class _Field:
    """The rows of a vector field that may pass the filter, as far as segments say, and a query."""

    def __init__(
        self,
        index: Index,
        source: Source,
        picture: Picture,
        leg: VectorLeg,
        query: Any,
        within: Narrowing,
    ) -> None:
        self._query, self._unit = query, _unit(query)
        self._void = codes.padded(query.size) + 1
        """The distance of a row that is no more: greater than that of any."""
        self._segments = [segment.id for segment in picture.segments]
        self._index, self._leg, self._within = index, leg, within
        self._packed = [
            codes.Packed(index.loader(segment.id), query.size) for segment in picture.segments
        ]
        self._bases = [0]
        for packed in self._packed:
            self._bases.append(self._bases[-1] + packed.rows.size)
        self._dead = [
            base + picture.dead(segment, packed.rows)
            for segment, packed, base in zip(
                picture.segments, self._packed, self._bases, strict=False
            )
        ]
        self._originals = index.originals(source, picture)
        self._chosen: Chosen | None = None
        """The rows that may pass, where that is not all of them."""
        if within.hints:
            self._chosen = index.chosen(source, picture, within.hinted, self._allowed)
        self.packed = self._bases[-1] - sum(dead.size for dead in self._dead)
        """Rows that segments hold, that count, and that may pass."""
        if self._chosen is not None:
            self.packed = self._chosen.places.size
        self.loose = picture.loose_vectors().compared(self._unit) if picture.tail else _NOTHING
        """Rows that no segment holds."""

    @property
    def count(self) -> int:
        """How many rows may pass."""
        return int(self.packed + self.loose.rows.size)

    @property
    def few(self) -> int:
        """How many rows are so few that all of them are compared."""
        return max(_FEW, _FEW_NUMBERS // self._unit.size if self._originals.holds_all else 0)

    def choose(self, rows: Any) -> None:
        """Leave out all rows but these, which rise."""
        mask = self._mask([numpy.isin(p.rows, rows, assume_unique=True) for p in self._packed])
        self._chosen = self._gathered(mask)
        self.packed = self._chosen.places.size
        self.loose = self.loose.where(numpy.isin(self.loose.rows, rows, assume_unique=True))

    def everything(self) -> Compared:
        """All rows, compared."""
        return self._every().and_(self.loose)

    def closest(self, count: int, best: int = 0) -> Compared:
        """The rows of segments that come closest, ``count`` of them and what ties.

        With ``best``, fewer: none of which codes say that so many others are better.
        """
        if self.packed <= count:
            return self._every()
        further = max(count - _FIRST, 0)
        most = _SIEVED_PER_COMPARED * (count - further) + _SIEVED_PER_FURTHER * further
        most += _SIEVED_SIGNS // codes.padded(self._unit.size)
        if math.isinf(self._code.doubt):
            best = 0
        near = self._promising(most, count, best) if best else self._closest(most)
        if self._originals.holds_all or near.size <= (best or count):
            return self._compared(self._places(near)).best(count)
        estimated, count = self._estimates(near), min(count, near.size)
        limit = numpy.partition(estimated, -count)[-count]
        if best:
            bound = numpy.partition(estimated, -best)[-best]
            limit = max(limit, bound - self._code.doubt)
        return self._compared(self._places(near[estimated >= limit]))

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
        tried = self._nearness(codes.closest(distance, count, self._void - 1))
        bound = float(numpy.partition(tried, -best)[-best]) if tried.size >= best else -1.0
        limit = min(self._code.reach(bound), self._void - 1)
        if rest is None:
            return codes.closest(distance, most, limit)
        near = (distance <= min(self._code.reach(bound, first), limit)).nonzero()[0]
        if near.size * _SCATTERED > rows:
            return codes.closest(distance + self._distances(rest), most, limit)
        distance = distance[near] + self._code.distances(self._signs(near, rest), rest)
        return near[codes.closest(distance, most, limit)]

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
        for dead in self._dead:
            distance[dead] = self._void
        return distance

    def _signs(self, at: Any, words: slice = codes.ALL) -> Any:
        """The signs of the rows of which `_distances` speaks at ``at``, rising; by word."""
        if self._chosen is not None:
            return self._chosen.signs[words].take(at, axis=1)
        signs = [packed.signs[words].take(own, axis=1) for packed, own in self._parts(at)]
        if len(signs) == 1:
            return signs[0]
        none = numpy.empty((codes.words(self._unit.size), 0), "u8")[words]
        return numpy.concatenate([none, *signs], axis=1)

    def _places(self, at: Any) -> Any:
        """Where the rows stand of which `_distance` speaks at ``at``."""
        return at if self._chosen is None else self._chosen.places[at]

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
        for dead in self._dead:
            mask[dead] = False
        return mask

    def _gathered(self, mask: Any) -> Chosen:
        """The places in a mask, with their signs."""
        self._chosen = None
        places = numpy.flatnonzero(mask)
        return Chosen(places, self._signs(places))

    def _estimates(self, at: Any) -> Any:
        parts = self._parts(self._places(at))
        levels = [packed.levels.take(own, axis=0) for packed, own in parts]
        scales = [packed.scales.take(own) for packed, own in parts]
        signs = numpy.ascontiguousarray(self._signs(at).T)
        return self._code.estimates(signs, numpy.concatenate(levels), numpy.concatenate(scales))

    def _parts(self, places: Any) -> list[tuple[codes.Packed, Any]]:
        """Rising places as those of each segment."""
        cuts = numpy.searchsorted(places, self._bases)
        return [
            (packed, places[cuts[n] : cuts[n + 1]] - self._bases[n])
            for n, packed in enumerate(self._packed)
        ]

    def _every(self) -> Compared:
        """All rows of segments, compared."""
        if self._chosen is not None:
            return self._compared(self._chosen.places)
        return self._compared(numpy.flatnonzero(self._mask([])))

    def _compared(self, places: Any) -> Compared:
        """The rows at rising places, by their numbers."""
        found = self._originals.compared(places, self._unit, self._read)
        return Compared(self._numbers(found.rows), found.matrix, found.near)

    def _read(self, places: Any) -> Iterable[tuple[int, bytes]]:
        rows = self._numbers(places)
        found = self._within.originals(self._leg, rows)
        at = numpy.searchsorted(rows, [row for row, _ in found])
        return zip(places[at].tolist(), (data for _, data in found), strict=True)

    def _numbers(self, places: Any) -> Any:
        """The numbers of the rows at places, in any order."""
        if len(self._packed) == 1:
            return self._packed[0].rows[places]
        numbers = numpy.empty(places.size, "i8")
        owners = numpy.searchsorted(self._bases, places, side="right") - 1
        for n, packed in enumerate(self._packed):
            own = owners == n
            numbers[own] = packed.rows[places[own] - self._bases[n]]
        return numbers
