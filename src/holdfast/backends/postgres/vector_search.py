"""The vector leg: an exact scan of the tenant's vectors, or candidates from a graph for a big one.

A graph (pgvector's HNSW, over half-precision copies) knows nothing of tenants, so it pays for a
tenant with many vectors only. Which tenants have many is learnt: an exact scan says how many
vectors it compared, and whether there is a graph. Whatever finds them, candidates are scored anew
in double precision, and where a graph brings fewer than k, the scan decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy

from holdfast.backends.postgres.binding import MARK
from holdfast.backends.postgres.dialect import PostgresDialect, literal
from holdfast.backends.postgres.graphs import GRAPH_WIDTH_LIMIT, covered, direction, graph_name
from holdfast.backends.postgres.names import vector_table
from holdfast.backends.postgres.text_search import joined, listed
from holdfast.backends.postgres.wire import Command
from holdfast.backends.segments.cache import Cache
from holdfast.backends.sql.dialect import quoted
from holdfast.backends.sql.planner import Planner
from holdfast.core.collection import Collection
from holdfast.core.filter import EVERYTHING, Filter
from holdfast.core.ranking import exact_cosines
from holdfast.core.search import VectorLeg

Key = tuple[Any, ...]

_ROUNDING: Final = 1e-4
"""How far a float32 distance may be from the exact one; candidates are kept this far below."""
_TINY, _HUGE = 1e-15, 1e15
"""Outside of these magnitudes float32 squares under- or overflow: always a candidate."""
_SPARE: Final = 12
"""Candidates of a graph beyond k and a quarter of it: it orders by copies that are less precise.
Behind a filter each costs as many steps in the graph as there are records for one that passes."""
_CLOSE: Final = 8
"""Vectors of a small tenant read beyond k, so that rounding moves none of the best out."""
_TRUSTED: Final = 256
"""How many searches rely on what is known of a tenant's size before it is counted again."""
_RARE: Final = 20
"""Where fewer than one record in so many passes a filter, the filter comes first."""
HINT_BYTES: Final = 200
"""What one thing that is learnt takes in memory, about."""
FEW: Final = 5_000
"""A tenant with no more than this many rows is small: even a poor plan reads it quickly."""
_MANY, _BIG, _LOST = "many", "big", "lost"
"""What is known of a tenant's vectors of a space: scan them by a plan made for this tenant, walk
the graph, or rather scan. Of a small tenant: how often that is still relied on, and how many."""


