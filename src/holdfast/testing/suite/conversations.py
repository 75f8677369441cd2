"""Conversations: B1, B2, B11, C1-C5, C24."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from holdfast.core.clock import ManualClock
from holdfast.core.errors import (
    Conflict,
    Corrupt,
    HoldfastError,
    Invalid,
    InvalidCursor,
    NotFound,
)
from holdfast.core.values import KEYED_TEXT_LIMIT
from holdfast.storage import Storage
from holdfast.stores.conversations.messages import Party
from holdfast.stores.conversations.records import CONVERSATIONS, MESSAGES
from holdfast.testing.harness import Harness
from holdfast.testing.threads import together


def _tick(clock: ManualClock, seconds: float = 1) -> None:
    clock.set(clock.now() + timedelta(seconds=seconds))


class TestConversations:
    def test_c1_create_with_a_used_key_returns_the_first(self, storage: Storage) -> None:
        first = storage.conversations.create(key="k", title="first")
        again = storage.conversations.create(key="k", title="second")
        assert again == first
        assert storage.conversations.get_by_key("k") == first
        assert len(storage.conversations.list()) == 1
        other = storage.scoped(tenant="other").conversations.create(key="k", title="theirs")
        assert other.title == "theirs"
        assert storage.conversations.get(first.id) == first

    def test_c1_concurrent_creates_with_one_key_make_one_row(
        self, open_storage: Callable[..., Storage]
    ) -> None:
        handles = [open_storage(), open_storage()]

        def work(handle: Storage) -> str:
            return handle.conversations.create(key="k").id

        made = together([partial(work, h) for h in handles for _ in range(4)])
        assert len(set(made)) == 1
        assert [c.id for c in handles[0].conversations.list()] == [made[0]]

    def test_c1_without_a_key_every_create_is_new(self, storage: Storage) -> None:
        made = {storage.conversations.create().id for _ in range(3)}
        assert len(made) == 3
        assert storage.conversations.get_by_key(None) is None

    def test_c2_what_is_brought_along_keeps_its_time_and_its_place(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        new = storage.conversations.create()
        then = clock.now() - timedelta(days=400)
        old = storage.conversations.create(created_at=then)
        assert (old.created_at, old.updated_at) == (then, then)
        assert storage.conversations.get(old.id) == old
        assert [c.id for c in storage.conversations.list()] == [new.id, old.id]
        with pytest.raises(Invalid):
            storage.conversations.create(created_at=then.replace(tzinfo=None))
        assert len(storage.conversations.list()) == 2

    def test_b6_a_used_id_is_refused_and_the_row_untouched(
        self, open_storage: Callable[..., Storage]
    ) -> None:
        storage = open_storage()
        held = storage.with_agent("a").conversations.create(conversation_id="c", title="held")
        for handle in (storage, storage.with_agent("b")):
            with pytest.raises(Conflict):
                handle.conversations.create(conversation_id="c", title="taken")
        assert storage.conversations.get("c") == held

    def test_c1_a_key_belongs_to_its_scope(self, storage: Storage) -> None:
        one = storage.with_agent("a").conversations.create(key="k")
        two = storage.with_agent("b").conversations.create(key="k")
        assert one.id != two.id
        assert storage.with_agent("a").conversations.get_by_key("k") == one
        assert storage.conversations.get_by_key("k") is None

    def test_c2_missing_is_none_and_lists_page_newest_first(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        assert storage.conversations.get("no such") is None
        made = []
        for n in range(7):
            made.append(storage.conversations.create(title=str(n)).id)
            if n % 3 == 0:
                _tick(clock)
        met, cursor = [], None
        while True:
            page = storage.conversations.list(limit=2, cursor=cursor)
            met += [c.id for c in page]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert met == made[::-1]

    def test_c2_list_by_status_and_by_last_change(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        one, two = (storage.conversations.create().id for _ in range(2))
        _tick(clock)
        storage.conversations.update(one, status="closed")
        assert [c.id for c in storage.conversations.list(status="open")] == [two]
        assert [c.id for c in storage.conversations.list(order="updated_at")] == [one, two]
        assert [c.id for c in storage.conversations.list()] == [two, one]

    def test_c3_owned_by_a_user_participant_of_that_email(self, storage: Storage) -> None:
        mine, twice, agents, others = (storage.conversations.create().id for _ in range(4))
        people = storage.conversations.participants
        people.add(mine, email="  Ada@Example.ORG ")
        people.add(twice, email="ada@example.org", external_id="1")
        people.add(twice, email="ADA@example.org", external_id="2")
        people.add(agents, type="agent", email="ada@example.org")
        people.add(others, email="bob@example.org")
        found = storage.conversations.list_owned("\tada@EXAMPLE.org ")
        assert [c.id for c in found] == [twice, mine]

    def test_b2_filter_precedes_the_limit_and_a_blank_identity_owns_nothing(
        self, storage: Storage
    ) -> None:
        mine = storage.conversations.create().id
        storage.conversations.participants.add(mine, email="ada@example.org")
        blank = storage.conversations.create().id
        storage.conversations.participants.add(blank, email="   ")
        storage.conversations.participants.add(blank, email=None)
        for n in range(20):
            other = storage.conversations.create().id
            storage.conversations.participants.add(other, email=f"{n}@example.org")
        found = storage.conversations.list_owned("ada@example.org", limit=1)
        assert [c.id for c in found] == [mine]
        assert found.next_cursor is None
        for nobody in (None, "", "   "):
            assert list(storage.conversations.list_owned(nobody)) == []

    def test_c4_absent_stays_null_clears_given_replaces(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        made = storage.conversations.create(title="t", metadata={"a": 1})
        _tick(clock)
        kept = storage.conversations.update(made.id, summary="s")
        assert (kept.title, kept.summary, kept.metadata) == ("t", "s", {"a": 1})
        assert kept.updated_at == clock.now() > made.updated_at
        cleared = storage.conversations.update(made.id, title=None, metadata=None)
        assert (cleared.title, cleared.summary, cleared.metadata) == (None, "s", {})
        replaced = storage.conversations.update(made.id, title="new", metadata={"b": 2})
        assert (replaced.title, replaced.metadata) == ("new", {"b": 2})
        assert storage.conversations.get(made.id) == replaced
        with pytest.raises(NotFound):
            storage.conversations.update("no such", title="x")

    def test_c5_overviews_count_and_preview_in_one_read(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        empty, used = (storage.conversations.create().id for _ in range(2))
        _tick(clock)
        storage.conversations.append(used, "welcome", role="assistant")
        storage.conversations.append(used, "", role="user")
        storage.conversations.append(used, "x" * 500)
        storage.conversations.append(used, "later")
        first, second = storage.conversations.overviews()
        assert (first.id, first.message_count, first.first_inbound) == (used, 4, "x" * 200)
        assert (second.id, second.message_count, second.first_inbound) == (empty, 0, None)
        only = storage.conversations.overviews(include_empty=False, limit=1)
        assert [o.id for o in only] == [used]
        assert only.next_cursor is None

    def test_c2_delete_removes_what_the_conversation_holds(self, storage: Storage) -> None:
        conversations = storage.conversations
        gone, stays = (conversations.create().id for _ in range(2))
        member = conversations.participants.add(gone, name="Ada").id
        message = conversations.append(gone, "doomed words").id
        kept = conversations.append(stays, "kept words").id
        assert conversations.delete(gone) is True
        assert conversations.delete(gone) is False
        assert conversations.get(gone) is None
        assert conversations.messages.get(message) is None
        assert conversations.participants.get(member) is None
        assert [f.message.id for f in conversations.search("words")] == [kept]

    def test_c4_bad_input_is_refused_and_nothing_written(self, storage: Storage) -> None:
        made = storage.conversations.create(title="t")
        wrong_updates: list[dict[str, Any]] = [
            {"title": 5},
            {"title": "a\x00b"},
            {"status": "paused"},
            {"status": None},
            {"metadata": [1]},
            {"metadata": {"x": float("nan")}},
        ]
        for bad in wrong_updates:
            with pytest.raises(Invalid):
                storage.conversations.update(made.id, **bad)
        assert storage.conversations.get(made.id) == made
        for wrong in ({"key": " "}, {"key": "k" * (KEYED_TEXT_LIMIT + 1)}, {"metadata": "x"}):
            with pytest.raises(Invalid):
                storage.conversations.create(**wrong)  # type: ignore[arg-type]
        for limit in (0, -1, 1_001, True, "5"):
            with pytest.raises(Invalid):
                storage.conversations.list(limit=limit)  # type: ignore[arg-type]
            with pytest.raises(Invalid):
                storage.conversations.list_owned("", limit=limit)  # type: ignore[arg-type]
        with pytest.raises(Invalid):
            storage.conversations.list(order="title")  # type: ignore[arg-type]
        with pytest.raises(NotFound):
            storage.conversations.create(room_id="no such room")
        assert len(storage.conversations.list()) == 1

    def test_c2_a_cursor_of_another_query_or_tenant_is_refused(self, storage: Storage) -> None:
        for _ in range(3):
            storage.conversations.create()
            storage.scoped(tenant="other").conversations.create()
        cursor = storage.conversations.list(limit=1).next_cursor
        with pytest.raises(InvalidCursor):
            storage.conversations.list(status="open", cursor=cursor)
        with pytest.raises(InvalidCursor):
            storage.scoped(tenant="other").conversations.list(cursor=cursor)
        with pytest.raises(InvalidCursor):
            storage.conversations.list(cursor="made up")

    @pytest.mark.parametrize("scope", [{"tenant": "t2"}, {"agent": "b"}, {"user": "v"}])
    def test_b1_b11_a_foreign_conversation_looks_missing_to_every_call(
        self, storage: Storage, scope: dict[str, str]
    ) -> None:
        owner = storage.scoped(agent="a", user="u").conversations
        held = owner.create(key="k", title="secret")
        member = owner.participants.add(held.id, external_id="e", email="ada@example.org")
        message = owner.append(held.id, "secret words", external_id="m", sender_id=member.id)
        held = owner.get(held.id) or held
        foreign = storage.scoped(**{"agent": "a", "user": "u", **scope}).conversations
        assert list(foreign.list()) == []
        assert list(foreign.overviews()) == []
        assert list(foreign.list_owned("ada@example.org")) == []
        assert foreign.search("words") == []
        assert foreign.search("words", conversation_id=held.id) == []
        assert foreign.get_by_key("k") is None
        assert foreign.participants.resolve(held.id, "e") is None
        assert foreign.messages.named([message])[0].sender == Party(member.id)
        calls: list[Callable[[str, str, str], object]] = [
            lambda c, p, m: foreign.get(c),
            lambda c, p, m: foreign.update(c, title="x"),
            lambda c, p, m: foreign.delete(c),
            lambda c, p, m: foreign.append(c, "x"),
            lambda c, p, m: foreign.append(c, "x", external_id="m"),
            lambda c, p, m: foreign.append(c, "x", expected_head=1),
            lambda c, p, m: foreign.append(c, "x", expected_head=7),
            lambda c, p, m: foreign.append_many(c, []),
            lambda c, p, m: foreign.participants.add(c, external_id="e"),
            lambda c, p, m: foreign.participants.list(c),
            lambda c, p, m: foreign.participants.get(p),
            lambda c, p, m: foreign.participants.update(p, name="x"),
            lambda c, p, m: foreign.participants.set_state(p, "MUTED"),
            lambda c, p, m: foreign.participants.mark_read(p, m),
            lambda c, p, m: foreign.participants.remove(p),
            lambda c, p, m: foreign.messages.page(c),
            lambda c, p, m: foreign.messages.recent(c),
            lambda c, p, m: foreign.messages.between(c),
            lambda c, p, m: foreign.messages.get(m),
            lambda c, p, m: foreign.messages.remove(m),
        ]
        for call in calls:
            assert _answer(call, held.id, member.id, message.id) == _answer(
                call, "missing", "missing", "missing"
            )
        assert owner.get(held.id) == held
        assert owner.participants.get(member.id) == member
        assert owner.messages.page(held.id).items == [message]

    def test_c24_a_planted_record_that_does_not_decode_names_its_id(
        self, storage: Storage, harness: Harness
    ) -> None:
        made = storage.conversations.create()
        storage.conversations.append(made.id, "fine")
        row = {name: getattr(made, name) for name in CONVERSATIONS.by_name}
        harness.plant(CONVERSATIONS, "default", {**row, "id": "bad", "status": "x", "revision": 1})
        for read in (storage.conversations.list, lambda: storage.conversations.get("bad")):
            with pytest.raises(Corrupt) as raised:
                read()
            assert raised.value.context["id"] == "bad"

    def test_c24_corrupt_history_is_never_empty(self, storage: Storage, harness: Harness) -> None:
        made = storage.conversations.create()
        said = storage.conversations.append(made.id, "fine words")
        row = {name: getattr(said, name) for name in MESSAGES.by_name}
        bad = {**row, "id": "bad", "sequence": 9, "metadata": ["not an object"], "revision": 1}
        harness.plant(MESSAGES, "default", bad)
        reads: list[Callable[[], object]] = [
            lambda: storage.conversations.messages.page(made.id),
            lambda: storage.conversations.messages.recent(made.id),
            lambda: storage.conversations.messages.get("bad"),
        ]
        for read in reads:
            with pytest.raises(Corrupt) as raised:
                read()
            assert raised.value.context["id"] == "bad"
            assert "not an object" not in str(raised.value)

    def test_a16_a_unit_writes_all_of_a_conversation_or_nothing(self, storage: Storage) -> None:
        with storage.unit() as unit:
            made = unit.conversations.create(key="k")
            unit.conversations.participants.add(made.id, name="Ada")
            unit.conversations.append(made.id, "hi")
            assert storage.conversations.get(made.id) is None
        held = storage.conversations.get(made.id)
        assert held is not None
        assert held.message_count == 1
        assert [m.sequence for m in storage.conversations.messages.page(made.id)] == [1]
        with pytest.raises(RuntimeError), storage.unit() as unit:
            lost = unit.conversations.create()
            unit.conversations.append(lost.id, "gone")
            raise RuntimeError
        assert storage.conversations.get(lost.id) is None


def _answer(call: Callable[[str, str, str], object], *ids: str) -> object:
    try:
        return call(*ids)
    except HoldfastError as error:
        return type(error), str(error), error.context
