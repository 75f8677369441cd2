"""What a search of messages answers."""

from __future__ import annotations

import msgspec

from holdfast.stores.answer import Answer, Shown
from holdfast.stores.conversations.records import Message


class FoundMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message that a search found."""

    message: Message
    score: float
    """Cosine in vector mode, BM25 in keyword mode, the ranker's blend in hybrid mode."""
    legs: tuple[str, ...] = ()
    """Which legs found it: "text", "vector"; empty when only its neighbours brought it."""
    parts: dict[str, float] = {}
    """With ``explain``: what each stage added, and as "bm25" and "cosine" the legs' raw scores."""


class FoundMessages(Answer[FoundMessage]):
    """What was found, best first.

    ``flags`` says what was not as usual: "not_embedded" (messages whose words matched have no
    vector yet, or none has), "query_embedding_failed", "query_terms_cut", "speakers_cut",
    "vectors_not_offered" (the engine has none). ``stages`` holds, with ``explain``, the numbers of
    each stage.
    """

    def shown(self, item: FoundMessage) -> Shown:
        message = item.message
        origin = (
            f"{message.sender_id or message.role} · #{message.sequence}"
            f" · {message.created_at:%Y-%m-%d} · {message.conversation_id}"
        )
        return Shown(message.id, item.score, item.legs, origin, message.text)
