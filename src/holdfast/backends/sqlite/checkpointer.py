"""Keeps the write-ahead log short: moves what is in it into the file, so that it can begin anew.

SQLite begins the log anew with a write that finds all of it in the file. Moving it means two
syncs, and at "normal" the first of them writes all that the log has gained; a commit that did all
this stood out from the others by far. So a thread does the most of it, beside the writer. As the
writer goes on meanwhile the thread never comes to an end: the last part is left to a commit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Final

import apsw

CHECKPOINT_PAGES = 1_000
"""From so many pages on, about 4 MiB, the log is moved into the file as far as readers let it. A
longer log saves moves, and still made each commit a third slower: a sync of a log that grows
writes the file system's own records too, one that begins anew is written over."""
RESTART_PAGES = 8_000
"""From so many pages on, about 32 MiB, a commit may wait for readers to begin the log anew."""
RESTART_WAIT_MS: Final = 1_000
"""How long it waits for them."""
_LAST_SHARE: Final = 4
"""A commit moves what is left once that is at most this part of the log."""
_GROWN_SHARE: Final = 8
"""After each try the log grows by this part before the next, so that readers who overlap or stay
cost little."""


class Checkpointer:
    """Watches over the log of one file, for the one writer of this process."""

    def __init__(self, connect: Callable[[], apsw.Connection], busy_ms: int) -> None:
        self._connect = connect
        self._busy_ms = busy_ms
        self._thread: threading.Thread | None = None
        self._asked: SimpleQueue[bool] = SimpleQueue()
        self._idle = threading.Event()
        self._idle.set()
        self._was_long = False
        self._moved_pages = 0
        self._tried_at_pages = 0

    def after_commit(self, writer: apsw.Connection, _: str, pages: int) -> int:
        """SQLite calls this with the log's length. The commit stands whatever becomes of that."""
        if pages < CHECKPOINT_PAGES:
            self._moved_pages = self._tried_at_pages = 0
        elif not 0 <= pages - self._tried_at_pages < pages // _GROWN_SHARE:
            self._tried_at_pages = pages
            self._shorten(writer, pages)
            self._was_long = True
        elif pages >= RESTART_PAGES:
            self._move(writer)  # a reader who stayed may be gone
        return apsw.SQLITE_OK

    def wait(self) -> None:
        """Until the thread moves nothing."""
        self._idle.wait()

    def close(self) -> None:
        """When nobody writes any more."""
        if self._thread is not None:
            self._asked.put(False)
            self._thread.join()

    def _shorten(self, writer: apsw.Connection, pages: int) -> None:
        if pages >= RESTART_PAGES:
            self._restart(writer)
        elif not self._was_long:
            self._move(writer)  # so that a process that writes a little starts no thread
        elif not self._idle.is_set() or pages - self._moved_pages <= pages // _LAST_SHARE:
            # While the thread is at it SQLite refuses at once. It may also be done with it and
            # wait for the interpreter, whom a writer that never pauses seldom lets go of.
            self._move(writer)
        else:
            self._ask(writer)

    def _move(self, connection: apsw.Connection) -> None:
        """As far as readers let it. What fails is tried again when the log has grown."""
        with suppress(apsw.Error):
            _, self._moved_pages = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def _restart(self, writer: apsw.Connection) -> None:
        """Make the moment without a reader of the log that it takes to begin anew.

        Readers that overlap never leave one: new ones read the file alone from now on, and the
        commit waits, shortly, for those that are under way.
        """
        writer.set_busy_timeout(RESTART_WAIT_MS)
        try:
            with suppress(apsw.Error):
                writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
        finally:
            writer.set_busy_timeout(self._busy_ms)

    def _ask(self, writer: apsw.Connection) -> None:
        """Have the thread move the log."""
        if self._thread is None:
            thread = threading.Thread(target=self._work, name="holdfast-checkpoint", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # none is to be had: the process ends, or is at its limit
                self._move(writer)
                return
            self._thread = thread
        self._idle.clear()
        self._asked.put(True)

    def _work(self) -> None:
        connection: apsw.Connection | None = None
        while self._asked.get():
            try:
                connection = connection or self._connect()
                self._move(connection)
            except Exception:  # noqa: BLE001
                pass  # no connection is to be had: the log grows until a commit must move it
            finally:
                self._idle.set()
        if connection is not None:
            connection.close()
