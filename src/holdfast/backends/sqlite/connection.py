"""Connections to one SQLite file: one for writing, a pool for reading."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, Literal

import apsw

from holdfast.backends.sqlite import guard
from holdfast.backends.sqlite.dialect import append_json, merge_json
from holdfast.backends.sqlite.errors import mapped
from holdfast.backends.sqlite.header import (
    BUSY_SECONDS,
    READ_ONLY,
    check_header,
    check_whole,
    leave_log,
    unchanging,
)
from holdfast.core.clock import monotonic
from holdfast.core.errors import Busy, Closed, Invalid, Unavailable
from holdfast.core.files import owned
from holdfast.core.values import check_bool

Durability = Literal["full", "normal"]

BUSY_SECONDS_LIMIT: Final = 3600
WAL_LIMIT_BYTES: Final = 64 * 1024 * 1024
"""What the write-ahead log shrinks back to after a checkpoint."""
CHECKPOINT_PAGES = 1_000
"""From so many pages on, about 4 MiB, a commit moves the log into the file as far as readers let
it. A longer log saves moves, and still made each commit a third slower: a sync of a log that grows
writes the file system's own records too, one that begins anew is written over."""
RESTART_PAGES = 8_000
"""From so many pages on, about 32 MiB, a commit may wait for readers to begin the log anew."""
RESTART_WAIT_MS: Final = 1_000
"""How long it waits for them."""
GROWN_SHARE: Final = 8
"""After a try that left something the log grows by this part before the next, so that a reader who
stays costs little."""
POOL_SIZE: Final = 16
"""Idle read connections that are kept."""
SHARED: Final = apsw.SQLITE_OPEN_READWRITE
"""Of a connection that several threads may use at once: those that are given away. None makes the
file: where it was deleted, an empty one in its place would be taken for the store."""
_OWN: Final = SHARED | apsw.SQLITE_OPEN_NOMUTEX
_STATEMENT_CACHE: Final = 512
_OPENING: Final = threading.Lock()
"""Nobody looks at a file's header by other means while a handle on it comes into being."""


def fetched(
    on: apsw.Connection | apsw.Cursor, text: str, values: Sequence[Any] = ()
) -> list[tuple[Any, ...]]:
    """Every row of a statement, which is finished with it."""
    return on.execute(text, values).fetchall()


