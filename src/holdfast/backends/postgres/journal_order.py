"""Which changes the journal must be told of before the end of their apply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from holdfast.backends.sql.planner import Planner
from holdfast.core.change import Change, Claim, Delete, DeleteWhere, PatchWhere, Put
from holdfast.core.collection import Collection

Key = tuple[Any, ...]


def told_before_the_end(planner: Planner, changes: Sequence[Change]) -> set[int]:
    """Which changes a later one of the same apply may follow on the same record's vectors.

    The journal reads vectors when it tells of a record, which is mostly at the end.
    """
    told: set[int] = set()
    if len(changes) < 2:
        return told
    later: dict[str, set[Key]] = {}
    any_key: set[str] = set()
    for at in range(len(changes) - 1, -1, -1):
        change = changes[at]
        collection = planner.collections[change.collection]
        if isinstance(change, Delete | DeleteWhere):
            any_key |= _deleted_with(planner, collection)
        if not collection.vectors:
            continue
        keys = later.setdefault(collection.name, set())
        if isinstance(change, PatchWhere | DeleteWhere | Claim):
            found = bool(keys) or collection.name in any_key
            any_key.add(collection.name)
        else:
            key = collection.key_of(change.record) if isinstance(change, Put) else change.key
            found = key in keys or collection.name in any_key
            keys.add(key)
        if found:
            told.add(at)
    return told


def _deleted_with(planner: Planner, collection: Collection) -> set[str]:
    """Collections of which records may go with a record of this one."""
    found: set[str] = set()
    waiting = [collection.name]
    while waiting:
        for holder, reference in planner.dependents(waiting.pop()):
            if reference.on_delete == "cascade" and holder.name not in found:
                found.add(holder.name)
                waiting.append(holder.name)
    return found
