"""Cursors: opaque, signed, and bound to the tenant and the query that made them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Any, Final

import msgspec

from holdfast.core.errors import InvalidCursor
from holdfast.core.query import Query
from holdfast.core.values import plain

_SIGNATURE_BYTES: Final = 16
"""128 bits: beyond guessing."""


def encode_cursor(key: bytes, tenant: str, query: Query, last: tuple[Any, ...]) -> str:
    """The text that continues ``query`` after the record at ``last``."""
    body = msgspec.msgpack.encode(last)
    return base64.urlsafe_b64encode(_sign(key, tenant, query, body) + body).decode().rstrip("=")


def decode_cursor(key: bytes, tenant: str, query: Query, cursor: object) -> tuple[Any, ...]:
    """The position inside a cursor of the same tenant and query; InvalidCursor for any other."""
    if not isinstance(cursor, str):
        raise InvalidCursor("cursor", expected="a cursor that a page returned", got=cursor)
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raw = b""
    signature, body = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
    if not hmac.compare_digest(signature, _sign(key, tenant, query, body)):
        raise InvalidCursor(
            "cursor",
            expected="a cursor that a page of this very query returned",
            got="another text",
            hint="Pass the cursor unchanged and keep filter and order the same.",
        )
    return tuple(msgspec.msgpack.decode(body))


def _sign(key: bytes, tenant: str, query: Query, body: bytes) -> bytes:
    wanted = (tenant, query.collection, query.filter, query.order)
    shape = msgspec.msgpack.encode(wanted, enc_hook=plain)
    digest = hmac.new(key, len(shape).to_bytes(8) + shape + body, hashlib.sha256)
    return digest.digest()[:_SIGNATURE_BYTES]
