"""Messages: reading what was said, in order, by window, by time, and with the names of who spoke.

They are written by ``conversations.append``. The order is the sequence that the engine gives, so
messages of one instant are neither lost nor repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal, TypeVar

import msgspec

from holdfast.core.change import PRESENT, Delete, Edit, Patch
from holdfast.core.errors import NotFound
from holdfast.core.filter import among, eq, ge, le
from holdfast.core.query import asc, desc
from holdfast.core.values import check_count, check_time
from holdfast.stores.conversations.records import (
    CONVERSATIONS,
    MESSAGES,
    PARTICIPANTS,
    Message,
    Participant,
)
from holdfast.stores.given import check_page, list_of
from holdfast.stores.owned import Owned
from holdfast.stores.store import Page, builder, one_of

PageDirection = Literal["forward", "backward"]
WINDOW_LIMIT: Final = 100_000
"""Most messages that ``recent`` can be asked for."""

Nothing = TypeVar("Nothing")

build_message = builder(Message)
build_participant = builder(Participant)


class Party(msgspec.Struct, frozen=True):
    """Who sent or was sent a message. ``type`` is empty when the participant is gone."""

    id: str
    type: str = ""
    name: str = ""


class Spoken(msgspec.Struct, frozen=True):
    """A message with the names of its sender and recipient, None where it names none."""

    message: Message
    sender: Party | None
    recipient: Party | None


class Messages(Owned):
    """Reads the messages of conversations."""

    collections = (MESSAGES,)

    def get(self, message_id: str) -> Message | None:
        """The message, or None."""
        try:
            return build_message(self._part(MESSAGES, message_id, CONVERSATIONS, "conversation_id"))
        except NotFound:
            return None

    def page(
        self,
        conversation_id: str,
        *,
        direction: PageDirection = "forward",
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[Message]:
        """Messages by sequence: forward from the first, backward from the last. NotFound."""
        one_of("direction", direction, PageDirection)
        check_page(limit, cursor)
        self._check_reach(conversation_id)
        page = self._page(
            MESSAGES,
            build_message,
            eq("conversation_id", conversation_id),
            order=asc("sequence") if direction == "forward" else desc("sequence"),
            limit=limit,
            cursor=cursor,
        )
        return page if page.items else self._nothing_in(conversation_id, page)

    def recent(self, conversation_id: str, count: int = 50) -> list[Message]:
        """The last ``count`` messages, oldest first; 0 gives all of them. NotFound."""
        check_count("count", count, 0, WINDOW_LIMIT)
        self._check_reach(conversation_id)
        where = eq("conversation_id", conversation_id)
        found = self._all(MESSAGES, where, order=desc("sequence"), limit=count or None)
        messages = [build_message(record) for record in reversed(found)]
        return messages or self._nothing_in(conversation_id, messages)

    def between(
        self,
        conversation_id: str,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[Message]:
        """Messages made from ``start`` to ``end``, both included, by sequence. NotFound."""
        check_page(limit, cursor)
        within = (
            None if start is None else ge("created_at", check_time("start", start)),
            None if end is None else le("created_at", check_time("end", end)),
        )
        self._check_reach(conversation_id)
        page = self._page(
            MESSAGES,
            build_message,
            eq("conversation_id", conversation_id),
            *within,
            order=asc("sequence"),
            limit=limit,
            cursor=cursor,
        )
        return page if page.items else self._nothing_in(conversation_id, page)

    def _check_reach(self, conversation_id: str) -> None:
        """NotFound for a conversation outside what this handle is bound to.

        Messages carry no scope of their own. Without a binding, the conversation is looked up
        only when it shows no message: one that does is there.
        """
        if self._scope.bound():
            self._require(CONVERSATIONS, conversation_id)

    def _nothing_in(self, conversation_id: str, nothing: Nothing) -> Nothing:
        """The empty answer for a conversation that is there; NotFound for one that is not."""
        self._require(CONVERSATIONS, conversation_id)
        return nothing

    def named(self, messages: Sequence[Message]) -> list[Spoken]:
        """The messages with the names of their senders and recipients, in one read for all."""
        list_of("messages", messages, Message, 0, WINDOW_LIMIT)
        wanted = {m.sender_id for m in messages} | {m.recipient_id for m in messages}
        ids = sorted(participant for participant in wanted if participant is not None)
        through = self._through("conversation_id", CONVERSATIONS)
        parties: dict[tuple[str, str], Party] = {}
        for start in range(0, len(ids), 1_000):
            some = among("id", ids[start : start + 1_000])
            for record in self._all(PARTICIPANTS, some, through):
                held = build_participant(record)
                party = Party(held.id, held.type, held.name)
                parties[held.conversation_id, held.id] = party

        def party_of(message: Message, participant: str | None) -> Party | None:
            if participant is None:
                return None
            # A name is told only inside the conversation that the participant takes part in.
            return parties.get((message.conversation_id, participant), Party(participant))

        return [Spoken(m, party_of(m, m.sender_id), party_of(m, m.recipient_id)) for m in messages]

    def remove(self, message_id: str) -> bool:
        """Delete one message and count it out of its conversation; whether it existed."""
        message = self.get(message_id)
        if message is None:
            return False
        less = Edit(
            increment={"message_count": -1, "token_count": -message.tokens},
            maximum={"updated_at": self._now()},
        )
        try:
            self._apply(
                Delete(MESSAGES.name, (message_id,), PRESENT),
                Patch(CONVERSATIONS.name, (message.conversation_id,), less),
            )
        except NotFound:
            return False
        return True
