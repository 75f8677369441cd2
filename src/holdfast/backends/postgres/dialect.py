"""How PostgreSQL says what the planner means, and how values are kept in its columns.

Text is collated "C", whose order of UTF-8 bytes is the order of code points. JSON is kept as it
was written: jsonb would lose the order of keys and the spelling of numbers.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from holdfast.backends.postgres.binding import MARK
from holdfast.backends.sql.dialect import Codec, Dialect, quoted
from holdfast.core.collection import Collection
from holdfast.core.query import Bucket
from holdfast.core.values import Kind

TYPES: Final[dict[Kind, str]] = {
    "text": 'text COLLATE "C"',
    "int": "bigint",
    "float": "double precision",
    "bool": "boolean",
    "time": "timestamptz",
    "json": "json",
    "bytes": "bytea",
    "texts": 'text[] COLLATE "C"',
}

LITERAL_LIMIT: Final = 128
"""Limits up to here stand in the statement's text; beyond, they would make too many texts."""
_UNLIMITED: Final = 2**62

_encode_json = msgspec.json.Encoder().encode


def encode_json(value: Any) -> str:
    """JSON text as it is stored."""
    return _encode_json(value).decode()


class PostgresDialect(Dialect):
    """PostgreSQL 15 or later, with the functions of `functions.FUNCTIONS` in ``schema``."""

    mark = MARK

    def __init__(self, schema: str) -> None:
        self.schema = quoted(schema)

    def limit(self, count: int, values: list[Any]) -> str:
        # Of an unknown limit the server expects a tenth of all rows, finds every plan for known
        # values better, and plans anew at each call: half of the time of a page.
        if count <= LITERAL_LIMIT or count >= _UNLIMITED:
            return str(count)
        return super().limit(count, values)

    def encoder(self, kind: Kind) -> Codec | None:
        return encode_json if kind == "json" else None

    def decoder(self, kind: Kind) -> Codec | None:
        return None

    def table(self, collection: Collection) -> str:
        return f"{self.schema}.{quoted(collection.name)}"

    def in_list(self, column: str) -> str:
        return f"{column} = ANY({MARK})"

    def bind_list(self, values: list[Any]) -> Any:
        return values

    def contains(self, column: str, mode: str) -> str:
        return f"coalesce({column}, '{{}}') {'&&' if mode == 'any' else '@>'} {MARK}"

    def json_compare(self, column: str, op: str, kind: str) -> str:
        type, cast = _JSON_KINDS[kind]
        found = f"{self.schema}.holdfast_at({column}, {MARK})"
        return (
            f"(CASE WHEN json_typeof({found}) = '{type}' THEN ({found} #>> '{{}}'){cast}"
            f" {op} {MARK}{cast} END)"
        )

    def bind_path(self, path: tuple[str, ...]) -> Any:
        return list(path)

    def json_exists(self, column: str) -> str:
        return (
            f"coalesce(json_typeof({self.schema}.holdfast_at({column}, {MARK})), 'null') <> 'null'"
        )

    def bucket(self, column: str, bucket: Bucket) -> str:
        return f"date_trunc('{bucket.unit}', {column}, 'UTC')"

    def exact_sum(self, column: str) -> str:
        return f"coalesce(sum({column}), 0)::text"

    def read_sum(self, value: Any) -> int:
        return int(value)

    def append(self, column: str) -> str:
        return f"{self.schema}.holdfast_append({column}, {MARK})"

    def merge(self, column: str) -> str:
        return f"{self.schema}.holdfast_merge({column}, {MARK})"

    def greatest(self, left: str, right: str) -> str:
        return f"greatest({left}, {right})"

    def least(self, left: str, right: str) -> str:
        return f"least({left}, {right})"

    def extremum(self, column: str, measure: str, kind: Kind) -> str:
        if kind == "bool":  # which has no min and max there
            return f"{'bool_and' if measure == 'min' else 'bool_or'}({column})"
        return f"{measure}({column})"

    def sort_term(self, column: str, descending: bool) -> str:
        return f"{column} DESC NULLS LAST" if descending else f"{column} NULLS FIRST"


def literal(value: Any) -> str:
    """A value as SQL text, for defaults and the conditions of indexes."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, datetime):
        return f"'{value.isoformat()}'::timestamptz"
    if isinstance(value, bytes):
        return f"'\\x{value.hex()}'::bytea"
    if isinstance(value, list):
        return f"ARRAY[{', '.join(map(literal, value))}]::text[]"
    return "'" + str(value).replace("'", "''") + "'"


_JSON_KINDS: Final = {
    "text": ("string", '::text COLLATE "C"'),
    "number": ("number", "::numeric"),
    "bool": ("boolean", "::boolean"),
}
