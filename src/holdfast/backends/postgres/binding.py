"""Values as the server takes them, and as it gives them back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from struct import Struct
from typing import Any, Final

import msgspec
import psycopg
from psycopg import pq
from psycopg.adapt import AdaptersMap, Loader

MARK: Final = "$?"
"""One bound value in a statement's text; numbered before it is sent."""

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_micros = Struct("!q").unpack
_decode_json = msgspec.json.Decoder().decode


class _TimeLoader(Loader):
    format = pq.Format.BINARY

    def load(self, data: Any) -> datetime:
        return _EPOCH + timedelta(0, 0, _micros(data)[0])


class _JsonLoader(Loader):
    format = pq.Format.BINARY

    def load(self, data: Any) -> Any:
        return _decode_json(data)


class _Context:
    """How psycopg reads values for us."""

    connection = None

    def __init__(self) -> None:
        self.adapters = AdaptersMap(psycopg.adapters)
        self.adapters.register_loader("timestamptz", _TimeLoader)
        self.adapters.register_loader("json", _JsonLoader)


CONTEXT: Final = _Context()


def _array(values: list[Any]) -> bytes:
    """An array as PostgreSQL writes one; every element is quoted, so none is a word of its own."""
    texts = [v if type(v) is str else BINDERS[type(v)](v).decode() for v in values]
    quoted = ('"' + t.replace("\\", "\\\\").replace('"', '\\"') + '"' for t in texts)
    return ("{" + ",".join(quoted) + "}").encode()


BINDERS: Final[dict[type, Callable[[Any], bytes]]] = {
    str: str.encode,
    int: lambda value: b"%d" % value,
    bool: lambda value: b"t" if value else b"f",
    float: lambda value: repr(value).encode(),
    datetime: lambda value: value.isoformat().encode(),
    list: _array,
    bytes: lambda value: value,
}

_numbered: dict[str, bytes] = {}


def numbered(text: str) -> bytes:
    """The statement with its marks numbered, as the server takes them."""
    found = _numbered.get(text)
    if found is None:
        first, *rest = text.split(MARK)
        found = (first + "".join(f"${n}{part}" for n, part in enumerate(rest, 1))).encode()
        if len(_numbered) > 4096:
            _numbered.clear()
        _numbered[text] = found
    return found
