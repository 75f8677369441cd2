"""The layer that stops asking a server that does not answer, and asks again after a while.

A call to a server that is gone costs a connection's timeout, for every caller again. After some
failures in a row the circuit is open: calls fail at once. Later one call is let through. What it
meets decides: an answer closes the circuit, a failure keeps it open as long again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

import msgspec

from holdfast.core.clock import monotonic
from holdfast.core.driver import Driver, Health, Patience
from holdfast.core.errors import UNANSWERED, HoldfastError, Unavailable, UnknownOutcome
from holdfast.layers.around import Around

T = TypeVar("T")


class Breaker(Around):
    """Fails at once while the server is known not to answer.

    A failure is that of the way to the server: it cannot be reached, or did not answer. What a
    server answered is none, whatever it says, nor is a wait for this process's own pool.
    ``now`` reads seconds from a clock that never goes back.
    """

    def __init__(
        self,
        below: Driver,
        patience: Patience,
        *,
        now: Callable[[], float] = monotonic,
    ) -> None:
        super().__init__(below)
        self._patience = patience
        self._now = now
        self._lock = threading.Lock()
        self._failed = 0
        self._open = False
        self._open_until = 0.0
        self._probing = False

    def around(
        self,
        verb: str,
        collections: Iterable[object],
        call: Callable[[], T],
        count: Callable[[T], int],
    ) -> T:
        with _Asking(self):
            return call()

    @contextmanager
    def around_group(self, group: AbstractContextManager[None]) -> Iterator[None]:
        with _Asking(self), group:
            yield

    def health(self) -> Health:
        """What the server says, asked also while the circuit is open; then that is a fact more.

        Half-open means that the next call is let through, or one is under way.
        """
        health = self.below.health()
        if not self._open:
            return health
        state = "open" if self._now() < self._open_until else "half-open"
        return msgspec.structs.replace(health, facts={**health.facts, "circuit": state})

    def _begin(self) -> bool:
        """Let a call through, and say whether it is the probe; Unavailable while open."""
        if not self._open:  # nearly always, and so without the lock
            return False
        with self._lock:
            if not self._open_until:
                return False
            left = self._open_until - self._now()
            if left > 0 or self._probing:
                raise Unavailable(
                    f"The server has not answered {self._failed} times in a row, so it is not"
                    " asked for a while.",
                    hint="Try again later; `holdfast doctor` asks it at once.",
                    retry_after_seconds=max(0.0, round(left, 3)),
                )
            self._probing = True
            return True

    def _end(self, *, probe: bool, error: BaseException | None) -> None:
        if error is None or (isinstance(error, HoldfastError) and not _is_failure(error)):
            if self._failed or probe:
                with self._lock:
                    self._failed, self._open, self._open_until = 0, False, 0.0
                    self._probing = False
            return
        with self._lock:
            if probe:
                self._probing = False
            if isinstance(error, HoldfastError):
                self._failed += 1
                if probe or self._failed >= self._patience.failures:
                    self._open_until = self._now() + self._patience.seconds
                    self._open = True


class _Asking:
    """One call's passage; a class, because every call takes it."""

    __slots__ = ("_breaker", "_probe")

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker

    def __enter__(self) -> None:
        self._probe = self._breaker._begin()

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._breaker._end(probe=self._probe, error=error)


def _is_failure(error: HoldfastError) -> bool:
    return isinstance(error, UnknownOutcome) or bool(error.context.get(UNANSWERED))
