"""Tables, indexes and their editions. One transaction brings a file up, or nothing happens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import apsw
import msgspec

from holdfast.backends.sql.dialect import quoted
from holdfast.backends.sql.editions import (
    check_alterable,
    needs_upgrade,
    shape_of,
    without_lists,
)
from holdfast.backends.sql.filters import FilterPlanner
from holdfast.backends.sqlite.connection import fetched
from holdfast.backends.sqlite.covers import (
    SEGMENT_TABLES,
    unwatch_updates,
    watch_deletes,
    watch_updates,
)
from holdfast.backends.sqlite.dialect import TYPES, SqliteDialect, encode_json, literal
from holdfast.backends.sqlite.errors import constraint_conflict
from holdfast.backends.sqlite.header import APPLICATION_ID, FORMAT
from holdfast.core.collection import Collection, Field
from holdfast.core.errors import Corrupt, Invalid
from holdfast.core.filter import Filter
from holdfast.core.text import ANALYSIS_VERSION
from holdfast.core.values import Kind, to_micros

ENGINE_TABLES: Final = """
CREATE TABLE holdfast_collections (
    name TEXT PRIMARY KEY, version INTEGER NOT NULL, shape TEXT NOT NULL, analysis INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE holdfast_migrations (
    id INTEGER PRIMARY KEY, collection TEXT NOT NULL, from_version INTEGER,
    to_version INTEGER NOT NULL, at INTEGER NOT NULL, description TEXT NOT NULL
) STRICT;
CREATE TABLE holdfast_sequences (
    tenant TEXT NOT NULL, collection TEXT NOT NULL, field TEXT NOT NULL, per TEXT NOT NULL,
    last INTEGER NOT NULL, PRIMARY KEY (tenant, collection, field, per)
) STRICT, WITHOUT ROWID;
CREATE TABLE holdfast_operations (
    tenant TEXT NOT NULL, op_id TEXT NOT NULL, body BLOB NOT NULL, outcomes BLOB NOT NULL,
    at INTEGER NOT NULL, PRIMARY KEY (tenant, op_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX holdfast_operations_at ON holdfast_operations (at);
CREATE TABLE holdfast_followers (
    name TEXT PRIMARY KEY, position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE holdfast_journal (
    position INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT NOT NULL, collection TEXT NOT NULL,
    key BLOB NOT NULL, revision INTEGER NOT NULL, record BLOB, at INTEGER NOT NULL, op_id TEXT
) STRICT;
"""

_INDEXES: Final = """
SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = ? AND sql IS NOT NULL"""

_FORMATS: Final = (ENGINE_TABLES, SEGMENT_TABLES)


_decode_shape = msgspec.json.Decoder(dict[str, Any]).decode


class _Noted(msgspec.Struct):
    """A shape as `shape_of` gives it."""

    fields: list[tuple[str, Kind, bool]]
    key: list[str]
    unique: list[tuple[str, list[str], Any]]
    indexes: list[tuple[list[str], Any]]
    full_text: list[str]
    vectors: list[str]
    filtered: list[str] = []
    included: list[str] = []

    def named(self) -> set[str]:
        """The fields that it names besides declaring them."""
        listed = [*(fields for _, fields, _ in self.unique), *(each for each, _ in self.indexes)]
        named = {*self.key, *self.full_text, *self.filtered, *self.included}
        return named.union(*listed)


def terms_source(collection: Collection) -> str:
    """The name of the table of a collection's analysed text."""
    return f"{collection.name}__terms"


def vector_source(collection: Collection, field: str) -> str:
    """The name of the table of a vector field."""
    return f"{collection.name}__{field}"


def terms_table(collection: Collection) -> str:
    """The table of a collection's analysed text, quoted."""
    return quoted(terms_source(collection))


def vector_table(collection: Collection, field: str) -> str:
    """The table of a vector field, quoted."""
    return quoted(vector_source(collection, field))


class Schema:
    """Compares the collections that are declared with those of the file, and upgrades it."""

    def __init__(self, collections: Sequence[Collection]) -> None:
        self._collections = collections
        self._filters = FilterPlanner(SqliteDialect(), {})

    def is_current(self, connection: apsw.Connection) -> bool:
        """Whether the file needs nothing. Raises SchemaNewer where it is of a later edition."""
        stored = _stored(connection)
        return connection.pragma("user_version") == FORMAT and all(
            c.name in stored and not self._is_older(connection, c, stored[c.name])
            for c in self._collections
        )

    def _is_older(
        self, connection: apsw.Connection, collection: Collection, old: dict[str, Any]
    ) -> bool:
        """What `needs_upgrade` says; Corrupt where the note of a shape is not of the table."""
        try:
            return needs_upgrade(collection, old)
        except Invalid as error:
            if self._is_damaged(connection, collection, old["shape"]):
                raise Corrupt(
                    f"What the file notes of {collection.name} is damaged.",
                    hint="`holdfast doctor` says what can be saved from it.",
                    collection=collection.name,
                ) from error
            raise

    def _is_damaged(
        self, connection: apsw.Connection, collection: Collection, shape: dict[str, Any]
    ) -> bool:
        """Whether a shape was never noted of the table that is there.

        Otherwise it is the declared one that was changed, and its version was not.
        """
        try:
            held = msgspec.convert(shape, _Noted)
        except msgspec.ValidationError:
            return True
        columns = fetched(
            connection,
            'SELECT name, type, "notnull" FROM pragma_table_info(?)'
            " WHERE name NOT IN ('_row', 'tenant', 'revision')",
            (collection.name,),
        )
        noted = {(name, TYPES[kind], int(not null)) for name, kind, null in held.fields}
        if noted != set(columns) or not held.named() <= {name for name, _, _ in noted}:
            return True
        tables = {name for (name,) in fetched(connection, "SELECT name FROM sqlite_schema")}
        if not {vector_source(collection, name) for name in held.vectors} <= tables:
            return True
        found = fetched(connection, _INDEXES, (collection.name,))
        declared = shape_of(collection)
        return sorted(found) == sorted(self._index_texts(collection)) and any(
            shape[part] != declared[part] for part in ("key", "unique", "indexes")
        )

    def upgrade(self, connection: apsw.Connection, now: Any) -> list[Collection]:
        """Create and alter what is missing, inside the caller's transaction.

        Returns the collections whose full-text index must be derived anew.
        """
        older = connection.pragma("user_version") == 1
        self._bring_up(connection)
        stored, derive = _stored(connection), []
        done: list[tuple[Collection, Any]] = []
        for collection in self._collections:
            old = stored.get(collection.name)
            if old is not None and older:
                unwatch_updates(connection, collection.name)
                self._watch(connection, collection)
            if old is None:
                self._create(connection, collection)
            elif self._is_older(connection, collection, old):
                if self._alter(connection, collection, old):
                    derive.append(collection)
            else:
                continue
            done.append((collection, old))
        self._record(connection, done, now)
        return derive

    @staticmethod
    def _bring_up(connection: apsw.Connection) -> None:
        """Make the engine's own tables, those that the file's format lacks."""
        held = connection.pragma("user_version")
        for tables in _FORMATS[held:]:
            for statement in tables.split(";\n"):
                if statement.strip():
                    connection.execute(statement)
        if held == 1:
            sources = (
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE '%~_~_%'"
                " ESCAPE '~'"
            )
            for (name,) in fetched(connection, sources):
                watch_deletes(connection, name)
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={FORMAT}")

    def _create(self, connection: apsw.Connection, collection: Collection) -> None:
        columns = ["_row INTEGER PRIMARY KEY", "tenant TEXT NOT NULL", "revision INTEGER NOT NULL"]
        columns.extend(_column(field) for field in collection.fields)
        connection.execute(f"CREATE TABLE {quoted(collection.name)} ({', '.join(columns)}) STRICT")
        self._create_indexes(connection, collection)
        if collection.full_text:
            self._create_terms(connection, collection)
        for field in collection.vectors:
            self._create_vectors(connection, collection, field)

    def _index_anew(self, connection: apsw.Connection, collection: Collection) -> None:
        for name, _ in fetched(connection, _INDEXES, (collection.name,)):
            connection.execute(f"DROP INDEX {quoted(name)}")
        unwatch_updates(connection, collection.name)
        self._create_indexes(connection, collection)

    def _create_indexes(self, connection: apsw.Connection, collection: Collection) -> None:
        for _, sql in self._index_texts(collection):
            try:
                connection.execute(sql)
            except apsw.ConstraintError as error:  # records break a unique key that is new
                raise constraint_conflict(error, collection) from error
        self._watch(connection, collection)

    @staticmethod
    def _watch(connection: apsw.Connection, collection: Collection) -> None:
        sources = [vector_source(collection, name) for name in collection.vectors]
        if collection.full_text:
            sources.append(terms_source(collection))
        watch_updates(connection, collection, sources)

    def _index_texts(self, collection: Collection) -> list[tuple[str, str]]:
        table = quoted(collection.name)
        texts = [
            self._index_text(table, f"{collection.name}__key", collection.key, None, "UNIQUE ")
        ]
        for unique in collection.unique:
            where = self._partial(collection, unique.where)
            name = f"{collection.name}__unique_{unique.name}"
            texts.append(self._index_text(table, name, unique.fields, where, "UNIQUE "))
        for number, index in enumerate(collection.indexes):
            if index.fields == collection.key:
                continue
            name = f"{collection.name}__index_{number}_{'_'.join(index.fields)}"
            where = self._partial(collection, index.where)
            texts.append(self._index_text(table, name, index.fields, where, ""))
        return texts

    @staticmethod
    def _index_text(
        table: str, name: str, fields: tuple[str, ...], where: str | None, unique: str
    ) -> tuple[str, str]:
        listed = ", ".join(quoted(field) for field in ("tenant", *fields))
        condition = f" WHERE {where}" if where else ""
        return name, f"CREATE {unique}INDEX {quoted(name)} ON {table} ({listed}){condition}"

    def _partial(self, collection: Collection, where: Filter | None) -> str | None:
        """A partial index's condition; its values are literals, since an index binds nothing."""
        if where is None:
            return None
        values: list[Any] = []
        text = self._filters.sql(self._filters.shape(collection, without_lists(where), values))
        pieces = text.replace("t0.", "").split("?")
        literals = [*map(literal, values), ""]
        return "".join(piece + value for piece, value in zip(pieces, literals, strict=True))

    def _create_terms(self, connection: apsw.Connection, collection: Collection) -> None:
        terms = terms_table(collection)
        connection.execute(
            f"CREATE TABLE {terms} (tenant TEXT NOT NULL, _row INTEGER NOT NULL,"
            " length INTEGER NOT NULL, terms BLOB NOT NULL, counts BLOB NOT NULL,"
            " PRIMARY KEY (tenant, _row)) STRICT, WITHOUT ROWID"
        )
        self._follow_deletes(
            connection,
            collection,
            "terms",
            f"{terms} WHERE tenant = OLD.tenant AND _row = OLD._row",
        )
        watch_deletes(connection, terms_source(collection))

    def _create_vectors(
        self, connection: apsw.Connection, collection: Collection, field: str
    ) -> None:
        table = vector_table(collection, field)
        connection.execute(
            f"CREATE TABLE {table} (_row INTEGER PRIMARY KEY, tenant TEXT NOT NULL,"
            " space TEXT NOT NULL, data BLOB NOT NULL) STRICT"
        )
        name = quoted(f"{collection.name}__{field}_space")
        connection.execute(f"CREATE INDEX {name} ON {table} (tenant, space)")
        self._follow_deletes(connection, collection, field, f"{table} WHERE _row = OLD._row")
        watch_deletes(connection, vector_source(collection, field))

    @staticmethod
    def _follow_deletes(
        connection: apsw.Connection, collection: Collection, name: str, target: str
    ) -> None:
        """What is derived from a row goes with it, also when another program deletes the row."""
        trigger = quoted(f"{collection.name}__{name}_gone")
        connection.execute(
            f"CREATE TRIGGER {trigger} AFTER DELETE ON {quoted(collection.name)}"
            f" BEGIN DELETE FROM {target}; END"
        )

    def _alter(
        self, connection: apsw.Connection, collection: Collection, old: dict[str, Any]
    ) -> bool:
        """Add fields first, then indexes over them. Whether text must be derived anew."""
        before = old["shape"]
        held = {name: (kind, nullable) for name, kind, nullable in before["fields"]}
        check_alterable(collection, before, held)
        for field in collection.fields:
            if field.name not in held:
                column = _column(field, with_default=True)
                connection.execute(f"ALTER TABLE {quoted(collection.name)} ADD COLUMN {column}")
        self._index_anew(connection, collection)
        for name in collection.vectors:
            if name not in before["vectors"]:
                self._create_vectors(connection, collection, name)
        if collection.full_text and not before["full_text"]:
            self._create_terms(connection, collection)
        changed = list(collection.full_text) != before["full_text"]
        return bool(collection.full_text) and (changed or old["analysis"] < ANALYSIS_VERSION)

    @staticmethod
    def _record(
        connection: apsw.Connection, done: Sequence[tuple[Collection, Any]], now: Any
    ) -> None:
        """Note what was done, after all of it: each change of a table has SQLite plan anew."""
        at = to_micros(now)
        connection.executemany(
            "INSERT OR REPLACE INTO holdfast_collections VALUES (?, ?, ?, ?)",
            [(c.name, c.version, encode_json(shape_of(c)), ANALYSIS_VERSION) for c, _ in done],
        )
        connection.executemany(
            "INSERT INTO holdfast_migrations"
            " (collection, from_version, to_version, at, description) VALUES (?, ?, ?, ?, ?)",
            [
                (c.name, None, c.version, at, "created")
                if old is None
                else (c.name, old["version"], c.version, at, "brought up")
                for c, old in done
            ],
        )


def _stored(connection: apsw.Connection) -> dict[str, dict[str, Any]]:
    if connection.pragma("user_version") < 1:
        return {}
    rows = fetched(connection, "SELECT name, version, shape, analysis FROM holdfast_collections")
    return {
        name: {"version": version, "shape": _decode_shape(shape), "analysis": analysis}
        for name, version, shape, analysis in rows
    }


def _column(field: Field, *, with_default: bool = False) -> str:
    text = f"{quoted(field.name)} {TYPES[field.kind]}"
    if with_default and field.default is not None:
        encode = SqliteDialect().encoder(field.kind)
        default = field.default if encode is None else encode(field.default)
        text += f" DEFAULT {literal(default)}"
    if not field.nullable:
        text += " NOT NULL"
    if field.kind == "float":
        # Arithmetic in an UPDATE must not leave an infinity behind.
        text += f" CONSTRAINT {quoted(field.name)} CHECK (abs({quoted(field.name)}) < 9e999)"
    return text
