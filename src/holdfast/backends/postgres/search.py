"""One search: both legs under one filter, in one batch.

Texts are BM25 over packed segments and what is fresh (`text_search`), vectors an exact scan or
candidates of a graph (`vector_search`); scores are those of the contract, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from holdfast.backends.postgres.binding import MARK
from holdfast.backends.postgres.dialect import PostgresDialect
from holdfast.backends.postgres.names import terms_table, vector_table
from holdfast.backends.postgres.options import Options
from holdfast.backends.postgres.packer import Packer
from holdfast.backends.postgres.planning import PLANNED, UNPLANNED
from holdfast.backends.postgres.wire import Batch, Command, Wire
from holdfast.backends.segments.cache import Cache
from holdfast.backends.sql.dialect import quoted
from holdfast.backends.sql.planner import Planner
from holdfast.backends.sql.rows import decoded_all
from holdfast.core.errors import Corrupt
from holdfast.core.filter import Record
from holdfast.core.search import Hit, Hits, RecordSet, Search

if TYPE_CHECKING:
    from holdfast.backends.postgres.text_search import TextSearch
    from holdfast.backends.postgres.vector_search import VectorSearch

Key = tuple[Any, ...]
Scored = list[tuple[Key, float]]

_HINTS_BYTES: Final = 4 * 1024 * 1024
_ATTEMPTS: Final = 4


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


@dataclass(frozen=True)
class RowSearch:
    """One search on one connection, inside one read transaction.

    ``opening`` begins it and binds it to its tenant; ``closing`` ends it, and is empty inside a
    transaction of others.
    """

    wire: Wire
    engine: Engine
    tenant: str
    search: Search
    opening: Sequence[Command]
    closing: Sequence[Command]

    def run(self) -> Hits:
        """Both legs, and the records that they found."""
        from holdfast.backends.postgres.text_search import Moved  # which loads numpy

        careful = False
        for _ in range(_ATTEMPTS):
            try:
                return _Attempt(self, careful=careful).run()
            except Unsure:
                careful = True
                self._end(self.closing)
            except Moved:
                if self.closing:  # in a snapshot of its own, so it is not there at all
                    self._end([("ROLLBACK", ())])
                    break
        raise Corrupt(
            "A part of the search index is missing.",
            hint='`maintain("reindex")` builds it anew from the records.',
        )

    def _end(self, closing: Sequence[Command]) -> None:
        if self.closing and self.wire.is_in_transaction():
            self.wire.run(closing)


class Unsure(Exception):
    """What an attempt relied on did not hold; its transaction may be over."""


class _Attempt:
    """Both legs as one batch, and what that left open in a second one.

    The first answer says which texts there are. They are ranked here while the server looks for
    vectors, and the records of the best are asked for behind that. A ``careful`` attempt relies on
    nothing that was learnt, and is never Unsure.
    """

    def __init__(self, of: RowSearch, *, careful: bool) -> None:
        self._wire, self._engine, self._tenant = of.wire, of.engine, of.tenant
        self._planner, self._dialect = of.engine.planner, of.engine.dialect
        self._search, self._opening, self._closing = of.search, of.opening, of.closing
        self._collection = of.engine.planner.collections[of.search.collection]
        self._columns = of.engine.planner.columns(
            of.search.collection, of.search.fields, revision=False
        )
        self._careful = careful
        is_analyzed = self._collection.name in of.engine.analyzed
        self._asks_statistics = bool(of.closing) and not is_analyzed
        self._is_planned = False if of.closing and is_analyzed else None
        """Whether `PLANNED` holds. None where it must not: without statistics, and in a transaction
        of others, in which it would stay."""
        self._near: Scored = []
        self._records: dict[Key, Record] = {}
        self._by_text: list[tuple[Any, ...]] | None = None
        """What the text leg found, once that was asked for."""
        self._set_legs()

    def _set_legs(self) -> None:
        from holdfast.backends.postgres.text_search import TextSearch
        from holdfast.backends.postgres.vector_search import VectorSearch

        search, engine = self._search, self._engine
        place = (self._dialect, self._planner, self._tenant, self._collection, search.filter)
        self._text: TextSearch | None = None
        self._vector: VectorSearch | None = None
        self._walks = self._scans_few = self._fell_short = False
        if search.text is not None and search.text.terms and search.k:
            self._text = TextSearch(*place, search.text, search.k, engine.cache)
        if search.vector is not None and search.k:
            self._vector = VectorSearch(*place, search.vector, search.k, engine.vectors)
            self._walks = self._vector.is_known_big(engine.hints)
            self._scans_few = not self._careful and self._vector.is_known_small(engine.hints)

    def run(self) -> Hits:
        """The hits. Unsure where another attempt must be careful, Moved where one must be made."""
        text, vector = self._text, self._vector
        state: tuple[Any, ...] = ()
        is_ranked = text is None
        with self._wire.batch() as batch:
            self._send_legs(batch)
            if text is not None:
                state = self._take(batch)[0]
                is_ranked = self._rank(text, state, None)
                if is_ranked:
                    self._send_fetch(batch, text)
            ends = is_ranked and not self._walks and (text is None or self._is_relied_on(text))
            batch.send(self._closing if ends else (), answers=False)
            batch.sync()
            if vector is not None:
                self._note_nearest(vector, self._take(batch))
            for answer in batch.end():
                self._by_text = self._wire.rows(answer)
        if text is not None and not is_ranked:
            self._rank(text, state, self._wire)
        if ends:
            self._require_enough()
        else:
            self._complete()
        return self._hits()

    # --- the batch

    def _send_legs(self, batch: Batch) -> None:
        """Begin, and have the server look up the texts and then look for vectors."""
        batch.send(self._opening, answers=False)
        if self._asks_statistics:
            batch.send([self._statistics()])
        if self._text is not None:
            batch.send(self._planned(True), answers=False)
            batch.send([self._text.command()])
            batch.flush()
        if self._vector is not None:
            *before, asked = self._nearest(self._vector)
            batch.send(before, answers=False)
            batch.send([asked])
            if self._walks:  # which has its plan made at each call
                batch.send(UNPLANNED[:1], answers=False)
            if self._text is not None:
                batch.flush()

    def _take(self, batch: Batch) -> list[tuple[Any, ...]]:
        """The rows of the next answer."""
        if self._asks_statistics:
            self._asks_statistics = False
            if self._wire.rows(batch.take())[0][0]:
                self._engine.analyzed.add(self._collection.name)
        return self._wire.rows(batch.take())

    def _statistics(self) -> Command:
        """Whether the server has statistics of the tables that are read."""
        collection, dialect = self._collection, self._dialect
        tables = [dialect.table(collection)]
        tables += [terms_table(dialect, collection)] if collection.full_text else []
        tables += [vector_table(dialect, collection, name) for name in collection.vectors]
        text = (
            "SELECT bool_and(c.reltuples >= 0) FROM pg_catalog.pg_class AS c"
            f" WHERE c.oid = ANY({MARK}::regclass[])"
        )
        return text, [tables]

    def _planned(self, planned: bool) -> Sequence[Command]:
        """What makes the server plan once for all, or anew, from here on."""
        if self._is_planned is None or self._is_planned == planned:
            return ()
        self._is_planned = planned
        return PLANNED if planned else UNPLANNED

    # --- texts

    def _rank(self, text: TextSearch, state: tuple[Any, ...], wire: Wire | None) -> bool:
        """Rank the texts of this state; False where memory lacks something and there is no wire."""
        from holdfast.backends.postgres.text_search import NotHeld

        try:
            text.take(state, wire)
            text.rank()
        except NotHeld:
            return False
        counts = text.fresh, text.voids, text.packed
        self._engine.packer.found(self._collection, self._tenant, *counts)
        return True

    def _send_fetch(self, batch: Batch, text: TextSearch) -> None:
        """Ask for the records of the best that were ranked."""
        self._by_text = []
        fetch = text.fetch(self._columns.listed)
        if fetch is not None:
            batch.send(self._planned(not self._is_big(text)), answers=False)
            batch.send([fetch])

    def _is_big(self, text: TextSearch) -> bool:
        """Whether a plan for the average tenant is no good for this one."""
        from holdfast.backends.postgres.vector_search import FEW

        return text.fresh + text.packed > FEW

    def _is_relied_on(self, text: TextSearch) -> bool:
        """Whether the first fetch is taken to bring k behind the filter, as it mostly does."""
        failed = self._careful or self._engine.hints.get((text.place, "narrow"))
        return text.is_last or not failed

    def _require_enough(self) -> None:
        """Unsure where the first fetch was relied on and is not enough."""
        from holdfast.backends.postgres.vector_search import HINT_BYTES

        text = self._text
        if text is not None and not text.is_enough(len(self._by_text or ())):
            self._engine.hints.put((text.place, "narrow"), True, HINT_BYTES)
            raise Unsure

    # --- vectors

    def _nearest(self, vector: VectorSearch) -> list[Command]:
        """The statement that looks for the nearest, behind what it needs."""
        options = self._engine.options
        if self._scans_few:
            return [*self._planned(True), vector.scan_few(self._columns.listed)]
        settings = self._planned(False)
        if self._walks:
            return [*settings, *vector.walk(options.ef_search)]
        return [*settings, vector.scan(options.graph_rows, self._columns.listed)]

    def _note_nearest(self, vector: VectorSearch, rows: list[tuple[Any, ...]]) -> None:
        """Score what was found, and learn from it. Unsure where some may be missing."""
        hints = self._engine.hints
        if self._walks:
            self._fell_short = is_short(rows, self._search.k)
            if self._fell_short:
                vector.lost(hints)
            else:
                scored = vector.scored([row[0] for row in rows], self._search.minimum)
                self._near = [(rows[at][1:], score) for at, score in scored]
        elif self._scans_few:
            is_sure = not vector.is_unsure(rows)
            texts = 0 if self._text is None else self._text.fresh + self._text.packed
            vector.trust_less(rows, hints, texts, sure=is_sure)
            if not is_sure:
                raise Unsure
            self._note_scanned(vector, rows, -2)
        else:
            vector.learn(rows, hints)
            self._note_scanned(vector, rows, -4)

    def _note_scanned(self, vector: VectorSearch, rows: list[tuple[Any, ...]], place: int) -> None:
        """The best of rows that are whole records; ``place`` is where each has its vector."""
        scored = vector.scored([row[place] for row in rows], self._search.minimum)
        found = self._keyed([rows[at] for at, _ in scored])
        self._near = [(key, s) for (key, _), (_, s) in zip(found, scored, strict=True)]
        self._records |= found

    # --- what the batch left open

    def _complete(self) -> None:
        """The nearest where a graph fell short, records that are missing, texts further down."""
        text, vector = self._text, self._vector
        if vector is not None and self._fell_short:
            self._walks = False
            scan = vector.scan(self._engine.options.graph_rows, self._columns.listed)
            rows = self._wire.rows(self._wire.run([*self._planned(False), scan])[-1])
            vector.learn(rows, self._engine.hints)
            self._note_scanned(vector, rows, -4)
        missing = [key for key, _ in self._near if key not in self._records]
        while True:
            goes_on = text is not None and not self._has_enough(text)
            is_last = text is None or not goes_on or text.is_last
            self._ask_more(text if goes_on else None, missing, self._closing if is_last else ())
            missing = []
            if is_last:
                return

    def _has_enough(self, text: TextSearch) -> bool:
        """Whether the last fetch brought enough; else the next one goes further."""
        if self._by_text is None:
            return False
        if text.is_enough(len(self._by_text)):
            return True
        text.widen(len(self._by_text), self._wire)
        return False

    def _ask_more(
        self, text: TextSearch | None, missing: list[Key], closing: Sequence[Command]
    ) -> None:
        if text is None and not missing and not closing:
            return
        with self._wire.batch() as batch:
            if missing:
                # Those of a graph are of a big tenant.
                batch.send(self._planned(False), answers=False)
                batch.send([self._by_keys(self._columns.listed, missing)])
            if text is not None:
                self._send_fetch(batch, text)
            batch.send(closing, answers=False)
            batch.sync()
            if missing:
                self._records |= self._keyed(self._wire.rows(batch.take()))
            for answer in batch.end():
                self._by_text = self._wire.rows(answer)

    def _hits(self) -> Hits:
        by_text: Scored = []
        if self._text is not None and self._by_text:
            found = self._keyed(self._by_text)
            self._records |= found
            scores = self._text.scores
            pairs = zip(found, self._by_text, strict=True)
            by_text = [(key, scores[row[-1]]) for (key, _), row in pairs]
        k, records = self._search.k, self._records
        by_words, by_vector = (_best(scored, records, k) for scored in (by_text, self._near))
        kept = {hit.key: records[hit.key] for hit in (*by_words, *by_vector)}
        return Hits(by_words, by_vector, RecordSet.of(kept), not self._walks)

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


def _best(scored: Scored, records: dict[Key, Record], k: int) -> tuple[Hit, ...]:
    hits = [Hit(key, score) for key, score in scored if key in records]
    return tuple(sorted(hits, key=lambda hit: (-hit.score, hit.key))[:k])
