"""Filters to WHERE clauses. A filter is walked once; its text is made once per shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from holdfast.backends.sql.dialect import Dialect, quoted
from holdfast.core.collection import REVISION, Collection
from holdfast.core.filter import (
    And,
    Compare,
    Contains,
    Filter,
    In,
    InSelect,
    IsNull,
    JsonExists,
    JsonPath,
    Not,
    Or,
    Prefix,
    json_kind,
)
from holdfast.core.scope import EVERY_TENANT, Tenant

Shape = tuple[Any, ...]

_OPERATORS: Final = {"eq": "=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


class FilterPlanner:
    """Splits a filter into its shape and its values, and writes SQL for the shape.

    Columns are written as ``t0."name"``; a sub-select's table is t1 and so on.
    """

    def __init__(self, dialect: Dialect, collections: dict[str, Collection]) -> None:
        self._dialect = dialect
        self._collections = collections

    def shape(
        self,
        collection: Collection,
        part: Filter,
        values: list[Any],
        tenant: Tenant = EVERY_TENANT,
    ) -> Shape:
        """The filter without its values, which are appended in the order of the SQL's marks."""
        found = _SHAPES.get(type(part))
        if found is None:
            raise TypeError(f"unknown filter {type(part).__name__}")
        return found(self, collection, part, values, tenant)

    def sql(self, shape: Shape, depth: int = 0) -> str:
        """The condition for a shape."""
        return _WRITERS[shape[0]](self, shape, depth)

    # --- shapes

    def _group(
        self, collection: Collection, part: And | Or, values: list[Any], tenant: Tenant, word: str
    ) -> Shape:
        return (word, *(self.shape(collection, p, values, tenant) for p in part.parts))

    def _and(self, collection: Collection, part: And, values: list[Any], tenant: Tenant) -> Shape:
        return self._group(collection, part, values, tenant, "and")

    def _or(self, collection: Collection, part: Or, values: list[Any], tenant: Tenant) -> Shape:
        return self._group(collection, part, values, tenant, "or")

    def _not(self, collection: Collection, part: Not, values: list[Any], tenant: Tenant) -> Shape:
        return ("not", self.shape(collection, part.part, values, tenant))

    def _compare(
        self, collection: Collection, part: Compare, values: list[Any], tenant: Tenant
    ) -> Shape:
        value = self._encode(collection, part.field, part.value)
        if collection.conditions and part in collection.conditions:
            written = self._dialect.stated(value)
            if written is not None:
                return ("compare", part.field, part.op, written)
        values.append(value)
        return ("compare", part.field, part.op)

    def _in(self, collection: Collection, part: In, values: list[Any], tenant: Tenant) -> Shape:
        if collection.by_name[part.field].kind == "bytes":
            # A list travels as JSON to some engines, and JSON has no bytes.
            each = tuple(Compare(part.field, "eq", value) for value in part.values)
            return self._or(collection, Or(each), values, tenant)
        encoded = [self._encode(collection, part.field, value) for value in part.values]
        values.append(self._dialect.bind_list(encoded))
        return ("in", part.field)

    def _is_null(
        self, collection: Collection, part: IsNull, values: list[Any], tenant: Tenant
    ) -> Shape:
        return ("null", part.field)

    def _prefix(
        self, collection: Collection, part: Prefix, values: list[Any], tenant: Tenant
    ) -> Shape:
        if not part.text:
            return ("not", ("null", part.field))
        end = _successor(part.text)
        values.append(part.text)
        if end is None:
            return ("compare", part.field, "ge")
        values.append(end)
        return ("range", part.field)

    def _contains(
        self, collection: Collection, part: Contains, values: list[Any], tenant: Tenant
    ) -> Shape:
        values.append(self._dialect.bind_list(list(part.values)))
        return ("contains", part.field, part.mode)

    def _json(
        self, collection: Collection, part: JsonPath, values: list[Any], tenant: Tenant
    ) -> Shape:
        path = self._dialect.bind_path(part.path)
        values.extend((path, path, part.value))
        return ("json", part.field, part.op, json_kind(part.value))

    def _json_exists(
        self, collection: Collection, part: JsonExists, values: list[Any], tenant: Tenant
    ) -> Shape:
        values.append(self._dialect.bind_path(part.path))
        return ("json_exists", part.field)

    def _in_select(
        self, collection: Collection, part: InSelect, values: list[Any], tenant: Tenant
    ) -> Shape:
        inner = self._collections[part.collection]
        every = tenant is EVERY_TENANT
        if not every:
            values.append(tenant)
        where = self.shape(inner, part.where, values, tenant)
        return ("in_select", part.field, part.collection, part.select, where, every)

    def _encode(self, collection: Collection, name: str, value: Any) -> Any:
        if name == REVISION:
            return value
        encode = self._dialect.encoder(collection.by_name[name].kind)
        return value if encode is None else encode(value)

    # --- text

    def _write_group(self, shape: Shape, depth: int) -> str:
        word, parts = shape[0], shape[1:]
        if not parts:
            return "TRUE" if word == "and" else "FALSE"
        joined = f" {word.upper()} ".join(self.sql(part, depth) for part in parts)
        return f"({joined})"

    def _write_not(self, shape: Shape, depth: int) -> str:
        inner = shape[1]
        if inner[0] == "null":
            return f"{_column(depth, inner[1])} IS NOT NULL"
        return f"({self.sql(one_by_one(inner), depth)}) IS NOT TRUE"

    def _write_compare(self, shape: Shape, depth: int) -> str:
        column, op = _column(depth, shape[1]), shape[2]
        value = shape[3] if len(shape) > 3 else self._dialect.mark
        if op == "ne":
            return f"{column} IS DISTINCT FROM {value}"
        return f"{column} {_OPERATORS[op]} {value}"

    def _write_in(self, shape: Shape, depth: int) -> str:
        return self._dialect.in_list(_column(depth, shape[1]))

    def _write_null(self, shape: Shape, depth: int) -> str:
        return f"{_column(depth, shape[1])} IS NULL"

    def _write_range(self, shape: Shape, depth: int) -> str:
        column, mark = _column(depth, shape[1]), self._dialect.mark
        return f"({column} >= {mark} AND {column} < {mark})"

    def _write_contains(self, shape: Shape, depth: int) -> str:
        return self._dialect.contains(_column(depth, shape[1]), shape[2])

    def _write_json(self, shape: Shape, depth: int) -> str:
        _, field, op, kind = shape
        column = _column(depth, field)
        if op == "ne":
            return f"({self._dialect.json_compare(column, '=', kind)}) IS NOT TRUE"
        return self._dialect.json_compare(column, _OPERATORS[op], kind)

    def _write_json_exists(self, shape: Shape, depth: int) -> str:
        return self._dialect.json_exists(_column(depth, shape[1]))

    def _write_in_select(self, shape: Shape, depth: int) -> str:
        word, field, name, select, where, every = shape
        inner = depth + 1
        table = self._dialect.table(self._collections[name])
        asked, given = [_column(depth, field)], [_column(inner, select)]
        parts = [self.sql(where, inner)]
        if every:
            asked.append(f"t{depth}.tenant")
            given.append(f"t{inner}.tenant")
        else:
            parts.insert(0, f"t{inner}.tenant = {self._dialect.mark}")
        if word == "found_in":
            parts += [f"{one} = {other}" for one, other in zip(given, asked, strict=True)]
        return (
            f"({', '.join(asked)}) IN (SELECT {', '.join(given)} FROM {table} AS t{inner}"
            f" WHERE {' AND '.join(parts)})"
        )


