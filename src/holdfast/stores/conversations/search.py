"""Finding messages again by their words."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from holdfast.core.filter import Filter, eq, ge, le
from holdfast.core.ranker import Candidate, PreparedQuery, Ranker
from holdfast.core.search import Hits, Search, TextLeg
from holdfast.core.text import analyze
from holdfast.core.values import check_count, check_text, check_time
from holdfast.stores.conversations.records import CONVERSATIONS, MESSAGES, Message, Role
from holdfast.stores.owned import Owned
from holdfast.stores.store import builder, one_of

K_LIMIT: Final = 1_000
"""Most results of one search."""
TERM_LIMIT: Final = 128
"""A query is searched by its first so many different terms."""

_build = builder(Message)


class FoundMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message that a search found. ``parts`` tells what made up the score, when asked for."""

    message: Message
    score: float
    parts: dict[str, float] = {}


class MessageSearch(Owned):
    """Searches messages by text; ranked by the recipe of the storage, else by BM25 alone."""

    def search(
        self,
        query: str,
        *,
        k: int = 10,
        conversation_id: str | None = None,
        role: Role | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        explain: bool = False,
    ) -> list[FoundMessage]:
        """The ``k`` (0 to 1000) best messages for the words of ``query``, ties by id.

        Nothing in the query is grammar; without any word there is no result. The filters hold
        before the limit; ``start`` and ``end`` are included. An unknown conversation has none.
        """
        check_text("query", query)
        check_count("k", k, 0, K_LIMIT)
        parts = _narrowed(conversation_id, role, start, end)
        ranker = self._runtime.ranker
        prepared = None if ranker is None else ranker.prepare(query, now=self._now())
        terms = analyze(query if prepared is None else prepared.lexical)
        terms = list(dict.fromkeys(terms))[:TERM_LIMIT]
        if not terms or not k:
            return []
        wanted = k if ranker is None else min(max(k, ranker.candidates), K_LIMIT)
        through = self._through("conversation_id", CONVERSATIONS)
        search = Search(
            collection=MESSAGES.name,
            filter=self._within(MESSAGES, *parts, through),
            k=wanted,
            text=TextLeg(terms=tuple(terms)),
        )
        hits = self._driver.search(self._scope.tenant, search)
        if ranker is None or prepared is None:
            return [_by_text(hits, place, explain) for place in range(len(hits.text))]
        return _ranked(hits, ranker, prepared, k, explain)


def _narrowed(
    conversation_id: str | None, role: Role | None, start: datetime | None, end: datetime | None
) -> tuple[Filter | None, ...]:
    return (
        None if conversation_id is None else eq("conversation_id", conversation_id),
        None if role is None else eq("role", one_of("role", role, Role)),
        None if start is None else ge("created_at", check_time("start", start)),
        None if end is None else le("created_at", check_time("end", end)),
    )


def _by_text(hits: Hits, place: int, explain: bool) -> FoundMessage:
    hit = hits.text[place]
    parts = {"text": hit.score} if explain else {}
    return FoundMessage(message=_build(hits.records[hit.key]), score=hit.score, parts=parts)


def _ranked(
    hits: Hits, ranker: Ranker, prepared: PreparedQuery, k: int, explain: bool
) -> list[FoundMessage]:
    messages = {key: _build(record) for key, record in hits.records.items()}
    candidates = [_candidate(hit.key, hit.score, messages[hit.key]) for hit in hits.text]
    return [
        FoundMessage(message=messages[found.key], score=found.score, parts=found.parts)
        for found in ranker.rank(prepared, candidates, k, explain=explain)
    ]


def _candidate(key: Any, score: float, message: Message) -> Candidate:
    return Candidate(
        key=key,
        text_score=score,
        speaker=message.sender_id,
        session=message.conversation_id,
        turn=message.sequence,
        time=message.created_at,
        role=message.role,
    )
