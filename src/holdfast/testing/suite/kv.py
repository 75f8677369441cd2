"""Key-value: H1, H2, H5."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest

from holdfast.core.clock import ManualClock
from holdfast.core.driver import Driver
from holdfast.core.errors import Conflict, Invalid, InvalidCursor
from holdfast.storage import Storage
from holdfast.testing.harness import Cannot, Harness
from holdfast.testing.processes import peers_on

PATIENCE_SECONDS = 60.0


class TestKeyValue:
    def test_h1_any_json_round_trips_and_null_differs_from_missing(self, storage: Storage) -> None:
        for value in (None, True, 0, -1.5, "text ü", [1, [2]], {"a": {"b": None}}):
            storage.kv.set("k", value)
            assert storage.kv.get("k", "missing") == value
        storage.kv.set("k", None)
        assert storage.kv.entry("k") is not None
        assert storage.kv.entry("other") is None

    def test_h1_version_increments_and_delete_reports_existence(self, storage: Storage) -> None:
        assert [storage.kv.set("k", n).version for n in range(3)] == [1, 2, 3]
        assert storage.kv.delete("k") is True
        assert storage.kv.delete("k") is False

    def test_h1_list_by_prefix_pages_in_key_order(self, storage: Storage) -> None:
        for key in ("b%1", "b%2", "b_1", "bx1", "a", "b%3"):
            storage.kv.set(key, key)
        first = storage.kv.list("b%", limit=2)
        assert [entry.key for entry in first] == ["b%1", "b%2"]
        second = storage.kv.list("b%", limit=2, cursor=first.next_cursor)
        assert [entry.key for entry in second] == ["b%3"]
        assert second.next_cursor is None
        with pytest.raises(InvalidCursor):
            storage.kv.list("b_", limit=2, cursor=first.next_cursor)

    def test_h2_compare_and_set(self, storage: Storage) -> None:
        assert storage.kv.set("k", "new", expected_version=0).version == 1
        with pytest.raises(Conflict):
            storage.kv.set("k", "again", expected_version=0)
        storage.kv.set("k", "newer", expected_version=1)
        with pytest.raises(Conflict):
            storage.kv.set("k", "stale", expected_version=1)
        assert storage.kv.get("k") == "newer"

    def test_a17_hundred_concurrent_updates_all_count(
        self, open_storage: Callable[..., Storage]
    ) -> None:
        handles = [open_storage() for _ in range(4)]

        def work(handle: Storage) -> None:
            for _ in range(25):
                handle.kv.update("n", lambda n: (n or 0) + 1)

        threads = [threading.Thread(target=work, args=(handle,)) for handle in handles]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert handles[0].kv.get("n") == 100

    def test_h2_updates_of_two_processes_all_count(
        self, harness: Harness, storage: Storage, driver: Driver
    ) -> None:
        if not driver.capabilities.multi_process:
            with pytest.raises(Cannot):
                harness.url()
            return
        with peers_on(harness.url(), 2) as peers:
            for peer in peers:
                peer.start("count", "n", 50)
            assert [peer.answer() for peer in peers] == ["counted"] * 2
        assert storage.kv.get("n") == 100

    def test_h5_expired_is_missing_at_once_and_swept_later(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        storage.kv.set("k", 1, ttl_seconds=10)
        storage.kv.set("stays", 2)
        clock.set(clock.now() + timedelta(seconds=10))
        assert storage.kv.entry("k") is None
        assert [entry.key for entry in storage.kv.list()] == ["stays"]
        assert storage.kv.set("k", "again", expected_version=0).value == "again"
        storage.kv.set("old", 1, ttl_seconds=1)
        clock.set(clock.now() + timedelta(seconds=5))
        assert storage.kv.sweep() == 1
        assert storage.kv.get("k") == "again"

    def test_h5_get_or_compute_runs_once_per_key(self, storage: Storage) -> None:
        calls: list[int] = []

        def compute() -> int:
            calls.append(1)
            return len(calls)

        assert [storage.kv.get_or_compute("k", compute) for _ in range(3)] == [1, 1, 1]

    def test_b1_scopes_do_not_meet(self, open_storage: Callable[..., Storage]) -> None:
        storage = open_storage()
        storage.kv.set("k", "default")
        other = storage.scoped(tenant="other")
        assert other.kv.entry("k") is None
        assert other.kv.set("k", "theirs").version == 1
        assert storage.scoped(agent="a").kv.entry("k") is None
        assert storage.kv.get("k") == "default"

    def test_h1_hostile_keys_are_only_text(self, storage: Storage) -> None:
        keys = ["a b", "%", "_", "' OR 1=1", "a/b", "ключ", "\u2028", " ", "x" * 512, "A", "a"]
        for key in keys:
            storage.kv.set(key, key)
        assert [storage.kv.get(key) for key in keys] == keys
        assert [entry.key for entry in storage.kv.list()] == sorted(keys)
        for bad in ("", "x" * 513, "a\x00b", "\ud800", 1, None):
            with pytest.raises(Invalid):
                storage.kv.set(bad, 1)  # type: ignore[arg-type]
            with pytest.raises(Invalid):
                storage.kv.get(bad)  # type: ignore[arg-type]
        assert len(storage.kv.list()) == len(keys)

    def test_h1_keys_of_neighbouring_scopes_stay_apart(self, storage: Storage) -> None:
        handles = [
            storage,
            storage.scoped(agent="a"),
            storage.scoped(user="a"),
            storage.scoped(namespace="a"),
            storage.scoped(agent="a", user="a"),
            storage.scoped(agent="a:a"),
            storage.scoped(agent="a", namespace="a"),
        ]
        for n, handle in enumerate(handles):
            for key in ("k", "a", "a:k", ":"):
                assert handle.kv.set(key, n, expected_version=0).version == 1
        for n, handle in enumerate(handles):
            assert [handle.kv.get(key) for key in ("k", "a", "a:k", ":")] == [n] * 4

    def test_h1_bad_input_is_refused_and_nothing_is_written(self, storage: Storage) -> None:
        for fields in (
            {"value": float("nan")},
            {"value": object()},
            {"value": {1: 2}},
            {"value": 2**63},
            {"value": 1, "ttl_seconds": 0},
            {"value": 1, "ttl_seconds": float("nan")},
            {"value": 1, "ttl_seconds": True},
            {"value": 1, "expected_version": -1},
            {"value": 1, "expected_version": "1"},
        ):
            with pytest.raises(Invalid):
                storage.kv.set("k", **fields)
        with pytest.raises(Invalid):
            storage.kv.update("k", lambda _: {1, 2})
        with pytest.raises(Invalid):
            storage.kv.list(limit=0)
        assert storage.kv.entry("k") is None

    def test_h2_expecting_a_version_of_nothing_is_a_conflict(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        with pytest.raises(Conflict):
            storage.kv.set("k", 1, expected_version=1)
        storage.kv.set("k", 1, ttl_seconds=5)
        clock.set(clock.now() + timedelta(seconds=5))
        with pytest.raises(Conflict):
            storage.kv.set("k", 2, expected_version=1)
        assert storage.kv.entry("k") is None

    def test_h2_one_of_many_concurrent_setters_wins_each_version(
        self, open_storage: Callable[..., Storage]
    ) -> None:
        handles = [open_storage() for _ in range(4)]
        won: list[int] = []

        def work(handle: Storage) -> None:
            for version in range(10):
                try:
                    won.append(handle.kv.set("k", 0, expected_version=version).version)
                except Conflict:
                    continue

        threads = [threading.Thread(target=work, args=(handle,)) for handle in handles]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        entry = handles[0].kv.entry("k")
        assert entry is not None
        assert sorted(won) == list(range(1, entry.version + 1))

    def test_h2_update_keeps_expiry_and_creation(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        first = storage.kv.set("k", 1, ttl_seconds=10)
        clock.set(clock.now() + timedelta(seconds=5))
        later = storage.kv.update("k", lambda n: n + 1)
        assert (later.value, later.expires_at) == (2, first.expires_at)
        assert (later.created_at, later.updated_at) == (first.created_at, clock.now())
        clock.set(clock.now() + timedelta(seconds=5))
        again = storage.kv.update("k", lambda value: [value])
        assert (again.value, again.expires_at, again.created_at) == ([None], None, clock.now())

    def test_h5_threads_of_one_handle_compute_once(self, storage: Storage) -> None:
        calls: list[bool] = []
        begun, go_on = threading.Event(), threading.Event()

        def compute() -> None:
            begun.set()
            calls.append(go_on.wait(PATIENCE_SECONDS))

        found: list[object] = []

        def work(handle: Storage) -> None:
            found.append(handle.kv.get_or_compute("k", compute))

        handles = [storage, storage.scoped(), storage]
        threads = [threading.Thread(target=work, args=(handle,)) for handle in handles]
        threads[0].start()
        assert begun.wait(PATIENCE_SECONDS)
        for thread in threads[1:]:
            thread.start()
        assert storage.kv.get_or_compute("another key", lambda: "free") == "free"
        go_on.set()
        for thread in threads:
            thread.join()
        assert (calls, found) == ([True], [None] * 3)

    def test_h5_of_two_storages_one_value_wins_for_both(
        self, open_storage: Callable[..., Storage]
    ) -> None:
        one, two = open_storage(), open_storage()

        def slow() -> str:
            assert two.kv.get_or_compute("k", lambda: "fast") == "fast"
            return "slow"

        assert one.kv.get_or_compute("k", slow) == "fast"
        assert one.kv.get("k") == "fast"

    def test_h5_a_failed_computation_stores_nothing(self, storage: Storage) -> None:
        with pytest.raises(ZeroDivisionError):
            storage.kv.get_or_compute("k", lambda: 1 // 0)
        assert storage.kv.get_or_compute("k", lambda: "next") == "next"

    def test_b1_sweep_and_delete_leave_other_scopes_alone(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        mine, other = storage.with_agent("mine"), storage.with_agent("other")
        for handle in (mine, other):
            handle.kv.set("k", 1, ttl_seconds=1)
        assert mine.kv.delete("k") is True
        clock.set(clock.now() + timedelta(seconds=1))
        assert mine.kv.sweep() == 0
        assert other.kv.sweep() == 1
