"""The thread in which a driver merges, and what asks for it."""

from __future__ import annotations

import threading

from holdfast.backends.sql.planner import Planner
from holdfast.backends.sqlite.connection import ConnectionPool
from holdfast.backends.sqlite.errors import READ_ERRORS
from holdfast.backends.sqlite.merging import Limits, Lost, Merging
from holdfast.backends.sqlite.writer import Writer
from holdfast.core.clock import Clock
from holdfast.core.errors import HoldfastError


class Merger:
    """Merges what searches found to be due, one source after the other.

    Its thread begins with the first search that finds something; a process that only writes, or
    only searches what is small, has none.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        writer: Writer,
        planner: Planner,
        clock: Clock,
        limits: Limits,
    ) -> None:
        self.limits = limits
        self.last_error = ""
        self._merging = Merging(pool, writer, clock, limits, planner, self._go_on)
        self._wanted: dict[tuple[str, str], None] = {}
        self._state = threading.Condition()
        self._closed = False
        self._busy = False
        self._thread: threading.Thread | None = None

    def ask(self, source: str, tenant: str) -> None:
        """Have a source merged soon."""
        with self._state:
            if self._closed or (source, tenant) in self._wanted:
                return
            self._wanted[source, tenant] = None
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="holdfast-merge", daemon=True
                )
                self._thread.start()
            self._state.notify_all()

    def run(self, source: str, tenant: str) -> int:
        """Merge, in this thread, until nothing is due; how many merges that took."""
        count = 0
        while self._merging.is_due(source, tenant) and self._merging.run(source, tenant):
            count += 1
        return count

    def wait(self) -> None:
        """Until nothing is asked for any more."""
        with self._state:
            self._state.wait_for(lambda: self._closed or not (self._wanted or self._busy))

    def close(self) -> None:
        """Give up what is under way; nothing of it counts yet."""
        with self._state:
            self._closed = True
            self._state.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _go_on(self) -> None:
        if self._closed:
            raise Lost

    def _work(self) -> None:
        while True:
            with self._state:
                self._busy = False
                self._state.notify_all()
                self._state.wait_for(lambda: self._closed or bool(self._wanted))
                if self._closed:
                    return
                source, tenant = next(iter(self._wanted))
                self._busy = True
            try:
                self.run(source, tenant)
            except Lost:
                pass
            except (HoldfastError, *READ_ERRORS) as error:
                # Searches are right without it, and the next one asks again.
                self.last_error = getattr(error, "code", type(error).__name__)
            with self._state:
                self._wanted.pop((source, tenant), None)
