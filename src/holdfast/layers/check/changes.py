"""Changes and edits: whole records, fields that can be edited so, conditions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec

from holdfast.core.change import (
    ABSENT,
    EDIT_OPERATIONS,
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
from holdfast.core.turns import in_turns
from holdfast.core.values import check_bool, check_count, check_float
from holdfast.layers.check.expect import expect_kind, expect_mapping
from holdfast.layers.check.filters import Lookup, check_filter, check_order

CHANGE_LIMIT: Final = 10_000
"""Most changes of one apply."""

Check = Callable[[str, object], Any]


def check_changes(changes: Sequence[Change], lookup: Lookup) -> list[Change]:
    """The changes with their values in canonical form, or Invalid."""
    checked: list[Change] = []
    for change in in_turns(changes):
        check = _CHECKS.get(type(change))
        if check is None:
            raise Invalid("changes", expected="a Change", got=change)
        checked.append(check(lookup(change.collection), change, lookup))
    return checked


def _put(collection: Collection, put: Put, lookup: Lookup) -> Put:
    record, when = collection.check_record(put.record), put.when
    if when is not None and when is not ABSENT:
        when = _condition(collection, when, lookup)
    return Put(put.collection, record, when)


def _patch(collection: Collection, patch: Patch, lookup: Lookup) -> Patch:
    check_bool("silent", patch.silent)
    key, edit, when = collection.check_key(patch.key), _edit(collection, patch.edit), patch.when
    if when is not None:
        when = _condition(collection, when, lookup)
    if key is patch.key and edit is patch.edit and when is patch.when:
        return patch  # Nearly always: all of it is in canonical form already.
    return Patch(patch.collection, key, edit, when, patch.silent)


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
    """The edit itself when all of it is in canonical form, which costs half of making another."""
    if not isinstance(edit, Edit):
        raise Invalid("edit", expected="an Edit", got=edit)
    given = msgspec.structs.astuple(edit)
    if tuple(map(type, given)) != _DICTS:
        for operands in given:
            expect_mapping("edit", operands)
    shape = tuple(map(tuple, given))
    checked: dict[str, dict[str, Any]] = {}
    for place, name, nullable, check in _operands(collection, shape):
        operand = given[place][name]
        if operand is None:
            if not nullable:
                raise Invalid(name, expected="a value", got="null")
            continue
        canonical = check(name, operand)
        if canonical is not operand:
            operation = EDIT_OPERATIONS[place]
            checked.setdefault(operation, dict(given[place]))[name] = canonical
    return msgspec.structs.replace(edit, **checked) if checked else edit


_DICTS: Final = (dict,) * len(EDIT_OPERATIONS)
_Shape = tuple[tuple[str, ...], ...]
"""The fields of each operation, in their order."""
_Operands = tuple[tuple[int, str, bool, Check], ...]
"""The place of an operation, a field, whether its operand may be null, and what checks it."""


@lru_cache(4096)
def _operands(collection: Collection, shape: _Shape) -> _Operands:
    """What checks each operand, once it is sure that the fields can be edited so.

    Kept, because the same few shapes come again and again.
    """
    seen: set[str] = set()
    for operation, names in zip(EDIT_OPERATIONS, shape, strict=True):
        for name in names:
            if name in seen:
                raise Invalid(name, expected="one operation per field", got="two")
            if name in collection.key or name == REVISION:
                raise Invalid(name, expected="a field that can be edited", got="a key field")
            seen.add(name)
            if _EDIT_KINDS[operation]:
                expect_kind(collection, name, _EDIT_KINDS[operation])
    return tuple(
        (place, name, *_operand(collection, EDIT_OPERATIONS[place], name))
        for place, names in enumerate(shape)
        for name in names
    )


def _operand(collection: Collection, operation: str, name: str) -> tuple[bool, Check]:
    """Whether the operand of one operation on one field may be null, and what checks it else.

    Only ``set`` may be given null, where the field may.
    """
    check = collection.check_of(name)
    if operation == "set":
        return collection.is_nullable(name), check
    if operation == "scale":
        return False, _check_scale
    if operation != "merge":
        return False, check

    def check_merged(name: str, value: object) -> Any:
        expect_mapping(name, value)
        return check(name, value)

    return False, check_merged


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
