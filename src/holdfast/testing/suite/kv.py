"""Key-value: H1, H2, H5."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest

from holdfast.core.clock import ManualClock
from holdfast.core.errors import Conflict, InvalidCursor
from holdfast.storage import Storage


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
        handles = [open_storage()] * 4

        def work(handle: Storage) -> None:
            for _ in range(25):
                handle.kv.update("n", lambda n: (n or 0) + 1)

        threads = [threading.Thread(target=work, args=(handle,)) for handle in handles]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert handles[0].kv.get("n") == 100

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
