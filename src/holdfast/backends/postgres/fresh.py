"""Texts that no segment holds, as they are read and held in memory, and BM25 over them alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy

from holdfast.backends.segments.postings import Loose
from holdfast.core.ranking import idf
from holdfast.core.search import TextLeg

_ROW_BYTES: Final = 100


class Fresh:
    """Texts that no segment holds, in any order. A stamp stands for one text for ever."""

    brief: Final = "string_agg(int8send(k.stamp), '')"
    columns: Final = (
        f"{brief}, string_agg(int4send(k.length::int4), ''),"
        " string_agg(int4send(octet_length(k.terms)), ''), string_agg(k.terms, ''),"
        " string_agg(k.counts, '')"
    )
    """Joined by the server: a few long values are read far faster than many short ones."""

    def __init__(self, stamps: Any, lengths: Any, sizes: Any, hashes: Any, counts: Any) -> None:
        self.stamps, self.lengths, self.sizes = stamps, lengths, sizes
        self.hashes, self.counts = hashes, counts
        self.order = numpy.argsort(stamps)
        self._sorted = stamps[self.order]
        self._loose: Loose | None = None
        self._owners: Any = None
        self._given: bytes | None = None

    @classmethod
    def of(cls, row: tuple[Any, ...]) -> Fresh:
        """What `columns` gave."""
        stamps, lengths, sizes, hashes, counts = (value or b"" for value in row)
        return cls(
            big(stamps),
            numpy.frombuffer(lengths, ">u4").astype("u4"),
            numpy.frombuffer(sizes, ">i4").astype("i8") // 8,
            numpy.frombuffer(hashes, "<u8"),
            numpy.frombuffer(counts, "<u4"),
        )

    @classmethod
    def none(cls) -> Fresh:
        """No texts."""
        return cls.of((None,) * 5)

    @property
    def nbytes(self) -> int:
        """What it takes in memory, about."""
        return 2 * int(self.hashes.nbytes + self.counts.nbytes) + _ROW_BYTES * len(self.stamps)

    def is_told_by(self, stamps: bytes) -> bool:
        """Whether these stamps, as `brief` gives them, are just those of these texts."""
        if stamps == self._given:  # mostly they come in the order of an index, and so alike
            return True
        same = numpy.array_equal(numpy.sort(big(stamps)), self._sorted)
        if same:
            self._given = stamps
        return same

    def texts(self) -> Loose:
        """In the form that is scored together with segments."""
        if self._loose is None:
            own = (self.lengths, self.sizes, self.hashes, self.counts)
            self._loose = Loose.joined(self.stamps, *own)
        return self._loose

    def owners(self) -> Any:
        """For each posting, the number of its text."""
        if self._owners is None:
            self._owners = numpy.repeat(numpy.arange(self.stamps.size), self.sizes)
        return self._owners

    def kept(self, stamps: Any) -> Fresh:
        """Those of these stamps."""
        rows = numpy.isin(self.stamps, stamps)
        if rows.all():
            return self
        chosen = numpy.repeat(rows, self.sizes)
        return Fresh(
            self.stamps[rows], self.lengths[rows], self.sizes[rows], self.hashes[chosen],
            self.counts[chosen],
        )  # fmt: skip

    def with_more(self, other: Fresh) -> Fresh:
        """These and others."""
        names = ("stamps", "lengths", "sizes", "hashes", "counts")
        return Fresh(*(numpy.concatenate([getattr(f, n) for f in (self, other)]) for n in names))


class FreshScorer:
    """One text leg over fresh texts alone: so few that all are scored, which is the least work."""

    def __init__(self, fresh: Fresh, leg: TextLeg, terms: Sequence[int]) -> None:
        self._stamps = fresh.stamps
        count = fresh.stamps.size
        self._scores = scores = numpy.zeros(count)
        matched = numpy.zeros(count, "u4") if leg.match == "all" else None
        mean = int(fresh.lengths.sum(dtype="i8")) / count if count else 0.0
        norms = leg.k1 * (1.0 - leg.b + leg.b * fresh.lengths.astype("f8") / mean)
        for term in terms:
            at = numpy.flatnonzero(fresh.hashes == numpy.uint64(term))
            if at.size:
                owners, counts = fresh.owners()[at], fresh.counts[at].astype("f8")
                # In the very order of the reference, so that scores are equal bit by bit.
                weighed = idf(at.size, count) * counts * (leg.k1 + 1.0)
                scores[owners] += weighed / (counts + norms[owners])
                if matched is not None:
                    matched[owners] += 1
        hits = scores if matched is None else matched == len(terms)
        self._docs = numpy.flatnonzero(hits) if terms else numpy.empty(0, "i8")

    def rows(self, docs: Any) -> Any:
        """The stamps of what `best` gives."""
        return self._stamps[docs]

    def places(self, rows: Any) -> Any:
        """Which of the texts these are."""
        return numpy.isin(self._stamps, rows)

    def best(self, k: int, allowed: Any = None) -> tuple[Any, Any]:
        """The k best that are allowed, and all that tie with the last; and their scores."""
        docs = self._docs if allowed is None else self._docs[allowed[self._docs]]
        scores = self._scores[docs]
        if docs.size > k:
            kept = scores >= numpy.partition(scores, docs.size - k)[docs.size - k]
            docs, scores = docs[kept], scores[kept]
        return docs, scores


def big(data: bytes | None) -> Any:
    """Whole numbers as the server sends them."""
    return numpy.frombuffer(data or b"", ">i8").astype("i8")
