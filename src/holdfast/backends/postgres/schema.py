"""Tables, indexes and their editions. One transaction brings a store up, or nothing happens."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from holdfast.backends.postgres import supabase
from holdfast.backends.postgres.binding import MARK
from holdfast.backends.postgres.dialect import TYPES, PostgresDialect, encode_json, literal
from holdfast.backends.postgres.errors import mapped
from holdfast.backends.postgres.functions import (
    BY_CHANCE,
    FORMAT,
    engine_script,
    lock_number,
    row_security,
    segment_script,
)
from holdfast.backends.postgres.wire import StatementFailed, Wire
from holdfast.backends.sql.dialect import quoted
from holdfast.backends.sql.editions import check_alterable, needs_upgrade, shape_of
from holdfast.backends.sql.filters import FilterPlanner
from holdfast.core.collection import Collection, Field, Reference
from holdfast.core.errors import Busy, Conflict, SchemaNewer
from holdfast.core.filter import Filter
from holdfast.core.text import ANALYSIS_VERSION

SETUP_SECONDS: Final = 60
"""How long an opener waits for another one that sets the store up."""
NAME_LIMIT: Final = 63
"""Longest identifier, in bytes."""
_STAMP: Final = f"stamp bigint NOT NULL DEFAULT {BY_CHANCE}"
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


def short(name: str) -> str:
    """The name, or one that fits and is as good as unique."""
    if len(name.encode()) <= NAME_LIMIT:
        return name
    return f"{name[:40]}_{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def key_name(collection: Collection) -> str:
    """The name of a collection's unique index over its key."""
    return short(f"{collection.name}__key")


def unique_name(collection: Collection, unique: str) -> str:
    """The name of a unique key's index."""
    return short(f"{collection.name}__unique_{unique}")


def index_name(collection: Collection, number: int) -> str:
    """The name of the index that is declared in this place."""
    fields = "_".join(collection.indexes[number].fields)
    return short(f"{collection.name}__index_{number}_{fields}")


def index_names(collection: Collection) -> list[str]:
    """The names of all indexes that a collection's table has."""
    declared = enumerate(collection.indexes)
    return [
        key_name(collection),
        *(unique_name(collection, unique.name) for unique in collection.unique),
        *(index_name(collection, n) for n, i in declared if i.fields != collection.key),
    ]


def reference_name(collection: Collection, field: str) -> str:
    """The name of a reference's foreign key."""
    return short(f"{collection.name}__refers_{field}")


_INLINE: Final = "WITH (toast_tuple_target = 8160)"
"""A vector stays in its row where it fits into a page, that is up to some two thousand numbers. By
itself the server moves those of more than five hundred elsewhere, and a scan goes for each in turn,
which takes ten times as long."""


