"""Edits to SET lists that say what `core.edit.edited` says."""

from __future__ import annotations

from typing import Any

from holdfast.backends.sql.dialect import Dialect, quoted
from holdfast.core.change import Edit
from holdfast.core.collection import REVISION, Collection

EditShape = tuple[tuple[Any, ...], ...]
"""Operation and field of each part of an edit, without the values."""


def edit_shape(
    dialect: Dialect, collection: Collection, edit: Edit, values: list[Any]
) -> EditShape:
    """The edit without its values, which are appended in the order of the text's marks."""
    shape: list[tuple[Any, ...]] = []

    def encode(name: str, value: Any) -> Any:
        encoder = None if name == REVISION else dialect.encoder(collection.by_name[name].kind)
        return value if encoder is None or value is None else encoder(value)

    for name, value in edit.set.items():
        shape.append(("set", name))
        values.append(encode(name, value))
    for name, value in edit.default.items():
        shape.append(("default", name))
        values.append(encode(name, value))
    for name, value in edit.increment.items():
        shape.append(("increment", name))
        values.append(value)
    for operation, operands in (("maximum", edit.maximum), ("minimum", edit.minimum)):
        for name, value in operands.items():
            shape.append((operation, name))
            values.extend((encode(name, value),) * 2)
    for operation, lists in (("append", edit.append), ("merge", edit.merge)):
        for name, value in lists.items():
            shape.append((operation, name))
            values.append(encode(name, value))
    for name, scale in edit.scale.items():
        bounds = [bound for bound in (scale.floor, scale.ceiling) if bound is not None]
        shape.append(("scale", name, scale.floor is not None, scale.ceiling is not None))
        values.extend((scale.factor, scale.offset, *bounds))
    return tuple(shape)


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
