"""Filters are values that carry their own truth: ``matches`` is what every engine must agree with.

Two-valued logic. A comparison with a null field is false, ``ne`` is exactly "not eq" (so a null
field is "not equal" to any value), and ``Not`` is the complement. Text compares by code point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec

Record = dict[str, Any]
"""A record as it crosses the contract: field name to plain value, ``revision`` included."""

Scalar = str | int | float | bool | datetime | bytes
CompareOp = Literal["eq", "ne", "lt", "le", "gt", "ge"]

Subselect = Callable[[str, str, "Filter"], set[Any]]
"""Given collection, field and filter: the values of that field in the matching records."""


class Filter(msgspec.Struct, frozen=True, tag_field="filter"):
    """A predicate over one record. Combine with ``&``, ``|`` and ``~``."""

    def matches(self, record: Mapping[str, Any], subselect: Subselect | None = None) -> bool:
        """Whether ``record`` satisfies the filter; the truth that every engine reproduces."""
        raise NotImplementedError

    def __and__(self, other: Filter) -> Filter:
        return And((*_parts(self, And), *_parts(other, And)))

    def __or__(self, other: Filter) -> Filter:
        return Or((*_parts(self, Or), *_parts(other, Or)))

    def __invert__(self) -> Filter:
        return Not(self)


def _parts(part: Filter, kind: type[And] | type[Or]) -> tuple[Filter, ...]:
    return part.parts if isinstance(part, kind) else (part,)


class And(Filter, frozen=True, tag="and"):
    """Every part holds; an empty And is always true."""

    parts: tuple[Filter, ...] = ()

    def matches(self, record: Mapping[str, Any], subselect: Subselect | None = None) -> bool:
        return all(part.matches(record, subselect) for part in self.parts)


class Or(Filter, frozen=True, tag="or"):
    """At least one part holds; an empty Or is never true."""

    parts: tuple[Filter, ...] = ()

    def matches(self, record: Mapping[str, Any], subselect: Subselect | None = None) -> bool:
        return any(part.matches(record, subselect) for part in self.parts)


class Not(Filter, frozen=True, tag="not"):
    """The part does not hold."""

    part: Filter

    def matches(self, record: Mapping[str, Any], subselect: Subselect | None = None) -> bool:
        return not self.part.matches(record, subselect)


class Compare(Filter, frozen=True, tag="compare"):
    """One field against one value of the field's kind."""

    field: str
    op: CompareOp
    value: Scalar

    def matches(self, record: Mapping[str, Any], subselect: Subselect | None = None) -> bool:
        return _compare(self.op, record[self.field], self.value)


class In(Filter, frozen=True, tag="in"):
    """The field equals one of the values; an empty list never matches."""

    field: str
    values: tuple[Scalar, ...]

    def matches(self, record: Mapping[str, Any], subselect: Subselect | None = None) -> bool:
        return record[self.field] is not None and record[self.field] in self.values


class IsNull(Filter, frozen=True, tag="is_null"):
    """The field holds no value."""

    field: str

    def matches(self, record: Mapping[str, Any], subselect: Subselect | None = None) -> bool:
        return record[self.field] is None


class Prefix(Filter, frozen=True, tag="prefix"):
    """The text field begins with exactly these characters; nothing in them is a wildcard."""

    field: str
    text: str

    def matches(self, record: Mapping[str, Any], subselect: Subselect | None = None) -> bool:
        return record[self.field] is not None and record[self.field].startswith(self.text)


class Contains(Filter, frozen=True, tag="contains"):
    """The text-list field holds all, or any, of the values. All of nothing is true; any, false."""

    field: str
    values: tuple[str, ...]
    mode: Literal["all", "any"] = "all"

    def matches(self, record: Mapping[str, Any], subselect: Subselect | None = None) -> bool:
        held = record[self.field] or ()
        return (all if self.mode == "all" else any)(value in held for value in self.values)


