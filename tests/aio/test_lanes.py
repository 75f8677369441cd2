"""When calls get one more worker, and which calls take turns."""

from __future__ import annotations

import asyncio
import threading
from contextlib import nullcontext
from itertools import pairwise
from time import thread_time

import pytest

from holdfast.calls import calls as running
from holdfast.calls import looks
from holdfast.calls.calls import HAS_LOCK, READY, Calls
from holdfast.calls.looks import (
    LATE_SECONDS,
    LONG_SECONDS,
    LOOK_SECONDS,
    SLOW_SECONDS,
    STUCK_SECONDS,
    Computing,
    Looks,
)

PATIENCE = 60.0
ON_TIME = LOOK_SECONDS
LATE = LOOK_SECONDS + 2 * LATE_SECONDS


def seconds_until_wanted(
    step: float, share: float, *, takes: bool = False, limit: float = 10.0
) -> float | None:
    """When a worker is first wanted, by looks that come every ``step`` seconds.

    Meanwhile the process computes ``share`` of the time, and takes a job between two looks or none.
    """
    seen = Looks(SLOW_SECONDS, 0.0, 0.0, 0)
    for number in range(1, int(limit / step)):
        now = number * step
        if seen.wants_worker(now, share * now, number if takes else 0):
            return now
    return None


class TestLooks:
    def test_workers_that_wait_are_given_another_soon(self) -> None:
        wanted = seconds_until_wanted(ON_TIME, 0.0)
        assert wanted == pytest.approx(STUCK_SECONDS, abs=ON_TIME)

    def test_jobs_wait_longer_for_workers_that_compute(self) -> None:
        wanted = seconds_until_wanted(ON_TIME, 1.0)
        assert wanted == pytest.approx(SLOW_SECONDS, abs=ON_TIME)

    def test_a_late_loop_gets_no_more_threads_while_anything_moves(self) -> None:
        assert seconds_until_wanted(LATE, 0.0, takes=True) is None

    def test_a_late_loop_gets_one_more_where_nothing_moves(self) -> None:
        wanted = seconds_until_wanted(LATE, 0.0)
        assert wanted == pytest.approx(SLOW_SECONDS, abs=LATE)

    def test_jobs_that_are_taken_too_slowly_by_an_idle_process(self) -> None:
        wanted = seconds_until_wanted(ON_TIME, 0.2, takes=True)
        assert wanted == pytest.approx(SLOW_SECONDS, abs=ON_TIME)

    def test_a_process_that_works_is_left_alone(self) -> None:
        assert seconds_until_wanted(ON_TIME, 0.3, takes=True) is None

    def test_each_worker_is_judged_anew(self) -> None:
        seen = Looks(SLOW_SECONDS, 0.0, 0.0, 0)
        times = [number * ON_TIME for number in range(1, 100)]
        wanted = [now for now in times if seen.wants_worker(now, 0.0, 0)]
        assert len(wanted) > 5
        assert all(after - before >= STUCK_SECONDS * 0.99 for before, after in pairwise(wanted))


def long_call(taken: list[int], release: threading.Event | None = None) -> None:
    """Compute for long, or wait to be released; count who is in it."""
    taken.append(1)
    most.append(len(taken))
    if release is None:
        began = thread_time()
        while thread_time() - began < LONG_SECONDS:
            pass
    else:
        assert release.wait(PATIENCE)
    taken.pop()


most: list[int] = []


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """No judgement rests on how fast this machine is."""
    monkeypatch.setattr(running, "SLOW_SECONDS", PATIENCE)
    monkeypatch.setattr(running, "TURN_SECONDS", PATIENCE)
    monkeypatch.setattr(looks, "STUCK_SECONDS", PATIENCE)
    monkeypatch.setattr(looks, "FORGET_SECONDS", PATIENCE)
    most.clear()


@pytest.mark.skipif(not HAS_LOCK, reason="threads that compute do not hold each other up")
@pytest.mark.usefixtures("unhurried")
class TestTurns:
    def test_calls_that_compute_for_long_take_turns(self) -> None:
        async def through() -> None:
            calls = Calls(nullcontext)
            taken: list[int] = []
            await calls.run(long_call, taken)
            most.clear()
            await asyncio.gather(*(calls.run(long_call, taken) for _ in range(4 * READY)))
            calls.stop()

        asyncio.run(through())
        assert most == [1] * 4 * READY

    def test_they_hold_up_no_others(self) -> None:
        async def through() -> None:
            calls = Calls(nullcontext)
            taken: list[int] = []
            await calls.run(long_call, taken)
            release = threading.Event()
            held = [calls.run(long_call, taken, release) for _ in range(4 * READY)]
            assert await calls.run(int) == 0
            assert not any(call.done() for call in held)
            release.set()
            await asyncio.gather(*held)
            calls.stop()

        asyncio.run(through())

    def test_the_bound_of_workers_holds(self) -> None:
        async def through() -> None:
            calls = Calls(nullcontext, READY)
            taken: list[int] = []
            await calls.run(long_call, taken)
            await asyncio.gather(*(calls.run(long_call, taken) for _ in range(4 * READY)))
            assert len(calls._lane.threads()) <= READY
            assert calls._turns is calls._lane
            calls.stop()

        asyncio.run(through())
        assert max(most) <= READY

    def test_what_did_so_once_is_forgotten(self, monkeypatch: pytest.MonkeyPatch) -> None:
        computing = Computing()
        assert not computing.is_long(long_call)
        computing.measured(long_call, thread_time() - LONG_SECONDS)
        assert computing.is_long(long_call)
        assert not computing.is_long(int)
        monkeypatch.setattr(looks, "FORGET_SECONDS", 0.0)
        assert not computing.is_long(long_call)

    def test_a_short_call_is_not_noted(self) -> None:
        computing = Computing()
        computing.measured(long_call, thread_time() + PATIENCE)
        assert not computing.is_long(long_call)
