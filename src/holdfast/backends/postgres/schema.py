"""Tables, indexes and their editions. One transaction brings a store up, or nothing happens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from holdfast.backends.postgres import supabase
from holdfast.backends.postgres.dialect import PostgresDialect, encode_json, literal
from holdfast.backends.postgres.errors import mapped
from holdfast.backends.postgres.functions import (
    FORMAT,
    engine_script,
    lock_number,
    reworded_row_security,
    segment_script,
)
from holdfast.backends.postgres.names import terms_table, unique_name
from holdfast.backends.postgres.tables import STAMP, Tables, column
from holdfast.backends.postgres.wire import StatementFailed, Wire
from holdfast.backends.sql.editions import check_alterable, needs_upgrade, shape_of
from holdfast.core.collection import Collection
from holdfast.core.errors import Busy, Conflict, SchemaNewer
from holdfast.core.text import ANALYSIS_VERSION

SETUP_SECONDS: Final = 60
"""How long an opener waits for another one that sets the store up."""
PGVECTOR: Final = (0, 8)
"""The first pgvector that finds k of k under a filter."""


@dataclass(frozen=True)
class Stored:
    """What a store says of itself."""

    format: int
    vectors: str
    """The schema in which pgvector's types are, when the tables of vectors use them; else empty."""
    extension: str
    """The schema of a pgvector that is installed now and new enough; else empty."""
    collections: dict[str, dict[str, Any]]
    guarded: bool = True
    """Whether its tables are shut to Supabase's end users, where there are any."""


