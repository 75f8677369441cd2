"""Sessions: C15-C17, C21, C22."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest

from holdfast.core.clock import ManualClock
from holdfast.core.errors import Conflict, Corrupt, HoldfastError, Invalid, NotFound
from holdfast.storage import Storage
from holdfast.stores.sessions.records import SESSIONS
from holdfast.stores.sessions.sessions import NewParticipant
from holdfast.testing.harness import Harness
from holdfast.testing.threads import together


def _tick(clock: ManualClock) -> None:
    clock.set(clock.now() + timedelta(seconds=1))


class TestSessions:
    def test_c15_created_active_and_no_agent_is_invented(self, storage: Storage) -> None:
        made = storage.sessions.create()
        assert (made.agent, made.status, made.ended_at, made.turns) == ("", "active", None, 0)
        assert storage.with_agent("a").sessions.create().agent == "a"
        assert storage.sessions.get(made.id) == made
        assert storage.sessions.get("no such") is None
        storage.sessions.create(session_id="s")
        with pytest.raises(Conflict):
            storage.sessions.create(session_id="s")
        for missing in ({"parent_id": "no such"}, {"conversation_id": "no such"}):
            with pytest.raises(NotFound):
                storage.sessions.create(**missing)  # type: ignore[arg-type]

    def test_c15_listed_newest_first_by_status_and_parent(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        made = []
        for _ in range(4):
            made.append(storage.sessions.create().id)
            _tick(clock)
        child = storage.sessions.create(parent_id=made[0]).id
        storage.sessions.set_status(made[1], "idle")
        first = storage.sessions.list(limit=3)
        rest = storage.sessions.list(limit=3, cursor=first.next_cursor)
        assert [s.id for s in (*first, *rest)] == [child, *made[::-1]]
        assert [s.id for s in storage.sessions.list(status="idle")] == [made[1]]
        assert [s.id for s in storage.sessions.list(parent_id=made[0])] == [child]
        with pytest.raises(Invalid):
            storage.sessions.list(status="asleep")  # type: ignore[arg-type]

    def test_c15_status_counters_and_times(self, storage: Storage, clock: ManualClock) -> None:
        made = storage.sessions.create()
        _tick(clock)
        idle = storage.sessions.set_status(made.id, "idle")
        assert (idle.last_active_at, idle.updated_at) == (made.created_at, clock.now())
        counted = storage.sessions.count(made.id, turns=1, input_tokens=10, output_tokens=5)
        assert counted.last_active_at == clock.now()
        storage.sessions.count(made.id, turns=1, output_tokens=2)
        ended_at = clock.now()
        storage.sessions.set_status(made.id, "ended")
        _tick(clock)
        ended = storage.sessions.set_status(made.id, "ended")
        assert (ended.turns, ended.input_tokens, ended.output_tokens) == (2, 10, 7)
        assert (ended.status, ended.ended_at) == ("ended", ended_at)
        again = storage.sessions.set_status(made.id, "active")
        assert (again.ended_at, again.last_active_at) == (None, clock.now())
        with pytest.raises(NotFound):
            storage.sessions.set_status("no such", "idle")
        with pytest.raises(Invalid):
            storage.sessions.set_status(made.id, "done")  # type: ignore[arg-type]
        for wrong in (-1, True, 1.5):
            with pytest.raises(Invalid):
                storage.sessions.count(made.id, turns=wrong)  # type: ignore[arg-type]

    def test_c15_concurrent_counts_lose_nothing(self, open_storage: Callable[..., Storage]) -> None:
        handles = [open_storage(), open_storage()]
        made = handles[0].sessions.create().id

        def work(handle: Storage) -> None:
            for _ in range(10):
                handle.sessions.count(made, turns=1, input_tokens=3)

        together([partial(work, h) for h in handles for _ in range(2)])
        held = handles[1].sessions.get(made)
        assert held is not None
        assert (held.turns, held.input_tokens) == (40, 120)

    def test_c16_merge_and_replace_are_separate(self, open_storage: Callable[..., Storage]) -> None:
        one, other = open_storage(), open_storage()
        made = one.sessions.create(metadata={"a": 1, "b": {"c": 1}}).id
        merged = other.sessions.merge_metadata(made, {"b": {"d": 2}, "e": 3, "a": None})
        assert merged.metadata == {"b": {"d": 2}, "e": 3}
        assert one.sessions.get(made) == merged
        assert one.sessions.replace_metadata(made, {"z": 1}).metadata == {"z": 1}
        assert other.sessions.replace_metadata(made, None).metadata == {}
        with pytest.raises(NotFound):
            one.sessions.merge_metadata("no such", {"a": 1})
        with pytest.raises(Invalid):
            one.sessions.merge_metadata(made, [1])  # type: ignore[arg-type]

    def test_c16_concurrent_merges_lose_nothing(self, open_storage: Callable[..., Storage]) -> None:
        handles = [open_storage(), open_storage()]
        made = handles[0].sessions.create().id

        def work(handle: Storage, name: str) -> None:
            for n in range(10):
                handle.sessions.merge_metadata(made, {f"{name}{n}": n})

        together([partial(work, handles[n % 2], "abcd"[n]) for n in range(4)])
        held = handles[0].sessions.get(made)
        assert held is not None
        assert held.metadata == {f"{name}{n}": n for name in "abcd" for n in range(10)}

    def test_c17_a_label_finds_the_newest(self, storage: Storage, clock: ManualClock) -> None:
        mine, theirs = storage.with_agent("a"), storage.with_agent("b")
        old = mine.sessions.create(label="work").id
        _tick(clock)
        new = mine.sessions.create(label="work").id
        _tick(clock)
        foreign = theirs.sessions.create(label="work").id
        found = storage.sessions.find_by_label("work", agent="a")
        assert found is not None
        assert found.id == new
        newest = storage.sessions.find_by_label("work")
        assert newest is not None
        assert newest.id == foreign
        mine.sessions.set_label(new, None)
        found = mine.sessions.find_by_label("work")
        assert found is not None
        assert found.id == old
        assert mine.sessions.set_label(old, "play").label == "play"
        for nothing in ("work", None, "", " ", "pla"):
            assert mine.sessions.find_by_label(nothing) is None
        with pytest.raises(Invalid):
            mine.sessions.set_label(old, " ")

    def test_c21_session_conversation_and_participants_begin_together(
        self, storage: Storage
    ) -> None:
        begun = storage.sessions.begin(
            [NewParticipant(email="Ada@x.org", name="Ada"), NewParticipant(type="agent")],
            key="k",
            title="t",
            label="l",
        )
        assert begun.session.conversation_id == begun.conversation.id
        assert storage.sessions.get(begun.session.id) == begun.session
        assert storage.conversations.get_by_key("k") == begun.conversation
        held = storage.conversations.participants.list(begun.conversation.id)
        assert sorted(p.id for p in held) == sorted(p.id for p in begun.participants)
        assert [p.name for p in begun.participants] == ["Ada", ""]
        owned = storage.conversations.list_owned("ada@x.org")
        assert [c.id for c in owned] == [begun.conversation.id]

    def test_c21_a_bundle_that_fails_leaves_no_trace(self, storage: Storage) -> None:
        storage.conversations.create(key="used")
        twice = [NewParticipant(external_id="e"), NewParticipant(external_id="e")]
        with pytest.raises(Conflict):
            storage.sessions.begin(twice)
        with pytest.raises(Conflict):
            storage.sessions.begin([NewParticipant(email="ada@x.org")], key="used")
        with pytest.raises(NotFound):
            storage.sessions.begin([NewParticipant(email="ada@x.org")], parent_id="no such")
        with pytest.raises(Invalid):
            storage.sessions.begin([NewParticipant(type="robot")])  # type: ignore[arg-type]
        with pytest.raises(Invalid):
            storage.sessions.begin([NewParticipant(email="ada@x.org", name="a\x00")])
        assert len(storage.conversations.list()) == 1
        assert list(storage.sessions.list()) == []
        assert list(storage.conversations.list_owned("ada@x.org")) == []

    def test_c22_deleting_a_parent_reports_every_descendant(self, storage: Storage) -> None:
        root, other = (storage.sessions.create().id for _ in range(2))
        children = [storage.sessions.create(parent_id=root).id for _ in range(3)]
        grandchild = storage.sessions.create(parent_id=children[1]).id
        held = storage.sessions.get(root)
        assert held is not None
        assert held.child_count == 3
        assert list(storage.sessions.delete(children[0])) == [children[0]]
        held = storage.sessions.get(root)
        assert held is not None
        assert held.child_count == 2
        removed = storage.sessions.delete(root)
        assert list(removed) == [root, *children[1:], grandchild]
        assert list(storage.sessions.delete(root)) == []
        assert [s.id for s in storage.sessions.list()] == [other]

    def test_c22_a_child_born_meanwhile_is_reported_or_refused(
        self, open_storage: Callable[..., Storage]
    ) -> None:
        handles = [open_storage(), open_storage()]
        root = handles[0].sessions.create().id

        def bear(handle: Storage) -> list[str]:
            born = []
            for _ in range(10):
                try:
                    born.append(handle.sessions.create(parent_id=root).id)
                except NotFound:
                    break
            return born

        def end(handle: Storage) -> list[str]:
            return list(handle.sessions.delete(root))

        *born, removed = together([*(partial(bear, h) for h in handles), partial(end, handles[0])])
        assert sorted(removed) == sorted([root, *born[0], *born[1]])
        assert list(handles[1].sessions.list()) == []

    def test_c15_deleting_a_session_leaves_its_conversation(self, storage: Storage) -> None:
        begun = storage.sessions.begin()
        storage.sessions.delete(begun.session.id)
        assert storage.conversations.get(begun.conversation.id) == begun.conversation
        begun = storage.sessions.begin()
        storage.conversations.delete(begun.conversation.id)
        held = storage.sessions.get(begun.session.id)
        assert held is not None
        assert held.conversation_id is None

    def test_c24_a_session_that_does_not_decode_names_its_id(
        self, storage: Storage, harness: Harness
    ) -> None:
        made = storage.sessions.create()
        row = {name: getattr(made, name) for name in SESSIONS.by_name}
        harness.plant(SESSIONS, "default", {**row, "id": "bad", "status": "?", "revision": 1})
        with pytest.raises(Corrupt) as raised:
            storage.sessions.list()
        assert raised.value.context["id"] == "bad"

    @pytest.mark.parametrize("scope", [{"tenant": "t2"}, {"agent": "b"}])
    def test_b1_b11_a_foreign_session_looks_missing_to_every_call(
        self, storage: Storage, scope: dict[str, str]
    ) -> None:
        owner = storage.with_agent("a")
        talk = owner.conversations.create().id
        made = owner.sessions.create(label="l", conversation_id=talk)
        foreign = storage.scoped(**{"agent": "a", **scope}).sessions
        assert list(foreign.list()) == []
        assert foreign.find_by_label("l") is None
        assert foreign.find_by_label("l", agent="b") is None
        calls: list[Callable[[str, str], object]] = [
            lambda s, c: foreign.get(s),
            lambda s, c: foreign.set_status(s, "ended"),
            lambda s, c: foreign.count(s, turns=1),
            lambda s, c: foreign.merge_metadata(s, {"a": 1}),
            lambda s, c: foreign.replace_metadata(s, {}),
            lambda s, c: foreign.set_label(s, "x"),
            lambda s, c: foreign.delete(s),
            lambda s, c: foreign.list(parent_id=s).items,
            lambda s, c: foreign.create(parent_id=s),
            lambda s, c: foreign.begin(parent_id=s),
            lambda s, c: foreign.create(conversation_id=c),
        ]
        for call in calls:
            assert _answer(call, made.id, talk) == _answer(call, "missing", "missing")
        assert owner.sessions.get(made.id) == made


def _answer(call: Callable[[str, str], object], *ids: str) -> object:
    try:
        return call(*ids)
    except HoldfastError as error:
        return type(error), str(error), error.context
