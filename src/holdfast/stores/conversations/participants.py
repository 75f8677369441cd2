"""Participants: who takes part in a conversation, what they follow and how far they have read."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType

from holdfast.core.change import ABSENT, Edit, Patch, Put
from holdfast.core.errors import Conflict, IdempotencyMismatch, NotFound
from holdfast.core.filter import Record, eq
from holdfast.core.marks import grouped
from holdfast.core.query import asc
from holdfast.core.values import check_keyed_text, check_text
from holdfast.stores.conversations.records import (
    CONVERSATIONS,
    MESSAGES,
    PARTICIPANTS,
    Participant,
    ParticipantState,
    ParticipantType,
    email_key,
)
from holdfast.stores.given import check_op_id, check_page
from holdfast.stores.owned import Owned, changes_of, name_of
from holdfast.stores.store import Page, builder, object_of, one_of

_build = builder(Participant)
_PARENT = "conversation_id"


class Participants(Owned):
    """The participants of conversations."""

    collections = (PARTICIPANTS,)

    @grouped
    def add(
        self,
        conversation_id: str,
        *,
        external_id: str | None = None,
        type: ParticipantType = "user",
        name: str = "",
        email: str | None = None,
        metadata: dict[str, Any] | None = None,
        participant_id: str | None = None,
        op_id: str | None = None,
    ) -> Participant:
        """Add a participant; with an ``external_id`` that takes part already, that one.

        A repeat with the same ``op_id`` gives the one that the first call added. Raises NotFound
        for an unknown conversation, Conflict for a used ``participant_id``.
        """
        given = (external_id, type, name, email, metadata, participant_id)
        record = participant_record(
            name_of("participant_id", participant_id) or self._new_id(),
            conversation_id,
            external_id=external_id,
            type=type,
            name=name,
            email=email,
            metadata=metadata,
        )
        now = self._now()
        record["created_at"] = record["updated_at"] = now
        PARTICIPANTS.check_record(record)
        check_op_id(op_id)
        held = self.resolve(conversation_id, external_id)
        if held is not None:
            return held
        joined = Edit(maximum={"updated_at": now})
        when = self._when(CONVERSATIONS)
        try:
            outcome = self._apply(
                Patch(CONVERSATIONS.name, (conversation_id,), joined, when),
                Put(PARTICIPANTS.name, record, ABSENT),
                op_id=op_id,
                asked=("participants.add", conversation_id, *given),
            )[1]
        except IdempotencyMismatch:
            raise
        except (Conflict, NotFound):
            self._require(CONVERSATIONS, conversation_id)
            held = self.resolve(conversation_id, external_id)
            if held is None:
                raise
            return held
        return _build(outcome.record)

    def get(self, participant_id: str) -> Participant | None:
        """The participant, or None."""
        try:
            return _build(self._part(PARTICIPANTS, participant_id, CONVERSATIONS, _PARENT))
        except NotFound:
            return None

    def list(
        self, conversation_id: str, *, limit: int = 100, cursor: str | None = None
    ) -> Page[Participant]:
        """Participants in order of joining. NotFound for an unknown conversation."""
        check_page(limit, cursor)
        self._require(CONVERSATIONS, conversation_id)
        return self._page(
            PARTICIPANTS,
            _build,
            eq(_PARENT, conversation_id),
            order=asc("created_at", "id"),
            limit=limit,
            cursor=cursor,
        )

    def resolve(self, conversation_id: str, external_id: str | None) -> Participant | None:
        """The earliest participant of the conversation with this external id, or None.

        A blank external id is nobody's.
        """
        check_keyed_text("conversation_id", conversation_id)
        if external_id is None or not check_text("external_id", external_id).strip():
            return None
        found = self._first(
            PARTICIPANTS,
            eq(_PARENT, conversation_id),
            eq("external_id", external_id),
            self._through(_PARENT, CONVERSATIONS),
            order=asc("created_at", "id"),
        )
        return None if found is None else _build(found)

    @grouped
    def update(
        self,
        participant_id: str,
        *,
        name: str | UnsetType = UNSET,
        email: str | None | UnsetType = UNSET,
        metadata: dict[str, Any] | None | UnsetType = UNSET,
    ) -> Participant:
        """Change what is given; None clears, what is absent stays. NotFound."""
        given = changes_of({"name": name, "email": email, "metadata": metadata})
        if "email" in given:
            given["email_key"] = email_key(given["email"])
        if "metadata" in given:
            given["metadata"] = object_of("metadata", given["metadata"])
        return self._edit(participant_id, given)

    @grouped
    def set_state(self, participant_id: str, state: ParticipantState | None) -> Participant:
        """FOLLOWED, MUTED, or None for neither. NotFound."""
        if state is not None:
            one_of("state", state, ParticipantState)
        return self._edit(participant_id, {"state": state})

    @grouped
    def mark_read(self, participant_id: str, message_id: str) -> Participant:
        """Keep the last message read. NotFound unless both are of one conversation."""
        check_keyed_text("message_id", message_id)
        participant = self._part(PARTICIPANTS, participant_id, CONVERSATIONS, _PARENT)
        message = self._require(MESSAGES, message_id)
        if message[_PARENT] != participant[_PARENT]:
            raise NotFound(f"There is no such record in {MESSAGES.name}.")
        return self._edit(participant_id, {"last_read_message_id": message_id})

    def remove(self, participant_id: str) -> bool:
        """Let the participant leave; whether there was one. Their messages keep the id."""
        return self._drop_part(PARTICIPANTS, participant_id, CONVERSATIONS, _PARENT)

    def _edit(self, participant_id: str, given: dict[str, Any]) -> Participant:
        edit = Edit(set=given, maximum={"updated_at": self._now()})
        return _build(self._patch_part(PARTICIPANTS, participant_id, CONVERSATIONS, _PARENT, edit))


def participant_record(
    participant_id: str,
    conversation_id: str,
    *,
    external_id: str | None = None,
    type: ParticipantType = "user",
    name: str = "",
    email: str | None = None,
    metadata: dict[str, Any] | None = None,
) -> Record:
    """A new participant without its times; Invalid names what is wrong."""
    return {
        "id": participant_id,
        "conversation_id": conversation_id,
        "external_id": name_of("external_id", external_id),
        "type": one_of("type", type, ParticipantType),
        "name": name,
        "email": email,
        "email_key": email_key(email),
        "state": None,
        "last_read_message_id": None,
        "metadata": object_of("metadata", metadata),
    }
