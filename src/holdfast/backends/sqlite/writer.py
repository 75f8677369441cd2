"""Group commit: concurrent writers share one transaction and one sync, and fail one by one.

Whoever finds nobody writing leads: it runs its own work and all that waits, commits once, and
hands over. A lone writer pays two uncontended locks for it. Nothing is answered before the commit.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Generic, TypeVar, cast

import apsw

from holdfast.backends.sqlite.connection import Connection, ConnectionPool
from holdfast.backends.sqlite.errors import mapped
from holdfast.backends.sqlite.known import Known
from holdfast.core.errors import Closed, HoldfastError, UnknownOutcome

T = TypeVar("T")

Work = Callable[[Connection], T]

BATCH_LIMIT: Final = 256
"""Most units in one commit, so that the first of them does not wait for ever."""


class _Turn(Generic[T]):
    """One caller's unit: what to run, and what came of it."""

    __slots__ = ("_woken", "error", "followers", "repeatable", "result", "work")

    def __init__(self, work: Work[T], repeatable: bool) -> None:
        self.work = work
        self.repeatable = repeatable
        self.result: T | None = None
        self.error: BaseException | None = None
        self.followers: Iterable[_Turn[Any]] = ()
        """Those whose units this one runs, and who wait for it."""
        self._woken: threading.Lock | None = None

    def queue(self) -> None:
        """Make ready to be waited on."""
        self._woken = threading.Lock()
        self._woken.acquire()

    def wait(self) -> None:
        """Until another thread has run the unit, or lets this one lead."""
        assert self._woken is not None
        self._woken.acquire()

    def wake(self) -> None:
        """End the wait; may be repeated."""
        if self._woken is not None and self._woken.locked():
            self._woken.release()


class _Local(threading.local):
    """What a thread knows of its own group."""

    grouped = False
    begun = False
    lost: Exception | None = None
    units: _Units


class Writer:
    """The one writer of a file in this process."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._state = threading.Lock()
        self._leader: _Turn[Any] | None = None
        self._closed = False
        self._waiting: deque[_Turn[Any]] = deque()
        self._local = _Local()
        self.known = Known()

    def run(self, work: Work[T], *, repeatable: bool = False) -> T:
        """Run ``work`` in a transaction, durable when this returns.

        ``repeatable`` work changes rows only, keeps `known` true, and may be run again after it
        was rolled back.
        """
        own = _Turn(work, repeatable)
        if self._local.grouped:
            return self._run_grouped(own)
        try:
            if self._take_turn(own):
                self._lead(own)
        except Exception as error:  # noqa: BLE001
            self._abandon(own)
            own.error = error
        except BaseException:
            self._abandon(own)
            raise
        return _answer(own)

    @contextmanager
    def group(self) -> Iterator[None]:
        """Let this thread's runs share one commit, made when the block ends."""
        local = self._local
        if local.grouped:
            yield
            return
        local.grouped, local.begun = True, False
        try:
            yield
        except BaseException:
            self._end_group(commit=False)
            raise
        self._end_group(commit=True)

    @property
    def open_connection(self) -> Connection | None:
        """The connection whose uncommitted writes this thread may see: that of its open group."""
        return self._pool.writer if self._local.begun else None

    def close(self) -> None:
        """Wait for the writes under way; those that come later say Closed."""
        own = _Turn(_nothing, True)
        try:
            self._take_lead(own)
            with self._state:
                self._closed = True
                own.followers, self._waiting = self._waiting, deque()
            for turn in own.followers:
                turn.error = Closed("The store is closed.", hint="Open it again.")
                turn.wake()
        except Closed:
            return
        except BaseException:
            self._abandon(own)
            raise

    # --- turns

    def _take_turn(self, turn: _Turn[T]) -> bool:
        """Whether this thread leads from now on; otherwise another has run the unit by now."""
        with self._state:
            if self._closed:
                raise Closed("The store is closed.", hint="Open it again.")
            if self._leader is None:
                self._leader = turn
                return True
            turn.queue()
            self._waiting.append(turn)
        turn.wait()
        return self._leader is turn

    def _take_lead(self, turn: _Turn[None]) -> None:
        """Wait until this thread leads, with nothing of its own to run yet."""
        while not self._take_turn(turn):
            pass

    def _abandon(self, own: _Turn[Any]) -> None:
        """Give up a turn that an interrupt ended, so that nobody waits for a thread that has gone.

        What it ran for others must not look like success to them.
        """
        with self._state:
            for turn in (own, *own.followers):
                if turn in self._waiting:
                    self._waiting.remove(turn)
        for turn in own.followers:
            turn.error = turn.error or UnknownOutcome(
                "The write was interrupted; it may have happened.",
                hint="Look, or repeat it with the same operation id.",
            )
        self._finish(own)

    def _finish(self, own: _Turn[Any]) -> None:
        """Wake those whose units this thread has run, and let the next one lead."""
        for turn in own.followers:
            turn.wake()
        if self._leader is own:
            self._hand_over()

    def _hand_over(self) -> None:
        with self._state:
            successor = self._waiting.popleft() if self._waiting else None
            self._leader = successor
        if successor is not None:
            successor.wake()

    def _lead(self, own: _Turn[Any]) -> None:
        if self._waiting:
            followers: list[_Turn[Any]] = []
            own.followers = followers
            with self._state:
                while self._waiting and len(followers) < BATCH_LIMIT - 1:
                    followers.append(self._waiting[0])
                    self._waiting.popleft()
        self._commit_together([own, *own.followers])
        self._finish(own)

    def _commit_together(self, turns: list[_Turn[Any]]) -> None:
        connection = self._pool.writer
        try:
            self._begin(connection)
            if len(turns) == 1:
                turns[0].result = turns[0].work(connection)
                if not turns[0].repeatable:
                    self.known.forget()
            else:
                units = _Units(connection, self.known)
                for turn in turns:
                    units.run(turn)
            self._commit(connection)
        except BaseException as error:
            self._roll_back(error)
            if not isinstance(error, Exception):
                raise
            failure = mapped(error)
            failure.__cause__ = None if failure is error else error
            for turn in turns:
                turn.error = turn.error or failure

    def _begin(self, connection: Connection) -> None:
        self._pool.check_place()
        self._pool.locks.check()
        connection.kept.execute("BEGIN IMMEDIATE")
        self.known.begin(connection)

    def _commit(self, connection: Connection) -> None:
        connection.kept.execute("COMMIT")
        self.known.committed(connection)

    def _roll_back(self, error: BaseException) -> None:
        self.known.forget()
        connection = self._pool.writer
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if isinstance(error, apsw.IOError | apsw.FullError):
            self._pool.reopen_writer()

    # --- groups

    def _run_grouped(self, turn: _Turn[T]) -> T:
        local = self._local
        if not local.begun:
            self._begin_group()
        if local.lost is not None:
            raise mapped(local.lost) from local.lost
        try:
            local.units.run(turn)
        except Exception as error:
            # SQLite gave the whole transaction up (a full disk does that), and with it what
            # the group wrote before: nothing may be written outside of it, and none has happened.
            local.lost = error
            raise mapped(error) from error
        return _answer(turn)

    def _begin_group(self) -> None:
        own = _Turn(_nothing, True)
        try:
            self._take_lead(own)
            self._begin(self._pool.writer)
            self._local.lost = None
            self._local.units = _Units(self._pool.writer, self.known)
            self._local.begun = True
        except BaseException as error:
            self._local.begun = False
            try:
                if self._leader is own:
                    self._roll_back(error)
            finally:
                self._abandon(own)
            if isinstance(error, Exception):
                raise mapped(error) from error
            raise

    def _end_group(self, *, commit: bool) -> None:
        local = self._local
        local.grouped = False
        if not local.begun:
            return
        local.begun = False
        try:
            if local.lost is not None:
                self._roll_back(local.lost)
                if commit:
                    raise local.lost
            elif commit:
                self._commit(self._pool.writer)
            else:
                self.known.forget()
                self._pool.writer.kept.execute("ROLLBACK")
        except BaseException as error:
            self._roll_back(error)
            if isinstance(error, Exception):
                raise mapped(error) from error
            raise
        finally:
            self._hand_over()


