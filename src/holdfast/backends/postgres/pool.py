"""Connections that wait to be used, the last one used first."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

import psycopg

from holdfast.backends.postgres.errors import unreachable
from holdfast.backends.postgres.options import Target
from holdfast.backends.postgres.wire import Wire
from holdfast.core.errors import Closed, Timeout


class Pool:
    """At most ``pool_size`` connections, opened when they are asked for.

    A connection that died while it was idle is noticed before it is used, without asking the
    server, so that a server that was restarted is simply met again.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        options = target.options
        self._size = options.pool_size
        self._wait_seconds = options.pool_timeout_seconds
        slack = options.statement_timeout_seconds
        self._answer_seconds = slack + options.connect_timeout_seconds if slack else None
        self._condition = threading.Condition()
        self._idle: list[Wire] = []
        self._used = 0
        self._closed = False

    @contextmanager
    def wire(self) -> Iterator[Wire]:
        """A connection for this block alone."""
        wire = self.take()
        try:
            yield wire
        finally:
            self.give(wire)

    def take(self) -> Wire:
        """A connection that is alive; `give` it back. Timeout when none becomes free."""
        with self._condition:
            deadline = None
            while True:
                if self._closed:
                    raise Closed("The store is closed.", hint="Open it again.")
                while self._idle:
                    wire = self._idle.pop()
                    if wire.is_alive():
                        self._used += 1
                        return wire
                    wire.close()
                if self._used < self._size:
                    self._used += 1
                    break
                deadline = deadline or monotonic() + self._wait_seconds
                if not self._condition.wait(max(0.0, deadline - monotonic())):
                    raise Timeout(
                        f"No connection became free in {self._wait_seconds:g} seconds.",
                        hint="Raise pool_size, or end what holds connections for long.",
                    )
        try:
            return self.connect()
        except BaseException:
            self._release(None)
            raise

    def give(self, wire: Wire) -> None:
        """Return what `take` gave; one that is broken or left in a transaction is closed."""
        if wire.broken or self._closed or wire.is_in_transaction():
            wire.close()
            self._release(None)
        else:
            self._release(wire)

    def _release(self, wire: Wire | None) -> None:
        with self._condition:
            self._used -= 1
            if wire is not None:
                if self._closed:
                    wire.close()
                else:
                    self._idle.append(wire)
            self._condition.notify()

    def connect(self) -> Wire:
        """A new connection beside the pool; the caller closes it."""
        options = self.target.options
        try:
            return Wire(
                self.target.conninfo,
                prepare=options.prepare,
                answer_seconds=self._answer_seconds,
            )
        except psycopg.Error as error:
            raise unreachable(error) from error

    def counts(self) -> dict[str, int]:
        """How many connections are in use, and how many wait."""
        with self._condition:
            return {"pool_size": self._size, "in_use": self._used, "idle": len(self._idle)}

    def close(self) -> None:
        """Close the idle ones now, and the others when they are given back."""
        with self._condition:
            self._closed = True
            while self._idle:
                self._idle.pop().close()
            self._condition.notify_all()