class VectorSearch:
    """One vector leg of one tenant; ``vectors`` is the schema of pgvector's types."""

    def __init__(
        self,
        dialect: PostgresDialect,
        planner: Planner,
        tenant: str,
        collection: Collection,
        where: Filter,
        leg: VectorLeg,
        k: int,
        vectors: str,
    ) -> None:
        self._dialect, self._planner = dialect, planner
        self._tenant, self._collection = tenant, collection
        self._leg, self._k, self._vectors = leg, k, vectors
        self._ns = quoted(vectors)
        self.is_whole = where == EVERYTHING
        """Whether there is no filter."""
        self._shape, self._values = planner.where(tenant, collection, where)
        self._place = (
            vector_table(dialect, collection, leg.field), tenant, leg.vector.space,
            leg.vector.width,
        )  # fmt: skip

    def is_known_big(self, hints: Cache) -> bool:
        """Whether an earlier scan found many vectors here, and a graph over them."""
        return self._leg.vector.width <= GRAPH_WIDTH_LIMIT and hints.get(self._place) == _BIG

    def is_known_small(self, hints: Cache) -> bool:
        """Whether earlier searches found few, and that looking them up in order is quick."""
        known = hints.get(self._place)
        is_small = isinstance(known, tuple) and known[0] > 0
        return is_small and not hints.get((self._place, self._shape))

    def scan(self, graph_rows: int, columns: str) -> Command:
        """The nearest and all that may be as near, of all that pass the filter: their records.

        Each row has these columns, the vector, how many the tenant has, counted no further than
        matters, how many passed, and whether they are many and there is a graph.
        """
        values = self._values if not self.is_whole else []
        vector = self._leg.vector
        query = [vector.width, _query_vector(vector.data)]
        bound = [*query, *values, self._tenant, vector.space]
        count = self._dialect.limit(self._k, bound)
        shape = (self._collection.name, self._leg.field, self.is_whole or self._shape, columns)
        name = graph_name(self._dialect, self._collection, self._leg.field, *self._place[2:])
        text = self._planner.text(
            ("pg scan", *shape, count, name, graph_rows),
            lambda: self._scan(columns, count, name, graph_rows),
        )
        counted = [] if self.is_whole else [self._tenant, vector.space]
        return text, [*bound[: 4 + len(values)], *counted, *bound[4 + len(values) :], self._tenant]

    def _scan(self, columns: str, count: str, name: str, graph_rows: int) -> str:
        table = self._place[0]
        total = "SELECT held FROM counted"
        if not self.is_whole:
            total = (
                f"SELECT count(*) FROM (SELECT FROM {table} AS v WHERE v.tenant = {MARK}"
                f" AND v.space = {MARK} LIMIT {FEW + 1}) AS counted_few"
            )
        # Where a row stands, and not the vector itself, so that what is set aside stays small.
        return (
            f"WITH near AS MATERIALIZED (SELECT v.ctid AS place, v.extreme, {self._far} AS far"
            f" FROM {table} AS v{self._filtered()} WHERE v.tenant = {MARK} AND v.space = {MARK}),"
            " counted AS MATERIALIZED (SELECT count(far) AS held FROM near)"
            f" SELECT {columns}, o.data, ({total}), (SELECT held FROM counted), CASE WHEN"
            f" (SELECT held FROM counted) >= {int(graph_rows)} THEN {covered(name)} END"
            f" FROM {table} AS o JOIN {self._dialect.table(self._collection)} AS t0"
            f" ON {joined(self._collection, 't0', 'o')} WHERE o.ctid = ANY(ARRAY("
            "SELECT place FROM near WHERE far IS NOT NULL AND (extreme OR far = 'NaN' OR far <="
            " (SELECT max(far) FROM (SELECT far FROM near WHERE NOT extreme AND far <> 'NaN'"
            f" ORDER BY far LIMIT {count}) AS first) + {_ROUNDING}))) AND t0.tenant = {MARK}"
        )

    def walk(self, ef_search: int) -> list[Command]:
        """Candidates in the order of the graph, filtered before the limit.

        The planner may still find that few pass the filter, and scan those. What says which vectors
        a graph holds stands here as the very text of its definition: a bound value would not prove
        that the graph may be used. Hence the plan is made at each call.
        """
        vector, ns = self._leg.vector, self._ns
        held = f"v.space = {literal(vector.space)}"
        sized = f"{ns}.vector_dims(v.data) = {vector.width}"
        count = self._k + self._k // 4 + _SPARE
        chosen = f"SELECT v.data, {listed(self._collection, 'v')} FROM {self._place[0]} AS v"
        where = f" WHERE v.tenant = {MARK} AND {held} AND {sized}"
        ordered = direction(self._vectors, "v.data", vector.width)
        text = (
            f"(SELECT * FROM ({chosen}{self._filtered()}{where} AND NOT v.extreme ORDER BY"
            f" {ordered} OPERATOR({ns}.<=>) {MARK}::{ns}.halfvec({vector.width})"
            f" LIMIT {count}) AS near)"
            f" UNION ALL {chosen}{self._filtered()}{where} AND v.extreme"
        )
        passing = [] if self.is_whole else self._values
        own = [*passing, self._tenant]
        width = max(1, min(1_000, max(ef_search, count)))
        settings = (
            "SELECT set_config('hnsw.iterative_scan', 'relaxed_order', true),"
            f" set_config('hnsw.ef_search', '{width}', true),"
            " set_config('plan_cache_mode', 'force_custom_plan', true)"
        )
        return [(settings, ()), (text, [*own, _half(vector.data), *own])]

    def scan_few(self, columns: str) -> Command:
        """The nearest and some more of the few vectors of a small tenant, whose size is known.

        They are put in order first, and their records are looked up until enough pass the filter.
        Each row has these columns, the vector, and how far it is.
        """
        vector, (_, tenant, space, width) = self._leg.vector, self._place
        values = [width, _query_vector(vector.data), tenant, space]
        limit: list[Any] = []
        count = self._dialect.limit(self._k + _CLOSE, limit)
        values += [*limit, *self._values] if self.is_whole else [*self._values, *limit]
        text = self._planner.text(
            ("pg few", self._place[0], self._shape, columns, count),
            lambda: self._scan_few(columns, count),
        )
        return text, values

    def _scan_few(self, columns: str, count: str) -> str:
        table = self._place[0]
        # One whose distance says nothing comes first, so that it is seen and not forgotten.
        far = f"CASE WHEN v.extreme THEN '-Infinity' ELSE {self._far} END"
        keys = listed(self._collection, "v")
        inner, outer = (f" LIMIT {count}", "") if self.is_whole else ("", f" LIMIT {count}")
        return (
            f"SELECT {columns}, o.data, t0.holdfast_far FROM"
            " (SELECT t0.*, near.holdfast_place, near.holdfast_far FROM"
            f" (SELECT v.ctid AS holdfast_place, {keys}, {far} AS holdfast_far FROM {table} AS v"
            f" WHERE v.tenant = {MARK} AND v.space = {MARK}"
            f" ORDER BY holdfast_far{inner}) AS near"
            f" CROSS JOIN LATERAL (SELECT {columns} FROM"
            f" {self._dialect.table(self._collection)} AS t0"
            f" WHERE {joined(self._collection, 't0', 'near')}"
            f" AND {self._planner.condition(self._shape)} LIMIT 1) AS t0"
            f" WHERE near.holdfast_far IS NOT NULL ORDER BY near.holdfast_far{outer}) AS t0"
            f" JOIN {table} AS o ON o.ctid = t0.holdfast_place"
        )

    def is_unsure(self, rows: Sequence[tuple[Any, ...]]) -> bool:
        """Whether a `scan_few` may have left out one that is as near, but for rounding."""
        far = sorted(row[-1] for row in rows)
        if far and not far[0] >= 0.0 - _ROUNDING:  # an extreme one
            return True
        return len(far) >= self._k + _CLOSE and not far[-1] > far[self._k - 1] + _ROUNDING

    @property
    def _far(self) -> str:
        """How far a vector is; null for one of another width.

        As a condition, the width would make the planner expect one row of two hundred.
        """
        ns = self._ns
        measured = f"v.data OPERATOR({ns}.<=>) {MARK}::{ns}.vector"
        return f"CASE WHEN {ns}.vector_dims(v.data) = {MARK} THEN {measured} END"

    def _filtered(self) -> str:
        if self.is_whole:
            return ""
        return (
            f" JOIN {self._dialect.table(self._collection)} AS t0 ON t0.tenant = v.tenant AND"
            f" {joined(self._collection, 't0', 'v')} AND {self._planner.condition(self._shape)}"
        )

    def learn(self, rows: Sequence[tuple[Any, ...]], hints: Cache) -> None:
        """Note what a `scan` says of the tenant's size, and of how many pass the filter."""
        if not rows or hints.get(self._place) == _LOST:
            return
        total, passed, has_graph = rows[0][-3:]
        known = _BIG if has_graph else (_TRUSTED, total) if total <= FEW else _MANY
        hints.put(self._place, known, HINT_BYTES)
        self._note_rare(hints, rare=passed * _RARE < total)

    def trust_less(
        self, rows: Sequence[tuple[Any, ...]], hints: Cache, texts: int, *, sure: bool
    ) -> None:
        """Note another search that relied on a small size; ``texts`` is how many were found."""
        known = hints.get(self._place)
        if isinstance(known, tuple):
            left, total = known
            total = max(total, texts)
            hints.put(self._place, (left - 1 if sure and total <= FEW else 0, total), HINT_BYTES)
            self._note_rare(hints, rare=len(rows) < min(self._k + _CLOSE, total / _RARE))

    def _note_rare(self, hints: Cache, *, rare: bool) -> None:
        if not self.is_whole:
            hints.put((self._place, self._shape), rare, HINT_BYTES)

    def lost(self, hints: Cache) -> None:
        """Note that the graph gave up before k.

        Without a filter it would do so again: the tenant's vectors are too few among all others.
        """
        if self.is_whole:
            hints.put(self._place, _LOST, HINT_BYTES)

    def scored(self, vectors: Sequence[bytes], minimum: float | None) -> list[tuple[int, float]]:
        """Which of these candidates are the best k, or tie with the last; and their cosines."""
        if not vectors:
            return []
        matrix = numpy.frombuffer(b"".join(vectors), _stored(self._leg.vector.width))["data"]
        query = numpy.frombuffer(self._leg.vector.data, "<f4")
        scores = exact_cosines(matrix, query)
        least = numpy.partition(scores, -self._k)[-self._k] if scores.size > self._k else -1.0
        least = least if minimum is None else max(least, minimum)
        kept = numpy.flatnonzero(scores >= least)
        return list(zip(kept.tolist(), scores[kept].tolist(), strict=True))


