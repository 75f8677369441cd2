"""A reader's picture of a source: its segments, and beside them what no segment holds yet.

A picture is of one committed state. It is kept, and brought forward by what has come since, or
used as it is when nothing has. Whether anything has been committed at all is one short question, so
most searches ask no more.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

import apsw
import numpy

from holdfast.backends.segments import codes, postings
from holdfast.backends.segments.bm25 import Corpus, Run, total_length
from holdfast.backends.segments.cache import Cache
from holdfast.backends.segments.included import Decode, Included, Part, listed
from holdfast.backends.segments.originals import (
    AllOriginals,
    Compared,
    Originals,
    Read,
    Vectors,
    originals,
)
from holdfast.backends.segments.parts import part
from holdfast.backends.sql.dialect import quoted
from holdfast.backends.sqlite.blobs import Blobs
from holdfast.backends.sqlite.connection import fetched
from holdfast.backends.sqlite.merging import Limits
from holdfast.core.errors import Corrupt

_SEGMENTS: Final = """
SELECT id, low, high, rows FROM holdfast_segments
WHERE cover = ? AND state = 'live' AND space = ? AND width = ? ORDER BY low"""
_PARTS: Final = """
SELECT id, length(data) FROM holdfast_segment_parts
WHERE segment = ? AND name = ? ORDER BY number"""
_ROW_BYTES: Final = 200
"""What a row of a tail takes in memory besides its data, about."""
_WITH_CODES_BYTES: Final = 19 * 1024 * 1024
"""What is kept of one source's vectors, together with their codes, ..."""
_LEAST_BYTES: Final = 4 * 1024 * 1024
"""... unless the codes leave less than this."""
_STATES: Final = 256
"""Of so many sources a connection remembers the state."""
_INCLUDED_SHARE: Final = 4
"""Of what may be held, copies of included fields take at most one part in so many."""
State = tuple[int, int, int, int, int]
"""Of a source: its cover, up to where that reaches, its edition, the last note and the last row."""
_CHOSEN_BYTES: Final = 8 * 1024 * 1024
"""What a picture keeps of what filters chose: a tenth of a million vectors takes 6 MB. The least
recently used goes first."""
_MATRIX_BYTES: Final = 4 * 1024 * 1024
"""What it keeps of the vectors themselves, where these are few."""


class Source(NamedTuple):
    """A table of derived data: of a collection's text, or of one of its vector fields.

    ``space`` and ``width`` are those of the vectors that are meant; of a text "" and 0.
    """

    table: str
    tenant: str
    space: str = ""
    width: int = 0

    def select(self, columns: str, condition: str) -> tuple[str, list[Any]]:
        """A statement over the source's rows, and its first values."""
        where = "tenant = ?"
        values: list[Any] = [self.tenant]
        if self.width:
            where, values = f"{where} AND space = ? AND length(data) = ?", [
                self.tenant, self.space, 4 * self.width,
            ]  # fmt: skip
        return f"SELECT {columns} FROM {quoted(self.table)} WHERE {where} AND {condition}", values

    @property
    def columns(self) -> str:
        """What a tail keeps of each row."""
        return "_row, data" if self.width else "_row, length, terms, counts"


@dataclass(frozen=True)
class Segment:
    """A segment as the file lists it."""

    id: int
    low: int
    high: int
    rows: int


@dataclass(frozen=True)
class Chosen:
    """The rows of a vector source's segments that a filter may let pass, and their signs."""

    places: Any
    """As one number through all segments, rising."""
    signs: Any

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        return int(self.places.nbytes + self.signs.nbytes)


