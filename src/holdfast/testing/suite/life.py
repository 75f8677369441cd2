"""What holds for a whole handle: opening, readiness, closing, time, secrets, many writers."""

from __future__ import annotations

import base64
import logging
import os
import threading
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta, timezone
from typing import Any

import pytest

from holdfast.core.clock import ManualClock
from holdfast.core.collection import Collection
from holdfast.core.driver import Driver, Health
from holdfast.core.errors import (
    Closed,
    Conflict,
    Corrupt,
    ForkedConnection,
    IdempotencyMismatch,
    Invalid,
    NotFound,
)
from holdfast.core.filter import eq, gt
from holdfast.core.observe import Operation, Sink
from holdfast.core.query import Query
from holdfast.layers.check import Checked
from holdfast.layers.layer import Layer
from holdfast.layers.observe import Observed
from holdfast.storage import Storage, all_collections
from holdfast.stores.conversations.records import CONVERSATIONS
from holdfast.stores.kv import ENTRIES
from holdfast.stores.store import FACTS
from holdfast.stores.tasks.records import PROJECTS, TASKS
from holdfast.testing.harness import Harness
from holdfast.testing.races import Between
from holdfast.testing.shapes import SHAPES, THINGS, put, thing
from holdfast.testing.stage import START
from holdfast.testing.threads import at_once

WRITERS = 8
EACH = 25
PLENTY_SECONDS = 60.0
"""For an answer that is to come, on a machine that does other work."""


class _Slow(Layer):
    """Stops in one verb until it is let go."""

    def __init__(self, below: Driver, verb: str) -> None:
        super().__init__(below)
        self._verb = verb
        self.begun, self.go_on = threading.Event(), threading.Event()

    def _stop(self, verb: str) -> None:
        if verb == self._verb:
            self.begun.set()
            self.go_on.wait()

    def setup(self, collections: Sequence[Collection], *, create: bool = True) -> None:
        self._stop("setup")
        self.below.setup(collections, create=create)

    def health(self) -> Health:
        self._stop("health")
        return self.below.health()


class _Broken(Layer):
    """A health call that raises, which the contract forbids."""

    def health(self) -> Health:
        raise OSError("/secret/path")


