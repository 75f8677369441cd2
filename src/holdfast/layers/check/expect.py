"""Small refusals that the checks share; each names the field and what was expected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from holdfast.core.collection import Collection
from holdfast.core.errors import Invalid, kind_of


def expect_word(name: str, value: object, words: tuple[str, ...]) -> None:
    """One of a few words."""
    if value not in words:
        raise Invalid(name, expected=f"one of {', '.join(words)}", got="another")


def expect_list(name: str, value: object) -> None:
    """A list or tuple."""
    if not isinstance(value, list | tuple):
        raise Invalid(name, expected="a list", got=kind_of(value))


def expect_mapping(name: str, value: object) -> None:
    """A dictionary or another mapping."""
    if type(value) is not dict and not isinstance(value, Mapping):
        raise Invalid(name, expected="an object", got=kind_of(value))


def expect_kind(collection: Collection, name: str, kinds: tuple[str, ...]) -> None:
    """A declared field of one of these kinds."""
    found = collection.field(name).kind
    if found not in kinds:
        raise Invalid(name, expected=f"a field of kind {' or '.join(kinds)}", got=found)


def present(collection: Collection, name: str, value: object) -> Any:
    """A value of the field's kind that is not null."""
    if value is None:
        raise Invalid(name, expected="a value", got="null", hint="Use is_null.")
    return collection.check_value(name, value)