def one_by_one(shape: Shape) -> Shape:
    """The same condition, for rows that are come by in another way than through a sub-select.

    Engines read a sub-select whole, once. For few rows, or where its complement is meant, it looks
    for the one value of each row instead.
    """
    word, *parts = shape
    if word in ("and", "or"):
        return (word, *map(one_by_one, parts))
    return ("found_in", *parts) if word == "in_select" else shape


def _column(depth: int, name: str) -> str:
    return f"t{depth}.{quoted(name)}"


def _successor(text: str) -> str | None:
    """The least text above every text that begins with ``text``; None if there is none."""
    while text:
        last = ord(text[-1])
        if last < 0x10FFFF:
            following = 0xE000 if last == 0xD7FF else last + 1
            return text[:-1] + chr(following)
        text = text[:-1]
    return None


_SHAPES: Final[dict[type[Filter], Callable[..., Shape]]] = {
    And: FilterPlanner._and,
    Or: FilterPlanner._or,
    Not: FilterPlanner._not,
    Compare: FilterPlanner._compare,
    In: FilterPlanner._in,
    IsNull: FilterPlanner._is_null,
    Prefix: FilterPlanner._prefix,
    Contains: FilterPlanner._contains,
    JsonPath: FilterPlanner._json,
    JsonExists: FilterPlanner._json_exists,
    InSelect: FilterPlanner._in_select,
}
_WRITERS: Final[dict[str, Callable[[FilterPlanner, Shape, int], str]]] = {
    "and": FilterPlanner._write_group,
    "or": FilterPlanner._write_group,
    "not": FilterPlanner._write_not,
    "compare": FilterPlanner._write_compare,
    "in": FilterPlanner._write_in,
    "null": FilterPlanner._write_null,
    "range": FilterPlanner._write_range,
    "contains": FilterPlanner._write_contains,
    "json": FilterPlanner._write_json,
    "json_exists": FilterPlanner._write_json_exists,
    "in_select": FilterPlanner._write_in_select,
    "found_in": FilterPlanner._write_in_select,
}
