"""Letting other threads have the interpreter lock in the middle of much work.

A thread that wants the lock asks for it after the switch interval, five milliseconds, and an event
loop wants it several times in a turn. Work on many rows, or on a long text, that pauses now and
then lets the loop have it at once.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator
from typing import Final, TypeVar

from holdfast.core.clock import monotonic, pause

T = TypeVar("T")

MANY: Final = 128
"""Fewer things than this are done before anybody waits."""
RUN_SECONDS: Final = 0.001
"""How long the work goes on between pauses."""
PAUSE_SECONDS: Final = 50e-6
"""How long a pause lasts: enough for a thread to wake and take the lock."""


def in_turns(items: Collection[T]) -> Iterable[T]:
    """The items, one after the other; where they are many, other threads have turns between."""
    return items if len(items) < MANY else giving_way(items)


def giving_way(items: Iterable[T]) -> Iterable[T]:
    """The items; each thousandth of a second other threads have a turn, if there are any."""
    return items if threading.active_count() == 1 else _with_pauses(items)


def _with_pauses(items: Iterable[T]) -> Iterator[T]:
    ends_at = monotonic() + RUN_SECONDS
    for item in items:
        yield item
        if monotonic() > ends_at:
            pause(PAUSE_SECONDS)
            ends_at = monotonic() + RUN_SECONDS
