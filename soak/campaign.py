"""What every campaign has: a seed, a count, findings, saboteurs, and a results file."""

from __future__ import annotations

import os
import platform
import random
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import apsw
import msgspec

import holdfast

RESULTS: Final = Path(__file__).parent / "results"
FINDINGS_KEPT: Final = 20
"""Most findings that a result holds word for word; all are counted."""
MEMORY_DISK: Final = Path("/dev/shm")

Tick = Callable[[int], None]
"""Told how many trials are done."""


class Saboteur(msgspec.Struct, kw_only=True):
    """A design that is known to be broken, run by the same code; it must be caught."""

    name: str
    trials: int = 0
    counts: dict[str, int] = {}
    findings: int = 0
    example: str = ""

    @property
    def caught(self) -> bool:
        """Whether the campaign saw the fault."""
        return self.findings > 0

    def note(self, finding: str) -> None:
        """Count a finding; the first is kept as the example."""
        self.example = self.example or finding
        self.findings += 1


class Result(msgspec.Struct, kw_only=True):
    """What a campaign did and found. ``findings`` must be 0."""

    campaign: str
    trial: str
    trials: int
    seed: int
    seconds: float = 0.0
    counts: dict[str, int] = {}
    findings: int = 0
    examples: list[str] = []
    saboteurs: list[Saboteur] = []
    command: str = ""
    day: str = ""
    machine: dict[str, Any] = {}

    @property
    def ok(self) -> bool:
        """Nothing was found, and every saboteur was."""
        return not self.findings and bool(self.saboteurs) and all(s.caught for s in self.saboteurs)

    def note(self, finding: str) -> None:
        """Count a finding; the first few are kept word for word."""
        self.findings += 1
        if len(self.examples) < FINDINGS_KEPT:
            self.examples.append(finding)

    def count(self, name: str, more: int = 1) -> None:
        """Add to a named count."""
        self.counts[name] = self.counts.get(name, 0) + more


def ignore(_: int) -> None:
    """A tick for whoever watches nothing."""


@contextmanager
def timed(result: Result) -> Iterator[None]:
    """Fill in how long the block took."""
    started = perf_counter()
    try:
        yield
    finally:
        result.seconds = round(perf_counter() - started, 1)


@contextmanager
def folder(*, in_memory: bool = False) -> Iterator[Path]:
    """An empty folder for the block; in memory where the disk's own speed says nothing."""
    place = MEMORY_DISK if in_memory and os.access(MEMORY_DISK, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="holdfast-soak-", dir=place) as path:
        yield Path(path)


def chances(seed: int, *names: object) -> random.Random:
    """A source of chance of its own for each named part, the same in every run of the seed."""
    return random.Random(":".join(map(str, (seed, *names))))


def machine() -> dict[str, Any]:
    """What a reader needs to know about where the figures were made."""
    return {
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
        "apsw": apsw.apsw_version(),
        "holdfast": holdfast.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count() or 0,
    }


def save(result: Result, into: Path = RESULTS) -> Path:
    """Write the result beside the others, with the command that makes it again."""
    asked = " ".join(["python -m soak.run", *sys.argv[1:]])
    # Where the result goes says nothing of how it came to be.
    result.command = re.sub(r" --results[ =]\S+", "", asked)
    result.day = datetime.now(UTC).date().isoformat()
    result.machine = machine()
    into.mkdir(parents=True, exist_ok=True)
    path = into / f"{result.campaign}.json"
    fields = msgspec.to_builtins(result) | {"ok": result.ok}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(fields), indent=2) + b"\n")
    return path
