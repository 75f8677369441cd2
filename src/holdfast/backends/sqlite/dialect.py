"""How SQLite says what the planner means, and how values are kept in its columns.

Instants are integers, microseconds since 1970 in UTC; json and text lists are JSON text; bool is
0 or 1. Tables are STRICT, so nothing else can be put into a column.
"""

from __future__ import annotations

from typing import Any, Final

import apsw
import msgspec

from holdfast.backends.sql.dialect import Codec, Dialect, quoted
from holdfast.core.collection import Collection
from holdfast.core.edit import appended, merged
from holdfast.core.query import Bucket
from holdfast.core.values import Kind, check_json, check_texts, from_micros, to_micros

TYPES: Final[dict[Kind, str]] = {
    "text": "TEXT",
    "int": "INTEGER",
    "float": "REAL",
    "bool": "INTEGER",
    "time": "INTEGER",
    "json": "TEXT",
    "bytes": "BLOB",
    "texts": "TEXT",
}

_encode_json = msgspec.json.Encoder().encode
_decode_json = msgspec.json.Decoder().decode
_decode_texts = msgspec.json.Decoder(list[str]).decode
_MICROS: Final = {"hour": 3_600_000_000, "day": 86_400_000_000}


def encode_json(value: Any) -> str:
    """JSON text as it is stored."""
    return _encode_json(value).decode()


class SqliteDialect(Dialect):
    """SQLite 3.45 or later, with the functions of `install_functions`."""

    mark = "?"

    def column(self, name: str) -> str:
        # A statement is found again by a digest of its text: the shorter, the sooner.
        plain = name.isascii() and name.isidentifier() and name.upper() not in apsw.keywords
        return name if plain else quoted(name)

    def stated(self, value: Any) -> str | None:
        return literal(value)

    def encoder(self, kind: Kind) -> Codec | None:
        return _ENCODERS.get(kind)

    def decoder(self, kind: Kind) -> Codec | None:
        return _DECODERS.get(kind)

    def table(self, collection: Collection) -> str:
        return quoted(collection.name)

    def in_list(self, column: str) -> str:
        return f"{column} IN (SELECT value FROM json_each(?))"

    def bind_list(self, values: list[Any]) -> Any:
        return encode_json(values)

    def contains(self, column: str, mode: str) -> str:
        held = f"(SELECT value FROM json_each({column}))"
        if mode == "any":
            return f"EXISTS (SELECT 1 FROM json_each(?) AS w WHERE w.value IN {held})"
        return f"NOT EXISTS (SELECT 1 FROM json_each(?) AS w WHERE w.value NOT IN {held})"

    def json_compare(self, column: str, op: str, kind: str) -> str:
        types = {"text": "'text'", "number": "'integer', 'real'", "bool": "'true', 'false'"}[kind]
        return f"(json_type({column}, ?) IN ({types}) AND json_extract({column}, ?) {op} ?)"

    def bind_path(self, path: tuple[str, ...]) -> Any:
        return "$" + "".join(f'."{key}"' for key in path)

    def json_exists(self, column: str) -> str:
        return f"coalesce(json_type({column}, ?), 'null') <> 'null'"

    def bucket(self, column: str, bucket: Bucket) -> str:
        if bucket.unit == "month":
            seconds = f"({column} - ({column} % 1000000 + 1000000) % 1000000) / 1000000"
            return f"unixepoch({seconds}, 'unixepoch', 'start of month') * 1000000"
        unit = _MICROS[bucket.unit]
        return f"({column} - ({column} % {unit} + {unit}) % {unit})"

    def exact_sum(self, column: str) -> str:
        # sum() refuses as soon as a running sum passes 64 bits, so that the order would decide.
        return f"coalesce(sum({column} >> 32) || ' ' || sum({column} & 4294967295), '0 0')"

    def read_sum(self, value: Any) -> int:
        high, low = value.split(" ")
        return int(high) * 2**32 + int(low)

    def append(self, column: str) -> str:
        return f"holdfast_append({column}, ?)"

    def merge(self, column: str) -> str:
        return f"holdfast_merge({column}, ?)"

    def greatest(self, left: str, right: str) -> str:
        return f"max({left}, {right})"

    def least(self, left: str, right: str) -> str:
        return f"min({left}, {right})"

    def sort_term(self, column: str, descending: bool) -> str:
        return f"{column} DESC" if descending else column


def literal(value: Any) -> str:
    """A value as SQL text."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        value = int(value)
    return str(apsw.format_sql_value(value))


def append_json(*arguments: Any) -> str:
    """`core.edit.appended` on stored text lists: held, values."""
    held, values = arguments
    result = appended(None if held is None else _decode_json(held), _decode_json(values))
    return encode_json(check_texts("append", result))


def merge_json(*arguments: Any) -> str:
    """`core.edit.merged` on stored json: held, patch."""
    held, patch = arguments
    result = merged(None if held is None else _decode_json(held), _decode_json(patch))
    return encode_json(check_json("merge", result))


_ENCODERS: Final[dict[Kind, Codec]] = {
    "time": to_micros,
    "json": encode_json,
    "texts": encode_json,
}
_DECODERS: Final[dict[Kind, Codec]] = {
    "time": from_micros,
    "json": _decode_json,
    "texts": _decode_texts,
    "bool": bool,
}
