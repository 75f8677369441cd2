"""What is derived from records for search, and one search: both legs under one filter.

Texts are BM25 over packed segments and what is fresh (`text_search`), vectors an exact scan or
candidates of a graph (`vector_search`); scores are those of the contract, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from holdfast.backends.postgres.dialect import PostgresDialect
from holdfast.backends.postgres.options import Options
from holdfast.backends.postgres.packer import Packer
from holdfast.backends.postgres.schema import packed_table, terms_table, vector_table, void
from holdfast.backends.postgres.wire import MARK, Command, Wire
from holdfast.backends.segments.cache import Cache
from holdfast.backends.sql.dialect import quoted
from holdfast.backends.sql.planner import Planner
from holdfast.backends.sql.rows import decoded_all
from holdfast.backends.sql.terms import pack
from holdfast.core.collection import Collection
from holdfast.core.errors import Corrupt
from holdfast.core.filter import Record
from holdfast.core.search import Hit, Hits, Search
from holdfast.core.values import Vector

if TYPE_CHECKING:
    from holdfast.backends.postgres.text_search import TextSearch
    from holdfast.backends.postgres.vector_search import VectorSearch

Key = tuple[Any, ...]
Scored = list[tuple[Key, float]]

_HINTS_BYTES: Final = 4 * 1024 * 1024
_ATTEMPTS: Final = 4


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


# --- reading


@dataclass
class Engine:
    """What searches of a driver share; ``vectors`` is the schema of pgvector's types."""

    planner: Planner
    dialect: PostgresDialect
    packer: Packer
    options: Options
    vectors: str = ""

    def __post_init__(self) -> None:
        self.cache = Cache(self.options.search_cache_bytes)
        self.hints = Cache(_HINTS_BYTES)


