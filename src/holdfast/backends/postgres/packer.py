"""The thread in which a driver packs fresh texts, and what asks for it."""

from __future__ import annotations

import threading

from holdfast.backends.postgres.dialect import PostgresDialect
from holdfast.backends.postgres.errors import ENGINE_ERRORS
from holdfast.backends.postgres.pool import Pool
from holdfast.core.collection import Collection
from holdfast.core.errors import HoldfastError

FAILURE_LIMIT = 5
"""After so many failures a driver no longer tries: it may not, or it is on a replica."""
_VOID_SHARE = 8
_WAITED = ("55P03", "40P01", "40001")
"""Another transaction was in the way: the lock's timeout, a deadlock, a serialization failure."""


class Packer:
    """Packs what searches found to be fresh, one tenant's texts after the other.

    Its thread begins with the first search that finds many. Searches are right without it.
    """

    def __init__(self, pool: Pool, dialect: PostgresDialect, tail_rows: int) -> None:
        self.tail_rows = tail_rows
        self.last_error = ""
        self._pool = pool
        self._dialect = dialect
        self._wanted: dict[tuple[str, str], Collection] = {}
        self._state = threading.Condition()
        self._failures = 0
        self._closed = False
        self._thread: threading.Thread | None = None

    def found(
        self, collection: Collection, tenant: str, fresh: int, voids: int, packed: int
    ) -> None:
        """What a search saw; if it is much, it is packed soon."""
        if fresh < self.tail_rows and voids * _VOID_SHARE <= max(packed, self.tail_rows):
            return
        with self._state:
            if self._closed or self._failures >= FAILURE_LIMIT:
                return
            self._wanted[collection.name, tenant] = collection
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="holdfast-pack", daemon=True
                )
                self._thread.start()
            self._state.notify_all()

    def run(self, collection: Collection, tenant: str) -> int:
        """Pack, in this thread, until nothing is left to do; how often that was."""
        from holdfast.backends.postgres.packing import pack  # which loads numpy

        count = 0
        while not self._closed:
            with self._pool.wire() as wire:
                if not pack(wire, self._dialect, collection, tenant, self.tail_rows):
                    break
            count += 1
        return count

    def wait(self) -> None:
        """Until nothing is asked for any more."""
        with self._state:
            self._state.wait_for(lambda: self._closed or not self._wanted)

    def close(self) -> None:
        """End after what is under way."""
        with self._state:
            self._closed = True
            self._state.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _work(self) -> None:
        while True:
            with self._state:
                self._state.wait_for(lambda: self._closed or bool(self._wanted))
                if self._closed:
                    return
                (name, tenant), collection = next(iter(self._wanted.items()))
            try:
                self.run(collection, tenant)
                self._failures = 0
            except (HoldfastError, *ENGINE_ERRORS) as error:
                # Searches are right without it, and the next one asks again.
                self._failures += getattr(error, "sqlstate", "") not in _WAITED
                self.last_error = getattr(error, "code", type(error).__name__)
            with self._state:
                self._wanted.pop((name, tenant), None)
                self._state.notify_all()