class Schema:
    """Compares declared collections with those of a store, and upgrades it."""

    def __init__(
        self, schema: str, collections: Sequence[Collection], *, end_users: bool = False
    ) -> None:
        self._end_users = end_users
        self._schema = schema
        self._dialect = PostgresDialect(schema)
        self._collections = collections
        self._filters = FilterPlanner(self._dialect, {})

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
        script = self._to_format_2(stored) if stored.format < FORMAT else []
        derive: list[Collection] = []
        fresh: list[Collection] = []
        for collection in self._collections:
            old = stored.collections.get(collection.name)
            if old is None:
                script.append(self._create(collection, stored.vectors))
                fresh.append(collection)
            elif needs_upgrade(collection, old):
                altered, again = self._alter(collection, old, stored.vectors)
                script.append(altered)
                derive.extend([collection] if again else [])
            else:
                continue
            script.append(self._record(collection, old, now))
        script.extend(self._foreign_key(c, r) for c in fresh for r in c.references)
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
        parts = [segment_script(s), f"UPDATE {s}.holdfast_store SET format = {FORMAT};"]
        for collection in self._collections:
            old = stored.collections.get(collection.name)
            if old is None:
                continue
            if old["shape"]["full_text"]:
                table = terms_table(self._dialect, collection)
                parts.append(f"ALTER TABLE {table} ADD COLUMN {_STAMP};")
                parts.append(self._create_packed(collection))
            held = [name for name in collection.vectors if name in old["shape"]["vectors"]]
            parts.extend(self._index_extremes(collection, name) for name in held)
            parts.append(self._follow_deletes(collection))
        return parts

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

    # --- what a collection is made of

    def _create(self, collection: Collection, vectors: str) -> str:
        table = self._dialect.table(collection)
        columns = ['tenant text COLLATE "C" NOT NULL', "revision bigint NOT NULL"]
        columns.extend(_column(field) for field in collection.fields)
        parts = [f"CREATE TABLE {table} ({', '.join(columns)});", row_security(table)]
        parts.extend(self._indexes(collection))
        if collection.full_text:
            parts.append(self._create_terms(collection))
        parts.extend(self._create_vectors(collection, name, vectors) for name in collection.vectors)
        parts.append(self._follow_deletes(collection))
        parts.append(self._journal(collection))
        return "\n".join(parts)

    def _indexes(self, collection: Collection) -> list[str]:
        texts = [self._index(collection, key_name(collection), collection.key, None, "UNIQUE ")]
        for unique in collection.unique:
            name = unique_name(collection, unique.name)
            texts.append(self._index(collection, name, unique.fields, unique.where, "UNIQUE "))
        for number, index in enumerate(collection.indexes):
            if index.fields == collection.key:
                continue
            name = index_name(collection, number)
            texts.append(self._index(collection, name, index.fields, index.where, ""))
        return texts

    def _index(
        self,
        collection: Collection,
        name: str,
        fields: tuple[str, ...],
        where: Filter | None,
        unique: str,
    ) -> str:
        # In the order of the contract, null first, so that an index can give the order of a page.
        listed = ", ".join(("tenant", *(f"{quoted(field)} NULLS FIRST" for field in fields)))
        condition = "" if where is None else f" WHERE {self._partial(collection, where)}"
        table = self._dialect.table(collection)
        return f"CREATE {unique}INDEX {quoted(name)} ON {table} ({listed}){condition};"

    def _partial(self, collection: Collection, where: Filter) -> str:
        """A partial index's condition; its values are literals, since an index binds nothing."""
        values: list[Any] = []
        text = self._filters.sql(self._filters.shape(collection, where, values))
        pieces = text.replace("t0.", "").split(MARK)
        literals = [*map(literal, values), ""]
        return "".join(piece + value for piece, value in zip(pieces, literals, strict=True))

    def _key_columns(self, collection: Collection) -> str:
        kinds = (collection.by_name[name].kind for name in collection.key)
        return ", ".join(
            f"{quoted(name)} {TYPES[kind]} NOT NULL"
            for name, kind in zip(collection.key, kinds, strict=True)
        )

    def _create_terms(self, collection: Collection) -> str:
        table = terms_table(self._dialect, collection)
        key = ", ".join(("tenant", *map(quoted, collection.key)))
        return (
            f'CREATE TABLE {table} (tenant text COLLATE "C" NOT NULL,'
            f" {self._key_columns(collection)}, length bigint NOT NULL, terms bytea NOT NULL,"
            f" counts bytea NOT NULL, {_STAMP},"
            f" PRIMARY KEY ({key}));{row_security(table)}{self._create_packed(collection)}"
        )

    def _create_packed(self, collection: Collection) -> str:
        """Which records' texts are in segments, under which stamps."""
        key = ", ".join(("tenant", *map(quoted, collection.key)))
        table = packed_table(self._dialect, collection)
        tail = terms_table(self._dialect, collection)
        fresh, held = (short(f"{collection.name}__{name}_stamp") for name in ("terms", "packed"))
        return (
            f'CREATE TABLE {table} (tenant text COLLATE "C" NOT NULL,'
            f" {self._key_columns(collection)}, stamp bigint NOT NULL,"
            f" PRIMARY KEY ({key}));{row_security(table)}"
            f"CREATE INDEX {quoted(fresh)} ON {tail} (tenant, stamp);"
            f"CREATE INDEX {quoted(held)} ON {table} (tenant, stamp);"
        )

    def _create_vectors(self, collection: Collection, field: str, vectors: str) -> str:
        table = vector_table(self._dialect, collection, field)
        key = ", ".join(("tenant", *map(quoted, collection.key)))
        kind = f"{quoted(vectors)}.vector" if vectors else "bytea"
        name = short(f"{collection.name}__{field}_space")
        return (
            f'CREATE TABLE {table} (tenant text COLLATE "C" NOT NULL,'
            f' {self._key_columns(collection)}, space text COLLATE "C" NOT NULL,'
            f" extreme boolean NOT NULL, data {kind} NOT NULL, PRIMARY KEY ({key})) {_INLINE};"
            f"CREATE INDEX {quoted(name)} ON {table} (tenant, space);{row_security(table)}"
            f"{self._index_extremes(collection, field)}"
        )

    def _index_extremes(self, collection: Collection, field: str) -> str:
        """Of the few vectors whose squares leave float32, which no graph holds."""
        name = short(f"{collection.name}__{field}_extreme")
        table = vector_table(self._dialect, collection, field)
        return f"CREATE INDEX {quoted(name)} ON {table} (tenant, space) WHERE extreme;"

    def _follow_deletes(self, collection: Collection) -> str:
        """What is derived from a row goes with it, also when another program deletes the row."""
        tables = [terms_table(self._dialect, collection)] if collection.full_text else []
        tables.extend(vector_table(self._dialect, collection, f) for f in collection.vectors)
        if not tables:
            return ""
        same = " AND ".join(f"{n} = OLD.{n}" for n in ("tenant", *map(quoted, collection.key)))
        deletes = " ".join(f"DELETE FROM {table} WHERE {same};" for table in tables)
        if collection.full_text:
            deletes += f" {void(self._dialect, collection, same, 'OLD.tenant')};"
        name = f"{self._dialect.schema}.{quoted(short(f'{collection.name}__gone'))}"
        return (
            f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS"
            f" $body$ BEGIN {deletes} RETURN NULL; END $body$;"
            f"CREATE OR REPLACE TRIGGER holdfast_gone AFTER DELETE ON"
            f" {self._dialect.table(collection)} FOR EACH ROW EXECUTE FUNCTION {name}();"
        )

    def _journal(self, collection: Collection) -> str:
        """Writes the journal where something follows; at the commit, when vectors are there too."""
        s, table = self._dialect.schema, self._dialect.table(collection)
        name = f"{s}.{quoted(short(f'{collection.name}__journal'))}"
        key = f"json_build_array({', '.join(f'held.{quoted(n)}' for n in collection.key)})"
        vectors = ", ".join(
            f"{literal(field)}, (SELECT json_build_array(v.space, v.data::text) FROM"
            f" {vector_table(self._dialect, collection, field)} AS v WHERE v.tenant = held.tenant"
            f" AND {' AND '.join(f'v.{quoted(n)} = held.{quoted(n)}' for n in collection.key)})"
            for field in collection.vectors
        )
        number = lock_number(self._schema, "journal")
        return f"""
CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $body$
DECLARE held {table};
BEGIN
    IF TG_OP = 'DELETE' THEN held := OLD; ELSE held := NEW; END IF;
    -- Held until the commit is seen by all, so that positions rise in the order of commits.
    PERFORM pg_advisory_xact_lock({number});
    INSERT INTO {s}.holdfast_journal
        (tenant, collection, key, revision, record, vectors, at, op_id)
    VALUES (held.tenant, {literal(collection.name)}, {key}, held.revision,
        CASE TG_OP WHEN 'DELETE' THEN NULL ELSE row_to_json(held) END,
        json_build_object({vectors}), current_setting('holdfast.now')::timestamptz,
        nullif(current_setting('holdfast.op_id'), ''));
    RETURN NULL;
END $body$;
CREATE CONSTRAINT TRIGGER holdfast_journal AFTER INSERT OR UPDATE OR DELETE ON {table}
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (current_setting('holdfast.journal', true) = 'on') EXECUTE FUNCTION {name}();
"""

    def _foreign_key(self, collection: Collection, reference: Reference) -> str:
        table = self._dialect.table(collection)
        parent = f"{self._dialect.schema}.{quoted(reference.collection)}"
        field = quoted(reference.field)
        action = {"cascade": "CASCADE", "restrict": "RESTRICT", "clear": f"SET NULL ({field})"}
        key = quoted(self._key_of(reference.collection))
        text = (
            f"ALTER TABLE {table} ADD CONSTRAINT"
            f" {quoted(reference_name(collection, reference.field))}"
            f" FOREIGN KEY (tenant, {field}) REFERENCES {parent} (tenant, {key})"
            f" ON DELETE {action[reference.on_delete]};"
        )
        if reference.on_delete == "clear":
            # Only the foreign key itself clears a field without counting the revision.
            text += (
                f"CREATE TRIGGER {quoted(short(f'holdfast_clear_{reference.field}'))}"
                f" BEFORE UPDATE ON {table} FOR EACH ROW WHEN (OLD.{field} IS NOT NULL AND"
                f" NEW.{field} IS NULL AND NEW.revision = OLD.revision)"
                f" EXECUTE FUNCTION {self._dialect.schema}.holdfast_count_up();"
            )
        return text

    def _key_of(self, name: str) -> str:
        return next((c.key[0] for c in self._collections if c.name == name), "id")

    def _alter(self, collection: Collection, old: dict[str, Any], vectors: str) -> tuple[str, bool]:
        """Add fields first, then indexes over them. Whether text must be derived anew."""
        before = old["shape"]
        held = {name: (kind, nullable) for name, kind, nullable in before["fields"]}
        check_alterable(collection, before, held)
        table = self._dialect.table(collection)
        parts = [
            f"ALTER TABLE {table} ADD COLUMN {_column(field, with_default=True)};"
            for field in collection.fields
            if field.name not in held
        ]
        parts.append(self._drop_indexes(collection))
        parts.extend(self._indexes(collection)[1:])
        parts.extend(
            self._create_vectors(collection, name, vectors)
            for name in collection.vectors
            if name not in before["vectors"]
        )
        if collection.full_text and not before["full_text"]:
            parts.append(self._create_terms(collection))
        parts.append(self._follow_deletes(collection))
        parts.append(f"DROP TRIGGER IF EXISTS holdfast_journal ON {table};")
        parts.append(self._journal(collection))
        parts.extend(
            self._foreign_key(collection, reference)
            for reference in collection.references
            if reference.field not in held
        )
        changed = list(collection.full_text) != before["full_text"]
        again = bool(collection.full_text) and (changed or old["analysis"] < ANALYSIS_VERSION)
        return "\n".join(parts), again

    def _drop_indexes(self, collection: Collection) -> str:
        """Every index of ours but that of the key, which references may lean on."""
        return f"""
DO $body$ DECLARE held name; BEGIN
    FOR held IN SELECT indexname FROM pg_indexes WHERE schemaname = {literal(self._schema)}
        AND tablename = {literal(collection.name)}
        AND indexname <> {literal(key_name(collection))} LOOP
        EXECUTE format('DROP INDEX {self._dialect.schema}.%I', held);
    END LOOP;
END $body$;
"""

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


