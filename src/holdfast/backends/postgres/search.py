"""What is derived from records for search, and search over one tenant's rows: both legs exact.

First form. Terms are packed arrays in a narrow table, scored with numpy as on SQLite; vectors are
pgvector's, scanned within the tenant, and the nearest are scored anew in double precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from holdfast.backends.postgres.dialect import PostgresDialect
from holdfast.backends.postgres.schema import terms_table, vector_table
from holdfast.backends.postgres.wire import MARK, Command, Wire
from holdfast.backends.sql.dialect import quoted
from holdfast.backends.sql.planner import Planner
from holdfast.backends.sql.rows import decoded_all
from holdfast.backends.sql.terms import best, bm25_scores, pack
from holdfast.core.collection import Collection
from holdfast.core.filter import EVERYTHING, Filter, Record
from holdfast.core.search import Hit, Hits, Search, TextLeg, VectorLeg
from holdfast.core.values import Vector

Key = tuple[Any, ...]
Scored = list[tuple[Key, float]]

_ROUNDING: Final = 1e-4
"""How far a float32 distance may be from the exact one; candidates are kept this far below."""
_TINY, _HUGE = 1e-15, 1e15
"""Outside of these magnitudes float32 squares under- or overflow: always a candidate."""


# --- writing


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
    table = terms_table(dialect, collection)
    if packed is None:
        return [] if fresh else [(f"DELETE FROM {table} WHERE {_same(collection)}", place)]
    return [_upsert(table, collection, ("length", "terms", "counts"), [*place, *packed])]


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
    data, extreme = (packed_vector(vector.data)) if native else (vector.data, False)
    values = [*place, vector.space, extreme, data]
    return [_upsert(table, collection, ("space", "extreme", "data"), values)]


def _same(collection: Collection) -> str:
    return " AND ".join(f"{n} = {MARK}" for n in ("tenant", *map(quoted, collection.key)))


def _upsert(
    table: str, collection: Collection, names: tuple[str, ...], values: list[Any]
) -> Command:
    key = ", ".join(("tenant", *map(quoted, collection.key)))
    marks = ", ".join(MARK for _ in values)
    sets = ", ".join(f"{name} = excluded.{name}" for name in names)
    text = (
        f"INSERT INTO {table} ({key}, {', '.join(names)}) VALUES ({marks})"
        f" ON CONFLICT ({key}) DO UPDATE SET {sets}"
    )
    return text, values


def packed_vector(data: bytes) -> tuple[bytes, bool]:
    """A vector in pgvector's binary form, and whether its magnitudes are extreme."""
    import numpy

    numbers = numpy.frombuffer(data, "<f4")
    sizes = numpy.abs(numbers[numbers != 0])
    extreme = bool(sizes.min() < _TINY or sizes.max() > _HUGE)
    head = len(numbers).to_bytes(2, "big") + bytes(2)
    return head + numbers.astype(">f4").tobytes(), extreme


def unpacked_vector(space: str, data: bytes, *, native: bool) -> Vector:
    """The vector in a row."""
    if not native:
        return Vector(space, data)
    import numpy

    return Vector(space, numpy.frombuffer(data, ">f4", offset=4).astype("<f4").tobytes())


# --- reading


