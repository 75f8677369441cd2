"""Setting a server up for a store: database, schema, extension, tables, roles, and their check.

Every step looks first, so a repeat does nothing. A rehearsal says each statement and does none.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, Final

import msgspec
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from holdfast.backends.postgres import roles
from holdfast.backends.postgres.dialect import literal
from holdfast.backends.postgres.driver import PostgresDriver
from holdfast.backends.postgres.errors import ENGINE_ERRORS, mapped
from holdfast.backends.postgres.options import Target, parse
from holdfast.backends.postgres.schema import PGVECTOR, Schema
from holdfast.backends.postgres.wire import Command, StatementFailed, Wire
from holdfast.backends.sql.dialect import quoted
from holdfast.core.clock import Clock
from holdfast.core.errors import Forbidden, Invalid

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

    from holdfast.core.collection import Collection

MAINTENANCE: Final = ("postgres", "template1")
"""Databases that a server has before any other, from which one is made."""


class RoleWanted(msgspec.Struct, frozen=True):
    """A role that is to use the store. If new and without a password, it has none."""

    name: str
    access: roles.Access
    password: str | None = None

    def __repr__(self) -> str:
        return f"<RoleWanted {self.name} {self.access}>"


class Provisioned(msgspec.Struct, frozen=True):
    """What was done or, in a rehearsal, would be; ``problems`` are what still is not right."""

    done: list[str]
    statements: list[str]
    problems: list[str]
    advice: list[str]


class Provision:
    """One set-up of the store at ``url``, by a role that will own it."""

    def __init__(
        self,
        url: str,
        clock: Clock,
        collections: Sequence[Collection],
        wanted: Sequence[RoleWanted],
        *,
        vectors: bool = True,
    ) -> None:
        self._vectors = vectors
        self._url = url
        self._target = parse(url)
        self._clock = clock
        self._collections = collections
        self._wanted = wanted
        self._done: list[str] = []
        self._said: list[str] = []
        self._advice: list[str] = []
        names = [role.name for role in wanted]
        if len(set(names)) < len(names):
            raise Invalid("read_role", expected="another role than app_role", got="the same")
        for role in wanted:
            if not role.name or len(role.name.encode()) > 63 or "\0" in role.name:
                field = "read_role" if role.access == "read-only" else "app_role"
                raise Invalid(field, expected="a name of 1 to 63 bytes", got=repr(role.name))

    def run(self) -> Provisioned:
        """Make what is missing, then check all of it."""
        try:
            found = self._make_database()
            self._make_tables(found)
            problems, advice = self._make_roles()
        except ENGINE_ERRORS as error:
            raise mapped(error) from error
        return Provisioned(self._done, self._said, problems, advice)

    def rehearse(self) -> Provisioned:
        """The statements that `run` would send, in order; nothing is changed."""
        try:
            return self._rehearsed()
        except ENGINE_ERRORS as error:
            raise mapped(error) from error

    # --- the database

    def _make_database(self) -> bool:
        """Whether the database was there; if not, it is by now."""
        if _answers(self._target):
            return True
        with closing(self._maintaining()) as connection:
            text = _create_database(self._target, connection)
            with suppress(psycopg.errors.DuplicateDatabase):  # made by another at this moment
                connection.execute(text.encode())
        self._note(f"made the database {_database(self._target)}", text)
        return False

    def _maintaining(self) -> psycopg.Connection[Any]:
        """A connection to the server beside the database, which is certainly missing."""
        name = _database(self._target)
        refused: psycopg.Error | None = None
        for other in MAINTENANCE:
            try:
                connection = psycopg.connect(
                    make_conninfo(self._target.conninfo, dbname=other), autocommit=True
                )
            except psycopg.Error as error:
                refused = error
                continue
            asked = "SELECT 1 FROM pg_database WHERE datname = %s"
            if connection.execute(asked, (name,)).fetchone() is None:
                return connection
            connection.close()
            break
        # It is there and refuses us, or there is no server: say what the database itself says.
        try:
            psycopg.connect(self._target.conninfo).close()
        except psycopg.Error as error:
            raise mapped(error) from error
        raise mapped(refused) if refused else Invalid("url", expected="a database", got="none")

    # --- what is in it

    def _make_tables(self, was_there: bool) -> None:
        schema = self._declared()
        with closing(_wire(self._target)) as wire:
            stored = schema.read(wire) if was_there else None
            if schema.is_current(stored):
                return
            if stored is None and self._vectors:
                self._make_extension(wire)
        with closing(PostgresDriver(self._url, self._clock)) as driver:
            driver.setup(self._collections)
        self._note(f"set up {len(self._collections)} collections in {self._target.options.schema}")

    def _declared(self) -> Schema:
        supabase = self._target.supabase
        return Schema(self._target.options.schema, self._collections, end_users=supabase)

    def _make_extension(self, wire: Wire) -> None:
        """pgvector, where the server has it: a store that begins without it stays without it."""
        text = "SELECT installed_version IS NULL FROM pg_available_extensions WHERE name = 'vector'"
        if wire.rows(wire.run([(text, ())])[0]) != [(True,)]:
            return
        text = "CREATE EXTENSION IF NOT EXISTS vector"
        try:
            wire.connection.execute(text.encode())
        except psycopg.errors.InsufficientPrivilege as error:
            raise Forbidden(
                "This role may not install pgvector, and a store that begins without it keeps none"
                " of its vectors.",
                hint="Let a superuser do it in this database: CREATE EXTENSION vector. Or set up"
                " without vectors: --no-vectors.",
            ) from error
        self._note("installed pgvector", text)

    # --- who uses it

    def _make_roles(self) -> tuple[list[str], list[str]]:
        problems: list[str] = []
        schema = self._target.options.schema
        with closing(PostgresDriver(self._url, self._clock)) as driver:
            driver.setup(self._collections, create=False)
            for role in self._wanted:
                with closing(_wire(self._target)) as wire:
                    held = roles.read(wire, schema, role.name)
                    if held is None:
                        self._create_role(wire, role)
                        held = roles.read(wire, schema, role.name)
                    if held and not roles.unbound(held) and roles.faults(held, role.access):
                        driver.grant(role.name, role.access)
                        self._note(f"granted {role.access} rights to {role.name}")
                        held = roles.read(wire, schema, role.name)
                faults = roles.faults(held, role.access) if held else ["was not made"]
                problems += [f"The role {role.name} {each}." for each in faults]
            found = driver.diagnose()
        # The owner is whom these are about, and it is right here that it owns everything.
        problems += [each for each in found.problems if not each.startswith("The role ")]
        return problems, [*self._advice, *found.advice]

    def _create_role(self, wire: Wire, role: RoleWanted) -> None:
        text = _create_role(role.name)
        if role.password is None:
            wire.connection.execute(text.encode())
            self._advice.append(
                f"The role {role.name} has no password yet: ALTER ROLE ... PASSWORD."
            )
        else:
            # Hashed here, so that neither the server's log nor its statistics ever hold it.
            link = wire.connection.pgconn
            hashed = link.encrypt_password(role.password.encode(), role.name.encode())
            wire.connection.execute(f"{text} PASSWORD {literal(hashed.decode())}".encode())
        self._note(f"made the role {role.name}", text)

    def _note(self, done: str, statement: str = "") -> None:
        self._done.append(done)
        if statement:
            self._said.append(f"{statement};")

    # --- rehearsal

    def _rehearsed(self) -> Provisioned:
        options, said = self._target.options, self._said
        there = _answers(self._target)
        schema = self._declared()
        if there:
            with closing(_wire(self._target, Rehearsal)) as wire:
                if not schema.is_current(schema.read(wire)):
                    wire.script("BEGIN; SET LOCAL lock_timeout = '5s'")
                    wire.said.clear()
                    schema.upgrade(wire, self._clock.now())
                    said += ["BEGIN;", *wire.said, "COMMIT;"]
                    wire.connection.pgconn.exec_(b"ROLLBACK")
                held = {
                    role.name: roles.read(wire, options.schema, role.name) for role in self._wanted
                }
        else:
            with closing(self._maintaining()) as connection:
                said.append(f"{_create_database(self._target, connection)};")
            blank = BlankRehearsal()
            schema.upgrade(blank, self._clock.now())
            said += ["BEGIN;", *blank.said, "COMMIT;"]
            held = {}
        for role in self._wanted:
            known = held.get(role.name)
            if known is None:
                secret = " PASSWORD '...'" if role.password is not None else ""
                said.append(f"{_create_role(role.name)}{secret};")
            if known is None or roles.faults(known, role.access):
                texts = roles.statements(options.schema, role.name, role.access)
                said += ["BEGIN;", *(f"{text};" for text in texts), "COMMIT;"]
        return Provisioned([], said, [], [])


class Rehearsal(Wire):
    """Does scripts inside a transaction that its user rolls back, and notes them."""

    def __init__(self, conninfo: str, *, prepare: bool, answer_seconds: float | None) -> None:
        super().__init__(conninfo, prepare=prepare, answer_seconds=answer_seconds)
        self.said: list[str] = []

    def script(self, text: str) -> None:
        super().script(text)
        _say(self.said, text)


class BlankRehearsal(Wire):
    """Notes scripts, and answers as a new database that can have pgvector would."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def script(self, text: str) -> None:
        _say(self.said, text)

    def run(self, commands: Sequence[Command], *, seconds: float | None = None) -> list[PGresult]:
        del seconds
        text = commands[-1][0]
        if ".holdfast_store AS " in text:
            raise _NoStore
        answer: Any = f"public {'.'.join(map(str, PGVECTOR))}" if "pg_extension" in text else True
        return [answer]

    def rows(self, result: PGresult, *, of: str = "the store") -> list[tuple[Any, ...]]:
        return [(result,)]