class Connection(apsw.Connection):
    """A connection that keeps a cursor: making one for a statement costs as much as a short one."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.kept = self.cursor()
        """For statements one after the other: each is read to its end before the next."""

    def rows(self, text: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """What `fetched` gives, on the cursor that is kept."""
        return fetched(self.kept, text, values)


class ConnectionPool:
    """The write connection and the readers of one file, opened alike."""

    def __init__(
        self,
        path: str,
        *,
        durability: Durability = "full",
        busy_seconds: float = BUSY_SECONDS,
        vfs: str | None = None,
        immutable: bool = False,
    ) -> None:
        if durability not in ("full", "normal"):
            raise Invalid("durability", expected='"full" or "normal"', got=repr(durability))
        if not 0 <= busy_seconds <= BUSY_SECONDS_LIMIT:
            expected = f"seconds from 0 to {BUSY_SECONDS_LIMIT}"
            raise Invalid("busy_seconds", expected=expected, got=repr(busy_seconds))
        self.durability = durability
        self.busy_seconds = busy_seconds
        self.immutable = check_bool("immutable", immutable)
        """Whether the caller vouches that nobody writes to the file, nor do we."""
        self._vfs = vfs
        self._idle: list[Connection] = []
        self._closed = self._settled = False
        try:
            with _OPENING:
                self.path = os.path.abspath(path)
                guard.check_alone(self.path)
                guard.check_name(self.path)
                if immutable:
                    check_whole(self.path)
                check_header(self.path, vfs, immutable=immutable, go_on=durability == "normal")
                if not os.path.exists(self.path):
                    with suppress(FileExistsError):
                        create(self.path)
                self._mark = guard.hold(self.path)
        except OSError as error:
            raise mapped(error) from error
        self._checkpoint_tried_at = 0
        self._place: tuple[int, int] | None = None
        try:
            self.writer = self._connect_writer()
            # Not before: file systems of layers may give a file a new number when it is first
            # opened for writing.
            self._place = guard.identity(self.path)
            self.locks = guard.Locks(None)
        except BaseException:
            guard.release(self._mark)
            raise

    def connect(self, *, flags: int = _OWN) -> Connection:
        """A new connection with this store's settings; for one thread at a time, as it is opened.

        SQLite's lock on a connection would be taken for every value that is read. Ours need none:
        a reader is lent to one thread, and whoever leads has the writer.
        """
        self.check_place()
        name = self.path
        if self.immutable:
            name, flags = unchanging(self.path), flags & ~SHARED | READ_ONLY
        try:
            connection = Connection(name, flags, statementcachesize=_STATEMENT_CACHE, vfs=self._vfs)
        except Exception as error:
            raise mapped(error) from error
        try:
            self._configure(connection)
        except Exception as error:
            connection.close()
            raise mapped(error) from error
        return connection

    def settle(self) -> None:
        """Keep a log of the file from now on: it was looked at, and is one to write to."""
        if self._settled or self.immutable:
            return
        try:
            self._keep_log(self.writer)
        except Exception as error:
            raise mapped(error) from error
        self._settled = True
        self.locks = _locks_of(self.writer, self._place)

    def _keep_log(self, connection: Connection) -> None:
        _enter_wal(connection, self.busy_seconds)  # synced whatever becomes of later commits
        connection.execute(f"PRAGMA synchronous={self.durability}")

    def _connect_writer(self) -> Connection:
        connection = self.connect()
        connection.set_wal_hook(self._checkpoint)
        return connection

    def _checkpoint(self, connection: apsw.Connection, _: str, pages: int) -> int:
        """After a commit: move a long log into the file, and begin it anew.

        Beginning anew takes a moment without a reader of the log. Readers that overlap never leave
        one, so beyond `RESTART_PAGES` it is made: new readers read the file alone, and the commit
        waits, shortly, for those that are under way.
        """
        if pages < CHECKPOINT_PAGES:
            self._checkpoint_tried_at = 0
            return apsw.SQLITE_OK
        mode = apsw.SQLITE_CHECKPOINT_PASSIVE
        if 0 <= pages - self._checkpoint_tried_at < pages // GROWN_SHARE:
            if pages < RESTART_PAGES:  # beyond, as soon as a reader who stayed has gone
                return apsw.SQLITE_OK
        else:
            self._checkpoint_tried_at = pages
            if pages >= RESTART_PAGES:
                mode = apsw.SQLITE_CHECKPOINT_RESTART
        try:
            connection.set_busy_timeout(RESTART_WAIT_MS)
            connection.wal_checkpoint(mode=mode)
        except apsw.Error:
            pass  # the commit stands whatever becomes of the log; a later one tries again
        finally:
            connection.set_busy_timeout(int(self.busy_seconds * 1000))
        return apsw.SQLITE_OK

    def _configure(self, connection: Connection) -> None:
        connection.set_busy_timeout(int(self.busy_seconds * 1000))
        connection.enable_load_extension(False)
        # Without this, whatever has a bound limit, or a partial index beside it, is planned anew
        # at each run; `FilterPlanner` writes out the few values that a plan hangs on.
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        if self._settled:
            self._keep_log(connection)
        if not self.immutable:
            connection.execute(f"PRAGMA journal_size_limit={WAL_LIMIT_BYTES}")
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.execute("PRAGMA secure_delete=FAST")
        functions = (("holdfast_append", append_json), ("holdfast_merge", merge_json))
        for name, function in functions:
            connection.create_scalar_function(name, function, 2, deterministic=True)

    def check_place(self) -> None:
        """Unavailable when another file, or none, is at the path: what is written would be lost."""
        place = guard.identity(self.path)
        if place is None or place != (self._place or place):
            raise Unavailable(
                "The file was moved, deleted or replaced while it was open.",
                hint="Nothing was written. Close this handle, and open the file where it is.",
            )

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A read connection for this block alone."""
        connection = self.take()
        try:
            yield connection
        finally:
            self.give(connection)

    def take(self) -> Connection:
        """An idle read connection, or a new one; `give` it back."""
        try:
            return self._idle.pop()
        except IndexError:
            pass
        if self._closed:
            raise Closed("The store is closed.")
        connection = self.connect()
        connection.execute("PRAGMA query_only=ON")
        return connection

    def give(self, connection: Connection) -> None:
        """Return what `take` gave; not one that an interrupt left in a read, and so in the past."""
        if self._closed or len(self._idle) >= POOL_SIZE or connection.in_transaction:
            connection.close()
        else:
            self._idle.append(connection)

    def reopen_writer(self) -> None:
        """Replace the write connection after a failed sync: its page cache is not to be trusted."""
        self.writer.close(force=True)
        self.writer = self._connect_writer()

    def close(self) -> None:
        """Close every connection; the last one out checkpoints the log, unless it only looked."""
        if self._closed:
            return
        self._closed = True
        while self._idle:
            self._end(self._idle.pop())
        self._end(self.writer)
        guard.release(self._mark)

    def _end(self, connection: Connection) -> None:
        if not self._settled:
            leave_log(connection, self.path)
        connection.close()


def _locks_of(connection: Connection, place: tuple[int, int] | None) -> guard.Locks:
    """The lock that a connection takes at its first read, and keeps until it is closed."""
    try:
        connection.pragma("schema_version")
    except apsw.Error as error:
        raise mapped(error) from error
    return guard.Locks(place)


def create(path: str) -> None:
    """Make an empty file that its owner alone can read; a link in its place is not followed.

    SQLite gives the logs and journals beside a file the mode of that file.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    os.close(owned(path, flags))


def _enter_wal(connection: apsw.Connection, busy_seconds: float) -> None:
    """Switch to write-ahead logging. The switch ignores the busy timeout, so it is repeated."""
    deadline = monotonic() + busy_seconds
    while True:
        try:
            mode = connection.execute("PRAGMA journal_mode=WAL").get
        except apsw.BusyError:
            mode = "busy"
        if mode == "wal":
            return
        if monotonic() > deadline:
            raise Busy("The file could not be switched to write-ahead logging.")
        time.sleep(0.005)
