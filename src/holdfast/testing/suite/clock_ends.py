"""A clock that stands at an end of the calendar: what reckons with time stops there."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from holdfast.core.clock import ManualClock
from holdfast.storage import Storage
from holdfast.stores.memory import MemoryPolicy

ENDS = [datetime(1, 1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, tzinfo=UTC)]


AT_AN_END = pytest.mark.parametrize("end", ENDS, ids=["year 1", "year 9999"])


class TestClockEnds:
    @AT_AN_END
    def test_memories_are_kept_recalled_and_looked_after(
        self, storage: Storage, clock: ManualClock, end: datetime
    ) -> None:
        clock.set(end)
        memory = storage.memory
        kept = memory.remember("a kayak trip on the lake", tier="episodic")
        memory.remember("tea with Ada", tier="working")
        for query in ("kayak", "the kayak of yesterday", "kayak tomorrow or next week"):
            assert memory.recall(query, k=1, reinforce=True)[0].memory.id == kept.id
        assert memory.hygiene.measure().live == 2
        lifecycle = memory.lifecycle
        for look_after in (lifecycle.decay, lifecycle.promote, lifecycle.demote, lifecycle.cap):
            look_after()
        assert lifecycle.purge(older_than_seconds=1e10) == 0
        assert memory.repair.claim() == []
        memory.correct(kept.id, "a kayak trip on the sea")
        assert memory.hygiene.measure().live == 2

    @AT_AN_END
    def test_leases_lives_and_waits_end_with_the_calendar(
        self, storage: Storage, clock: ManualClock, end: datetime
    ) -> None:
        clock.set(end)
        storage.kv.set("answer", 42, ttl_seconds=1e10)
        assert storage.kv.get("answer") == 42
        task = storage.tasks.post("sail")
        [claimed] = storage.tasks.claim("w")
        assert (claimed.id, claimed.lease_until is not None) == (task.id, True)
        storage.tasks.fail(task.id, claimed.lease_token or "", "no wind")
        storage.tasks.upkeep.reclaim()
        assert storage.tasks.upkeep.prune(older_than_seconds=1e10) == 0
        chat = storage.conversations.create()
        storage.conversations.append(chat.id, text="hello")
        if storage._driver.capabilities.vectors:
            storage.conversations.embeddings.run()
        storage._driver.maintain("sweep", now=end)

    def test_a_policy_may_reach_behind_the_first_year(self, storage: Storage) -> None:
        memory = storage.memory.configured(MemoryPolicy(unrecalled_days=1e6, decay_idle_days=1e6))
        memory.remember("a kayak trip")
        assert memory.hygiene.measure(["never_recalled"]).categories["never_recalled"].count == 0
        assert memory.lifecycle.decay() == 0
