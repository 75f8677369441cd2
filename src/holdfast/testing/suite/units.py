"""Units of work: A16. Several stores in one commit, or no trace in any table."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from holdfast.core.change import ABSENT, Edit, Patch, Put
from holdfast.core.clock import ManualClock
from holdfast.core.collection import Collection
from holdfast.core.errors import Closed, Conflict, Forbidden, Invalid, NotFound, Unsupported
from holdfast.storage import Storage, all_collections
from holdfast.stores.store import Store
from holdfast.stores.tasks.records import TaskDraft
from holdfast.testing.harness import Harness


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """A record of a store that holdfast does not know."""

    id: str
    text: str
    revision: int = 0


NOTES = Collection.of(Note, "suite_notes")


class Notes(Store):
    """A store from another package."""

    collections = (NOTES,)

    def add(self, note_id: str, text: str) -> Note:
        """Add a note."""
        put = Put(NOTES.name, {"id": note_id, "text": text}, ABSENT)
        return Note(**self._apply(put)[0].record)

    def edit(self, note_id: str, text: str) -> Note:
        """Change a note."""
        return Note(
            **self._apply(Patch(NOTES.name, (note_id,), Edit(set={"text": text})))[0].record
        )

    def get(self, note_id: str) -> Note | None:
        """The note, or None."""
        record = self._get(NOTES, note_id)
        return None if record is None else Note(**record)


def everything(harness: Harness) -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables, read without the driver."""
    found = {c.name: harness.peek(c, "default") for c in all_collections()}
    return {name: sorted(rows, key=repr) for name, rows in found.items()}


def write_everywhere(unit: Storage) -> None:
    """One write to each of several stores."""
    unit.kv.set("k", "v")
    task = unit.tasks.post("t")
    unit.tasks.log.append(task.id, "line")
    unit.projects.create("p", tasks=[TaskDraft(title="child")])
    unit.audit.append("did")


