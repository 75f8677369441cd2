"""Filters and orders: declared fields, values of their kind, bounded size."""

from __future__ import annotations

from collections.abc import Callable
from operator import is_
from typing import Final

import msgspec

from holdfast.core.collection import REVISION, Collection
from holdfast.core.errors import Invalid, InvalidJson
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
)
from holdfast.core.query import Order
from holdfast.core.values import check_count, check_json, check_json_path, check_text
from holdfast.layers.check.expect import expect_kind, expect_list, expect_word, present

FILTER_NODE_LIMIT: Final = 64
"""Most nodes of one filter."""
IN_LIMIT: Final = 10_000
"""Most values of one In."""
COMPARE_OPS: Final = ("eq", "ne", "lt", "le", "gt", "ge")
ORDERED: Final = {"text", "int", "float", "bool", "time"}
"""Kinds of field that have an order."""

_GROUPS: Final = (And, Or)

Lookup = Callable[[str], Collection]
"""The collection that was set up under a name, or Invalid."""


def check_order(collection: Collection, order: tuple[Order, ...]) -> None:
    """Refuse what cannot be sorted by."""
    expect_list("order", order)
    for term in order:
        if not isinstance(term, Order):
            raise Invalid("order", expected="an Order", got=term)
        if term.field == REVISION:
            continue
        kind = collection.field(term.field).kind
        if kind not in ORDERED:
            raise Invalid(term.field, expected="a field that can be sorted by", got=kind)


def check_fields(collection: Collection, fields: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The fields to read, as a tuple; Invalid for what is no field of the collection.

    A vector field is none here: vectors are asked for by ``vectors``.
    """
    if fields is None:
        return None
    expect_list("fields", fields)
    for name in fields:
        if name != REVISION:
            collection.field(name)
    return tuple(fields)


def check_filter(collection: Collection, part: Filter, lookup: Lookup) -> Filter:
    """The filter with its values in canonical form, or Invalid."""
    if isinstance(part, And) and not part.parts:
        return part
    return _node(collection, part, lookup, [FILTER_NODE_LIMIT])


def _node(collection: Collection, part: Filter, lookup: Lookup, left: list[int]) -> Filter:
    left[0] -= 1
    if left[0] < 0:
        raise Invalid("filter", expected=f"at most {FILTER_NODE_LIMIT} parts", got="more")
    if isinstance(part, Compare):
        return _compare(collection, part)
    if isinstance(part, _GROUPS):
        expect_list("filter", part.parts)
        parts = tuple([_node(collection, p, lookup, left) for p in part.parts])
        same = type(part.parts) is tuple and all(map(is_, parts, part.parts))
        return part if same else type(part)(parts)
    if isinstance(part, Not):
        return Not(_node(collection, part.part, lookup, left))
    if isinstance(part, InSelect):
        inner = lookup(part.collection)
        kind, found = collection.field(part.field).kind, inner.field(part.select).kind
        if kind in ("json", "texts") or kind != found:
            raise Invalid(part.select, expected=f"a field that {part.field} can equal", got=found)
        return msgspec.structs.replace(part, where=_node(inner, part.where, lookup, left))
    return _leaf(collection, part)


def _compare(collection: Collection, part: Compare) -> Compare:
    expect_word("op", part.op, COMPARE_OPS)
    kind = "int" if part.field == REVISION else collection.field(part.field).kind
    if kind in ("json", "texts") or (kind == "bytes" and part.op not in ("eq", "ne")):
        raise Invalid(part.field, expected=f"a field that compares with {part.op}", got=kind)
    if part.value is None:
        raise Invalid(part.field, expected="a value", got="null", hint="Use is_null.")
    value = collection.check_value(part.field, part.value)
    return part if value is part.value else Compare(part.field, part.op, value)


def _leaf(collection: Collection, part: Filter) -> Filter:
    if isinstance(part, In):
        expect_list("values", part.values)
        check_count("values", len(part.values), 0, IN_LIMIT)
        if collection.field(part.field).kind in ("json", "texts"):
            raise Invalid(part.field, expected="a field with one value", got="another kind")
        return In(part.field, tuple(present(collection, part.field, v) for v in part.values))
    if isinstance(part, IsNull):
        if part.field in collection.vectors:
            raise Invalid(part.field, expected="a field that is no vector", got="a vector")
        collection.field(part.field)
        return part
    if isinstance(part, Prefix):
        expect_kind(collection, part.field, ("text",))
        return Prefix(part.field, check_text(part.field, part.text))
    if isinstance(part, Contains):
        expect_kind(collection, part.field, ("texts",))
        expect_list("values", part.values)
        check_count("values", len(part.values), 0, IN_LIMIT)
        expect_word("mode", part.mode, ("all", "any"))
        values = tuple(check_text(part.field, value) for value in part.values)
        return Contains(part.field, values, part.mode)
    if isinstance(part, JsonPath | JsonExists):
        expect_kind(collection, part.field, ("json",))
        path = check_json_path(part.field, part.path)
        if isinstance(part, JsonPath):
            return JsonPath(part.field, path, part.op, _json_scalar(part))
        return JsonExists(part.field, path)
    raise Invalid("filter", expected="a Filter", got=part)


def _json_scalar(part: JsonPath) -> str | float:
    expect_word("op", part.op, COMPARE_OPS)
    if not isinstance(part.value, str | int | float):
        raise InvalidJson(part.field, expected="text, a number or a bool", got=part.value)
    value: str | float = check_json(part.field, part.value)
    if isinstance(value, bool) and part.op not in ("eq", "ne"):
        raise Invalid(part.field, expected="a number or text to compare", got="bool")
    return value
