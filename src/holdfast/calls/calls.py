"""Running plain calls for an event loop: the seam on which the async facade stands.

Every call is one unit: it runs from its first line to its last in one worker thread, whatever
happens to the task that waits for it. A task that is cancelled before its call began takes the
call back; once begun, the call ends by itself and its result is dropped. Context variables of
the caller are seen by the call.

`run` hands a call to a lane of threads (`lanes.py`). `write` queues it to one writer thread, which
takes all that wait, runs them one after the other inside one `Driver.group` and answers after the
group has ended, waking each event loop once for all of its answers. Of verbs in halves
(`core.halves`) it runs all first halves, one apply for all of them, then all second halves. One
that waits alone takes no group. A loop whose last calls were answered together wakes the writer
once for all that its tasks asked for in one turn: woken by the first of them, the writer would
commit that one alone while the others queue behind it. A lone caller need not wait for the turn to
end.

Nothing here imports a store, and nothing but `holdfast.aio` imports this: `import holdfast`
stays free of asyncio.
"""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from asyncio import AbstractEventLoop, Future, get_running_loop
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from queue import SimpleQueue
from threading import Lock, Thread, current_thread
from typing import Any, Final, ParamSpec, TypeVar

from holdfast.calls.lanes import (
    Answer,
    Job,
    Lane,
    Mailbox,
    answers_of,
    outcome,
    run_in_own_thread,
    started,
)
from holdfast.calls.looks import LOOK_SECONDS, SLOW_SECONDS, TURN_SECONDS, Computing, Looks
from holdfast.core.driver import Driver
from holdfast.core.errors import Conflict, NotFound, Unsupported
from holdfast.core.halves import Applies, Write, begin
from holdfast.core.marks import is_halved
from holdfast.core.values import check_count

P = ParamSpec("P")
T = TypeVar("T")

WORKERS: Final = 8
"""Most threads of the pool, unless told otherwise."""
HAS_LOCK: Final = getattr(sys, "_is_gil_enabled", lambda: True)()
READY: Final = 2 if HAS_LOCK else WORKERS
"""Threads that calls find ready. More would make the loop wait longer for the interpreter lock, so
they start only while calls wait for something else."""
WORKERS_LIMIT: Final = 256
GROUP_LIMIT: Final = 256
"""Most calls that share one group: a bound on how long the first of them waits for the last."""
BATCH: Final = 128
"""Items that an async iterator fetches in one hop."""
EXIT_SECONDS: Final = 10.0
"""How long the end of the process waits for calls that are under way."""

_Wakes = SimpleQueue[bool]
"""True: look for jobs; False: end after those that wait."""
_Group = Callable[[], AbstractContextManager[None]]


def group_of(driver: Driver) -> _Group:
    """The driver's `group`; where it shares no commits each write has its own."""
    return driver.group if driver.capabilities.shared_commits else nullcontext


