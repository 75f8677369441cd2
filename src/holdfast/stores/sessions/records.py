"""The shape of sessions: one run of an agent, its state, its line of descent, its counters."""

from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from holdfast.core.collection import Collection, Index, Reference, Unique
from holdfast.core.filter import Record, eq, not_null
from holdfast.stores.conversations.records import CONVERSATIONS
from holdfast.stores.owned import name_of
from holdfast.stores.store import object_of

SessionStatus = Literal["active", "idle", "ended"]


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One run of an agent. ``agent`` is empty when none was bound; it is never invented.

    ``child_count`` counts the sessions that name this one as parent. ``summary`` stands for the
    messages that compaction folded; ``summarised_through`` is the sequence of the last of them.
    """

    id: str
    parent_id: str | None
    conversation_id: str | None
    label: str | None
    status: SessionStatus
    canonical: bool
    metadata: dict[str, Any]
    summary: str
    summarised_through: int
    child_count: int
    turns: int
    input_tokens: int
    output_tokens: int
    created_at: datetime
    updated_at: datetime
    last_active_at: datetime
    ended_at: datetime | None
    agent: str
    user: str
    namespace: str
    revision: int = 0


SESSIONS: Final = Collection.of(
    Session,
    "sessions",
    unique=(
        Unique("canonical_session", ("agent", "user", "namespace"), where=eq("canonical", True)),
    ),
    indexes=(
        Index(("created_at", "id"), serves="list, newest first"),
        Index(("agent", "created_at", "id"), serves="an agent's sessions, newest first"),
        Index(("status", "created_at", "id"), serves="sessions of a status, newest first"),
        Index(
            ("label", "agent", "created_at", "id"),
            serves="the newest session of a label",
            where=not_null("label"),
        ),
        Index(
            ("parent_id", "created_at", "id"),
            serves="the children of a session",
            where=not_null("parent_id"),
        ),
        Index(
            ("conversation_id",),
            serves="letting go of a removed conversation",
            where=not_null("conversation_id"),
        ),
    ),
    references=(
        Reference("parent_id", "sessions", "cascade"),
        Reference("conversation_id", CONVERSATIONS.name, "clear"),
    ),
)

COLLECTIONS: Final = (SESSIONS,)


def session_record(
    session_id: str,
    now: datetime,
    scope: dict[str, str],
    *,
    label: str | None = None,
    parent_id: str | None = None,
    conversation_id: str | None = None,
    metadata: dict[str, Any] | None = None,
    canonical: bool = False,
) -> Record:
    """A new session; Invalid names what is wrong."""
    return {
        **scope,
        "id": session_id,
        "parent_id": parent_id,
        "conversation_id": conversation_id,
        "label": name_of("label", label),
        "status": "active",
        "canonical": canonical,
        "metadata": object_of("metadata", metadata),
        "summary": "",
        "summarised_through": 0,
        "child_count": 0,
        "turns": 0,
        "input_tokens": 0,
        "output_tokens": 0,
        "created_at": now,
        "updated_at": now,
        "last_active_at": now,
        "ended_at": None,
    }
