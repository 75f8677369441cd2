"""Analysed text as it is kept beside its row, and BM25 over it.

Each row has two packed arrays: the 64-bit hashes of its distinct terms and how often each occurs.
A search reads the tenant's arrays, joins them and scores with numpy: exact, filtered before the
limit, and always what is committed, because there is nothing else to be stale.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

from holdfast.core.collection import Collection
from holdfast.core.digests import blake2b
from holdfast.core.filter import Record
from holdfast.core.ranking import idf
from holdfast.core.search import TextLeg
from holdfast.core.text import STRETCH, Lexicon
from holdfast.core.turns import giving_way

Packed = tuple[int, bytes, bytes]
"""Length in terms, hashes as little-endian uint64, counts as little-endian uint32."""

_HASH_SIZE: Final = 8
_CACHED_TERMS: Final = 65_536
_ONCE: Final = struct.pack("<I", 1)


class _Hashes(dict[str, bytes]):
    """Term -> its hash; bounded, and asked without a call of Python's for what it holds."""

    def __missing__(self, term: str) -> bytes:
        if len(self) >= _CACHED_TERMS:
            self.clear()
        encoded = term.encode("utf-8", "surrogatepass")
        made = self[term] = blake2b(encoded, digest_size=_HASH_SIZE).digest()
        return made


_HASHES: Final = _Hashes()
_HASHED: Final = Lexicon(lambda terms: b"".join(map(_HASHES.__getitem__, terms)))
"""Word -> the hashes of its terms."""


def term_hash(term: str) -> bytes:
    """64 bits of BLAKE2b: among a million distinct terms a collision has odds of 3 in 10^8."""
    return _HASHES[term]


def hashed(term: str) -> int:
    """A term's hash as a number."""
    return int.from_bytes(term_hash(term), "little")


def pack(collection: Collection, record: Record) -> Packed | None:
    """The record's full text, analysed and packed; None where it has no term."""
    text = "\n".join([record[name] for name in collection.full_text if record[name]])
    if len(text) > STRETCH:
        return _pack_long(text)
    found = _HASHED.of(text)
    if not found:
        return None
    hashes = b"".join(found)
    length = len(hashes) // _HASH_SIZE
    if length > len(found):  # some of the words have several terms
        found = _cut(hashes)
    if len(set(found)) == length:  # in a short text nearly every term stands once
        return length, hashes, _ONCE * length
    counts = Counter(found)
    return length, b"".join(counts), struct.pack(f"<{len(counts)}I", *counts.values())


def _pack_long(text: str) -> Packed | None:
    """The same in many short calls: other threads wait for each, the event loop's among them."""
    counts = Counter[bytes]()
    for part in giving_way(_HASHED.parts(text)):
        counts.update(_cut(b"".join(part)))
    if not counts:
        return None
    hashes, numbers, rest = [], [], iter(counts.items())
    while some := dict(islice(rest, STRETCH)):
        hashes.append(b"".join(some))
        numbers.append(struct.pack(f"<{len(some)}I", *some.values()))
    return counts.total(), b"".join(hashes), b"".join(numbers)


def _cut(hashes: bytes) -> list[bytes]:
    return [hashes[at : at + _HASH_SIZE] for at in range(0, len(hashes), _HASH_SIZE)]


def bm25_scores(rows: Sequence[tuple[Any, ...]], leg: TextLeg) -> tuple[Any, Any]:
    """Scores of all rows, and which of them match; rows are (row, length, hashes, counts).

    Sums in the order of the sorted terms, as the reference does, so that scores are equal bit by
    bit.
    """
    import numpy  # here and below, so that a process that never searches never loads it

    lengths = numpy.fromiter((row[1] for row in rows), numpy.float64, len(rows))
    sizes = numpy.fromiter((len(row[2]) // 8 for row in rows), "i8", len(rows))
    hashes = numpy.frombuffer(b"".join(row[2] for row in rows), "<u8")
    counts = numpy.frombuffer(b"".join(row[3] for row in rows), "<u4")
    owners = numpy.repeat(numpy.arange(len(rows)), sizes)
    norms = leg.k1 * (1.0 - leg.b + leg.b * lengths / (lengths.sum() / len(rows)))
    scores = numpy.zeros(len(rows))
    matched = numpy.zeros(len(rows), "i8")
    wanted = sorted(set(leg.terms))
    for term in wanted:
        at = numpy.flatnonzero(hashes == numpy.frombuffer(term_hash(term), "<u8")[0])
        if not at.size:
            continue
        owner, tf = owners[at], counts[at].astype(numpy.float64)
        weight = idf(int(at.size), len(rows))
        scores[owner] += weight * tf * (leg.k1 + 1.0) / (tf + norms[owner])
        matched[owner] += 1
    enough = len(wanted) if leg.match == "all" else 1
    return scores, matched >= enough


def best(scores: Any, eligible: Any, k: int) -> Any:
    """Positions of the k best eligible scores, and of all that tie with the last of them."""
    import numpy

    positions = numpy.flatnonzero(eligible)
    if positions.size <= k:
        return positions
    held = scores[positions]
    floor = numpy.partition(held, held.size - k)[held.size - k]
    return positions[held >= floor]
