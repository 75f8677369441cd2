"""From words on the command line to values: instants, text from stdin, JSON, keys with values."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click

from holdfast.core.errors import Invalid


class Instant(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.5 on
    """A date or an instant of ISO 8601; without a zone it is UTC."""

    name = "instant"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """The instant, or a usage error that shows what one looks like."""
        if isinstance(value, datetime):
            return value
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            self.fail("expected an instant such as 2026-03-01 or 2026-03-01T09:30Z.", param, ctx)
        return found if found.tzinfo else found.replace(tzinfo=UTC)


INSTANT = Instant()


def text_of(field: str, given: str) -> str:
    """The text itself, or standard input for "-", without the line's end that it closes with."""
    if given != "-":
        return given
    if sys.stdin is None or sys.stdin.closed:
        raise Invalid(field, expected="text on standard input", got="a closed one")
    try:
        text = sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError:
        raise Invalid(field, expected="UTF-8 text on standard input", got="other bytes") from None
    return text.removesuffix("\n").removesuffix("\r")


def json_of(field: str, given: str | None) -> Any:
    """JSON from the argument, or from standard input for "-"; None when it is not given."""
    if given is None:
        return None
    try:
        return json.loads(text_of(field, given), parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise Invalid(field, expected="JSON", got="other text") from None


def pairs_of(field: str, given: Sequence[str]) -> dict[str, Any]:
    """An object from KEY=VALUE words; a value that reads as JSON is that, else text."""
    found: dict[str, Any] = {}
    for word in given:
        key, separator, value = word.partition("=")
        if not separator or not key:
            raise Invalid(field, expected="KEY=VALUE", got="other text")
        try:
            found[key] = json.loads(value, parse_constant=_no_number)
        except (ValueError, RecursionError):
            found[key] = value
    return found


def given(**fields: Any) -> dict[str, Any]:
    """The fields that were given: neither None nor an empty list."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in fields.items()
        if value is not None and value != ()
    }


def _no_number(text: str) -> Any:
    raise ValueError(text)
