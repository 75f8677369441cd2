"""Edits to SET lists that say what `core.edit.edited` says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec.structs import astuple

from holdfast.backends.sql.dialect import Codec, Dialect
from holdfast.core.change import EDIT_OPERATIONS, Edit, Scale
from holdfast.core.collection import Collection

EditShape = tuple[tuple[Any, ...], ...]
"""Operation and field of each part of an edit, without the values."""
Binding = tuple[int, str, Codec | None, bool]
"""The place of an operation in an edit, a field, its codec, whether its value is bound twice."""

_SCALE: Final = EDIT_OPERATIONS.index("scale")
_REPEATED: Final = frozenset(("maximum", "minimum"))
"""Operations whose text names the value twice."""


class EditPlan(msgspec.Struct, frozen=True):
    """What edits that name the same fields have in common."""

    shape: EditShape
    bindings: tuple[Binding, ...]
    plain: bool
    """Whether no more is due than writing them."""
    by_key: str
    """The statement that edits one record, by its tenant and key."""


def fields_of(edit: Edit, given: tuple[Any, ...]) -> tuple[Any, ...]:
    """What tells an edit's plan from others: its fields by operation, and which scales have ends.

    ``given`` is the edit taken apart by `astuple`.
    """
    fields: tuple[Any, ...] = tuple(map(tuple, given))
    return fields + tuple(map(_ends, edit.scale.values())) if edit.scale else fields


def plan_edit(
    dialect: Dialect,
    collection: Collection,
    encoders: Mapping[str, Codec | None],
    edit: Edit,
    *,
    plain: bool,
) -> EditPlan:
    """The plan of an edit and of all that name the same fields."""
    shape: list[tuple[Any, ...]] = []
    bindings: list[Binding] = []
    for place, (operation, given) in enumerate(zip(EDIT_OPERATIONS, astuple(edit), strict=True)):
        for name, value in given.items():
            shape.append((operation, name, *(_ends(value) if place == _SCALE else ())))
            bindings.append((place, name, encoders.get(name), operation in _REPEATED))
    where = " AND ".join(
        f"{dialect.column(name)}={dialect.mark}" for name in ("tenant", *collection.key)
    )
    assigned = edit_text(dialect, tuple(shape))
    by_key = f"UPDATE {dialect.table(collection)} SET {assigned} WHERE {where}"
    return EditPlan(tuple(shape), tuple(bindings), plain, by_key)


def bind(bindings: tuple[Binding, ...], given: tuple[Any, ...]) -> list[Any]:
    """The values of an edit, in the order of the text's marks."""
    values: list[Any] = []
    for place, name, encode, twice in bindings:
        value = given[place][name]
        if place == _SCALE:
            numbers = (value.factor, value.offset, value.floor, value.ceiling)
            values.extend(number for number in numbers if number is not None)
            continue
        if encode is not None and value is not None:
            value = encode(value)
        values.append(value)
        if twice:
            values.append(value)
    return values


def _ends(scale: Scale) -> tuple[bool, bool]:
    """Whether it has a floor, and a ceiling."""
    return scale.floor is not None, scale.ceiling is not None


def edit_text(dialect: Dialect, shape: EditShape) -> str:
    """The SET list of a shape, the revision's step included."""
    sets = [f"{dialect.column(part[1])}={_expression(dialect, *part)}" for part in shape]
    return ",".join((*sets, "revision=revision+1"))


def _expression(dialect: Dialect, operation: str, name: str, *bounded: bool) -> str:
    column, mark = dialect.column(name), dialect.mark
    if operation == "set":
        return mark
    if operation == "default":
        return f"coalesce({column},{mark})"
    if operation == "increment":
        return f"coalesce({column},0)+{mark}"
    if operation == "append":
        return dialect.append(column)
    if operation == "merge":
        return dialect.merge(column)
    if operation == "scale":
        text = f"({column} * {mark} + {mark})"
        text = dialect.greatest(text, mark) if bounded[0] else text
        return dialect.least(text, mark) if bounded[1] else text
    extremum = dialect.greatest if operation == "maximum" else dialect.least
    return extremum(f"coalesce({column},{mark})", mark)
