"""Writes: one round trip where the statements say all, a transaction of several where not."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from holdfast.backends.postgres.binding import MARK
from holdfast.backends.postgres.errors import REPEATABLE, lost, mapped
from holdfast.backends.postgres.journal_order import told_before_the_end
from holdfast.backends.postgres.pool import Pool
from holdfast.backends.postgres.refusals import Refusals
from holdfast.backends.postgres.step import NothingMatched, Step
from holdfast.backends.postgres.steps import Compiler
from holdfast.backends.postgres.wire import Command, ConnectionLost, StatementFailed, Wire
from holdfast.backends.sql.rows import decoded_all
from holdfast.core.change import Change, Claim, Outcome, Patch, PatchWhere
from holdfast.core.clock import Clock
from holdfast.core.errors import IdempotencyMismatch, NotFound, UnknownOutcome
from holdfast.core.turns import in_turns

if TYPE_CHECKING:
    from holdfast.backends.sql.planner import Planner

T = TypeVar("T")

ATTEMPTS: Final = 6
"""How often a write is done that was certainly undone each time, as its link was lost."""
_UNDONE_ATTEMPTS: Final = 20
"""How often one is that the server itself undid. Of writers who lock in opposite order each time
one is undone, by chance: some met it nine times in a row."""
_PAUSE_SECONDS: Final = 0.004
_PAUSE_DOUBLINGS: Final = 6
# Whatever the server's default is: who waited for a lock must see what its holder has done.
_BEGIN: Final = "BEGIN ISOLATION LEVEL READ COMMITTED"

_TELLING: Final[tuple[Command, ...]] = (
    # What the journal defers is told now: while this apply's settings hold, or before a vector
    # changes again.
    ("SET CONSTRAINTS ALL IMMEDIATE", ()),
    ("SET CONSTRAINTS ALL DEFERRED", ()),
)
_CLOSING: Final[tuple[Command, ...]] = (*_TELLING, ("RELEASE holdfast_apply", ()))
_UNDOING: Final[tuple[Command, ...]] = (
    ("ROLLBACK TO holdfast_apply", ()),
    ("RELEASE holdfast_apply", ()),
)

_decode_outcomes = msgspec.msgpack.Decoder(list[Outcome]).decode
_encode_outcomes = msgspec.msgpack.Encoder().encode


class _Group(threading.local):
    wire: Wire | None = None
    is_open = False


class Operation(msgspec.Struct, frozen=True):
    """One apply: what to do, for whom, and under which operation id."""

    tenant: str
    changes: Sequence[Change]
    op_id: str | None
    body: bytes


class Transactions:
    """Does applies on connections of a pool; ``schema`` is quoted."""

    def __init__(
        self,
        pool: Pool,
        planner: Planner,
        compiler: Compiler,
        clock: Clock,
        *,
        schema: str,
        settings: str,
    ) -> None:
        self._pool = pool
        self._planner = planner
        self._compiler = compiler
        self._clock = clock
        self._refusals = Refusals(planner)
        self._schema = schema
        self._enter = f"SELECT {schema}.holdfast_enter({MARK}, {MARK}, {MARK}){settings}"
        self._group = _Group()

    # --- connections

    def open_wire(self) -> Wire | None:
        """The connection whose uncommitted writes this thread may see: that of its open group."""
        return self._group.wire

    def is_grouped(self) -> bool:
        """Whether this thread's applies share a commit that has not come yet."""
        return self._group.is_open

    @contextmanager
    def group(self) -> Iterator[None]:
        """Let this thread's applies share one commit, made when the block ends."""
        local = self._group
        if local.is_open:
            yield
            return
        local.is_open = True
        try:
            yield
        except BaseException:
            self._end_group("ROLLBACK")
            raise
        self._end_group("COMMIT")

    def _end_group(self, word: str) -> None:
        local = self._group
        wire, local.wire, local.is_open = local.wire, None, False
        if wire is None:
            return
        try:
            wire.run([(word, ())])
        except ConnectionLost as error:
            if word == "COMMIT":
                raise _unknown(None) from error
        except StatementFailed as error:
            raise mapped(error) from error
        finally:
            self._pool.give(wire)

    # --- applies

    def apply(self, operation: Operation) -> list[Outcome]:
        """The outcomes, durable when this returns; in a group, when that ends."""
        if self._group.is_open:
            return self._in_group(operation)
        return self._repeated(operation.op_id, lambda wire: self._alone(wire, operation))

    def repeated(self, work: Callable[[Wire], T]) -> T:
        """``work`` on a connection, in a transaction of its own."""

        def whole(wire: Wire) -> T:
            wire.run([(_BEGIN, ())])
            result = work(wire)
            _commit(wire)
            return result

        return self._repeated(None, whole)

    def _repeated(self, op_id: str | None, work: Callable[[Wire], T]) -> T:
        """Repeat what was certainly undone, and what an operation id makes safe to repeat."""
        for attempt in range(_UNDONE_ATTEMPTS):
            wire = self._pool.take()
            try:
                return work(wire)
            except StatementFailed as error:
                _roll_back(wire)
                if attempt == _UNDONE_ATTEMPTS - 1 or error.sqlstate not in REPEATABLE:
                    raise mapped(error) from error
            except ConnectionLost as error:
                if not error.undone and op_id is None:
                    raise _unknown(op_id) from error
                if attempt >= ATTEMPTS - 1 or error.late:
                    raise (lost(error) if error.undone else _unknown(op_id)) from error
            except BaseException:
                _roll_back(wire)
                raise
            finally:
                self._pool.give(wire)
            doubled = 2 ** min(attempt, _PAUSE_DOUBLINGS)
            time.sleep(_PAUSE_SECONDS * doubled * (0.5 + random.random()))
        raise AssertionError("unreachable")

    def _alone(self, wire: Wire, operation: Operation) -> list[Outcome]:
        """One apply with a commit of its own."""
        compiler, tenant, changes = self._compiler, operation.tenant, operation.changes
        plain = operation.op_id is None and not any(map(compiler.needs_reading, changes))
        if plain and not (len(changes) > 1 and told_before_the_end(self._planner, changes)):
            bare = compiler.bare(tenant, changes[0]) if len(changes) == 1 else None
            if bare is not None:
                try:
                    return self._do(wire, [self._entering(operation)], [bare])
                except NothingMatched:
                    pass  # the guarded form says why, or finds that it would match by now
            steps = [compiler.step(tenant, change) for change in in_turns(changes)]
            # Without a BEGIN, all up to the sync is one transaction, and the sync commits it.
            return self._do(wire, [self._entering(operation)], steps)
        opening = [(_BEGIN, ()), self._entering(operation)]
        outcomes = self._whole(wire, operation, opening)
        if outcomes is None:
            _roll_back(wire)
            return self._known(wire, operation)
        _commit(wire)
        return outcomes

    def _in_group(self, operation: Operation) -> list[Outcome]:
        local = self._group
        opening: list[Command] = [("SAVEPOINT holdfast_apply", ()), self._entering(operation)]
        if local.wire is None:
            local.wire = self._pool.take()
            opening.insert(0, (_BEGIN, ()))
        wire = local.wire
        try:
            outcomes = self._whole(wire, operation, opening, _CLOSING)
            if outcomes is None:
                wire.run(_UNDOING)
                return self._known(wire, operation)
            return outcomes
        except ConnectionLost as error:
            raise lost(error) from error
        except BaseException as error:
            if not wire.broken:
                wire.run(_UNDOING)
            if isinstance(error, StatementFailed):
                raise mapped(error) from error
            raise

    def _whole(
        self,
        wire: Wire,
        operation: Operation,
        opening: list[Command],
        closing: Sequence[Command] = (),
    ) -> list[Outcome] | None:
        """The outcomes inside a transaction; None where the operation id is known already.

        ``closing`` goes with the last statements, and costs no round trip of its own.
        """
        tenant, op_id = operation.tenant, operation.op_id
        table = f"{self._schema}.holdfast_operations"
        if op_id is not None:
            # Of twins, one waits here for the other's commit.
            text = f"INSERT INTO {table} VALUES ({MARK}, {MARK}, {MARK}, '', {MARK})"
            opening.append((text, [tenant, op_id, operation.body, self._clock.now()]))
        try:
            outcomes = self._stepwise(wire, operation, opening, () if op_id else closing)
        except StatementFailed as error:
            if error.constraint == "holdfast_operations_pkey":
                return None
            raise
        if op_id is not None:
            text = f"UPDATE {table} SET outcomes = {MARK} WHERE tenant = {MARK} AND op_id = {MARK}"
            wire.run([(text, [_encode_outcomes(outcomes), tenant, op_id]), *closing])
        return outcomes

    def _stepwise(
        self,
        wire: Wire,
        operation: Operation,
        opening: list[Command],
        closing: Sequence[Command],
    ) -> list[Outcome]:
        """All changes in order, in one round trip for each run of those that need no reading."""
        outcomes: list[Outcome] = []
        steps: list[Step] = []
        told = told_before_the_end(self._planner, operation.changes)
        for at, change in enumerate(operation.changes):
            telling = _TELLING if at in told else ()
            if not self._compiler.needs_reading(change):
                step = self._compiler.step(operation.tenant, change)
                step.commands.extend(telling)
                steps.append(step)
                continue
            assert isinstance(change, Patch | PatchWhere | Claim)
            outcomes += self._do(wire, opening, steps)
            opening, steps = [], []
            outcomes.append(self._after_reading(wire, operation.tenant, change))
            if telling:
                wire.run(telling)
        return outcomes + self._do(wire, opening, steps, closing)

    def _after_reading(
        self, wire: Wire, tenant: str, change: Patch | PatchWhere | Claim
    ) -> Outcome:
        """A change whose records must be read first: each is then patched by its key."""
        collection = self._planner.collections[change.collection]
        columns = self._planner.columns(change.collection)
        rows = wire.rows(wire.run([self._compiler.readable(tenant, change)])[0])
        records = decoded_all(collection, columns, rows)
        if isinstance(change, Patch):
            if not records:
                raise NotFound("There is no such record.")
            return self._do(wire, [], [self._compiler.step(tenant, change, records[0])])[0]
        patches = [
            Patch(change.collection, collection.key_of(record), change.edit) for record in records
        ]
        steps = [
            self._compiler.step(tenant, patch, record)
            for patch, record in zip(patches, records, strict=True)
        ]
        done = self._do(wire, [], steps)
        if isinstance(change, PatchWhere):
            return Outcome(len(done))
        return Outcome(len(done), tuple(outcome.record for outcome in done))

    def _do(
        self,
        wire: Wire,
        opening: list[Command],
        steps: list[Step],
        closing: Sequence[Command] = (),
    ) -> list[Outcome]:
        """Steps in one round trip."""
        commands = [*opening, *[command for step in steps for command in step.commands], *closing]
        if not commands:
            return []
        try:
            results = wire.run(commands)
        except StatementFailed as error:
            at = error.at - len(opening)
            for step in steps if at >= 0 else ():
                if at < len(step.commands):
                    refusal = self._refusals.of(error, step.change)
                    if refusal is not None:
                        raise refusal from error
                at -= len(step.commands)
            raise
        outcomes, at = [], len(opening)
        for step in steps:
            outcomes.append(step.finish(wire, results[at : at + len(step.commands)]))
            at += len(step.commands)
        return outcomes

    def _known(self, wire: Wire, operation: Operation) -> list[Outcome]:
        """What an operation that was done before had answered."""
        text = (
            f"SELECT body, outcomes FROM {self._schema}.holdfast_operations"
            f" WHERE tenant = {MARK} AND op_id = {MARK}"
        )
        asked = (text, [operation.tenant, operation.op_id])
        rows = wire.rows(wire.run([self._entering(operation), asked])[1])
        if not rows:  # swept at this very moment
            raise ConnectionLost(undone=True)
        body, outcomes = rows[0]
        if body != operation.body:
            raise IdempotencyMismatch("This operation id was used with another body.")
        return _decode_outcomes(outcomes)

    def _entering(self, operation: Operation) -> Command:
        moment = self._clock.now().isoformat()
        return self._enter, [operation.tenant, operation.op_id or "", moment]


def _commit(wire: Wire) -> None:
    """COMMIT. Only a connection that ends in here leaves the outcome unknown."""
    try:
        wire.run([("COMMIT", ())])
    except ConnectionLost as error:
        raise ConnectionLost(undone=False) from error


def _roll_back(wire: Wire) -> None:
    if wire.broken or not wire.is_in_transaction():
        return
    try:
        wire.run([("ROLLBACK", ())])
    except (ConnectionLost, StatementFailed):
        wire.broken = True


def _unknown(op_id: str | None) -> UnknownOutcome:
    return UnknownOutcome(
        "The connection was lost before the answer came; the write may have happened.",
        hint="Look, or repeat it with the same operation id.",
        op_id=op_id,
    )