class RowSearch:
    """Runs one search on one connection, inside one read transaction."""

    def __init__(self, wire: Wire, planner: Planner, dialect: PostgresDialect, tenant: str) -> None:
        self._wire = wire
        self._planner = planner
        self._dialect = dialect
        self._tenant = tenant

    def run(
        self,
        search: Search,
        opening: Sequence[Command],
        closing: Sequence[Command],
        vectors: str,
    ) -> Hits:
        """Both legs, and the records that they found; two round trips."""
        collection = self._planner.collections[search.collection]
        where = search.filter
        commands = list(opening)
        text, vector = search.text, search.vector
        if text is not None and text.terms and search.k:
            commands.append(self._terms(collection, where))
        else:
            text = None
        if vector is not None and search.k:
            commands.append(self._near(collection, where, vector, search.k, vectors))
        else:
            vector = None
        results = self._wire.run(commands)[len(opening) :]
        found = [self._wire.rows(result) for result in results]
        by_text = self._text(collection, found.pop(0), text, search.k) if text else []
        by_vector = self._vector(found.pop(0), vector, search.minimum) if vector else []
        found_keys = [key for key, _ in (*by_text, *by_vector)]
        records = self._records(collection, found_keys, search.fields, closing)
        text_hits, vector_hits = (_hits(leg, records, search.k) for leg in (by_text, by_vector))
        kept = {hit.key: records[hit.key] for hit in (*text_hits, *vector_hits)}
        return Hits(text_hits, vector_hits, kept)

    def _terms(self, collection: Collection, where: Filter) -> Command:
        table = terms_table(self._dialect, collection)
        keys = _listed(collection, "k")
        if where == EVERYTHING:
            text = (
                f"SELECT NULL, k.length, k.terms, k.counts, TRUE, {keys}"
                f" FROM {table} AS k WHERE k.tenant = {MARK}"
            )
            return text, [self._tenant]
        shape, values = self._planner.where(self._tenant, collection, where)
        # The filter is a column and not a condition: what it leaves out still counts and weighs.
        text = (
            f"SELECT NULL, k.length, k.terms, k.counts, e.found IS NOT NULL, {keys} FROM {table}"
            f" AS k LEFT JOIN (SELECT TRUE AS found, {_listed(collection, 't0')}"
            f" FROM {self._dialect.table(collection)} AS t0"
            f" WHERE {self._planner.condition(shape)}) AS e ON {_joined(collection, 'e', 'k')}"
            f" WHERE k.tenant = {MARK}"
        )
        return text, [*values, self._tenant]

    def _text(
        self, collection: Collection, rows: list[tuple[Any, ...]], leg: TextLeg, k: int
    ) -> Scored:
        if not rows:
            return []
        import numpy

        scores, eligible = bm25_scores(rows, leg)
        eligible &= numpy.fromiter((row[4] for row in rows), "?", len(rows))
        return [(rows[i][5:], float(scores[i])) for i in best(scores, eligible, k)]

    def _near(
        self, collection: Collection, where: Filter, leg: VectorLeg, k: int, vectors: str
    ) -> Command:
        table = vector_table(self._dialect, collection, leg.field)
        ns = quoted(vectors)
        shape, values = self._planner.where(self._tenant, collection, where)
        filtered = ""
        if where != EVERYTHING:
            filtered = (
                f" JOIN {self._dialect.table(collection)} AS t0 ON t0.tenant = v.tenant AND"
                f" {_joined(collection, 't0', 'v')} AND {self._planner.condition(shape)}"
            )
        else:
            values = []
        text = (
            f"WITH near AS MATERIALIZED (SELECT v.data, v.extreme, {_listed(collection, 'v')},"
            f" v.data OPERATOR({ns}.<=>) {MARK}::{ns}.vector AS far FROM {table} AS v{filtered}"
            f" WHERE v.tenant = {MARK} AND v.space = {MARK}"
            f" AND {ns}.vector_dims(v.data) = {MARK})"
            f" SELECT data, {_listed(collection, 'near')} FROM near"
            " WHERE extreme OR far = 'NaN' OR far <= (SELECT max(far) FROM"
            " (SELECT far FROM near WHERE NOT extreme AND far <> 'NaN' ORDER BY far"
            f" LIMIT {MARK}) AS first) + {_ROUNDING}"
        )
        packed = _query_vector(leg.vector.data)
        bound = [packed, *values, self._tenant, leg.vector.space, leg.vector.width, k]
        return text, bound

    def _vector(self, rows: list[tuple[Any, ...]], leg: VectorLeg, minimum: float | None) -> Scored:
        if not rows:
            return []
        import numpy

        from holdfast.core.ranking import exact_cosines

        joined = b"".join(row[0][4:] for row in rows)
        matrix = numpy.frombuffer(joined, ">f4").reshape(len(rows), -1)
        scores = exact_cosines(matrix, numpy.frombuffer(leg.vector.data, "<f4"))
        kept = zip(rows, scores, strict=True)
        return [(row[1:], float(s)) for row, s in kept if minimum is None or s >= minimum]

    def _records(
        self,
        collection: Collection,
        keys: list[Key],
        fields: tuple[str, ...] | None,
        closing: Sequence[Command],
    ) -> dict[Key, Record]:
        if not keys:
            if closing:
                self._wire.run(closing)
            return {}
        columns = self._planner.columns(collection.name, fields)
        names = [f"t0.{quoted(name)}" for name in collection.key]
        if len(names) == 1:
            where, values = f"{names[0]} = ANY({MARK})", [[key[0] for key in keys]]
        else:
            types = [_CASTS[collection.by_name[n].kind] for n in collection.key]
            arrays = ", ".join(f"{MARK}::{type}[]" for type in types)
            where = f"({', '.join(names)}) IN (SELECT * FROM unnest({arrays}))"
            values = [list(column) for column in zip(*keys, strict=True)]
        text = (
            f"SELECT {columns.listed} FROM {self._dialect.table(collection)} AS t0"
            f" WHERE t0.tenant = {MARK} AND {where}"
        )
        asked = (text, [self._tenant, *values])
        rows = self._wire.rows(self._wire.run([asked, *closing])[0])
        records = decoded_all(collection, columns, rows)
        return {collection.key_of(record): record for record in records}


_CASTS: Final = {
    "text": "text", "int": "bigint", "float": "double precision",
    "bool": "boolean", "time": "timestamptz", "bytes": "bytea",
}  # fmt: skip


def _query_vector(data: bytes) -> bytes:
    """The query at a plain length: a cosine does not depend on it, and float32 squares do."""
    import numpy

    numbers = numpy.frombuffer(data, "<f4").astype("<f8")
    numbers /= numpy.sqrt((numbers * numbers).sum())
    return packed_vector(numbers.astype("<f4").tobytes())[0]


def _listed(collection: Collection, alias: str) -> str:
    return ", ".join(f"{alias}.{quoted(name)}" for name in collection.key)


def _joined(collection: Collection, one: str, other: str) -> str:
    return " AND ".join(f"{one}.{quoted(n)} = {other}.{quoted(n)}" for n in collection.key)


def _hits(scored: Scored, records: dict[Key, Record], k: int) -> tuple[Hit, ...]:
    hits = [Hit(key, score) for key, score in scored if key in records]
    return tuple(sorted(hits, key=lambda hit: (-hit.score, hit.key))[:k])


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
