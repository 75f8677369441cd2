"""What checkpoints take and share, and many who save at once: D4, D5, N9."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest

from holdfast.core.change import Change, Delete, DeleteWhere, Edit, Outcome, Patch, Put
from holdfast.core.clock import ManualClock
from holdfast.core.driver import Driver
from holdfast.core.errors import (
    Busy,
    Conflict,
    Corrupt,
    NotFound,
    TooLarge,
)
from holdfast.core.filter import EVERYTHING
from holdfast.core.scope import Scope
from holdfast.layers.layer import Layer
from holdfast.storage import Storage
from holdfast.stores.checkpoints.layout import REST_SIZE
from holdfast.stores.checkpoints.policy import CheckpointPolicy
from holdfast.stores.checkpoints.records import CHECKPOINTS, LOGS, STRETCHES
from holdfast.stores.checkpoints.saving import STATE_LIMIT
from holdfast.testing.harness import Cannot, Harness
from holdfast.testing.processes import peers_on, step_of
from holdfast.testing.stage import runtime
from holdfast.testing.talk import MIXED, rows, taken, talk, whole
from holdfast.testing.threads import at_once, together

MOST_SAVES = 500
"""Of a process that saves until it is killed, however late: fewer than one page lists."""


class TestCheckpointGrowth:
    def test_n9_a_growing_conversation_costs_what_it_grows_by(
        self, storage: Storage, open_storage: Callable[..., Storage], driver: Driver
    ) -> None:
        states, ids, sizes = talk(321), {}, []
        for step, state in enumerate(states):
            ids[storage.checkpoints.save(state, iteration=step).id] = state
            if step % 100 == 20:
                sizes.append(taken(driver))
        grown = [after - before for before, after in pairwise(sizes)]
        assert max(grown) < 1.1 * min(grown), "bytes of a step stay the same"
        assert sizes[-1] < 2.5 * len(states[-1])
        assert sum(map(len, states)) > 100 * len(states[-1])
        assert len(rows(driver, STRETCHES)) <= 40
        whole(open_storage(), ids)
        stats = storage.checkpoints.stats()
        assert (stats.checkpoints, stats.state_bytes) == (321, sum(map(len, states)))
        assert sizes[-1] * 0.5 < stats.stored_bytes <= sizes[-1]

    def test_n9_a_window_that_moves_costs_what_is_new(
        self, storage: Storage, open_storage: Callable[..., Storage], driver: Driver
    ) -> None:
        rng = random.Random(3)
        messages = [rng.randbytes(400) for _ in range(250)]
        ids = {}
        for step in range(200):
            state = b"|".join(messages[step : step + 50])
            ids[storage.checkpoints.save(state, iteration=step).id] = state
        assert taken(driver) < sum(map(len, messages)) + 200 * REST_SIZE
        whole(open_storage(), ids)

    def test_n9_what_changes_at_many_places_is_drawn_together(
        self, storage: Storage, open_storage: Callable[..., Storage], driver: Driver
    ) -> None:
        rng = random.Random(4)
        state, ids = bytearray(rng.randbytes(60_000)), {}
        for step in range(120):
            at = rng.randrange(len(state) - 300)
            state[at : at + 300] = rng.randbytes(300)
            ids[storage.checkpoints.save(bytes(state), iteration=step).id] = bytes(state)
        assert max(len(row["spans"]) for row in rows(driver, CHECKPOINTS)) < 100
        assert taken(driver) < 120 * len(state) / 4
        whole(open_storage(), ids)

    def test_n9_any_step_stays_whole_when_others_are_pruned_or_deleted(
        self, storage: Storage, open_storage: Callable[..., Storage], driver: Driver
    ) -> None:
        states = dict(enumerate(talk(80)))
        ids = {n: storage.checkpoints.save(s, iteration=n).id for n, s in states.items()}
        for n in range(0, 80, 3):
            assert storage.checkpoints.delete(ids[n]) is True
        assert storage.checkpoints.prune(keep=30) == 23
        left = [n for n in range(80) if n % 3][-30:]
        whole(open_storage(), {ids[n]: states[n] for n in left})
        assert storage.checkpoints.delete(ids[left[-1]]) is True
        after = storage.checkpoints.save(states[79] + MIXED, iteration=90)
        whole(open_storage(), {after.id: states[79] + MIXED, ids[left[0]]: states[left[0]]})
        assert storage.checkpoints.prune(keep=0) == 30
        assert rows(driver, LOGS) == rows(driver, STRETCHES) == []

    def test_n9_a_fork_shares_all_and_outlives_its_origin(
        self, storage: Storage, open_storage: Callable[..., Storage], driver: Driver
    ) -> None:
        states = talk(20)
        ids = [
            storage.checkpoints.save(s, iteration=n, metadata={"n": n}).id
            for n, s in enumerate(states)
        ]
        before = sum(len(row["data"]) for row in rows(driver, STRETCHES))
        fork = storage.checkpoints.fork(ids[9], session_id="fork")
        named = storage.checkpoints.fork(ids[9], session_id="fork", new_id="f", metadata={"a": 1})
        assert (fork.iteration, fork.forked_from, fork.metadata) == (9, ids[9], {"n": 9})
        assert (named.id, named.metadata, named.sequence) == ("f", {"a": 1}, 2)
        assert sum(len(row["data"]) for row in rows(driver, STRETCHES)) == before
        with pytest.raises(Conflict):
            storage.checkpoints.fork(ids[9], session_id="fork", new_id="f")
        # Both go on, in turns, and then the origin goes.
        branch, kept = states[9], {fork.id: states[9], "f": states[9]}
        for n in range(12):
            branch += f"branch {n}".encode() * 50
            kept[storage.checkpoints.save(branch, iteration=10 + n, session_id="fork").id] = branch
            storage.checkpoints.save(states[19] + bytes(n * 999), iteration=20 + n)
        assert storage.checkpoints.prune(keep=0) == 32
        whole(open_storage(), kept)
        assert storage.checkpoints.prune(keep=0, session_id="fork") == 14
        assert rows(driver, LOGS) == rows(driver, STRETCHES) == []

    def test_n9_a_session_keeps_so_many_unless_told_otherwise(self, storage: Storage) -> None:
        states = talk(200, words=20)
        bounded = storage.with_agent("a").checkpoints.configured(CheckpointPolicy(keep=20))
        endless = storage.with_agent("b").checkpoints.configured(CheckpointPolicy(keep=None))
        for step, state in enumerate(states):
            bounded.save(state, iteration=step)
            endless.save(state, iteration=step)
            assert bounded.stats().checkpoints <= 20 + 2 + 64
        assert endless.stats().checkpoints == 200
        latest = bounded.latest()
        assert latest is not None
        assert latest.state == states[-1]
        assert CheckpointPolicy().keep == 10_000

    def test_d5_a_state_of_50_mb_comes_back_and_one_too_large_is_refused(
        self, storage: Storage, open_storage: Callable[..., Storage]
    ) -> None:
        state = random.Random(5).randbytes(1_000_000) * 50
        first = storage.checkpoints.save(state, iteration=1)
        second = open_storage().checkpoints.save(state + b"more", iteration=2)
        assert storage.checkpoints.stats().stored_bytes < len(state) + 1_000
        loaded = open_storage().checkpoints.load(first.id)
        assert loaded is not None
        assert loaded.state == state
        latest = storage.checkpoints.latest()
        assert latest is not None
        assert (latest.id, latest.state[-8:]) == (second.id, state[-4:] + b"more")
        with pytest.raises(TooLarge, match="state"):
            storage.checkpoints.save(bytes(STATE_LIMIT + 1), iteration=3)

    def test_d5_compression_shows_in_the_bytes_kept_and_nowhere_else(
        self, storage: Storage, open_storage: Callable[..., Storage], driver: Driver
    ) -> None:
        packing = storage.checkpoints.configured(CheckpointPolicy(compress=True))
        states = [b"the same words again and again " * n for n in range(1, 400, 9)]
        ids = {packing.save(s, iteration=n).id: s for n, s in enumerate(states)}
        noise = random.Random(1).randbytes(9_000)
        ids[packing.save(noise, iteration=99).id] = noise
        whole(storage, ids)
        kept = rows(driver, STRETCHES)
        assert {row["encoding"] for row in kept} == {"raw", "zlib"}
        assert sum(len(row["data"]) for row in kept) < len(states[-1]) + len(noise)
        log = next(row for row in kept if row["encoding"] == "zlib")
        torn = Edit(set={"data": log["data"][: len(log["data"]) // 2]})
        driver.apply("default", [Patch(STRETCHES.name, (log["log_id"], log["start"]), torn)])
        with pytest.raises(Corrupt):
            whole(open_storage(), ids)

    def test_d5_what_was_read_before_gives_way_to_what_stands_there_now(
        self, storage: Storage, open_storage: Callable[..., Storage], driver: Driver
    ) -> None:
        def save(states: list[bytes]) -> dict[str, bytes]:
            store = open_storage().checkpoints
            return {store.save(s, iteration=n).id: s for n, s in enumerate(states)}

        states, noise = talk(40), random.Random(2).randbytes(20_000)
        kept = save(states[:12])
        before = {shape.name: rows(driver, shape) for shape in (LOGS, STRETCHES, CHECKPOINTS)}
        whole(storage, kept | save(states[12:]))
        # A server comes back without its last commits, and others write in their place.
        driver.apply("default", [DeleteWhere(name, EVERYTHING) for name in reversed(before)])
        driver.apply("default", [Put(name, row) for name in before for row in before[name]])
        kept |= save([states[11] + noise[:size] for size in range(800, 20_000, 800)])
        assert len(rows(driver, LOGS)) == 1
        whole(storage, kept)

    def test_d5_what_was_damaged_stays_so_when_stretches_become_one(
        self, storage: Storage, open_storage: Callable[..., Storage], driver: Driver
    ) -> None:
        states = talk(40)
        ids = {storage.checkpoints.save(s, iteration=n).id: s for n, s in enumerate(states[:20])}
        reader = open_storage()
        whole(reader, ids)
        last = rows(driver, STRETCHES)[-1]
        torn = Edit(set={"data": bytes(len(last["data"]))})
        driver.apply("default", [Patch(STRETCHES.name, (last["log_id"], last["start"]), torn)])
        reader.checkpoints.latest()
        for n, state in enumerate(states[20:], 20):
            reader.checkpoints.save(state, iteration=n)
        with pytest.raises(Corrupt):
            whole(open_storage(), ids)


class _NoUpkeep(Layer):
    """An engine that has just become busy whenever a save is done and others are to be removed."""

    def apply(
        self,
        tenant: str,
        changes: Sequence[Change],
        *,
        op_id: str | None = None,
        op_body: bytes | None = None,
    ) -> list[Outcome]:
        if any(isinstance(change, Delete) for change in changes):
            raise Busy("Other writers were always in the way.")
        return self.below.apply(tenant, changes, op_id=op_id, op_body=op_body)


class _Losing(Layer):
    """An engine whose commits may come to nothing after it has answered, as that of a group may."""

    lost = False

    def apply(
        self,
        tenant: str,
        changes: Sequence[Change],
        *,
        op_id: str | None = None,
        op_body: bytes | None = None,
    ) -> list[Outcome]:
        if not self.lost:
            return self.below.apply(tenant, changes, op_id=op_id, op_body=op_body)
        stored = {"revision": 1, "sequence": 2}
        return [
            Outcome(1, ({**change.record, **stored},) if isinstance(change, Put) else ())
            for change in changes
        ]


class TestCheckpointsShared:
    def test_d4_a_save_is_done_although_what_follows_it_fails(
        self, storage: Storage, driver: Driver, clock: ManualClock
    ) -> None:
        assert rows(driver, LOGS) == []
        busy = Storage(_NoUpkeep(driver), Scope(), runtime(clock, "busy"))
        store = busy.checkpoints.configured(CheckpointPolicy(keep=5))
        states = talk(70)
        whole(storage, {store.save(s, iteration=n).id: s for n, s in enumerate(states)})
        assert storage.checkpoints.stats().checkpoints == 70
        # The next one that can, removes them.
        tidy = storage.checkpoints.configured(CheckpointPolicy(keep=5))
        for n in range(64):
            tidy.save(states[69] + bytes(300 * n), iteration=100 + n)
        assert storage.checkpoints.stats().checkpoints < 70

    def test_d4_nothing_is_built_on_what_did_not_commit(
        self, open_storage: Callable[..., Storage], driver: Driver, clock: ManualClock
    ) -> None:
        assert rows(driver, LOGS) == []
        losing = _Losing(driver)
        storage, states = Storage(losing, Scope(), runtime(clock, "losing")), talk(12)
        kept = {storage.checkpoints.save(states[8], iteration=8).id: states[8]}
        losing.lost = True
        storage.checkpoints.save(states[11], iteration=11)
        losing.lost = False
        strange = states[8][:-1] + bytes(range(256)) * 40
        kept[open_storage().checkpoints.save(strange, iteration=9).id] = strange
        # Of this one all bytes seem to be in the log already.
        kept[storage.checkpoints.save(states[11], iteration=11).id] = states[11]
        whole(open_storage(), kept)

    def test_n9_a_conversation_saved_by_units_costs_what_it_grows_by(
        self, storage: Storage, open_storage: Callable[..., Storage], driver: Driver
    ) -> None:
        states, ids = talk(100), {}
        for n, state in enumerate(states):
            with storage.unit() as unit:
                ids[unit.checkpoints.save(state, iteration=n).id] = state
        assert len(rows(driver, STRETCHES)) <= 20
        assert taken(driver) < 3 * len(states[-1])
        whole(open_storage(), ids)

    def test_d4_fifty_saves_at_once_are_all_stored(
        self, open_storage: Callable[..., Storage]
    ) -> None:
        handles = [open_storage() for _ in range(3)]
        base = talk(30)[-1]
        handles[0].checkpoints.save(base, iteration=0)
        states = [base[: 900 * (n + 1)] + f"writer {n} ".encode() * 60 for n in range(50)]
        saved = at_once(50, lambda n: handles[n % 3].checkpoints.save(states[n], iteration=n).id)
        assert len(set(saved)) == 50
        listed = handles[0].checkpoints.list()
        assert sorted(found.sequence for found in listed) == list(range(1, 52))
        whole(open_storage(), dict(zip(saved, states, strict=True)))

    def test_d4_handles_that_take_turns_build_on_each_other(
        self, open_storage: Callable[..., Storage], driver: Driver
    ) -> None:
        handles = [open_storage() for _ in range(2)]
        states = talk(40)
        ids = {
            handles[n % 2].checkpoints.save(state, iteration=n).id: state
            for n, state in enumerate(states)
        }
        whole(open_storage(), ids)
        assert taken(driver) < 3 * len(states[-1])

    def test_d4_handles_that_go_apart_do_not_write_into_each_other(
        self, open_storage: Callable[..., Storage]
    ) -> None:
        handles = [open_storage() for _ in range(2)]
        base, ids = talk(20)[-1], {}
        for n in range(30):
            own = b"".join(f"{n % 2} said {k} {n % 2} times, ".encode() * 9 for k in range(n))
            saved = handles[n % 2].checkpoints.save(base + own, iteration=n)
            ids[saved.id] = base + own
        whole(open_storage(), ids)

    def test_d4_prune_and_fork_beside_savers_break_nothing(
        self, open_storage: Callable[..., Storage]
    ) -> None:
        handles = [open_storage() for _ in range(4)]
        states = talk(40)

        def save(n: int) -> dict[str, bytes]:
            store = handles[n].checkpoints
            return {store.save(s, iteration=i).id: s for i, s in enumerate(states)}

        def prune() -> dict[str, bytes]:
            for _ in range(15):
                handles[2].checkpoints.prune(keep=3)
            return {}

        def fork() -> dict[str, bytes]:
            forks = {}
            for _ in range(15):
                latest = handles[3].checkpoints.latest()
                if latest is None:
                    continue
                try:
                    made = handles[3].checkpoints.fork(latest.id, session_id="f")
                except NotFound:
                    continue
                forks[made.id] = latest.state
            return forks

        saved = together([lambda: save(0), lambda: save(1), prune, fork])
        known = {checkpoint_id: s for part in saved for checkpoint_id, s in part.items()}
        reader = open_storage()
        left = [*reader.checkpoints.list(), *reader.checkpoints.list(session_id="f")]
        assert len(left) >= 3
        whole(reader, {found.id: known[found.id] for found in left})
        assert {found.id for found in left} >= set(saved[3])

    def test_d4_upserts_of_one_id_at_once_leave_one_of_them(
        self, open_storage: Callable[..., Storage], driver: Driver
    ) -> None:
        handles = [open_storage() for _ in range(3)]
        states = [MIXED + f"{n}".encode() * 700 for n in range(12)]
        saved = at_once(
            12,
            lambda n: handles[n % 3].checkpoints.save(states[n], iteration=1, checkpoint_id="c"),
        )
        assert sorted(one.revision for one in saved) == list(range(1, 13))
        last = max(range(12), key=lambda n: saved[n].revision)
        whole(open_storage(), {"c": states[last]})
        assert handles[0].checkpoints.delete("c") is True
        assert rows(driver, LOGS) == rows(driver, STRETCHES) == []

    def test_d4_saves_of_two_processes_are_all_whole(
        self, harness: Harness, storage: Storage, driver: Driver
    ) -> None:
        if not driver.capabilities.multi_process:
            with pytest.raises(Cannot):
                harness.url()
            return
        with peers_on(harness.url(), 2) as peers:
            for place, peer in enumerate(peers):
                peer.start("checkpoint", f"p{place}", 20)
            ids = [[peer.answer() for _ in range(20)] for peer in peers]
        whole(
            storage,
            {i: step_of(f"p{p}", n) for p, some in enumerate(ids) for n, i in enumerate(some)},
        )
        assert len(storage.checkpoints.list()) == 40

    @pytest.mark.new_store  # a server may do what the killed one had sent when the case is over
    def test_n9_a_killed_saver_leaves_what_it_was_told_is_saved(
        self, harness: Harness, storage: Storage, driver: Driver
    ) -> None:
        if not driver.capabilities.multi_process:
            with pytest.raises(Cannot):
                harness.url()
            return
        with peers_on(harness.url(), 1) as [peer]:
            peer.start("checkpoint", "p", MOST_SAVES)
            ids = [peer.answer() for _ in range(25)]
            ids += peer.kill()
        states = {checkpoint_id: step_of("p", n) for n, checkpoint_id in enumerate(ids)}
        whole(storage, states)
        listed = storage.checkpoints.list(limit=MOST_SAVES)
        assert len(listed) - len(ids) in (0, 1), "the last may have been saved unheard"
        after = storage.checkpoints.save(step_of("p", len(ids)), iteration=10**6)
        whole(storage, {after.id: step_of("p", len(ids))})

    def test_a16_a_unit_saves_with_other_stores_or_leaves_no_trace(
        self, storage: Storage, open_storage: Callable[..., Storage], driver: Driver
    ) -> None:
        states = talk(8)
        kept = {storage.checkpoints.save(states[0], iteration=0).id: states[0]}
        with storage.unit() as unit:
            unit.kv.set("step", 2)
            for n in (1, 2):
                saved = unit.checkpoints.save(states[n], iteration=n)
                loaded = unit.checkpoints.load(saved.id)
                assert loaded is not None
                assert loaded.state == states[n]
                kept[saved.id] = states[n]
        before = [rows(driver, shape) for shape in (CHECKPOINTS, LOGS, STRETCHES)]
        with pytest.raises(ZeroDivisionError), storage.unit() as unit:
            unit.checkpoints.save(states[3] + MIXED, iteration=3)
            raise ZeroDivisionError
        assert [rows(driver, shape) for shape in (CHECKPOINTS, LOGS, STRETCHES)] == before
        for n in (4, 5):
            kept[storage.checkpoints.save(states[n], iteration=n).id] = states[n]
        with storage.unit() as unit:
            unit.checkpoints.delete(next(iter(kept)))
            kept[unit.checkpoints.save(states[6], iteration=6).id] = states[6]
        kept.pop(next(iter(kept)))
        whole(open_storage(), kept)
        assert [found.sequence for found in storage.checkpoints.list()] == [6, 5, 4, 3, 2]
