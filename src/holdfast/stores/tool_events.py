"""Tool events: what an agent's tools were given and gave back, session by session."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from holdfast.core.change import ABSENT, Change, Edit, Outcome, Patch, Put
from holdfast.core.collection import Collection, Index, Reference, Sequence
from holdfast.core.errors import Conflict, Invalid, NotFound
from holdfast.core.filter import Filter, eq, ge
from holdfast.core.marks import halved
from holdfast.core.query import asc, desc
from holdfast.core.scope import check_name
from holdfast.core.search import Search, TextLeg
from holdfast.core.text import analyze
from holdfast.core.values import check_count, check_keyed_text, check_text
from holdfast.stores.owned import Owned, name_of
from holdfast.stores.sessions.records import SESSIONS
from holdfast.stores.store import Page, builder, object_of

IMPORTANCE_DEFAULT: Final = 5


class ToolEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One use of a tool. ``importance`` is 1 to 10; ``sequence`` rises within the session.

    ``type`` is the caller's word for what kind of event it is. ``input`` and ``output`` are text,
    JSON or not, exactly as the tool saw and gave them.
    """

    id: str
    session_id: str
    sequence: int
    tool: str
    type: str
    input: str
    output: str
    summary: str
    importance: int
    metadata: dict[str, Any]
    created_at: datetime
    revision: int = 0


class FoundToolEvent(msgspec.Struct, frozen=True):
    """A tool event that a search found, and its BM25 score."""

    event: ToolEvent
    score: float


Found = list[FoundToolEvent]


TOOL_EVENTS: Final = Collection.of(
    ToolEvent,
    "tool_events",
    indexes=(
        Index(("session_id", "sequence"), serves="events of a session in order"),
        Index(("created_at", "id"), serves="list, newest first"),
        Index(("type", "created_at", "id"), serves="events of a type, newest first"),
    ),
    sequences=(Sequence("sequence", ("session_id",)),),
    references=(Reference("session_id", SESSIONS.name, "cascade"),),
    full_text=("tool", "summary", "input", "output"),
)

COLLECTIONS: Final = (TOOL_EVENTS,)

K_LIMIT: Final = 1_000
"""Most hits of one search."""
TERM_LIMIT: Final = 128
"""Most terms of a query that are looked up."""

_build = builder(ToolEvent)


class ToolEvents(Owned):
    """Tool events of the sessions that the bound scope sees."""

    collections = COLLECTIONS

    @halved("op_id")
    def append(
        self,
        session_id: str,
        tool: str,
        *,
        input: str = "",
        output: str = "",
        summary: str = "",
        type: str = "tool_use",
        importance: int = IMPORTANCE_DEFAULT,
        metadata: Mapping[str, Any] | None = None,
        op_id: str | None = None,
    ) -> ToolEvent:
        """Keep one use of a tool and note the session's activity. NotFound for no such session.

        A repeat with the same ``op_id`` returns the first event.
        """
        given = (session_id, tool, input, output, summary, type, importance, metadata)
        now = self._now()
        record = {
            "id": self._new_id(),
            "session_id": session_id,
            "tool": _named("tool", tool),
            "type": _named("type", type),
            "input": input,
            "output": output,
            "summary": summary,
            "importance": check_count("importance", importance, 1, 10),
            "metadata": object_of("metadata", metadata),
            "created_at": now,
        }
        active = Edit(maximum={"updated_at": now, "last_active_at": now})
        changes: list[Change] = [
            Patch(SESSIONS.name, (session_id,), active, self._when(SESSIONS), silent=True),
            Put(TOOL_EVENTS.name, record, ABSENT),
        ]

        def refused(_: Conflict | NotFound) -> None:
            self._require(SESSIONS, session_id)

        if op_id is None:
            return self._perform(changes, _appended, refused)
        try:
            asked = ("tool_events.append", *given)
            return _appended(self._apply(*changes, op_id=op_id, asked=asked))
        except (Conflict, NotFound) as error:
            refused(error)
            raise

    def get(self, event_id: str) -> ToolEvent | None:
        """The event, or None."""
        try:
            return _build(self._part(TOOL_EVENTS, event_id, SESSIONS, "session_id"))
        except NotFound:
            return None

    def list(
        self,
        *,
        session_id: str | None = None,
        agent: str | None = None,
        type: str | None = None,
        tool: str | None = None,
        minimum_importance: int = 1,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[ToolEvent]:
        """Events that fit all that is given: of one session in order, else newest first."""
        order = desc("created_at", "id") if session_id is None else asc("sequence")
        return self._page(
            TOOL_EVENTS,
            _build,
            *self._narrowed(session_id, agent, type, tool, minimum_importance),
            order=order,
            limit=limit,
            cursor=cursor,
        )

    def search(
        self,
        query: str,
        *,
        k: int = 10,
        session_id: str | None = None,
        agent: str | None = None,
        type: str | None = None,
        tool: str | None = None,
        minimum_importance: int = 1,
    ) -> Found:
        """The ``k`` (0 to 1000) best events for any of the query's words, ties by id.

        Tool, summary, input and output are searched; filters hold before the limit.
        """
        check_text("query", query)
        check_count("k", k, 0, K_LIMIT)
        parts = self._narrowed(session_id, agent, type, tool, minimum_importance)
        terms = list(dict.fromkeys(analyze(query)))[:TERM_LIMIT]
        if not terms or not k:
            return []
        search = Search(
            collection=TOOL_EVENTS.name,
            filter=self._within(TOOL_EVENTS, *parts),
            k=k,
            text=TextLeg(terms=tuple(terms)),
        )
        hits = self._driver.search(self._scope.tenant, search)
        return [FoundToolEvent(_build(hits.records[hit.key]), hit.score) for hit in hits.text]

    def _narrowed(
        self,
        session_id: str | None,
        agent: str | None,
        type: str | None,
        tool: str | None,
        minimum_importance: int,
    ) -> tuple[Filter | None, ...]:
        check_count("minimum_importance", minimum_importance, 1, 10)
        session = None if session_id is None else check_keyed_text("session_id", session_id)
        whose = None if agent is None else eq("agent", check_name("agent", agent))
        return (
            None if session is None else eq("session_id", session),
            None if type is None else eq("type", _named("type", type)),
            None if tool is None else eq("tool", _named("tool", tool)),
            None if minimum_importance == 1 else ge("importance", minimum_importance),
            self._through("session_id", SESSIONS, whose),
        )


def _appended(outcomes: list[Outcome]) -> ToolEvent:
    """The event that was put, after its session was patched."""
    return _build(outcomes[1].record)


def _named(field: str, value: str) -> str:
    name = name_of(field, value)
    if name is None:
        raise Invalid(field, expected="text that is not blank", got="null")
    return name
