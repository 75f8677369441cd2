"""The PostgreSQL engine's harness: tables are made by their owner, and used by a role that is not.

A worker keeps one store that is set up, and empties it between two tests. What must begin on a
store that was never set up asks for a ``new`` one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache
from typing import Any, Final

import msgspec
from psycopg import sql
from psycopg.rows import dict_row

from holdfast.backends.postgres import PostgresDriver, backup, roles
from holdfast.core.clock import Clock, SystemClock
from holdfast.core.collection import Collection
from holdfast.core.driver import Driver, Report, Task
from holdfast.core.errors import Forbidden, Unavailable
from holdfast.core.filter import Record
from holdfast.layers.layer import Layer
from holdfast.storage import all_collections
from holdfast.testing.harness import Harness
from holdfast.testing.servers.databases import APPLICATION, OWNER, Database
from holdfast.testing.shapes import SHAPES

SCHEMA: Final = "holdfast"
KEPT: Final = ("holdfast_store", "holdfast_collections", "holdfast_migrations")
"""What says that a store was set up."""
EVERY_SHAPE: Final = (*SHAPES, *all_collections())
OWNERS_TASKS: Final = ("analyze", "vacuum", "reindex")


Making = Callable[[tuple[tuple[str, str], ...]], Database]
"""A kind of database, made with settings for every session."""


class UsedByAnother(Layer):
    """As an application is deployed: the owner makes and tends the tables, this role uses them."""

    def __init__(self, below: Driver, owner: Callable[[], PostgresDriver]) -> None:
        super().__init__(below)
        self._open_owner = owner
        self._collections: list[Collection] = []

    def setup(self, collections: Sequence[Collection], *, create: bool = True) -> None:
        try:
            self.below.setup(collections, create=False)
        except (Unavailable, Forbidden):  # also where nothing was granted yet
            if not create:
                raise
            with closing(self._open_owner()) as owner:
                set_up(owner, collections)
            self.below.setup(collections, create=False)
        self.capabilities = self.below.capabilities
        self._collections.extend(collections)

    def maintain(self, task: Task, **options: Any) -> Report:
        if task not in OWNERS_TASKS:
            return self.below.maintain(task, **options)
        with self._owner() as owner:
            return owner.maintain(task, **options)

    def backup(self, target: str) -> Report:
        with self._owner() as owner:
            return owner.backup(target)

    @contextmanager
    def _owner(self) -> Iterator[Driver]:
        """A handle of the owner, who knows what this one was set up for."""
        with closing(self._open_owner()) as owner:
            owner.setup(self._collections, create=False)
            yield owner


def set_up(owner: PostgresDriver, collections: Sequence[Collection]) -> None:
    """Make the tables and let the application's role use them, and no more."""
    owner.setup(collections)
    roles.grant(owner._internals(), APPLICATION, "application")


class PostgresHarness(Harness):
    """A store on the run's server; ``engine`` may be a saboteur, ``through`` goes by a pooler.

    ``kind`` is how its databases are made, ``settings`` hold for every session of theirs.
    """

    name = "postgres"

    def __init__(
        self,
        *,
        new: bool = True,
        engine: type[PostgresDriver] = PostgresDriver,
        through: Callable[[Database, str], str] = Database.url,
        settings: tuple[tuple[str, str], ...] = (),
        kind: Making = Database,
    ) -> None:
        self._new = new
        self._kind = kind
        self._engine = engine
        self._through = through
        self._settings = settings
        self._database = kind(settings) if new else prepared(kind, settings)[0]
        self._restored: list[Database] = []

    def open(self, clock: Clock) -> Driver:
        return self._opened(self._database, clock)

    def _opened(self, database: Database, clock: Clock) -> Driver:
        driver = self._engine(self._through(database, APPLICATION), clock)
        return UsedByAnother(driver, lambda: self._engine(self._through(database, OWNER), clock))

    def plant(self, collection: Collection, tenant: str, record: Record) -> None:
        values = {f.name: _planted(f.kind, record[f.name]) for f in collection.fields}
        row = {"tenant": tenant, "revision": record.get("revision", 1), **values}
        table = sql.Identifier(SCHEMA, collection.name)
        same = sql.SQL(" AND ").join(
            sql.SQL("{} = {}").format(sql.Identifier(name), row[name])
            for name in ("tenant", *collection.key)
        )
        with self._database.keeper.transaction():
            self._database.keeper.execute(sql.SQL("DELETE FROM {} WHERE {}").format(table, same))
            self._database.keeper.execute(
                sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
                    table,
                    sql.SQL(", ").join(map(sql.Identifier, row)),
                    sql.SQL(", ").join(map(_literal, row.values())),
                )
            )

    def peek(self, collection: Collection, tenant: str) -> list[dict[str, Any]]:
        text = sql.SQL("SELECT * FROM {} WHERE tenant = %s ORDER BY {}").format(
            sql.Identifier(SCHEMA, collection.name),
            sql.SQL(", ").join(map(sql.Identifier, collection.key)),
        )
        with self._database.keeper.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(text, (tenant,)).fetchall()

    def url(self) -> str:
        return self._through(self._database, OWNER)

    def restore(self, target: str, clock: Clock) -> Driver:
        database = self._kind(self._settings)
        self._restored.append(database)
        with closing(PostgresDriver(database.url(), clock)) as owner:
            set_up(owner, EVERY_SHAPE)
            backup.restore(owner._internals(), target)
        return self._opened(database, clock)

    def close(self) -> None:
        for database in self._restored:
            database.drop()
        if self._new:
            self._database.drop()
            return
        database, shape = prepared(self._kind, self._settings)
        database.empty(keep=KEPT)
        if database.shape() != shape:  # the test changed more than rows
            prepared.cache_clear()
            database.drop()


@cache
def prepared(
    kind: Making, settings: tuple[tuple[str, str], ...]
) -> tuple[Database, tuple[int, ...]]:
    """This process's store with every collection in it, and what it looks like."""
    database = kind(settings)
    with closing(PostgresDriver(database.url(), SystemClock())) as owner:
        set_up(owner, EVERY_SHAPE)
    return database, database.shape()


def _literal(value: Any) -> sql.Composable:
    return value if isinstance(value, sql.Composable) else sql.Literal(value)


def _planted(kind: str, value: Any) -> Any:
    if kind == "json" and value is not None:
        return msgspec.json.encode(value).decode()
    if kind == "time" and isinstance(value, int):  # a number of microseconds, whatever the year
        days, rest = divmod(value, 86_400_000_000)
        return sql.SQL("timestamptz 'epoch' + make_interval(days => {}, secs => {})").format(
            days, rest / 1_000_000
        )
    return value