class _Notes:
    """A sink that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Operation] = []

    def operation(self, seen: Operation) -> None:
        self.told.append(seen)


class _Raising:
    """A sink that fails."""

    def operation(self, seen: Operation) -> None:
        raise RuntimeError("the sink is broken")


def _observed(storage: Storage, sink: Sink) -> Storage:
    ticks = iter(range(1_000_000))
    driver = Observed(storage._driver, sink, lambda: float(next(ticks)))
    driver.setup(all_collections())
    return Storage(driver, storage.scope, storage._runtime)


class TestObserve:
    def test_a19_counts_errors_and_times_of_every_operation(self, storage: Storage) -> None:
        notes = _Notes()
        observed = _observed(storage, notes)
        notes.told.clear()
        observed.kv.get("k")
        observed.kv.set("k", "v", expected_version=0)
        observed.kv.list()
        with pytest.raises(Conflict):
            observed.kv.set("k", "v", expected_version=0)
        entries = [(o.verb, o.count, o.error) for o in notes.told if ENTRIES.name in o.collections]
        assert entries[:3] == [("get", 0, ""), ("get", 0, ""), ("apply", 1, "")]
        assert ("query", 1, "") in entries
        assert entries[-1] == ("apply", 0, "conflict")
        assert all(o.seconds >= 1 for o in notes.told)

    def test_a19_a_raising_sink_never_breaks_a_call(self, storage: Storage) -> None:
        observed = _observed(storage, _Raising())
        failures = observed.health().facts["sink_failures"]
        assert observed.kv.set("k", 1).version == 1
        with observed.unit() as unit:
            unit.kv.set("l", 2)
        assert (storage.kv.get("k"), storage.kv.get("l")) == (1, 2)
        with pytest.raises(NotFound):
            observed.memory.delete("missing")
        assert observed.health().facts["sink_failures"] > failures

    def test_a19_a_sink_is_told_no_content_no_id_and_no_tenant(
        self, open_storage: Callable[..., Storage]
    ) -> None:
        notes = _Notes()
        observed = _observed(open_storage(tenant="canary-tenant", user="canary-user"), notes)
        kept = observed.memory.remember("canary content", op_id="canary-op")
        observed.memory.recall("canary words")
        observed.kv.set("canary-key", "canary-value")
        observed.conversations.append(observed.conversations.create(key="canary").id, "canary")
        with pytest.raises(Invalid):
            observed._driver.query("canary-tenant", Query(collection="canary"))
        shown = repr(notes.told)
        assert "canary" not in shown
        assert kept.id not in shown
        assert {"get", "apply", "query", "search"} <= {o.verb for o in notes.told}


class TestLife:
    def test_a5_health_answers_within_its_timeout(self, storage: Storage) -> None:
        slow = _Slow(storage._driver, "health")
        handle = Storage(slow, storage.scope, storage._runtime)
        try:
            late = handle.health(timeout_seconds=0.01)
        finally:
            slow.go_on.set()
        assert (late.ok, late.ready) == (False, False)
        assert "0.01 seconds" in late.reason
        assert handle.health(timeout_seconds=PLENTY_SECONDS).ok

    def test_a5_health_never_raises_and_names_a_kind_not_a_content(self, storage: Storage) -> None:
        broken = Storage(_Broken(storage._driver), storage.scope, storage._runtime)
        told = broken.health(timeout_seconds=PLENTY_SECONDS)
        assert (told.ok, told.ready, told.reason) == (False, False, "OSError")
        storage.close()
        assert not storage.health().ready

    def test_a5_health_of_a_handle_from_before_a_fork_says_so(
        self, storage: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as forked:
            forked.setattr(os, "getpid", lambda: -1)
            with pytest.raises(ForkedConnection):
                storage.kv.get("k")
            told = storage.health(timeout_seconds=PLENTY_SECONDS)
        assert (told.ok, told.ready, told.facts) == (False, False, {})
        assert "fork" in told.reason
        assert storage.health(timeout_seconds=PLENTY_SECONDS).ok

    @pytest.mark.parametrize("seconds", [0, -1, float("nan"), True, "1", 1e9])
    def test_a5_a_senseless_timeout_is_refused(self, storage: Storage, seconds: Any) -> None:
        with pytest.raises(Invalid, match="timeout_seconds"):
            storage.health(timeout_seconds=seconds)

    def test_a5_a_store_is_not_ready_until_it_was_set_up(self, harness: Harness) -> None:
        slow = _Slow(harness.open(ManualClock(START)), "setup")
        driver = Checked(slow)
        try:
            assert not driver.health().ready
            setting_up = threading.Thread(target=driver.setup, args=(all_collections(),))
            setting_up.start()
            slow.begun.wait()
            assert not driver.health().ready
            slow.go_on.set()
            setting_up.join()
            assert driver.health().ready
        finally:
            slow.go_on.set()
            driver.close()

    def test_a6_a_write_that_a_close_overtook_is_kept_or_says_closed(
        self, harness: Harness, storage: Storage
    ) -> None:
        between = Between(harness.open(ManualClock(START)))
        driver = Checked(between)
        driver.setup(all_collections())
        overtaken = Storage(driver, storage.scope, storage._runtime)
        between.happens = overtaken.close
        try:
            overtaken.kv.set("k", 1)
        except Closed:
            assert storage.kv.get("k") is None
        else:
            assert storage.kv.get("k") == 1

    def test_a6_closing_lets_writes_under_way_end_and_refuses_later_ones(
        self, open_storage: Callable[..., Storage]
    ) -> None:
        closing, staying = open_storage(), open_storage()
        begun = threading.Semaphore(0)

        def work(caller: int) -> list[str]:
            told: list[str] = []
            if caller == WRITERS:
                for _ in range(WRITERS):
                    begun.acquire()
                closing.close()
                return told
            with pytest.raises(Closed):
                while True:
                    told.append(closing.kv.set(f"{caller}-{len(told)}", caller).key)
                    begun.release()
            with pytest.raises(Closed):
                closing.kv.get("0-0")
            return told

        told = at_once(WRITERS + 1, work)
        assert all(staying.kv.get(key) is not None for keys in told for key in keys)
        closing.close()

    def test_a22_eight_writers_of_twenty_five_rows_leave_two_hundred(
        self, open_storage: Callable[..., Storage]
    ) -> None:
        handles = [open_storage() for _ in range(WRITERS)]
        made = handles[0].conversations.create().id

        def work(caller: int) -> None:
            storage = handles[caller]
            for n in range(EACH):
                name = f"{caller}-{n}"
                storage.kv.set(name, n)
                storage.memory.remember(f"note {name}")
                storage.conversations.append(made, name)
                storage.tasks.post(name)

        at_once(WRITERS, work)
        names = {f"{caller}-{n}" for caller in range(WRITERS) for n in range(EACH)}
        reader = handles[0]
        assert {entry.key for entry in reader.kv.list(limit=1_000)} == names
        assert all(reader.kv.get(name) == int(name[2:]) for name in names)
        kept = [m.content for m in reader.memory.list(limit=1_000)]
        assert sorted(kept) == sorted(f"note {name}" for name in names)
        said = [m.text for m in reader.conversations.messages.recent(made, 0)]
        assert sorted(said) == sorted(names)
        assert sorted(task.title for task in reader.tasks.list(limit=1_000)) == sorted(names)


WRITES: dict[str, Callable[[Storage, str, str], Any]] = {
    "kv.set": lambda s, op, word: s.kv.set("k", word, op_id=op),
    "rooms.create": lambda s, op, word: s.rooms.create(word, op_id=op),
    "conversations.create": lambda s, op, word: s.conversations.create(title=word, op_id=op),
    "sessions.create": lambda s, op, word: s.sessions.create(label=word, op_id=op),
    "memory.remember": lambda s, op, word: s.memory.remember(word, op_id=op),
    "projects.create": lambda s, op, word: s.projects.create(word, op_id=op),
    "audit.append": lambda s, op, word: s.audit.append(word, op_id=op),
    "tasks.claim": lambda s, op, word: s.tasks.claim(word, op_id=op),
}
"""The main writes of every store that take an operation id."""


class TestOperations:
    @pytest.mark.parametrize("name", WRITES)
    def test_a13_a_repeat_with_the_operation_id_happens_once(
        self, storage: Storage, clock: ManualClock, name: str
    ) -> None:
        for n in range(2):
            storage.tasks.post(f"task {n}")
        first = WRITES[name](storage, "op", "word")
        clock.set(clock.now() + timedelta(seconds=1))
        assert WRITES[name](storage, "op", "word") == first
        with pytest.raises(IdempotencyMismatch):
            WRITES[name](storage, "op", "another")
        assert WRITES[name](storage, "other", "another") != first

    def test_a13_a_tool_event_is_kept_once(self, storage: Storage) -> None:
        session = storage.sessions.create().id
        first = storage.tool_events.append(session, "grep", op_id="op")
        assert storage.tool_events.append(session, "grep", op_id="op") == first
        assert len(storage.tool_events.list(session_id=session)) == 1
        with pytest.raises(IdempotencyMismatch):
            storage.tool_events.append(session, "sed", op_id="op")

    def test_a13_bad_input_is_refused_with_an_operation_id_too(self, storage: Storage) -> None:
        deep: Any = []
        for _ in range(5_000):
            deep = [deep]
        for metadata in ({"a": object()}, {"a": "\ud800"}, {"a": 2**80}, {"a": deep}):
            with pytest.raises(Invalid):
                storage.sessions.create(metadata=metadata, op_id="op")
        assert storage.sessions.create(op_id="op").label is None


class TestTime:
    def test_a24_instants_are_utc_to_the_microsecond_and_compared_as_instants(
        self, driver: Driver
    ) -> None:
        driver.setup(SHAPES)
        there = timezone(timedelta(hours=5, minutes=30))
        noon = START.replace(microsecond=123_457)
        driver.apply("t", [put(THINGS, thing("a", at=noon.astimezone(there)))])
        driver.apply("t", [put(THINGS, thing("b", at=noon + timedelta(microseconds=1)))])
        read = driver.get("t", THINGS.name, ("a",))
        assert read is not None
        assert (read["at"], read["at"].utcoffset()) == (noon, timedelta(0))
        for where, ids in (
            (eq("at", noon), ["a"]),
            (eq("at", noon.astimezone(there)), ["a"]),
            (gt("at", noon.astimezone(there)), ["b"]),
        ):
            found = driver.query("t", Query(collection=THINGS.name, filter=where)).records
            assert [r["id"] for r in found] == ids

    def test_a24_a_stored_time_that_is_none_raises_and_never_becomes_now(
        self, storage: Storage, harness: Harness
    ) -> None:
        made = storage.conversations.create()
        row = {name: getattr(made, name) for name in CONVERSATIONS.by_name}
        beyond_every_year = 10**18
        planted = {**row, "id": "bad", "updated_at": beyond_every_year, "revision": 1}
        harness.plant(CONVERSATIONS, "default", planted)
        for read in (storage.conversations.list, lambda: storage.conversations.get("bad")):
            with pytest.raises(Corrupt, match=r"(?i)conversation"):
                read()

    def test_a24_a_stored_task_or_project_that_means_nothing_raises_and_names_its_id(
        self, storage: Storage, harness: Harness
    ) -> None:
        task, project = storage.tasks.post("fine"), storage.projects.create("fine")
        row = {name: getattr(task, name) for name in TASKS.by_name}
        harness.plant(TASKS, "default", {**row, "id": "bad", "state": "x", "revision": 1})
        row = {name: getattr(project, name) for name in PROJECTS.by_name}
        wrong = {**row, "id": "bad", "metadata": ["no object"], "revision": 1}
        harness.plant(PROJECTS, "default", wrong)
        reads: list[Callable[[], object]] = [
            storage.tasks.list,
            lambda: storage.tasks.get("bad"),
            storage.projects.list,
            lambda: storage.projects.get("bad"),
        ]
        for read in reads:
            with pytest.raises(Corrupt) as raised:
                read()
            assert raised.value.context["id"] == "bad"


class TestSecrets:
    def test_a20_the_cursor_key_shows_nowhere(
        self, storage: Storage, open_storage: Callable[..., Storage]
    ) -> None:
        shown: list[str] = []
        log = logging.Handler(0)
        log.emit = lambda record: shown.append(repr(vars(record)))  # type: ignore[method-assign]
        logging.getLogger().addHandler(log)
        try:
            for n in range(3):
                storage.kv.set(f"k{n}", n)
            cursor = storage.kv.list(limit=1).next_cursor
            assert cursor is not None
            for forged in (cursor[:-2], cursor + "AA", "x"):
                with pytest.raises(Invalid) as raised:
                    storage.kv.list(limit=1, cursor=forged)
                shown.append(_told(raised.value))
            other = open_storage(tenant="other")
            with pytest.raises(Invalid) as raised:
                other.kv.list(limit=1, cursor=cursor)
            shown.append(_told(raised.value))
            shown += [cursor, repr(storage), repr(storage.kv), repr(storage.health())]
            shown += [repr(storage.scope), repr(storage._runtime), repr(storage._driver)]
            storage.close()
            with pytest.raises(Closed) as closed:
                storage.kv.list()
            shown.append(_told(closed.value))
        finally:
            logging.getLogger().removeHandler(log)
        fact = open_storage()._driver.get("default", FACTS.name, ("cursor_key",))
        assert fact is not None
        key = bytes.fromhex(fact["value"])
        forms = (fact["value"], repr(key), base64.b64encode(key).decode().rstrip("="))
        assert len(key) == 32
        assert not [form for form in forms for text in shown if form in text]


def _told(error: BaseException) -> str:
    """All that a log of this error would hold."""
    return "".join(traceback.format_exception(error)) + repr(vars(error))
