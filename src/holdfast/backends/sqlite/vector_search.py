"""The vector leg: sieved by codes and compared exactly, or compared with every eligible row."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy

from holdfast.backends.segments.originals import Compared, Vectors, greatest
from holdfast.backends.sqlite.index import Index, Picture, Source
from holdfast.backends.sqlite.merging import Limits
from holdfast.backends.sqlite.narrowing import Narrowing
from holdfast.backends.sqlite.vector_field import ROUNDING, Field, unit
from holdfast.core.ranking import exact_cosines
from holdfast.core.search import VectorLeg

_COMPARED: Final = 40
"""Rows that are compared exactly at least, out of those that their codes put first ..."""
_COMPARED_PER_HIT: Final = 1.5
"""... and this many more for each hit that is asked for."""
_SPARE: Final = 6
"""Rows beyond those asked for, or one for eight of them, that the filter may refuse before more
are looked for."""
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
            every = Vectors(*self._within.vectors(leg)).compared(unit(query))
            self._read = every.rows.size
            return _ranked(every, query, k, exact=True)
        field = Field(self._index, self._source, self.picture, leg, self._within)
        wanted = _COMPARED + math.ceil(_COMPARED_PER_HIT * k)
        if field.count <= max(wanted, field.few(k)):
            return self._outright(field, query, k)
        return self._sieved(field, query, k, wanted)

    def is_due(self, limits: Limits) -> bool:
        """Whether so much was read that no segment holds that a merge would do good."""
        if self.picture is not None:
            return self.picture.is_due(limits)
        return limits.are_reached(self._read, 0, 0)

    def _spare(self, field: Field, k: int) -> int:
        """How many of the nearest the filter may refuse, where their rows were not chosen by it."""
        within = self._within
        if within.all or (within.is_hinted and not field.loose.rows.size):
            return 0
        return max(_SPARE, k // 8)

    def _outright(self, field: Field, query: Any, k: int) -> Found:
        """Every row is compared; the filter is asked from the nearest on until k pass."""
        packed, loose = field.everything()
        first = k + self._spare(field, k)
        while True:
            every = _nearest(packed, loose, first)
            passing, _ = self._asked(every, k, first)
            if passing.rows.size >= k or first >= field.count:
                return _ranked(passing, query, k, exact=True)
            first *= _WIDEN
            if _LISTED < first < field.count:
                field.choose(self._within.eligible())
                return _ranked(_nearest(*field.everything(), k), query, k, exact=True)

    def _sieved(self, field: Field, query: Any, k: int, wanted: int) -> Found:
        """Compare candidates from the closest on, until enough of them have passed the filter."""
        spare = self._spare(field, k)
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

    def _selected(self, field: Field, query: Any, k: int, wanted: int) -> Found:
        """Few rows pass the filter: find out which, and look among them alone."""
        field.choose(self._within.eligible())
        if field.count <= max(_LISTED, field.few(k)):
            return _ranked(_nearest(*field.everything(), k), query, k, exact=True)
        every = field.closest(wanted, k).and_(field.loose)
        return _ranked(every, query, k, exact=False)

    def _asked(self, every: Compared, k: int, first: int) -> tuple[Compared, int]:
        """Of the ``first`` nearest those that pass, and how many do not.

        What may tie with the k-th of them is asked as well.
        """
        if self._within.all:
            return every, 0
        near = every.near
        limit = -numpy.inf if near.size <= first else greatest(near, first)
        asked = (near >= limit).nonzero()[0]
        passing = asked[self._within.passes(every.rows[asked])]
        count = asked.size
        if passing.size >= k:
            bound = greatest(near[passing], k) - ROUNDING
            if bound < limit:
                asked = ((near >= bound) & (near < limit)).nonzero()[0]
                more = asked[self._within.passes(every.rows[asked])]
                passing, count = numpy.concatenate((passing, more)), count + asked.size
        return every.where(passing), count - passing.size


def _nearest(packed: Compared, loose: Compared, count: int) -> Compared:
    """The nearest of both, with all that may be among so many of them."""
    return packed.best(count, ROUNDING).and_(loose.best(count, ROUNDING))


def _ranked(every: Compared, query: Any, k: int, *, exact: bool) -> Found:
    """The best k and what ties, by exact cosines."""
    if every.rows.size > k:
        every = every.best(k, ROUNDING)
    rows, scores = every.rows, exact_cosines(every.matrix, query)
    if rows.size > k:
        near = scores >= greatest(scores, k)
        rows, scores = rows[near], scores[near]
    return Found(rows, scores, exact)
