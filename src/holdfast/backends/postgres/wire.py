"""One connection, spoken to in batches: many statements, one round trip.

A batch is a pipeline that ends in one sync, so what it writes outside of a BEGIN commits together
or not at all. psycopg opens the connection; below it this speaks `psycopg.pq`, libpq itself: a
pipeline of cursors costs more time than the server takes to answer.
"""

from __future__ import annotations

import select
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import pq
from psycopg.adapt import Transformer
from psycopg.pq import DiagnosticField, ExecStatus

from holdfast.backends.postgres.binding import BINDERS, CONTEXT, numbered
from holdfast.core.errors import Corrupt

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn, PGresult

PREPARED_LIMIT: Final = 512
"""Most prepared statements of one connection; when there are more, it begins anew."""

Command = tuple[str, Sequence[Any]]

_DONE: Final = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)


class StatementFailed(Exception):
    """The server refused a statement of a batch; nothing of the batch was done."""

    def __init__(self, at: int, result: PGresult) -> None:
        def said(field: DiagnosticField) -> str:
            value = result.error_field(field)
            return "" if value is None else value.decode("utf8", "replace")

        self.at = at
        self.sqlstate = said(DiagnosticField.SQLSTATE)
        self.constraint = said(DiagnosticField.CONSTRAINT_NAME)
        self.table = said(DiagnosticField.TABLE_NAME)
        self.detail = said(DiagnosticField.MESSAGE_DETAIL)
        self.message = said(DiagnosticField.MESSAGE_PRIMARY)
        super().__init__(f"SQLSTATE {self.sqlstate}")


class ConnectionLost(Exception):
    """The connection ended. ``undone`` says that the batch certainly did not commit."""

    def __init__(self, *, undone: bool, late: bool = False) -> None:
        super().__init__("no answer in time" if late else "the connection was lost")
        self.undone = undone
        self.late = late


class Wire:
    """A connection for one thread at a time."""

    def __init__(self, conninfo: str, *, prepare: bool, answer_seconds: float | None) -> None:
        self.connection = psycopg.connect(conninfo, autocommit=True, context=CONTEXT)
        self.pg = self.connection.pgconn
        poll = select.poll()
        poll.register(self.pg.socket, select.POLLIN)
        self.poll = poll.poll
        self._transformer = Transformer(self.connection)
        self.prepares = prepare
        self.prepared: dict[str, bytes] = {}
        self._names = 0
        self._answer_seconds = answer_seconds
        self.broken = False
        self.replayed = 0
        """On a standby: up to where it had replayed the primary's log when it was last asked."""

    def is_alive(self) -> bool:
        """Whether nothing speaks against it: an idle server that says anything says goodbye."""
        return not self.broken and not self.poll(0)

    def run(self, commands: Sequence[Command], *, seconds: float | None = None) -> list[PGresult]:
        """The result of each command, all in one round trip.

        StatementFailed for the first that the server refused, ConnectionLost when it is gone.
        """
        batch = Batch(self, self._answer_seconds if seconds is None else seconds)
        batch.send(commands)
        return batch.end()

    @contextmanager
    def batch(self) -> Iterator[Batch]:
        """A batch that the block sends, takes and ends; where the block fails, it ends as well."""
        batch = Batch(self, self._answer_seconds)
        try:
            yield batch
        except Exception:
            if not batch.is_over and not self.broken:
                with suppress(StatementFailed, ConnectionLost):
                    batch.end()
            raise
        except BaseException:  # somebody is in a hurry, and what the server does may take long
            self.broken = True
            raise

    def rows(self, result: PGresult, *, of: str = "the store") -> list[tuple[Any, ...]]:
        """The rows of a result, each value as its kind is kept; ``of`` is for the error."""
        if not result.ntuples:
            return []
        self._transformer.set_pgresult(result)
        try:
            return self._transformer.load_rows(0, result.ntuples, tuple)
        except (OverflowError, ValueError) as error:  # another program's infinity, or a year 12000
            raise Corrupt(
                f"A stored value of {of} cannot be read.",
                hint="`holdfast doctor` lists such records.",
            ) from error

    def script(self, text: str) -> None:
        """Several statements without values, sent as one; all of them or none."""
        result = self.pg.exec_(text.encode())
        if result.status == ExecStatus.FATAL_ERROR:
            failed = StatementFailed(0, result)
            if _is_goodbye(self.pg, failed):
                self.broken = True
                raise ConnectionLost(undone=True)
            raise failed

    def new_name(self) -> bytes:
        """A name for a statement that is prepared on this connection."""
        self._names += 1
        return b"holdfast%d" % self._names

    def is_in_transaction(self) -> bool:
        """Whether a BEGIN waits for its end."""
        return self.pg.transaction_status != pq.TransactionStatus.IDLE

    def close(self) -> None:
        """End the connection."""
        self.broken = True
        self.connection.close()


