"""Conversations: threads of messages, who takes part in them, and what is found in them again.

A conversation counts its own messages and keeps the beginning of its first inbound text, so that
an overview of many is one read. Appending is one write and no read, unless the caller names the
message by an outside id: then a repeat returns what is stored.
"""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from holdfast.core.change import ABSENT, Edit, Put
from holdfast.core.errors import Conflict
from holdfast.core.filter import InSelect, Record, both, eq, gt
from holdfast.core.marks import grouped
from holdfast.core.query import desc
from holdfast.core.values import check_bool, check_count, check_keyed_text, check_time
from holdfast.stores.conversations.appending import Appending
from holdfast.stores.conversations.embeddings import MessageEmbeddings
from holdfast.stores.conversations.messages import Messages
from holdfast.stores.conversations.participants import Participants
from holdfast.stores.conversations.records import (
    COLLECTIONS,
    CONVERSATIONS,
    PARTICIPANTS,
    Conversation,
    ConversationStatus,
    email_key,
)
from holdfast.stores.conversations.search import MessageSearch
from holdfast.stores.given import check_op_id
from holdfast.stores.owned import changes_of, name_of
from holdfast.stores.rooms import ROOMS
from holdfast.stores.store import Page, builder, object_of, one_of

_build = builder(Conversation)

ListOrder = Literal["created_at", "updated_at"]


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation in one line. ``first_inbound`` is the beginning of its first inbound text."""

    id: str
    title: str | None
    message_count: int
    first_inbound: str | None
    created_at: datetime
    updated_at: datetime


class Conversations(Appending, MessageSearch):
    """Conversations of the bound scope."""

    collections = COLLECTIONS

    @cached_property
    def messages(self) -> Messages:
        """Reading what was said."""
        return Messages(self._driver, self._scope, self._runtime)

    @cached_property
    def embeddings(self) -> MessageEmbeddings:
        """The vectors by which messages are found by meaning."""
        return MessageEmbeddings(self._driver, self._scope, self._runtime)

    @cached_property
    def participants(self) -> Participants:
        """Who takes part."""
        return Participants(self._driver, self._scope, self._runtime)

    @grouped
    def create(
        self,
        *,
        key: str | None = None,
        title: str | None = None,
        room_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        conversation_id: str | None = None,
        created_at: datetime | None = None,
        op_id: str | None = None,
    ) -> Conversation:
        """Begin a conversation; with a ``key`` that the bound scope has used, the first one.

        A repeat with the same ``op_id`` returns the first one too. ``created_at`` is now, unless
        it is brought along from elsewhere. Raises Conflict for a ``conversation_id`` in use,
        NotFound for a ``room_id`` of no room.
        """
        given = (key, title, room_id, metadata, conversation_id, created_at)
        record = conversation_record(
            name_of("conversation_id", conversation_id) or self._new_id(),
            self._now() if created_at is None else check_time("created_at", created_at),
            self._scope_fields(),
            key=key,
            title=title,
            room_id=room_id,
            metadata=metadata,
        )
        CONVERSATIONS.check_record(record)
        check_op_id(op_id)
        held = self.get_by_key(key)
        if held is not None:
            return held
        if room_id is not None:
            self._require(ROOMS, room_id)
        try:
            put, asked = Put(CONVERSATIONS.name, record, ABSENT), ("conversations.create", *given)
            return _build(self._apply(put, op_id=op_id, asked=asked)[0].record)
        except Conflict:
            held = self.get_by_key(key)
            if held is None:
                raise
            return held

    def get(self, conversation_id: str) -> Conversation | None:
        """The conversation, or None."""
        held = self._get(CONVERSATIONS, conversation_id)
        return None if held is None else _build(held)

    def get_by_key(self, key: str | None) -> Conversation | None:
        """The conversation that was created with this key in exactly the bound scope, or None."""
        if key is None or not check_keyed_text("key", key).strip():
            return None
        exact = [eq(part, value) for part, value in self._scope_fields().items()]
        held = self._first(CONVERSATIONS, *exact, eq("key", key))
        return None if held is None else _build(held)

    def list(
        self,
        *,
        status: ConversationStatus | None = None,
        order: ListOrder = "created_at",
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[Conversation]:
        """Conversations, newest first: by creation, or by last change.

        By last change, one that changes while pages are read moves to the front.
        """
        return self._page(
            CONVERSATIONS,
            _build,
            None if status is None else eq("status", _status(status)),
            order=desc(one_of("order", order, ListOrder), "id"),
            limit=limit,
            cursor=cursor,
        )

    def list_owned(
        self, email: str | None, *, limit: int = 100, cursor: str | None = None
    ) -> Page[Conversation]:
        """Conversations with a user participant of this e-mail, newest first.

        The e-mail is compared trimmed and without case; a blank one owns nothing.
        """
        owner = email_key(email)
        check_count("limit", limit, 1, 1_000)
        if owner is None:
            return Page([])
        takes_part = both(eq("email_key", owner), eq("type", "user"))
        return self._page(
            CONVERSATIONS,
            _build,
            InSelect("id", PARTICIPANTS.name, "conversation_id", takes_part),
            order=desc("created_at", "id"),
            limit=limit,
            cursor=cursor,
        )

    def overviews(
        self, *, include_empty: bool = True, limit: int = 50, cursor: str | None = None
    ) -> Page[Overview]:
        """Conversations in one line each, most recently changed first, in one read."""
        return self._page(
            CONVERSATIONS,
            _overview,
            None if check_bool("include_empty", include_empty) else gt("message_count", 0),
            order=desc("updated_at", "id"),
            limit=limit,
            cursor=cursor,
        )

    @grouped
    def update(
        self,
        conversation_id: str,
        *,
        title: str | None | UnsetType = UNSET,
        summary: str | None | UnsetType = UNSET,
        status: ConversationStatus | UnsetType = UNSET,
        metadata: dict[str, Any] | None | UnsetType = UNSET,
    ) -> Conversation:
        """Replace what is given; None clears, what is absent stays. NotFound."""
        given = changes_of(
            {"title": title, "summary": summary, "status": status, "metadata": metadata}
        )
        if "status" in given:
            _status(given["status"])
        if "metadata" in given:
            given["metadata"] = object_of("metadata", given["metadata"])
        edit = Edit(set=given, maximum={"updated_at": self._now()})
        return _build(self._patch(CONVERSATIONS, conversation_id, edit))

    def delete(self, conversation_id: str) -> bool:
        """Remove the conversation, its participants and messages; whether it existed."""
        return self._drop(CONVERSATIONS, conversation_id)


def conversation_record(
    conversation_id: str,
    now: datetime,
    scope: dict[str, str],
    *,
    key: str | None = None,
    title: str | None = None,
    room_id: str | None = None,
    metadata: dict[str, Any] | None = None,
) -> Record:
    """A new conversation; Invalid names what is wrong."""
    return {
        **scope,
        "id": conversation_id,
        "key": name_of("key", key),
        "title": title,
        "summary": None,
        "status": "open",
        "room_id": room_id,
        "metadata": object_of("metadata", metadata),
        "message_count": 0,
        "token_count": 0,
        "head": 0,
        "first_inbound": None,
        "created_at": now,
        "updated_at": now,
    }


def _overview(record: Record) -> Overview:
    held = _build(record)
    return Overview(
        id=held.id,
        title=held.title,
        message_count=held.message_count,
        first_inbound=held.first_inbound,
        created_at=held.created_at,
        updated_at=held.updated_at,
    )


def _status(status: object) -> Any:
    return one_of("status", status, ConversationStatus)
