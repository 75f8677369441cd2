"""Merges: rows that are read one by one until then are packed into segments, in small steps.

The heavy work holds no lock and no snapshot. Rows are read a stretch at a time; one that is changed
while that goes on is noted by whoever changes it, and the note stays. What is made is written in
pieces, each in a short transaction of its own, into segments that nobody sees. The last transaction
makes them count, takes away those that they replace, and says up to which row segments hold
everything; it does so only if nobody else has merged in between. A crash before it leaves pieces
that count for nothing and go with the next merge.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final

import apsw
import msgspec

from holdfast.backends.sql.dialect import quoted
from holdfast.backends.sql.planner import Planner
from holdfast.backends.sqlite.connection import ConnectionPool, fetched
from holdfast.backends.sqlite.covers import copied_fields, included_fields
from holdfast.backends.sqlite.writer import Writer
from holdfast.core.clock import Clock, shifted
from holdfast.core.errors import Invalid
from holdfast.core.values import to_micros

TAIL_ROWS: Final = 1_000
SEGMENT_ROWS: Final = 65_536
PIECE_BYTES: Final = 256 * 1024
"""Most that one transaction of a merge writes, unless a single part's piece is all of it."""
POSTING_LIMIT: Final = 2_000_000
"""Postings of a segment; it bounds the memory that a merge takes, to about 100 MB."""
VOID_SHARE: Final = 32
"""A merge is due when more than one in so many rows has a note."""
_VECTORS: Final = 2
"""Of vectors a segment holds so many times the rows that it holds of texts: a search goes through
few segments sooner than through many, and no number of two bytes stands for a row."""
_GROWTH: Final = 3
"""A segment is merged again when what came after it is at least a third of it."""
_CLAIM: Final = timedelta(seconds=30)
"""How long a merge is left alone; after that it is taken to be dead."""

_CLAIMED: Final = """
UPDATE holdfast_covers SET claim = ?1, claimed_until = ?2
WHERE id = ?3 AND (claim IS NULL OR claimed_until < ?4) RETURNING edition"""
_RUNS: Final = """
SELECT low, high, sum(rows), sum(postings), (SELECT count(*) FROM holdfast_notes AS n
    WHERE n.cover = s.cover AND n._row > s.low AND n._row <= s.high)
FROM holdfast_segments AS s WHERE cover = ? AND state = 'live' GROUP BY low, high ORDER BY low"""
_PUBLISHED: Final = """
UPDATE holdfast_covers SET high = max(high, ?1), edition = edition + 1, claim = NULL
WHERE id = ?2 AND claim = ?3 AND edition = ?4"""


