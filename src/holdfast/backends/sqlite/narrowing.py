"""A search's filter as SQL: over all rows, or over candidates by row number."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple

import apsw
import numpy

from holdfast.backends.segments.included import Included
from holdfast.backends.sql.planner import Planner
from holdfast.backends.sql.rows import UNREADABLE, decoded_rows
from holdfast.backends.sqlite.connection import fetched
from holdfast.backends.sqlite.covers import is_copied
from holdfast.backends.sqlite.schema import vector_table
from holdfast.core.collection import Collection
from holdfast.core.filter import EVERYTHING, And, Compare, Filter, In, IsNull
from holdfast.core.search import VectorLeg

Columns = list[Sequence[Any]]
"""Values by field."""


class Copies(NamedTuple):
    """Copies of included fields, and the rows, rising, whose copies do not count."""

    included: Included
    void: Any

    def find(self, rows: Any) -> tuple[Any, Any]:
        """Which of ``rows`` have copies that count, as a mask, and the places of these."""
        return self.included.find(rows, self.void)


class Narrowing:
    """Which rows of a tenant a search may find."""

    def __init__(
        self,
        connection: apsw.Connection,
        planner: Planner,
        tenant: str,
        collection: Collection,
        where: Filter,
        fields: tuple[str, ...] | None = None,
    ) -> None:
        self._connection = connection
        self._where = where
        self._read = planner.columns(collection.name, fields, revision=False)
        # A few fields are read of every row that is asked whether it passes: it is at hand then.
        self._reads_along = fields is not None
        self._columns = self._read if self._reads_along else planner.columns(collection.name, ())
        self._passed: dict[int, tuple[Any, ...] | None] = {}
        """Rows that were asked, and what was read of those that pass."""
        self.all = where == EVERYTHING
        self.tenant = tenant
        self.collection = collection
        self._table = planner.dialect.table(collection)
        shape, self._values = planner.where(tenant, collection, where)
        self._shape = shape
        self._planner = planner
        self.hints = self._hinted(where)
        """Fields of which segments hold copies, and the values that the filter asks of them."""
        self.hinted = tuple((name, tuple(values)) for name, values in self.hints.items())
        """The same, to look up by."""
        self.is_hinted = len(self.hints) == _leaves(where)
        """Whether they say all that the filter does."""
        self._copies: Copies | None = None

    def use(self, copies: Copies) -> None:
        """Ask copies before the rows."""
        self._copies = copies

    @cached_property
    def is_included(self) -> bool:
        """Whether copies answer for all fields that the filter and the search ask for."""
        if self._copies is None:
            return False
        included = self._copies.included
        try:
            return included.has(self.names) and included.passing(self._where, _NO_ROWS) is not None
        except UNREADABLE:
            return False

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
        if not is_copied(self.collection, where.field):
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

    def passes(self, rows: Any) -> Any:
        """Which of ``rows`` pass, as a mask."""
        if self.all or not rows.size:
            return numpy.ones(rows.size, bool)
        if self._copies is None or not self.is_included:
            return self._asked(rows)
        held, at = self._copies.find(rows)
        try:
            told = self._copies.included.passing(self._where, at)
        except UNREADABLE:  # in SQL such a value is compared as it lies
            return self._asked(rows)
        if at.size == rows.size:
            return told
        mask = numpy.empty(rows.size, bool)
        mask[held], mask[~held] = told, self._asked(rows[~held])
        return mask

    def _asked(self, rows: Any) -> Any:
        """The same, by a look at the rows."""
        listed, passed = rows.tolist(), self._passed
        new = [row for row in listed if row not in passed] if passed else listed
        if new:
            text = self._text(
                ("passing", self._columns.names),
                f"SELECT {self._columns.listed}, t0._row FROM carray(?) AS c"
                f" CROSS JOIN {self._table} AS t0 ON t0._row = c.value WHERE ",
                picked=True,
            )
            # In their order, since rows that lie together are read together.
            values = [apsw.carray(numpy.array(sorted(new), "i8")), *self._values]
            passed.update(dict.fromkeys(new))
            passed.update({row[-1]: row for row in fetched(self._connection, text, values)})
        return numpy.array([passed[row] is not None for row in listed], bool)

    @property
    def names(self) -> tuple[str, ...]:
        """What `values` gives of a row, in this order."""
        return self._read.names

    def values(self, rows: Any) -> tuple[list[int], Columns]:
        """What the search asked for of these rows, which rise and were found to pass: by field.

        Before it, the rows that are there still, in the order of the values.
        """
        if self._copies is None or not self.is_included:
            return self._looked_up(rows.tolist())
        held, at = self._copies.find(rows)
        try:
            read: Columns = [self._copies.included.values(name, at) for name in self.names]
        except UNREADABLE:  # which of the rows it is, they will tell
            return self._looked_up(rows.tolist())
        if at.size == rows.size:
            return rows.tolist(), read
        others, further = self._looked_up(rows[~held].tolist())
        read = [[*one, *other] for one, other in zip(read, further, strict=True)]
        return [*rows[held].tolist(), *others], read

    def _looked_up(self, rows: list[int]) -> tuple[list[int], Columns]:
        """The same, from the rows."""
        held = self._passed if self._reads_along else {}
        read = [row for one in rows if (row := held.get(one)) is not None]
        missing = [one for one in rows if held.get(one) is None]
        if missing:
            text = (
                f"SELECT {self._read.listed}, t0._row FROM carray(?) AS c CROSS JOIN"
                # The plus keeps the planner from going through all the tenant's rows by an index.
                f" {self._table} AS t0 ON t0._row = c.value WHERE +t0.tenant = ?"
            )
            wanted = apsw.carray(numpy.array(missing, "i8"))
            read += fetched(self._connection, text, (wanted, self.tenant))
        if not read:
            return [], [()] * len(self.names)
        by_field = zip(*decoded_rows(self.collection, self._read, read), strict=True)
        *columns, numbers = by_field
        return list(numbers), [*columns]

    def vectors(self, leg: VectorLeg) -> tuple[Any, Any]:
        """All rows that pass and have a vector to compare, and these as a matrix."""
        table, space = vector_table(self.collection, leg.field), leg.vector.space
        if self.all:
            text = f"SELECT v._row, v.data FROM {table} AS v WHERE v.tenant = ? AND v.space = ?"
            values: list[Any] = [self.tenant, space]
        else:
            source = f"{self._table} AS t0 JOIN {table} AS v ON v._row = t0._row"
            head = f"SELECT v._row, v.data FROM {source} WHERE v.space = ? AND "
            text = self._text(("vectors", leg.field), head)
            values = [space, *self._values]
        size = len(leg.vector.data)
        found = [one for one in fetched(self._connection, text, values) if len(one[1]) == size]
        data = b"".join([one[1] for one in found])
        numbers = numpy.fromiter((one[0] for one in found), "i8", len(found))
        return numbers, numpy.frombuffer(data, "<f4").reshape(len(found), leg.vector.width)

    def _text(self, kind: Any, head: str, *, picked: bool = False) -> str:
        """A statement that ends with the filter's condition."""
        shape = ("search", kind, self.collection.name, self._shape)
        condition = self._planner.condition
        return self._planner.text(shape, lambda: head + condition(self._shape, picked=picked))


def _leaves(where: Filter) -> int:
    """How many conditions a filter has."""
    return sum(map(_leaves, where.parts)) if isinstance(where, And) else 1


_NO_ROWS: Final = numpy.empty(0, "i8")
