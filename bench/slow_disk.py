"""The sheets of durable writes on disks that are slower to sync than the one at hand.

The disk is the same; a library loaded before the C library lets every sync take longer, for all
contenders alike. They run in a process of their own, started with it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from bench import peers
from bench.measure import Contender, Figures, Goal, Sheet
from bench.writes import RAW, Writes

DISKS: Final = {
    "slow": (4.0, "Disks of a network, and many others, are as slow as this."),
    "reference": (0.13, "As fast was the disk of the machine on which the targets were set."),
}
"""What a sync takes at least, in milliseconds, and where it does."""
ALONE: Final = (
    "holdfast conversations.append",
    "holdfast kv.set",
    "holdfast memory.remember",
)
"""Rows of one caller, which are asked to keep the pace of the raw loop."""
SOURCE: Final = Path(__file__).with_suffix(".c")


class SlowWrites:
    """The sheet of durable writes on a disk of this name."""

    def __init__(self, disk: str, *, quick: bool) -> None:
        self._disk = disk
        self._milliseconds, self._where = DISKS[disk]
        self._quick = quick

    def sheet(self, rounds: int) -> Sheet:
        """The rows and goals of the sheet on the disk as it is, and those of one caller."""
        held = _sheet(quick=self._quick)
        missing = "" if sys.platform == "linux" and shutil.which("cc") else "Linux and a C compiler"
        return replace(
            held,
            name=f"writes-{self._disk}-disk",
            title=f"Durable writes, WAL FULL, where a sync takes {self._milliseconds:g} ms or more",
            contenders=tuple(_slowed(one, missing) for one in held.contenders),
            rounds=rounds,
            together=self._together,
            notes="The disk is that of the sheet of WAL FULL, but no sync of any contender ends"
            f" sooner. {self._where}",
        )

    def _together(self, folder: Path) -> dict[str, Figures]:
        library = folder / "slow_disk.so"
        compiled = ["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
        subprocess.run(compiled, check=True)
        delay = str(round(1_000 * self._milliseconds))
        delayed = {"LD_PRELOAD": str(library), "SYNC_MICROSECONDS": delay}
        here = [sys.executable, "-m", "bench.slow_disk", str(folder), str(int(self._quick))]
        made = subprocess.run(
            here, check=True, capture_output=True, env={**os.environ, **delayed}, text=True
        )
        figures: dict[str, Figures] = json.loads(made.stdout)
        return figures


def _slowed(held: Contender, missing: str) -> Contender:
    goals = (*held.goals, Goal(0.80, RAW)) if held.name in ALONE else held.goals
    return replace(held, goals=goals, missing=held.missing or missing)


def _sheet(*, quick: bool) -> Sheet:
    return Writes("full", quick=quick).sheet(1)


def main(folder: Path, *, quick: bool) -> None:
    """Run each contender once and print its figures, by its name."""
    peers.reach()
    figures: dict[str, Figures] = {}
    for contender in _sheet(quick=quick).contenders:
        if not contender.missing:
            place = Path(tempfile.mkdtemp(dir=folder))
            figures[contender.name] = contender.run(place)
    print(json.dumps(figures))


if __name__ == "__main__":
    main(Path(sys.argv[1]), quick=sys.argv[2] == "1")
