"""What a refused statement means for the change that it belonged to."""

from __future__ import annotations

from typing import Final

from holdfast.backends.postgres.errors import CONFLICT, NOT_FOUND, TOO_LARGE
from holdfast.backends.postgres.names import key_name, reference_name, unique_name
from holdfast.backends.postgres.wire import StatementFailed
from holdfast.backends.sql.planner import Planner
from holdfast.core.change import Change, Claim, Patch, PatchWhere, Put, Revision
from holdfast.core.collection import Collection
from holdfast.core.edit import unmet
from holdfast.core.errors import Conflict, HoldfastError, Invalid, NotFound, TooLarge

_UNIQUE: Final = "23505"
_REFERENCE: Final = frozenset({"23503", "23001"})
_BEYOND: Final = "22003"


class Refusals:
    """Reads refusals for the collections of a planner."""

    def __init__(self, planner: Planner) -> None:
        self._planner = planner

    def of(self, failed: StatementFailed, change: Change) -> HoldfastError | None:
        """The contract's error, or None where the failure is not about the change."""
        collection = self._planner.collections[change.collection]
        state = failed.sqlstate
        if state == NOT_FOUND:
            return NotFound("There is no such record.")
        if state == CONFLICT:
            return _condition(failed, change)
        if state == _UNIQUE:
            return _unique(failed, collection)
        if state in _REFERENCE:
            return self._reference(failed)
        if state == TOO_LARGE:
            name = _edited(change, "append", "merge")
            return TooLarge(name, expected=f"at most {failed.detail}", got="more")
        if state == _BEYOND:
            name = _edited(change, "increment", "scale")
            return Invalid(name, expected="a result that the field can hold", got="one beyond it")
        return None

    def _reference(self, failed: StatementFailed) -> HoldfastError | None:
        for holder in self._planner.collections.values():
            for reference in holder.references:
                if failed.constraint != reference_name(holder, reference.field):
                    continue
                if failed.message.startswith("insert"):
                    text = f"{reference.field} refers to no record of {reference.collection}."
                else:
                    text = f"Records of {holder.name} still refer to this one."
                return Conflict(text, reference=reference.field)
        return None


def _condition(failed: StatementFailed, change: Change) -> Conflict:
    when = getattr(change, "when", None)
    return unmet(when, int(failed.detail) if isinstance(when, Revision) else None)


def _unique(failed: StatementFailed, collection: Collection) -> HoldfastError | None:
    if failed.constraint == key_name(collection):
        return Conflict("A record with this key exists.", unique="key")
    for unique in collection.unique:
        if failed.constraint == unique_name(collection, unique.name):
            name = unique.name
            return Conflict(
                f"Another record of {collection.name} has the same {name}.", unique=name
            )
    return None


def _edited(change: Change, *operations: str) -> str:
    """The first field that one of these operations edits."""
    if isinstance(change, Patch | PatchWhere | Claim):
        for operation in operations:
            for name in getattr(change.edit, operation):
                return str(name)
    return change.collection if isinstance(change, Put) else "edit"
