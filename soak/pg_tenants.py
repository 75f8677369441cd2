"""Attempts on other tenants' records in PostgreSQL: by their ids, through the contract and by SQL.

An attempt is one foreign id that is asked for, patched, deleted or counted, by whoever knows it;
lists of ids are tried at once where that is possible. One saboteur is an engine that forgets who
asks; in the other, row-level security is off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, Final

import psycopg
from psycopg import sql

from holdfast.backends.postgres import PostgresDriver
from holdfast.core.change import Change, Delete, DeleteWhere, Edit, Outcome, Patch, PatchWhere
from holdfast.core.driver import Driver
from holdfast.core.errors import NotFound
from holdfast.core.filter import Record, among
from holdfast.core.query import Aggregate, Query, Rows
from holdfast.core.runtime import Runtime
from holdfast.core.scope import Scope, Tenant
from holdfast.core.search import Hits, Search, TextLeg
from holdfast.core.text import analyze
from holdfast.layers.check import Checked
from holdfast.layers.layer import Layer
from holdfast.storage import Storage, all_collections
from holdfast.testing.postgres import SCHEMA, set_up
from holdfast.testing.servers.databases import APPLICATION, Database
from soak.campaign import Result, Saboteur, Tick, chances, ignore, timed

TENANTS: Final = 10
RECORDS: Final = 100
"""Records of each kind that a tenant has; a list holds as many ids."""
KINDS: Final = ("conversations", "memories", "tasks")
"""Collections that are attacked."""
ONE_BY_ONE: Final = 20
STRANGER: Final = "stranger"

Attack = Callable[[str, Sequence[str], str], tuple[int, int]]
"""Try a collection's foreign ids, knowing whose: how many attempts that was, how many succeeded."""


def run(attempts: int, *, seed: int = 1, tick: Tick = ignore) -> Result:
    """So many attempts; each saboteur gets a hundredth of that, at least 2,000."""
    result = Result(
        campaign="pg-tenants",
        trial="attempts on other tenants' records",
        trials=attempts,
        seed=seed,
    )
    few = max(2_000, attempts // 100)
    forgetful = Saboteur(name="an engine that forgets who asks", trials=few)
    unguarded = Saboteur(name="row-level security is off", trials=few)
    with timed(result), _store() as (database, ids):
        with closing(_driver(database)) as driver, _connection(database) as connection:
            by_contract = _Contract(driver)
            attacks = [*by_contract.attacks, *_RawSql(connection).attacks]
            _campaign(attacks, ids, attempts, seed, result.note, result.counts, tick)
            broken = _Contract(_Forgetful(driver)).attacks
            _campaign(broken, ids, few, seed, forgetful.note, forgetful.counts, ignore)
        for table in KINDS:
            database.keeper.execute(f"ALTER TABLE {SCHEMA}.{table} DISABLE ROW LEVEL SECURITY")
        with _connection(database) as connection:
            attacks = _RawSql(connection).attacks
            _campaign(attacks, ids, few, seed, unguarded.note, unguarded.counts, ignore)
    result.saboteurs.extend([forgetful, unguarded])
    return result


def _campaign(
    attacks: Sequence[Attack],
    ids: dict[tuple[str, str], list[str]],
    attempts: int,
    seed: int,
    note: Callable[[str], None],
    counts: dict[str, int],
    tick: Tick,
) -> None:
    chance, done = chances(seed, "attacks"), 0
    while done < attempts:
        (tenant, kind), foreign = chance.choice(list(ids.items()))
        attack = chance.choice(attacks)
        name = attack.__name__.strip("_")
        tried, succeeded = attack(kind, chance.sample(foreign, len(foreign)), tenant)
        counts[name] = counts.get(name, 0) + tried
        done += tried
        if succeeded:
            counts["succeeded"] = counts.get("succeeded", 0) + succeeded
            note(f"{name}: {succeeded} foreign records of {kind}")
        tick(min(done, attempts))


class _Contract:
    """What a stranger can ask of the engine."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.attacks: list[Attack] = [
            self._get,
            self._query,
            self._aggregate,
            self._search,
            self._patch_or_delete,
            self._patch_where,
            self._delete_where,
        ]

    def _get(self, kind: str, ids: Sequence[str], _: str) -> tuple[int, int]:
        few = ids[:ONE_BY_ONE]
        return len(few), sum(self._driver.get(STRANGER, kind, (id,)) is not None for id in few)

    def _query(self, kind: str, ids: Sequence[str], _: str) -> tuple[int, int]:
        query = Query(collection=kind, filter=among("id", ids))
        return len(ids), len(self._driver.query(STRANGER, query).records)

    def _aggregate(self, kind: str, ids: Sequence[str], _: str) -> tuple[int, int]:
        counted = Aggregate(collection=kind, filter=among("id", ids))
        return len(ids), sum(row["count"] for row in self._driver.aggregate(STRANGER, counted))

    def _search(self, kind: str, ids: Sequence[str], tenant: str) -> tuple[int, int]:
        if kind == "conversations":
            return self._query(kind, ids, tenant)
        terms = tuple(analyze(f"secret of {tenant}"))
        found = self._driver.search(
            STRANGER, Search(collection=kind, k=RECORDS, text=TextLeg(terms=terms))
        )
        return len(ids), len(found.text)

    def _patch_or_delete(self, kind: str, ids: Sequence[str], _: str) -> tuple[int, int]:
        succeeded = 0
        for change in (Patch(kind, (ids[0],), Edit()), Delete(kind, (ids[0],))):
            try:
                succeeded += self._driver.apply(STRANGER, [change])[0].count
            except NotFound:
                continue
        return 2, succeeded

    def _patch_where(self, kind: str, ids: Sequence[str], _: str) -> tuple[int, int]:
        change = PatchWhere(kind, among("id", ids), Edit())
        return len(ids), self._driver.apply(STRANGER, [change])[0].count

    def _delete_where(self, kind: str, ids: Sequence[str], _: str) -> tuple[int, int]:
        change = DeleteWhere(kind, among("id", ids))
        return len(ids), self._driver.apply(STRANGER, [change])[0].count


class _RawSql:
    """What a stranger's transaction can do past the engine, as the application's role."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self.attacks: list[Attack] = [
            self._raw_select,
            self._raw_update,
            self._raw_delete,
            self._raw_join,
        ]

    def _raw_select(self, kind: str, ids: Sequence[str], _: str) -> tuple[int, int]:
        return self._count("SELECT FROM {} WHERE {} = ANY(%s)", kind, ids)

    def _raw_update(self, kind: str, ids: Sequence[str], _: str) -> tuple[int, int]:
        return self._count("UPDATE {} SET revision = revision WHERE {} = ANY(%s)", kind, ids)

    def _raw_delete(self, kind: str, ids: Sequence[str], _: str) -> tuple[int, int]:
        return self._count("DELETE FROM {} WHERE {} = ANY(%s)", kind, ids)

    def _raw_join(self, kind: str, ids: Sequence[str], _: str) -> tuple[int, int]:
        text = "SELECT FROM {} AS held JOIN unnest(%s::text[]) AS known (id) ON known.id = held.{}"
        return self._count(text, kind, ids)

    def _count(self, text: str, kind: str, ids: Sequence[str]) -> tuple[int, int]:
        statement = sql.SQL(text).format(sql.Identifier(SCHEMA, kind), sql.Identifier("id"))
        with self._connection.transaction(force_rollback=True):
            self._connection.execute("SELECT set_config('holdfast.tenant', %s, true)", (STRANGER,))
            return len(ids), self._connection.execute(statement, (list(ids),)).rowcount


