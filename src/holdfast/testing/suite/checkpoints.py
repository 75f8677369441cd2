"""Checkpoints: D1, D2, D3, D6. Every state comes back to the byte, whatever went before."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from holdfast.core.change import Change, Delete, Edit, Patch
from holdfast.core.clock import ManualClock
from holdfast.core.driver import Driver
from holdfast.core.errors import (
    Conflict,
    Corrupt,
    IdempotencyMismatch,
    Invalid,
    InvalidCursor,
    NotFound,
)
from holdfast.storage import Storage
from holdfast.stores.checkpoints.policy import CheckpointPolicy, SaveStrategy
from holdfast.stores.checkpoints.records import CHECKPOINTS, LOGS, STRETCHES, Checkpoint
from holdfast.testing.talk import MIXED, rows, taken, talk, whole
from holdfast.testing.threads import at_once


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

    @pytest.mark.parametrize("damage", ["bytes", "a stretch", "spans", "the rest", "a log"])
    def test_d1_damage_is_corrupt_and_never_a_shorter_state(
        self, storage: Storage, open_storage: Callable[..., Storage], driver: Driver, damage: str
    ) -> None:
        saved = storage.checkpoints.save(MIXED, iteration=1)
        key = (rows(driver, STRETCHES)[0]["log_id"], 0)
        changes: dict[str, Change] = {
            "bytes": Patch(STRETCHES.name, key, Edit(set={"data": bytes(len(MIXED) - 128)})),
            "a stretch": Delete(STRETCHES.name, key),
            "spans": Patch(CHECKPOINTS.name, (saved.id,), Edit(set={"spans": [[7, 0, 9]]})),
            "the rest": Patch(CHECKPOINTS.name, (saved.id,), Edit(set={"rest": bytes(128)})),
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
