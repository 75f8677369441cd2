"""Packs a tenant's fresh texts into a segment, with the small segments before it: one transaction.

What is packed leaves the table of fresh texts, where each text has a stamp that changes whenever
the text does. A text that was changed meanwhile has another stamp by then, stays, and its copy in
the segment is void. A crash undoes all of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy

from holdfast.backends.postgres.binding import MARK
from holdfast.backends.postgres.dialect import PostgresDialect
from holdfast.backends.postgres.fresh import Fresh, big
from holdfast.backends.postgres.functions import lock_number
from holdfast.backends.postgres.names import packed_table, terms_table
from holdfast.backends.postgres.text_search import loader, positions, state
from holdfast.backends.postgres.wire import Command, StatementFailed, Wire
from holdfast.backends.segments import postings
from holdfast.backends.sql.dialect import quoted
from holdfast.core.collection import Collection

POSTING_LIMIT: Final = 2_000_000
"""Postings of a segment; it bounds the memory that packing takes."""
VOID_SHARE: Final = 8
"""A segment is packed anew when more than one of so many of its rows is void."""
_GROWTH: Final = 3
"""A segment is merged with all that is smaller when that is at least a third of it."""
_LOCK_SECONDS: Final = 2


@dataclass(frozen=True)
class _Segment:
    id: int
    texts: postings.Packed
    postings: int
    dead: Any

    @property
    def rows(self) -> int:
        return int(self.texts.rows.size) - int(self.dead.size)


@dataclass
class _Content:
    """Texts end to end: a stamp and a length for each, and a stamp for each posting."""

    stamps: Any
    lengths: Any
    owners: Any
    hashes: Any
    counts: Any


def pack(
    wire: Wire, dialect: PostgresDialect, collection: Collection, tenant: str, tail_rows: int
) -> bool:
    """Pack once. False where there is too little to do, or another process is at it."""
    number = lock_number(dialect.schema, f"pack {collection.name} {tenant}")
    wire.run(
        [
            ("BEGIN ISOLATION LEVEL READ COMMITTED", ()),
            (f"SELECT set_config('holdfast.tenant', {MARK}, true)", [tenant]),
            (f"SELECT set_config('lock_timeout', '{_LOCK_SECONDS}s', true)", ()),
        ]
    )
    try:
        claim = wire.run([(f"SELECT pg_try_advisory_xact_lock({number})", ())])[0]
        done = bool(wire.rows(claim)[0][0])
        done = done and _Packing(wire, dialect, collection, tenant).run(tail_rows)
        wire.run([("COMMIT" if done else "ROLLBACK", ())])
    except StatementFailed:
        wire.run([("ROLLBACK", ())])
        raise
    return done


class _Packing:
    """One run, inside its transaction."""

    def __init__(
        self, wire: Wire, dialect: PostgresDialect, collection: Collection, tenant: str
    ) -> None:
        self._wire, self._dialect = wire, dialect
        self._collection, self._tenant = collection, tenant
        self._source = [tenant, collection.name]

    def run(self, tail_rows: int) -> bool:
        """Whether anything was packed."""
        fresh, segments = self._read()
        if fresh.stamps.size < tail_rows:
            dirty = [s for s in segments if s.dead.size * VOID_SHARE > s.texts.rows.size]
            if not dirty:
                return False
            fresh, old = Fresh.none(), [max(dirty, key=lambda s: int(s.dead.size))]
        else:
            old = _small_before(segments, fresh)
        content = _joined([_of_segment(s) for s in old] + [_of_fresh(fresh)])
        if content.stamps.size:
            self._write(content)
        self._move(fresh.stamps)
        self._drop(old)
        return True

    def segments(self) -> list[_Segment]:
        """All segments as they are."""
        return self._read()[1]

    def _read(self) -> tuple[Fresh, list[_Segment]]:
        """The first fresh texts, as many as a segment takes, and all segments."""
        ids, voids = state(self._dialect, self._collection)
        tail = terms_table(self._dialect, self._collection)
        # In one statement, so that all is of one state.
        text = (
            f"SELECT {ids}, {voids}, (SELECT string_agg(int8send(postings), '' ORDER BY id)"
            f" FROM {self._dialect.schema}.holdfast_segments"
            f" WHERE tenant = {MARK} AND source = {MARK}), {Fresh.columns} FROM"
            f" (SELECT * FROM (SELECT stamp, length, terms, counts, sum(octet_length(terms) / 8)"
            f" OVER (ORDER BY stamp) AS size FROM {tail} WHERE tenant = {MARK} ORDER BY stamp"
            f" LIMIT {postings.ROW_LIMIT}) AS f WHERE size <= {POSTING_LIMIT}) AS k"
        )
        values = [self._tenant, self._tenant, *self._source, self._tenant]
        row = self._wire.rows(self._wire.run([(text, values)])[0])[0]
        segments = []
        for id, size in zip(big(row[0]).tolist(), big(row[2]).tolist(), strict=True):
            texts = postings.Packed(loader(self._dialect, self._wire, self._tenant, id))
            segments.append(_Segment(id, texts, size, positions(texts.rows, big(row[1]))))
        return Fresh.of(row[3:]), segments

    def _write(self, content: _Content) -> None:
        starts = numpy.searchsorted(content.owners, content.stamps)
        sizes = numpy.diff(starts, append=content.owners.size)
        hashes, counts = content.hashes.tobytes(), content.counts.tobytes()
        parts = postings.build(content.stamps, content.lengths, hashes, sizes, counts)
        s = self._dialect.schema
        text = (
            f"INSERT INTO {s}.holdfast_segments (tenant, source, rows, postings)"
            f" VALUES ({MARK}, {MARK}, {MARK}, {MARK}) RETURNING id"
        )
        size = [int(content.stamps.size), int(content.owners.size)]
        made = self._wire.run([(text, [*self._source, *size])])[0]
        segment = self._wire.rows(made)[0][0]
        put = (
            f"INSERT INTO {s}.holdfast_segment_parts (tenant, segment, name, data)"
            f" VALUES ({MARK}, {MARK}, {MARK}, {MARK})"
        )
        for name, array in parts.items():
            self._wire.run([(put, [self._tenant, segment, name, array.tobytes()])])

    def _move(self, stamps: Any) -> None:
        """Take what was packed from the fresh texts; what changed meanwhile is void."""
        if not stamps.size:
            return
        key = ", ".join(map(quoted, self._collection.key))
        text = (
            f"WITH moved AS (DELETE FROM {terms_table(self._dialect, self._collection)}"
            f" WHERE tenant = {MARK} AND stamp = ANY({MARK}::bigint[]) RETURNING {key}, stamp),"
            f" noted AS (INSERT INTO {packed_table(self._dialect, self._collection)}"
            f" (tenant, {key}, stamp) SELECT {MARK}, {key}, stamp FROM moved)"
            " SELECT string_agg(int8send(stamp), '' ORDER BY stamp) FROM moved"
        )
        wanted = stamps.tolist()
        row = self._wire.rows(self._wire.run([(text, [self._tenant, wanted, self._tenant])])[0])[0]
        missed = numpy.setdiff1d(stamps, big(row[0]))
        if missed.size:
            put = (
                f"INSERT INTO {self._dialect.schema}.holdfast_voids (tenant, source, stamp)"
                f" SELECT {MARK}, {MARK}, unnest({MARK}::bigint[])"
            )
            self._wire.run([(put, [*self._source, missed.tolist()])])

    def _drop(self, old: list[_Segment]) -> None:
        """Remove what was merged, and the notes of what was left out of it."""
        if not old:
            return
        s = self._dialect.schema
        ids = [segment.id for segment in old]
        left_out = numpy.concatenate([o.texts.rows[o.dead] for o in old]).tolist()
        mine = f"WHERE tenant = {MARK} AND source = {MARK}"
        parts = f"{s}.holdfast_segment_parts WHERE tenant = {MARK} AND segment"
        commands: list[Command] = [
            (f"DELETE FROM {parts} = ANY({MARK}::bigint[])", [self._tenant, ids]),
            (
                f"DELETE FROM {s}.holdfast_segments {mine} AND id = ANY({MARK}::bigint[])",
                [*self._source, ids],
            ),
            (
                f"DELETE FROM {s}.holdfast_voids {mine} AND stamp = ANY({MARK}::bigint[])",
                [*self._source, left_out],
            ),
        ]
        self._wire.run(commands)


class Held:
    """A tenant's packed texts, to be compared with its records."""

    def __init__(
        self, wire: Wire, dialect: PostgresDialect, collection: Collection, tenant: str
    ) -> None:
        contents = [_of_segment(s) for s in _Packing(wire, dialect, collection, tenant).segments()]
        self._content = _joined([*contents, _of_fresh(Fresh.none())])

    def get(self, stamp: int) -> tuple[int, dict[int, int]] | None:
        """The length of a text, and how often each term's hash occurs; None if it is not there."""
        content = self._content
        at = int(numpy.searchsorted(content.stamps, stamp))
        if at == content.stamps.size or content.stamps[at] != stamp:
            return None
        first, last = (
            int(numpy.searchsorted(content.owners, stamp, side)) for side in ("left", "right")
        )
        hashes, counts = content.hashes[first:last], content.counts[first:last]
        return int(content.lengths[at]), dict(zip(hashes.tolist(), counts.tolist(), strict=True))


