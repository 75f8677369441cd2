"""Changes and edits: whole records, fields that can be edited so, conditions."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import msgspec

from holdfast.core.change import (
    Absent,
    Change,
    Delete,
    DeleteWhere,
    Edit,
    Patch,
    PatchWhere,
    Present,
    Put,
    Revision,
    Scale,
    When,
)
from holdfast.core.collection import REVISION, Collection
from holdfast.core.errors import Invalid
from holdfast.core.values import check_count, check_float
from holdfast.layers.check.expect import expect_kind, expect_mapping, present
from holdfast.layers.check.filters import Lookup, check_filter, check_order

CHANGE_LIMIT: Final = 10_000
"""Most changes of one apply."""

Check = Callable[[str, object], Any]


def check_change(change: Change, lookup: Lookup) -> Change:
    """The change with its values in canonical form, or Invalid."""
    if not isinstance(change, Change):
        raise Invalid("changes", expected="a Change", got=change)
    collection = lookup(change.collection)
    if isinstance(change, Put):
        record = collection.check_record(change.record)
        return Put(change.collection, record, _condition(collection, change.when, lookup))
    if isinstance(change, Patch):
        return Patch(
            change.collection,
            collection.check_key(change.key),
            _edit(collection, change.edit),
            _condition(collection, change.when, lookup),
        )
    if isinstance(change, Delete):
        key = collection.check_key(change.key)
        return Delete(change.collection, key, _condition(collection, change.when, lookup))
    checked = check_filter(collection, change.filter, lookup)
    if isinstance(change, PatchWhere):
        return PatchWhere(change.collection, checked, _edit(collection, change.edit))
    check_order(collection, change.order)
    if isinstance(change, DeleteWhere):
        if change.limit is not None:
            check_count("limit", change.limit, 0, 2**31)
        return msgspec.structs.replace(change, filter=checked)
    check_count("limit", change.limit, 0, CHANGE_LIMIT)
    edit = _edit(collection, change.edit)
    return msgspec.structs.replace(change, filter=checked, edit=edit)


def _condition(collection: Collection, when: Any, lookup: Lookup) -> Any:
    if when is None or isinstance(when, Absent | Present):
        return when
    if isinstance(when, When):
        return When(check_filter(collection, when.filter, lookup))
    if not isinstance(when, Revision):
        raise Invalid("when", expected="a Condition", got=when)
    check_count("revision", when.number, 0, 2**62)
    return when


def _edit(collection: Collection, edit: Edit) -> Edit:
    if not isinstance(edit, Edit):
        raise Invalid("edit", expected="an Edit", got=edit)
    shape = []
    for operation in _EDIT_KINDS:
        given = getattr(edit, operation)
        if given:
            expect_mapping("edit", given)
            shape.append((operation, tuple(given)))
        elif given != {}:
            raise Invalid("edit", expected="an object", got=given)
    _check_shape(collection, tuple(shape))
    checked: dict[str, Any] = {}
    for operation, names in shape:
        given = getattr(edit, operation)
        checked[operation] = {
            name: _operand(collection, operation, name, given[name]) for name in names
        }
    return Edit(**checked)


@lru_cache(4096)
def _check_shape(collection: Collection, shape: tuple[tuple[str, tuple[str, ...]], ...]) -> None:
    """What an edit does to which fields; the same few shapes come again and again."""
    seen: set[str] = set()
    for operation, names in shape:
        for name in names:
            if name in seen:
                raise Invalid(name, expected="one operation per field", got="two")
            if name in collection.key or name == REVISION:
                raise Invalid(name, expected="a field that can be edited", got="a key field")
            seen.add(name)
            if _EDIT_KINDS[operation]:
                expect_kind(collection, name, _EDIT_KINDS[operation])


def _operand(collection: Collection, operation: str, name: str, value: object) -> Any:
    """What one operation does to one field; only ``set`` may be given null."""
    if operation == "set":
        return collection.check_value(name, value)
    if operation == "scale":
        _check_scale(name, value)
        return value
    if operation == "merge":
        expect_mapping(name, value)
    return present(collection, name, value)


def _check_scale(name: str, scale: object) -> None:
    if not isinstance(scale, Scale):
        raise Invalid(name, expected="a Scale", got=scale)
    for part, value in msgspec.structs.asdict(scale).items():
        if value is not None:
            check_float(f"{name} {part}", value)


_EDIT_KINDS: Final[dict[str, tuple[str, ...]]] = {
    "set": (),
    "default": (),
    "increment": ("int", "float"),
    "maximum": ("int", "float", "time", "text"),
    "minimum": ("int", "float", "time", "text"),
    "append": ("texts",),
    "merge": ("json",),
    "scale": ("float",),
}
