"""The PostgreSQL engine: real tables in one schema, a pool of connections, several processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import msgspec

from holdfast.backends.postgres import backup, diagnosis, followers, maintenance, roles
from holdfast.backends.postgres.binding import MARK
from holdfast.backends.postgres.derived import attach_vectors, derive_terms, read_vectors
from holdfast.backends.postgres.dialect import PostgresDialect
from holdfast.backends.postgres.errors import ENGINE_ERRORS, lost, mapped
from holdfast.backends.postgres.internals import Internals
from holdfast.backends.postgres.options import parse
from holdfast.backends.postgres.packer import Packer
from holdfast.backends.postgres.pool import Pool
from holdfast.backends.postgres.replicas import Replicas
from holdfast.backends.postgres.schema import Schema, Stored
from holdfast.backends.postgres.search import Engine, RowSearch
from holdfast.backends.postgres.steps import Compiler
from holdfast.backends.postgres.transactions import Operation, Transactions
from holdfast.backends.postgres.wire import Command, ConnectionLost, StatementFailed, Wire
from holdfast.backends.sql.planner import Planner, Statement
from holdfast.backends.sql.rows import aggregated, decoded, decoded_all
from holdfast.core.capabilities import YES, Capabilities, no
from holdfast.core.change import Change, Outcome
from holdfast.core.clock import Clock, SystemClock
from holdfast.core.collection import Collection
from holdfast.core.driver import Driver, FeedEntry, Health, Patience, Report, Task, not_set_up
from holdfast.core.errors import Invalid
from holdfast.core.filter import Record
from holdfast.core.fresh import fresh_is_asked
from holdfast.core.query import Aggregate, Query, Rows, full_order, position
from holdfast.core.scope import EVERY_TENANT, Tenant
from holdfast.core.search import Hits, Search

if TYPE_CHECKING:
    import psycopg
    from psycopg.pq.abc import PGresult

T = TypeVar("T")

READ_ATTEMPTS: Final = 3
"""How often a read is asked on another connection when one was lost."""

_OFFERED: Final = Capabilities(
    durable=YES,
    multi_process=YES,
    full_text=YES,
    vectors=YES,
    feed=YES,
    backup=YES,
    integrity=YES,
    shared_commits=YES,
)
_WITHOUT_VECTORS: Final = msgspec.structs.replace(
    _OFFERED,
    vectors=no("the database has no pgvector 0.8 or later, or had none when it was set up"),
)

_encode_body = msgspec.msgpack.Encoder().encode


class PostgresDriver(Driver):
    """A store in one schema of a PostgreSQL database.

    ``url`` is a libpq URL, ``options`` those of `options.Options`. ``durability`` "normal" does
    not wait for the disk at a commit and may lose the last ones when the server dies.
    """

    name = "postgres"
    capabilities = _OFFERED

    def __init__(
        self,
        url: str,
        clock: Clock | None = None,
        *,
        durability: Literal["full", "normal"] = "full",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if durability not in ("full", "normal"):
            raise Invalid("durability", expected='"full" or "normal"', got=repr(durability))
        self._target = parse(url, options)
        self._durability = durability
        self._clock = clock or SystemClock()
        self._pool = Pool(self._target)
        has_replica = bool(self._target.options.replica)
        self._replicas = Replicas(self._target, self._pool) if has_replica else None
        self._dialect = PostgresDialect(self._target.options.schema)
        self._planner = Planner(self._dialect)
        self._compiler = Compiler(self._planner, self._dialect)
        chosen = self._target.options
        # Where standbys answer reads, one that is there must not wait for another that is not.
        if chosen.breaker_failures and not has_replica:
            self.patience = Patience(chosen.breaker_failures, chosen.breaker_seconds)
        self._packer = Packer(self._pool, self._dialect, chosen.tail_rows)
        self._engine = Engine(self._planner, self._dialect, self._packer, chosen)
        settings = self._settings()
        asynchronous = ", set_config('synchronous_commit', 'off', true)"
        self._transactions = Transactions(
            self._pool,
            self._planner,
            self._compiler,
            self._clock,
            schema=self._dialect.schema,
            settings=settings + (asynchronous if durability == "normal" else ""),
        )
        self._bind_tenant = f"SELECT set_config('holdfast.tenant', {MARK}, true){settings}"
        self._show_all = f"SELECT set_config('holdfast.every_tenant', 'on', true){settings}"

    def setup(self, collections: Sequence[Collection], *, create: bool = True) -> None:
        schema = Schema(self._target.options.schema, collections, end_users=self._target.supabase)
        stored = self._asked(schema.read, fresh=True)
        if stored is None or not schema.is_current(stored):
            if not create:
                raise not_set_up()
            with self._noted():
                stored = self._transactions.repeated(lambda wire: self._upgrade(wire, schema))
        self._compiler.vectors = self._engine.vectors = stored.vectors
        self.capabilities = _OFFERED if stored.vectors else _WITHOUT_VECTORS
        for collection in collections:
            self._planner.declare(collection)

    def get(
        self, tenant: str, collection: str, key: tuple[Any, ...], *, vectors: bool = False
    ) -> Record | None:
        shape = self._planner.collections[collection]
        columns = self._planner.columns(collection)
        extra = read_vectors(self._dialect, shape)[0] if vectors else ""
        text = self._planner.get(collection, extra)
        rows = self._read(tenant, collection, (text, (tenant, *columns.encode_key(key))))
        if not rows:
            return None
        record = decoded(shape, columns.decode, rows[0])
        if extra:
            self._attach_vectors(shape, [record], rows)
        return record

    def apply(
        self,
        tenant: str,
        changes: Sequence[Change],
        *,
        op_id: str | None = None,
        op_body: bytes | None = None,
    ) -> list[Outcome]:
        body = b"" if op_id is None else op_body or _encode_body(changes)
        if self._replicas is None:
            return self._transactions.apply(Operation(tenant, changes, op_id, body))
        with self._noted():
            return self._transactions.apply(Operation(tenant, changes, op_id, body))

    def query(self, tenant: Tenant, query: Query) -> Rows:
        collection = self._planner.collections[query.collection]
        extra, added = read_vectors(self._dialect, collection) if query.vectors else ("", 0)
        text, values = self._planner.query(tenant, query, extra)
        rows = self._read(tenant, query.collection, (text, values))
        order = full_order(query.order, collection.key)
        columns = self._planner.columns(query.collection, query.fields, order)
        records = decoded_all(collection, columns, rows)
        if tenant is EVERY_TENANT:
            for record, row in zip(records, rows, strict=True):
                record["tenant"] = row[-1]
            rows = [row[:-1] for row in rows] if added else rows
        if added:
            self._attach_vectors(collection, records, rows)
        if query.limit is None or len(records) <= query.limit:
            return Rows(records)
        taken = records[: query.limit]
        return Rows(taken, position(taken[-1], order) if taken else None)

    def aggregate(self, tenant: Tenant, aggregate: Aggregate) -> list[Record]:
        statement = self._planner.aggregate(tenant, aggregate)
        readers = self._planner.aggregate_decoders(aggregate)
        try:
            rows = self._read(tenant, aggregate.collection, statement)
        except Invalid as error:
            summed = [m.name for m in aggregate.measures if m.kind == "sum"]
            raise Invalid(summed[0], expected="a finite number", got="inf") from error
        return aggregated(aggregate.collection, readers, rows)

    def search(self, tenant: str, search: Search) -> Hits:
        opening: list[Command] = [
            ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", ()),
            (self._bind_tenant, (tenant,)),
        ]

        def work(wire: Wire) -> Hits:
            inside = wire.is_in_transaction()
            closing: tuple[Command, ...] = () if inside else (("COMMIT", ()),)
            try:
                own = (tenant, search, opening[inside:], closing)
                return RowSearch(wire, self._engine, *own).run()
            except StatementFailed:
                if not inside:
                    wire.run([("ROLLBACK", ())])
                raise

        return self._asked(work)

    def feed(self, follower: str, *, after: int, limit: int) -> list[FeedEntry]:
        return self._asked(
            lambda wire: followers.feed(
                self._internals(), wire, follower=follower, after=after, limit=limit
            ),
            fresh=True,
        )

    def maintain(self, task: Task, **options: Any) -> Report:
        run = maintenance.TASKS[task]
        try:
            with self._noted():
                return run(self._internals(), **options)
        except ENGINE_ERRORS as error:
            raise mapped(error) from error

    def backup(self, target: str) -> Report:
        return backup.backup(self._internals(), target)

    def health(self) -> Health:
        told = maintenance.health(self._internals(), self.name, self._durability)
        if self._replicas is not None:
            told.facts["replica_reads"] = self._replicas.facts()
        return told

    def close(self) -> None:
        self._packer.close()
        self._pool.close()
        if self._replicas is not None:
            self._replicas.close()

    def native(self) -> psycopg.Connection:
        """A new psycopg connection to the database; the caller closes it."""
        return self._pool.connect().connection

    @contextmanager
    def group(self) -> Iterator[None]:
        with self._noted(), self._transactions.group():
            yield

    def grant(self, role: str, access: roles.Access) -> None:
        """Give another role what it needs, and no more: "application" or "read-only".

        The connection is the owner's. Forbidden for another one, NotFound for a role that is not
        there, Invalid for one that row-level security would not bind.
        """
        roles.grant(self._internals(), role, access)

    def restore(self, source: str, collections: Sequence[Collection]) -> Report:
        """Set this store up and fill it from the backup in the folder ``source``, or do nothing.

        The connection is that of the owner to be. Corrupt where a file is not as it was written,
        Conflict where there are records already, Unsupported for a backup of other editions.
        """
        backup.check(source)
        backup.require_empty(self._internals())
        self.setup(collections)
        return backup.restore(self._internals(), source)

    def diagnose(self, *, role: str | None = None) -> diagnosis.Diagnosis:
        """What is right and what is wrong with the store, which is set up.

        Of roles the connection's is looked at, or ``role`` if given.
        """
        return diagnosis.diagnose(self._internals(), role)

    # --- reading

    def _read(
        self, tenant: Tenant, collection: str, statement: Statement | Command
    ) -> list[tuple[Any, ...]]:
        """The rows of one statement, in one round trip with what binds it to its tenant."""
        if tenant is EVERY_TENANT:
            bind: Command = (self._show_all, ())
        else:
            assert isinstance(tenant, str)
            bind = (self._bind_tenant, (tenant,))
        return self._asked(lambda w: w.rows(_last(w.run([bind, statement])), of=collection))

    def _asked(self, work: Callable[[Wire], T], *, fresh: bool = False) -> T:
        """A read, asked again on another connection when one was lost.

        ``fresh`` keeps it from standbys, as do a group and whoever asks for fresh reads.
        """
        held = self._transactions.open_wire()
        if held is not None:
            return _guarded(held, work)
        if self._replicas is not None:
            here = fresh or self._transactions.is_grouped() or fresh_is_asked()
            found = None if here else self._replicas.asked(work)
            if found is not None:
                return found[0]
        for attempt in range(READ_ATTEMPTS):
            wire = self._pool.take()
            try:
                return work(wire)
            except ConnectionLost as error:
                if error.late or attempt == READ_ATTEMPTS - 1:
                    raise lost(error) from error
            except StatementFailed as error:
                raise mapped(error) from error
            finally:
                self._pool.give(wire)
        raise AssertionError("unreachable")

    def _attach_vectors(
        self, collection: Collection, records: list[Record], rows: list[tuple[Any, ...]]
    ) -> None:
        native = bool(self._compiler.vectors)
        for record, row in zip(records, rows, strict=True):
            attach_vectors(collection, record, row, native=native)

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """What is written in the block is looked for by the reads that follow."""
        failed = True
        try:
            yield
            failed = False
        finally:
            if self._replicas is not None:
                self._replicas.note_write(failed=failed)

    # --- parts

    def _settings(self) -> str:
        """Timeouts that the caller chose, set with the tenant in every transaction."""
        options = self._target.options
        chosen = {
            "statement_timeout": options.statement_timeout_seconds,
            "lock_timeout": options.lock_timeout_seconds,
        }
        return "".join(
            f", set_config('{name}', '{max(1, round(seconds * 1000))}ms', true)"
            for name, seconds in chosen.items()
            if seconds
        )

    def _internals(self) -> Internals:
        return Internals(
            self._pool,
            self._transactions,
            self._planner,
            self._dialect,
            self._clock,
            self._engine,
        )

    def _upgrade(self, wire: Wire, schema: Schema) -> Stored:
        stored, derive = schema.upgrade(wire, self._clock.now())
        for collection in derive:
            self._planner.declare(collection)
            derive_terms(self._planner, self._dialect, wire, collection)
        return stored


def _last(results: list[PGresult]) -> PGresult:
    return results[-1]


def _guarded(wire: Wire, work: Callable[[Wire], T]) -> T:
    """A read inside a group, whose writes outlive a read that fails."""
    wire.run([("SAVEPOINT holdfast_read", ())])
    try:
        return work(wire)
    except StatementFailed as error:
        wire.run([("ROLLBACK TO holdfast_read", ())])
        raise mapped(error) from error
    except ConnectionLost as error:
        raise lost(error) from error
