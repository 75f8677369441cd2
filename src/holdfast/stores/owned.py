"""Stores whose records are owned: a parent record carries the scope, its parts follow it.

A message belongs to its conversation and a tool event to its session, so only the parent holds
agent, user and namespace. A bound handle reaches a part through its parent or not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from msgspec import UNSET

from holdfast.core.change import Condition, Delete, Edit, Outcome, Patch, When
from holdfast.core.collection import Collection
from holdfast.core.errors import Conflict, Invalid, NotFound
from holdfast.core.filter import EVERYTHING, Filter, InSelect, Record
from holdfast.core.values import check_keyed_text
from holdfast.stores.store import Store

T = TypeVar("T")


class Owned(Store):
    """Changes by id that are checked for the bound scope without a read before."""

    def _when(self, collection: Collection, *parts: Filter | None) -> Condition | None:
        """The condition that a record is inside the bound scope and satisfies the parts."""
        where = self._within(collection, *parts)
        return None if where == EVERYTHING else When(where)

    def _patch(self, collection: Collection, key: str, edit: Edit) -> Record:
        """Edit one record of the bound scope and return it; NotFound for a foreign one too."""
        try:
            change = Patch(collection.name, (key,), edit, self._when(collection))
            return self._apply(change)[0].record
        except (Conflict, NotFound):
            # Told by one and the same error, a foreign record cannot be told from a missing one.
            self._require(collection, key)
            raise

    def _perform_patch(
        self, collection: Collection, key: str, edit: Edit, build: Callable[[Record], T]
    ) -> T:
        """As ``_patch``, and what is built of the record; the last act of a halved verb."""

        def answer(outcomes: list[Outcome]) -> T:
            return build(outcomes[0].record)

        def refused(_: Conflict | NotFound) -> None:
            self._require(collection, key)

        change = Patch(collection.name, (key,), edit, self._when(collection))
        return self._perform([change], answer, refused)

    def _drop(self, collection: Collection, key: str) -> bool:
        """Delete one record of the bound scope; whether there was one."""
        try:
            change = Delete(collection.name, (key,), self._when(collection))
            return self._apply(change)[0].count > 0
        except NotFound:
            return False
        except Conflict:
            if self._get(collection, key) is None:
                return False
            raise

    def _part(self, collection: Collection, key: str, parent: Collection, field: str) -> Record:
        """A part whose parent is inside the bound scope, or NotFound."""
        record = self._require(collection, key)
        if self._scope.bound() and self._get(parent, record[field]) is None:
            raise NotFound(f"There is no such record in {collection.name}.")
        return record

    def _through(self, field: str, parent: Collection, *parts: Filter | None) -> Filter | None:
        """The filter that a part's parent is inside the bound scope; None when nothing narrows."""
        where = self._within(parent, *parts)
        return None if where == EVERYTHING else InSelect(field, parent.name, "id", where)

    def _patch_part(
        self, collection: Collection, key: str, parent: Collection, field: str, edit: Edit
    ) -> Record:
        """Edit a part whose parent is inside the bound scope."""
        where = self._through(field, parent)
        when = None if where is None else When(where)
        try:
            return self._apply(Patch(collection.name, (key,), edit, when))[0].record
        except (Conflict, NotFound):
            self._part(collection, key, parent, field)
            raise

    def _drop_part(self, collection: Collection, key: str, parent: Collection, field: str) -> bool:
        """Delete a part whose parent is inside the bound scope; whether there was one."""
        where = self._through(field, parent)
        when = None if where is None else When(where)
        try:
            return self._apply(Delete(collection.name, (key,), when))[0].count > 0
        except NotFound:
            return False
        except Conflict:
            if self._get(collection, key) is None:
                return False
            try:
                self._part(collection, key, parent, field)
            except NotFound:
                return False
            raise


def changes_of(given: dict[str, Any]) -> dict[str, Any]:
    """What an update sets: the arguments that are not UNSET."""
    return {name: value for name, value in given.items() if value is not UNSET}


def name_of(field: str, value: str | None) -> str | None:
    """An outside name such as a key or external id: None, or text that is not blank."""
    if value is None:
        return None
    if not check_keyed_text(field, value).strip():
        raise Invalid(field, expected="None or text that is not blank", got="blank text")
    return value
