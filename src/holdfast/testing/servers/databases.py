"""Databases on the run's server, their roles, and how one is emptied between two tests."""

from __future__ import annotations

import atexit
import itertools
import os
from collections.abc import Iterable
from functools import cache
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from holdfast.testing.servers.pooler import Mode, Pooler
from holdfast.testing.servers.run import folder, locked
from holdfast.testing.servers.shared import shared_url

OWNER: Final = "holdfast_test_owner"
"""Owns the databases and what is in them, as whoever runs migrations does."""
APPLICATION: Final = "holdfast_test_app"
"""Owns nothing and cannot bypass row-level security, as the application's role should be."""
PASSWORD: Final = "holdfast-test"
BLANK: Final = "holdfast_test_blank"
"""The template: pgvector, where the server has it, and nothing else."""
EXTENSION: Final = "vector"
POOLED: Final[dict[Mode, int]] = {"transaction": 4, "session": 16}
"""Server connections that a pooler gives all clients of a role and database."""

_numbers = itertools.count(1)

SHAPE: Final = """
SELECT (SELECT count(*) FROM pg_catalog.pg_class),
       (SELECT count(*) FROM pg_catalog.pg_attribute),
       (SELECT count(*) FROM pg_catalog.pg_trigger),
       (SELECT count(*) FROM pg_catalog.pg_policy),
       (SELECT count(*) FROM pg_catalog.pg_constraint)
"""
TABLES: Final = """
SELECT n.nspname, c.relname FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
ORDER BY 1, 2
"""


class Database:
    """A database of its own, owned by OWNER; a superuser's connection looks after it."""

    def __init__(self, settings: Iterable[tuple[str, str]] = ()) -> None:
        _prepare_server()
        self.name = f"holdfast_test_{os.getpid()}_{next(_numbers)}"
        statement = "CREATE DATABASE {} OWNER {} TEMPLATE {}"
        _administer(statement, self.name, OWNER, BLANK)
        for name, value in settings:
            text = sql.SQL("ALTER DATABASE {} SET {} = {}")
            named = (sql.Identifier(self.name), sql.Identifier(name), sql.Literal(value))
            administrator().execute(text.format(*named))
        self._keeper: psycopg.Connection[Any] | None = None
        self._filled: sql.Composed | None = None

    def url(self, role: str = OWNER) -> str:
        """Where a role connects."""
        parts = urlsplit(shared_url(self.name))
        address = f"{role}:{PASSWORD}@{parts.netloc.rpartition('@')[2]}"
        return urlunsplit(parts._replace(netloc=address))

    def pooled_url(self, role: str = OWNER) -> str:
        """Where a role connects through the run's pooler, which cannot keep prepared statements."""
        return (
            f"postgresql://{role}@127.0.0.1:{_pooler_port('transaction')}/{self.name}?prepare=off"
        )

    def session_url(self, role: str = OWNER) -> str:
        """Where a role connects through the run's other pooler, which gives whole sessions."""
        return f"postgresql://{role}@127.0.0.1:{_pooler_port('session')}/{self.name}"

    @property
    def keeper(self) -> psycopg.Connection[Any]:
        """A superuser's connection, past row-level security, triggers and foreign keys."""
        if self._keeper is None:
            options = "-c session_replication_role=replica"
            self._keeper = psycopg.connect(
                shared_url(self.name), autocommit=True, options=options, prepare_threshold=1
            )
            atexit.register(self._keeper.close)
        return self._keeper

    def shape(self) -> tuple[int, ...]:
        """Changes whenever a table, column, trigger, policy or constraint comes or goes."""
        found: tuple[int, ...] | None = self.keeper.execute(SHAPE).fetchone()
        assert found is not None
        return found

    def empty(self, *, keep: Iterable[str]) -> None:
        """Delete every row, except from the named tables."""
        if self._filled is None:
            tables = [row for row in self.keeper.execute(TABLES) if row[1] not in set(keep)]
            one = sql.SQL("SELECT {}, {} WHERE EXISTS (SELECT FROM {})")
            self._filled = sql.SQL(" UNION ALL ").join(
                one.format(schema, name, sql.Identifier(schema, name)) for schema, name in tables
            )
        for table in self.keeper.execute(self._filled).fetchall():
            self.keeper.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(*table)))

    def drop(self) -> None:
        """Remove it, whoever is still connected."""
        if self._keeper is not None:
            self._keeper.close()
        _administer("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name)


@cache
def administrator() -> psycopg.Connection[Any]:
    """A superuser's connection to the one database that all processes of the run share."""
    connection = psycopg.connect(shared_url(), autocommit=True)
    atexit.register(connection.close)
    return connection


def _administer(statement: str, *names: str) -> None:
    text = sql.SQL(statement).format(*map(sql.Identifier, names))
    administrator().execute(text)


@cache
def _pooler_port(mode: Mode) -> int:
    """The first process of the run that asks starts the pooler; the janitor stops it."""
    url, note = shared_url(), folder() / f"pooler-{mode}"
    with locked(folder()):
        if not note.exists():
            roles = dict.fromkeys((OWNER, APPLICATION), PASSWORD)
            pooler = Pooler(url, size=POOLED[mode], users=roles, mode=mode)
            pooler.abandon()
            note.write_text(str(pooler.port))
        return int(note.read_text())


@cache
def _prepare_server() -> None:
    """Make the roles and the template, once for all workers of the run."""
    administrator()  # before the lock, which starting the server also takes
    with locked(folder()):
        for role in (OWNER, APPLICATION):
            if not _exists("pg_roles WHERE rolname", role):
                _administer("CREATE ROLE {} LOGIN NOBYPASSRLS PASSWORD " + f"'{PASSWORD}'", role)
        if not _exists("pg_database WHERE datname", BLANK):
            _administer("CREATE DATABASE {} TEMPLATE template0 ENCODING UTF8", BLANK)
            with psycopg.connect(shared_url(BLANK), autocommit=True) as connection:
                asked = "SELECT 1 FROM pg_available_extensions WHERE name = %s"
                if connection.execute(asked, (EXTENSION,)).fetchone():
                    connection.execute(f"CREATE EXTENSION IF NOT EXISTS {EXTENSION}")


def _exists(where: str, name: str) -> bool:
    found = administrator().execute(f"SELECT 1 FROM pg_catalog.{where} = %s", (name,))
    return found.fetchone() is not None
