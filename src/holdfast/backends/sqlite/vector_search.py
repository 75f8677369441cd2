"""The vector leg: sieved by codes and compared exactly, or compared with every eligible row."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy

from holdfast.backends.segments import codes, columns
from holdfast.backends.sqlite.index import Index, Picture, Source
from holdfast.backends.sqlite.merging import Limits
from holdfast.backends.sqlite.narrowing import Narrowing
from holdfast.core.ranking import cosine_scores, exact_cosines
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
_ESTIMATED_PER_COMPARED: Final = 2
"""Rows whose codes are read first, for each that is to be compared."""
_SPARE: Final = 4
"""Rows beyond those asked for that the filter may refuse before more are looked for."""
_FEW: Final = 128
"""So many rows are all compared exactly."""
_OUTRIGHT: Final = 128
"""So many rows are compared in double precision without a look in single before."""
_LISTED: Final = 1_500
"""More candidates than this are not looked up one by one; the filter is asked for all its rows."""


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
            rows, matrix = self._within.vectors(leg)
            self._read = rows.size
            return self._ranked(rows, matrix, query, k, exact=True)
        sieve = _Sieve(self._index, self.picture, query, self._within.hints)
        wanted = _COMPARED + math.ceil(_COMPARED_PER_HIT * k)
        if self._within.is_hinted and sieve.is_masked:
            found = self._masked(leg, query, k, sieve, wanted)
            if found is not None:
                return found
        if sieve.count <= max(wanted, _FEW):
            return self._compared(leg, query, k, sieve.everything())
        return self._sieved(leg, query, k, sieve, wanted)

    def is_due(self, limits: Limits) -> bool:
        """Whether so much was read that no segment holds that a merge would do good."""
        if self.picture is not None:
            return self.picture.is_due(limits)
        return limits.are_reached(self._read, 0, 0)

    def _masked(
        self, leg: VectorLeg, query: Any, k: int, sieve: _Sieve, wanted: int
    ) -> Found | None:
        """Where copies of fields have said who passes, the rows need asking for the best alone.

        None where one of these does not pass after all: hashes of values have clashed.
        """
        packed = sieve.closest(max(wanted, _FEW if sieve.count <= _FEW else 0), k)
        rows, matrix = self._vectors(leg, packed, unasked=True)
        found = self._ranked(rows, matrix, query, k, exact=packed.size >= sieve.packed)
        return found if self._within.passing(found.rows).size == found.rows.size else None

    def _sieved(self, leg: VectorLeg, query: Any, k: int, sieve: _Sieve, wanted: int) -> Found:
        """Look candidates up from the closest on, until enough of them have passed the filter."""
        taken, best = wanted, k + max(_SPARE, k // 8)
        rows, matrix = numpy.empty(0, "i8"), numpy.empty((0, query.size), "f4")
        seen = rows
        while taken <= _LISTED or not seen.size:
            packed, loose = sieve.closest(taken, best), sieve.loose(k * taken // wanted)
            both = numpy.concatenate((packed, loose))
            new = self._vectors(leg, numpy.setdiff1d(both, seen, assume_unique=True))
            rows, matrix = numpy.concatenate((rows, new[0])), numpy.concatenate((matrix, new[1]))
            from_tail = numpy.isin(rows, loose, assume_unique=True).sum()
            passed = rows.size - from_tail
            refused = packed.size - passed
            enough = passed >= wanted or packed.size >= sieve.packed
            # Where no more are refused than was allowed for, what was left out is behind the best.
            enough |= bool(best) and passed >= k and refused <= best - k
            if enough and (from_tail >= k or loose.size >= sieve.loose_rows.size):
                exact = packed.size >= sieve.packed
                return self._ranked(rows, matrix, query, k, exact=exact)
            # As many as it takes if what comes passes as often as what came, and some to spare.
            seen, taken, best = both, 2 * taken * max(wanted, k) // max(rows.size, 1), 0
        return self._selected(leg, query, k, sieve, wanted)

    def _selected(self, leg: VectorLeg, query: Any, k: int, sieve: _Sieve, wanted: int) -> Found:
        """Few rows pass the filter: find out which, and look among them alone."""
        eligible = self._within.eligible()
        if eligible.size <= _LISTED:
            return self._compared(leg, query, k, eligible)
        sieve.keep(eligible)
        packed = sieve.closest(wanted, k)
        rows = numpy.concatenate((packed, numpy.intersect1d(sieve.loose_rows, eligible)))
        rows, matrix = self._vectors(leg, rows)
        return self._ranked(rows, matrix, query, k, exact=packed.size >= sieve.packed)

    def _compared(self, leg: VectorLeg, query: Any, k: int, rows: Any) -> Found:
        """Every row, or every one of these, that passes."""
        return self._ranked(*self._vectors(leg, rows), query, k, exact=True)

    def _vectors(self, leg: VectorLeg, rows: Any, *, unasked: bool = False) -> tuple[Any, Any]:
        """Those of ``rows`` that pass, with their vectors: from memory, or as the table has them.

        None are asked whether they pass that are ``unasked``.
        """
        assert self.picture is not None
        passing = (numpy.sort(rows) if unasked else self._within.passing(rows)).tolist()
        tail = self.picture.tail
        loose = {row: tail[row][1] for row in passing if row in tail} if tail else {}
        packed = [row for row in passing if row not in loose] if loose else passing
        found = self._index.originals(self._source, self.picture).find(
            packed, lambda missing: self._within.originals(leg, missing)
        )
        found |= loose
        kept = [row for row in passing if row in found]
        data = b"".join([found[row] for row in kept])
        return numpy.array(kept, "i8"), numpy.frombuffer(data, "<f4").reshape(
            len(kept), self._source.width
        )

    @staticmethod
    def _ranked(rows: Any, matrix: Any, query: Any, k: int, *, exact: bool) -> Found:
        if rows.size > max(k, _OUTRIGHT):
            rough = cosine_scores(matrix, query)
            near = rough >= numpy.partition(rough, -k)[-k] - _ROUNDING
            rows, matrix = rows[near], matrix[near]
        scores = exact_cosines(matrix, query)
        if rows.size > k:
            near = scores >= numpy.partition(scores, -k)[-k]
            rows, scores = rows[near], scores[near]
        return Found(rows, scores, exact)


class _Sieve:
    """Distances of all rows from a query, by their codes; those of the tail are cosines."""

    def __init__(self, index: Index, picture: Picture, query: Any, hints: columns.Hints) -> None:
        self._width = query.size
        # The distance of a row that is no more: greater than that of any.
        self._void = codes.padded(query.size) + 1
        self._query = codes.Query(query)
        self._packed = [
            codes.Packed(index.loader(segment.id), query.size) for segment in picture.segments
        ]
        distances = [numpy.empty(0, "u2")]
        self.is_masked = bool(hints) and not picture.tail
        """Whether copies of fields have said of every row whether it passes."""
        for segment, packed in zip(picture.segments, self._packed, strict=True):
            mask = columns.allowed(index.loader(segment.id), hints)
            self.is_masked &= mask is not None
            distance = self._distances(packed, mask)
            distance[picture.dead(segment, packed.rows)] = self._void
            distances.append(distance)
        self._distance = numpy.concatenate(distances) if len(distances) != 2 else distances[1]
        self._bases = numpy.cumsum([0, *(packed.rows.size for packed in self._packed)])
        self.loose_rows = numpy.empty(0, "i8")
        self._cosines = numpy.empty(0, "f4")
        if picture.tail:
            self.loose_rows, matrix = picture.loose_vectors()
            self._cosines = cosine_scores(matrix, query)
        self._count()

    def _distances(self, packed: codes.Packed, mask: Any) -> Any:
        """Of all rows, or of those in the mask, with the others void."""
        if mask is None:
            return self._query.distances(packed.signs)
        chosen = numpy.flatnonzero(mask)
        distance = numpy.full(packed.rows.size, self._void, "u2")
        distance[chosen] = self._query.distances(packed.signs[:, chosen])
        return distance

    def _count(self) -> None:
        self.packed = int(numpy.count_nonzero(self._distance != self._void))
        """Rows that segments hold and that count."""
        self.count = self.packed + self.loose_rows.size

    def everything(self) -> Any:
        """All rows."""
        live = numpy.flatnonzero(self._distance != self._void)
        return numpy.concatenate((self._numbers(live), self.loose_rows))

    def keep(self, rows: Any) -> None:
        """Leave out all rows of segments but these, which rise."""
        for n, packed in enumerate(self._packed):
            distance = self._distance[self._bases[n] : self._bases[n + 1]]
            distance[~numpy.isin(packed.rows, rows, assume_unique=True)] = self._void
        self._count()

    def closest(self, count: int, best: int = 0) -> Any:
        """Numbers of the ``count`` rows that the codes say are closest, and of what ties.

        With ``best``, fewer: none that their codes put too far behind so many of the best.
        """
        further = max(count - _FIRST, 0)
        most = _SIEVED_PER_COMPARED * (count - further) + _SIEVED_PER_FURTHER * further
        most += _SIEVED_SIGNS // codes.padded(self._width)
        places = codes.closest(self._distance, most)
        places = places[self._distance[places] != self._void]
        if places.size <= count:
            return self._numbers(places)
        if best and math.isfinite(self._query.doubt):
            places, estimated = self._worthy(places, count, best)
        else:
            estimated = self._estimates(places)
        if places.size > count:
            places = places[estimated >= numpy.partition(estimated, -count)[-count]]
        return self._numbers(places)

    def _worthy(self, places: Any, count: int, best: int) -> tuple[Any, Any]:
        """Those that may be among the best, with their estimates.

        The first by sign say how good the best are at least; of the others, those that are too far
        from that by sign are not estimated.
        """
        distance = self._distance[places]
        near = numpy.zeros(places.size, bool)
        near[codes.closest(distance, _ESTIMATED_PER_COMPARED * count)] = True
        first = places[near]
        estimated = self._estimates(first)
        bound = float(numpy.partition(estimated, -best)[-best])
        others = places[~near & (distance <= self._query.reach(bound))]
        found = numpy.concatenate((first, others))
        estimated = numpy.concatenate((estimated, self._estimates(others)))
        bound = float(numpy.partition(estimated, -best)[-best])
        kept = numpy.flatnonzero(estimated >= bound - self._query.doubt)
        kept = kept[numpy.argsort(found[kept])]
        return found[kept], estimated[kept]

    def loose(self, count: int) -> Any:
        """Numbers of the ``count`` rows of the tail that are closest, and of what ties."""
        if self._cosines.size <= count:
            return self.loose_rows
        limit = numpy.partition(self._cosines, -count)[-count] - _ROUNDING
        return self.loose_rows[self._cosines >= limit]

    def _estimates(self, places: Any) -> Any:
        cuts = numpy.searchsorted(places, self._bases)
        found = [
            self._query.estimates(packed, places[cuts[n] : cuts[n + 1]] - self._bases[n])
            for n, packed in enumerate(self._packed)
        ]
        return numpy.concatenate(found)

    def _numbers(self, places: Any) -> Any:
        cuts = numpy.searchsorted(places, self._bases)
        found = [
            packed.rows[places[cuts[n] : cuts[n + 1]] - self._bases[n]]
            for n, packed in enumerate(self._packed)
        ]
        return numpy.concatenate([numpy.empty(0, "i8"), *found])