def _nothing(_: Connection) -> None:
    return None


class _Units:
    """The units of one open transaction: one that fails leaves no trace, and the others stay.

    A savepoint for each would cost as much as a statement, and few units fail after they have
    written. So all but the first share one until that happens. Then everything since is taken back,
    the units before the failed one are repeated, to the same effect because nobody else has written
    meanwhile, and each that follows has a savepoint of its own. The first is taken back with the
    transaction: behind a savepoint SQLite copies each page that is written, and often it is alone.
    """

    def __init__(self, connection: Connection, known: Known) -> None:
        self._connection = connection
        self._known = known
        self._untouched = True
        self._done: list[Work[Any]] | None = []

    def run(self, turn: _Turn[Any]) -> None:
        """Run one unit, and note in its turn what came of it.

        Raises what made SQLite give the whole transaction up.
        """
        if self._untouched and turn.repeatable:
            self._run_first(turn)
            return
        if self._done is None or not turn.repeatable:
            self._untouched, self._done = False, None
            self._run_in_savepoint(turn)
            return
        before = self._connection.total_changes()
        try:
            turn.result = turn.work(self._connection)
            self._done.append(turn.work)
        except Exception as error:
            if not self._connection.in_transaction:
                raise
            turn.error = error
            if self._connection.total_changes() != before:
                self._repeat(self._done)

    def _run_first(self, turn: _Turn[Any]) -> None:
        """Run a unit before which nothing was written: with it the transaction is taken back."""
        connection = self._connection
        before = connection.total_changes()
        try:
            turn.result = turn.work(connection)
            connection.kept.execute("SAVEPOINT units")
            self._untouched = False
        except Exception as error:
            if not connection.in_transaction:
                raise
            turn.error = error
            if connection.total_changes() != before:
                self._known.forget()
                connection.kept.execute("ROLLBACK")
                connection.kept.execute("BEGIN IMMEDIATE")
                self._known.begin(connection)

    def _repeat(self, done: list[Work[Any]]) -> None:
        self._done = None
        self._connection.kept.execute("ROLLBACK TO units")
        self._known.forget()
        for work in done:
            work(self._connection)

    def _run_in_savepoint(self, turn: _Turn[Any]) -> None:
        connection = self._connection
        connection.kept.execute("SAVEPOINT unit")
        try:
            turn.result = turn.work(connection)
        except Exception as error:
            if not connection.in_transaction:
                raise
            connection.kept.execute("ROLLBACK TO unit")
            turn.error = error
        if turn.error is not None or not turn.repeatable:
            self._known.forget()
        connection.kept.execute("RELEASE unit")


def _answer(turn: _Turn[T]) -> T:
    if turn.error is None:
        return cast("T", turn.result)
    if isinstance(turn.error, HoldfastError) or not isinstance(turn.error, Exception):
        raise turn.error
    raise mapped(turn.error) from turn.error
