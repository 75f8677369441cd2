"""Attacks by raw SQL as the application's role: it sees, changes and learns of its tenant only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql

from holdfast.core.clock import CountingIds, ManualClock
from holdfast.core.runtime import Runtime
from holdfast.core.scope import Scope
from holdfast.layers.check import Checked
from holdfast.storage import Storage, all_collections
from holdfast.testing.postgres import SCHEMA, PostgresHarness
from holdfast.testing.row_security import breaches
from holdfast.testing.scope_calls import seed
from holdfast.testing.servers.databases import APPLICATION, TABLES, Database
from holdfast.testing.stage import EMBEDDER, START

Connection = psycopg.Connection[Any]
MINE, THEIRS = "mine", "theirs"
OUT_OF_REACH = psycopg.errors.InsufficientPrivilege


class Store:
    """A store with records of every kind of two tenants, and ways in past the engine."""

    def __init__(self) -> None:
        self.harness = PostgresHarness()
        self.database: Database = self.harness._database
        driver = Checked(self.harness.open(ManualClock(START)))
        driver.setup(all_collections())
        for tenant in (MINE, THEIRS):
            clock, ids = ManualClock(START), CountingIds(tenant)
            seed(
                Storage(
                    driver,
                    Scope(tenant=tenant, agent="agent"),
                    Runtime(clock, ids, embedder=EMBEDDER),
                )
            )
        driver.close()
        self.tables = [
            row[1]
            for row in self.database.keeper.execute(TABLES)
            if self._columns(row[1]) & {"tenant"}
        ]
        self.database.keeper.execute("ANALYZE")

    def _columns(self, table: str) -> set[str]:
        text = "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
        found = self.database.keeper.execute(text, (f"{SCHEMA}.{table}",))
        return {row[0] for row in found}

    def held(self, table: str) -> dict[str, list[Any]]:
        """Every row of a table as text, by tenant, seen past row-level security."""
        text = sql.SQL("SELECT tenant, t::text FROM {} t ORDER BY 2").format(named(table))
        rows: dict[str, list[Any]] = {MINE: [], THEIRS: []}
        for tenant, row in self.database.keeper.execute(text):
            rows.setdefault(tenant, []).append(row)
        return rows

    @contextmanager
    def inside(self, tenant: str | None = MINE) -> Iterator[Connection]:
        """A transaction of the application's role, bound to a tenant and undone at the end."""
        with psycopg.connect(self.database.url(APPLICATION)) as connection:
            if tenant is not None:
                connection.execute("SELECT set_config('holdfast.tenant', %s, true)", (tenant,))
            yield connection
            connection.rollback()


def named(table: str) -> sql.Identifier:
    return sql.Identifier(SCHEMA, table)


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    made = Store()
    yield made
    made.harness.close()


def rows(connection: Connection, text: str, table: str) -> list[Any]:
    return connection.execute(sql.SQL(text).format(named(table))).fetchall()


def test_there_is_something_to_steal(store: Store) -> None:
    full = {table for table in store.tables if store.held(table)[THEIRS]}
    assert len(full) >= 20
    assert {"memories", "messages", "tasks", "audit_entries", "entries"} <= full
    assert {"memories__terms", "memories__embedding"} <= full
    assert all(len(store.held(t)[MINE]) == len(store.held(t)[THEIRS]) for t in full)


def test_b8_select_sees_its_tenant_only(store: Store) -> None:
    with store.inside() as connection:
        for table in store.tables:
            seen = rows(connection, "SELECT t::text FROM {} t ORDER BY 1", table)
            assert [row[0] for row in seen] == store.held(table)[MINE], table
            foreign = "SELECT * FROM {} WHERE tenant = 'theirs' OR tenant <> 'mine' OR true"
            found = {row[0] for row in rows(connection, f"SELECT tenant FROM ({foreign}) f", table)}
            assert found <= {MINE}, table


def test_b8_copy_sees_its_tenant_only(store: Store) -> None:
    with store.inside() as connection, connection.cursor() as cursor:
        for table in store.tables:
            with cursor.copy(sql.SQL("COPY {} TO STDOUT").format(named(table))) as copy:
                assert len(list(copy.rows())) == len(store.held(table)[MINE]), table


