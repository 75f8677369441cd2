"""Standbys that answer reads, as far as they have come.

A standby shows the past. So a handle notes where the primary's log stood after it last wrote, and
reads from a standby that has replayed up to there, else from the primary. A write that failed
counts too: whoever lost to another writer must see what that one wrote.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, TypeVar

from psycopg.conninfo import make_conninfo

from holdfast.backends.postgres.errors import mapped
from holdfast.backends.postgres.options import Target
from holdfast.backends.postgres.pool import Pool
from holdfast.backends.postgres.wire import ConnectionLost, StatementFailed, Wire
from holdfast.core.errors import Closed, HoldfastError

T = TypeVar("T")

RETRY_SECONDS: Final = 5.0
"""How long a standby that was lost is left alone."""
HEALTH_SECONDS: Final = 3.0

_WRITTEN: Final = "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint"
_REPLAYED: Final = "SELECT (pg_last_wal_replay_lsn() - '0/0'::pg_lsn)::bigint"
_STATE: Final = (
    f"{_REPLAYED}, pg_get_wal_replay_pause_state() <> 'not paused',"
    " CASE WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0::float8"
    " ELSE extract(epoch FROM now() - pg_last_xact_replay_timestamp())::float8 END"
)


class Replicas:
    """The standbys of one handle; ``primary`` is where its writes go."""

    def __init__(self, target: Target, primary: Pool) -> None:
        hosts, ports = target.options.replica_addresses()
        conninfo = make_conninfo(
            target.conninfo, host=hosts, port=ports, target_session_attrs="standby"
        )
        self._pool = Pool(Target(conninfo, target.options, target.supabase))
        self._primary = primary
        self._mode = target.options.read_your_writes
        self._lock = threading.Lock()
        self._wrote = False
        self._needed = 0
        self._retry_at = 0.0

    def asked(self, work: Callable[[Wire], T]) -> tuple[T] | None:
        """What a standby answers; None where the primary must be asked."""
        wire = self._take()
        if wire is None:
            return None
        try:
            return (work(wire),)
        except ConnectionLost:
            self._leave_alone()
        except StatementFailed:
            pass  # the primary knows for certain: a standby also cancels what holds up its replay
        finally:
            self._pool.give(wire)
        return None

    def note_write(self, *, failed: bool) -> None:
        """The handle has written, or tried to; before whoever asked for it hears of it."""
        if self._mode == "own" or failed:
            with self._lock:
                self._wrote = True

    def facts(self) -> dict[str, Any]:
        """How far a standby is behind; a reason instead of an error."""
        told: dict[str, Any] = {"at": self._pool.target.described(), "ok": False}
        try:
            with self._primary.wire() as wire:
                [(written,)] = wire.rows(wire.run([(_WRITTEN, ())], seconds=HEALTH_SECONDS)[0])
            with self._pool.wire() as wire:
                rows = wire.rows(wire.run([(_STATE, ())], seconds=HEALTH_SECONDS)[0])
        except (HoldfastError, ConnectionLost, StatementFailed) as error:
            return told | {"reason": mapped(error).message}
        [(replayed, paused, seconds)] = rows
        self._retry_at = 0.0
        behind = max(0, written - (replayed or 0))
        return told | {
            "ok": True,
            "behind_bytes": behind,
            "behind_seconds": seconds,
            "paused": paused,
        }

    def close(self) -> None:
        """Let go of the connections."""
        self._pool.close()

    def _take(self) -> Wire | None:
        """A connection to a standby that shows what this handle wrote, if there is one now."""
        if self._mode == "always" or monotonic() < self._retry_at:
            return None
        needed = self._needed_position()
        if needed is None:
            return None
        try:
            wire = self._pool.take()
        except Closed:
            raise
        except HoldfastError:
            self._leave_alone()
            return None
        try:
            if self._shows(wire, needed):
                return wire
        except (ConnectionLost, StatementFailed):
            self._leave_alone()
        self._pool.give(wire)
        return None

    def _needed_position(self) -> int | None:
        """Where a standby's replay must have come; None right after a write, or if unknown."""
        with self._lock:
            if not self._wrote:
                return self._needed
            try:
                with self._primary.wire() as wire:
                    [(written,)] = wire.rows(wire.run([(_WRITTEN, ())])[0])
            except Closed:
                raise
            except (HoldfastError, ConnectionLost, StatementFailed):
                return None
            self._wrote, self._needed = False, written
        # A standby would hardly have it yet, and asking costs a round trip.
        return None

    def _shows(self, wire: Wire, needed: int) -> bool:
        # Asked before the read and not with it: the read's snapshot must not be the older one.
        if wire.replayed < needed:
            wire.replayed = wire.rows(wire.run([(_REPLAYED, ())])[0])[0][0] or 0
        return wire.replayed >= needed

    def _leave_alone(self) -> None:
        self._retry_at = monotonic() + RETRY_SECONDS
