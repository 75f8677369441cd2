"""One connection, spoken to in batches: many statements, one round trip.

A batch is a pipeline that ends in one sync, so what it writes outside of a BEGIN commits together
or not at all. psycopg opens the connection; below it this speaks `psycopg.pq`, libpq itself: a
pipeline of cursors costs more time than the server takes to answer.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from struct import Struct
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import msgspec
import psycopg
from psycopg import pq
from psycopg.adapt import AdaptersMap, Loader, Transformer
from psycopg.pq import DiagnosticField, ExecStatus

from holdfast.core.errors import Corrupt

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

MARK: Final = "$?"
"""One bound value in a statement's text; numbered before it is sent."""
PREPARED_LIMIT: Final = 512
"""Most prepared statements of one connection; when there are more, it begins anew."""

Command = tuple[str, Sequence[Any]]

_DONE: Final = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_micros = Struct("!q").unpack
_decode_json = msgspec.json.Decoder().decode


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


class _TimeLoader(Loader):
    format = pq.Format.BINARY

    def load(self, data: Any) -> datetime:
        return _EPOCH + timedelta(0, 0, _micros(data)[0])


class _JsonLoader(Loader):
    format = pq.Format.BINARY

    def load(self, data: Any) -> Any:
        return _decode_json(data)


class _Context:
    """How psycopg reads values for us."""

    connection = None

    def __init__(self) -> None:
        self.adapters = AdaptersMap(psycopg.adapters)
        self.adapters.register_loader("timestamptz", _TimeLoader)
        self.adapters.register_loader("json", _JsonLoader)


_CONTEXT: Final = _Context()


def _array(values: list[Any]) -> bytes:
    """An array as PostgreSQL writes one; every element is quoted, so none is a word of its own."""
    texts = [v if type(v) is str else _BINDERS[type(v)](v).decode() for v in values]
    quoted = ('"' + t.replace("\\", "\\\\").replace('"', '\\"') + '"' for t in texts)
    return ("{" + ",".join(quoted) + "}").encode()


_BINDERS: Final[dict[type, Callable[[Any], bytes]]] = {
    str: str.encode,
    int: lambda value: b"%d" % value,
    bool: lambda value: b"t" if value else b"f",
    float: lambda value: repr(value).encode(),
    datetime: lambda value: value.isoformat().encode(),
    list: _array,
    bytes: lambda value: value,
}

_numbered: dict[str, bytes] = {}


def numbered(text: str) -> bytes:
    """The statement with its marks numbered, as the server takes them."""
    found = _numbered.get(text)
    if found is None:
        first, *rest = text.split(MARK)
        found = (first + "".join(f"${n}{part}" for n, part in enumerate(rest, 1))).encode()
        if len(_numbered) > 4096:
            _numbered.clear()
        _numbered[text] = found
    return found


