"""Edits to SET lists that say what `core.edit.edited` says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec.structs import astuple

from holdfast.backends.sql.dialect import Codec, Dialect, quoted
from holdfast.core.change import EDIT_OPERATIONS, Edit, Scale

EditShape = tuple[tuple[Any, ...], ...]
"""Operation and field of each part of an edit, without the values."""
Binding = tuple[int, str, Codec | None, bool]
"""The place of an operation in an edit, a field, its codec, whether its value is bound twice."""

_SCALE: Final = EDIT_OPERATIONS.index("scale")
_REPEATED: Final = frozenset(("maximum", "minimum"))
"""Operations whose text names the value twice."""


def edit_shape(encoders: Mapping[str, Codec | None], edit: Edit, values: list[Any]) -> EditShape:
    """The edit without its values, which are appended in the order of the text's marks."""
    shape: list[tuple[Any, ...]] = []
    for operation, given in zip(EDIT_OPERATIONS, astuple(edit), strict=True):
        if not given:
            continue
        for name, value in given.items():
            if operation == "scale":
                shape.append(("scale", name, *bounds(value)))
                values.extend(_numbers(value))
                continue
            encode = encoders.get(name)
            shape.append((operation, name))
            bound = value if encode is None or value is None else encode(value)
            values.append(bound)
            if operation in _REPEATED:
                values.append(bound)
    return tuple(shape)


def bindings(encoders: Mapping[str, Codec | None], shape: EditShape) -> tuple[Binding, ...]:
    """How the values of edits of a shape are bound, as `edit_shape` finds anew for each edit."""
    return tuple(
        (EDIT_OPERATIONS.index(part[0]), part[1], encoders.get(part[1]), part[0] in _REPEATED)
        for part in shape
    )


def bind(bound: tuple[Binding, ...], given: tuple[Any, ...]) -> list[Any]:
    """The values to bind of an edit that was taken apart by `astuple`."""
    values: list[Any] = []
    for place, name, encode, twice in bound:
        value = given[place][name]
        if place == _SCALE:
            values.extend(_numbers(value))
            continue
        if encode is not None and value is not None:
            value = encode(value)
        values.append(value)
        if twice:
            values.append(value)
    return values


def bounds(scale: Scale) -> tuple[bool, bool]:
    """Whether a scale has a floor, and a ceiling: that belongs to the shape."""
    return scale.floor is not None, scale.ceiling is not None


def _numbers(scale: Scale) -> list[float]:
    given = (scale.factor, scale.offset, scale.floor, scale.ceiling)
    return [number for number in given if number is not None]


def edit_text(dialect: Dialect, shape: EditShape) -> str:
    """The SET list of a shape, the revision's step included."""
    sets = [f"{quoted(part[1])} = {_expression(dialect, *part)}" for part in shape]
    return ", ".join((*sets, "revision = revision + 1"))


def _expression(dialect: Dialect, operation: str, name: str, *bounded: bool) -> str:
    column, mark = quoted(name), dialect.mark
    if operation == "set":
        return mark
    if operation == "default":
        return f"coalesce({column}, {mark})"
    if operation == "increment":
        return f"coalesce({column}, 0) + {mark}"
    if operation == "append":
        return dialect.append(column)
    if operation == "merge":
        return dialect.merge(column)
    if operation == "scale":
        text = f"({column} * {mark} + {mark})"
        text = dialect.greatest(text, mark) if bounded[0] else text
        return dialect.least(text, mark) if bounded[1] else text
    extremum = dialect.greatest if operation == "maximum" else dialect.least
    return extremum(f"coalesce({column}, {mark})", mark)
