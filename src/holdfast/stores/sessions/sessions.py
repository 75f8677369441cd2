"""Sessions: runs of an agent, with state, counters, metadata, labels and descent.

A session is not a conversation: it may hold one, begin one together with its participants, or be
a child of another session. The canonical session is the one that an agent always comes back to.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

import msgspec

from holdfast.core.change import ABSENT, Change, Delete, Edit, Patch, Put, When
from holdfast.core.errors import Conflict, NotFound
from holdfast.core.filter import Record, among, eq
from holdfast.core.marks import grouped, halved
from holdfast.core.query import desc
from holdfast.core.scope import check_name
from holdfast.core.values import check_count, check_text
from holdfast.stores.conversations.conversations import conversation_record
from holdfast.stores.conversations.participants import participant_record
from holdfast.stores.conversations.records import (
    CONVERSATIONS,
    PARTICIPANTS,
    Conversation,
    Participant,
    ParticipantType,
)
from holdfast.stores.given import list_of
from holdfast.stores.owned import Owned, name_of
from holdfast.stores.sessions.canonical import Canonical
from holdfast.stores.sessions.records import (
    COLLECTIONS,
    SESSIONS,
    Session,
    SessionStatus,
    session_record,
)
from holdfast.stores.store import Page, builder, object_of, one_of

LINEAGE_TRIES: Final = 100
"""How often ``delete`` repeats when descendants come and go meanwhile."""
COUNT_LIMIT: Final = 2**40

_build = builder(Session)
_build_conversation = builder(Conversation)
_build_participant = builder(Participant)


class NewParticipant(msgspec.Struct, frozen=True, kw_only=True):
    """A participant to begin a conversation with; the fields are those of ``add``."""

    external_id: str | None = None
    type: ParticipantType = "user"
    name: str = ""
    email: str | None = None
    metadata: dict[str, Any] | None = None


class Begun(msgspec.Struct, frozen=True):
    """A session, its conversation, and who takes part, as they were stored together."""

    session: Session
    conversation: Conversation
    participants: tuple[Participant, ...]


class Sessions(Owned):
    """Sessions of the bound scope."""

    collections = COLLECTIONS

    @cached_property
    def canonical(self) -> Canonical:
        """The one session that the bound scope always comes back to."""
        return Canonical(self._driver, self._scope, self._runtime)

    @grouped
    def create(
        self,
        *,
        label: str | None = None,
        parent_id: str | None = None,
        conversation_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        session_id: str | None = None,
        op_id: str | None = None,
    ) -> Session:
        """Begin a session, active. A repeat with the same ``op_id`` returns the first one.

        Raises NotFound for an unknown parent or conversation, Conflict for
        a ``session_id`` in use.
        """
        asked = ("sessions.create", label, parent_id, conversation_id, metadata, session_id)
        record = session_record(
            name_of("session_id", session_id) or self._new_id(),
            self._now(),
            self._scope_fields(),
            label=label,
            parent_id=parent_id,
            conversation_id=conversation_id,
            metadata=metadata,
        )
        if conversation_id is not None:
            self._require(CONVERSATIONS, conversation_id)
        return _build(self._add(record, [], op_id=op_id, asked=asked)[-1])

    @grouped
    def begin(
        self,
        participants: Sequence[NewParticipant] = (),
        *,
        key: str | None = None,
        title: str | None = None,
        label: str | None = None,
        parent_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        conversation_metadata: dict[str, Any] | None = None,
        op_id: str | None = None,
    ) -> Begun:
        """Begin a session with a new conversation and its participants: all of it, or nothing.

        A repeat with the same ``op_id`` gives what the first call began.
        Raises Conflict when the conversation's ``key`` is in use or two participants share an
        external id, NotFound for an unknown parent.
        """
        list_of("participants", participants, NewParticipant, 0, 1_000)
        given = (key, title, label, parent_id, metadata, conversation_metadata)
        asked = ("sessions.begin", tuple(participants), *given)
        now, scope, conversation_id = self._now(), self._scope_fields(), self._new_id()
        conversation = conversation_record(
            conversation_id, now, scope, key=key, title=title, metadata=conversation_metadata
        )
        members: list[Record] = [
            {
                **participant_record(
                    self._new_id(), conversation_id, **msgspec.structs.asdict(member)
                ),
                "created_at": now,
                "updated_at": now,
            }
            for member in participants
        ]
        session = session_record(
            self._new_id(),
            now,
            scope,
            label=label,
            parent_id=parent_id,
            conversation_id=conversation_id,
            metadata=metadata,
        )
        puts = [Put(CONVERSATIONS.name, conversation, ABSENT)]
        puts += [Put(PARTICIPANTS.name, member, ABSENT) for member in members]
        stored = self._add(session, puts, op_id=op_id, asked=asked)
        return Begun(
            _build(stored[-1]),
            _build_conversation(stored[0]),
            tuple(_build_participant(record) for record in stored[1:-1]),
        )

    def get(self, session_id: str) -> Session | None:
        """The session, or None."""
        held = self._get(SESSIONS, session_id)
        return None if held is None else _build(held)

    def list(
        self,
        *,
        status: SessionStatus | None = None,
        parent_id: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[Session]:
        """Sessions, newest first; those of a status, or the children of one session."""
        return self._page(
            SESSIONS,
            _build,
            None if status is None else eq("status", one_of("status", status, SessionStatus)),
            None if parent_id is None else eq("parent_id", parent_id),
            order=desc("created_at", "id"),
            limit=limit,
            cursor=cursor,
        )

    @halved()
    def set_status(self, session_id: str, status: SessionStatus) -> Session:
        """Make the session active, idle or ended; its first end is kept until it leaves ended."""
        one_of("status", status, SessionStatus)
        now = self._now()
        given: dict[str, Any] = {"status": status}
        if status == "ended":
            edit = Edit(set=given, default={"ended_at": now}, maximum={"updated_at": now})
        else:
            active = {"last_active_at": now} if status == "active" else {}
            given["ended_at"] = None
            edit = Edit(set=given, maximum={"updated_at": now, **active})
        return self._edit(session_id, edit)

    @halved()
    def count(
        self, session_id: str, *, turns: int = 0, input_tokens: int = 0, output_tokens: int = 0
    ) -> Session:
        """Add to the counters and note the activity. NotFound."""
        more = {"turns": turns, "input_tokens": input_tokens, "output_tokens": output_tokens}
        for name, value in more.items():
            check_count(name, value, 0, COUNT_LIMIT)
        now = self._now()
        times = {"updated_at": now, "last_active_at": now}
        return self._edit(session_id, Edit(increment={**more}, maximum=times))

    @halved()
    def merge_metadata(self, session_id: str, metadata: dict[str, Any]) -> Session:
        """Replace the top-level keys that are given; a null value removes its key.

        Concurrent merges of different keys lose nothing.
        """
        merged = {"metadata": object_of("metadata", metadata)}
        return self._edit(session_id, Edit(merge=merged, maximum={"updated_at": self._now()}))

    @halved()
    def replace_metadata(self, session_id: str, metadata: dict[str, Any] | None) -> Session:
        """Replace the whole metadata; None empties it."""
        given = {"metadata": object_of("metadata", metadata)}
        return self._edit(session_id, Edit(set=given, maximum={"updated_at": self._now()}))

    @halved()
    def set_label(self, session_id: str, label: str | None) -> Session:
        """Name the session, or take its name away. Several may share one label."""
        given = {"label": name_of("label", label)}
        return self._edit(session_id, Edit(set=given, maximum={"updated_at": self._now()}))

    def find_by_label(self, label: str | None, *, agent: str | None = None) -> Session | None:
        """The newest session with this label, of one agent if given; None for a blank label."""
        if label is None or not check_text("label", label).strip():
            return None
        whose = None if agent is None else eq("agent", check_name("agent", agent))
        held = self._first(SESSIONS, eq("label", label), whose, order=desc("created_at", "id"))
        return None if held is None else _build(held)

    def delete(self, session_id: str) -> Sequence[str]:
        """Remove a session and every descendant; the ids removed, its own first, or none.

        Their tool events go with them, and the messages of a canonical session.
        """
        for _ in range(LINEAGE_TRIES):
            held = self._get(SESSIONS, session_id)
            if held is None:
                return []
            lineage = self._lineage(held)
            try:
                self._apply(*_removal(lineage))
            except (Conflict, NotFound):
                continue
            return [record["id"] for record in lineage]
        raise Conflict("Its descendants kept changing.", hint="Try again later.")

    def _add(
        self,
        session: Record,
        before: Sequence[Put],
        *,
        op_id: str | None = None,
        asked: tuple[Any, ...] = (),
    ) -> Sequence[Record]:
        """Put a session after other records, counted by its parent; the records put, in order."""
        changes: list[Change] = [*before, Put(SESSIONS.name, session, ABSENT)]
        parent_id = session["parent_id"]
        if parent_id is None:
            return [outcome.record for outcome in self._apply(*changes, op_id=op_id, asked=asked)]
        one_more = Edit(increment={"child_count": 1})
        try:
            parent = Patch(SESSIONS.name, (parent_id,), one_more, self._when(SESSIONS))
            outcomes = self._apply(parent, *changes, op_id=op_id, asked=asked)
            return [outcome.record for outcome in outcomes[1:]]
        except (Conflict, NotFound):
            self._require(SESSIONS, parent_id)
            raise

    def _edit(self, session_id: str, edit: Edit) -> Session:
        return self._perform_patch(SESSIONS, session_id, edit, _build)

    def _lineage(self, session: Record) -> Sequence[Record]:
        """The session and its descendants, parents before children.

        Descendants belong to their ancestor whatever scope they were made in: removing it removes
        them, and nothing is removed that is not reported.
        """
        found, level = [session], [session["id"]]
        while level:
            children = []
            for start in range(0, len(level), 1_000):
                some = among("parent_id", level[start : start + 1_000])
                children += self._tenant_rows(SESSIONS, some)
            children.sort(key=lambda child: (child["created_at"], child["id"]))
            found += children
            level = [child["id"] for child in children]
        return found


def _removal(lineage: Sequence[Record]) -> Sequence[Change]:
    """Delete a lineage, children first, only if every session has the children it was read with."""
    changes: list[Change] = []
    for record in reversed(lineage):
        as_read = When(eq("child_count", record["child_count"]))
        changes.append(Delete(SESSIONS.name, (record["id"],), as_read))
        if record["canonical"] and record["conversation_id"] is not None:
            changes.append(Delete(CONVERSATIONS.name, (record["conversation_id"],)))
    if lineage[0]["parent_id"] is not None:
        one_less = Edit(increment={"child_count": -1})
        changes.append(Patch(SESSIONS.name, (lineage[0]["parent_id"],), one_less))
    return changes
