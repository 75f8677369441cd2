"""The canonical session: the one that an agent always comes back to, kept short by summaries.

Its messages are those of an ordinary conversation. Compaction folds the oldest of them into the
session's summary; messages, summary and token count change together.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, Final

import msgspec

from holdfast.core.change import ABSENT, DeleteWhere, Edit, Patch, Put, When
from holdfast.core.errors import Conflict, NotFound
from holdfast.core.filter import Record, both, eq, is_null, le
from holdfast.core.marks import grouped
from holdfast.core.query import asc, desc
from holdfast.core.values import check_count, check_text
from holdfast.stores.conversations.appending import Draft
from holdfast.stores.conversations.conversations import Conversations, conversation_record
from holdfast.stores.conversations.records import CONVERSATIONS, MESSAGES, Message, Role
from holdfast.stores.owned import Owned
from holdfast.stores.sessions.records import SESSIONS, Session, session_record
from holdfast.stores.store import builder

COMPACT_THRESHOLD: Final = 100
COMPACT_KEEP: Final = 50
MESSAGE_CHARACTERS: Final = 200
SUMMARY_CHARACTERS: Final = 4_000
WINDOW: Final = 50
TRIES: Final = 100
"""How often opening and compaction repeat when others write meanwhile."""
_HIGH: Final = 1_000_000

_build = builder(Session)
_build_message = builder(Message)


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """What to give a model: the summary of what was folded and the last messages, oldest first.

    ``head`` is the conversation's; pass it to ``store_summary``.
    """

    summary: str
    messages: list[Message]
    head: int


class Canonical(Owned):
    """The canonical session of exactly the bound scope, made when it is first needed."""

    @cached_property
    def _conversations(self) -> Conversations:
        return Conversations(self._driver, self._scope, self._runtime)

    def session(self) -> Session:
        """The session; of several first callers all get the same one."""
        return _build(self._open())

    @grouped
    def append(
        self,
        text: str,
        *,
        role: Role = "user",
        tokens: int = 0,
        content: Any = None,
        external_id: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Message:
        """Add a message at the end; as ``conversations.append``."""
        draft = Draft(
            text=text,
            role=role,
            tokens=tokens,
            content=content,
            external_id=external_id,
            metadata=metadata,
        )
        return self.append_many([draft])[0]

    @grouped
    def append_many(self, drafts: Sequence[Draft]) -> list[Message]:
        """Add messages in order, all or none; as ``conversations.append_many``."""
        self._conversations._check_drafts(drafts)
        return self._conversations.append_many(self._open()["conversation_id"], drafts)

    def window(self, count: int = WINDOW) -> Window:
        """The summary and the last ``count`` (0: all) messages, as they stood at one moment."""
        check_count("count", count, 0, _HIGH)
        for _ in range(TRIES):
            opened = self._open()
            conversation = self._require(CONVERSATIONS, opened["conversation_id"])
            # Summary and messages are read between two looks at what every change of them moves.
            session = self._require(SESSIONS, opened["id"])
            where = eq("conversation_id", conversation["id"])
            found = self._all(MESSAGES, where, order=desc("sequence"), limit=count or None)
            again = self._get(CONVERSATIONS, conversation["id"])
            if again is not None and _standing(again) == _standing(conversation):
                messages = [_build_message(record) for record in reversed(found)]
                return Window(
                    summary=session["summary"], messages=messages, head=conversation["head"]
                )
        raise Conflict("Other writers kept changing the session.", hint="Try again later.")

    def compact(
        self,
        *,
        threshold: int = COMPACT_THRESHOLD,
        keep: int = COMPACT_KEEP,
        message_characters: int = MESSAGE_CHARACTERS,
        summary_characters: int = SUMMARY_CHARACTERS,
    ) -> int:
        """Above ``threshold`` messages keep the last ``keep`` and fold the others; how many.

        Each folded message adds its role and first ``message_characters`` as a line. The summary
        keeps its last ``summary_characters``, so that the oldest fades first.
        """
        check_count("keep", keep, 0, _HIGH)
        check_count("threshold", threshold, keep, _HIGH)
        check_count("message_characters", message_characters, 1, _HIGH)
        check_count("summary_characters", summary_characters, 1, _HIGH)
        for _ in range(TRIES):
            session = self._open()
            conversation = self._require(CONVERSATIONS, session["conversation_id"])
            if conversation["message_count"] <= threshold:
                return 0
            folded = self._oldest(conversation, keep)
            lines = [f"{m.role}: {_start(m.text, message_characters)}" for m in folded]
            summary = "\n".join([session["summary"], *lines] if session["summary"] else lines)
            try:
                self._fold(session, conversation, folded, _end(summary, summary_characters))
            except (Conflict, NotFound):
                continue
            return len(folded)
        raise Conflict("Other writers kept changing the session.", hint="Try again later.")

    def store_summary(self, summary: str, *, expected_head: int, keep: int = COMPACT_KEEP) -> int:
        """Replace the summary and drop all but the last ``keep`` messages; how many it dropped.

        Raises Conflict when messages came or went since ``expected_head`` was read, so that
        nothing is dropped that the summary does not know.
        """
        check_text("summary", summary)
        check_count("expected_head", expected_head, 0, 2**62)
        check_count("keep", keep, 0, _HIGH)
        session = self._open()
        conversation = self._require(CONVERSATIONS, session["conversation_id"])
        if conversation["head"] != expected_head:
            raise _moved(expected_head, conversation["head"])
        folded = self._oldest(conversation, keep)
        try:
            self._fold(session, conversation, folded, summary)
        except (Conflict, NotFound) as error:
            now = self._get(CONVERSATIONS, conversation["id"])
            raise _moved(expected_head, 0 if now is None else now["head"]) from error
        return len(folded)

    def _open(self) -> Record:
        """The session's record, with a conversation."""
        for _ in range(TRIES):
            exact = [eq(part, value) for part, value in self._scope_fields().items()]
            held = self._first(SESSIONS, *exact, eq("canonical", True))
            if held is not None and held["conversation_id"] is not None:
                return held
            try:
                return self._begin(held, self._now())
            except (Conflict, NotFound):
                continue
        raise Conflict("Other writers kept changing the session.", hint="Try again later.")

    def _begin(self, held: Record | None, now: datetime) -> Record:
        scope, conversation_id = self._scope_fields(), self._new_id()
        conversation = Put(
            CONVERSATIONS.name, conversation_record(conversation_id, now, scope), ABSENT
        )
        if held is None:
            record = session_record(
                self._new_id(), now, scope, conversation_id=conversation_id, canonical=True
            )
            return self._apply(conversation, Put(SESSIONS.name, record, ABSENT))[1].record
        # Its conversation was deleted: what was folded out of it goes too.
        edit = Edit(
            set={"conversation_id": conversation_id, "summary": "", "summarised_through": 0}
        )
        lost = When(is_null("conversation_id"))
        return self._apply(conversation, Patch(SESSIONS.name, (held["id"],), edit, lost))[1].record

    def _oldest(self, conversation: Record, keep: int) -> list[Message]:
        """All but the last ``keep`` messages."""
        where = eq("conversation_id", conversation["id"])
        surplus = max(0, conversation["message_count"] - keep)
        found = self._all(MESSAGES, where, order=asc("sequence"), limit=surplus)
        return [_build_message(record) for record in found]

    def _fold(
        self, session: Record, conversation: Record, folded: list[Message], summary: str
    ) -> None:
        """Drop the messages and replace the summary, if the conversation stands as it was read."""
        now = self._now()
        last = folded[-1].sequence if folded else session["summarised_through"]
        fewer = Edit(
            increment={
                "message_count": -len(folded),
                "token_count": -sum(message.tokens for message in folded),
            },
            maximum={"updated_at": now},
        )
        as_read = both(
            eq("head", conversation["head"]), eq("message_count", conversation["message_count"])
        )
        told = Edit(
            set={"summary": summary},
            maximum={"summarised_through": last, "updated_at": now},
        )
        # A summary that was stored meanwhile moves neither head nor count.
        same_summary = When(eq("summary", session["summary"]))
        of_it = eq("conversation_id", conversation["id"])
        self._apply(
            Patch(CONVERSATIONS.name, (conversation["id"],), fewer, When(as_read)),
            Patch(SESSIONS.name, (session["id"],), told, same_summary),
            DeleteWhere(MESSAGES.name, both(of_it, le("sequence", last))),
        )


def _standing(conversation: Record) -> tuple[int, int]:
    return conversation["head"], conversation["message_count"]


def _moved(expected: int, head: int) -> Conflict:
    return Conflict(
        "The session has changed since it was read.",
        hint="Read its window again and summarise that.",
        expected=expected,
        head=head,
    )


def _start(text: str, limit: int) -> str:
    """The first characters of a text, cut where no mark is torn from its letter."""
    if len(text) <= limit:
        return text
    while limit and _continues(text, limit):
        limit -= 1
    return text[:limit]


def _end(text: str, limit: int) -> str:
    """The last characters of a text, cut where no mark is torn from its letter."""
    start = max(0, len(text) - limit)
    while start < len(text) and _continues(text, start):
        start += 1
    return text[start:]


def _continues(text: str, place: int) -> bool:
    """Whether the character at ``place`` belongs to the one before it."""
    if place <= 0 or place >= len(text):
        return False
    here = text[place]
    return bool(unicodedata.combining(here)) or here in _JOINERS or text[place - 1] == "\u200d"


_JOINERS: Final = "\u200d\ufe0e\ufe0f\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff"
"""Zero-width joiner, variation selectors and skin tones follow the character they change."""
