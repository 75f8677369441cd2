"""The seam under the facade: whole units, shared commits, a loop that is never held."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from holdfast import aio
from holdfast.backends.memory import MemoryDriver
from holdfast.calls.calls import BATCH, GROUP_LIMIT, READY, Calls, run_alone
from holdfast.core.change import Change, Outcome
from holdfast.core.driver import Driver
from holdfast.core.errors import Closed, Conflict, Invalid, Unavailable, Unsupported
from holdfast.core.runtime import Runtime
from holdfast.core.scope import Scope
from holdfast.layers.check import Checked
from holdfast.layers.layer import Layer
from holdfast.opening import Entered, opened
from holdfast.storage import Storage, all_collections

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0


class Watched(Layer):
    """Counts changes begun and ended, by commit; may stop a commit, and fail one of a group."""

    def __init__(self, below: Driver) -> None:
        super().__init__(below)
        self.begun = 0
        self.ended = 0
        self.groups = 0
        self.sizes: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.at_end: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._local = threading.local()

    def apply(
        self,
        tenant: str,
        changes: Sequence[Change],
        *,
        op_id: str | None = None,
        op_body: bytes | None = None,
    ) -> list[Outcome]:
        alone = not getattr(self._local, "grouped", False)
        if alone:
            self._stand()
        with self._lock:
            self.begun += len(changes)
        try:
            return super().apply(tenant, changes, op_id=op_id, op_body=op_body)
        finally:
            with self._lock:
                self.ended += len(changes)
            if alone:
                self.sizes.append(1)

    def close(self) -> None:
        """Stay readable, so that a test sees what closing left."""

    @contextmanager
    def group(self) -> Iterator[None]:
        self._stand()
        before = self.begun
        self.groups += 1
        self._local.grouped = True
        try:
            with super().group():
                yield
        finally:
            self._local.grouped = False
        self.sizes.append(self.begun - before)
        self.at_end()

    def _stand(self) -> None:
        self.entered.set()
        assert self.gate.wait(PATIENCE)


@pytest.fixture
def watched() -> Watched:
    return Watched(Checked(MemoryDriver()))


@pytest.fixture
def plain(watched: Watched) -> Storage:
    watched.setup(all_collections())
    return Storage(watched, Scope(), Runtime())


@contextmanager
def held(watched: Watched) -> Iterator[None]:
    """The writer stands at the start of a commit, so that what comes now waits for it."""
    watched.gate.clear()
    watched.entered.clear()
    yield
    watched.gate.set()


async def reached(event: threading.Event) -> None:
    """Wait for a thread without a worker of the pool under test."""
    assert await run_alone(event.wait, PATIENCE)


class TestUnits:
    def test_results_are_those_of_the_plain_store(self) -> None:
        async def through() -> list[Any]:
            async with aio.open("memory:", agent="a") as storage:
                first = await storage.kv.set("k", {"n": 1})
                with pytest.raises(Conflict):
                    await storage.kv.set("k", 2, expected_version=7)
                with pytest.raises(Invalid):
                    await storage.kv.get("")
                second = await storage.kv.update("k", lambda value: value["n"] + 1)
                page = await storage.scoped(user="u").kv.list()
                return [first.version, first.agent, second.value, len(page), storage.scope.agent]

        assert asyncio.run(through()) == [1, "a", 2, 0, "a"]

    def test_two_thousand_cancels_leave_no_half_unit(
        self, plain: Storage, watched: Watched
    ) -> None:
        chance = random.Random(20260105)
        outcomes: Counter[str] = Counter()
        started: list[str] = []
        ended: list[str] = []

        def move(name: str) -> None:
            started.append(name)
            plain.kv.update("from", lambda held: (held or 0) - 1)
            plain.kv.update("to", lambda held: (held or 0) + 1)
            ended.append(name)

        async def pair(storage: aio.Storage, name: str) -> None:
            async with storage.unit() as unit:
                await unit.kv.set(f"left {name}", name)
                await asyncio.sleep(0)
                await unit.kv.set(f"right {name}", name)

        async def one(storage: aio.Storage, name: str) -> None:
            kind = chance.randrange(3)
            if kind == 0:
                await storage.run(move, name)
            elif kind == 1:
                await pair(storage, name)
            else:
                await storage.kv.set(f"single {name}", name)

        async def cancelled(storage: aio.Storage, name: str) -> None:
            task = asyncio.create_task(one(storage, name))
            # However fast or slow the threads are, some never begin and some end.
            fate = chance.randrange(10)
            for _ in range(chance.randrange(100) if fate else 0):
                await asyncio.sleep(0)
            if fate != 1:
                task.cancel()
            try:
                await task
                outcomes["done"] += 1
            except asyncio.CancelledError:
                outcomes["cancelled"] += 1

        async def everything() -> None:
            async with aio.Storage(plain) as storage:
                for wave in range(50):
                    await asyncio.gather(*(cancelled(storage, f"{wave}-{n}") for n in range(40)))

        asyncio.run(everything())
        assert outcomes.total() == 2_000
        assert min(outcomes.values()) > 100
        assert Counter(started) == Counter(ended)
        assert watched.begun == watched.ended
        assert plain.kv.get("to") == -plain.kv.get("from") == len(ended)
        lefts = [entry.value for entry in plain.kv.list("left ", limit=1_000)]
        assert lefts == [entry.value for entry in plain.kv.list("right ", limit=1_000)] != []

    def test_a_call_cancelled_before_it_began_is_taken_back(
        self, plain: Storage, watched: Watched
    ) -> None:
        async def through() -> None:
            async with aio.Storage(plain) as storage:
                with held(watched):
                    first = asyncio.create_task(storage.kv.set("first", 1))
                    await reached(watched.entered)
                    second = asyncio.create_task(storage.kv.set("second", 2))
                    await asyncio.sleep(0)
                    first.cancel()
                    second.cancel()
                    assert isinstance(
                        (await asyncio.gather(second, return_exceptions=True))[0],
                        asyncio.CancelledError,
                    )

        asyncio.run(through())
        assert plain.kv.get("second") is None

    def test_a_call_cancelled_while_it_waits_for_a_worker_is_taken_back(self) -> None:
        ran: list[str] = []

        async def through() -> None:
            calls = Calls(nullcontext, 1)
            release = threading.Event()
            first = calls.run(release.wait, PATIENCE)
            second = calls.run(ran.append, "second")
            third = calls.run(ran.append, "third")
            second.cancel()
            release.set()
            await asyncio.gather(first, third)

        asyncio.run(through())
        assert ran == ["third"]

    def test_a_call_sees_the_context_of_its_task(self, plain: Storage) -> None:
        who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")

        async def one(calls: Calls, name: str) -> list[str]:
            who.set(name)
            return [await calls.run(who.get), await calls.write(who.get)]

        async def through() -> list[list[str]]:
            calls = Calls(nullcontext)
            return list(await asyncio.gather(one(calls, "a"), one(calls, "b")))

        assert asyncio.run(through()) == [["a", "a"], ["b", "b"]]

    def test_an_error_arrives_as_it_was_raised(self) -> None:
        def fail(error: BaseException) -> None:
            raise error

        async def through() -> None:
            calls = Calls(nullcontext)
            for lane in (calls.run, calls.write, run_alone):
                error = ValueError("mine")
                with pytest.raises(ValueError, match="mine") as caught:
                    await lane(fail, error)
                assert caught.value is error
                with pytest.raises(RuntimeError, match="StopIteration"):
                    await lane(fail, StopIteration())

        asyncio.run(through())

    def test_outside_an_event_loop_the_error_says_so(self, plain: Storage) -> None:
        with pytest.raises(Unsupported, match="running asyncio event loop"):
            aio.Storage(plain).kv.get("k").send(None)

    @pytest.mark.parametrize("workers", [0, -1, 1.5, True, 10_000])
    def test_the_pool_is_bounded_by_a_sane_number(self, workers: Any) -> None:
        with pytest.raises(Invalid, match="workers"):
            Calls(nullcontext, workers)

    def test_no_more_calls_run_at_once_than_there_are_workers(self) -> None:
        running: list[int] = []
        most: list[int] = []
        both = threading.Barrier(2)

        def work() -> None:
            running.append(1)
            both.wait(PATIENCE)
            most.append(len(running))
            both.wait(PATIENCE)
            running.pop()

        async def through() -> None:
            calls = Calls(nullcontext, 2)
            await asyncio.gather(*(calls.run(work) for _ in range(20)))

        asyncio.run(through())
        assert max(most) == 2


class TestLoop:
    def test_a_slow_call_holds_neither_the_loop_nor_other_calls(self, plain: Storage) -> None:
        async def through() -> list[int]:
            async with aio.Storage(plain) as storage:
                release = threading.Event()
                slow = asyncio.create_task(storage.run(release.wait, PATIENCE))
                versions = [(await storage.kv.set("k", n)).version for n in range(100)]
                assert [await storage.kv.get("k") for _ in range(3)] == [99] * 3
                assert not slow.done()
                release.set()
                assert await slow
                return versions

        assert asyncio.run(through()) == list(range(1, 101))

    def test_a_slow_commit_holds_neither_the_loop_nor_reads(
        self, plain: Storage, watched: Watched
    ) -> None:
        async def through() -> None:
            async with aio.Storage(plain) as storage:
                with held(watched):
                    write = asyncio.create_task(storage.kv.set("k", 1))
                    await reached(watched.entered)
                    for _ in range(100):
                        assert await storage.kv.get("k") is None
                    assert not write.done()
                assert (await write).value == 1

        asyncio.run(through())

    def test_calls_that_stand_still_do_not_hold_up_the_others(self) -> None:
        async def through() -> tuple[int, list[threading.Thread]]:
            calls = Calls(nullcontext, READY + 2)
            release = threading.Event()
            slow = [calls.run(release.wait, PATIENCE) for _ in range(READY + 1)]
            answer = await calls.run(int)
            assert not any(call.done() for call in slow)
            release.set()
            assert all(await asyncio.gather(*slow))
            return answer, calls._lane._added

        answer, relief = asyncio.run(through())
        assert answer == 0
        assert relief
        for thread in relief:
            thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in relief)

    def test_two_loops_share_one_storage(self, plain: Storage) -> None:
        storage = aio.Storage(plain)

        async def count() -> None:
            await asyncio.gather(
                *(storage.kv.update("n", lambda held: (held or 0) + 1) for _ in range(200)),
                *(storage.kv.set(f"k{n}", n) for n in range(200)),
            )

        threads = [threading.Thread(target=asyncio.run, args=(count(),)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert plain.kv.get("n") == 400
        assert plain.kv.entry("k0").version == 2  # type: ignore[union-attr]

    def test_a_loop_that_ended_early_harms_nobody(self, plain: Storage, watched: Watched) -> None:
        storage = aio.Storage(plain)

        async def leave() -> None:
            watched.gate.clear()
            watched.entered.clear()
            storage._calls.write(plain.kv.set, "left", 1)
            await reached(watched.entered)

        async def after() -> Any:
            return await storage.kv.set("next", 2), await storage.kv.get("left")

        asyncio.run(leave())
        watched.gate.set()
        entry, left = asyncio.run(after())
        assert (entry.value, left) == (2, 1)


class TestGroups:
    def test_what_waits_shares_one_group_and_is_answered_after_it(
        self, plain: Storage, watched: Watched, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def through() -> None:
            loop = asyncio.get_running_loop()
            wakes: list[Any] = []
            call_soon = loop.call_soon_threadsafe

            def counted(*args: Any) -> asyncio.Handle:
                wakes.append(args)
                return call_soon(*args)

            async with aio.Storage(plain) as storage:
                with held(watched):
                    first = asyncio.create_task(storage.kv.set("first", 0))
                    await reached(watched.entered)
                    tasks = [asyncio.create_task(storage.kv.set(f"k{n}", n)) for n in range(64)]
                    await asyncio.sleep(0)
                    answered: list[bool] = []
                    watched.at_end = lambda: answered.extend(task.done() for task in tasks)
                    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
                await asyncio.gather(first, *tasks)
                assert not any(answered)
                assert watched.sizes == [1, 64]
                assert len(wakes) <= 2

        asyncio.run(through())

    def test_a_group_is_bounded(self, plain: Storage, watched: Watched) -> None:
        async def through() -> None:
            async with aio.Storage(plain) as storage:
                with held(watched):
                    first = asyncio.create_task(storage.kv.set("first", 0))
                    await reached(watched.entered)
                    rest = [storage.kv.set(f"k{n}", n) for n in range(GROUP_LIMIT + 10)]
                    tasks = [asyncio.create_task(call) for call in rest]
                    await asyncio.sleep(0)
                await asyncio.gather(first, *tasks)

        asyncio.run(through())
        assert watched.sizes == [1, GROUP_LIMIT, 10]

    def test_one_that_fails_fails_alone(self, plain: Storage, watched: Watched) -> None:
        plain.kv.set("taken", 1)
        answers = self._together(plain, watched)
        kinds = [type(answer).__name__ for answer in answers]
        assert kinds == ["Entry", "Conflict", "Invalid", "Entry"]
        assert (plain.kv.get("a"), plain.kv.get("b")) == (1, 2)

    def test_a_group_that_fails_fails_all_that_rested_on_it(
        self, plain: Storage, watched: Watched
    ) -> None:
        plain.kv.set("taken", 1)

        def fail() -> None:
            if watched.sizes[-1] > 1:
                raise Unavailable("The disk went away.", hint="Look.", disk="sda")

        watched.at_end = fail
        answers = self._together(plain, watched)
        kinds = [type(answer).__name__ for answer in answers]
        assert kinds == ["Unavailable", "Unavailable", "Invalid", "Unavailable"]
        failures = [answers[0], answers[1], answers[3]]
        assert len({id(failure) for failure in failures}) == 3
        for failure in failures:
            assert (failure.hint, failure.context) == ("Look.", {"disk": "sda"})
            assert isinstance(failure.__cause__, Unavailable)

    def test_a_group_that_cannot_begin_fails_all_and_the_next_one_works(self) -> None:
        broken = [True]

        @contextmanager
        def group() -> Iterator[None]:
            if broken.pop():
                raise Unavailable("Not now.")
            broken.append(False)
            yield

        async def through() -> list[Any]:
            calls = Calls(group)
            first = await asyncio.gather(*(calls.write(int) for _ in "ab"), return_exceptions=True)
            broken.append(False)
            return [*first, *await asyncio.gather(*(calls.write(int) for _ in "ab"))]

        *failures, one, two = asyncio.run(through())
        assert [type(failure) for failure in failures] == [Unavailable, Unavailable]
        assert (one, two) == (0, 0)

    def test_what_waits_alone_takes_no_group(self, plain: Storage, watched: Watched) -> None:
        async def through() -> None:
            async with aio.Storage(plain) as storage:
                for number in range(3):
                    await storage.kv.set("k", number)
                with pytest.raises(Conflict):
                    await storage.kv.set("k", 4, expected_version=1)
                assert watched.groups == 0
                assert watched.sizes == [1, 1, 1, 1]

        asyncio.run(through())

    @staticmethod
    def _together(plain: Storage, watched: Watched) -> list[Any]:
        async def through() -> list[Any]:
            async with aio.Storage(plain) as storage:
                with held(watched):
                    first = asyncio.create_task(storage.kv.set("first", 0))
                    await reached(watched.entered)
                    calls = (
                        storage.kv.set("a", 1),
                        storage.kv.set("taken", 2, expected_version=0),
                        storage.kv.set("", 3),
                        storage.kv.set("b", 2),
                    )
                    tasks = [asyncio.create_task(call) for call in calls]
                    await asyncio.sleep(0)
                answers = await asyncio.gather(*tasks, return_exceptions=True)
                await first
                return answers

        return asyncio.run(through())


class TestUnitOfWork:
    def test_all_of_it_commits_at_the_end(self, plain: Storage) -> None:
        async def through() -> None:
            storage = aio.Storage(plain)
            async with storage.unit() as unit:
                await asyncio.gather(*(unit.kv.set(f"k{n}", n) for n in range(50)))
                await unit.kv.set("k0", 100)
                assert await unit.kv.get("k0") == 100
                assert await storage.kv.get("k0") is None
            assert await storage.kv.get("k0") == 100
            assert len(await storage.kv.list("k")) == 50

        asyncio.run(through())

    def test_an_error_in_the_block_leaves_no_trace(self, plain: Storage) -> None:
        async def through() -> None:
            async with aio.Storage(plain).unit() as unit:
                await unit.kv.set("k", 1)
                raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            asyncio.run(through())
        assert plain.kv.get("k") is None

    def test_a_conflict_at_the_end_reaches_the_block(self, plain: Storage) -> None:
        async def through() -> None:
            async with aio.Storage(plain).unit() as unit:
                await unit.kv.set("a", 1)
                await unit.kv.set("b", 1, expected_version=0)
                plain.kv.set("b", "first")

        with pytest.raises(Conflict):
            asyncio.run(through())
        assert plain.kv.get("a") is None

    def test_a_cancelled_block_leaves_no_trace(self, plain: Storage) -> None:
        async def work(inside: asyncio.Event) -> None:
            async with aio.Storage(plain).unit() as unit:
                await unit.kv.set("k", 1)
                inside.set()
                await asyncio.Event().wait()

        async def through() -> None:
            inside = asyncio.Event()
            task = asyncio.create_task(work(inside))
            await inside.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(through())
        assert plain.kv.get("k") is None

    def test_a_cancelled_entry_is_left_again(self) -> None:
        entered, release, left = threading.Event(), threading.Event(), threading.Event()

        @contextmanager
        def context() -> Iterator[None]:
            entered.set()
            assert release.wait(PATIENCE)
            try:
                yield
            finally:
                left.set()

        async def enter(calls: Calls) -> None:
            async with Entered(calls, context()):
                raise AssertionError("the task was cancelled before")

        async def through() -> bool:
            calls = Calls(nullcontext)
            task = asyncio.create_task(enter(calls))
            await reached(entered)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            release.set()
            return await run_alone(left.wait, PATIENCE)

        assert asyncio.run(through())


class TestIterators:
    def test_items_arrive_in_order_and_then_the_error(self) -> None:
        def items(count: int) -> Iterator[int]:
            yield from range(count)
            raise ValueError("at the end")

        seen: list[int] = []

        async def through() -> None:
            found = Calls(nullcontext).iterate(items, 2 * BATCH + 3)
            seen.extend([await anext(found) for _ in range(2 * BATCH + 3)])
            with pytest.raises(ValueError, match="at the end"):
                await anext(found)

        asyncio.run(through())
        assert seen == list(range(2 * BATCH + 3))

    @pytest.mark.parametrize("count", [0, 1, BATCH, BATCH + 1])
    def test_every_item_arrives_once(self, count: int) -> None:
        async def through() -> list[int]:
            return [item async for item in Calls(nullcontext).iterate(lambda: iter(range(count)))]

        assert asyncio.run(through()) == list(range(count))

    def test_no_more_is_fetched_than_a_batch_ahead(self) -> None:
        fetched: list[int] = []

        def items() -> Iterator[int]:
            for n in range(10_000):
                fetched.append(n)
                yield n

        async def through() -> None:
            found = Calls(nullcontext).iterate(items)
            assert await anext(found) == 0
            await found.aclose()  # type: ignore[attr-defined]

        asyncio.run(through())
        assert len(fetched) == BATCH


class TestEnd:
    def test_closing_finishes_what_was_asked_before(self, plain: Storage, watched: Watched) -> None:
        async def through() -> None:
            storage = aio.Storage(plain)
            release = threading.Event()
            with held(watched):
                slow = asyncio.create_task(storage.run(release.wait, PATIENCE))
                writes = [asyncio.create_task(storage.kv.set(f"k{n}", n)) for n in range(50)]
                await asyncio.sleep(0)
                closing = [asyncio.create_task(storage.close()) for _ in range(2)]
                await reached(watched.entered)
                assert not any(task.done() for task in closing)
            release.set()
            assert await slow
            assert [entry.value for entry in await asyncio.gather(*writes)] == list(range(50))
            await asyncio.gather(*closing)
            threads = (*storage._calls._lane.threads(), *storage._calls._writer)
            assert threads
            assert not any(thread.is_alive() for thread in threads)

        asyncio.run(through())

    def test_a_closed_storage_says_so_and_closes_again(self) -> None:
        async def through() -> None:
            async with aio.open("memory:") as storage:
                await storage.kv.set("k", 1)
            with pytest.raises(Closed):
                await storage.kv.get("k")
            with pytest.raises(Closed):
                await storage.kv.set("k", 2)
            assert not (await storage.health()).ok
            await storage.close()

        asyncio.run(through())

    def test_open_can_be_awaited(self) -> None:
        async def through() -> str:
            storage = await aio.open("memory:", tenant="t", workers=1)
            async with storage:
                return f"{await storage.store(type(storage._below.kv))} {storage!r}"

        assert "<aio <Storage memory tenant='t'>>" in asyncio.run(through())

    def test_what_a_cancelled_task_was_opening_is_closed_again(self) -> None:
        opening, release, closed = threading.Event(), threading.Event(), threading.Event()

        class Thing:
            def close(self) -> None:
                closed.set()

        def make() -> Thing:
            opening.set()
            assert release.wait(PATIENCE)
            return Thing()

        async def through() -> bool:
            task = asyncio.create_task(opened(make))
            await reached(opening)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            release.set()
            return await run_alone(closed.wait, PATIENCE)

        assert asyncio.run(through())

    def test_a_forgotten_storage_lets_its_threads_go(self) -> None:
        async def through() -> list[threading.Thread]:
            calls = Calls(nullcontext, 2)
            await asyncio.gather(calls.run(int), calls.run(int), calls.write(int))
            return [*calls._lane.threads(), *calls._writer]

        threads = asyncio.run(through())
        gc.collect()
        for thread in threads:
            thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in threads)

    def test_a_process_ends_with_its_last_calls_done(self, tmp_path: Path) -> None:
        script = (
            "import asyncio, pathlib, sys, threading\n"
            "from holdfast import aio\n"
            "target, on = pathlib.Path(sys.argv[1]), threading.Event()\n"
            "def late():\n"
            "    on.set(); threading.main_thread().join(); target.write_text('done')\n"
            "async def main():\n"
            "    storage = await aio.open('memory:')\n"
            "    global kept; kept = storage\n"
            "    asyncio.create_task(storage.run(late))\n"
            "    while not on.is_set(): await asyncio.sleep(0)\n"
            "asyncio.run(main())\n"
        )
        target = tmp_path / "late"
        subprocess.run(
            [sys.executable, "-c", script, str(target)],
            env={"PYTHONPATH": str(ROOT / "src")},
            timeout=PATIENCE,
            check=True,
        )
        assert target.read_text() == "done"

    @pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this system cannot fork")
    def test_a_forked_child_is_told_so_and_does_not_hang(self) -> None:
        script = (
            "import asyncio, os\n"
            "from holdfast import aio\n"
            "from holdfast.core.errors import ForkedConnection\n"
            "storage = None\n"
            "async def before():\n"
            "    global storage; storage = await aio.open('memory:')\n"
            "    await storage.kv.set('k', 1); await storage.kv.get('k')\n"
            "async def after():\n"
            "    for call in (storage.kv.get('k'), storage.kv.set('k', 2)):\n"
            "        try: await call\n"
            "        except ForkedConnection: pass\n"
            "        else: raise SystemExit('no error')\n"
            "asyncio.run(before())\n"
            "child = os.fork()\n"
            "if not child: asyncio.run(after()); os._exit(7)\n"
            "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        )
        run = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script],
            env={"PYTHONPATH": str(ROOT / "src")},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
        assert run.stdout.split() == ["7"]