class _Forgetful(Layer):
    """Saboteur: whoever asks is taken for the tenant that was served last."""

    served = "tenant-0"

    def get(
        self, tenant: str, collection: str, key: tuple[Any, ...], *, vectors: bool = False
    ) -> Record | None:
        return super().get(self.served, collection, key, vectors=vectors)

    def query(self, tenant: Tenant, query: Query) -> Rows:
        return super().query(self.served, query)

    def aggregate(self, tenant: Tenant, aggregate: Aggregate) -> list[Record]:
        return super().aggregate(self.served, aggregate)

    def search(self, tenant: str, search: Search) -> Hits:
        return super().search(self.served, search)

    def apply(
        self,
        tenant: str,
        changes: Sequence[Change],
        *,
        op_id: str | None = None,
        op_body: bytes | None = None,
    ) -> list[Outcome]:
        kept = [c for c in changes if not isinstance(c, Delete | DeleteWhere)]
        done = super().apply(self.served, kept) if kept else []
        return done or [Outcome(0)]


@contextmanager
def _store() -> Iterator[tuple[Database, dict[tuple[str, str], list[str]]]]:
    """A store with records of every tenant but the stranger, and their ids."""
    database = Database()
    try:
        with closing(PostgresDriver(database.url())) as owner:
            set_up(owner, all_collections())
        ids: dict[tuple[str, str], list[str]] = {}
        with closing(_driver(database)) as driver:
            for tenant in map("tenant-{}".format, range(TENANTS)):
                _fill(Storage(driver, Scope(tenant=tenant), Runtime(embedder=None)), tenant, ids)
        yield database, ids
    finally:
        database.drop()


def _fill(storage: Storage, tenant: str, ids: dict[tuple[str, str], list[str]]) -> None:
    for n in range(RECORDS):
        text = f"secret {n} of {tenant}"
        talk, task = storage.conversations.create(title=text), storage.tasks.post(text)
        made = (talk.id, storage.memory.remember(text).id, task.id)
        for kind, id in zip(KINDS, made, strict=True):
            ids.setdefault((tenant, kind), []).append(id)


def _driver(database: Database) -> Driver:
    driver = Checked(PostgresDriver(database.url(APPLICATION)))
    driver.setup(all_collections(), create=False)
    return driver


@contextmanager
def _connection(database: Database) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database.url(APPLICATION), autocommit=True) as connection:
        yield connection