def test_b8_update_and_delete_touch_its_tenant_only(store: Store) -> None:
    for table in store.tables:
        before = store.held(table)
        with store.inside() as connection:
            connection.execute("SET CONSTRAINTS ALL DEFERRED")
            changed = connection.execute(
                sql.SQL("UPDATE {} SET tenant = tenant").format(named(table))
            )
            assert changed.rowcount == len(before[MINE]), table
            named_outright = sql.SQL("UPDATE {} SET tenant = tenant WHERE tenant = 'theirs'")
            assert connection.execute(named_outright.format(named(table))).rowcount == 0
            gone = connection.execute(sql.SQL("DELETE FROM {} WHERE tenant = 'theirs'").format(
                named(table)
            ))  # fmt: skip
            assert gone.rowcount == 0
        assert store.held(table) == before


COPY_OF_A_ROW = """
INSERT INTO {} SELECT (f.r).* FROM
    (SELECT json_populate_record(t, '{{"tenant": "theirs"}}') AS r FROM {} t LIMIT 1) f
"""


@pytest.mark.parametrize("statement", [COPY_OF_A_ROW, "UPDATE {} SET tenant = 'theirs'"])
def test_b8_no_row_can_be_written_for_another_tenant(store: Store, statement: str) -> None:
    for table in store.tables:
        if not store.held(table)[MINE]:
            continue
        with store.inside() as connection, pytest.raises(psycopg.Error) as refused:
            connection.execute(sql.SQL(statement).format(*[named(table)] * statement.count("{}")))
        # The journal's numbers are given by the server, which says so before it looks at the row.
        assert refused.value.sqlstate in ("42501", "428C9"), (table, str(refused.value))


@pytest.mark.parametrize("tenant", [None, "", "nobody"])
def test_b8_without_a_tenant_there_is_nothing(store: Store, tenant: str | None) -> None:
    with store.inside(tenant) as connection:
        for table in store.tables:
            assert rows(connection, "SELECT * FROM {}", table) == [], table
            assert connection.execute(sql.SQL("DELETE FROM {}").format(named(table))).rowcount == 0
        with pytest.raises(OUT_OF_REACH):
            connection.execute("INSERT INTO holdfast.holdfast_sequences VALUES ('', '', '', '', 1)")


def test_b8_a_tenant_ends_with_its_transaction(store: Store) -> None:
    """The setting is then an empty text and no longer missing, which must be nobody too."""
    with psycopg.connect(store.database.url(APPLICATION), autocommit=True) as connection:
        for outcome in ("COMMIT", "ROLLBACK"):
            connection.execute("BEGIN")
            connection.execute("SELECT set_config('holdfast.tenant', 'mine', true)")
            assert rows(connection, "SELECT 1 FROM {}", "entries")
            connection.execute("SAVEPOINT s")
            with pytest.raises(psycopg.errors.DivisionByZero):
                connection.execute("SELECT 1 / 0")
            connection.execute("ROLLBACK TO s")
            connection.execute(outcome)
            left = connection.execute("SELECT current_setting('holdfast.tenant', true)").fetchone()
            assert left == ("",)
            assert rows(connection, "SELECT 1 FROM {}", "entries") == []


def test_a_plan_made_for_one_tenant_serves_the_next_its_own_rows(store: Store) -> None:
    with psycopg.connect(store.database.url(APPLICATION)) as connection:
        connection.execute("PREPARE every AS SELECT tenant FROM holdfast.entries")
        for tenant in (MINE, THEIRS) * 8:
            connection.execute("SELECT set_config('holdfast.tenant', %s, true)", (tenant,))
            assert {row[0] for row in connection.execute("EXECUTE every")} == {tenant}
            connection.commit()


def test_keys_and_references_of_others_cannot_be_felt_out(store: Store) -> None:
    [(their_key,)] = store.database.keeper.execute(
        "SELECT key FROM holdfast.entries WHERE tenant = 'theirs' LIMIT 1"
    )
    refusals = set()
    with store.inside() as connection:
        copied = sql.SQL(
            "INSERT INTO holdfast.messages SELECT (f.r).* FROM (SELECT json_populate_record(m,"
            " json_build_object('id', 'new', 'external_id', NULL, 'conversation_id', {}::text))"
            " AS r FROM holdfast.messages m LIMIT 1) f"
        )
        [(their_talk,)] = store.database.keeper.execute(
            "SELECT id FROM holdfast.conversations WHERE tenant = 'theirs' LIMIT 1"
        )
        for talk in (their_talk, "nobodys"):
            refused_here = pytest.raises(psycopg.errors.ForeignKeyViolation)
            with refused_here as refused, connection.transaction():
                connection.execute(copied.format(talk))
            refusals.add(str(refused.value).replace(talk, "?"))
        assert len(refusals) == 1
        taken = "UPDATE holdfast.entries SET key = %s"  # one entry, and the key of another's
        assert connection.execute(taken, (their_key,)).rowcount == 1


