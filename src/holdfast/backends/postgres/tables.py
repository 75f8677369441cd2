"""What a collection is made of: statements that create its tables, indexes and triggers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from holdfast.backends.postgres.binding import MARK
from holdfast.backends.postgres.dialect import TYPES, PostgresDialect, encode_json, literal
from holdfast.backends.postgres.functions import BY_CHANCE, lock_number, row_security
from holdfast.backends.postgres.names import (
    index_name,
    key_name,
    packed_table,
    reference_name,
    short,
    terms_table,
    unique_name,
    vector_table,
)
from holdfast.backends.sql.dialect import quoted
from holdfast.backends.sql.filters import FilterPlanner
from holdfast.core.collection import Collection, Field, Reference
from holdfast.core.filter import Filter

STAMP: Final = f"stamp bigint NOT NULL DEFAULT {BY_CHANCE}"
"""The column by which a fresh text is known."""
_INLINE: Final = "WITH (toast_tuple_target = 8160)"
"""A vector stays in its row where it fits into a page, that is up to some two thousand numbers. By
itself the server moves those of more than five hundred elsewhere, and a scan goes for each in turn,
which takes ten times as long."""


class Tables:
    """The tables of the collections of one schema."""

    def __init__(
        self, schema: str, dialect: PostgresDialect, collections: Sequence[Collection]
    ) -> None:
        self._schema, self._dialect, self._collections = schema, dialect, collections
        self._filters = FilterPlanner(dialect, {})

    def create(self, collection: Collection, vectors: str) -> str:
        """All but foreign keys of a new collection; ``vectors`` is where pgvector's types are."""
        table = self._dialect.table(collection)
        columns = ['tenant text COLLATE "C" NOT NULL', "revision bigint NOT NULL"]
        columns.extend(column(field) for field in collection.fields)
        parts = [f"CREATE TABLE {table} ({', '.join(columns)});", row_security(table)]
        parts.extend(self.indexes(collection))
        if collection.full_text:
            parts.append(self.create_terms(collection))
        parts.extend(self.create_vectors(collection, name, vectors) for name in collection.vectors)
        parts.append(self.follow_deletes(collection))
        parts.append(self.journal(collection))
        return "\n".join(parts)

    def indexes(self, collection: Collection) -> list[str]:
        """That of the key first, then those of unique keys and of what is declared."""
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

    def create_terms(self, collection: Collection) -> str:
        """The tables of analysed text."""
        table = terms_table(self._dialect, collection)
        key = ", ".join(("tenant", *map(quoted, collection.key)))
        return (
            f'CREATE TABLE {table} (tenant text COLLATE "C" NOT NULL,'
            f" {self._key_columns(collection)}, length bigint NOT NULL, terms bytea NOT NULL,"
            f" counts bytea NOT NULL, {STAMP},"
            f" PRIMARY KEY ({key}));{row_security(table)}{self.create_packed(collection)}"
        )

    def create_packed(self, collection: Collection) -> str:
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

    def create_vectors(self, collection: Collection, field: str, vectors: str) -> str:
        """The table of a vector field."""
        table = vector_table(self._dialect, collection, field)
        key = ", ".join(("tenant", *map(quoted, collection.key)))
        kind = f"{quoted(vectors)}.vector" if vectors else "bytea"
        name = short(f"{collection.name}__{field}_space")
        return (
            f'CREATE TABLE {table} (tenant text COLLATE "C" NOT NULL,'
            f' {self._key_columns(collection)}, space text COLLATE "C" NOT NULL,'
            f" extreme boolean NOT NULL, data {kind} NOT NULL, PRIMARY KEY ({key})) {_INLINE};"
            f"CREATE INDEX {quoted(name)} ON {table} (tenant, space);{row_security(table)}"
            f"{self.index_extremes(collection, field)}"
        )

    def index_extremes(self, collection: Collection, field: str) -> str:
        """Of the few vectors whose squares leave float32, which no graph holds."""
        name = short(f"{collection.name}__{field}_extreme")
        table = vector_table(self._dialect, collection, field)
        return f"CREATE INDEX {quoted(name)} ON {table} (tenant, space) WHERE extreme;"

    def follow_deletes(self, collection: Collection) -> str:
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

    def journal(self, collection: Collection) -> str:
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

    def foreign_key(self, collection: Collection, reference: Reference) -> str:
        """The foreign key of a reference; its table and that it refers to are there."""
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

    def drop_indexes(self, collection: Collection) -> str:
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


def column(field: Field, *, with_default: bool = False) -> str:
    """The definition of a field's column."""
    text = f"{quoted(field.name)} {TYPES[field.kind]}"
    if with_default and field.default is not None:
        default = encode_json(field.default) if field.kind == "json" else field.default
        text += f" DEFAULT {literal(default)}"
    return text if field.nullable else f"{text} NOT NULL"
