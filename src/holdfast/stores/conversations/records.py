"""The shapes of conversations: the conversation, who takes part in it, and what was said."""

from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from holdfast.core.collection import Collection, Index, Reference, Sequence, Unique
from holdfast.core.filter import not_null
from holdfast.core.values import check_text

ConversationStatus = Literal["open", "closed"]
ParticipantType = Literal["user", "agent", "tool", "system"]
ParticipantState = Literal["FOLLOWED", "MUTED"]
Role = Literal["user", "assistant", "system", "tool"]
Direction = Literal["inbound", "outbound"]


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """One thread of messages.

    ``head`` counts the messages ever appended; pass it as ``expected_head`` to append only when
    nobody else did. ``message_count`` and ``token_count`` are of the messages still held.
    ``first_inbound`` is the beginning of the first inbound text.
    """

    id: str
    key: str | None
    title: str | None
    summary: str | None
    status: ConversationStatus
    room_id: str | None
    metadata: dict[str, Any]
    message_count: int
    token_count: int
    head: int
    first_inbound: str | None
    created_at: datetime
    updated_at: datetime
    agent: str
    user: str
    namespace: str
    revision: int = 0


class Participant(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody or something that takes part in one conversation.

    ``email_key`` is the e-mail as it is compared: trimmed and without case.
    """

    id: str
    conversation_id: str
    external_id: str | None
    type: ParticipantType
    name: str
    email: str | None
    email_key: str | None
    state: ParticipantState | None
    last_read_message_id: str | None
    metadata: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    revision: int = 0


class Message(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One thing said. ``sequence`` rises strictly within its conversation.

    ``content`` is any JSON beside the text, such as parts or tool calls. ``tokens`` is what the
    caller counted.
    """

    id: str
    conversation_id: str
    sequence: int
    external_id: str | None
    role: Role
    direction: Direction
    sender_id: str | None
    recipient_id: str | None
    text: str
    content: Any
    metadata: dict[str, Any]
    tokens: int
    created_at: datetime
    revision: int = 0


CONVERSATIONS: Final = Collection.of(
    Conversation,
    "conversations",
    unique=(
        Unique(
            "conversation_key",
            ("agent", "user", "namespace", "key"),
            where=not_null("key"),
        ),
    ),
    indexes=(
        Index(("created_at", "id"), serves="list, newest first"),
        Index(("updated_at", "id"), serves="overviews, most recently used first"),
        Index(("agent", "created_at", "id"), serves="an agent's conversations, newest first"),
        Index(("user", "created_at", "id"), serves="a user's conversations, newest first"),
        Index(("room_id",), serves="removal of a room", where=not_null("room_id")),
    ),
    references=(Reference("room_id", "rooms", "cascade"),),
)

PARTICIPANTS: Final = Collection.of(
    Participant,
    "participants",
    unique=(
        Unique(
            "participant_external_id",
            ("conversation_id", "external_id"),
            where=not_null("external_id"),
        ),
    ),
    indexes=(
        Index(("conversation_id", "created_at", "id"), serves="participants in order of joining"),
        Index(
            ("email_key", "type", "conversation_id"),
            serves="conversations owned by an e-mail",
            where=not_null("email_key"),
        ),
    ),
    references=(Reference("conversation_id", CONVERSATIONS.name, "cascade"),),
)

MESSAGES: Final = Collection.of(
    Message,
    "messages",
    unique=(
        Unique(
            "message_external_id",
            ("conversation_id", "external_id"),
            where=not_null("external_id"),
        ),
    ),
    # One index for pages and for time ranges: the id makes the order total without a sort, and
    # the time rides along, so that a range is cut in the index and an append keeps one entry less.
    indexes=(
        Index(
            ("conversation_id", "sequence", "id", "created_at"),
            serves="pages, the recent window and time ranges of one conversation",
        ),
    ),
    sequences=(Sequence("sequence", ("conversation_id",)),),
    references=(Reference("conversation_id", CONVERSATIONS.name, "cascade"),),
    full_text=("text",),
    included=("conversation_id", "sequence", "sender_id", "role", "created_at"),
    version=2,
)


class MessageVector(msgspec.Struct, frozen=True, kw_only=True):
    """By what a message is found by meaning, and what a search filters it by.

    ``space`` is None until there is a vector; ``due_at`` is when one is to be made again, or when
    the lease of who makes it ends; None when all is done.
    """

    message_id: str
    conversation_id: str
    role: Role
    sender_id: str | None
    created_at: datetime
    space: str | None
    due_at: datetime | None
    token: str | None
    attempts: int
    error: str | None
    """The code of the last failure."""
    parked: bool
    revision: int = 0


MESSAGE_VECTORS: Final = Collection.of(
    MessageVector,
    "message_vectors",
    key=("message_id",),
    indexes=(
        Index(("conversation_id",), serves="search by meaning in one conversation"),
        Index(("due_at",), serves="messages to embed again", where=not_null("due_at")),
    ),
    references=(Reference("message_id", MESSAGES.name, "cascade"),),
    vectors=("embedding",),
)

COLLECTIONS: Final = (CONVERSATIONS, PARTICIPANTS, MESSAGES, MESSAGE_VECTORS)


def email_key(email: str | None) -> str | None:
    """An e-mail as it is compared: trimmed, without case; None when nothing is left."""
    if email is None:
        return None
    return check_text("email", email, 320).strip().casefold() or None
