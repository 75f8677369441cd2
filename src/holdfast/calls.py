"""Running plain calls for an event loop: the seam on which the async facade stands.

Every call is one unit: it runs from its first line to its last in one worker thread, whatever
happens to the task that waits for it. A task that is cancelled before its call began takes the
call back; once begun, the call ends by itself and its result is dropped. Context variables of
the caller are seen by the call.

There are two lanes. `run` hands a call to a pool of threads. `write` queues it to one writer
thread, which takes all that wait, runs them one after the other inside one `Driver.group` and
answers after the group has ended, waking each event loop once for all of its answers. Of verbs in
halves (`core.halves`) it runs all first halves, one apply for all of them, then all second halves.
One that waits alone takes no group. A loop whose last calls were answered together wakes the writer
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
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import Context, copy_context
from queue import Empty, SimpleQueue
from threading import Lock, Thread, current_thread
from time import monotonic, process_time
from typing import Any, Final, ParamSpec, TypeVar

from holdfast.core.driver import Driver
from holdfast.core.errors import Conflict, NotFound, Unsupported
from holdfast.core.halves import Applies, Write, begin
from holdfast.core.marks import is_halved
from holdfast.core.values import check_count

P = ParamSpec("P")
T = TypeVar("T")

WORKERS: Final = 8
"""Most threads of the pool, unless told otherwise."""
READY: Final = 2 if getattr(sys, "_is_gil_enabled", lambda: True)() else WORKERS
"""Threads that calls find ready. Each more that computes makes the loop's thread wait longer for
the interpreter lock (8 of them: 90 ms and more, 2: below 20 ms), so more start only while calls
wait for something else."""
RELIEF_SECONDS: Final = 0.01
"""How long all workers may be stuck in their calls before one more starts."""
LATE_SECONDS: Final = 0.002
"""A loop that wakes later than this has too little of the machine already: nothing starts, unless
no call at all gets on."""
IDLE_SECONDS: Final = 0.05
IDLE_SHARE: Final = 0.25
"""A process that uses less of a core than this for so long, while jobs wait and the loop is on
time, has workers that wait too, and one more starts."""
WORKERS_LIMIT: Final = 256
GROUP_LIMIT: Final = 256
"""Most calls that share one group: a bound on how long the first of them waits for the last."""
BATCH: Final = 128
"""Items that an async iterator fetches in one hop."""
EXIT_SECONDS: Final = 10.0
"""How long the end of the process waits for calls that are under way."""

_Answer = tuple["Future[Any]", Any, BaseException | None]


class _Mailbox:
    """Answers on their way to one event loop. It is `crowded` if its last writes shared a group."""

    __slots__ = ("_answers", "_called", "crowded", "loop", "relief_due", "writes_due")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.loop = loop
        self.relief_due = False
        self.writes_due = False
        self.crowded = True
        self._answers: deque[_Answer] = deque()
        self._called = False

    def post(self, answers: Sequence[_Answer]) -> None:
        """Deliver from any thread. A delivery that is already due takes these along."""
        self._answers.extend(answers)
        if answers and not self._called:
            self._called = True
            try:
                self.loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:
                self._answers.clear()  # The loop is closed, so nobody waits any more.

    def _deliver(self) -> None:
        self._called = False  # First: what is posted from here on calls again.
        answers = self._answers
        while answers:
            future, value, error = answers.popleft()
            if future.done():
                continue
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(_settable(error))


_Job = tuple["Future[Any]", _Mailbox, Context, Callable[..., Any], tuple[Any, ...], dict[str, Any]]
_Jobs = SimpleQueue[_Job | None]
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
        self._jobs: _Jobs = SimpleQueue()
        self._writes: deque[_Job] = deque()
        self._wakes: _Wakes = SimpleQueue()
        self._size = size
        self._ready = min(size, READY)
        self._idle: deque[None] = deque(maxlen=size)
        self._asked = 0
        self._pool: list[Thread] = []
        self._relief: list[Thread] = []
        self._writer: list[Thread] = []
        self._boxes: dict[AbstractEventLoop, _Mailbox] = {}
        self._lock = Lock()
        self._stopped = False
        self._finalizer = weakref.finalize(
            self, _dismiss, self._jobs, self._pool, self._wakes, self._writer
        )
        self._finalizer.atexit = False
        _OPEN.add(self)

    def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run ``call`` as one unit in a worker."""
        job = self._job(call, args, kwargs)
        with self._lock:
            if self._stopped:
                _run_alone(job)
            else:
                if len(self._pool) < self._ready:
                    self._grow()
                self._asked += 1
                self._jobs.put(job)
                if not job[1].relief_due and not self._jobs.empty():
                    self._watch(job[1])
        return job[0]

    def write(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run ``call`` as one unit that shares its commit with others; see `core.marks`."""
        job = self._job(call, args, kwargs)
        with self._lock:
            if self._stopped:
                _run_alone(job)
            else:
                if not self._writer:
                    wakes, group = self._wakes, self._group
                    self._writer.append(_start(_write_jobs, self._writes, wakes, group))
                self._writes.append(job)
                box = job[1]
                if not box.crowded:
                    self._wakes.put(True)
                elif not box.writes_due:
                    box.writes_due = True
                    box.loop.call_soon(self._wake_writer, box)
        return job[0]

    def _wake_writer(self, box: _Mailbox) -> None:
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
                _dismiss(self._jobs, self._pool, self._wakes, self._writer)
        for thread in (*self._pool, *self._relief, *self._writer):
            if thread is not current_thread():
                thread.join(timeout)

    def _job(self, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Job:
        loop = _running_loop()
        box = self._boxes.get(loop) or self._new_box(loop)
        return loop.create_future(), box, copy_context(), call, args, kwargs

    def _new_box(self, loop: AbstractEventLoop) -> _Mailbox:
        with self._lock:
            for known in [known for known in self._boxes if known.is_closed()]:
                del self._boxes[known]
            return self._boxes.setdefault(loop, _Mailbox(loop))

    def _grow(self) -> None:
        """One more worker, unless one is idle: then the next job is spoken for by that one."""
        try:
            self._idle.pop()
        except IndexError:
            self._pool.append(_start(_run_jobs, self._jobs, self._idle))

    def _watch(self, box: _Mailbox, since: tuple[float, float] | None = None) -> None:
        """See in a while whether jobs were taken, and what was computed ``since`` then."""
        if self._size > self._ready:
            box.relief_due = True
            now = monotonic()
            seen = (self._asked - self._jobs.qsize(), now, since or (now, process_time()))
            box.loop.call_later(RELIEF_SECONDS, self._relieve, box, *seen)

    def _relieve(self, box: _Mailbox, taken: int, armed: float, since: tuple[float, float]) -> None:
        """One more worker while jobs wait for workers that wait; it leaves when no job waits."""
        with self._lock:
            box.relief_due = False
            waiting = self._jobs.qsize()
            if not waiting or self._stopped:
                return
            now = monotonic()
            passed, computed = now - since[0], process_time() - since[1]
            late = now - armed > RELIEF_SECONDS + LATE_SECONDS
            judged = passed >= IDLE_SECONDS
            idle = judged and computed < IDLE_SHARE * passed
            stuck = self._asked - waiting == taken
            if (stuck and judged) or (not late and (stuck or idle)):
                self._relief = [thread for thread in self._relief if thread.is_alive()]
                if len(self._relief) < self._size - self._ready:
                    self._relief.append(_start(_run_waiting_jobs, self._jobs))
            self._watch(box, None if judged or (late and not stuck) else since)

    def _forget_threads(self) -> None:
        """In a forked child: the threads stayed with the parent, the locks are as they were."""
        self._lock = Lock()
        self._stopped = True
        self._finalizer.detach()
        self._pool.clear()
        self._relief.clear()
        self._writer.clear()


def run_alone(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """Run ``call`` as one unit in a thread of its own."""
    loop = _running_loop()
    future: Future[T] = loop.create_future()
    _run_alone((future, _Mailbox(loop), copy_context(), call, args, kwargs))
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


def _start(target: Callable[..., None], *args: object) -> Thread:
    name = "holdfast-writer" if target is _write_jobs else "holdfast-worker"
    thread = Thread(target=target, args=args, name=name, daemon=True)
    thread.start()
    return thread


def _run_jobs(jobs: _Jobs, idle: deque[None]) -> None:
    while (job := jobs.get()) is not None:
        box, answers = job[1], _answers_of(job)
        del job
        idle.append(None)
        box.post(answers)
        del answers


def _run_waiting_jobs(jobs: _Jobs) -> None:
    while True:
        try:
            job = jobs.get_nowait()
        except Empty:
            return
        if job is None:  # meant for a worker that waits
            jobs.put(None)
            return
        job[1].post(_answers_of(job))
        del job


def _run_alone(job: _Job) -> None:
    Thread(target=lambda: job[1].post(_answers_of(job)), name="holdfast-call").start()


def _answers_of(job: _Job) -> list[_Answer]:
    """The call's answer, or nothing when nobody asks any more."""
    future, _, context, call, args, kwargs = job
    return [] if future.cancelled() else [(future, *_outcome(context, call, args, kwargs))]


def _outcome(
    context: Context, call: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[T | None, BaseException | None]:
    # Apart, so that an error's traceback does not lead back to the future that will hold it.
    try:
        return context.run(call, *args, **kwargs), None
    except BaseException as error:  # noqa: BLE001 - it is raised in the task that waits
        return None, error


def _write_jobs(jobs: deque[_Job], wakes: _Wakes, group: _Group) -> None:
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


def _write_alone(job: _Job) -> None:
    """Run a job that shares its commit with no other, so that it takes no group."""
    box = job[1]
    box.crowded = False
    box.post(_answers_of(job))


def _write_together(batch: list[_Job], group: _Group, applies: Applies | None) -> None:
    """Run all jobs in one group, then answer. If the group fails, nothing in it succeeded.

    Nor does a Conflict or NotFound stand then: it may rest on a write that did not come to be.
    """
    posts: dict[_Mailbox, list[_Answer]] = {job[1]: [] for job in batch}
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


def _answers_together(batch: list[_Job], applies: Applies | None) -> Iterator[tuple[_Job, _Answer]]:
    """Run all jobs in their order; with ``applies``, writes in halves in a row share one.

    What was cancelled in time is not begun.
    """
    begun: list[tuple[_Job, Write[Any]]] = []
    for job in batch:
        future, _, context, call, args, kwargs = job
        if future.cancelled():
            continue
        if applies is not None and is_halved(call, kwargs):
            value, error = _outcome(context, begin, (call, *args), kwargs)
            if type(value) is Write:
                begun.append((job, value))
                continue
        else:
            yield from _finished(begun, applies)
            begun.clear()
            value, error = _outcome(context, call, args, kwargs)
        yield job, (future, value, error)
    yield from _finished(begun, applies)


def _finished(
    begun: list[tuple[_Job, Write[Any]]], applies: Applies | None
) -> Iterator[tuple[_Job, _Answer]]:
    if not begun or applies is None:
        return
    outcomes = applies.outcomes([write for _, write in begun])
    for (job, write), made in zip(begun, outcomes, strict=True):
        yield job, (job[0], *_outcome(job[2], write.finish, (made,), {}))


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


def _settable(error: BaseException) -> BaseException:
    if not isinstance(error, StopIteration):
        return error
    wrapped = RuntimeError("The call raised StopIteration.")  # which a future cannot hold
    wrapped.__cause__ = error
    return wrapped


# --- the end


def _dismiss(jobs: _Jobs, pool: list[Thread], wakes: _Wakes, writer: list[Thread]) -> None:
    """One word for each thread: it ends after all that was queued before."""
    for _ in pool:
        jobs.put(None)
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