class RowSearch:
    """Runs one search on one connection, inside one read transaction."""

    def __init__(self, wire: Wire, engine: Engine, tenant: str) -> None:
        self._wire = wire
        self._engine = engine
        self._planner, self._dialect = engine.planner, engine.dialect
        self._tenant = tenant

    def run(self, search: Search, opening: Sequence[Command], closing: Sequence[Command]) -> Hits:
        """Both legs, and the records that they found; two round trips where little is packed."""
        from holdfast.backends.postgres.text_search import Moved  # which loads numpy

        for _ in range(_ATTEMPTS):
            try:
                return self._run(search, opening, closing)
            except Moved:
                if closing:  # in a snapshot of its own, so it is not there at all
                    self._wire.run([("ROLLBACK", ())])
                    break
        raise Corrupt(
            "A part of the search index is missing.",
            hint='`maintain("reindex")` builds it anew from the records.',
        )

    def _run(self, search: Search, opening: Sequence[Command], closing: Sequence[Command]) -> Hits:
        collection = self._planner.collections[search.collection]
        text, vector = self._legs(collection, search)
        commands = list(opening)
        if text is not None:
            commands.append(text.command())
        options = self._engine.options
        walked = vector is not None and vector.is_known_big(self._engine.hints)
        if vector is not None:
            scan = vector.scan(options.graph_rows)
            commands += vector.walk(options.ef_search) if walked else [scan]
        results = self._wire.run(commands)[len(opening) :]
        by_text: list[tuple[int, float]] = []
        if text is not None and search.text is not None:
            text.take(self._wire.rows(results[0])[0], self._wire)
            by_text = text.best(search.text, search.k)
            self._engine.packer.found(collection, self._tenant, text.fresh, text.voids, text.packed)
        by_vector: Scored = []
        if vector is not None:
            rows = self._wire.rows(results[-1])
            if walked and is_short(rows, search.k):
                walked = False
                vector.lost(self._engine.hints)
                rows = self._wire.rows(self._wire.run([vector.scan(options.graph_rows)])[0])
            rows = rows if walked else vector.learn(rows, self._engine.hints)
            by_vector = vector.scored(rows, search.minimum)
        return self._found(collection, search, by_text, by_vector, closing, exact=not walked)

    def _legs(
        self, collection: Collection, search: Search
    ) -> tuple[TextSearch | None, VectorSearch | None]:
        from holdfast.backends.postgres.text_search import TextSearch
        from holdfast.backends.postgres.vector_search import VectorSearch

        place = (self._dialect, self._planner, self._tenant, collection, search.filter)
        text, vector = None, None
        if search.text is not None and search.text.terms and search.k:
            text = TextSearch(*place, self._engine.cache)
        if search.vector is not None and search.k:
            vector = VectorSearch(*place, search.vector, search.k, self._engine.vectors)
        return text, vector

    def _found(
        self,
        collection: Collection,
        search: Search,
        by_text: list[tuple[int, float]],
        by_vector: Scored,
        closing: Sequence[Command],
        *,
        exact: bool,
    ) -> Hits:
        """The hits with their records, in one round trip."""
        columns = self._planner.columns(collection.name, search.fields)
        asked: list[Command] = []
        if by_text:
            asked.append(self._by_stamps(collection, columns.listed, [s for s, _ in by_text]))
        if by_vector:
            asked.append(self._by_keys(collection, columns.listed, [key for key, _ in by_vector]))
        results = self._wire.run([*asked, *closing]) if asked or closing else []
        read: list[Record] = []
        stamped: dict[int, Key] = {}
        for number in range(len(asked)):
            rows = self._wire.rows(results[number])
            records = decoded_all(collection, columns, rows)
            read += records
            if by_text and not number:
                keys = map(collection.key_of, records)
                stamped = {row[-1]: key for row, key in zip(rows, keys, strict=True)}
        records_by_key = {collection.key_of(record): record for record in read}
        scored = [(stamped[stamp], score) for stamp, score in by_text if stamp in stamped]
        text_hits = _hits(scored, records_by_key, search.k)
        vector_hits = _hits(by_vector, records_by_key, search.k)
        kept = {hit.key: records_by_key[hit.key] for hit in (*text_hits, *vector_hits)}
        return Hits(text_hits, vector_hits, kept, exact)

    def _by_stamps(self, collection: Collection, columns: str, stamps: list[int]) -> Command:
        keys = ", ".join(map(quoted, collection.key))
        held = " UNION ALL ".join(
            f"SELECT {keys}, stamp FROM {table} WHERE tenant = {MARK}"
            f" AND stamp = ANY({MARK}::bigint[])"
            for table in (
                terms_table(self._dialect, collection),
                packed_table(self._dialect, collection),
            )
        )
        text = (
            f"SELECT {columns}, p.stamp FROM ({held}) AS p"
            f" JOIN {self._dialect.table(collection)} AS t0 ON t0.tenant = {MARK}"
            f" AND {_joined(collection, 't0', 'p')}"
        )
        return text, [self._tenant, stamps, self._tenant, stamps, self._tenant]

    def _by_keys(self, collection: Collection, columns: str, keys: list[Key]) -> Command:
        names = [f"t0.{quoted(name)}" for name in collection.key]
        if len(names) == 1:
            where, values = f"{names[0]} = ANY({MARK})", [[key[0] for key in keys]]
        else:
            types = [_CASTS[collection.by_name[n].kind] for n in collection.key]
            arrays = ", ".join(f"{MARK}::{type}[]" for type in types)
            where = f"({', '.join(names)}) IN (SELECT * FROM unnest({arrays}))"
            values = [list(column) for column in zip(*keys, strict=True)]
        text = (
            f"SELECT {columns} FROM {self._dialect.table(collection)} AS t0"
            f" WHERE t0.tenant = {MARK} AND {where}"
        )
        return text, [self._tenant, *values]


_CASTS: Final = {
    "text": "text", "int": "bigint", "float": "double precision",
    "bool": "boolean", "time": "timestamptz", "bytes": "bytea",
}  # fmt: skip


def is_short(rows: Sequence[Any], k: int) -> bool:
    """Whether a graph gave up before k; a scan says whether there are more."""
    return len(rows) < k


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
