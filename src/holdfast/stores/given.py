"""What callers give to a store beside plain values, checked before anything is read.

Values that are stored meet the check layer on their way to the engine. These do not, or only
after a read: lists of drafts, functions, models, pages, operation ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from holdfast.core.errors import Invalid, InvalidCursor, kind_of
from holdfast.core.scope import NAME_LIMIT
from holdfast.core.values import check_count, check_text

T = TypeVar("T")

PAGE_LIMIT = 1_000
"""Most records of one page."""


def instance_of(field: str, value: object, kind: type[T]) -> T:
    """``value`` if it is a ``kind``, else Invalid."""
    if not isinstance(value, kind):
        raise Invalid(field, expected=f"a {kind.__name__}", got=kind_of(value))
    return value


def list_of(field: str, values: object, kind: type[T], low: int, high: int) -> Sequence[T]:
    """``values`` if they are ``low`` to ``high`` of the ``kind``, in a list or the like."""
    if isinstance(values, str | bytes) or not isinstance(values, Sequence):
        raise Invalid(field, expected=f"a list of {kind.__name__}", got=kind_of(values))
    check_count(field, len(values), low, high)
    for place, value in enumerate(values):
        if not isinstance(value, kind):
            raise Invalid(f"{field}[{place}]", expected=f"a {kind.__name__}", got=kind_of(value))
    return values


def check_function(field: str, value: object, *, needed: bool = False) -> None:
    """Invalid unless it can be called; None is none, and fine if not ``needed``."""
    if (value is not None or needed) and not callable(value):
        raise Invalid(field, expected="a function", got=kind_of(value))


def check_embedder(field: str, value: Any, *, needed: bool = False) -> None:
    """Invalid unless it embeds into a named space; None is none, and fine if not ``needed``."""
    if value is None and not needed:
        return
    space = getattr(value, "space", None)
    named = isinstance(getattr(space, "id", None), str)
    if not named or not callable(getattr(value, "embed", None)):
        raise Invalid(field, expected="an embedder", got=kind_of(value))


def check_verbs(field: str, value: object, *verbs: str) -> None:
    """Invalid for an object that lacks one of the verbs, and for a class; None is none and fine."""
    for verb in verbs:
        if value is not None and not callable(getattr(value, verb, None)):
            raise Invalid(field, expected=f"an object with {verb}()", got=kind_of(value))
    if isinstance(value, type):
        expected = f"an object of the class {value.__name__}, as {value.__name__}() makes"
        raise Invalid(field, expected=expected, got="the class")


def check_op_id(op_id: object) -> None:
    """Invalid for what can be no operation id; for verbs that read before they write."""
    if op_id is not None:
        check_text("op_id", op_id, NAME_LIMIT)


def check_page(limit: object, cursor: object) -> None:
    """Invalid for a senseless page; for verbs that read before they list."""
    check_count("limit", limit, 1, PAGE_LIMIT)
    if cursor is not None and not isinstance(cursor, str):
        raise InvalidCursor("cursor", expected="a cursor that a page returned", got=cursor)
