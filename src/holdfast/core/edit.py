"""What an edit does to a record, in plain Python: the truth that every engine reproduces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from holdfast.core.change import Absent, Condition, Edit, Present, Revision, Scale
from holdfast.core.errors import Conflict, NotFound
from holdfast.core.filter import Record, Subselect
from holdfast.core.values import CHECKS, check_float, check_json, check_texts


def edited(record: Mapping[str, Any], edit: Edit) -> Record:
    """The fields that the edit changes, with their new values.

    Invalid when a result leaves what the field can hold: 64 bits, finite, the limits of lists.
    """
    new: Record = dict(edit.set)
    for name, value in edit.default.items():
        new[name] = value if record[name] is None else record[name]
    for name, value in edit.increment.items():
        total = (record[name] or 0) + value
        new[name] = CHECKS["float" if isinstance(total, float) else "int"](name, total)
    for name, value in edit.maximum.items():
        new[name] = value if record[name] is None else max(record[name], value)
    for name, value in edit.minimum.items():
        new[name] = value if record[name] is None else min(record[name], value)
    for name, value in edit.append.items():
        new[name] = check_texts(name, appended(record[name], value))
    for name, value in edit.merge.items():
        new[name] = check_json(name, merged(record[name], value))
    for name, value in edit.scale.items():
        held = record[name]
        new[name] = None if held is None else check_float(name, scaled(held, value))
    return new


def appended(held: list[str] | None, values: list[str]) -> list[str]:
    """``held`` and after it, in order and once, the values that it lacks."""
    return list(dict.fromkeys((*(held or ()), *values)))


def merged(held: object, patch: Mapping[str, Any]) -> dict[str, Any]:
    """``held`` with the patch's top-level keys replaced, and those set to null removed.

    Anything but an object counts as an empty one.
    """
    result = dict(held) if isinstance(held, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = value
    return result


def scaled(held: float, scale: Scale) -> float:
    """``held * factor + offset`` between floor and ceiling."""
    value = held * scale.factor + scale.offset
    if scale.floor is not None:
        value = max(value, scale.floor)
    if scale.ceiling is not None:
        value = min(value, scale.ceiling)
    return value


def check_condition(
    when: Condition | None, record: Record | None, *, subselect: Subselect | None = None
) -> None:
    """Raise NotFound or Conflict unless the condition holds for the stored record, if any."""
    if when is None:
        return
    if isinstance(when, Absent):
        if record is not None:
            raise unmet(when)
        return
    if record is None:
        raise NotFound("There is no such record.")
    if isinstance(when, Present):
        return
    if isinstance(when, Revision):
        if record["revision"] != when.number:
            raise unmet(when, record["revision"])
    elif not when.filter.matches(record, subselect):
        raise unmet(when)


def unmet(when: Condition | None, revision: int | None = None) -> Conflict:
    """What is told of a condition that the stored record, of this ``revision``, does not meet."""
    if isinstance(when, Absent):
        return Conflict("A record with this key exists.", unique="key")
    if isinstance(when, Revision):
        return Conflict(
            "The record has changed since it was read.",
            hint="Read it again and repeat the change.",
            expected=when.number,
            revision=revision,
        )
    return Conflict(
        "The record is not in a state that allows this.",
        hint="Read it again: another may have changed, closed or taken it.",
    )
