"""How memories age: F10, F13, F14, F19, F20, F27, F32, F34."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from holdfast.core.clock import ManualClock
from holdfast.core.errors import Invalid
from holdfast.storage import Storage
from holdfast.stores.memory import Memory, MemoryPolicy
from holdfast.stores.memory.records import CHUNKS, MEMORIES
from holdfast.testing.harness import Harness
from holdfast.testing.models import AngleEmbedder, with_models
from holdfast.testing.races import Between
from holdfast.testing.threads import together


def held(storage: Storage, memory_id: str) -> Memory:
    found = storage.memory.get(memory_id)
    assert found is not None
    return found


def later(clock: ManualClock, **distance: float) -> None:
    clock.set(clock.now() + timedelta(**distance))


class TestMemoryLifecycle:
    def test_f10_purge_removes_what_was_closed_long_enough(
        self, storage: Storage, clock: ManualClock, harness: Harness
    ) -> None:
        story = "a long forgotten story " * 100
        forgotten = storage.memory.remember(story)
        old, new = storage.memory.remember("old fact"), storage.memory.remember("new fact")
        pinned = storage.memory.remember("pinned fact")
        storage.memory.pin(pinned.id)
        for gone in (forgotten, pinned):
            storage.memory.forget(gone.id)
        storage.memory.history.supersede(old.id, new.id)
        later(clock, hours=1)
        assert storage.memory.lifecycle.purge(older_than_seconds=3_600) == 0
        later(clock, seconds=1)
        young = storage.memory.remember("young")
        storage.memory.forget(young.id)
        assert storage.memory.lifecycle.purge(older_than_seconds=3_600, limit=1) == 1
        assert storage.memory.lifecycle.purge(older_than_seconds=3_600) == 1
        left = {row["id"] for row in harness.peek(MEMORIES, "default")}
        assert left == {new.id, young.id, pinned.id}
        assert harness.peek(CHUNKS, "default") == []
        with pytest.raises(Invalid):
            storage.memory.lifecycle.purge(older_than_seconds=0)

    def test_f10_clean_up_by_age_counts_first_and_spares_pins(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        old = [storage.memory.remember(f"old {n}") for n in range(3)]
        storage.memory.pin(old[0].id)
        later(clock, days=183)
        storage.memory.reinforce([old[1].id])
        storage.memory.remember("new")
        counted = storage.memory.lifecycle.remove_older()
        assert (counted.count, counted.spared, counted.dry_run) == (1, 1, True)
        assert storage.memory.stats().total == 4
        removed = storage.memory.lifecycle.remove_older(dry_run=False)
        assert (removed.count, removed.spared) == (1, 1)
        assert storage.memory.get(old[2].id) is None
        assert storage.memory.lifecycle.remove_older(before=clock.now()).count == 0
        not_a_bool: Any = "no"
        with pytest.raises(Invalid):
            storage.memory.lifecycle.remove_older(dry_run=not_a_bool)

    def test_f13_each_tier_has_its_life(self, storage: Storage, clock: ManualClock) -> None:
        start = clock.now()
        lives = {
            tier: storage.memory.remember(f"of {tier}", tier=tier).expires_at
            for tier in ("working", "episodic", "semantic", "procedural")
        }
        assert lives == {
            "working": start + timedelta(hours=72),
            "episodic": start + timedelta(days=30),
            "semantic": None,
            "procedural": None,
        }
        short = storage.memory.configured(MemoryPolicy(working_hours=1, semantic_hours=2))
        assert short.remember("a", tier="working").expires_at == start + timedelta(hours=1)
        assert short.remember("b").expires_at == start + timedelta(hours=2)
        exact = storage.memory.remember("c", tier="working", expires_at=start + timedelta(days=9))
        assert exact.expires_at == start + timedelta(days=9)

    @pytest.mark.needs_vectors
    def test_f13_the_expired_are_invisible_before_they_are_swept(
        self, storage: Storage, clock: ManualClock, harness: Harness
    ) -> None:
        kept = storage.memory.remember("passing thought", tier="working")
        clock.set(clock.now() + timedelta(hours=72))
        for mode in ("hybrid", "vector", "keyword"):
            assert not storage.memory.recall("passing thought", mode=mode)
        assert not storage.memory.list().items
        assert [m.id for m in storage.memory.list(include_closed=True)] == [kept.id]
        assert storage.memory.reinforce([kept.id]) == 0
        assert len(harness.peek(MEMORIES, "default")) == 1

    def test_f14_sweep_takes_the_oldest_expiry_first(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        for seconds in (30, 10, 20):
            storage.memory.remember(f"{seconds}", id=f"s{seconds}", ttl_seconds=seconds)
        storage.memory.remember("stays", id="stays")
        later(clock, seconds=30)
        assert storage.memory.lifecycle.sweep(limit=1) == 1
        assert [m.id for m in storage.memory.list(include_closed=True, descending=False)] == [
            "s20",
            "s30",
            "stays",
        ]
        assert storage.memory.lifecycle.sweep() == 2
        assert storage.memory.lifecycle.sweep() == 0

    def test_f14_what_was_reinforced_meanwhile_stays(
        self, open_storage: Callable[..., Storage], clock: ManualClock
    ) -> None:
        storage, other = open_storage(), open_storage()
        ids = [storage.memory.remember(f"m{n}", ttl_seconds=100).id for n in range(10)]
        later(clock, seconds=99)
        counted = other.memory.reinforce(ids[:5])
        later(clock, seconds=1)
        swept = together([storage.memory.lifecycle.sweep, other.memory.lifecycle.sweep])
        assert (counted, sum(swept)) == (5, 5)
        assert {m.id for m in storage.memory.list()} == set(ids[:5])

    def test_f14_an_access_between_the_cutoff_and_the_delete_wins(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        kept = storage.memory.remember("kept", ttl_seconds=100).id
        storage.memory.remember("gone", ttl_seconds=100)
        between = Between(storage._driver)
        sweeping = Storage(between, storage.scope, storage._runtime).memory.lifecycle
        cutoff = clock.now() + timedelta(seconds=100)

        def reinforce() -> None:
            # Another process, whose clock is a second behind, still sees the memory alive.
            clock.set(cutoff - timedelta(seconds=1))
            assert storage.memory.reinforce([kept]) == 1
            clock.set(cutoff)

        between.happens = reinforce
        clock.set(cutoff)
        assert sweeping.sweep() == 1
        assert [m.id for m in storage.memory.list()] == [kept]

    def test_f19_decay_lowers_the_untouched_once_a_period(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        idle = storage.memory.remember("idle", confidence=0.5)
        touched = storage.memory.remember("touched", confidence=0.5)
        low = storage.memory.remember("low", confidence=0.05)
        near = storage.memory.remember("near the floor", confidence=0.105)
        pinned = storage.memory.remember("pinned", confidence=0.5)
        storage.memory.pin(pinned.id)
        later(clock, days=6)
        assert storage.memory.lifecycle.decay() == 0
        storage.memory.reinforce([touched.id])
        later(clock, days=1)
        assert storage.memory.lifecycle.decay() == 2
        assert storage.memory.lifecycle.decay() == 0
        after = {m.id: held(storage, m.id).confidence for m in (idle, touched, low, near, pinned)}
        assert after == pytest.approx(
            {idle.id: 0.45, touched.id: 0.5, low.id: 0.05, near.id: 0.1, pinned.id: 0.5}
        )
        assert held(storage, idle.id).updated_at == idle.updated_at
        later(clock, days=1)
        assert storage.memory.lifecycle.decay() == 1
        assert held(storage, idle.id).confidence == pytest.approx(0.405)

    def test_f19_rate_floor_and_period_are_settable(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        weekly = storage.memory.configured(
            MemoryPolicy(decay_rate=0.05, decay_floor=0.05, decay_period_hours=168)
        )
        idle = weekly.remember("idle", confidence=0.5)
        low = weekly.remember("low", confidence=0.051)
        later(clock, days=7)
        assert weekly.lifecycle.decay() == 2
        later(clock, days=6)
        assert weekly.lifecycle.decay() == 0
        after = [held(storage, m.id).confidence for m in (idle, low)]
        assert after == pytest.approx([0.475, 0.05])

    def test_f19_two_deciders_decay_once(
        self, open_storage: Callable[..., Storage], clock: ManualClock
    ) -> None:
        storage, other = open_storage(), open_storage()
        kept = storage.memory.remember("idle", confidence=0.5)
        later(clock, days=8)
        counts = together([storage.memory.lifecycle.decay, other.memory.lifecycle.decay])
        assert sorted(counts) == [0, 1]
        assert held(storage, kept.id).confidence == pytest.approx(0.45)

    @pytest.mark.needs_vectors
    def test_f20_clusters_leave_one_survivor(self, storage: Storage) -> None:
        memory = with_models(storage, embedder=AngleEmbedder()).memory
        first = memory.remember("red @0", tags=["a"])
        best = memory.remember("scarlet @5", confidence=0.9, tags=["b"])
        third = memory.remember("crimson @10", tags=["c"])
        pinned = memory.remember("ruby @2")
        memory.pin(pinned.id)
        far = memory.remember("blue @90")
        turns = [memory.remember("red @1", session="s", turn=n) for n in (1, 2)]
        elsewhere = with_models(storage.scoped(user="u"), embedder=AngleEmbedder()).memory
        elsewhere.remember("red @0")
        planned = memory.consolidation.run(dry_run=True)
        assert (planned.clusters, planned.merged) == (1, 2)
        assert held(storage, first.id).superseded_by is None
        done = memory.consolidation.run()
        assert (done.clusters, done.merged) == (1, 2)
        survivor = held(storage, best.id)
        assert survivor.superseded_by is None
        assert set(survivor.tags) == {"a", "b", "c"}
        for merged in (first, third):
            assert held(storage, merged.id).superseded_by == best.id
            [event] = memory.history.events(merged.id).items
            assert (event.action, event.detail["successor"]) == ("merged", best.id)
        live = {m.id for m in memory.list(namespaces=[""])}
        assert live >= {best.id, pinned.id, far.id, *(turn.id for turn in turns)}
        again = memory.consolidation.run()
        assert (again.clusters, again.merged) == (0, 0)
        assert elsewhere.stats().live == 1

    def test_f27_retier_changes_tier_and_expiry_only(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        kept = storage.memory.remember("step", tier="working", tags=["t"])
        later(clock, hours=1)
        moved = storage.memory.lifecycle.retier(kept.id, "episodic")
        assert (moved.tier, moved.expires_at) == ("episodic", clock.now() + timedelta(days=30))
        assert (moved.content, moved.tags, moved.updated_at, moved.access_count) == (
            kept.content,
            kept.tags,
            kept.updated_at,
            0,
        )
        assert storage.memory.lifecycle.retier(kept.id, "semantic").expires_at is None
        with pytest.raises(Invalid):
            storage.memory.lifecycle.retier(kept.id, "eternal")

    def test_f27_promotion_takes_three_accesses_within_a_day(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        slow = storage.memory.remember("slow", tier="working")
        for _ in range(3):
            storage.memory.reinforce([slow.id])
            later(clock, hours=24)
        eager = storage.memory.remember("eager", tier="working")
        for _ in range(2):
            storage.memory.reinforce([eager.id])
            later(clock, hours=5)
        assert storage.memory.lifecycle.promote() == 0
        storage.memory.reinforce([eager.id])
        assert storage.memory.lifecycle.promote() == 1
        assert (held(storage, eager.id).tier, held(storage, slow.id).tier) == (
            "semantic",
            "working",
        )
        assert held(storage, eager.id).expires_at is None

    def test_f27_demotion_takes_doubt_and_neglect(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        doubtful = storage.memory.remember("doubtful", confidence=0.34)
        storage.memory.remember("sure", confidence=0.35)
        later(clock, hours=167)
        assert storage.memory.lifecycle.demote() == 0
        later(clock, hours=1)
        assert storage.memory.lifecycle.demote() == 1
        assert held(storage, doubtful.id).tier == "episodic"

    def test_f27_cap_forgets_the_lowest_retention_first(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        memory = storage.memory.configured(MemoryPolicy(short_term_limit=3))
        old = memory.remember("old", tier="episodic")
        later(clock, days=7)
        kept = {
            memory.remember(f"{significance}", tier="working", significance=significance).id
            for significance in ("core", "important")
        }
        weak = memory.remember("weak", tier="working", confidence=0.1)
        pinned = memory.remember("pinned", tier="working", confidence=0.0)
        memory.pin(pinned.id)
        memory.remember("lasting")
        assert memory.lifecycle.cap() == 2
        assert memory.lifecycle.cap() == 0
        assert memory.get(old.id) is None
        assert memory.get(weak.id) is None
        assert {m.id for m in memory.list(tiers=["working", "episodic"])} == kept | {pinned.id}

    def test_f32_pinned_rows_outlive_everything(self, storage: Storage, clock: ManualClock) -> None:
        kept = storage.memory.remember("pinned", tier="working", confidence=0.2, pinned=True)
        later(clock, days=400)
        assert storage.memory.lifecycle.sweep() == 0
        assert storage.memory.lifecycle.decay() == 0
        assert storage.memory.lifecycle.demote() == 0
        assert storage.memory.configured(MemoryPolicy(short_term_limit=0)).lifecycle.cap() == 0
        assert storage.memory.archive.put_untouched(before=clock.now()) == 0
        assert storage.memory.lifecycle.remove_older(dry_run=False).count == 0
        assert held(storage, kept.id).confidence == 0.2
        storage.memory.unpin(kept.id)
        assert storage.memory.lifecycle.sweep() == 1

    def test_f34_stats_match_a_full_scan(self, storage: Storage, clock: ManualClock) -> None:
        storage.memory.remember("expires", tier="working", ttl_seconds=1)
        later(clock, seconds=2)
        first = storage.memory.remember("one", kind="goal", type="x")
        second = storage.memory.remember("two", tier="procedural")
        third = storage.memory.remember("three")
        storage.scoped(namespace="n").memory.remember("named")
        storage.memory.history.supersede(first.id, second.id)
        storage.memory.forget(third.id)
        cold = storage.memory.remember("cold")
        storage.memory.archive.put([cold.id])
        later(clock, seconds=5)
        last = storage.memory.remember("last")
        stats = storage.memory.stats()
        live = list(storage.memory.list())
        assert (stats.total, stats.live) == (6, len(live))
        for field, counts in (
            ("tier", stats.tiers),
            ("kind", stats.kinds),
            ("type", stats.types),
            ("namespace", stats.namespaces),
        ):
            values = [getattr(m, field) for m in live]
            assert counts == {value: values.count(value) for value in set(values)}
        wanted = {"live": 3, "expired": 1, "superseded": 1, "forgotten": 1, "archived": 1}
        assert wanted.items() <= stats.states.items()
        assert stats.last_write_at == last.updated_at
        empty = storage.scoped(tenant="empty").memory.stats()
        assert (empty.total, empty.live, empty.tiers, empty.last_write_at) == (0, 0, {}, None)