class Batch:
    """Statements on their way to the server, and their results in the same order.

    What is sent leaves with the next `flush` or `sync`. Between those the server works on what it
    has, and more may be sent.
    """

    def __init__(self, wire: Wire, seconds: float | None) -> None:
        self._wire, self._pg = wire, wire.pg
        self._seconds = seconds
        """How long what was last sent may take to be answered."""
        self._deadline: float | None = None
        self._places: list[int] = []
        """Which command each answer is of; its sign is turned where it is no result of it."""
        self._commands = self._answers = 0
        self._fresh: dict[str, bytes] = {}
        self._failure: StatementFailed | None = None
        self._is_synced = self.is_over = False
        try:
            self._pg.enter_pipeline_mode()
            if len(wire.prepared) > PREPARED_LIMIT:
                wire.prepared.clear()
                self._pg.send_query_params(b"DEALLOCATE ALL", None)
                self._places.append(~0)
        except psycopg.OperationalError as error:
            raise self._lost(undone=True) from error

    def send(self, commands: Sequence[Command], *, answers: bool = True) -> None:
        """Queue statements, and whether their answers are results that are wanted."""
        places, at = self._places, self._commands
        try:
            for text, values in commands:
                if self._queue(text, values):
                    places.append(~at)  # its preparation
                places.append(at if answers else ~at)
                at += 1
        except psycopg.OperationalError as error:
            raise self._lost(undone=True) from error
        self._commands = at

    def flush(self) -> None:
        """Have the server begin with what is queued, and answer what it has done."""
        try:
            self._pg.send_flush_request()
        except psycopg.OperationalError as error:
            raise self._lost(undone=True) from error
        self._push()

    def sync(self) -> None:
        """Send the last of it; what stands outside of a BEGIN is committed."""
        try:
            self._pg.pipeline_sync()
        except psycopg.OperationalError as error:
            raise self._lost(undone=True) from error
        self._is_synced = True
        self._push()

    def take(self) -> PGresult:
        """The next result of what was sent. After a StatementFailed the batch is over."""
        results = self._gather(1)
        if not results:
            self.end()  # which raises
        return results[0]

    def end(self) -> list[PGresult]:
        """The results that were not taken, after `sync`."""
        if not self._is_synced:
            self.sync()
        results = self._gather(None)
        self._pg.exit_pipeline_mode()
        self.is_over = True
        if self._failure is not None:
            raise self._failure
        self._wire.prepared.update(self._fresh)
        return results

    def _queue(self, text: str, values: Sequence[Any]) -> bool:
        """Queue a statement; whether it had to be prepared first."""
        wire = self._wire
        bound = [None if v is None else BINDERS[type(v)](v) for v in values]
        # Without any bytes all are texts, which is what is meant by no formats.
        formats = [int(type(v) is bytes) for v in values] if bytes in map(type, values) else None
        if not wire.prepares:
            self._pg.send_query_params(numbered(text), bound, None, formats, 1)
            return False
        name = wire.prepared.get(text) or self._fresh.get(text)
        new = name is None
        if name is None:
            name = self._fresh[text] = wire.new_name()
            self._pg.send_prepare(name, numbered(text))
        self._pg.send_query_prepared(name, bound, formats, 1)
        return new

    def _gather(self, most: int | None) -> list[PGresult]:
        """So many results, or all up to the sync; fewer where a statement failed."""
        pg, places, at = self._pg, self._places, self._answers
        results: list[PGresult] = []
        while len(results) != most:
            if pg.is_busy():
                self._wait()
            result = pg.get_result()
            if result is None:  # the end of what one statement answers
                if pg.status != pq.ConnStatus.OK:
                    raise self._lost(undone=self._failure is not None)
                at += 1
                continue
            status = result.status
            if status in _DONE:
                if places[at] >= 0:
                    results.append(result)
            elif status == ExecStatus.PIPELINE_SYNC:
                break
            elif status == ExecStatus.FATAL_ERROR:
                self._note_failure(places[at] if at < len(places) else len(places), result)
                if most is not None:
                    break
        self._answers = at
        return results

    def _note_failure(self, place: int, result: PGresult) -> None:
        """Keep the first thing that the server refused. ConnectionLost where it says goodbye."""
        failed = StatementFailed(place if place >= 0 else ~place, result)
        if _is_goodbye(self._pg, failed):
            said = failed.sqlstate.startswith("57P") and failed.at < len(self._places)
            raise self._lost(undone=said or self._failure is not None)
        self._failure = self._failure or failed

    def _wait(self) -> None:
        """Until there is a result."""
        pg, deadline = self._pg, self._deadline
        try:
            while True:
                if not self._wire.poll(None if deadline is None else _milliseconds(deadline)):
                    raise self._lost(undone=False, late=True)
                pg.consume_input()
                if not pg.is_busy():
                    return
        except psycopg.OperationalError as error:
            raise self._lost(undone=self._failure is not None) from error

    def _push(self) -> None:
        """Send what is queued, reading what the server says meanwhile, so that neither waits."""
        pg = self._pg
        deadline = None if self._seconds is None else monotonic() + self._seconds
        self._deadline = deadline
        try:
            if not pg.flush():
                return
            both = select.poll()
            both.register(pg.socket, select.POLLIN | select.POLLOUT)
            while True:
                ready = both.poll(None if deadline is None else _milliseconds(deadline))
                if not ready:
                    raise self._lost(undone=True, late=True)
                if ready[0][1] & select.POLLIN:
                    pg.consume_input()
                if not pg.flush():
                    return
        except psycopg.OperationalError as error:
            raise self._lost(undone=False) from error

    def _lost(self, *, undone: bool, late: bool = False) -> ConnectionLost:
        self._wire.broken = True
        return ConnectionLost(undone=undone, late=late)


def _is_goodbye(pg: PGconn, failed: StatementFailed) -> bool:
    return (
        pg.status != pq.ConnStatus.OK
        or not failed.sqlstate
        or failed.sqlstate in ("57P01", "57P02", "57P05")
        or failed.sqlstate.startswith("08")
    )


def _milliseconds(deadline: float) -> int:
    return max(0, int((deadline - monotonic()) * 1000))
