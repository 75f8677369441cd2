"""Time and identity, injected everywhere so that tests never sleep and never guess."""

from __future__ import annotations

import itertools
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from holdfast.core.values import EPOCH, check_time

_FIRST: Final = datetime.min.replace(tzinfo=UTC)
_LAST: Final = datetime.max.replace(tzinfo=UTC)
_NOTHING: Final = timedelta(0)


class Clock(Protocol):
    """Source of instants. Expiry, leases, windows and decay use nothing else."""

    def now(self) -> datetime:
        """The present instant, aware, in UTC, in microseconds."""
        ...


class Ids(Protocol):
    """Source of new record ids."""

    def new(self) -> str:
        """A new id, unique, and sorting after those made before it by the same source."""
        ...

    def secret(self) -> str:
        """A new key of 256 bits as 64 hex digits, which nobody can guess."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        now = datetime.now(UTC)
        # A test that stops the clock puts a class of its own in datetime's place.
        return now if type(now) is type(EPOCH) else check_time("clock", now)


class CheckedClock:
    """A caller's clock: whatever class its instants are of, plain ones in UTC are what it tells."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def now(self) -> datetime:
        return check_time("clock", self._clock.now())


class Uuid7Ids:
    """Ids of RFC 9562 version 7: they lead with the millisecond, so new rows land together."""

    def __init__(self) -> None:
        # Loaded when a store is opened: `import holdfast` is kept light.
        if sys.version_info >= (3, 14):
            from uuid import uuid7
        else:
            from uuid_utils import uuid7
        self._uuid7 = uuid7

    def new(self) -> str:
        return str(self._uuid7())

    def secret(self) -> str:
        return os.urandom(32).hex()


class ManualClock:
    """A clock that moves only when told; for tests and for replaying history."""

    def __init__(self, start: datetime) -> None:
        self._now = check_time("start", start)

    def now(self) -> datetime:
        return self._now

    def set(self, instant: datetime) -> None:
        """Move to ``instant``, also backwards."""
        self._now = check_time("instant", instant)


class CountingIds:
    """Ids ``prefix-000001``, ``prefix-000002`` ...; for tests and golden data."""

    def __init__(self, prefix: str = "id") -> None:
        self._prefix = prefix
        self._numbers = itertools.count(1)

    def new(self) -> str:
        return f"{self._prefix}-{next(self._numbers):06d}"

    def secret(self) -> str:
        from hashlib import sha256  # 3 ms that no other process need spend

        return sha256(self.new().encode()).hexdigest()


def shifted(instant: datetime, by: timedelta) -> datetime:
    """The instant so much later, or earlier; no further than the calendar goes, years 1 to 9999."""
    try:
        return instant + by
    except OverflowError:
        return _FIRST if by < _NOTHING else _LAST


def monotonic() -> float:
    """Seconds on the machine's monotonic clock; for deadlines only, never stored."""
    return time.monotonic()


def pause(seconds: float) -> None:
    """Let other threads run for a while; nothing that is kept or answered hangs on how long."""
    time.sleep(seconds)
