"""Changes and edits: whole records, fields that can be edited so, conditions."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import msgspec

from holdfast.core.change import (
    Absent,
    Change,
    Claim,
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
from holdfast.core.values import check_bool, check_count, check_float
from holdfast.layers.check.expect import expect_kind, expect_mapping
from holdfast.layers.check.filters import Lookup, check_filter, check_order

CHANGE_LIMIT: Final = 10_000
"""Most changes of one apply."""

Check = Callable[[str, object], Any]


def check_change(change: Change, lookup: Lookup) -> Change:
    """The change with its values in canonical form, or Invalid."""
    check = _CHECKS.get(type(change))
    if check is None:
        raise Invalid("changes", expected="a Change", got=change)
    return check(lookup(change.collection), change, lookup)


def _put(collection: Collection, put: Put, lookup: Lookup) -> Put:
    record = collection.check_record(put.record)
    return Put(put.collection, record, _condition(collection, put.when, lookup))


def _patch(collection: Collection, patch: Patch, lookup: Lookup) -> Patch:
    key, edit = collection.check_key(patch.key), _edit(collection, patch.edit)
    when = _condition(collection, patch.when, lookup)
    return Patch(patch.collection, key, edit, when, check_bool("silent", patch.silent))


def _delete(collection: Collection, delete: Delete, lookup: Lookup) -> Delete:
    key = collection.check_key(delete.key)
    return Delete(delete.collection, key, _condition(collection, delete.when, lookup))


def _patch_where(collection: Collection, change: PatchWhere, lookup: Lookup) -> PatchWhere:
    where = check_filter(collection, change.filter, lookup)
    return PatchWhere(change.collection, where, _edit(collection, change.edit))


def _delete_where(collection: Collection, change: DeleteWhere, lookup: Lookup) -> DeleteWhere:
    where = check_filter(collection, change.filter, lookup)
    check_order(collection, change.order)
    if change.limit is not None:
        check_count("limit", change.limit, 0, 2**31)
    return msgspec.structs.replace(change, filter=where)


def _claim(collection: Collection, claim: Claim, lookup: Lookup) -> Claim:
    where = check_filter(collection, claim.filter, lookup)
    check_order(collection, claim.order)
    check_count("limit", claim.limit, 0, CHANGE_LIMIT)
    return msgspec.structs.replace(claim, filter=where, edit=_edit(collection, claim.edit))


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
    checked: dict[str, Any] = {}
    for operation, operands in _operands(collection, tuple(shape)):
        given = getattr(edit, operation)
        checked[operation] = {name: check(name, given[name]) for name, check in operands}
    return Edit(**checked)


_Shape = tuple[tuple[str, tuple[str, ...]], ...]
"""Operations, and the fields of each."""
_Operands = tuple[tuple[str, tuple[tuple[str, Check], ...]], ...]
"""Operations, and the fields of each with the check of its operand."""


@lru_cache(4096)
def _operands(collection: Collection, shape: _Shape) -> _Operands:
    """What checks each operand, once it is sure that the fields can be edited so.

    Kept, because the same few shapes come again and again.
    """
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
    return tuple(
        (operation, tuple((name, _operand(collection, operation, name)) for name in names))
        for operation, names in shape
    )


def _operand(collection: Collection, operation: str, name: str) -> Check:
    """What checks the operand of one operation on one field; only ``set`` may be given null."""
    if operation == "set":
        return collection.check_value
    if operation == "scale":
        return _check_scale
    check = collection.check_of(name)

    def given(name: str, value: object) -> Any:
        if value is None:
            raise Invalid(name, expected="a value", got="null")
        if operation == "merge":
            expect_mapping(name, value)
        return check(name, value)

    return given


def _check_scale(name: str, scale: object) -> Scale:
    if not isinstance(scale, Scale):
        raise Invalid(name, expected="a Scale", got=scale)
    for part, value in msgspec.structs.asdict(scale).items():
        if value is not None:
            check_float(f"{name} {part}", value)
    return scale


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

_CHECKS: Final[dict[type, Callable[..., Change]]] = {
    Put: _put,
    Patch: _patch,
    Delete: _delete,
    PatchWhere: _patch_where,
    DeleteWhere: _delete_where,
    Claim: _claim,
}
