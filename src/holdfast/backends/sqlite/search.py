"""Search over one tenant's rows: both legs exact, under one filter, as committed."""

from __future__ import annotations

import json
from typing import Any

import apsw
import numpy

from holdfast.backends.sql.planner import Planner
from holdfast.backends.sql.rows import decoded_all
from holdfast.backends.sql.terms import best, bm25_scores
from holdfast.backends.sqlite.connection import fetched
from holdfast.backends.sqlite.schema import terms_table, vector_table
from holdfast.core.collection import Collection
from holdfast.core.filter import EVERYTHING, Filter, Record
from holdfast.core.ranking import cosine_scores, exact_cosines
from holdfast.core.search import Hit, Hits, Search, TextLeg, VectorLeg

_ROUNDING = 1e-4
"""How far a float32 product may be from the exact cosine; candidates are kept this far below."""


class RowSearch:
    """Runs one search on one connection, inside one read transaction."""

    def __init__(self, connection: apsw.Connection, planner: Planner, tenant: str) -> None:
        self._connection = connection
        self._planner = planner
        self._tenant = tenant

    def run(self, search: Search) -> Hits:
        """Both legs, and the records that they found."""
        collection = self._planner.collections[search.collection]
        text = self._text(collection, search.filter, search.text, search.k)
        vector = self._vector(collection, search.filter, search.vector, search.k, search.minimum)
        read = self._records(collection, {row for row, _ in (*text, *vector)}, search.fields)
        text_hits = _hits(collection, read, text, search.k)
        vector_hits = _hits(collection, read, vector, search.k)
        by_key = {collection.key_of(record): record for record in read.values()}
        kept = {hit.key: by_key[hit.key] for hit in (*text_hits, *vector_hits)}
        return Hits(text_hits, vector_hits, kept)

    def _text(
        self, collection: Collection, where: Filter, leg: TextLeg | None, k: int
    ) -> list[tuple[int, float]]:
        if leg is None or not leg.terms or not k:
            return []
        table = terms_table(collection)
        text = f"SELECT _row, length, terms, counts FROM {table} WHERE tenant = ?"
        rows = fetched(self._connection, text, (self._tenant,))
        if not rows:
            return []
        scores, eligible = bm25_scores(rows, leg)
        numbers = numpy.fromiter((row[0] for row in rows), "i8", len(rows))
        if where != EVERYTHING:
            eligible &= numpy.isin(numbers, self._eligible(collection, where))
        return [(int(numbers[i]), float(scores[i])) for i in best(scores, eligible, k)]

    def _vector(
        self,
        collection: Collection,
        where: Filter,
        leg: VectorLeg | None,
        k: int,
        minimum: float | None,
    ) -> list[tuple[int, float]]:
        if leg is None or not k:
            return []
        rows = self._vectors(collection, where, leg)
        if not rows:
            return []
        query = numpy.frombuffer(leg.vector.data, "<f4")
        matrix = numpy.frombuffer(b"".join(row[1] for row in rows), "<f4").reshape(len(rows), -1)
        rough = cosine_scores(matrix, query)
        near = numpy.arange(len(rows))
        if len(rows) > k:
            near = numpy.flatnonzero(rough >= numpy.partition(rough, -k)[-k] - _ROUNDING)
        scores = exact_cosines(matrix[near], query)
        kept = zip(near, scores, strict=True)
        return [(rows[i][0], float(s)) for i, s in kept if minimum is None or s >= minimum]

    def _vectors(
        self, collection: Collection, where: Filter, leg: VectorLeg
    ) -> list[tuple[int, bytes]]:
        table, space = vector_table(collection, leg.field), leg.vector.space
        if where == EVERYTHING:
            text = f"SELECT _row, data FROM {table} WHERE tenant = ? AND space = ?"
            found = fetched(self._connection, text, (self._tenant, space))
        else:
            shape, values = self._planner.where(self._tenant, collection, where)
            text = (
                f"SELECT v._row, v.data FROM {self._planner.dialect.table(collection)} AS t0"
                f" JOIN {table} AS v ON v._row = t0._row"
                f" WHERE {self._planner.condition(shape)} AND v.space = ?"
            )
            found = fetched(self._connection, text, [*values, space])
        return [(row, data) for row, data in found if len(data) == len(leg.vector.data)]

    def _eligible(self, collection: Collection, where: Filter) -> Any:
        shape, values = self._planner.where(self._tenant, collection, where)
        table = self._planner.dialect.table(collection)
        text = f"SELECT t0._row FROM {table} AS t0 WHERE {self._planner.condition(shape)}"
        found = fetched(self._connection, text, values)
        return numpy.fromiter((row for (row,) in found), "i8", len(found))

    def _records(
        self, collection: Collection, rows: set[int], fields: tuple[str, ...] | None
    ) -> dict[int, Record]:
        columns = self._planner.columns(collection.name, fields)
        text = (
            f"SELECT {columns.listed}, t0._row FROM {self._planner.dialect.table(collection)} AS t0"
            " WHERE t0._row IN (SELECT value FROM json_each(?)) AND t0.tenant = ?"
        )
        found = fetched(self._connection, text, (json.dumps(sorted(rows)), self._tenant))
        records = decoded_all(collection, columns, found)
        return {row[-1]: record for row, record in zip(found, records, strict=True)}


def _hits(
    collection: Collection, records: dict[int, Record], scored: list[tuple[int, float]], k: int
) -> tuple[Hit, ...]:
    hits = [Hit(collection.key_of(records[row]), score) for row, score in scored if row in records]
    return tuple(sorted(hits, key=lambda hit: (-hit.score, hit.key))[:k])
