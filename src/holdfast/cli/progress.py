"""A bar on stderr for long work, where a person watches; silence elsewhere."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Advance(Protocol):
    """Told how much is done so far, and of how much, once that is known."""

    def __call__(self, done: int, total: int | None = None) -> None:
        """Move the bar."""
        ...


POLL_SECONDS = 0.1


@contextmanager
def progress(title: str, total: int | None, unit: str) -> Iterator[Advance]:
    """Show how far the work of this block is. Without a total, only that it goes on."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield _unseen
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        bar = shown.add_task(title, total=total)
        yield lambda done, total=None: shown.update(bar, completed=done, total=total)


def _unseen(done: int, total: int | None = None) -> None:
    del done, total


def watched(title: str, path: str, total: int, work: Callable[[], T]) -> T:
    """Do the work while the growing file at ``path`` tells how far it is."""
    with progress(title, total >> 10, "KiB") as advance:
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(POLL_SECONDS):
                if os.path.exists(path):
                    advance(os.path.getsize(path) >> 10)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            return work()
        finally:
            ended.set()
            watcher.join()


def counted(lines: Any, advance: Advance) -> Iterator[Any]:
    """The lines, each counted as it passes."""
    for number, line in enumerate(lines, 1):
        if number % 50 == 0:
            advance(number)
        yield line
