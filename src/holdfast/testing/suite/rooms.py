"""Rooms and actors: C9."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from holdfast.core.clock import ManualClock
from holdfast.core.errors import Conflict, HoldfastError, Invalid, NotFound
from holdfast.storage import Storage
from holdfast.stores.rooms import ACTORS
from holdfast.testing.harness import Harness
from holdfast.testing.threads import together


class TestRooms:
    def test_c9_created_with_or_without_an_id(self, storage: Storage) -> None:
        named = storage.rooms.create("hall", room_id="r1", metadata={"a": 1})
        assert storage.rooms.get("r1") == named
        assert storage.rooms.create("other").id not in ("", "r1")
        with pytest.raises(Conflict):
            storage.rooms.create(room_id="r1")
        assert storage.rooms.get("no such") is None
        assert len(storage.rooms.list()) == 2
        for bad in ({"room_id": " "}, {"name": 5}, {"metadata": [1]}):
            with pytest.raises(Invalid):
                storage.rooms.create(**bad)

    def test_c9_rooms_of_one_or_many_actors_are_distinct(self, storage: Storage) -> None:
        rooms = [storage.rooms.create(str(n)).id for n in range(4)]
        for actor, places in {"ada": (0, 1), "bob": (1, 2), "eve": (3,)}.items():
            for place in places:
                storage.rooms.add(rooms[place], actor)
        assert [r.id for r in storage.rooms.list_of("ada")] == [rooms[1], rooms[0]]
        both = storage.rooms.list_of(["ada", "bob", "ada"])
        assert [r.id for r in both] == [rooms[2], rooms[1], rooms[0]]
        first = storage.rooms.list_of(["ada", "bob"], limit=2)
        rest = storage.rooms.list_of(["ada", "bob"], limit=2, cursor=first.next_cursor)
        assert [r.id for r in (*first, *rest)] == [rooms[2], rooms[1], rooms[0]]

    def test_b2_a_blank_actor_is_in_no_room(self, storage: Storage, harness: Harness) -> None:
        room = storage.rooms.create().id
        added = storage.rooms.add(room, "ada")
        row = {name: getattr(added, name) for name in ACTORS.by_name}
        for number, blank in enumerate(("", "  ")):
            planted = {**row, "id": f"p{number}", "actor_id": blank, "revision": 1}
            harness.plant(ACTORS, "default", planted)
        for nobody in ("", "  ", [], ["", " "]):
            assert list(storage.rooms.list_of(nobody)) == []
        assert [r.id for r in storage.rooms.list_of(["", "ada"])] == [room]
        for blank in ("", " "):
            with pytest.raises(Invalid):
                storage.rooms.add(room, blank)
        with pytest.raises(Invalid):
            storage.rooms.list_of([None])  # type: ignore[list-item]

    def test_c9_actors_by_name_then_id_each_once(self, storage: Storage) -> None:
        room = storage.rooms.create().id
        for actor, name in (("3", "bo"), ("1", "cy"), ("2", "al"), ("4", "bo")):
            storage.rooms.add(room, actor, name=name, details={"n": actor})
        again = storage.rooms.add(room, "1", name="changed")
        assert (again.name, again.details) == ("cy", {"n": "1"})
        told = storage.rooms.actors(room)
        assert [(a.name, a.actor_id) for a in told] == [
            ("al", "2"),
            ("bo", "3"),
            ("bo", "4"),
            ("cy", "1"),
        ]
        assert storage.rooms.leave(room, "2") is True
        assert storage.rooms.leave(room, "2") is False
        assert [a.actor_id for a in storage.rooms.actors(room)] == ["3", "4", "1"]

    def test_c9_concurrent_entries_make_one_actor(
        self, open_storage: Callable[..., Storage]
    ) -> None:
        handles = [open_storage(), open_storage()]
        room = handles[0].rooms.create().id

        def work(handle: Storage) -> str:
            return handle.rooms.add(room, "ada").id

        assert len(set(together([partial(work, h) for h in handles for _ in range(4)]))) == 1

    def test_c9_removing_a_room_removes_everything_in_it(self, storage: Storage) -> None:
        gone, stays = (storage.rooms.create().id for _ in range(2))
        for room in (gone, stays):
            storage.rooms.add(room, "ada")
            made = storage.conversations.create(room_id=room, key=room)
            storage.conversations.participants.add(made.id, external_id="ada")
            storage.conversations.append(made.id, "words", external_id="1")
        doomed = storage.conversations.get_by_key(gone)
        kept = storage.conversations.get_by_key(stays)
        assert doomed is not None
        assert kept is not None
        assert storage.rooms.delete(gone) is True
        assert storage.rooms.delete(gone) is False
        assert storage.conversations.get(doomed.id) is None
        assert storage.conversations.participants.resolve(doomed.id, "ada") is None
        assert [r.id for r in storage.rooms.list_of("ada")] == [stays]
        assert storage.conversations.get(kept.id) == kept
        found = storage.conversations.search("words")
        assert [f.message.conversation_id for f in found] == [kept.id]

    def test_c9_a_room_in_use_moves_its_time(self, storage: Storage, clock: ManualClock) -> None:
        room = storage.rooms.create()
        clock.set(clock.now().replace(hour=13))
        storage.rooms.add(room.id, "ada")
        held = storage.rooms.get(room.id)
        assert held is not None
        assert held.updated_at == clock.now() > room.updated_at

    @pytest.mark.parametrize("scope", [{"tenant": "t2"}, {"agent": "b"}, {"namespace": "m"}])
    def test_b1_b11_a_foreign_room_looks_missing_to_every_call(
        self, storage: Storage, scope: dict[str, str]
    ) -> None:
        owner = storage.scoped(agent="a", namespace="n")
        room = owner.rooms.create("secret")
        actor = owner.rooms.add(room.id, "ada")
        held = owner.rooms.get(room.id)
        foreign = storage.scoped(**{"agent": "a", "namespace": "n", **scope})
        assert list(foreign.rooms.list()) == []
        assert list(foreign.rooms.list_of("ada")) == []
        calls: list[Callable[[str], object]] = [
            foreign.rooms.get,
            foreign.rooms.actors,
            foreign.rooms.delete,
            lambda r: foreign.rooms.leave(r, "ada"),
            lambda r: foreign.rooms.add(r, "ada"),
            lambda r: foreign.rooms.add(r, "eve"),
            lambda r: foreign.conversations.create(room_id=r),
        ]
        for call in calls:
            assert _answer(call, room.id) == _answer(call, "missing")
        assert owner.rooms.get(room.id) == held
        assert owner.rooms.actors(room.id).items == [actor]
        with pytest.raises(NotFound):
            foreign.rooms.add(room.id, "eve")


def _answer(call: Callable[[str], object], room_id: str) -> object:
    try:
        return call(room_id)
    except HoldfastError as error:
        return type(error), str(error), error.context
