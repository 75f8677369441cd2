"""Contenders that take turns, so that whatever slows the machine slows all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from bench.measure import percentile

BLOCK: Final = 10
"""Calls of one contender in a row: what it keeps in the processor's cache is part of it."""


def in_turns(
    calls: Mapping[str, Callable[[Any], object]], queries: Sequence[Any]
) -> dict[str, list[float]]:
    """Milliseconds of every call, by contender; the call before each block is not counted."""
    names = list(calls)
    times: dict[str, list[float]] = {name: [] for name in names}
    for number, start in enumerate(range(0, len(queries), BLOCK)):
        block = queries[start : start + BLOCK]
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            call = calls[name]
            call(block[0])
            for query in block:
                began = time.perf_counter()
                call(query)
                times[name].append((time.perf_counter() - began) * 1e3)
    return times


def middle(times: Sequence[float]) -> float:
    """The median."""
    return percentile(times, 0.5)
