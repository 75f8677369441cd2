"""Appending messages: the hot path of conversations.

One apply patches the conversation's counters and puts the messages, whose sequence the engine
assigns. Nothing is read before, unless a message has an external id.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from holdfast.core.change import ABSENT, Change, Edit, Outcome, Patch, Put
from holdfast.core.errors import Conflict, IdempotencyMismatch, NotFound
from holdfast.core.filter import Record, among, eq
from holdfast.core.marks import halved
from holdfast.core.turns import in_turns
from holdfast.core.values import check_count, check_text, check_time
from holdfast.stores.conversations.records import (
    CONVERSATIONS,
    MESSAGES,
    Direction,
    Message,
    Role,
)
from holdfast.stores.given import list_of
from holdfast.stores.owned import Owned, name_of
from holdfast.stores.store import builder, object_of, one_of

APPEND_LIMIT: Final = 1_000
"""Most messages of one ``append_many``."""
APPEND_TRIES: Final = 100
"""How often an append repeats when others store the same external ids meanwhile."""
PREVIEW_CHARACTERS: Final = 200
"""How much of its first inbound text a conversation keeps: it is rewritten at every append."""

_build = builder(Message)


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A message to append.

    ``direction`` is inbound for the role user and outbound for others unless given;
    ``created_at`` is now unless given; ``external_id`` makes the append idempotent.
    """

    text: str = ""
    role: Role = "user"
    direction: Direction | None = None
    sender_id: str | None = None
    recipient_id: str | None = None
    external_id: str | None = None
    content: Any = None
    metadata: dict[str, Any] | None = None
    tokens: int = 0
    created_at: datetime | None = None
    id: str | None = None


