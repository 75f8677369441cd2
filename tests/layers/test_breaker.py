"""The circuit breaker: when it opens, what it costs then, and what closes it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from holdfast.core.clock import ManualClock
from holdfast.core.driver import Driver, Patience
from holdfast.core.errors import (
    UNANSWERED,
    HoldfastError,
    NotFound,
    StorageFull,
    Timeout,
    Unavailable,
    UnknownOutcome,
)
from holdfast.core.filter import Record
from holdfast.layers.breaker import Breaker
from holdfast.layers.layer import Layer
from holdfast.testing.memory import MemoryHarness
from holdfast.testing.shapes import JOBS, NOON, SHAPES


class Line(Layer):
    """The way to a server: it is cut, slow, or whole, and counts who went over it."""

    def __init__(self, below: Driver) -> None:
        super().__init__(below)
        self.fault: BaseException | None = None
        self.pause: Callable[[], object] = lambda: None
        self.asked = 0

    def get(
        self, tenant: str, collection: str, key: tuple[Any, ...], *, vectors: bool = False
    ) -> Record | None:
        self.asked += 1
        self.pause()
        if self.fault is not None:
            raise self.fault
        return super().get(tenant, collection, key, vectors=vectors)


class Seconds:
    """A clock that never goes back, moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


CUT = Unavailable("The server cannot be reached.")
CUT.context[UNANSWERED] = True


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line(MemoryHarness().open(ManualClock(NOON)))
    made.setup(SHAPES)
    yield made
    made.close()


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def breaker(line: Line, seconds: Seconds) -> Breaker:
    return Breaker(line, Patience(), now=seconds)


def ask(breaker: Breaker) -> Record | None:
    return breaker.get("t", JOBS.name, ("a",))


def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        with pytest.raises(HoldfastError):
            ask(breaker)


def test_a14_five_failures_in_a_row_open_it_and_nobody_is_asked_then(
    breaker: Breaker, line: Line, seconds: Seconds
) -> None:
    line.fault = CUT
    fail(breaker, 5)
    assert line.asked == 5
    with pytest.raises(Unavailable) as told:
        ask(breaker)
    assert line.asked == 5
    assert told.value.retryable
    assert told.value.context["retry_after_seconds"] == 60.0
    seconds.now = 59.9
    fail(breaker, 20)
    assert line.asked == 5
    assert breaker.health().facts["circuit"] == "open"


def test_a14_after_a_minute_one_probe_is_let_through_and_its_success_closes_it(
    breaker: Breaker, line: Line, seconds: Seconds
) -> None:
    line.fault = CUT
    fail(breaker, 5)
    seconds.now = 60.0
    assert breaker.health().facts["circuit"] == "half-open"
    line.fault = None
    assert ask(breaker) is None
    assert "circuit" not in breaker.health().facts
    line.fault = CUT
    fail(breaker, 4)
    line.fault = None
    assert ask(breaker) is None  # four are not five: the count began at zero
    assert line.asked == 11


def test_a14_a_failed_probe_opens_it_for_as_long_again(
    breaker: Breaker, line: Line, seconds: Seconds
) -> None:
    line.fault = CUT
    fail(breaker, 5)
    seconds.now = 60.0
    fail(breaker, 3)
    assert line.asked == 6
    seconds.now = 119.9
    fail(breaker, 1)
    assert line.asked == 6
    seconds.now = 120.0
    fail(breaker, 1)
    assert line.asked == 7


def test_a14_while_one_probes_the_others_fail_at_once(
    breaker: Breaker, line: Line, seconds: Seconds
) -> None:
    line.fault = CUT
    fail(breaker, 5)
    seconds.now = 60.0
    line.fault = None
    arrived, release = threading.Event(), threading.Event()

    def pause() -> None:
        arrived.set()
        release.wait()

    line.pause = pause
    with ThreadPoolExecutor(1) as crew:
        probe = crew.submit(ask, breaker)
        arrived.wait()
        fail(breaker, 3)
        assert line.asked == 6
        release.set()
        assert probe.result() is None
    line.pause = lambda: None
    assert ask(breaker) is None


@pytest.mark.parametrize(
    "answer",
    [
        NotFound("There is no such record."),
        StorageFull("The disk is full."),
        Unavailable("The store has not been set up."),
        Timeout("All connections of the pool are in use."),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a14_what_a_server_answers_is_no_failure_and_ends_the_row(
    breaker: Breaker, line: Line, answer: HoldfastError
) -> None:
    line.fault = CUT
    fail(breaker, 4)
    line.fault = answer
    fail(breaker, 10)
    line.fault = CUT
    fail(breaker, 4)
    line.fault = None
    assert ask(breaker) is None


def test_a14_a_lost_answer_is_a_failure(breaker: Breaker, line: Line) -> None:
    line.fault = UnknownOutcome("The answer was lost.")
    fail(breaker, 6)
    assert line.asked == 5


def test_a14_an_interrupted_probe_leaves_the_way_to_the_next(
    breaker: Breaker, line: Line, seconds: Seconds
) -> None:
    line.fault = CUT
    fail(breaker, 5)
    seconds.now = 60.0
    line.fault = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        ask(breaker)
    line.fault = None
    assert ask(breaker) is None


class NeverOpen(Breaker):
    """Lets everybody wait for a server that is gone."""

    def _end(self, *, probe: bool, error: BaseException | None) -> None:
        super()._end(probe=probe, error=None)


class NeverShut(Breaker):
    """Forgets to count from zero once the server has answered."""

    def _end(self, *, probe: bool, error: BaseException | None) -> None:
        failed = self._failed
        super()._end(probe=probe, error=error)
        if error is None:
            self._failed = failed


@pytest.mark.parametrize(
    ("saboteur", "case"),
    [
        (NeverOpen, test_a14_five_failures_in_a_row_open_it_and_nobody_is_asked_then),
        (NeverShut, test_a14_after_a_minute_one_probe_is_let_through_and_its_success_closes_it),
    ],
)
def test_the_cases_catch_a_broken_breaker(
    saboteur: type[Breaker], case: Callable[..., None], line: Line, seconds: Seconds
) -> None:
    with pytest.raises((AssertionError, HoldfastError, pytest.fail.Exception)):
        case(saboteur(line, Patience(), now=seconds), line, seconds)
