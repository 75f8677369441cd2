"""The nouns of the audit log, and how an entry becomes a hash.

The hash covers every field, each with its length before it, so that no two entries have the
same bytes; and the hash before it, so that no entry can change without all later ones.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from holdfast.core.collection import Collection, Index
from holdfast.core.digests import sha256
from holdfast.core.values import to_micros

GENESIS: Final = "0" * 64
"""The hash before the first entry."""

Chain = tuple[str, str, str, str]
"""Agent, user, namespace and stream: what a chain is kept for."""


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was done. ``seq`` counts from 1 in its chain, without gaps.

    ``body`` is the JSON text of ``data``, kept as text so that every backend stores the very
    bytes that were hashed.
    """

    stream: str
    seq: int
    at: datetime
    actor: str
    action: str
    subject: str
    body: str
    previous_hash: str
    hash: str
    agent: str
    user: str
    namespace: str
    revision: int = 0

    @property
    def data(self) -> Any:
        """What was recorded beside actor, action and subject."""
        return msgspec.json.decode(self.body)


class AuditHead(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a chain, which tells a missing tail, and the end of what was trimmed."""

    stream: str
    seq: int
    hash: str
    trimmed_seq: int
    trimmed_hash: str
    agent: str
    user: str
    namespace: str
    revision: int = 0


class Anchor(msgspec.Struct, frozen=True, kw_only=True):
    """A chain's end at an instant, to be kept outside the store.

    A chain that was rewritten from the start is consistent in itself and betrayed by an anchor
    alone. ``signature`` is an HMAC-SHA256 under the caller's key, or empty.
    """

    tenant: str
    agent: str
    user: str
    namespace: str
    stream: str
    seq: int
    hash: str
    at: datetime
    signature: str = ""


_CHAIN: Final = ("agent", "user", "namespace", "stream")

AUDIT = Collection.of(
    AuditEntry,
    "audit_entries",
    key=(*_CHAIN, "seq"),
    indexes=(
        Index((*_CHAIN, "seq"), serves="verify in order of the chain"),
        Index(("at",), serves="list, newest first"),
    ),
)

HEADS = Collection.of(AuditHead, "audit_heads", key=_CHAIN)

COLLECTIONS: Final = (AUDIT, HEADS)


def canonical_json(value: object) -> str:
    """JSON text with sorted keys and no spaces: equal data, equal text."""
    return msgspec.json.encode(value, order="deterministic").decode()


def entry_hash(tenant: str, entry: Mapping[str, Any], *, seq: int | None = None) -> str:
    """The SHA-256 of an entry, or what it would be at another place in the chain."""
    names = ("actor", "action", "subject", "body", "previous_hash")
    fields = (
        "holdfast.audit.1",
        tenant,
        *(entry[part] for part in _CHAIN),
        str(entry["seq"] if seq is None else seq),
        str(to_micros(entry["at"])),
        *(entry[name] for name in names),
    )
    return sha256(_delimited(fields)).hexdigest()


def anchor_signature(anchor: Anchor, key: bytes) -> str:
    """The HMAC-SHA256 of all that an anchor says."""
    fields = (
        "holdfast.anchor.1",
        anchor.tenant,
        *(getattr(anchor, part) for part in _CHAIN),
        str(anchor.seq),
        anchor.hash,
        str(to_micros(anchor.at)),
    )
    import hmac  # here, because signing is optional and loads OpenSSL

    return hmac.new(key, _delimited(fields), "sha256").hexdigest()


def _delimited(fields: tuple[str, ...]) -> bytes:
    encoded = (field.encode() for field in fields)
    return b"".join(len(part).to_bytes(8) + part for part in encoded)