def test_a_function_that_tells_all_it_is_given_is_given_nothing_foreign(store: Store) -> None:
    with store.inside() as connection:
        heard: list[str] = []
        connection.add_notice_handler(lambda notice: heard.append(notice.message_primary or ""))
        connection.execute(
            "CREATE FUNCTION pg_temp.tells(text) RETURNS bool LANGUAGE plpgsql COST 0.0000001 AS"
            " $$ BEGIN RAISE NOTICE '%', $1; RETURN true; END $$"
        )
        connection.execute("SELECT 1 FROM holdfast.entries WHERE pg_temp.tells(tenant)")
        assert set(heard) == {MINE}


@pytest.mark.parametrize("statement", [
    "TRUNCATE holdfast.entries",
    "ALTER TABLE holdfast.entries DISABLE ROW LEVEL SECURITY",
    "ALTER TABLE holdfast.entries NO FORCE ROW LEVEL SECURITY",
    "DROP POLICY holdfast_tenant ON holdfast.entries",
    "CREATE POLICY mine ON holdfast.entries USING (true)",
    "ALTER TABLE holdfast.entries OWNER TO CURRENT_USER",
    "CREATE TRIGGER t AFTER INSERT ON holdfast.entries EXECUTE FUNCTION pg_catalog.lo_manage()",
    "CREATE TABLE holdfast.mine (id int)",
    "CREATE FUNCTION holdfast.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "ALTER FUNCTION holdfast.holdfast_count_up() COST 1",
    "DROP TABLE holdfast.entries",
    "SET ROLE holdfast_test_owner",
    "SET SESSION AUTHORIZATION postgres",
    "SET session_replication_role = replica",
    "CREATE TABLE public.mine (id int)",
])  # fmt: skip
def test_what_would_lift_the_guard_is_refused(store: Store, statement: str) -> None:
    with store.inside() as connection, pytest.raises(OUT_OF_REACH):
        connection.execute(statement)


def test_row_security_cannot_be_switched_off(store: Store) -> None:
    with store.inside() as connection:
        connection.execute("SET row_security = off")
        with pytest.raises(OUT_OF_REACH):
            connection.execute("SELECT * FROM holdfast.entries")


def test_statistics_tell_nothing(store: Store) -> None:
    with store.inside() as connection:
        found = connection.execute("SELECT * FROM pg_stats WHERE schemaname = 'holdfast'")
        guarded = [row for row in found.fetchall() if row[1] in store.tables]
    assert guarded == []


def test_b8_the_catalogue_says_that_every_table_is_guarded(store: Store) -> None:
    assert breaches(store.database.keeper, schema=SCHEMA, application=APPLICATION) == []


@pytest.mark.parametrize(("sabotage", "found"), [
    ("ALTER TABLE holdfast.entries DISABLE ROW LEVEL SECURITY",
     "entries: row-level security is not on"),
    ("ALTER TABLE holdfast.entries NO FORCE ROW LEVEL SECURITY",
     "entries: row-level security is not forced"),
    ("DROP POLICY holdfast_tenant ON holdfast.entries",
     "entries: no policy keeps its tenants apart"),
    ("CREATE POLICY more ON holdfast.entries USING (true)",
     "entries: the policy more is not one of ours"),
    ("CREATE TABLE holdfast.bare (tenant text)", "bare: row-level security is not on"),
    ("CREATE TABLE holdfast.shared (id int)", "shared: has no tenant"),
    ("CREATE INDEX by_key ON holdfast.entries (key)", "entries: the index by_key leads with key"),
    ("GRANT TRUNCATE ON holdfast.entries TO holdfast_test_app",
     "entries: holdfast_test_app may TRUNCATE, REFERENCE or TRIGGER"),
    ("GRANT CREATE ON SCHEMA holdfast TO holdfast_test_app",
     "holdfast_test_app has CREATE in schema"),
    ("ALTER TABLE holdfast.entries OWNER TO holdfast_test_app",
     "holdfast_test_app owns the table entries"),
    ("CREATE VIEW holdfast.seen AS SELECT * FROM holdfast.entries",
     "the view seen reads with its owner's rights"),
    ("CREATE FUNCTION holdfast.all_of_it() RETURNS int SECURITY DEFINER LANGUAGE sql AS 'SELECT 1'",
     "the function all_of_it reads with its owner's rights"),
])  # fmt: skip
def test_the_catalogue_check_notices(store: Store, sabotage: str, found: str) -> None:
    with psycopg.connect(store.database.keeper.info.dsn) as connection:
        connection.execute(sabotage)
        noticed = breaches(connection, schema=SCHEMA, application=APPLICATION)
        connection.rollback()
    assert found in noticed
