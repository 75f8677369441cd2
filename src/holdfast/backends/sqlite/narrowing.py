"""A search's filter as SQL: over all rows, or over candidates by row number."""

from __future__ import annotations

from typing import Any

import apsw
import numpy

from holdfast.backends.sql.planner import Planner
from holdfast.backends.sqlite.connection import fetched
from holdfast.backends.sqlite.covers import copied_fields
from holdfast.backends.sqlite.schema import vector_table
from holdfast.core.collection import Collection
from holdfast.core.filter import EVERYTHING, And, Compare, Filter, In, IsNull
from holdfast.core.search import VectorLeg


class Narrowing:
    """Which rows of a tenant a search may find."""

    def __init__(
        self,
        connection: apsw.Connection,
        planner: Planner,
        tenant: str,
        collection: Collection,
        where: Filter,
    ) -> None:
        self._connection = connection
        self.all = where == EVERYTHING
        self.tenant = tenant
        self.collection = collection
        self._table = planner.dialect.table(collection)
        shape, self._values = planner.where(tenant, collection, where)
        self._shape = shape
        self._planner = planner
        self.hints = self._hinted(where)
        """Fields of which segments hold copies, and the values that the filter asks of them."""
        parts = where.parts if isinstance(where, And) else (where,)
        self.is_hinted = len(self.hints) == len(parts)
        """Whether that is all that the filter asks."""

    def _hinted(self, where: Filter) -> dict[str, list[Any]]:
        if isinstance(where, And):
            hints: dict[str, list[Any]] = {}
            for part in where.parts:
                hints |= self._hinted(part)
            return hints
        values: list[Any] = []
        if isinstance(where, Compare) and where.op == "eq":
            values = [where.value]
        elif isinstance(where, In):
            values = list(where.values)
        elif isinstance(where, IsNull):
            values = [None]
        if not isinstance(where, Compare | In | IsNull) or not values:
            return {}
        if where.field not in copied_fields(self.collection):
            return {}
        encode = self._planner.encode
        return {where.field: [encode(self.collection, where.field, value) for value in values]}

    def eligible(self) -> Any:
        """Every row that passes, in the order of their numbers."""
        text = self._text("eligible", f"SELECT t0._row FROM {self._table} AS t0 WHERE ")
        found = fetched(self._connection, text, self._values)
        rows = numpy.fromiter((row for (row,) in found), "i8", len(found))
        rows.sort()
        return rows

    def passing(self, rows: Any) -> Any:
        """Those of ``rows`` that pass, in the order of their numbers."""
        if self.all or not rows.size:
            return numpy.sort(rows)
        text = self._text(
            "passing",
            f"SELECT t0._row FROM carray(?) AS c CROSS JOIN {self._table} AS t0"
            " ON t0._row = c.value WHERE ",
        )
        wanted = numpy.sort(rows).astype("i8")
        found = fetched(self._connection, text, [apsw.carray(wanted), *self._values])
        return numpy.fromiter((row for (row,) in found), "i8", len(found))

    def vectors(
        self, leg: VectorLeg, rows: Any = None, *, unasked: bool = False
    ) -> tuple[Any, Any]:
        """The rows that pass and have a vector to compare, and these as a matrix.

        Of all rows, or of ``rows``; these ``unasked`` whether they pass.
        """
        if rows is not None and not rows.size:
            return rows, numpy.empty((0, leg.vector.width), "f4")
        text, values = self._vector_statement(leg, among=rows is not None, unasked=unasked)
        if rows is not None:
            values = [apsw.carray(numpy.sort(rows).astype("i8")), *values]
        size = len(leg.vector.data)
        found = [one for one in fetched(self._connection, text, values) if len(one[1]) == size]
        data = b"".join(one[1] for one in found)
        numbers = numpy.fromiter((one[0] for one in found), "i8", len(found))
        return numbers, numpy.frombuffer(data, "<f4").reshape(len(found), leg.vector.width)

    def _vector_statement(
        self, leg: VectorLeg, *, among: bool, unasked: bool
    ) -> tuple[str, list[Any]]:
        table, space = vector_table(self.collection, leg.field), leg.vector.space
        if self.all or unasked:
            joined = f"carray(?) AS c CROSS JOIN {table} AS v ON v._row = c.value"
            source = joined if among else f"{table} AS v"
            text = f"SELECT v._row, v.data FROM {source} WHERE v.tenant = ? AND v.space = ?"
            return text, [self.tenant, space]
        source = f"{self._table} AS t0 JOIN {table} AS v ON v._row = t0._row"
        if among:
            source = (
                f"carray(?) AS c CROSS JOIN {self._table} AS t0 ON t0._row = c.value"
                f" CROSS JOIN {table} AS v ON v._row = c.value"
            )
        kind = ("vectors", leg.field, among)
        text = self._text(kind, f"SELECT v._row, v.data FROM {source} WHERE v.space = ? AND ")
        return text, [space, *self._values]

    def _text(self, kind: Any, head: str) -> str:
        """A statement that ends with the filter's condition."""
        shape = ("search", kind, self.collection.name, self._shape)
        return self._planner.text(shape, lambda: head + self._planner.condition(self._shape))