class TestUnits:
    def test_a16_several_stores_commit_together(self, storage: Storage, harness: Harness) -> None:
        before = everything(harness)
        with storage.unit() as unit:
            write_everywhere(unit)
            assert everything(harness) == before
            assert storage.kv.entry("k") is None
        assert storage.kv.get("k") == "v"
        assert storage.tasks.counts()["pending"] == 2
        assert storage.audit.verify().last_seq == 1
        [task] = [task for task in storage.tasks.list() if task.title == "t"]
        assert [line.seq for line in storage.tasks.log.list(task.id)] == [1]

    def test_a16_an_error_in_the_middle_leaves_no_trace(
        self, storage: Storage, harness: Harness
    ) -> None:
        storage.kv.set("held", 1)
        before = everything(harness)
        with contextlib.suppress(ZeroDivisionError), storage.unit() as unit:
            write_everywhere(unit)
            unit.kv.delete("held")
            _ = 1 // 0
        assert everything(harness) == before

    def test_a16_a_conflict_at_the_end_leaves_no_trace(
        self, open_storage: Callable[..., Storage], harness: Harness
    ) -> None:
        storage, other = open_storage(), open_storage()
        storage.kv.set("k", 1)

        def work() -> dict[str, Any]:
            with storage.unit() as unit:
                write_everywhere(unit)
                unit.kv.set("k", 2, expected_version=1)
                other.kv.set("k", 3)
                return everything(harness)

        with pytest.raises(Conflict):
            work()
        assert storage.kv.get("k") == 3
        assert storage.tasks.counts()["total"] == 0
        assert storage.audit.verify().last_seq == 0
        assert len(storage.projects.list()) == 0

    def test_a16_a_unit_sees_its_own_writes_by_id(self, storage: Storage) -> None:
        storage.kv.set("old", 1)
        with storage.unit() as unit:
            assert unit.kv.get("old") == 1
            unit.kv.set("k", [1])
            assert unit.kv.get("k") == [1]
            task = unit.tasks.post("t")
            held = unit.tasks.start(task.id, "w")
            assert unit.tasks.complete(task.id, held.lease_token).state == "completed"
            assert unit.tasks.get(task.id) is not None
            assert unit.kv.delete("old") is True
            assert unit.kv.entry("old") is None
            assert unit.kv.delete("old") is False
            assert storage.kv.get("old") == 1
        found = storage.tasks.get(task.id)
        assert found is not None
        assert (found.state, found.revision) == ("completed", 3)
        assert storage.kv.entry("old") is None

    def test_a16_revisions_are_foreseen_so_that_a_unit_may_go_on_from_them(
        self, storage: Storage
    ) -> None:
        storage.kv.set("old", 0)
        with storage.unit() as unit:
            for key in ("new", "old"):
                for _ in range(3):
                    unit.kv.update(key, lambda n: (n or 0) + 1)
            version = unit.kv.set("new", 9).version
            assert unit.kv.set("new", 10, expected_version=version).version == 5
        assert [storage.kv.get(key) for key in ("new", "old")] == [10, 3]
        entry = storage.kv.entry("new")
        assert entry is not None
        assert entry.version == 5

    def test_a16_what_a_unit_shows_can_be_changed_without_harm(self, storage: Storage) -> None:
        with storage.unit() as unit:
            entry = unit.kv.set("k", {"list": [1]})
            entry.value["list"].append(2)
            unit.kv.get("k")["list"].append(3)
        assert storage.kv.get("k") == {"list": [1]}

    def test_a16_a_claim_is_refused(self, storage: Storage) -> None:
        task = storage.tasks.post("t")
        with storage.unit() as unit:
            with pytest.raises(Unsupported):
                unit.tasks.claim("w")
            unit.kv.set("k", 1)
        assert storage.tasks.get(task.id) == task
        assert storage.kv.get("k") == 1

    def test_a16_a_repeat_with_the_operation_id_doubles_nothing(self, storage: Storage) -> None:
        for _ in range(2):
            with storage.unit(op_id="op") as unit:
                unit.kv.update("n", lambda n: (n or 0) + 1)
                unit.tasks.post("t")
                unit.audit.append("did")
        assert storage.kv.get("n") == 1
        assert storage.tasks.counts()["total"] == 1
        assert storage.audit.verify().last_seq == 1
        with storage.unit() as unit, pytest.raises(Unsupported):
            unit.kv.set("k", 1, op_id="inner")

    def test_a16_bad_input_fails_at_its_call(self, storage: Storage, clock: ManualClock) -> None:
        naive = clock.now().replace(tzinfo=None)
        with storage.unit() as unit:
            unit.kv.set("k", 1)
            with pytest.raises(Invalid):
                unit.kv.set("bad\x00", 1)
            with pytest.raises(Invalid):
                unit.tasks.post(TaskDraft(title="t", due_at=naive))
            with pytest.raises(NotFound):
                unit.tasks.log.append("nobody", "line")
        assert [entry.key for entry in storage.kv.list()] == ["k"]
        assert storage.tasks.counts()["total"] == 0

    def test_a16_a_caught_error_leaves_nothing_of_its_call(self, storage: Storage) -> None:
        with storage.unit() as unit:
            task = unit.tasks.post("t")
            with pytest.raises(NotFound):
                unit._driver.apply(
                    "default",
                    [
                        Patch("tasks", (task.id,), Edit(set={"title": "changed"})),
                        Patch("tasks", ("nobody",), Edit(set={"title": "changed"})),
                    ],
                )
            seen = unit.tasks.get(task.id)
            assert seen is not None
            assert seen.title == "t"
        found = storage.tasks.get(task.id)
        assert found is not None
        assert found.title == "t"

    def test_a16_after_its_block_a_unit_says_closed(self, storage: Storage) -> None:
        with storage.unit() as done:
            done.kv.set("k", 1)
        failed: list[Storage] = []
        with contextlib.suppress(RuntimeError), storage.unit() as unit:
            failed.append(unit)
            raise RuntimeError
        for handle in (done, *failed):
            with pytest.raises(Closed):
                handle.kv.set("late", 1)
        assert storage.kv.entry("late") is None

    def test_a16_units_nest_and_the_outer_decides(self, storage: Storage) -> None:
        with contextlib.suppress(RuntimeError), storage.unit() as outer:
            with outer.unit() as inner:
                inner.kv.set("k", 1)
            assert outer.kv.get("k") == 1
            raise RuntimeError
        assert storage.kv.entry("k") is None

    def test_a16_a_unit_writes_for_one_tenant(self, storage: Storage) -> None:
        with storage.unit() as unit:
            unit.kv.set("k", 1)
            with pytest.raises(Forbidden):
                unit.scoped(tenant="other").kv.set("k", 2)
        assert storage.scoped(tenant="other").kv.entry("k") is None

    @pytest.mark.new_store
    def test_a16_a_store_from_elsewhere_takes_part(self, storage: Storage) -> None:
        with storage.unit() as unit:
            unit.kv.set("k", 1)
            unit.store(Notes).add("n", "first")
            assert unit.store(Notes).edit("n", "second").revision == 2
        found = storage.store(Notes).get("n")
        assert found is not None
        assert (found.text, found.revision) == ("second", 2)

    def test_a16_concurrent_units_all_count(self, open_storage: Callable[..., Storage]) -> None:
        handles = [open_storage() for _ in range(4)]

        def add(handle: Storage) -> bool:
            try:
                with handle.unit() as unit:
                    unit.kv.update("one", lambda n: (n or 0) + 1)
                    unit.kv.update("two", lambda n: (n or 0) + 1)
            except Conflict:
                return False
            return True

        def work(handle: Storage) -> None:
            added = 0
            while added < 10:
                added += add(handle)

        threads = [threading.Thread(target=work, args=(handle,)) for handle in handles]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [handles[0].kv.get(key) for key in ("one", "two")] == [40, 40]
