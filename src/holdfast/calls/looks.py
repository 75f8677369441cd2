"""What the lanes of `holdfast.calls.lanes` judge by: who waits, and who computes."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, thread_time
from typing import Any, Final

LONG_SECONDS: Final = 0.004
"""A call that computes for so long has its next ones take turns. The interpreter lock is taken from
a thread after five milliseconds; what is shorter has given it back by then."""
FORGET_SECONDS: Final = 1.0
"""How long after it last did so a call is still taken for one that computes for long."""
LOOK_SECONDS: Final = 0.0025
"""How often the loop looks at jobs that wait."""
LATE_SECONDS: Final = 0.002
"""A look that comes later than this waited for a thread that computes, or for the machine."""
IDLE_SHARE: Final = 0.25
"""A process that uses less of a core than this has workers that wait."""
STUCK_SECONDS: Final = 0.01
"""How long such a process takes no job, all looks on time, before one more worker starts."""
SLOW_SECONDS: Final = 0.05
"""How long it takes jobs, but leaves some waiting, before one more starts; and how long no job may
be taken whatever the workers do."""
TURN_SECONDS: Final = 0.25
"""The same where calls that compute for long take turns: nothing short waits there."""


class Looks:
    """What the looks at jobs that wait have seen, from the first job on that had to wait.

    Times are seconds: ``now`` of a clock that only rises, ``computed`` of the process's processor
    time. ``taken`` is how many jobs were ever taken. A process that computes is left alone for
    ``slow_seconds``.
    """

    __slots__ = ("_last", "_on_time", "_slow_seconds", "_stuck", "_taken")

    def __init__(self, slow_seconds: float, now: float, computed: float, taken: int) -> None:
        self._slow_seconds = slow_seconds
        self._last = now
        self._taken = taken
        self._on_time = self._stuck = (now, computed)

    def wants_worker(self, now: float, computed: float, taken: int) -> bool:
        """Whether one more worker should start, by this look. Each has looks of its own."""
        seen = (now, computed)
        late = now - self._last > LOOK_SECONDS + LATE_SECONDS
        self._last = now
        if late:
            self._on_time = seen
        if taken != self._taken:
            self._taken, self._stuck = taken, seen
        wanted = now - self._stuck[0] >= self._slow_seconds or (
            _idle_seconds(max(self._stuck, self._on_time), seen) >= STUCK_SECONDS
            or _idle_seconds(self._on_time, seen) >= self._slow_seconds
        )
        if wanted:
            self._stuck = seen
        if wanted or now - self._on_time[0] >= self._slow_seconds:
            self._on_time = seen
        return wanted


def _idle_seconds(since: tuple[float, float], seen: tuple[float, float]) -> float:
    """How long the process has been idle at a look, since an earlier one; 0 if it was not."""
    passed = seen[0] - since[0]
    return passed if seen[1] - since[1] < IDLE_SHARE * passed else 0.0


class Computing:
    """Which calls compute for long, judged by what they did last."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def is_long(self, call: Callable[..., Any]) -> bool:
        """Whether this call is to take turns."""
        last = self._last.get(_name_of(call))
        return last is not None and monotonic() - last < FORGET_SECONDS

    def measured(self, call: Callable[..., Any], began: float) -> float:
        """Note how much this thread computed for a call since ``began``; the thread's time now."""
        now = thread_time()
        if now - began >= LONG_SECONDS:
            self._last[_name_of(call)] = monotonic()
        return now


def _name_of(call: Callable[..., Any]) -> str:
    return getattr(call, "__qualname__", "")
