"""Checkpoints: D1 to D6, N9. Every state comes back to the byte, whatever went before or after."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any, Final

import pytest

from holdfast.core.change import Change, Delete, Edit, Patch
from holdfast.core.clock import ManualClock
from holdfast.core.collection import Collection
from holdfast.core.driver import Driver
from holdfast.core.errors import (
    Conflict,
    Corrupt,
    IdempotencyMismatch,
    Invalid,
    InvalidCursor,
    NotFound,
    TooLarge,
)
from holdfast.core.filter import Record
from holdfast.core.query import Query
from holdfast.storage import Storage
from holdfast.stores.checkpoints.policy import CheckpointPolicy, SaveStrategy
from holdfast.stores.checkpoints.records import CHECKPOINTS, LOGS, STRETCHES, Checkpoint
from holdfast.stores.checkpoints.saving import STATE_LIMIT
from holdfast.testing.harness import Cannot, Harness
from holdfast.testing.processes import peers_on, step_of
from holdfast.testing.threads import at_once, together

MIXED: Final = bytes(range(256)) * 20


def rows(driver: Driver, shape: Collection) -> list[Record]:
    """All that is kept of a shape."""
    driver.setup((CHECKPOINTS, LOGS, STRETCHES))
    return driver.query("default", Query(collection=shape.name)).records


def taken(driver: Driver) -> int:
    """Bytes that states and their layouts take, in all three tables."""
    own = sum(
        len(row["rest"]) + len(json.dumps([row["spans"], row["logs"]]))
        for row in rows(driver, CHECKPOINTS)
    )
    return own + sum(len(row["data"]) for row in rows(driver, STRETCHES))


def talk(steps: int, *, seed: int = 1, words: int = 100) -> list[bytes]:
    """A conversation as it grows: the state after every step, with a counter at its head."""
    rng = random.Random(seed)
    messages: list[dict[str, str]] = []
    states = []
    for step in range(steps):
        text = " ".join(f"{rng.getrandbits(24):x}" for _ in range(words))
        messages.append({"role": "user", "content": text})
        states.append(json.dumps({"step": step, "messages": messages, "done": False}).encode())
    return states


def whole(storage: Storage, states: dict[str, bytes]) -> None:
    """Every checkpoint has the state that was saved under its id."""
    for checkpoint_id, state in states.items():
        loaded = storage.checkpoints.load(checkpoint_id)
        assert loaded is not None
        assert loaded.state == state
        assert loaded.size == len(state)


def edits(rng: random.Random) -> list[Callable[[bytes], bytes]]:
    """What may happen to a state from one step to the next."""

    def fresh(size: int) -> bytes:
        return rng.randbytes(rng.randint(1, size))

    def replaced(state: bytes) -> bytes:
        at = rng.randrange(len(state) + 1)
        return state[:at] + fresh(300) + state[at + rng.randint(0, 300) :]

    return [
        lambda state: state + fresh(2_000),
        lambda state: state[:-1] + fresh(600) + b"]",
        lambda state: len(state).to_bytes(4, "big") + state[4:] + fresh(900),
        lambda state: state[rng.randint(0, 3_000) :] + fresh(500),
        lambda state: fresh(100) + state,
        replaced,
        lambda state: replaced(replaced(replaced(state))),
        lambda state: state[: len(state) // 2] + state[len(state) // 2 + 900 :],
        lambda state: state + state[:5_000],
        lambda state: state[len(state) // 2 :] + state[: len(state) // 2],
        lambda _: fresh(40_000),
        lambda _: bytes(rng.randint(0, 9_000)),
        lambda _: b"",
        lambda state: state,
    ]


class TestCheckpoints:
    def test_d1_work_goes_on_from_the_latest_in_another_handle(
        self, open_storage: Callable[..., Storage], driver: Driver
    ) -> None:
        states = dict(enumerate(talk(40)))
        ids = {}
        for begin in range(0, 40, 8):
            store = open_storage().checkpoints
            latest = store.latest()
            assert (None if latest is None else latest.state) == states.get(begin - 1)
            for step in range(begin, begin + 8):
                ids[store.save(states[step], iteration=step).id] = states[step]
        whole(open_storage(), ids)
        assert len(rows(driver, LOGS)) == 1
        assert taken(driver) < 3 * len(states[39])

    @pytest.mark.parametrize("size", [0, 1, 128, 129, 257, 4_095, 4_096, 4_097, 70_000, 4_300_000])
    def test_d1_a_state_comes_back_to_the_byte_and_after_reopening(
        self, storage: Storage, open_storage: Callable[..., Storage], size: int
    ) -> None:
        state = (MIXED * (size // len(MIXED) + 1))[:size]
        metadata = {"source": "test", "parents": [1, None, {"ü": 0.5}]}
        saved = storage.checkpoints.save(state, iteration=3, metadata=metadata)
        for handle in (storage, open_storage()):
            loaded = handle.checkpoints.load(saved.id)
            assert loaded is not None
            assert (loaded.state, loaded.iteration, loaded.metadata) == (state, 3, metadata)
            assert handle.checkpoints.latest() == loaded
            assert list(handle.checkpoints.list()) == [saved]

    @pytest.mark.parametrize("seed", range(4))
    def test_d1_any_history_of_edits_comes_back_whole(
        self, storage: Storage, open_storage: Callable[..., Storage], seed: int
    ) -> None:
        rng = random.Random(seed)
        ways, state, states = edits(rng), rng.randbytes(5_000), {}
        for step in range(60):
            state = rng.choice(ways)(state)
            states[storage.checkpoints.save(state, iteration=step).id] = state
        whole(open_storage(), states)

    def test_d1_an_id_in_use_has_its_checkpoint_replaced(
        self, storage: Storage, driver: Driver
    ) -> None:
        states = talk(4)
        for step, state in enumerate(states):
            storage.checkpoints.save(state, iteration=step, checkpoint_id=f"c{step}")
        again = storage.checkpoints.save(MIXED, iteration=1, checkpoint_id="c1", metadata={"a": 1})
        assert (again.revision, again.sequence, again.metadata) == (2, 5, {"a": 1})
        whole(storage, {"c0": states[0], "c1": MIXED, "c2": states[2], "c3": states[3]})
        assert [found.id for found in storage.checkpoints.list()] == ["c3", "c2", "c1", "c0"]
        assert storage.checkpoints.prune(keep=0) == 4
        assert rows(driver, LOGS) == rows(driver, STRETCHES) == []

    def test_d1_an_id_of_another_scope_is_a_conflict_and_leaves_it(self, storage: Storage) -> None:
        mine, other = storage.with_agent("mine"), storage.with_agent("other")
        saved = mine.checkpoints.save(b"mine", iteration=1, checkpoint_id="c")
        for handle in (other, storage):
            with pytest.raises(Conflict, match="id is in use"):
                handle.checkpoints.save(b"other", iteration=2, checkpoint_id="c")
        assert mine.checkpoints.latest() == mine.checkpoints.load(saved.id)
        assert other.checkpoints.load("c") is None
        with pytest.raises(NotFound):
            other.checkpoints.fork("c", session_id="s")
        assert other.checkpoints.delete("c") is False

    def test_d1_a_repeat_writes_nothing(self, storage: Storage) -> None:
        states = talk(3)
        first = storage.checkpoints.save(states[0], iteration=1, op_id="a")
        storage.checkpoints.save(states[1], iteration=2, op_id="b")
        assert storage.checkpoints.save(states[0], iteration=1, op_id="a") == first
        third = storage.checkpoints.save(states[2], iteration=3)
        with pytest.raises(IdempotencyMismatch):
            storage.checkpoints.save(states[2], iteration=1, op_id="a")
        fork = storage.checkpoints.fork(third.id, session_id="s", op_id="f")
        assert storage.checkpoints.fork(third.id, session_id="s", op_id="f") == fork
        assert storage.checkpoints.delete(first.id, op_id="d") is True
        assert storage.checkpoints.delete(first.id, op_id="d") is True
        assert storage.checkpoints.delete(first.id) is False
        with pytest.raises(IdempotencyMismatch):
            storage.checkpoints.delete(third.id, op_id="d")
        assert len(storage.checkpoints.list()) == 2
        whole(storage, {third.id: states[2], fork.id: states[2]})

    def test_d1_what_is_wrong_is_refused_by_name_before_anything_is_written(
        self, storage: Storage, driver: Driver
    ) -> None:
        store: Any = storage.checkpoints
        wrong: list[tuple[str, Callable[[], object]]] = [
            ("state", lambda: store.save("text", iteration=1)),
            ("state", lambda: store.save(None, iteration=1)),
            ("state", lambda: store.save(bytearray(b"x"), iteration=1)),
            ("iteration", lambda: store.save(b"", iteration=-1)),
            ("iteration", lambda: store.save(b"", iteration=True)),
            ("iteration", lambda: store.save(b"", iteration=1.0)),
            ("iteration", lambda: store.save(b"", iteration=2**63)),
            ("session_id", lambda: store.save(b"", iteration=1, session_id=None)),
            ("session_id", lambda: store.save(b"", iteration=1, session_id="a\x00")),
            ("session_id", lambda: store.save(b"", iteration=1, session_id="a" * 513)),
            ("metadata", lambda: store.save(b"", iteration=1, metadata=[1])),
            ("metadata", lambda: store.save(b"", iteration=1, metadata={"a": float("nan")})),
            ("metadata", lambda: store.save(b"", iteration=1, metadata={"a": "\ud800"})),
            ("checkpoint_id", lambda: store.save(b"", iteration=1, checkpoint_id=" ")),
            ("checkpoint_id", lambda: store.save(b"", iteration=1, checkpoint_id=1)),
            ("checkpoint_id", lambda: store.save(b"", iteration=1, checkpoint_id="\ud800")),
            ("session_id", lambda: store.latest(session_id=1)),
            ("session_id", lambda: store.list(session_id="\x00")),
            ("limit", lambda: store.list(limit=0)),
            ("keep", lambda: store.prune(keep=-1)),
            ("keep", lambda: store.prune(keep="all")),
            ("session_id", lambda: store.prune(keep=1, session_id=None)),
            ("session_id", lambda: store.fork("c", session_id=b"x")),
            ("policy", lambda: store.configured({"keep": 1})),
            ("keep", lambda: CheckpointPolicy(keep=0)),
            ("strategy", lambda: CheckpointPolicy(strategy="never")),  # type: ignore[arg-type]
            ("compress", lambda: CheckpointPolicy(compress=1)),  # type: ignore[arg-type]
        ]
        for field, call in wrong:
            with pytest.raises(Invalid, match=field):
                call()
        with pytest.raises(InvalidCursor):
            store.list(cursor="forged")
        assert [rows(driver, shape) for shape in (CHECKPOINTS, LOGS, STRETCHES)] == [[], [], []]

    @pytest.mark.parametrize("damage", ["bytes", "a stretch", "spans", "a log"])
    def test_d1_damage_is_corrupt_and_never_a_shorter_state(
        self, storage: Storage, open_storage: Callable[..., Storage], driver: Driver, damage: str
    ) -> None:
        saved = storage.checkpoints.save(MIXED, iteration=1)
        key = (rows(driver, STRETCHES)[0]["log_id"], 0)
        changes: dict[str, Change] = {
            "bytes": Patch(STRETCHES.name, key, Edit(set={"data": bytes(len(MIXED) - 128)})),
            "a stretch": Delete(STRETCHES.name, key),
            "spans": Patch(CHECKPOINTS.name, (saved.id,), Edit(set={"spans": [[7, 0, 9]]})),
            "a log": Delete(LOGS.name, key[:1]),
        }
        driver.apply("default", [changes[damage]])
        reader = open_storage().checkpoints
        reads: list[Callable[[], object]] = [lambda: reader.load(saved.id), reader.latest]
        for read in reads:
            with pytest.raises(Corrupt) as caught:
                read()
            assert caught.value.context["id"] == saved.id
        if damage == "a log":
            with pytest.raises(Corrupt):
                reader.fork(saved.id, session_id="fork")
        # Work goes on from there, and what is damaged can go.
        after = reader.save(MIXED + b"more", iteration=2)
        whole(open_storage(), {after.id: MIXED + b"more"})
        assert reader.prune(keep=1) == 1
        whole(open_storage(), {after.id: MIXED + b"more"})


class TestCheckpointOrder:
    def test_d2_latest_is_of_the_highest_iteration_then_of_the_last_save(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        assert storage.checkpoints.latest() is None
        for name, iteration in (("z", 1), ("y", 5), ("x", 5), ("m", 5)):
            storage.checkpoints.save(name.encode(), iteration=iteration, checkpoint_id=name)
        clock.set(clock.now() + timedelta(hours=1))
        storage.checkpoints.save(b"late", iteration=4, checkpoint_id="late")
        latest = storage.checkpoints.latest()
        assert latest is not None
        assert (latest.id, latest.state) == ("m", b"m")
        assert [found.id for found in storage.checkpoints.list()] == ["m", "x", "y", "late", "z"]

    def test_d2_sessions_agents_users_and_namespaces_have_their_own(self, storage: Storage) -> None:
        scopes: tuple[dict[str, str], ...] = (
            {},
            {"agent": "a"},
            {"agent": "b"},
            {"user": "a"},
            {"namespace": "a"},
        )
        handles = [storage.scoped(**scope).checkpoints for scope in scopes]
        states = {}
        for place, handle in enumerate(handles):
            for session in ("", "s"):
                state = MIXED + f"{place}{session}".encode()
                saved = handle.save(state, iteration=place, session_id=session)
                states[place, session] = state
                assert saved.sequence == 1
        for (place, session), state in states.items():
            latest = handles[place].latest(session_id=session)
            assert latest is not None
            assert latest.state == state
            assert len(handles[place].list(session_id=session)) == 1
        assert len(handles[0].list(session_id=None)) == 10
        assert len(handles[1].list(session_id=None)) == 2

    def test_d3_list_pages_newest_first_and_meets_each_once(self, storage: Storage) -> None:
        saved = [storage.checkpoints.save(b"s", iteration=n // 3) for n in range(10)]
        met: list[Checkpoint] = []
        cursor = None
        while True:
            page = storage.checkpoints.list(limit=3, cursor=cursor)
            met += page
            cursor = page.next_cursor
            if cursor is None:
                break
        assert met == saved[::-1]
        first = storage.checkpoints.list(limit=3)
        with pytest.raises(InvalidCursor):
            storage.checkpoints.list(session_id="other", cursor=first.next_cursor)

    def test_d3_prune_keeps_the_newest_and_says_how_many_went(self, storage: Storage) -> None:
        states = talk(30)
        agents = [storage.with_agent(name).checkpoints for name in ("a", "b")]
        ids = [
            [agent.save(state, iteration=n).id for n, state in enumerate(states)]
            for agent in agents
        ]
        elsewhere = agents[0].save(states[-1], iteration=1, session_id="other")
        assert agents[0].prune(keep=40) == 0
        assert agents[0].prune(keep=7) == 23
        assert [found.id for found in agents[0].list()] == ids[0][:22:-1]
        whole(storage, dict(zip(ids[0][23:], states[23:], strict=True)))
        whole(storage, dict(zip(ids[1], states, strict=True)))
        assert storage.checkpoints.prune(keep=0) == 0, "an unbound handle's own session is empty"
        assert agents[0].prune(keep=0) == 7
        assert agents[0].latest() is None
        whole(storage, {elsewhere.id: states[-1], ids[1][0]: states[0]})

    def test_d3_callers_that_prune_at_once_keep_what_each_wants_kept(
        self, storage: Storage, open_storage: Callable[..., Storage]
    ) -> None:
        states = talk(60)
        ids = [storage.checkpoints.save(s, iteration=n).id for n, s in enumerate(states)]
        handles = [open_storage() for _ in range(4)]
        gone = at_once(4, lambda n: handles[n].checkpoints.prune(keep=5))
        assert sum(gone) == 55
        whole(storage, dict(zip(ids[-5:], states[-5:], strict=True)))

    @pytest.mark.parametrize("event", ["iteration", "tool_call", "response"])
    def test_d6_a_save_is_due_as_the_strategy_says(self, storage: Storage, event: Any) -> None:
        wanted = {
            SaveStrategy(): {"tool_call": [0, 1, 2, 3, 4, 5]},
            SaveStrategy("after_response"): {"response": [0, 1, 2, 3, 4, 5]},
            SaveStrategy("every", 3): {"iteration": [2, 5]},
            SaveStrategy("every"): {"iteration": [0, 1, 2, 3, 4, 5]},
            SaveStrategy("never"): {},
        }
        for strategy, due in wanted.items():
            store = storage.checkpoints.configured(CheckpointPolicy(strategy=strategy))
            assert [n for n in range(6) if store.due(event, n)] == due.get(event, [])
        assert storage.checkpoints.due(event, 0) == (event == "tool_call")

    def test_d6_an_unknown_strategy_or_event_is_refused(self, storage: Storage) -> None:
        forged: Any = "sometimes"
        for field, call in (
            ("when", lambda: SaveStrategy(forged)),
            ("iterations", lambda: SaveStrategy("every", 0)),
            ("event", lambda: storage.checkpoints.due(forged, 1)),
            ("iteration", lambda: storage.checkpoints.due("iteration", -1)),
        ):
            with pytest.raises(Invalid, match=field):
                call()


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
        assert taken(driver) < 2.5 * sum(map(len, messages))
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
        self, storage: Storage, driver: Driver
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
            for checkpoint_id in ids:
                storage.checkpoints.load(checkpoint_id)


class TestCheckpointsShared:
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

    def test_n9_a_killed_saver_leaves_what_it_was_told_is_saved(
        self, harness: Harness, storage: Storage, driver: Driver
    ) -> None:
        if not driver.capabilities.multi_process:
            with pytest.raises(Cannot):
                harness.url()
            return
        with peers_on(harness.url(), 1) as [peer]:
            peer.start("checkpoint", "p", 100_000)
            ids = [peer.answer() for _ in range(25)]
            ids += peer.kill()
        states = {checkpoint_id: step_of("p", n) for n, checkpoint_id in enumerate(ids)}
        whole(storage, states)
        listed = storage.checkpoints.list(limit=1_000)
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
