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

from holdfast.backends.postgres.dialect import PostgresDialect, literal
from holdfast.backends.postgres.graphs import GRAPH_WIDTH_LIMIT, covered, direction, graph_name
from holdfast.backends.postgres.schema import vector_table
from holdfast.backends.postgres.text_search import joined, listed
from holdfast.backends.postgres.wire import MARK, Command
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
_SPARE: Final = 24
"""Candidates of a graph beyond k: it orders by copies that are less precise."""
_HINT_BYTES: Final = 200
_SMALL, _BIG, _LOST = "small", "big", "lost"
"""What is known of a tenant's vectors of a space: scan them, walk the graph, or rather scan."""


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
        self._all = where == EVERYTHING
        self._shape, self._values = planner.where(tenant, collection, where)
        self._place = (
            vector_table(dialect, collection, leg.field), tenant, leg.vector.space,
            leg.vector.width,
        )  # fmt: skip

    def is_known_big(self, hints: Cache) -> bool:
        """Whether an earlier scan found many vectors here, and a graph over them."""
        return self._leg.vector.width <= GRAPH_WIDTH_LIMIT and hints.get(self._place) == _BIG

    def scan(self, graph_rows: int) -> Command:
        """The nearest and all that may be as near, of all that pass the filter."""
        ns, table = self._ns, self._place[0]
        name = graph_name(self._dialect, self._collection, self._leg.field, *self._place[2:])
        # Where a row stands, and not the vector itself, so that what is set aside stays small.
        text = (
            "WITH near AS MATERIALIZED (SELECT v.ctid AS place, v.extreme,"
            f" v.data OPERATOR({ns}.<=>) {MARK}::{ns}.vector AS far FROM {table} AS v"
            f"{self._filtered()} WHERE v.tenant = {MARK} AND v.space = {MARK}"
            f" AND {ns}.vector_dims(v.data) = {MARK}), counted AS MATERIALIZED"
            " (SELECT count(*) AS held FROM near)"
            f" SELECT (SELECT held FROM counted), CASE WHEN (SELECT held FROM counted) >="
            f" {int(graph_rows)} THEN {covered(name)} END,"
            f" o.data, {listed(self._collection, 'o')} FROM {table} AS o WHERE o.ctid = ANY(ARRAY("
            "SELECT place FROM near WHERE extreme OR far = 'NaN' OR far <= (SELECT max(far) FROM"
            " (SELECT far FROM near WHERE NOT extreme AND far <> 'NaN' ORDER BY far"
            f" LIMIT {MARK}) AS first) + {_ROUNDING}))"
        )
        vector = self._leg.vector
        passing = [] if self._all else self._values
        bound = [
            _query_vector(vector.data), *passing, self._tenant, vector.space, vector.width, self._k,
        ]  # fmt: skip
        return text, bound

    def walk(self, ef_search: int) -> list[Command]:
        """Candidates in the order of the graph, filtered before the limit.

        The planner may still find that few pass the filter, and scan those. What says which vectors
        a graph holds stands here as the very text of its definition: a bound value would not prove
        that the graph may be used. Hence the plan is made at each call.
        """
        vector, ns = self._leg.vector, self._ns
        held = f"v.space = {literal(vector.space)}"
        sized = f"{ns}.vector_dims(v.data) = {vector.width}"
        count = 2 * self._k + _SPARE
        chosen = f"SELECT v.data, {listed(self._collection, 'v')} FROM {self._place[0]} AS v"
        where = f" WHERE v.tenant = {MARK} AND {held} AND {sized}"
        ordered = direction(self._vectors, "v.data", vector.width)
        text = (
            f"(SELECT * FROM ({chosen}{self._filtered()}{where} AND NOT v.extreme ORDER BY"
            f" {ordered} OPERATOR({ns}.<=>) {MARK}::{ns}.halfvec({vector.width})"
            f" LIMIT {count}) AS near)"
            f" UNION ALL {chosen}{self._filtered()}{where} AND v.extreme"
        )
        passing = [] if self._all else self._values
        own = [*passing, self._tenant]
        width = max(1, min(1_000, max(ef_search, count)))
        settings = (
            "SELECT set_config('hnsw.iterative_scan', 'relaxed_order', true),"
            f" set_config('hnsw.ef_search', '{width}', true),"
            " set_config('plan_cache_mode', 'force_custom_plan', true)"
        )
        return [(settings, ()), (text, [*own, _half(vector.data), *own])]

    def _filtered(self) -> str:
        if self._all:
            return ""
        return (
            f" JOIN {self._dialect.table(self._collection)} AS t0 ON t0.tenant = v.tenant AND"
            f" {joined(self._collection, 't0', 'v')} AND {self._planner.condition(self._shape)}"
        )

    def learn(self, rows: Sequence[tuple[Any, ...]], hints: Cache) -> list[tuple[Any, ...]]:
        """The candidates of a `scan`, after noting what it says of the tenant's size."""
        if rows and (rows[0][1] or self._all) and hints.get(self._place) != _LOST:
            hints.put(self._place, _BIG if rows[0][1] else _SMALL, _HINT_BYTES)
        return [row[2:] for row in rows]

    def lost(self, hints: Cache) -> None:
        """Note that the graph gave up before k.

        Without a filter it would do so again: the tenant's vectors are too few among all others.
        """
        if self._all:
            hints.put(self._place, _LOST, _HINT_BYTES)

    def scored(
        self, rows: Sequence[tuple[Any, ...]], minimum: float | None
    ) -> list[tuple[Key, float]]:
        """Keys with their exact cosines."""
        if not rows:
            return []
        matrix = numpy.frombuffer(b"".join(row[0][4:] for row in rows), ">f4")
        query = numpy.frombuffer(self._leg.vector.data, "<f4")
        scores = exact_cosines(matrix.reshape(len(rows), -1), query)
        kept = zip(rows, scores, strict=True)
        return [(row[1:], float(s)) for row, s in kept if minimum is None or s >= minimum]


def packed_vector(data: bytes) -> tuple[bytes, bool]:
    """A vector in pgvector's binary form, and whether its magnitudes are extreme."""
    numbers = numpy.frombuffer(data, "<f4")
    sizes = numpy.abs(numbers[numbers != 0])
    extreme = bool(sizes.min() < _TINY or sizes.max() > _HUGE)
    return _head(len(numbers)) + numbers.astype(">f4").tobytes(), extreme


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