class Schema:
    """Compares declared collections with those of a store, and upgrades it."""

    def __init__(
        self, schema: str, collections: Sequence[Collection], *, end_users: bool = False
    ) -> None:
        self._end_users = end_users
        self._schema = schema
        self._dialect = PostgresDialect(schema)
        self._collections = collections
        self._tables = Tables(schema, self._dialect, collections)

    def read(self, wire: Wire) -> Stored | None:
        """What the store says of itself, in one round trip; None where there is none."""
        s = self._dialect.schema
        guarded = supabase.is_guarded(self._schema) if self._end_users else "true"
        text = (
            "SELECT c.name, c.version, c.shape, c.analysis, m.format, m.vectors,"
            " (SELECT n.nspname || ' ' || e.extversion FROM pg_extension AS e"
            " JOIN pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'vector'),"
            f" {guarded}"
            f" FROM {s}.holdfast_store AS m LEFT JOIN {s}.holdfast_collections AS c ON true"
        )
        try:
            rows = wire.rows(wire.run([(text, ())])[0])
        except StatementFailed as error:
            if error.sqlstate in ("42P01", "3F000"):
                return None
            raise
        held = {
            name: {"version": version, "shape": msgspec.json.decode(shape), "analysis": analysis}
            for name, version, shape, analysis, *_ in rows
            if name is not None
        }
        form, vectors, extension, shut = rows[0][4:]
        if form > FORMAT:
            raise SchemaNewer(
                f"The store has format {form}; this version of holdfast knows {FORMAT}.",
                hint="Upgrade holdfast. Nothing was written.",
                format=form,
            )
        return Stored(form, vectors, usable(extension), held, shut)

    def is_current(self, stored: Stored | None) -> bool:
        """Whether the store needs nothing. Raises SchemaNewer where it is of a later edition."""
        if stored is None:
            return False
        held = stored.collections
        upgrades = [needs_upgrade(c, held[c.name]) for c in self._collections if c.name in held]
        known = len(upgrades) == len(self._collections)
        return stored.guarded and stored.format == FORMAT and known and not any(upgrades)

    def upgrade(self, wire: Wire, now: datetime) -> tuple[Stored, list[Collection]]:
        """Create and alter what is missing, inside the caller's transaction.

        Also returns the collections whose full text must be analysed anew.
        """
        self._wait_for_others(wire)
        stored = self._engine_tables(wire)
        script = self._to_format_2(stored) if stored.format < 2 else []
        script += self._to_format_3() if stored.format < FORMAT else []
        derive: list[Collection] = []
        fresh: list[Collection] = []
        for collection in self._collections:
            old = stored.collections.get(collection.name)
            if old is None:
                script.append(self._tables.create(collection, stored.vectors))
                fresh.append(collection)
            elif needs_upgrade(collection, old):
                altered, again = self._alter(collection, old, stored.vectors)
                script.append(altered)
                derive.extend([collection] if again else [])
            else:
                continue
            script.append(self._record(collection, old, now))
        script.extend(self._tables.foreign_key(c, r) for c in fresh for r in c.references)
        self._run(wire, "\n".join(script))
        if self._end_users:
            self._shut_out_end_users(wire)
        return stored, derive

    def _shut_out_end_users(self, wire: Wire) -> None:
        if wire.rows(wire.run([(f"SELECT {supabase.IS_SUPABASE}", ())])[0]) != [(True,)]:
            raise supabase.not_supabase()
        self._run(wire, supabase.guard(self._schema, self._dialect.schema))

    def _wait_for_others(self, wire: Wire) -> None:
        number = lock_number(self._schema, "setup")
        try:
            wire.script(
                f"SET LOCAL lock_timeout = '{SETUP_SECONDS}s';"
                f" SELECT pg_advisory_xact_lock({number}); SET LOCAL lock_timeout = DEFAULT"
            )
        except StatementFailed as error:
            if error.sqlstate != "55P03":
                raise
            raise Busy(
                f"Another process has been setting the store up for {SETUP_SECONDS} seconds.",
                hint="Try again when it is done.",
            ) from error

    def _engine_tables(self, wire: Wire) -> Stored:
        wire.script("SAVEPOINT holdfast_look")
        try:
            stored = self.read(wire)
        except StatementFailed:
            stored = None
        if stored is not None:
            return stored
        wire.script("ROLLBACK TO holdfast_look")
        s = self._dialect.schema
        script = f"CREATE SCHEMA IF NOT EXISTS {s};" + engine_script(self._schema, s)
        script += segment_script(s)
        self._run(wire, script)
        vectors = _vector_schema(wire)
        self._run(wire, f"INSERT INTO {s}.holdfast_store VALUES ({FORMAT}, {literal(vectors)})")
        return Stored(FORMAT, vectors, vectors, {})

    def _to_format_2(self, stored: Stored) -> list[str]:
        """Stamp the texts that are there, so that they can be packed, and mark what is extreme."""
        s = self._dialect.schema
        parts = [segment_script(s)]
        for collection in self._collections:
            old = stored.collections.get(collection.name)
            if old is None:
                continue
            if old["shape"]["full_text"]:
                table = terms_table(self._dialect, collection)
                parts.append(f"ALTER TABLE {table} ADD COLUMN {STAMP};")
                parts.append(self._tables.create_packed(collection))
            held = [name for name in collection.vectors if name in old["shape"]["vectors"]]
            parts.extend(self._tables.index_extremes(collection, name) for name in held)
            parts.append(self._tables.follow_deletes(collection))
        return parts

    def _to_format_3(self) -> list[str]:
        """Word row security anew, which then takes less of each write."""
        s = self._dialect.schema
        return [
            reworded_row_security(s, self._schema),
            f"UPDATE {s}.holdfast_store SET format = {FORMAT};",
        ]

    def _run(self, wire: Wire, script: str) -> None:
        if not script.strip():
            return
        try:
            wire.script(script)
        except StatementFailed as error:
            for collection in self._collections:
                for unique in collection.unique:
                    if error.constraint == unique_name(collection, unique.name):
                        raise Conflict(
                            f"Records of {collection.name} have the same {unique.name}.",
                            unique=unique.name,
                        ) from error
            raise mapped(error) from error

    def _alter(self, collection: Collection, old: dict[str, Any], vectors: str) -> tuple[str, bool]:
        """Add fields first, then indexes over them. Whether text must be derived anew."""
        before = old["shape"]
        held = {name: (kind, nullable) for name, kind, nullable in before["fields"]}
        check_alterable(collection, before, held)
        table = self._dialect.table(collection)
        parts = [
            f"ALTER TABLE {table} ADD COLUMN {column(field, with_default=True)};"
            for field in collection.fields
            if field.name not in held
        ]
        parts.append(self._tables.drop_indexes(collection))
        parts.extend(self._tables.indexes(collection)[1:])
        parts.extend(
            self._tables.create_vectors(collection, name, vectors)
            for name in collection.vectors
            if name not in before["vectors"]
        )
        if collection.full_text and not before["full_text"]:
            parts.append(self._tables.create_terms(collection))
        parts.append(self._tables.follow_deletes(collection))
        parts.append(f"DROP TRIGGER IF EXISTS holdfast_journal ON {table};")
        parts.append(self._tables.journal(collection))
        parts.extend(
            self._tables.foreign_key(collection, reference)
            for reference in collection.references
            if reference.field not in held
        )
        changed = list(collection.full_text) != before["full_text"]
        again = bool(collection.full_text) and (changed or old["analysis"] < ANALYSIS_VERSION)
        return "\n".join(parts), again

    def _record(self, collection: Collection, old: Any, now: datetime) -> str:
        s = self._dialect.schema
        shape = literal(encode_json(shape_of(collection)))
        before = "NULL" if old is None else str(old["version"])
        action = "created" if old is None else "brought up"
        name, version = literal(collection.name), collection.version
        return (
            f"INSERT INTO {s}.holdfast_collections VALUES"
            f" ({name}, {version}, {shape}, {ANALYSIS_VERSION})"
            " ON CONFLICT (name) DO UPDATE SET version = excluded.version,"
            " shape = excluded.shape, analysis = excluded.analysis;"
            f"INSERT INTO {s}.holdfast_migrations"
            " (collection, from_version, to_version, at, description) VALUES"
            f" ({name}, {before}, {version}, {literal(now)}, {literal(action)});"
        )


def usable(extension: str | None) -> str:
    """The schema of a pgvector, from "schema version", if it is new enough."""
    name, _, version = (extension or "").rpartition(" ")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    return name if numbers >= PGVECTOR else ""


def _vector_schema(wire: Wire) -> str:
    """Where pgvector is, after installing it where that is allowed."""
    wire.script("SAVEPOINT holdfast_vector")
    try:
        wire.script("CREATE EXTENSION IF NOT EXISTS vector")
    except StatementFailed:
        wire.script("ROLLBACK TO holdfast_vector")
    text = (
        "SELECT n.nspname || ' ' || e.extversion FROM pg_extension AS e"
        " JOIN pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'vector'"
    )
    rows = wire.rows(wire.run([(text, ())])[0])
    return usable(rows[0][0]) if rows else ""
