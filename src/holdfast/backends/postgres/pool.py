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
        # Taking and giving back need no lock: a list's own pop and append are whole. The lock is
        # for what opens, closes and waits.
        self._condition = threading.Condition()
        self._idle: list[Wire] = []
        self._open = 0
        self._waiting = 0
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
        wire = self._take_idle()
        if wire is None:
            wire = self._wait_for_one()
        if wire is not None:
            return wire
        try:
            return self.connect()
        except BaseException:
            self._drop(None)
            raise

    def _take_idle(self) -> Wire | None:
        if self._closed:
            raise Closed("The store is closed.", hint="Open it again.")
        while True:
            try:
                wire = self._idle.pop()
            except IndexError:
                return None
            if wire.is_alive():
                return wire
            self._drop(wire)

    def _wait_for_one(self) -> Wire | None:
        """An idle connection, or None where there is room for another, which is then counted."""
        deadline = monotonic() + self._wait_seconds
        with self._condition:
            self._waiting += 1
            try:
                while True:
                    wire = self._take_idle()
                    if wire is not None:
                        return wire
                    if self._open < self._size:
                        self._open += 1
                        return None
                    if not self._condition.wait(max(0.0, deadline - monotonic())):
                        raise Timeout(
                            f"No connection became free in {self._wait_seconds:g} seconds.",
                            hint="Raise pool_size, or end what holds connections for long.",
                        )
            finally:
                self._waiting -= 1

    def give(self, wire: Wire) -> None:
        """Return what `take` gave; one that is broken or left in a transaction is closed."""
        if wire.broken or wire.is_in_transaction():
            self._drop(wire)
            return
        self._idle.append(wire)
        if self._closed:  # asked now, so that none is left behind; whoever pops it closes it
            self._close_idle()
        elif self._waiting:
            with self._condition:
                self._condition.notify()

    def _drop(self, wire: Wire | None) -> None:
        """Close a connection, or take back the count of one that was not opened."""
        if wire is not None:
            wire.close()
        with self._condition:
            self._open -= 1
            self._condition.notify()

    def _close_idle(self) -> None:
        while True:
            try:
                wire = self._idle.pop()
            except IndexError:
                return
            self._drop(wire)

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
            idle = len(self._idle)
            return {"pool_size": self._size, "in_use": self._open - idle, "idle": idle}

    def close(self) -> None:
        """Close the idle ones now, and the others when they are given back."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        self._close_idle()
