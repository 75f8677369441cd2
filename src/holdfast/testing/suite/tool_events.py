"""Tool events: C25."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest

from holdfast.core.clock import ManualClock
from holdfast.core.errors import HoldfastError, Invalid, InvalidCursor, NotFound
from holdfast.storage import Storage
from holdfast.testing.threads import together


class TestToolEvents:
    def test_c25_kept_as_given_and_noted_on_the_session(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        session = storage.sessions.create()
        clock.set(clock.now() + timedelta(seconds=5))
        kept = storage.tool_events.append(
            session.id,
            "grep",
            input='{"pattern": "x"}',
            output="one\ntwo",
            summary="found two",
            type="discovery",
            importance=10,
            metadata={"a": 1},
        )
        assert (kept.sequence, kept.tool, kept.type, kept.importance) == (
            1,
            "grep",
            "discovery",
            10,
        )
        assert (kept.input, kept.output) == ('{"pattern": "x"}', "one\ntwo")
        assert (kept.summary, kept.metadata) == ("found two", {"a": 1})
        assert storage.tool_events.get(kept.id) == kept
        assert storage.tool_events.get("no such") is None
        held = storage.sessions.get(session.id)
        assert held is not None
        assert held.last_active_at == clock.now()

    def test_c25_concurrent_events_are_numbered_without_gap(
        self, open_storage: Callable[..., Storage]
    ) -> None:
        handles = [open_storage(), open_storage()]
        session = handles[0].sessions.create().id

        def work(handle: Storage) -> None:
            for _ in range(10):
                handle.tool_events.append(session, "t")

        together([partial(work, h) for h in handles for _ in range(2)])
        told = handles[0].tool_events.list(session_id=session)
        assert [event.sequence for event in told] == list(range(1, 41))

    def test_c25_listed_by_session_agent_type_tool_and_importance(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        sessions = {name: storage.with_agent(name).sessions.create().id for name in "ab"}
        made: dict[str, str] = {}
        for number, (agent, tool, type_, importance) in enumerate(
            [("a", "grep", "x", 1), ("a", "edit", "y", 9), ("b", "grep", "y", 5)]
        ):
            clock.set(clock.now() + timedelta(seconds=1))
            made[str(number)] = storage.tool_events.append(
                sessions[agent], tool, type=type_, importance=importance
            ).id

        def told(**filters: object) -> list[str]:
            names = {event_id: name for name, event_id in made.items()}
            found = storage.tool_events.list(**filters)  # type: ignore[arg-type]
            return [names[event.id] for event in found]

        assert told() == ["2", "1", "0"]
        assert told(session_id=sessions["a"]) == ["0", "1"]
        assert told(agent="a") == ["1", "0"]
        assert told(type="y") == ["2", "1"]
        assert told(tool="grep") == ["2", "0"]
        assert told(minimum_importance=5) == ["2", "1"]
        assert told(agent="a", minimum_importance=5) == ["1"]
        assert told(agent="c") == []
        first = storage.tool_events.list(limit=2)
        assert [e.id for e in storage.tool_events.list(cursor=first.next_cursor)] == [made["0"]]
        with pytest.raises(InvalidCursor):
            storage.tool_events.list(type="y", cursor=first.next_cursor)

    def test_c25_search_reads_tool_summary_input_and_output(self, storage: Storage) -> None:
        session, other = (storage.sessions.create().id for _ in range(2))
        append = storage.tool_events.append
        expected = [
            append(session, "walrus").id,
            append(session, "t", summary="a walrus").id,
            append(session, "t", input='{"q": "walrus"}').id,
            append(session, "t", output="two walruses", importance=9).id,
        ]
        for _ in range(20):
            append(other, "t", summary="walrus walrus walrus")
        found = storage.tool_events.search("Walrus!", session_id=session)
        assert sorted(f.event.id for f in found) == sorted(expected)
        assert [f.score for f in found] == sorted((f.score for f in found), reverse=True)
        important = storage.tool_events.search("walrus", minimum_importance=9)
        assert [f.event.id for f in important] == expected[3:]
        assert len(storage.tool_events.search("walrus", k=15)) == 15
        assert storage.tool_events.search("walrus", k=0) == []
        for hostile in ("", '"*', "NEAR(", "a AND"):
            assert storage.tool_events.search(hostile) == []

    def test_c25_bad_input_is_refused_and_nothing_written(self, storage: Storage) -> None:
        session = storage.sessions.create()
        bad: list[dict[str, object]] = [
            {"importance": 0},
            {"importance": 11},
            {"importance": True},
            {"importance": 5.0},
            {"tool": " "},
            {"tool": None},
            {"type": ""},
            {"input": {"a": 1}},
            {"output": "a\x00"},
            {"metadata": [1]},
        ]
        for arguments in bad:
            given = {"tool": "t", **arguments}
            with pytest.raises(Invalid):
                storage.tool_events.append(session.id, **given)  # type: ignore[arg-type]
        with pytest.raises(NotFound):
            storage.tool_events.append("no such", "t")
        with pytest.raises(Invalid):
            storage.tool_events.list(minimum_importance=0)
        with pytest.raises(Invalid):
            storage.tool_events.search("x", k=1_001)
        assert list(storage.tool_events.list()) == []
        assert storage.sessions.get(session.id) == session

    def test_c25_events_go_with_their_session(self, storage: Storage) -> None:
        gone, stays = (storage.sessions.create().id for _ in range(2))
        storage.tool_events.append(gone, "walrus")
        kept = storage.tool_events.append(stays, "walrus").id
        storage.sessions.delete(gone)
        assert [e.id for e in storage.tool_events.list()] == [kept]
        assert [f.event.id for f in storage.tool_events.search("walrus")] == [kept]

    @pytest.mark.parametrize("scope", [{"tenant": "t2"}, {"agent": "b"}])
    def test_b1_b11_foreign_events_look_missing_to_every_call(
        self, storage: Storage, scope: dict[str, str]
    ) -> None:
        owner = storage.with_agent("a")
        session = owner.sessions.create().id
        # Written by an unbound handle, and still the agent's: the session owns it.
        kept = storage.tool_events.append(session, "walrus")
        foreign = storage.scoped(**{"agent": "a", **scope}).tool_events
        assert list(foreign.list()) == []
        assert list(foreign.list(session_id=session)) == []
        assert list(foreign.list(agent=scope.get("agent", "a"))) == []
        assert foreign.search("walrus") == []
        for call in (foreign.get, lambda e: foreign.append(e, "t")):
            assert _answer(call, kept.id) == _answer(call, "missing")
        assert _answer(lambda s: foreign.append(s, "t"), session) == _answer(
            lambda s: foreign.append(s, "t"), "missing"
        )
        assert owner.tool_events.list().items == [kept]


def _answer(call: Callable[[str], object], event_id: str) -> object:
    try:
        return call(event_id)
    except HoldfastError as error:
        return type(error), str(error), error.context
