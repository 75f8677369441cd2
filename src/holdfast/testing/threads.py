"""Running calls at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

T = TypeVar("T")


def together(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Run every call in its own thread, all released at once, and return their results in order.

    The first error of any of them is raised, after all have ended.
    """
    gate = threading.Barrier(len(calls))
    results: dict[int, T] = {}
    errors: list[Exception] = []

    def run(place: int, call: Callable[[], T]) -> None:
        try:
            gate.wait()
            results[place] = call()
        except Exception as error:  # noqa: BLE001 - raised again below, in the caller's thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=item) for item in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [results[place] for place in range(len(calls))]


def at_once(count: int, work: Callable[[int], T]) -> list[T]:
    """`together` for ``work(0)``, ``work(1)`` and so on."""
    return together([partial(work, n) for n in range(count)])
