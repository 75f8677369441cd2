"""Processes that are not all our children: whether they live, and how to end them at once."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

POLL_SECONDS = 0.01
DEATH_SECONDS = 60.0
"""A killed process ends when the system has done what it was doing for it."""


def family(pid: int) -> list[int]:
    """A process and its children."""
    return [pid, *(child for child, parent, _ in _table() if parent == pid)]


def alive(pid: int) -> bool:
    """Whether it runs; one that has ended and was not reaped does not."""
    return any(other == pid and state != "Z" for other, _, state in _table())


def kill(pids: Iterable[int]) -> None:
    """End them without warning, and wait until they are gone."""
    doomed = list(pids)
    for pid in doomed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not any(alive(pid) for pid in doomed), seconds=DEATH_SECONDS)


def wait_for(done: Callable[[], bool], *, seconds: float) -> None:
    """Return once it is so; TimeoutError when it takes too long."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"it did not come about within {seconds} s")
        time.sleep(POLL_SECONDS)


def _table() -> list[tuple[int, int, str]]:
    """Every process: its number, its parent's, and the letter of its state."""
    if not Path("/proc/self/stat").exists():
        told = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid=,state="], capture_output=True, check=True
        )
        rows = (line.split() for line in told.stdout.decode().splitlines())
        return [(int(row[0]), int(row[1]), row[2][0]) for row in rows]
    table = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name in parentheses may hold anything, so what follows it is read.
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            table.append((int(path.parent.name), int(parent), state))
    return table
