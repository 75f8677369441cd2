"""Reading rows on one connection: decoded records, with row numbers where writes need them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from holdfast.backends.sql.planner import Columns, Planner
from holdfast.backends.sql.rows import decoded_all
from holdfast.backends.sqlite.connection import Connection
from holdfast.backends.sqlite.schema import vector_table
from holdfast.core.collection import Collection
from holdfast.core.filter import Filter, Record
from holdfast.core.query import Query
from holdfast.core.scope import Tenant
from holdfast.core.values import Vector

Row = tuple[int, Record]


class Rows:
    """Reads for one tenant."""

    def __init__(self, connection: Connection, planner: Planner, tenant: Tenant) -> None:
        self._connection = connection
        self._planner = planner
        self._tenant = tenant

    def get(
        self, collection: Collection, key: tuple[Any, ...], *, vectors: bool = False
    ) -> Row | None:
        """The row with this key."""
        values = self._planner.columns(collection.name).encode_key(key)
        text = self._planner.get(collection.name, ", t0._row")
        found = self.read(collection, text, [self._tenant, *values])
        if found and vectors:
            self.attach_vectors(collection, found)
        return found[0] if found else None

    def exists(self, name: str, key: tuple[Any, ...]) -> bool:
        """Whether a row has this key."""
        values = self._planner.columns(name).encode_key(key)
        text = self._planner.get(name, ", t0._row")
        return bool(self._connection.rows(text, [self._tenant, *values]))

    def select(self, query: Query) -> list[Row]:
        """The rows of a query, in its order."""
        text, values = self._planner.query(self._tenant, query, ", t0._row")
        found = self.read(self._planner.collections[query.collection], text, values)
        return found if query.limit is None else found[: query.limit]

    def read(
        self,
        collection: Collection,
        text: str,
        values: Sequence[Any],
        columns: Columns | None = None,
    ) -> list[Row]:
        """The rows of a statement whose last column is the row number."""
        columns = columns or self._planner.columns(collection.name)
        rows = self._connection.rows(text, values)
        records = decoded_all(collection, columns, rows)
        return [(row[-1], record) for row, record in zip(rows, records, strict=True)]

    def subselect(self, name: str, field: str, where: Filter) -> set[Any]:
        """The values of a field in the matching records, for `Filter.matches`."""
        found = self.select(Query(collection=name, filter=where))
        return {record[field] for _, record in found} - {None}

    def attach_vectors(self, collection: Collection, found: list[Row]) -> None:
        """Read the vector fields of rows into their records."""
        for name in collection.vectors:
            text = f"SELECT space, data FROM {vector_table(collection, name)} WHERE _row = ?"
            for row, record in found:
                held = self._connection.execute(text, (row,)).fetchone()
                record[name] = None if held is None else Vector(*held)