def packed_vector(data: bytes) -> tuple[bytes, bool]:
    """A vector in pgvector's binary form, and whether its magnitudes are extreme."""
    numbers = numpy.frombuffer(data, "<f4")
    sizes = numpy.abs(numbers[numbers != 0])
    extreme = bool(sizes.min() < _TINY or sizes.max() > _HUGE)
    return _head(len(numbers)) + numbers.astype(">f4").tobytes(), extreme


def _stored(width: int) -> Any:
    """One vector as it is read: its head, and its numbers."""
    return numpy.dtype([("head", "S4"), ("data", ">f4", (width,))])


def _head(width: int) -> bytes:
    return width.to_bytes(2, "big") + bytes(2)


def _plain(data: bytes) -> Any:
    """The query at a plain length: a cosine does not depend on it, and float32 squares do."""
    numbers = numpy.frombuffer(data, "<f4").astype("<f8")
    # By the largest first, so that no square leaves its range.
    numbers /= numpy.abs(numbers).max()
    return numbers / numpy.sqrt((numbers * numbers).sum())


def _query_vector(data: bytes) -> bytes:
    return packed_vector(_plain(data).astype("<f4").tobytes())[0]


def _half(data: bytes) -> bytes:
    plain = _plain(data)
    halves: bytes = plain.astype(">f2").tobytes()
    return _head(plain.size) + halves
