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
from holdfast.backends.postgres.schema import terms_table, vector_table, void
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
    from psycopg.pq.abc import PGresult

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
        self.analyzed: set[str] = set()
        """Collections whose tables the server has statistics of."""


PLANNED: Final[Command] = (
    (
        "SELECT set_config('plan_cache_mode', 'force_generic_plan', true),"
        " set_config('enable_seqscan', 'off', true)"
    ),
    (),
)
"""For what reads little: to plan it takes twice the time of doing it, so one plan serves for all
tenants. It must be by indexes, whatever the average tenant is like, and needs statistics: of a
table that was never analyzed the server may think that any index is as good as that of the key."""


class RowSearch:
    """Runs one search on one connection, inside one read transaction.

    ``opening`` begins it and binds it to its tenant; ``closing`` ends it, and is empty inside a
    transaction of others.
    """

    def __init__(
        self,
        wire: Wire,
        engine: Engine,
        tenant: str,
        search: Search,
        opening: Sequence[Command],
        closing: Sequence[Command],
    ) -> None:
        self._wire, self._engine, self._tenant = wire, engine, tenant
        self._planner, self._dialect = engine.planner, engine.dialect
        self._search, self._opening, self._closing = search, opening, closing
        self._collection = engine.planner.collections[search.collection]
        self._columns = engine.planner.columns(search.collection, search.fields)

    def run(self) -> Hits:
        """Both legs, and the records that they found: mostly in two round trips."""
        from holdfast.backends.postgres.text_search import Moved  # which loads numpy

        for _ in range(_ATTEMPTS):
            try:
                return self._run()
            except Moved:
                if self._closing:  # in a snapshot of its own, so it is not there at all
                    self._wire.run([("ROLLBACK", ())])
                    break
        raise Corrupt(
            "A part of the search index is missing.",
            hint='`maintain("reindex")` builds it anew from the records.',
        )

    def _run(self) -> Hits:
        text, vector = self._legs()
        hints = self._engine.hints
        walked = vector is not None and vector.is_known_big(hints)
        few = vector is not None and vector.is_known_small(hints)
        by_vector, by_text = self._ask(text, vector, walked=walked, few=few)
        wanted = self._search.text
        if text is not None and wanted is not None:
            text.take(self._wire.rows(by_text)[0], self._wire)
            text.rank(wanted, self._search.k)
            counts = text.fresh, text.voids, text.packed
            self._engine.packer.found(self._collection, self._tenant, *counts)
        near: Scored = []
        records: dict[Key, Record] = {}
        if vector is not None:
            count = 0 if text is None else text.fresh + text.packed
            rows = self._wire.rows(by_vector)
            if walked and not is_short(rows, self._search.k):
                scored = vector.scored([row[0] for row in rows], self._search.minimum)
                near = [(rows[at][1:], score) for at, score in scored]
            else:
                near, records = self._scanned(vector, rows, count, walked=walked, few=few)
                walked = False
        return self._read(text, near, records, exact=not walked)

    def _legs(self) -> tuple[TextSearch | None, VectorSearch | None]:
        from holdfast.backends.postgres.text_search import TextSearch
        from holdfast.backends.postgres.vector_search import VectorSearch

        search = self._search
        place = (self._dialect, self._planner, self._tenant, self._collection, search.filter)
        text, vector = None, None
        if search.text is not None and search.text.terms and search.k:
            text = TextSearch(*place, self._engine.cache)
        if search.vector is not None and search.k:
            vector = VectorSearch(*place, search.vector, search.k, self._engine.vectors)
        return text, vector

    def _ask(
        self, text: TextSearch | None, vector: VectorSearch | None, *, walked: bool, few: bool
    ) -> tuple[Any, Any]:
        """What the server answers the vector leg, and what the text leg."""
        asked: list[Command] = []
        if vector is not None:
            options, listed = self._engine.options, self._columns.listed
            scan = vector.scan_few(listed) if few else vector.scan(options.graph_rows, listed)
            asked = vector.walk(options.ef_search) if walked else [scan]
        # Settings hold for what comes after them: to read much, a plan is worth making anew.
        planned = self._settings()
        before = len(planned) if few else 0
        ordered = [*planned[:before], *asked, *planned[before:]]
        commands = [*self._opening, *ordered, *([text.command()] if text else ())]
        results = self._wire.run(commands)
        self._learn_statistics(planned, results[len(self._opening) :])
        return results[len(self._opening) + before + len(asked) - 1], results[-1]

    def _settings(self) -> list[Command]:
        """`PLANNED`; or, until it is known that there are statistics, the question."""
        if not self._closing:  # a transaction of others, in which settings would stay
            return []
        if self._collection.name in self._engine.analyzed:
            return [PLANNED]
        collection, dialect = self._collection, self._dialect
        tables = [dialect.table(collection)]
        tables += [terms_table(dialect, collection)] if collection.full_text else []
        tables += [vector_table(dialect, collection, name) for name in collection.vectors]
        text = (
            "SELECT bool_and(c.reltuples >= 0) FROM pg_catalog.pg_class AS c"
            f" WHERE c.oid = ANY({MARK}::regclass[])"
        )
        return [(text, [tables])]

    def _learn_statistics(self, planned: list[Command], results: list[PGresult]) -> None:
        if planned and planned[0] is not PLANNED:
            answer = next(r for r in results if r.fname(0) == b"bool_and")
            if self._wire.rows(answer)[0][0]:
                self._engine.analyzed.add(self._collection.name)

    def _scanned(
        self,
        vector: VectorSearch,
        rows: list[tuple[Any, ...]],
        count: int,
        *,
        walked: bool,
        few: bool,
    ) -> tuple[Scored, dict[Key, Record]]:
        """The best of a scan, and their records; the scan is made here where another fell short."""
        hints = self._engine.hints
        if walked:
            vector.lost(hints)
        again = walked
        if few:
            again = vector.is_unsure(rows)
            vector.trust_less(rows, hints, count, sure=not again)
        if again:
            scan = vector.scan(self._engine.options.graph_rows, self._columns.listed)
            rows = self._wire.rows(self._wire.run([scan])[0])
        if again or not few:
            vector.learn(rows, hints)
        place = -4 if again or not few else -2
        scored = vector.scored([row[place] for row in rows], self._search.minimum)
        found = self._keyed([rows[at] for at, _ in scored])
        near = [(key, s) for (key, _), (_, s) in zip(found, scored, strict=True)]
        return near, dict(found)

    def _read(
        self, text: TextSearch | None, near: Scored, records: dict[Key, Record], *, exact: bool
    ) -> Hits:
        """The hits with the records that are missing, mostly in one round trip."""
        from holdfast.backends.postgres.text_search import UNPLANNED
        from holdfast.backends.postgres.vector_search import FEW

        missing = [key for key, _ in near if key not in records]
        # Those of a graph are of a big tenant, and for that a plan for the average one is no good.
        many = bool(missing) or (text is not None and text.fresh + text.packed > FEW)
        settings = list(UNPLANNED) if many and self._closing else []
        asked = [self._by_keys(self._columns.listed, missing)] if missing else []
        by_text: Scored = []
        while True:
            fetch = None if text is None else text.fetch(self._columns.listed)
            last = text is None or text.is_last
            wanted = [*asked, *([fetch] if fetch else [])]
            commands = [*settings, *wanted, *(self._closing if last else ())]
            results = self._wire.run(commands)[len(settings) :] if commands else []
            if asked:
                records |= self._keyed(self._wire.rows(results[0]))
            rows = self._wire.rows(results[len(asked)]) if fetch else []
            if text is None or text.is_done(len(rows)):
                break
            asked, settings = [], []
        if text is not None:
            found = self._keyed(rows)
            records |= found
            scores = text.scores
            by_text = [(k, scores[row[-1]]) for (k, _), row in zip(found, rows, strict=True)]
        if not last and self._closing:
            self._wire.run(self._closing)
        by_words, by_vector = (_hits(s, records, self._search.k) for s in (by_text, near))
        kept = {hit.key: records[hit.key] for hit in (*by_words, *by_vector)}
        return Hits(by_words, by_vector, kept, exact)

    def _keyed(self, rows: list[tuple[Any, ...]]) -> list[tuple[Key, Record]]:
        """The records in rows, each with its key."""
        read = decoded_all(self._collection, self._columns, rows)
        return [(self._collection.key_of(record), record) for record in read]

    def _by_keys(self, columns: str, keys: list[Key]) -> Command:
        collection = self._collection
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
