"""Threads that run the calls of event loops: a lane is a queue and the workers that serve it.

A worker that waits, for a server or a disk, holds nobody up but the jobs behind it. One that
computes holds the interpreter lock, and a second one beside it gets no more done: each call takes
longer, and so does every turn of the loop, which waits for both each time that it wants the lock.
So a worker is added for waiting, and calls that compute for long take turns in a lane of their own,
where they hold up each other and nothing short.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import Context
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic, process_time
from typing import Any, Final, TypeVar

from holdfast.calls.looks import Computing

T = TypeVar("T")

SERVICE_SECONDS: Final = 1.0
"""How long a worker that was added takes jobs: by then what it was added for may be over."""

Answer = tuple["Future[Any]", Any, BaseException | None]


class Mailbox:
    """Answers on their way to one event loop. It is `crowded` if its last writes shared a group."""

    __slots__ = ("_answers", "_called", "crowded", "looking", "loop", "writes_due")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.loop = loop
        self.looking: set[Lane] = set()
        """The lanes whose waiting jobs this loop looks at."""
        self.writes_due = False
        self.crowded = True
        self._answers: deque[Answer] = deque()
        self._called = False

    def post(self, answers: Sequence[Answer]) -> None:
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


Job = tuple["Future[Any]", Mailbox, Context, Callable[..., Any], tuple[Any, ...], dict[str, Any]]
_Jobs = SimpleQueue[Job | None]


class Lane:
    """A queue of jobs with ``ready`` workers; they start with the first jobs. It has no lock.

    ``slow_seconds`` is how long its jobs wait for workers that compute before one is added. Its
    threads hold their queue and not the lane, so that a forgotten one can be collected.
    """

    __slots__ = (
        "_added",
        "_asked",
        "_computing",
        "_idle",
        "_jobs",
        "_ready",
        "_workers",
        "slow_seconds",
    )

    def __init__(self, ready: int, computing: Computing, slow_seconds: float) -> None:
        self.slow_seconds = slow_seconds
        self._ready = ready
        self._computing = computing
        self._jobs: _Jobs = SimpleQueue()
        self._idle: deque[None] = deque(maxlen=ready)
        self._asked = 0
        self._workers: list[Thread] = []
        self._added: list[Thread] = []

    def put(self, job: Job) -> None:
        """Queue a job."""
        if len(self._workers) < self._ready:
            self._start_worker()
        self._asked += 1
        self._jobs.put(job)

    def _start_worker(self) -> None:
        """One more, unless one is idle: then the next job is spoken for by that one."""
        try:
            self._idle.pop()
        except IndexError:
            self._workers.append(started(_run_jobs, self._jobs, self._computing, self._idle))

    def add_worker(self) -> None:
        """One more that leaves by itself, for jobs that wait."""
        self._added.append(started(_run_jobs_for_a_while, self._jobs, self._computing))

    def size(self) -> int:
        """How many threads its jobs may have by now; none before the first job."""
        self._added = [thread for thread in self._added if thread.is_alive()]
        return (self._ready if self._asked else 0) + len(self._added)

    def threads(self) -> list[Thread]:
        """Those that were started, but for some that have left."""
        return [*self._workers, *self._added]

    def forget_threads(self) -> None:
        """In a forked child, where they are not."""
        self._workers.clear()
        self._added.clear()

    def has_waiting(self) -> bool:
        """Whether a job was not taken yet."""
        return not self._jobs.empty()

    def seen(self) -> tuple[float, float, int]:
        """What `looks.Looks` is told: the time, the process's own, and how many jobs were taken."""
        return monotonic(), process_time(), self._asked - self._jobs.qsize()

    def dismiss(self) -> None:
        """One word for each thread: it ends after all that was queued before."""
        for _ in self.threads():
            self._jobs.put(None)


def started(target: Callable[..., None], *args: object, name: str = "holdfast-worker") -> Thread:
    """A thread that does not keep the process from ending."""
    thread = Thread(target=target, args=args, name=name, daemon=True)
    thread.start()
    return thread


def _run_jobs(jobs: _Jobs, computing: Computing, idle: deque[None]) -> None:
    began = 0.0
    while (job := jobs.get()) is not None:
        box, answers = job[1], answers_of(job)
        began = computing.measured(job[3], began)
        del job
        idle.append(None)
        box.post(answers)
        del answers


def _run_jobs_for_a_while(jobs: _Jobs, computing: Computing) -> None:
    began, ends_at = 0.0, monotonic() + SERVICE_SECONDS
    with suppress(Empty):
        while (seconds := ends_at - monotonic()) > 0 and (job := jobs.get(timeout=seconds)):
            answers = answers_of(job)
            began = computing.measured(job[3], began)
            job[1].post(answers)
            del job, answers


def run_in_own_thread(job: Job) -> None:
    """Run a job in a thread of its own, which the end of the process waits for."""
    Thread(target=lambda: job[1].post(answers_of(job)), name="holdfast-call").start()


def answers_of(job: Job) -> list[Answer]:
    """The call's answer, or nothing when nobody asks any more."""
    future, _, context, call, args, kwargs = job
    return [] if future.cancelled() else [(future, *outcome(context, call, args, kwargs))]


def outcome(
    context: Context, call: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[T | None, BaseException | None]:
    """What a call returned, or raised."""
    # Apart, so that an error's traceback does not lead back to the future that will hold it.
    try:
        return context.run(call, *args, **kwargs), None
    except BaseException as error:  # noqa: BLE001 - it is raised in the task that waits
        return None, error


def _settable(error: BaseException) -> BaseException:
    if not isinstance(error, StopIteration):
        return error
    wrapped = RuntimeError("The call raised StopIteration.")  # which a future cannot hold
    wrapped.__cause__ = error
    return wrapped