def unpacked(length: int, hashes: bytes, counts: bytes) -> tuple[int, dict[int, int]]:
    """A text as it is kept while it is fresh, in the form of `Held.get`."""
    pairs = zip(
        numpy.frombuffer(hashes, "<u8").tolist(),
        numpy.frombuffer(counts, "<u4").tolist(),
        strict=True,
    )
    return length, dict(pairs)


def _small_before(segments: list[_Segment], fresh: Fresh) -> list[_Segment]:
    """Segments that are not much larger than all that is smaller."""
    count, size = int(fresh.stamps.size), int(fresh.sizes.sum())
    chosen = []
    for segment in sorted(segments, key=lambda s: s.rows):
        large = count + segment.rows > postings.ROW_LIMIT or size + segment.postings > POSTING_LIMIT
        if large or segment.rows > _GROWTH * count:
            break
        chosen.append(segment)
        count, size = count + segment.rows, size + segment.postings
    return chosen


def _of_segment(segment: _Segment) -> _Content:
    texts = segment.texts
    alive = numpy.ones(texts.rows.size, bool)
    alive[segment.dead] = False
    hashes, owners, counts = texts.triples(alive)
    return _Content(texts.rows[alive], texts.lengths[alive], owners, hashes, counts)


def _of_fresh(fresh: Fresh) -> _Content:
    return _Content(
        fresh.stamps,
        fresh.lengths,
        numpy.repeat(fresh.stamps, fresh.sizes),
        fresh.hashes,
        fresh.counts,
    )


def _joined(contents: list[_Content]) -> _Content:
    """All of them as one, in the order of stamps."""

    def whole(name: str, kind: str) -> Any:
        return numpy.concatenate([getattr(one, name).astype(kind) for one in contents])

    stamps, owners = whole("stamps", "i8"), whole("owners", "i8")
    first = numpy.argsort(stamps, kind="stable")
    order = numpy.argsort(owners, kind="stable")
    return _Content(
        stamps[first],
        whole("lengths", "u4")[first],
        owners[order],
        whole("hashes", "<u8")[order],
        whole("counts", "<u4")[order],
    )
