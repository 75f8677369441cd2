"""How memories replace each other: F15, F16, F17, F18."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from holdfast.core.clock import ManualClock
from holdfast.core.errors import Conflict, Invalid
from holdfast.storage import Storage
from holdfast.stores.memory import Memory, MemoryPolicy
from holdfast.testing.threads import together


def held(storage: Storage, memory_id: str) -> Memory:
    found = storage.memory.get(memory_id)
    assert found is not None
    return found


class TestMemoryHistory:
    def test_f15_supersede_closes_once_and_restore_reopens(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        history = storage.memory.history
        old, new, third = (storage.memory.remember(text) for text in ("old", "new", "third"))
        clock.set(clock.now() + timedelta(hours=1))
        closed = history.supersede(old.id, new.id, by="ann")
        assert (closed.superseded_by, closed.valid_to) == (new.id, clock.now())
        assert held(storage, new.id).valid_from == clock.now()
        with pytest.raises(Conflict):
            history.supersede(old.id, third.id)
        assert held(storage, old.id).superseded_by == new.id
        assert not storage.memory.recall("old", mode="keyword")
        reopened = history.restore(old.id, by="bob")
        assert (reopened.superseded_by, reopened.valid_to) == (None, None)
        assert len(storage.memory.recall("old", mode="keyword")) == 1
        with pytest.raises(Conflict):
            history.restore(old.id)
        assert [(e.action, e.by) for e in history.events(old.id)] == [
            ("superseded", "ann"),
            ("restored", "bob"),
        ]

    def test_f15_predecessors_are_listed_and_cycles_refused(self, storage: Storage) -> None:
        history = storage.memory.history
        a, b, c, d = (storage.memory.remember(text, id=text) for text in ["ab", "cd", "ef", "gh"])
        history.supersede(a.id, b.id)
        history.supersede(b.id, c.id)
        history.supersede(d.id, c.id)
        assert [m.id for m in history.predecessors(c.id)] == ["cd", "gh", "ab"]
        assert history.current(a.id).id == c.id
        for first, second in ((c, a), (c, b)):
            with pytest.raises(Conflict):
                history.supersede(first.id, second.id)
        with pytest.raises(Invalid):
            history.supersede(c.id, c.id)
        assert held(storage, c.id).superseded_by is None

    def test_f15_two_that_would_supersede_each_other(
        self, open_storage: Callable[..., Storage]
    ) -> None:
        storage, other = open_storage(), open_storage()
        a, b = storage.memory.remember("this"), storage.memory.remember("that")

        def supersede(handle: Storage, old: str, new: str) -> bool:
            try:
                handle.memory.history.supersede(old, new)
            except Conflict:
                return False
            return True

        won = together(
            [lambda: supersede(storage, a.id, b.id), lambda: supersede(other, b.id, a.id)]
        )
        assert sorted(won) == [False, True]
        assert len(storage.memory.list()) == 1

    def test_f15_restore_is_refused_while_another_holds_the_content(self, storage: Storage) -> None:
        old = storage.memory.remember("said")
        storage.memory.forget(old.id)
        new = storage.memory.remember("said")
        with pytest.raises(Conflict):
            storage.memory.history.restore(old.id)
        storage.memory.forget(new.id)
        assert storage.memory.history.restore(old.id).id == old.id
        assert [m.id for m in storage.memory.list()] == [old.id]

    def test_f15_restore_gives_back_the_end_that_there_was(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        end = clock.now() + timedelta(days=3)
        old = storage.memory.remember("until friday", valid_to=end)
        storage.memory.history.supersede(old.id, storage.memory.remember("no more").id)
        assert held(storage, old.id).valid_to == clock.now()
        assert storage.memory.history.restore(old.id).valid_to == end

    def test_f16_bounds_are_half_open(self, storage: Storage, clock: ManualClock) -> None:
        start = clock.now()
        kept = storage.memory.remember(
            "visiting", valid_from=start, valid_to=start + timedelta(days=2)
        )
        again = storage.memory.remember(
            "visiting",
            valid_from=start + timedelta(days=9),
            valid_to=start + timedelta(days=10),
        )
        first, second = [kept.id], [again.id]
        for days, expected in ((-0.1, []), (0, first), (1.9, first), (2, []), (9, second)):
            instant = start + timedelta(days=days)
            assert [m.id for m in storage.memory.history.as_of(instant)] == expected
        clock.set(start + timedelta(days=2))
        assert not storage.memory.list().items
        with pytest.raises(Invalid):
            storage.memory.history.as_of(start.replace(tzinfo=None))

    def test_f17_contradiction_keeps_who_and_the_previous_value(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        kept = storage.memory.remember("the earth is flat", confidence=0.7)
        wrong = storage.memory.history.contradict(kept.id, by="galileo", confidence=0.05)
        assert (wrong.confidence, wrong.contradicted_by, wrong.valid_to) == (
            0.05,
            "galileo",
            clock.now(),
        )
        [event] = storage.memory.history.events(kept.id).items
        assert (event.action, event.by, event.detail["confidence"]) == (
            "contradicted",
            "galileo",
            0.7,
        )
        assert not storage.memory.recall("earth")
        with pytest.raises(Conflict):
            storage.memory.history.contradict(kept.id, by="kepler")
        with pytest.raises(Invalid):
            storage.memory.history.contradict(kept.id, by="x", confidence=1.5)

    def test_f18_confidence_is_held_to_its_range_and_open_rows(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        kept = storage.memory.remember("maybe")
        assert kept.confidence == 0.4
        clock.set(clock.now() + timedelta(hours=1))
        for given, stored in ((7.0, 1.0), (-1.0, 0.0), (0.3, 0.3)):
            told = storage.memory.history.set_confidence(kept.id, given)
            assert (told.confidence, told.updated_at) == (stored, clock.now())
        with pytest.raises(Invalid):
            storage.memory.history.set_confidence(kept.id, float("nan"))
        storage.memory.history.contradict(kept.id, by="x")
        with pytest.raises(Conflict):
            storage.memory.history.set_confidence(kept.id, 0.9)

    def test_f18_where_confidence_starts(self, storage: Storage) -> None:
        assert storage.memory.remember("said").confidence == 0.4
        entries: Any = ["brought", {"content": "brought surely", "confidence": 0.9}]
        brought = storage.memory.remember_many(entries, imported=True)
        assert [m.confidence for m in brought] == [0.25, 0.9]
        other = storage.memory.configured(
            MemoryPolicy(confidence_start=0.5, confidence_imported=0.1)
        )
        assert other.remember("else").confidence == 0.5
        assert other.remember_many(["from there"], imported=True)[0].confidence == 0.1

    def test_f18_corroboration_grows_once_a_day(self, storage: Storage, clock: ManualClock) -> None:
        kept = storage.memory.remember("likely")
        assert storage.memory.history.corroborate(kept.id) is True
        assert storage.memory.history.corroborate(kept.id) is False
        assert held(storage, kept.id).confidence == pytest.approx(0.46)
        clock.set(clock.now() + timedelta(hours=24))
        assert storage.memory.history.corroborate(kept.id) is True
        assert held(storage, kept.id).confidence == pytest.approx(0.514)
        sure = storage.memory.remember("sure", confidence=1.0)
        storage.memory.history.corroborate(sure.id)
        assert held(storage, sure.id).confidence == 1.0
