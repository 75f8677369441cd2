"""Participants: C6-C8."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest

from holdfast.core.clock import ManualClock
from holdfast.core.errors import Conflict, Invalid, NotFound
from holdfast.storage import Storage
from holdfast.testing.threads import together


class TestParticipants:
    def test_c6_add_is_idempotent_per_external_id(self, storage: Storage) -> None:
        one, two = (storage.conversations.create().id for _ in range(2))
        people = storage.conversations.participants
        first = people.add(one, external_id="e", name="Ada")
        assert people.add(one, external_id="e", name="changed") == first
        assert people.add(two, external_id="e").id != first.id
        assert people.add(one, name="Ada").id != people.add(one, name="Ada").id
        assert len(people.list(one)) == 3
        with pytest.raises(NotFound):
            people.add("no such", external_id="e")
        with pytest.raises(Conflict):
            people.add(one, participant_id=first.id)

    def test_c6_concurrent_adds_make_one(self, open_storage: Callable[..., Storage]) -> None:
        handles = [open_storage(), open_storage()]
        made = handles[0].conversations.create().id

        def work(handle: Storage) -> str:
            return handle.conversations.participants.add(made, external_id="e").id

        added = together([partial(work, h) for h in handles for _ in range(4)])
        assert len(set(added)) == 1
        assert len(handles[1].conversations.participants.list(made)) == 1

    def test_c6_listed_in_order_of_joining_and_removed_once(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        made = storage.conversations.create().id
        people = storage.conversations.participants
        later = people.add(made, participant_id="a").id
        clock.set(clock.now() - timedelta(seconds=60))
        same = [people.add(made, participant_id=name).id for name in ("z", "y")]
        assert [p.id for p in people.list(made)] == [*sorted(same), later]
        first = people.list(made, limit=2)
        assert [p.id for p in people.list(made, cursor=first.next_cursor)] == [later]
        assert people.remove("z") is True
        assert people.remove("z") is False
        assert people.get("z") is None

    def test_c7_resolved_inside_the_conversation_or_none(self, storage: Storage) -> None:
        one, two = (storage.conversations.create().id for _ in range(2))
        people = storage.conversations.participants
        added = people.add(one, external_id="e")
        assert people.resolve(one, "e") == added
        assert people.resolve(two, "e") is None
        people.add(one)
        for blank in (None, "", "  "):
            assert people.resolve(one, blank) is None
        with pytest.raises(Invalid):
            people.add(one, external_id=" ")

    def test_c8_state_and_read_mark_round_trip(self, storage: Storage) -> None:
        made, other = (storage.conversations.create().id for _ in range(2))
        people = storage.conversations.participants
        added = people.add(made)
        assert added.state is None
        for state in ("FOLLOWED", "MUTED", None):
            people.set_state(added.id, state)
            held = people.get(added.id)
            assert held is not None
            assert held.state == state
        with pytest.raises(Invalid):
            people.set_state(added.id, "followed")  # type: ignore[arg-type]
        message = storage.conversations.append(made, "x").id
        assert people.mark_read(added.id, message).last_read_message_id == message
        elsewhere = storage.conversations.append(other, "x").id
        for wrong in (elsewhere, "no such"):
            with pytest.raises(NotFound):
                people.mark_read(added.id, wrong)
        held = people.get(added.id)
        assert held is not None
        assert held.last_read_message_id == message

    def test_c4_participants_change_what_is_given(self, storage: Storage) -> None:
        made = storage.conversations.create().id
        people = storage.conversations.participants
        added = people.add(made, name="Ada", email="Ada@x.org", metadata={"a": 1})
        renamed = people.update(added.id, name="Ada L.")
        assert (renamed.email, renamed.metadata) == ("Ada@x.org", {"a": 1})
        people.update(added.id, email=" NEW@x.org")
        assert [c.id for c in storage.conversations.list_owned("new@x.org")] == [made]
        assert list(storage.conversations.list_owned("ada@x.org")) == []
        assert people.update(added.id, email=None).email_key is None
        assert list(storage.conversations.list_owned("new@x.org")) == []
        with pytest.raises(NotFound):
            people.update("no such", name="x")
        with pytest.raises(Invalid):
            people.add(made, type="robot")  # type: ignore[arg-type]