class _Choices:
    """What the filters of lately chose, up to a limit. Thread-safe.

    Of vectors a `Chosen` or the vectors themselves, of texts a mask; None where segments know
    nothing of a filter's fields.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.used_bytes = 0
        self._limit_bytes = limit_bytes
        self._held: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def load(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What a filter chose, made if it is not held."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        made = make()
        with self._lock:
            self._held[key] = made
            self.used_bytes = sum(map(_size, self._held.values()))
            while self.used_bytes > self._limit_bytes:
                self.used_bytes -= _size(self._held.popitem(last=False)[1])
        return made


def _size(chosen: Any) -> int:
    return _ROW_BYTES + (0 if chosen is None else int(chosen.nbytes))


@dataclass
class Picture:
    """One committed state of a source."""

    cover: int
    edition: int
    seq: int
    top: int
    high: int
    segments: tuple[Segment, ...]
    noted: Any
    """Rows whose copies in segments are void, rising."""
    tail: dict[int, tuple[Any, ...]]
    """What the table says of rows that no segment holds, or that are noted."""
    _loose: Any = None
    _fresh: int | None = None
    _dead: dict[int, Any] = field(default_factory=dict)
    _gone: Any = None
    _corpus: Corpus | None = None
    _totals: dict[int, int] = field(default_factory=dict)
    choices: _Choices = field(default_factory=lambda: _Choices(_CHOSEN_BYTES))
    matrices: _Choices = field(default_factory=lambda: _Choices(_MATRIX_BYTES))

    def is_due(self, limits: Limits) -> bool:
        """Whether a merge would do this source good."""
        if self._fresh is None:
            self._fresh = sum(row > self.high for row in self.tail)
        held = sum(segment.rows for segment in self.segments)
        return limits.are_reached(self._fresh, len(self.noted), held)

    def dead(self, segment: Segment, rows: Any) -> Any:
        """The numbers of a segment's rows whose copies are void."""
        found = self._dead.get(segment.id)
        if found is None:
            first, last = numpy.searchsorted(self.noted, (segment.low + 1, segment.high + 1))
            at = numpy.searchsorted(rows, self.noted[first:last])
            at[at == rows.size] = 0
            found = self._dead[segment.id] = at[rows[at] == self.noted[first:last]]
        return found

    def gone(self, held: Sequence[Any]) -> Any:
        """The places of void copies; ``held`` are the rows of each segment."""
        if self._gone is None:
            gone, base = [_NO_ROWS], 0
            for segment, rows in zip(self.segments, held, strict=True):
                gone.append(base + self.dead(segment, rows))
                base += rows.size
            self._gone = numpy.concatenate(gone)
        return self._gone

    def run(self, segment: Segment, texts: postings.Packed) -> Run:
        """A segment of texts without what is void in it."""
        dead = self.dead(segment, texts.rows)
        total = self._totals.get(segment.id)
        if total is None:
            total = self._totals[segment.id] = total_length(texts, dead)
        return Run(texts, dead, total)

    def corpus(self, runs: Sequence[Run]) -> Corpus:
        """What searches over the runs of this picture have in common."""
        if self._corpus is None:
            self._corpus = Corpus(runs)
        return self._corpus

    def loose_run(self) -> Run:
        """The tail of a text source."""
        if self._loose is None:
            texts = postings.Loose(list(self.tail.values()))
            none = numpy.empty(0, "i8")
            self._loose = Run(texts, none, total_length(texts, none))
        found: Run = self._loose
        return found

    def loose_vectors(self) -> Vectors:
        """The tail of a vector source."""
        if self._loose is None:
            rows = numpy.fromiter(self.tail, "i8", len(self.tail))
            data = b"".join(one[1] for one in self.tail.values())
            self._loose = Vectors(rows, numpy.frombuffer(data, "<f4").reshape(len(rows), -1))
        found: Vectors = self._loose
        return found

    def size(self) -> int:
        """Bytes in memory, about."""
        data = sum(sum(len(v) for v in one if isinstance(v, bytes)) for one in self.tail.values())
        held = 2 * data + _ROW_BYTES * len(self.tail) + int(self.noted.nbytes)
        common = 0 if self._corpus is None else self._corpus.nbytes
        return held + common + self.choices.used_bytes + self.matrices.used_bytes


class _Kept:
    """Vectors in memory, whose size the cache is told when there are more of them."""

    def __init__(self, cache: Cache | None, key: Any, held: AllOriginals | Originals) -> None:
        self._cache, self._key, self._held = cache, key, held
        self.holds_all = cache is not None and held.holds_all
        """Whether all of them are in memory after a while."""

    def compared(self, places: Any, rows: Any, query: Any, read: Read) -> Compared:
        """As `Originals.compared` gives them."""
        before = self._held.used_bytes
        found = self._held.compared(places, rows, query, read)
        if self._cache is not None and self._held.used_bytes != before:
            self._cache.put(self._key, self._held, self._held.used_bytes)
        return found