class Limits(msgspec.Struct, frozen=True):
    """When merges are due, and how large segments become.

    ``tail_rows``: so many rows of a tenant are read one by one before they are packed, and a
    tenant with fewer has no segments. ``segment_rows``: most rows of a segment of texts; one of
    vectors holds up to twice as many.
    """

    tail_rows: int = TAIL_ROWS
    segment_rows: int = SEGMENT_ROWS

    def __post_init__(self) -> None:
        for name in ("tail_rows", "segment_rows"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not whole or not 1 <= value <= SEGMENT_ROWS:
                expected = f"a whole number from 1 to {SEGMENT_ROWS}"
                raise Invalid(name, expected=expected, got=repr(value))

    def are_reached(self, fresh: int, noted: int, held: int) -> bool:
        """Whether so many fresh rows, or notes on so many in segments, are worth a merge."""
        return fresh >= self.tail_rows or noted >= max(self.tail_rows, held // VOID_SHARE)


class Lost(Exception):
    """Somebody else has merged, or the driver closes: what was begun is given up."""


class _Plan(msgspec.Struct):
    """What one merge packs: the rows of a source above ``low``, up to ``high``."""

    cover: int
    edition: int
    token: bytes
    low: int
    high: int
    last_note: int
    """Later ones may be of changes that the merge has not seen."""
    made: list[int] = []


class Merging:
    """One merge of one source of one tenant, step by step."""

    def __init__(
        self,
        pool: ConnectionPool,
        writer: Writer,
        clock: Clock,
        limits: Limits,
        planner: Planner,
        go_on: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._planner = planner
        self._writer = writer
        self._clock = clock
        self._limits = limits
        self._go_on = go_on

    def is_due(self, source: str, tenant: str) -> bool:
        """Whether rows that no segment holds, or whose copies are void, have become many."""
        limit = self._limits.tail_rows
        with self._pool.reading() as connection:
            text = (
                "SELECT id, high, claim IS NOT NULL AND claimed_until >= ?3"
                " FROM holdfast_covers WHERE source = ?1 AND tenant = ?2"
            )
            now = to_micros(self._clock.now())
            found = fetched(connection, text, (source, tenant, now))
            cover, high, claimed = found[0] if found else (0, 0, False)
            if claimed:
                return False
            count = f"SELECT 1 FROM {_above(source)} LIMIT ?"
            fresh = len(fetched(connection, count, (tenant, high, limit)))
            notes = "SELECT count(*) FROM holdfast_notes WHERE cover = ?"
            held = "SELECT coalesce(sum(rows), 0) FROM holdfast_segments WHERE cover = ?"
            rows = connection.execute(held, (cover,)).get
            noted = connection.execute(notes, (cover,)).get
        return self._limits.are_reached(fresh, noted, rows)

    def run(self, source: str, tenant: str) -> bool:
        """Merge once. False where another process is at it, or came first."""
        token = os.urandom(16)
        claimed = self._writer.run(lambda c: self._claim(c, source, tenant, token))
        if claimed is None:
            return False
        cover, edition = claimed
        self.sweep(cover)
        done = False
        try:
            plan = self._plan(source, tenant, cover, edition, token)
            if plan is not None:
                self._build(source, tenant, plan)
                done = self._writer.run(lambda c: _publish(c, plan))
        except Lost:
            pass
        finally:
            if not done:
                text = "UPDATE holdfast_covers SET claim = NULL WHERE id = ? AND claim = ?"
                self._writer.run(lambda c: c.execute(text, (cover, token)).fetchall())
        self.sweep(cover)
        return done

    def sweep(self, cover: int) -> None:
        """Remove what counts no more, a few pieces at a time."""
        with self._pool.reading() as connection:
            text = "SELECT id FROM holdfast_segments WHERE cover = ? AND state = 'gone'"
            gone = [number for (number,) in fetched(connection, text, (cover,))]
        for number in gone:
            more = True
            while more:
                self._go_on()
                more = self._writer.run(partial(_remove, segment=number))

    def _claim(
        self, connection: apsw.Connection, source: str, tenant: str, token: bytes
    ) -> tuple[int, int] | None:
        connection.execute(
            "INSERT INTO holdfast_covers (source, tenant) VALUES (?, ?) ON CONFLICT DO NOTHING",
            (source, tenant),
        )
        find = "SELECT id FROM holdfast_covers WHERE source = ? AND tenant = ?"
        cover = connection.execute(find, (source, tenant)).get
        now = self._clock.now()
        values = (token, to_micros(shifted(now, _CLAIM)), cover, to_micros(now))
        edition = connection.execute(_CLAIMED, values).get
        if edition is None:
            return None
        # What a merge that died has left is nobody's.
        text = "UPDATE holdfast_segments SET state = 'gone' WHERE cover = ? AND state = 'building'"
        connection.execute(text, (cover,))
        return cover, edition

    def _plan(
        self, source: str, tenant: str, cover: int, edition: int, token: bytes
    ) -> _Plan | None:
        """What to pack.

        The fresh rows, with the segments before them that are not much larger; or one segment of
        which much is void.
        """
        size = "0" if _is_vectors(source) else "length(terms) / 8"
        fresh = f"SELECT _row, {size} FROM {_above(source)} ORDER BY _row LIMIT ?"
        with self._pool.reading() as connection:
            connection.execute("BEGIN")
            try:
                state = "SELECT high, edition FROM holdfast_covers WHERE id = ?"
                high, now = connection.execute(state, (cover,)).fetchone() or (0, -1)
                last = "SELECT coalesce(max(seq), 0) FROM holdfast_notes WHERE cover = ?"
                last_note = connection.execute(last, (cover,)).get
                runs = fetched(connection, _RUNS, (cover,))
                limit = self._limit(source)
                rows = _within_limit(fetched(connection, fresh, (tenant, high, limit)))
            finally:
                connection.execute("COMMIT")
        if now != edition:
            return None
        void = max(runs, key=lambda run: run[4], default=None)
        if len(rows) < self._limits.tail_rows and void is not None and void[4]:
            return _Plan(cover, edition, token, void[0], void[1], last_note)
        low, top = self._with_runs(runs, rows, high, limit), rows[-1][0] if rows else high
        return _Plan(cover, edition, token, low, top, last_note)

    def _limit(self, source: str) -> int:
        """Most rows of a segment."""
        return self._limits.segment_rows * (_VECTORS if _is_vectors(source) else 1)

    def _with_runs(
        self,
        runs: Sequence[tuple[Any, ...]],
        rows: Sequence[tuple[int, int]],
        high: int,
        limit: int,
    ) -> int:
        """Above which row to begin, so that segments stay few and none is packed too often."""
        count, size, low = len(rows), sum(row[1] for row in rows), high
        for run_low, _, run_rows, run_size, _ in reversed(runs):
            count, size = count + run_rows, size + run_size
            small = count <= limit and size <= POSTING_LIMIT
            if not small or run_rows > _GROWTH * (count - run_rows):
                break
            low = run_low
        return low

    def _build(self, source: str, tenant: str, plan: _Plan) -> None:
        from holdfast.backends.sqlite import packing  # which loads numpy

        collection = self._planner.collections[source.rpartition("__")[0]]
        reader = packing.Reader(
            self._pool,
            source,
            tenant,
            plan.low,
            plan.high,
            self._go_on,
            table=collection.name,
            fields=copied_fields(collection),
            included=() if _is_vectors(source) else included_fields(collection),
        )
        for segment in reader.vectors() if _is_vectors(source) else reader.texts():
            self._write(plan, segment)

    def _write(self, plan: _Plan, segment: Any) -> None:
        """Put a finished segment down, where nobody looks yet."""
        values = (
            plan.cover, segment.space, segment.width, plan.low, plan.high, segment.rows,
            segment.postings,
        )  # fmt: skip

        def begin(connection: apsw.Connection) -> int:
            connection.execute(
                "INSERT INTO holdfast_segments"
                " (cover, state, space, width, low, high, rows, postings)"
                " VALUES (?1, 'building', ?2, ?3, ?4, ?5, ?6, ?7)",
                values,
            )
            return connection.last_insert_rowid()

        number = self._writer.run(begin)
        plan.made.append(number)
        for group in _grouped(segment.parts):
            self._go_on()
            if not self._writer.run(partial(_put_down, segment=number, pieces=group)):
                raise Lost


def drop(connection: apsw.Connection, source: str) -> None:
    """Let no segment of a source count any more; its rows are all read one by one again."""
    covers = "(SELECT id FROM holdfast_covers WHERE source = ?)"
    for text in (
        f"UPDATE holdfast_segments SET state = 'gone' WHERE cover IN {covers}",
        f"DELETE FROM holdfast_notes WHERE cover IN {covers}",
        "UPDATE holdfast_covers SET high = 0, edition = edition + 1, claim = NULL WHERE source = ?",
    ):
        connection.execute(text, (source,))


def _publish(connection: apsw.Connection, plan: _Plan) -> bool:
    """Let a merge count; False where another came first."""
    old = "SELECT high FROM holdfast_covers WHERE id = ?"
    before = connection.execute(old, (plan.cover,)).get
    connection.execute(_PUBLISHED, (plan.high, plan.cover, plan.token, plan.edition))
    if not connection.changes():
        return False
    connection.execute(
        "UPDATE holdfast_segments SET state = 'gone'"
        " WHERE cover = ? AND state = 'live' AND low >= ? AND high <= ?",
        (plan.cover, plan.low, plan.high),
    )
    for number in plan.made:
        text = "UPDATE holdfast_segments SET state = 'live' WHERE id = ? AND state = 'building'"
        connection.execute(text, (number,))
    # Of rows that were packed anew, and of fresh ones, no older copy is left.
    connection.execute(
        "DELETE FROM holdfast_notes WHERE cover = ?1 AND seq <= ?2"
        " AND (_row > ?3 OR (_row > ?4 AND _row <= ?5))",
        (plan.cover, plan.last_note, before, plan.low, plan.high),
    )
    return True


def _put_down(
    connection: apsw.Connection, segment: int, pieces: Sequence[tuple[str, int, bytes]]
) -> bool:
    state = "SELECT state FROM holdfast_segments WHERE id = ?"
    if connection.execute(state, (segment,)).get != "building":
        return False
    connection.executemany(
        "INSERT INTO holdfast_segment_parts (segment, name, number, data) VALUES (?, ?, ?, ?)",
        [(segment, *piece) for piece in pieces],
    )
    return True


def _remove(connection: apsw.Connection, segment: int) -> bool:
    """Remove a few pieces of a segment, and it with the last; whether more are left."""
    connection.execute(
        "DELETE FROM holdfast_segment_parts WHERE id IN"
        " (SELECT id FROM holdfast_segment_parts WHERE segment = ? LIMIT 2)",
        (segment,),
    )
    if connection.changes():
        return True
    connection.execute("DELETE FROM holdfast_segments WHERE id = ?", (segment,))
    return False


def _grouped(parts: dict[str, Any]) -> Iterator[list[tuple[str, int, bytes]]]:
    """The pieces of all parts, in groups that one transaction writes."""
    group: list[tuple[str, int, bytes]] = []
    size = 0
    for name, array in parts.items():
        data = array.tobytes()
        for number, start in enumerate(range(0, max(len(data), 1), PIECE_BYTES)):
            piece = data[start : start + PIECE_BYTES]
            if group and size + len(piece) > PIECE_BYTES:
                yield group
                group, size = [], 0
            group.append((name, number, piece))
            size += len(piece)
    if group:
        yield group


def _within_limit(rows: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The first of these rows, as far as their postings fit into a segment; at least one."""
    size = 0
    for number, (_, postings) in enumerate(rows):
        size += postings
        if number and size > POSTING_LIMIT:
            return rows[:number]
    return rows


def _above(source: str) -> str:
    """A tenant's rows of a source above one.

    The index of vectors begins with tenant and space; their row number alone would lead through
    the rows of all tenants.
    """
    row = "+_row" if _is_vectors(source) else "_row"
    return f"{quoted(source)} WHERE tenant = ? AND {row} > ?"


def _is_vectors(source: str) -> bool:
    return not source.endswith("__terms")
