"""Analysed texts as posting lists: for each term, which rows have it and how often.

Rows are numbered within their segment, at most 65,536 of them, so a posting takes three bytes: two
for the row and one for the count. A count that does not fit is kept beside. The lists stand in the
order of their terms' hashes and are cut into blocks, so that a query reads those of its terms only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy

from holdfast.backends.segments.parts import Loader

Posted = tuple[Any, Any]
"""The numbers of the rows with a term, rising, and its counts in them."""
ROW_LIMIT: Final = 65_536
"""Rows of a segment: their numbers take two bytes."""
BLOCK: Final = 65_536
"""Postings of a block."""
_LARGE: Final = 255
"""Stands for this count or a greater one, which is kept beside."""


def build(
    rows: Sequence[int], lengths: Sequence[int], hashes: bytes, sizes: Any, counts: bytes
) -> dict[str, Any]:
    """The parts of a segment. ``hashes`` and ``counts`` are those of all rows, end to end."""
    posted = numpy.frombuffer(hashes, "<u8")
    order = _in_order(posted)
    posted = posted[order]
    starts = numpy.flatnonzero(numpy.concatenate(([True], posted[1:] != posted[:-1])))
    terms = posted[starts[: posted.size]]
    docs = numpy.repeat(numpy.arange(len(rows), dtype="<u2"), sizes)[order]
    exact = numpy.frombuffer(counts, "<u4")[order]
    places = numpy.flatnonzero(exact >= _LARGE)
    parts = {
        "rows": numpy.array(rows, "<i8"),
        "lengths": numpy.array(lengths, "<u4"),
        "terms": terms.astype("<u8"),
        "starts": numpy.concatenate((starts[: terms.size], [posted.size])).astype("<u4"),
        "places": places.astype("<u4"),
        "large": exact[places],
    }
    few = numpy.minimum(exact, _LARGE).astype("u1")
    for number, start in enumerate(range(0, posted.size, BLOCK)):
        stop = start + BLOCK
        block = (docs[start:stop].tobytes(), few[start:stop].tobytes())
        parts[f"block{number}"] = numpy.frombuffer(b"".join(block), "u1")
    return parts


def _in_order(hashes: Any) -> Any:
    """The order of the hashes, equal ones as they stand.

    As a plain sort of numbers, of their first bits and their places, which is many times faster
    than a sort of places by hashes. Where two hashes begin alike it does not hold.
    """
    bits = numpy.uint64(max(hashes.size, 1).bit_length())
    numbers = hashes >> bits << bits
    numbers |= numpy.arange(hashes.size, dtype="u8")
    numbers.sort()
    order = (numbers & ((numpy.uint64(1) << bits) - numpy.uint64(1))).astype("i8")
    sorted_ = hashes[order]
    if (sorted_[1:] < sorted_[:-1]).any():
        return numpy.argsort(hashes, kind="stable")
    return order


def made(texts: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
    """The parts of a segment of texts: row, length, hashes and counts of each."""
    sizes = numpy.fromiter((len(text[2]) // 8 for text in texts), "i8", len(texts))
    return build(
        [text[0] for text in texts],
        [text[1] for text in texts],
        b"".join(text[2] for text in texts),
        sizes,
        b"".join(text[3] for text in texts),
    )


class Packed:
    """A segment's texts, read part by part as queries need them."""

    def __init__(self, load: Loader) -> None:
        self._load = load
        self.rows = load("rows")
        self.lengths = load("lengths")

    def find(self, terms: Sequence[int]) -> list[Posted]:
        """Of each term the numbers of the rows with it, rising, and its counts in them."""
        known, starts = self._load("terms"), self._load("starts")
        wanted = numpy.array(terms, "u8")
        at = known.searchsorted(wanted)
        found = (known.take(at, mode="clip") == wanted).tolist() if known.size else ()
        ends = zip(starts.take(at).tolist(), starts.take(at + 1, mode="clip").tolist(), strict=True)
        places = self._load("places")
        return [
            self._list(*own, places) if is_known else _NOTHING
            for own, is_known in zip(ends, found or [False] * len(terms), strict=True)
        ]

    def _list(self, start: int, stop: int, places: Any) -> Posted:
        docs, counts = [], []
        for number in range(start // BLOCK, (stop - 1) // BLOCK + 1):
            block = self._load(f"block{number}")
            size = block.size // 3
            first = number * BLOCK
            chosen = slice(max(start - first, 0), min(stop - first, size))
            docs.append(block[: 2 * size].view("<u2")[chosen])
            counts.append(block[2 * size :][chosen])
        if len(docs) == 1:
            return docs[0], self._counted(counts[0], start, stop, places)
        return numpy.concatenate(docs), self._counted(
            numpy.concatenate(counts), start, stop, places
        )

    def triples(self, alive: Any) -> tuple[Any, Any, Any]:
        """Term, row and count of every posting of the rows that count; of all with None."""
        terms, starts = self._load("terms"), self._load("starts")
        found = self.find(terms)
        which = numpy.repeat(terms, numpy.diff(starts))
        docs = numpy.concatenate([_NONE, *(docs for docs, _ in found)])
        counts = numpy.concatenate([_NONE, *(counts for _, counts in found)])
        if alive is not None:
            kept = alive[docs]
            which, docs, counts = which[kept], docs[kept], counts[kept]
        return which, self.rows[docs], counts

    def _counted(self, counts: Any, start: int, stop: int, places: Any) -> Any:
        if not places.size:
            return counts
        first, last = places.searchsorted((start, stop))
        if first == last:
            return counts
        exact = counts.astype("u4")
        exact[places[first:last] - start] = self._load("large")[first:last]
        return exact


class Loose:
    """Texts that are in no segment yet, end to end; a term is found by looking at all."""

    def __init__(self, texts: Sequence[tuple[int, int, bytes, bytes]]) -> None:
        count = len(texts)
        self.rows = numpy.fromiter((text[0] for text in texts), "i8", count)
        self.lengths = numpy.fromiter((text[1] for text in texts), "u4", count)
        sizes = numpy.fromiter((len(text[2]) // 8 for text in texts), "i8", count)
        self._hashes = numpy.frombuffer(b"".join(text[2] for text in texts), "<u8")
        self._counts = numpy.frombuffer(b"".join(text[3] for text in texts), "<u4")
        self._owners = numpy.repeat(numpy.arange(count, dtype="u4"), sizes)

    @classmethod
    def joined(cls, rows: Any, lengths: Any, sizes: Any, hashes: bytes, counts: bytes) -> Loose:
        """The same of arrays that are joined already; ``sizes`` are postings of each row."""
        loose = cls(())
        loose.rows, loose.lengths = rows, lengths
        loose._hashes = numpy.frombuffer(hashes, "<u8")
        loose._counts = numpy.frombuffer(counts, "<u4")
        loose._owners = numpy.repeat(numpy.arange(rows.size, dtype="u4"), sizes)
        return loose

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        return int(self._hashes.nbytes + self._counts.nbytes + self._owners.nbytes)

    def find(self, terms: Sequence[int]) -> list[Posted]:
        """Of each term the numbers of the rows with it, rising, and its counts in them."""
        at = [numpy.flatnonzero(self._hashes == numpy.uint64(term)) for term in terms]
        return [(self._owners[one], self._counts[one]) for one in at]


_NONE: Final = numpy.empty(0, "<u2")
_NOTHING: Final = (_NONE, _NONE)
