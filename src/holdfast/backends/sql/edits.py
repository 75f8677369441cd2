"""Edits to SET lists that say what `core.edit.edited` says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec.structs import astuple

from holdfast.backends.sql.dialect import Codec, Dialect, quoted
from holdfast.core.change import EDIT_OPERATIONS, Edit, Scale

EditShape = tuple[tuple[Any, ...], ...]
"""Operation and field of each part of an edit, without the values."""

_REPEATED: Final = frozenset(("maximum", "minimum"))
"""Operations whose text names the value twice."""


def edit_shape(encoders: Mapping[str, Codec | None], edit: Edit, values: list[Any]) -> EditShape:
    """The edit without its values, which are appended in the order of the text's marks."""
    shape: list[tuple[Any, ...]] = []
    for operation, given in zip(EDIT_OPERATIONS, astuple(edit), strict=True):
        if not given:
            continue
        if operation == "scale":
            _bind_scales(given, shape, values)
            continue
        for name, value in given.items():
            encode = encoders.get(name)
            shape.append((operation, name))
            bound = value if encode is None or value is None else encode(value)
            values.append(bound)
            if operation in _REPEATED:
                values.append(bound)
    return tuple(shape)


def _bind_scales(
    scales: Mapping[str, Scale], shape: list[tuple[Any, ...]], values: list[Any]
) -> None:
    for name, scale in scales.items():
        bounds = [bound for bound in (scale.floor, scale.ceiling) if bound is not None]
        shape.append(("scale", name, scale.floor is not None, scale.ceiling is not None))
        values.extend((scale.factor, scale.offset, *bounds))


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