def terms_table(dialect: PostgresDialect, collection: Collection) -> str:
    """The table of a collection's analysed text."""
    return f"{dialect.schema}.{quoted(short(f'{collection.name}__terms'))}"


def packed_table(dialect: PostgresDialect, collection: Collection) -> str:
    """The table of the records whose text is in segments."""
    return f"{dialect.schema}.{quoted(short(f'{collection.name}__packed'))}"


def void(dialect: PostgresDialect, collection: Collection, same: str, tenant: str) -> str:
    """A statement after which the copies in segments of the record ``same`` names count no more.

    It comes after what changes the record's fresh text: whoever packs that has then either ended,
    and is seen here, or finds the text's stamp changed.
    """
    return (
        f"WITH gone AS (DELETE FROM {packed_table(dialect, collection)} WHERE {same}"
        f" RETURNING stamp) INSERT INTO {dialect.schema}.holdfast_voids (tenant, source, stamp)"
        f" SELECT {tenant}, {literal(collection.name)}, stamp FROM gone"
    )


def vector_table(dialect: PostgresDialect, collection: Collection, field: str) -> str:
    """The table of a vector field."""
    return f"{dialect.schema}.{quoted(short(f'{collection.name}__{field}'))}"


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


def _column(field: Field, *, with_default: bool = False) -> str:
    text = f"{quoted(field.name)} {TYPES[field.kind]}"
    if with_default and field.default is not None:
        default = encode_json(field.default) if field.kind == "json" else field.default
        text += f" DEFAULT {literal(default)}"
    return text if field.nullable else f"{text} NOT NULL"