class _NoStore(StatementFailed):
    def __init__(self) -> None:
        Exception.__init__(self, "there is no store")
        self.at, self.sqlstate, self.constraint = 0, "3F000", ""


def _say(said: list[str], text: str) -> None:
    if text.strip() and not text.startswith(("SAVEPOINT ", "ROLLBACK TO ")):
        said.append(text.strip() if text.rstrip().endswith(";") else f"{text.strip()};")


def _wire(target: Target, kind: type[Any] = Wire) -> Any:
    return kind(target.conninfo, prepare=False, answer_seconds=None)


def _answers(target: Target) -> bool:
    """Whether the database is there and lets us in."""
    try:
        psycopg.connect(target.conninfo).close()
    except psycopg.Error:
        return False
    return True


def _database(target: Target) -> str:
    held = conninfo_to_dict(target.conninfo)
    return str(held.get("dbname") or held.get("user") or "postgres")


def _create_database(target: Target, connection: psycopg.Connection[Any]) -> str:
    """From the server's template, which may have pgvector, unless that could not hold all text."""
    asked = "SELECT 1 FROM pg_database WHERE datname = 'template1' AND encoding = 6"
    usual = connection.execute(asked).fetchone() is not None
    text = f"CREATE DATABASE {quoted(_database(target))}"
    return text if usual else f"{text} TEMPLATE template0 ENCODING 'UTF8'"


def _create_role(name: str) -> str:
    return (
        f"CREATE ROLE {quoted(name)} LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE"
        " NOREPLICATION"
    )
