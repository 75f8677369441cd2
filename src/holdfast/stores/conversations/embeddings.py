"""Vectors of messages: made after the append, by a queue that several workers may serve.

An append stays one write. A message's vector is a record of its own beside it, with the fields that
a search filters by, so that a search by meaning is filtered before its limit like any other. It is
deleted with its message. Vectors of another model count as missing and are made anew; until then
they are found by that model only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import msgspec

from holdfast.core.change import ABSENT, Change, Claim, Edit, Patch, PatchWhere, Put, When
from holdfast.core.clock import shifted
from holdfast.core.embedding import Embedder
from holdfast.core.errors import Conflict, Invalid, NotFound, Unsupported
from holdfast.core.filter import (
    EVERYTHING,
    Filter,
    InSelect,
    Record,
    among,
    both,
    either,
    eq,
    is_null,
    le,
    ne,
    not_null,
)
from holdfast.core.query import Aggregate, asc
from holdfast.core.values import Vector, check_count
from holdfast.stores.conversations.records import CONVERSATIONS, MESSAGE_VECTORS, MESSAGES
from holdfast.stores.models import document_vectors
from holdfast.stores.owned import Owned

LEASE_SECONDS: Final = 60.0
"""After so long another worker may take what one has begun."""
BACKOFF_SECONDS: Final = 60.0
"""Wait after the first failure; it doubles with each further one, up to an hour."""
BACKOFF_LIMIT_SECONDS: Final = 3_600.0
ATTEMPTS: Final = 5
"""After so many failures a message is parked until it is re-armed."""
_COPIED: Final = ("conversation_id", "role", "sender_id", "created_at")


class EmbeddingStats(msgspec.Struct, frozen=True, kw_only=True):
    """Messages of the bound scope by where their vector stands."""

    embedded: int
    missing: int
    """Never embedded, or by another model only."""
    waiting: int
    """With a worker, or backing off after a failure."""
    parked: int


class MessageEmbeddings(Owned):
    """Makes the vectors by which messages are found by meaning."""

    collections = (MESSAGE_VECTORS,)

    def run(self, *, limit: int = 100) -> int:
        """Embed up to ``limit`` (1 to 1000) messages that lack their vector; how many got one.

        Those that failed and are due come first, then the oldest. No message goes to two workers
        before its lease of a minute ends. A message that the model refuses holds up no other: it
        is tried again after a wait, and parked after five times. Raises Invalid without an
        embedder, Unsupported where the engine has no vectors, DimensionMismatch when the embedder
        answers in another width than its space promises.
        """
        check_count("limit", limit, 1, 1_000)
        embedder, vectors_offered = self._embedder(), self._driver.capabilities.vectors
        if not vectors_offered:
            raise Unsupported(f"This engine has no vectors: {vectors_offered.reason}.")
        claimed = self._claimed(embedder.space.id, limit)
        texts = {key: text for key, (_, text) in claimed.items() if text.strip()}
        made, error = document_vectors(embedder, list(texts.values()))
        vectors: dict[str, Vector | str] = dict(zip(texts, made, strict=True)) if not error else {}
        if error is not None:  # one by one, to find out which of them it is
            for key, text in texts.items():
                alone, code = document_vectors(embedder, [text])
                vectors[key] = code or alone[0]
        changes = {
            key: self._settled(record, embedder.space.id, vectors.get(key))
            for key, (record, _) in claimed.items()
        }
        written = self._written(changes)
        return sum(isinstance(vectors.get(key), Vector) for key in written)

    def stats(self) -> EmbeddingStats:
        """How many messages have their vector, and where the others stand. Invalid: no embedder."""
        space = self._embedder().space.id
        embedded = self._count(MESSAGE_VECTORS.name, eq("space", space), is_null("due_at"))
        waiting = self._count(MESSAGE_VECTORS.name, not_null("due_at"), eq("parked", False))
        parked = self._count(MESSAGE_VECTORS.name, eq("parked", True))
        missing = self._count(MESSAGES.name) - embedded - waiting - parked
        return EmbeddingStats(
            embedded=embedded, missing=max(missing, 0), waiting=waiting, parked=parked
        )

    def rearm(self) -> int:
        """Make parked messages due again; how many."""
        again = {"due_at": self._now(), "parked": False, "attempts": 0, "token": None}
        parked = both(eq("parked", True), self._reach())
        return self._apply(PatchWhere(MESSAGE_VECTORS.name, parked, Edit(set=again)))[0].count

    def _embedder(self) -> Embedder:
        embedder = self._runtime.embedder
        if embedder is None:
            raise Invalid("embedder", expected="an embedder, given at open", got="none")
        return embedder

    def _reach(self) -> Filter | None:
        return self._through("conversation_id", CONVERSATIONS)

    def _count(self, collection: str, *parts: Filter) -> int:
        counted = Aggregate(collection=collection, filter=both(*parts, self._reach()))
        count: int = self._driver.aggregate(self._scope.tenant, counted)[0]["count"]
        return count

    # --- taking

    def _claimed(self, space: str, limit: int) -> dict[str, tuple[Record, str]]:
        """The vectors' records and the texts to embed, by message, leased to this caller."""
        now, token = self._now(), self._new_id()
        lease = {"due_at": shifted(now, timedelta(seconds=LEASE_SECONDS)), "token": token}
        due = both(not_null("due_at"), le("due_at", now), eq("parked", False))
        foreign = both(is_null("due_at"), ne("space", space))
        edit = Edit(set=lease, increment={"attempts": 1})
        take = both(either(due, foreign), self._reach())
        order = asc("due_at", "message_id")
        claim = Claim(MESSAGE_VECTORS.name, take, order, limit, edit)
        held = {r["message_id"]: r for r in self._apply(claim)[0].records}
        texts = {}
        if held:
            among_them = among("id", sorted(held))
            rows = self._all(MESSAGES, among_them, self._reach(), fields=("text",))
            texts = {row["id"]: row["text"] for row in rows}
        claimed = {key: (record, texts[key]) for key, record in held.items() if key in texts}
        if len(held) < limit:
            claimed |= self._begun(limit - len(held), lease)
        return claimed

    def _begun(self, limit: int, lease: Mapping[str, Any]) -> dict[str, tuple[Record, str]]:
        """Messages that no vector was ever begun for, oldest first."""
        begun = InSelect("id", MESSAGE_VECTORS.name, "message_id", EVERYTHING)
        rows = self._all(
            MESSAGES, ~begun, self._reach(), order=asc("id"), limit=limit, fields=(*_COPIED, "text")
        )
        records = {
            row["id"]: {
                "message_id": row["id"],
                **{name: row[name] for name in _COPIED},
                "space": None,
                "attempts": 1,
                "error": None,
                "parked": False,
                **lease,
            }
            for row in rows
        }
        texts = {row["id"]: row["text"] for row in rows}
        puts: dict[str, Change] = {
            key: Put(MESSAGE_VECTORS.name, record, ABSENT) for key, record in records.items()
        }
        # What another worker began in between, or what has been removed, is not this one's.
        return {key: (records[key], texts[key]) for key in self._written(puts)}

    # --- giving back

    def _settled(self, record: Record, space: str, made: Vector | str | None) -> Change:
        """The vector in its place; or what is to become of a message that could not be embedded."""
        if isinstance(made, str):
            wait = min(BACKOFF_SECONDS * 2.0 ** (record["attempts"] - 1), BACKOFF_LIMIT_SECONDS)
            fields = {
                "due_at": shifted(self._now(), timedelta(seconds=wait)),
                "error": made,
                "parked": record["attempts"] >= ATTEMPTS,
            }
        else:  # a text of nothing but space has no meaning to search by
            fields = {
                "embedding": made,
                "space": space,
                "due_at": None,
                "error": None,
                "attempts": 0,
            }
        mine = When(eq("token", record["token"]))
        edit = Edit(set={**fields, "token": None})
        return Patch(MESSAGE_VECTORS.name, (record["message_id"],), edit, mine)

    def _written(self, changes: Mapping[str, Change]) -> Sequence[str]:
        """Write all in one apply; where one is refused, one by one. Whose were written."""
        if not changes:
            return []
        try:
            self._apply(*changes.values())
        except (Conflict, NotFound):
            return [key for key, change in changes.items() if self._alone(change)]
        return list(changes)

    def _alone(self, change: Change) -> bool:
        try:
            self._apply(change)
        except (Conflict, NotFound):
            return False
        return True