class Wire:
    """A connection for one thread at a time."""

    def __init__(self, conninfo: str, *, prepare: bool, answer_seconds: float | None) -> None:
        self.connection = psycopg.connect(conninfo, autocommit=True, context=_CONTEXT)
        self._pg = self.connection.pgconn
        self._poll = select.poll()
        self._poll.register(self._pg.socket, select.POLLIN)
        self._transformer = Transformer(self.connection)
        self._prepare = prepare
        self._prepared: dict[str, bytes] = {}
        self._names = 0
        self._answer_seconds = answer_seconds
        self.broken = False
        self.replayed = 0
        """On a standby: up to where it had replayed the primary's log when it was last asked."""

    def is_alive(self) -> bool:
        """Whether nothing speaks against it: an idle server that says anything says goodbye."""
        return not self.broken and not self._poll.poll(0)

    def run(self, commands: Sequence[Command], *, seconds: float | None = None) -> list[PGresult]:
        """The result of each command, all in one round trip.

        StatementFailed for the first that the server refused, ConnectionLost when it is gone.
        """
        if len(self._prepared) > PREPARED_LIMIT:
            self._prepared.clear()
            commands = [("DEALLOCATE ALL", ()), *commands]
            return self._run(commands, seconds)[1:]
        return self._run(commands, seconds)

    def _run(self, commands: Sequence[Command], seconds: float | None) -> list[PGresult]:
        fresh: list[tuple[str, bytes]] = []
        places: list[int] = []
        deadline = self._deadline(seconds)
        try:
            self._pg.enter_pipeline_mode()
            for at, (text, values) in enumerate(commands):
                if self._send(text, values, fresh):
                    places.append(~at)  # its preparation, told apart by its sign
                places.append(at)
            self._pg.pipeline_sync()
        except psycopg.OperationalError as error:
            self.broken = True
            raise ConnectionLost(undone=True) from error
        self._flush(deadline)
        results, failure = self._gather(places, deadline)
        if failure is not None:
            raise failure
        self._prepared.update(fresh)
        return results

    def _send(self, text: str, values: Sequence[Any], fresh: list[tuple[str, bytes]]) -> bool:
        """Queue a statement; whether it had to be prepared first."""
        bound = [None if v is None else _BINDERS[type(v)](v) for v in values]
        # Without any bytes all are texts, which is what is meant by no formats.
        formats = [int(type(v) is bytes) for v in values] if bytes in map(type, values) else None
        if not self._prepare:
            self._pg.send_query_params(numbered(text), bound, None, formats, 1)
            return False
        name = self._prepared.get(text)
        new = name is None
        if name is None:
            name = next((held for known, held in fresh if known is text), None)
            new = name is None
        if name is None:
            self._names += 1
            name = b"holdfast%d" % self._names
            self._pg.send_prepare(name, numbered(text))
            fresh.append((text, name))
        self._pg.send_query_prepared(name, bound, formats, 1)
        return new

    def _gather(
        self, places: list[int], deadline: float | None
    ) -> tuple[list[PGresult], StatementFailed | None]:
        pg, results = self._pg, []
        failure: StatementFailed | None = None
        at, count = 0, len(places)
        while True:
            if pg.is_busy():
                self._wait(deadline, undone=failure is not None)
            result = pg.get_result()
            if result is None:  # the end of what one statement answers
                self._check_alive(undone=failure is not None)
                at += 1
                continue
            status = result.status
            if status in _DONE:
                if places[at] >= 0:
                    results.append(result)
            elif status == ExecStatus.PIPELINE_SYNC:
                break
            elif status == ExecStatus.FATAL_ERROR:
                place = places[at] if at < count else count
                failure = failure or self._failed(place, result, count, first=failure is None)
        pg.exit_pipeline_mode()
        return results, failure

    def _failed(self, place: int, result: PGresult, count: int, *, first: bool) -> StatementFailed:
        """What the server refused. ConnectionLost where it says goodbye."""
        failed = StatementFailed(place if place >= 0 else ~place, result)
        if self._is_goodbye(failed):
            self.broken = True
            said = failed.sqlstate.startswith("57P") and failed.at < count
            raise ConnectionLost(undone=said or not first)
        return failed

    def _is_goodbye(self, failed: StatementFailed) -> bool:
        return (
            self._pg.status != pq.ConnStatus.OK
            or not failed.sqlstate
            or failed.sqlstate in ("57P01", "57P02", "57P05")
            or failed.sqlstate.startswith("08")
        )

    def _wait(self, deadline: float | None, *, undone: bool) -> None:
        """Until there is a result."""
        pg = self._pg
        try:
            while True:
                if not self._poll.poll(None if deadline is None else _milliseconds(deadline)):
                    self.broken = True
                    raise ConnectionLost(undone=False, late=True)
                pg.consume_input()
                if not pg.is_busy():
                    return
        except psycopg.OperationalError as error:
            self.broken = True
            raise ConnectionLost(undone=undone) from error

    def _check_alive(self, *, undone: bool) -> None:
        if self._pg.status != pq.ConnStatus.OK:
            self.broken = True
            raise ConnectionLost(undone=undone)

    def _flush(self, deadline: float | None) -> None:
        """Send everything, reading what the server says meanwhile, so that neither waits."""
        try:
            if not self._pg.flush():
                return
            both = select.poll()
            both.register(self._pg.socket, select.POLLIN | select.POLLOUT)
            while True:
                ready = both.poll(_milliseconds(deadline))
                if not ready:
                    self.broken = True
                    raise ConnectionLost(undone=True, late=True)
                if ready[0][1] & select.POLLIN:
                    self._pg.consume_input()
                if not self._pg.flush():
                    return
        except psycopg.OperationalError as error:
            self.broken = True
            raise ConnectionLost(undone=False) from error

    def _deadline(self, seconds: float | None) -> float | None:
        seconds = self._answer_seconds if seconds is None else seconds
        return None if seconds is None else monotonic() + seconds

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
        result = self._pg.exec_(text.encode())
        if result.status == ExecStatus.FATAL_ERROR:
            failed = StatementFailed(0, result)
            if self._is_goodbye(failed):
                self.broken = True
                raise ConnectionLost(undone=True)
            raise failed

    def is_in_transaction(self) -> bool:
        """Whether a BEGIN waits for its end."""
        return self._pg.transaction_status != pq.TransactionStatus.IDLE

    def close(self) -> None:
        """End the connection."""
        self.broken = True
        self.connection.close()


def _milliseconds(deadline: float | None) -> int | None:
    return None if deadline is None else max(0, int((deadline - monotonic()) * 1000))
