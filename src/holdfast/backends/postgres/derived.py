"""What is derived from records and kept beside them: analysed text, and vectors."""

from __future__ import annotations

from typing import Any

from holdfast.backends.postgres.binding import MARK
from holdfast.backends.postgres.dialect import PostgresDialect
from holdfast.backends.postgres.functions import EVERY_TENANT, ONE_TENANT
from holdfast.backends.postgres.names import terms_table, vector_table
from holdfast.backends.postgres.tables import void
from holdfast.backends.postgres.wire import Command, Wire
from holdfast.backends.sql.dialect import quoted
from holdfast.backends.sql.planner import Planner
from holdfast.backends.sql.rows import decoded
from holdfast.backends.sql.terms import pack
from holdfast.core.collection import Collection
from holdfast.core.filter import Record
from holdfast.core.values import Vector


def store_terms(
    dialect: PostgresDialect,
    collection: Collection,
    place: list[Any],
    texts: Record,
    *,
    fresh: bool,
) -> list[Command]:
    """Keep a record's analysed text beside it; ``place`` is its tenant and key."""
    packed = pack(collection, texts)
    table, same = terms_table(dialect, collection), _same(collection)
    voided = [] if fresh else [(void(dialect, collection, same, MARK), [*place, place[0]])]
    if packed is None:
        return [] if fresh else [(f"DELETE FROM {table} WHERE {same}", place), *voided]
    names = ("length", "terms", "counts")
    written = _upsert(table, collection, names, [*place, *packed], ", stamp = DEFAULT")
    return [written, *voided]


def store_vector(
    dialect: PostgresDialect,
    collection: Collection,
    name: str,
    place: list[Any],
    vector: Vector | None,
    *,
    fresh: bool,
    native: bool,
) -> list[Command]:
    """Keep a record's vector beside it; ``native`` says that the column is pgvector's."""
    table = vector_table(dialect, collection, name)
    if vector is None:
        return [] if fresh else [(f"DELETE FROM {table} WHERE {_same(collection)}", place)]
    from holdfast.backends.postgres.vector_search import packed_vector  # which loads numpy

    data, extreme = packed_vector(vector.data) if native else (vector.data, False)
    values = [*place, vector.space, extreme, data]
    return [_upsert(table, collection, ("space", "extreme", "data"), values)]


def _same(collection: Collection) -> str:
    return " AND ".join(f"{n} = {MARK}" for n in ("tenant", *map(quoted, collection.key)))


def _upsert(
    table: str,
    collection: Collection,
    names: tuple[str, ...],
    values: list[Any],
    more: str = "",
) -> Command:
    key = ", ".join(("tenant", *map(quoted, collection.key)))
    marks = ", ".join(MARK for _ in values)
    sets = ", ".join(f"{name} = excluded.{name}" for name in names)
    text = (
        f"INSERT INTO {table} ({key}, {', '.join(names)}) VALUES ({marks})"
        f" ON CONFLICT ({key}) DO UPDATE SET {sets}{more}"
    )
    return text, values


def unpacked_vector(space: str, data: bytes, *, native: bool) -> Vector:
    """The vector in a row."""
    if not native:
        return Vector(space, data)
    import numpy

    return Vector(space, numpy.frombuffer(data, ">f4", offset=4).astype("<f4").tobytes())


def read_vectors(dialect: PostgresDialect, collection: Collection) -> tuple[str, int]:
    """Columns that add a record's vectors to a SELECT over table t0, and how many they are."""
    parts: list[str] = []
    for name in collection.vectors:
        table = vector_table(dialect, collection, name)
        where = f"v.tenant = t0.tenant AND {_joined(collection, 'v', 't0')}"
        parts.extend(
            f", (SELECT v.{column} FROM {table} AS v WHERE {where})" for column in ("space", "data")
        )
    return "".join(parts), len(parts)


def attach_vectors(
    collection: Collection, record: Record, row: tuple[Any, ...], *, native: bool
) -> None:
    """Put what `read_vectors` added at the row's end into the record."""
    held = row[len(row) - 2 * len(collection.vectors) :]
    for place, name in enumerate(collection.vectors):
        space, data = held[2 * place : 2 * place + 2]
        record[name] = None if space is None else unpacked_vector(space, data, native=native)


def _joined(collection: Collection, one: str, other: str) -> str:
    return " AND ".join(f"{one}.{quoted(n)} = {other}.{quoted(n)}" for n in collection.key)


def derive_terms(
    planner: Planner, dialect: PostgresDialect, wire: Wire, collection: Collection
) -> None:
    """Analyse all text of a collection anew, inside the caller's transaction."""
    columns = planner.columns(collection.name)
    text = f"SELECT {columns.listed}, t0.tenant FROM {dialect.table(collection)} AS t0"
    rows = wire.rows(wire.run([(EVERY_TENANT, ()), (text, ())])[1])
    for row in rows:
        record = decoded(collection, columns.decode, row)
        place = [row[-1], *columns.encode_key(collection.key_of(record))]
        stored = store_terms(dialect, collection, place, record, fresh=False)
        wire.run([(ONE_TENANT, [row[-1]]), *stored])