class Calls:
    """A bounded pool and one writer for the calls of one store, from any number of event loops.

    ``group`` is the driver's `group`. Threads start when they are needed; at most ``workers`` of
    them run calls, the writer not counted. After `close`, calls still run, each in a thread of
    its own: the store itself says that it is closed.
    """

    def __init__(self, group: _Group, workers: int | None = None) -> None:
        size = WORKERS if workers is None else check_count("workers", workers, 1, WORKERS_LIMIT)
        self._group = group
        self._size = size
        self._computing = Computing()
        self._lane = Lane(min(size, READY), self._computing, SLOW_SECONDS)
        self._turns = self._lane
        if HAS_LOCK and size > READY:
            self._turns = Lane(1, self._computing, TURN_SECONDS)
        self._lanes = tuple({self._lane, self._turns})
        self._writes: deque[Job] = deque()
        self._wakes: _Wakes = SimpleQueue()
        self._writer: list[Thread] = []
        self._boxes: dict[AbstractEventLoop, Mailbox] = {}
        self._lock = Lock()
        self._stopped = False
        self._finalizer = weakref.finalize(self, _dismiss, self._lanes, self._wakes, self._writer)
        self._finalizer.atexit = False
        _OPEN.add(self)

    def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run ``call`` as one unit in a worker."""
        job = self._job(call, args, kwargs)
        with self._lock:
            if self._stopped:
                run_in_own_thread(job)
            else:
                lane = self._lane_for(call)
                lane.put(job)
                if lane.has_waiting() and lane not in job[1].looking:
                    job[1].looking.add(lane)
                    self._look_later(job[1], lane, Looks(lane.slow_seconds, *lane.seen()))
        return job[0]

    def _lane_for(self, call: Callable[..., Any]) -> Lane:
        if self._computing.is_long(call) and (self._turns.size() or self._has_room()):
            return self._turns
        return self._lane

    def _has_room(self) -> bool:
        """Whether one more thread may run calls."""
        return sum(lane.size() for lane in self._lanes) < self._size

    def write(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run ``call`` as one unit that shares its commit with others; see `core.marks`."""
        job = self._job(call, args, kwargs)
        with self._lock:
            if self._stopped:
                run_in_own_thread(job)
            else:
                if not self._writer:
                    given = (self._writes, self._wakes, self._group)
                    self._writer.append(started(_write_jobs, *given, name="holdfast-writer"))
                self._writes.append(job)
                box = job[1]
                if not box.crowded:
                    self._wakes.put(True)
                elif not box.writes_due:
                    box.writes_due = True
                    box.loop.call_soon(self._wake_writer, box)
        return job[0]

    def _wake_writer(self, box: Mailbox) -> None:
        """At the end of a loop's turn, for all that its tasks asked to write in it."""
        box.writes_due = False
        self._wakes.put(True)

    async def iterate(
        self, call: Callable[P, Iterator[T]], *args: P.args, **kwargs: P.kwargs
    ) -> AsyncIterator[T]:
        """The items of an iterator, fetched in batches by workers."""
        items = await self.run(call, *args, **kwargs)
        while True:
            batch, end = await self.run(_batch, items)
            for item in batch:
                yield item
            if isinstance(end, StopIteration):
                return
            if end is not None:
                raise end

    async def close(self, close: Callable[[], None]) -> None:
        """Finish all calls that were made, end the threads, then run ``close``."""

        def drain_and_close() -> None:
            self.stop()
            close()

        await run_alone(drain_and_close)

    def stop(self, timeout: float | None = None) -> None:
        """Finish all calls that were made and end the threads; may be repeated."""
        with self._lock:
            self._stopped = True
            if self._finalizer.detach():
                _dismiss(self._lanes, self._wakes, self._writer)
        running = [thread for lane in self._lanes for thread in lane.threads()]
        for thread in (*running, *self._writer):
            if thread is not current_thread():
                thread.join(timeout)

    def _job(self, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Job:
        loop = _running_loop()
        box = self._boxes.get(loop) or self._new_box(loop)
        return loop.create_future(), box, copy_context(), call, args, kwargs

    def _new_box(self, loop: AbstractEventLoop) -> Mailbox:
        with self._lock:
            for known in [known for known in self._boxes if known.is_closed()]:
                del self._boxes[known]
            return self._boxes.setdefault(loop, Mailbox(loop))

    def _look_later(self, box: Mailbox, lane: Lane, looks: Looks) -> None:
        box.loop.call_later(LOOK_SECONDS, self._look, box, lane, looks)

    def _look(self, box: Mailbox, lane: Lane, looks: Looks) -> None:
        """One more worker for a lane whose jobs wait for workers that wait."""
        with self._lock:
            if self._stopped or not lane.has_waiting():
                box.looking.discard(lane)
                return
            if looks.wants_worker(*lane.seen()) and self._has_room():
                lane.add_worker()
        self._look_later(box, lane, looks)

    def _forget_threads(self) -> None:
        """In a forked child: the threads stayed with the parent, the locks are as they were."""
        self._lock = Lock()
        self._stopped = True
        self._finalizer.detach()
        for lane in self._lanes:
            lane.forget_threads()
        self._writer.clear()


def run_alone(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """Run ``call`` as one unit in a thread of its own."""
    loop = _running_loop()
    future: Future[T] = loop.create_future()
    run_in_own_thread((future, Mailbox(loop), copy_context(), call, args, kwargs))
    return future


def _running_loop() -> AbstractEventLoop:
    try:
        return get_running_loop()
    except RuntimeError:
        raise Unsupported(
            "holdfast.aio works inside a running asyncio event loop only.",
            hint="Elsewhere use holdfast.open, whose calls are plain functions.",
        ) from None


# --- in worker threads. These hold no Calls, so that a forgotten one can be collected.


def _write_jobs(jobs: deque[Job], wakes: _Wakes, group: _Group) -> None:
    going_on = True
    # An apply that commits by itself may have happened although it says it failed.
    applies = None if group is nullcontext else Applies()
    while going_on:
        going_on = wakes.get()
        while jobs:
            if len(jobs) == 1:
                _write_alone(jobs.popleft())
            else:
                batch = [jobs.popleft() for _ in range(min(len(jobs), GROUP_LIMIT))]
                _write_together(batch, group, applies)


def _write_alone(job: Job) -> None:
    """Run a job that shares its commit with no other, so that it takes no group."""
    box = job[1]
    box.crowded = False
    box.post(answers_of(job))


def _write_together(batch: list[Job], group: _Group, applies: Applies | None) -> None:
    """Run all jobs in one group, then answer. If the group fails, nothing in it succeeded.

    Nor does a Conflict or NotFound stand then: it may rest on a write that did not come to be.
    """
    posts: dict[Mailbox, list[Answer]] = {job[1]: [] for job in batch}
    try:
        with group():
            for job, answer in _answers_together(batch, applies):
                posts[job[1]].append(answer)
    except BaseException as failure:  # noqa: BLE001 - it is raised in every task that waits
        stand = {
            answer[0]: answer
            for answers in posts.values()
            for answer in answers
            if answer[2] and not isinstance(answer[2], Conflict | NotFound)
        }
        posts = {box: [] for box in posts}
        for job in batch:
            posts[job[1]].append(stand.get(job[0]) or (job[0], None, _twin(failure)))
    for box, answers in posts.items():
        box.crowded = True
        box.post(answers)


def _answers_together(batch: list[Job], applies: Applies | None) -> Iterator[tuple[Job, Answer]]:
    """Run all jobs in their order; with ``applies``, writes in halves in a row share one.

    What was cancelled in time is not begun.
    """
    begun: list[tuple[Job, Write[Any]]] = []
    for job in batch:
        future, _, context, call, args, kwargs = job
        if future.cancelled():
            continue
        if applies is not None and is_halved(call, kwargs):
            value, error = outcome(context, begin, (call, *args), kwargs)
            if type(value) is Write:
                begun.append((job, value))
                continue
        else:
            yield from _finished(begun, applies)
            begun.clear()
            value, error = outcome(context, call, args, kwargs)
        yield job, (future, value, error)
    yield from _finished(begun, applies)


def _finished(
    begun: list[tuple[Job, Write[Any]]], applies: Applies | None
) -> Iterator[tuple[Job, Answer]]:
    if not begun or applies is None:
        return
    outcomes = applies.outcomes([write for _, write in begun])
    for (job, write), made in zip(begun, outcomes, strict=True):
        yield job, (job[0], *outcome(job[2], write.finish, (made,), {}))


def _batch(items: Iterator[T]) -> tuple[list[T], Exception | None]:
    """The next items, and how the iterator ended: None while it may have more."""
    batch: list[T] = []
    try:
        while len(batch) < BATCH:
            batch.append(next(items))
    except Exception as end:  # noqa: BLE001 - it is raised after the items before it
        return batch, end
    return batch, None


def _twin(error: BaseException) -> BaseException:
    """An equal error for another task: two tasks must not write into one traceback."""
    twin = type(error).__new__(type(error), *error.args)
    twin.__dict__.update(error.__dict__)
    twin.__cause__ = error
    return twin


# --- the end


def _dismiss(lanes: Iterable[Lane], wakes: _Wakes, writer: list[Thread]) -> None:
    """One word for each thread: it ends after all that was queued before."""
    for lane in lanes:
        lane.dismiss()
    for _ in writer:
        wakes.put(False)


_OPEN: weakref.WeakSet[Calls] = weakref.WeakSet()


@atexit.register
def _finish_all() -> None:
    for calls in list(_OPEN):
        calls.stop(EXIT_SECONDS)


def _forget_all_threads() -> None:
    for calls in list(_OPEN):
        calls._forget_threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all_threads)
