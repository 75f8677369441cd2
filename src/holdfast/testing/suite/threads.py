"""Threads that begin together, for cases about more than one caller."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


def at_once(count: int, work: Callable[[int], Result]) -> list[Result]:
    """What ``work(0)``, ``work(1)`` ... return, begun together; the first error is raised."""
    barrier = threading.Barrier(count)

    def run(n: int) -> Result:
        barrier.wait()
        return work(n)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))