class Appending(Owned):
    """Writes messages at the end of conversations."""

    @halved("external_id", "expected_head", "op_id")
    def append(
        self,
        conversation_id: str,
        text: str = "",
        *,
        role: Role = "user",
        direction: Direction | None = None,
        sender_id: str | None = None,
        recipient_id: str | None = None,
        external_id: str | None = None,
        content: Any = None,
        metadata: dict[str, Any] | None = None,
        tokens: int = 0,
        created_at: datetime | None = None,
        message_id: str | None = None,
        expected_head: int | None = None,
        op_id: str | None = None,
    ) -> Message:
        """Add a message at the end and return it as stored; the fields are those of Draft.

        A repeated ``external_id`` returns the stored message, and so does a repeated ``op_id``
        with the same arguments (IdempotencyMismatch with others). Raises NotFound for an unknown
        conversation, Conflict when its head is not ``expected_head`` or the id is in use.
        """
        draft = Draft(
            text=text,
            role=role,
            direction=direction,
            sender_id=sender_id,
            recipient_id=recipient_id,
            external_id=external_id,
            content=content,
            metadata=metadata,
            tokens=tokens,
            created_at=created_at,
            id=message_id,
        )
        if external_id is not None or expected_head is not None or op_id is not None:
            return self._append(conversation_id, (draft,), expected_head, op_id)[0]
        now = self._now()
        record = self._message(conversation_id, draft, now)
        changes = self._changes(conversation_id, [record], now, None)

        def refused(error: Conflict | NotFound) -> None:
            self._explain(conversation_id, None, error)

        return self._perform(changes, _appended, refused)

    def append_many(
        self,
        conversation_id: str,
        drafts: Sequence[Draft],
        *,
        expected_head: int | None = None,
        op_id: str | None = None,
    ) -> list[Message]:
        """Add up to 1000 messages in order, all or none; as ``append`` for each.

        The result has one message for each draft, stored ones where external ids repeat.
        """
        list_of("drafts", drafts, Draft, 0, APPEND_LIMIT)
        if not drafts:
            self._require(CONVERSATIONS, conversation_id)
            return []
        return self._append(conversation_id, drafts, expected_head, op_id)

    def _check_drafts(self, drafts: Sequence[Draft]) -> None:
        """Invalid for what ``append_many`` would refuse, without reading anything."""
        for draft in list_of("drafts", drafts, Draft, 0, APPEND_LIMIT):
            MESSAGES.check_record(self._message("", draft, self._now()))

    def _append(
        self,
        conversation_id: str,
        drafts: Sequence[Draft],
        expected_head: int | None,
        op_id: str | None,
    ) -> list[Message]:
        if expected_head is not None:
            check_count("expected_head", expected_head, 0, 2**53)
        now = self._now()
        records = [self._message(conversation_id, draft, now) for draft in in_turns(drafts)]
        asked = (conversation_id, tuple(drafts), expected_head) if op_id is not None else ()
        named = [r["external_id"] for r in records if r["external_id"] is not None]
        for _ in range(APPEND_TRIES if named else 1):
            known = self._known(conversation_id, named) if named else {}
            fresh = _fresh(records, known) if named else records
            if not fresh:
                return [_build(known[r["external_id"]]) for r in records]
            changes = self._changes(conversation_id, fresh, now, expected_head)
            try:
                outcomes = self._apply(*changes, op_id=op_id, asked=asked)
            except (NotFound, Conflict) as error:
                if error.context.get("unique") == "message_external_id":
                    continue
                self._explain(conversation_id, expected_head, error)
                raise
            stored = [outcome.records[0] for outcome in outcomes[1:]]
            if named:
                return _in_order(records, fresh, stored, known)
            return [_build(record) for record in in_turns(stored)]
        raise Conflict("Other writers kept storing the same messages.", hint="Try again later.")

    def _changes(
        self,
        conversation_id: str,
        records: list[Record],
        now: datetime,
        expected_head: int | None,
    ) -> list[Change]:
        when = None
        if self._bound or expected_head is not None:
            head = None if expected_head is None else eq("head", expected_head)
            when = self._when(CONVERSATIONS, head)
        # The conversation comes first: a missing one is NotFound, not a broken reference.
        counts = self._counted(records, now)
        counted = Patch(CONVERSATIONS.name, (conversation_id,), counts, when, silent=True)
        return [counted, *[Put(MESSAGES.name, record, ABSENT) for record in records]]

    def _explain(
        self, conversation_id: str, expected_head: int | None, error: NotFound | Conflict
    ) -> None:
        """Raise what the caller must know instead of a condition that did not hold, if any."""
        if "unique" in error.context or isinstance(error, IdempotencyMismatch):
            return
        held = self._require(CONVERSATIONS, conversation_id)
        if expected_head is not None and held["head"] != expected_head:
            raise Conflict(
                "Others have appended to the conversation.",
                hint="Read it again and repeat with its head.",
                expected=expected_head,
                head=held["head"],
            ) from error

    def _counted(self, records: list[Record], now: datetime) -> Edit:
        first, tokens, count = "", 0, len(records)
        for record in records:
            tokens += record["tokens"]
            if not first and record["direction"] == "inbound":
                first = record["text"]
        return Edit(
            increment={"message_count": count, "token_count": tokens, "head": count},
            maximum={"updated_at": now},
            default={"first_inbound": first[:PREVIEW_CHARACTERS]} if first else {},
        )

    def _message(self, conversation_id: str, draft: Draft, now: datetime) -> Record:
        role = one_of("role", draft.role, Role)
        usual: Direction = "inbound" if role == "user" else "outbound"
        given, name, direction, at = draft.id, draft.external_id, draft.direction, draft.created_at
        # All fields in their declared order: what is whole is checked sooner.
        return {
            "id": self._new_id() if given is None else name_of("message_id", given),
            "conversation_id": conversation_id,
            "sequence": None,
            "external_id": None if name is None else name_of("external_id", name),
            "role": role,
            "direction": usual if direction is None else one_of("direction", direction, Direction),
            "sender_id": draft.sender_id,
            "recipient_id": draft.recipient_id,
            "text": check_text("text", draft.text),
            "content": draft.content,
            "metadata": object_of("metadata", draft.metadata),
            "tokens": check_count("tokens", draft.tokens, 0, 2**31),
            "created_at": now if at is None else check_time("created_at", at),
        }

    def _known(self, conversation_id: str, external_ids: list[str]) -> dict[str, Record]:
        held = self._all(
            MESSAGES, eq("conversation_id", conversation_id), among("external_id", external_ids)
        )
        if held:
            self._require(CONVERSATIONS, conversation_id)
        return {record["external_id"]: record for record in held}


def _appended(outcomes: list[Outcome]) -> Message:
    """The message that was put, after its conversation was patched."""
    return _build(outcomes[1].record)


def _in_order(
    records: list[Record], fresh: list[Record], stored: list[Record], known: dict[str, Record]
) -> list[Message]:
    """One message for each record asked for: as stored now, or as known by its name.

    Stored records stand in for the fresh ones by place: a repeated operation answers with the
    records that its first run stored, under their own ids.
    """
    by_place = iter(stored)
    answers = []
    written = {id(record) for record in fresh}
    for record in records:
        name = record["external_id"]
        held = next(by_place) if id(record) in written else known[name]
        if name is not None:
            known[name] = held
        answers.append(_build(held))
    return answers


def _fresh(records: list[Record], known: dict[str, Record]) -> list[Record]:
    """The records that are to be written: unnamed ones, and the first of each unknown name."""
    seen = set(known)
    fresh = []
    for record in records:
        name = record["external_id"]
        if name is None or name not in seen:
            fresh.append(record)
            seen.add(name)
    return fresh