@dataclass
class _Seen:
    """The states that a connection which writes nothing has read of one version of the file."""

    version: int
    states: dict[Source, State | None]


_SEEN: Final[WeakKeyDictionary[apsw.Connection, _Seen]] = WeakKeyDictionary()


class Index:
    """Pictures and segments as one connection reads them, in one read transaction."""

    def __init__(self, connection: apsw.Connection, cache: Cache, *, keep: bool) -> None:
        self._connection = connection
        self._cache = cache
        # What is not committed may be rolled back, and must not be kept.
        self._keep = keep

    def picture(self, source: Source) -> Picture | None:
        """The source as it is; None where it has no cover and its rows are simply read."""
        state = self._state(source)
        if state is None:
            return None
        cover, high, edition, seq, top = state
        held: Picture | None = self._cache.get(source)
        if held is not None and held.edition == edition:
            if (held.seq, held.top) == (seq, top):
                return held
            if held.seq > seq or (held.seq == seq and held.top > top):
                held = None  # of a later state than this transaction's
        else:
            held = None
        picture = self._made(
            source, held, Picture(cover, edition, seq, top, high, (), _NO_ROWS, {})
        )
        if self._keep:
            self._cache.put(source, picture, picture.size())
        return picture

    def loader(self, segment: int) -> Callable[[str], Any]:
        """Reads the parts of a segment, from memory where they are held."""

        def load(name: str) -> Any:
            return self._cache.load((segment, name), lambda: self._part(segment, name))

        return load

    def included(
        self, source: Source, picture: Picture, decoders: Callable[[], Mapping[str, Decode]]
    ) -> Included | None:
        """The copies of included fields, from the second search of a picture on.

        The first reads rows instead, which is less work for one search alone.
        """
        key = ("included", source, picture.cover, picture.edition)
        held = self._cache.get(key)
        if isinstance(held, Included) or held is _NOT_HELD or not self._keep:
            return held if isinstance(held, Included) else None
        if held is None:
            self._cache.put(key, _ASKED_ONCE, 0)
            return None
        parts = [part for segment in picture.segments if (part := self.part(segment)) is not None]
        made = Included(parts, decoders())
        if made.nbytes * _INCLUDED_SHARE > self._cache.limit_bytes:
            self._cache.put(key, _NOT_HELD, 0)
            return None
        self._cache.put(key, made, made.nbytes)
        return made

    def part(self, segment: Segment) -> Part | None:
        """A segment's copies of included fields; one of an earlier release has none."""

        def load(name: str) -> Any:
            return self._part(segment.id, name)[0]

        if not fetched(self._connection, _PARTS, (segment.id, "included")):
            return None
        return Part(load("rows"), listed(load("included")), load)

    def originals(self, source: Source, picture: Picture) -> _Kept:
        """Vectors as they were given, of rows of the segments that the picture lists."""
        key = (source, picture.cover, picture.edition)
        held = self._cache.get(key)
        if held is None:
            rows = sum(segment.rows for segment in picture.segments)
            room = max(_WITH_CODES_BYTES - rows * codes.size(source.width), _LEAST_BYTES)
            held = originals(rows, source.width, min(room, self._cache.limit_bytes // 2))
        return _Kept(self._cache if self._keep else None, key, held)

    def chosen(
        self, source: Source, picture: Picture, key: Hashable, make: Callable[[], Any]
    ) -> Any:
        """What a filter chose in this picture, made if it is not held."""
        return self._choice(source, picture, picture.choices, key, make)

    def corpus(self, source: Source, picture: Picture, runs: Sequence[Run]) -> Corpus:
        """What searches over the runs of a picture have in common."""
        is_new = picture._corpus is None
        found = picture.corpus(runs)
        if self._keep and is_new:
            self._cache.grow(source, picture, picture.size())
        return found

    def matrix(
        self, source: Source, picture: Picture, key: Hashable, make: Callable[[], Any]
    ) -> Any:
        """The vectors that a filter chose in this picture, made if they are not held."""
        return self._choice(source, picture, picture.matrices, key, make)

    def _choice(
        self,
        source: Source,
        picture: Picture,
        choices: _Choices,
        key: Hashable,
        make: Callable[[], Any],
    ) -> Any:
        before = choices.used_bytes
        found = choices.load(key, make)
        if self._keep and choices.used_bytes != before:
            self._cache.grow(source, picture, picture.size())
        return found

    def vectors(self, source: Source, rows: Any, into: Any) -> Any:
        """Read the vectors of rows of segments into a matrix; which of them have one, as a mask."""
        flat, size = into.reshape(-1).view("u1").data, 4 * source.width
        with Blobs(self._connection, source.table) as blobs:
            found = [blobs.read(row, flat, at * size, size) for at, row in enumerate(rows.tolist())]
        return numpy.array(found, bool)

    def _part(self, segment: int, name: str) -> tuple[Any, int]:
        pieces = fetched(self._connection, _PARTS, (segment, name))
        # Each piece goes where it belongs: as bytes of their own, they would leave memory that is
        # free and yet not the system's again, half as much as is held.
        data = numpy.empty(sum(size for _, size in pieces), "u1")
        start = 0
        found = bool(pieces)
        with Blobs(self._connection, "holdfast_segment_parts") as blobs:
            for number, size in pieces:
                found = found and blobs.read(number, data.data, start, size)
                start += size
        if not found:
            raise Corrupt(
                "A part of the search index is missing.",
                hint='`maintain("reindex")` builds it anew from the records.',
            )
        data.flags.writeable = False
        return part(name, data), data.size

    def _state(self, source: Source) -> State | None:
        """The source's state, which is asked for only after somebody has committed something."""
        if not self._keep:
            return _asked(self._connection, source)
        seen = _SEEN.get(self._connection)
        version = self._connection.execute("PRAGMA data_version").get
        if seen is None or seen.version != version or len(seen.states) > _STATES:
            seen = _SEEN[self._connection] = _Seen(version, {})
        if source not in seen.states:
            seen.states[source] = _asked(self._connection, source)
        return seen.states[source]

    def _made(self, source: Source, held: Picture | None, new: Picture) -> Picture:
        """Fill a picture: from one of an earlier state, or from nothing."""
        if held is None:
            new.segments = tuple(
                Segment(*row)
                for row in fetched(
                    self._connection, _SEGMENTS, (new.cover, source.space, source.width)
                )
            )
        else:
            new.segments = held.segments
            new.tail = dict(held.tail)
        since, above = (0, new.high) if held is None else (held.seq, held.top)
        text = "SELECT _row FROM holdfast_notes WHERE cover = ? AND seq > ?"
        noted = sorted(row for (row,) in fetched(self._connection, text, (new.cover, since)))
        fresh = self._rows(source, "_row > ?", max(above, new.high))
        if noted:
            for row in noted:
                new.tail.pop(row, None)
            listed = apsw.carray(numpy.array(noted, "i8"))
            fresh += self._rows(source, "_row IN (SELECT value FROM carray(?))", listed)
        new.tail.update((row[0], row) for row in fresh)
        before = _NO_ROWS if held is None else held.noted
        new.noted = numpy.union1d(before, numpy.array(noted, "i8")) if noted else before
        return new

    def _rows(self, source: Source, condition: str, value: Any) -> list[tuple[Any, ...]]:
        text, values = source.select(source.columns, condition)
        return fetched(self._connection, text, [*values, value])


def runs(index: Index, picture: Picture) -> Sequence[Run]:
    """All of a text source."""
    packed = [
        picture.run(segment, postings.Packed(index.loader(segment.id)))
        for segment in picture.segments
    ]
    return [*packed, picture.loose_run()] if picture.tail else packed


def _asked(connection: apsw.Connection, source: Source) -> State | None:
    """The state of a source, as it is now."""
    of, values = "tenant = ?2", [source.table, source.tenant]
    if source.width:
        of = f"{of} AND space = ?3"
        values.append(source.space)
    last = f"SELECT _row FROM {quoted(source.table)} WHERE {of} ORDER BY _row DESC LIMIT 1"
    text = (
        "SELECT id, high, edition,"
        " coalesce((SELECT max(seq) FROM holdfast_notes WHERE cover = id), 0),"
        f" coalesce(({last}), 0) FROM holdfast_covers WHERE source = ?1 AND tenant = ?2"
    )
    found = fetched(connection, text, values)
    return found[0] if found else None


_NO_ROWS: Final = numpy.empty(0, "i8")
_ASKED_ONCE: Final = object()
_NOT_HELD: Final = object()
