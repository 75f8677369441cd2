"""Numbers of sequences, drawn or raised by the very statement that writes the record."""

from __future__ import annotations

from typing import Any

import msgspec

from holdfast.backends.postgres.binding import MARK
from holdfast.backends.postgres.dialect import PostgresDialect, literal
from holdfast.core.collection import Collection
from holdfast.core.filter import Record

_encode_body = msgspec.msgpack.Encoder().encode


def counter_values(tenant: str, collection: Collection, record: Record) -> list[Any]:
    """The values of what draws, or raises, the counters of a record."""
    drawn: list[Any] = []
    given: list[Any] = []
    for sequence in collection.sequences:
        per = _encode_body(tuple(record[name] for name in sequence.per)).hex()
        number = record[sequence.field]
        if number is None:
            drawn += tenant, per
        else:
            given += tenant, per, number
    return drawn + given


def counting(dialect: PostgresDialect, collection: Collection, drawn: tuple[str, ...]) -> str:
    """The text of that, before that of the record itself.

    All that is drawn is one statement's: each one costs what row security asks at its start.
    """
    fields = [sequence.field for sequence in collection.sequences]
    given = [field for field in fields if field not in drawn]
    parts = [_counters(dialect, collection, "drawn", drawn)] if drawn else []
    parts += [_counters(dialect, collection, f"given{n}", (f,)) for n, f in enumerate(given)]
    return f"WITH {', '.join(parts)} " if parts else ""


def _counters(
    dialect: PostgresDialect, collection: Collection, name: str, fields: tuple[str, ...]
) -> str:
    is_drawn = name == "drawn"
    first, last, where = (
        ("1", "q.last + 1", "")
        if is_drawn
        else (MARK, "excluded.last", " WHERE q.last < excluded.last")
    )
    rows = ", ".join(
        f"({MARK}, {literal(collection.name)}, {literal(field)}, {MARK}, {first})"
        for field in fields
    )
    return (
        f"{name} AS (INSERT INTO {dialect.schema}.holdfast_sequences AS q"
        f" (tenant, collection, field, per, last) VALUES {rows}"
        " ON CONFLICT (tenant, collection, field, per) DO UPDATE"
        f" SET last = {last}{where} RETURNING {'last' if len(fields) == 1 else 'field, last'})"
    )


def numbered_mark(name: str, drawn: tuple[str, ...]) -> str:
    """What stands for a field's value: a bound one, or the number that was drawn for it."""
    if name not in drawn:
        return MARK
    which = f" WHERE field = {literal(name)}" if len(drawn) > 1 else ""
    return f"(SELECT last FROM drawn{which})"