class JsonPath(Filter, frozen=True, tag="json"):
    """A scalar inside a json field, reached by object keys.

    Compares only with a value of the same JSON kind (true is not 1, "1" is not 1); a missing
    path or another kind compares false, so ``ne`` holds there.
    """

    field: str
    path: tuple[str, ...]
    op: CompareOp
    value: str | int | float | bool

    def matches(self, record: Mapping[str, Any], subselect: Subselect | None = None) -> bool:
        found = json_at(record[self.field], self.path)
        if json_kind(found) != json_kind(self.value):
            return self.op == "ne"
        return _compare(self.op, found, self.value)


class JsonExists(Filter, frozen=True, tag="json_exists"):
    """The path leads to something other than null."""

    field: str
    path: tuple[str, ...]

    def matches(self, record: Mapping[str, Any], subselect: Subselect | None = None) -> bool:
        return json_at(record[self.field], self.path) is not None


class InSelect(Filter, frozen=True, tag="in_select"):
    """The field is among the values of ``select`` in the matching records of ``collection``."""

    field: str
    collection: str
    select: str
    where: Filter

    def matches(self, record: Mapping[str, Any], subselect: Subselect | None = None) -> bool:
        if record[self.field] is None or subselect is None:
            return False
        return record[self.field] in subselect(self.collection, self.select, self.where)


def _compare(op: CompareOp, held: Any, value: Any) -> bool:
    if held is None:
        return op == "ne"
    if op == "eq":
        return bool(held == value)
    if op == "ne":
        return bool(held != value)
    if op == "lt":
        return bool(held < value)
    if op == "le":
        return bool(held <= value)
    if op == "gt":
        return bool(held > value)
    return bool(held >= value)


def comparisons(where: Filter) -> list[Compare]:
    """The comparisons that a filter is put together of."""
    if isinstance(where, And | Or):
        return [one for part in where.parts for one in comparisons(part)]
    if isinstance(where, Not):
        return comparisons(where.part)
    if isinstance(where, In):
        return [Compare(where.field, "eq", value) for value in where.values]
    return [where] if isinstance(where, Compare) else []


def json_at(value: Any, path: Iterable[str]) -> Any:
    """What object keys lead to inside a JSON value; None where nothing is."""
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            return None
        value = value[key]
    return value


def json_kind(value: Any) -> str:
    """The JSON kind of a value: null, bool, number, text, or other."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else "other"


EVERYTHING = And()
"""The filter that every record satisfies."""


def eq(field: str, value: Scalar | None) -> Filter:
    """``field`` equals ``value``; None asks for null."""
    return IsNull(field) if value is None else Compare(field, "eq", value)


def ne(field: str, value: Scalar | None) -> Filter:
    """The complement of ``eq``."""
    return Not(IsNull(field)) if value is None else Compare(field, "ne", value)


def lt(field: str, value: Scalar) -> Filter:
    """``field`` is less than ``value``."""
    return Compare(field, "lt", value)


def le(field: str, value: Scalar) -> Filter:
    """``field`` is at most ``value``."""
    return Compare(field, "le", value)


def gt(field: str, value: Scalar) -> Filter:
    """``field`` is greater than ``value``."""
    return Compare(field, "gt", value)


def ge(field: str, value: Scalar) -> Filter:
    """``field`` is at least ``value``."""
    return Compare(field, "ge", value)


def among(field: str, values: Iterable[Scalar]) -> Filter:
    """``field`` equals one of ``values``."""
    return In(field, tuple(values))


def is_null(field: str) -> Filter:
    """``field`` holds no value."""
    return IsNull(field)


def not_null(field: str) -> Filter:
    """``field`` holds a value."""
    return Not(IsNull(field))


def both(*parts: Filter | None) -> Filter:
    """Every part that is given; parts that are None are left out."""
    kept = tuple([part for part in parts if part is not None])
    if not kept:
        return EVERYTHING
    return kept[0] if len(kept) == 1 else And(kept)


def either(*parts: Filter) -> Filter:
    """At least one of the parts."""
    return parts[0] if len(parts) == 1 else Or(parts)
