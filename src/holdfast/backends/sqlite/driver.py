"""The SQLite engine: one file, one writer at a time, readers beside it, several processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import apsw
import msgspec

from holdfast.backends.segments.cache import CACHE_LIMIT_BYTES, Cache
from holdfast.backends.sql.planner import Planner
from holdfast.backends.sql.rows import aggregated, decoded, decoded_all
from holdfast.backends.sqlite.changes import Transaction
from holdfast.backends.sqlite.connection import (
    SHARED,
    Connection,
    ConnectionPool,
    Durability,
)
from holdfast.backends.sqlite.dialect import SqliteDialect
from holdfast.backends.sqlite.errors import ENGINE_ERRORS, READ_ERRORS, mapped, of_reading
from holdfast.backends.sqlite.header import BUSY_SECONDS
from holdfast.backends.sqlite.merger import Merger
from holdfast.backends.sqlite.merging import SEGMENT_ROWS, TAIL_ROWS, Limits
from holdfast.backends.sqlite.preparing import Preparation, Prepared, PreparedPatch
from holdfast.backends.sqlite.rows import Rows as RowReader
from holdfast.backends.sqlite.schema import Schema
from holdfast.backends.sqlite.writer import Writer
from holdfast.core.capabilities import YES, Capabilities
from holdfast.core.change import Change, Outcome
from holdfast.core.clock import Clock, SystemClock
from holdfast.core.collection import Collection
from holdfast.core.driver import Driver, FeedEntry, Health, Report, Task, not_set_up
from holdfast.core.errors import IdempotencyMismatch, NotFound
from holdfast.core.filter import Record
from holdfast.core.query import Aggregate, Query, Rows, full_order, position
from holdfast.core.scope import EVERY_TENANT, Tenant
from holdfast.core.search import Hits, Search
from holdfast.core.turns import in_turns
from holdfast.core.values import Vector, from_micros

_decode_outcomes = msgspec.msgpack.Decoder(list[Outcome]).decode
_encode_outcomes = msgspec.msgpack.Encoder().encode
_decode_body = msgspec.msgpack.Decoder().decode


class SqliteDriver(Driver):
    """A store in one SQLite file.

    ``durability`` "full" syncs at every commit, so that what is acknowledged survives power loss;
    "normal" may lose the last commits then, never the file's consistency, and shows in health.
    ``vfs`` names a registered apsw VFS, for fault injection. ``search_cache_bytes`` bounds what
    searches keep in memory; ``tail_rows`` and ``segment_rows`` say when rows are packed into
    segments and how many go into one. ``immutable`` reads a closed file without a log and without
    locks: the caller vouches that nobody writes to it, and our own writes are ReadOnly.
    """

    name = "sqlite"
    capabilities = Capabilities(
        durable=YES,
        multi_process=YES,
        full_text=YES,
        vectors=YES,
        feed=YES,
        backup=YES,
        integrity=YES,
        shared_commits=YES,
    )

    def __init__(
        self,
        path: str,
        clock: Clock | None = None,
        *,
        durability: Durability = "full",
        busy_seconds: float = BUSY_SECONDS,
        vfs: str | None = None,
        search_cache_bytes: int = CACHE_LIMIT_BYTES,
        tail_rows: int = TAIL_ROWS,
        segment_rows: int = SEGMENT_ROWS,
        immutable: bool = False,
    ) -> None:
        limits = Limits(tail_rows, segment_rows)
        self._cache = Cache(search_cache_bytes)
        self._clock = clock or SystemClock()
        self._pool = ConnectionPool(
            path, durability=durability, busy_seconds=busy_seconds, vfs=vfs, immutable=immutable
        )
        self._writer = Writer(self._pool)
        self._planner = Planner(SqliteDialect())
        self._merger = Merger(self._pool, self._writer, self._planner, self._clock, limits)
        if immutable:
            self._merger.close()
        self._preparation = Preparation(self._planner)

    def setup(self, collections: Sequence[Collection], *, create: bool = True) -> None:
        schema = Schema(collections)
        with self._reading() as connection:
            current = schema.is_current(connection)
        if not current and not create:
            raise not_set_up()
        self._pool.settle()
        if not current:
            self._writer.run(lambda c: self._upgrade(c, schema))
        for collection in collections:
            self._planner.declare(collection)

    def get(
        self, tenant: str, collection: str, key: tuple[Any, ...], *, vectors: bool = False
    ) -> Record | None:
        shape, columns, text = self._planner.point(collection)
        if vectors:
            with self._reading() as connection:
                found = RowReader(connection, self._planner, tenant).get(shape, key, vectors=True)
            return None if found is None else found[1]
        values = (tenant, *columns.encode_key(key))
        with self._reading() as connection:
            rows = connection.rows(text, values)
        return decoded(shape, columns.decode, rows[0]) if rows else None

    def apply(
        self,
        tenant: str,
        changes: Sequence[Change],
        *,
        op_id: str | None = None,
        op_body: bytes | None = None,
    ) -> list[Outcome]:
        prepared = [self._preparation.prepare(tenant, change) for change in in_turns(changes)]
        body = b"" if op_id is None else op_body or _encode_outcomes(changes)

        def work(connection: Connection) -> list[Outcome]:
            return self._apply(connection, tenant, prepared, op_id, body)

        return self._writer.run(work, repeatable=True)

    def query(self, tenant: Tenant, query: Query) -> Rows:
        collection = self._planner.collections[query.collection]
        with self._reading() as connection:
            reader = RowReader(connection, self._planner, tenant)
            order = full_order(query.order, collection.key)
            columns = self._planner.columns(query.collection, query.fields, order)
            text, values = self._planner.query(tenant, query, ", t0._row" if query.vectors else "")
            if query.vectors:
                found = reader.read(collection, text, values, columns)
                reader.attach_vectors(collection, found)
                records = [record for _, record in found]
            else:
                rows = connection.rows(text, values)
                records = decoded_all(collection, columns, rows)
                if tenant is EVERY_TENANT:
                    for record, row in zip(records, rows, strict=True):
                        record["tenant"] = row[-1]
        if query.limit is None or len(records) <= query.limit:
            return Rows(records)
        taken = records[: query.limit]
        return Rows(taken, position(taken[-1], order) if taken else None)

    def aggregate(self, tenant: Tenant, aggregate: Aggregate) -> list[Record]:
        text, values = self._planner.aggregate(tenant, aggregate)
        readers = self._planner.aggregate_decoders(aggregate)
        with self._reading() as connection:
            rows = connection.rows(text, values)
        return aggregated(aggregate.collection, readers, rows)

    def search(self, tenant: str, search: Search) -> Hits:
        from holdfast.backends.sqlite.search import RowSearch  # which loads numpy

        # What this thread's open group has written may be rolled back.
        keep = self._writer.open_connection is None
        with self._snapshot() as connection:
            reader = RowSearch(
                connection, self._planner, tenant, self._cache, self._merger, keep=keep
            )
            return reader.run(search)

    def feed(self, follower: str, *, after: int, limit: int) -> list[FeedEntry]:
        with self._snapshot() as connection:
            known = "SELECT 1 FROM holdfast_followers WHERE name = ?"
            if connection.execute(known, (follower,)).fetchone() is None:
                raise NotFound("There is no such follower.", hint="Register it first.")
            rows = connection.execute(
                "SELECT position, tenant, collection, key, revision, record, at, op_id"
                " FROM holdfast_journal WHERE position > ? ORDER BY position LIMIT ?",
                (after, limit),
            ).fetchall()
            return [_feed_entry(self._planner, row) for row in rows]

    def maintain(self, task: Task, **options: Any) -> Report:
        from holdfast.backends.sqlite import maintenance  # which few processes need

        run = maintenance.TASKS[task]
        internals = maintenance.Internals(
            self._pool, self._writer, self._planner, self._merger, self._clock
        )
        try:
            return run(internals, **options)
        except READ_ERRORS as error:
            if task == "integrity":
                raise of_reading(error) from error
            if not isinstance(error, ENGINE_ERRORS):
                raise
            raise mapped(error) from error

    def backup(self, target: str) -> Report:
        from holdfast.backends.sqlite import maintenance

        with self._reading() as connection:
            return maintenance.backup(connection, target)

    def health(self) -> Health:
        from holdfast.backends.sqlite import maintenance

        health = maintenance.health(self._pool, self.name)
        facts = {
            **health.facts,
            "search_cache_bytes": self._cache.used_bytes,
            "search_cache_limit_bytes": self._cache.limit_bytes,
        }
        if self._merger.last_error:
            facts["merge_error"] = self._merger.last_error
        return msgspec.structs.replace(health, facts=facts)

    def close(self) -> None:
        self._merger.close()
        self._writer.close()
        self._pool.close()

    def native(self) -> apsw.Connection:
        """A new read-only apsw connection to the file; the caller closes it."""
        connection = self._pool.connect(flags=SHARED)
        connection.execute("PRAGMA query_only=ON")
        return connection

    def group(self) -> AbstractContextManager[None]:
        return self._writer.group()

    def _reading(self) -> _Reading:
        """A connection to read on: this thread's open group's, so that it sees its own writes."""
        return _Reading(self._pool, self._writer.open_connection)

    @contextmanager
    def _snapshot(self) -> Iterator[Connection]:
        """Several reads of one state."""
        with self._reading() as connection:
            if connection.in_transaction:
                yield connection
                return
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("COMMIT")

    def _upgrade(self, connection: apsw.Connection, schema: Schema) -> None:
        for collection in schema.upgrade(connection, self._clock.now()):
            from holdfast.backends.sqlite import upkeep

            self._planner.declare(collection)
            upkeep.derive(connection, self._planner, collection)

    def _apply(
        self,
        connection: Connection,
        tenant: str,
        changes: Sequence[Change | Prepared | PreparedPatch],
        op_id: str | None,
        body: bytes,
    ) -> list[Outcome]:
        if op_id is not None:
            known = connection.execute(
                "SELECT body, outcomes FROM holdfast_operations WHERE tenant = ? AND op_id = ?",
                (tenant, op_id),
            ).fetchone()
            if known is not None:
                if known[0] != body:
                    raise IdempotencyMismatch("This operation id was used with another body.")
                return _decode_outcomes(known[1])
        work = Transaction(
            connection,
            self._preparation,
            tenant,
            self._clock,
            self._writer.known,
            op_id=op_id,
        )
        outcomes = work.run(changes)
        if op_id is not None:
            connection.execute(
                "INSERT INTO holdfast_operations VALUES (?, ?, ?, ?, ?)",
                (tenant, op_id, body, _encode_outcomes(outcomes), work.at_micros),
            )
        return outcomes


class _Reading:
    """Holds a read connection for a block; a class, because each read passes through it."""

    __slots__ = ("_connection", "_lent", "_pool")

    def __init__(self, pool: ConnectionPool, connection: Connection | None) -> None:
        self._pool = pool
        self._lent = connection is None
        self._connection = pool.take() if connection is None else connection

    def __enter__(self) -> Connection:
        return self._connection

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if self._lent:
            self._pool.give(self._connection)
        if error is not None and isinstance(error, READ_ERRORS):
            raise of_reading(error) from error


def _feed_entry(planner: Planner, row: tuple[Any, ...]) -> FeedEntry:
    place, tenant, collection, key, revision, body, at, op_id = row
    record = None if body is None else _decode_body(body)
    if record is not None:
        for name in planner.collections[collection].vectors:
            if record[name] is not None:
                record[name] = msgspec.convert(record[name], Vector)
    return FeedEntry(
        place,
        tenant,
        collection,
        tuple(_decode_body(key)),
        revision,
        record,
        from_micros(at),
        op_id,
    )
