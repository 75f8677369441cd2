"""A writer frozen in the middle of a transaction: others are told Busy by their deadline.

Then it thaws: its write is stored, and so is everyone else's. The saboteur is a file whose lock the
frozen writer does not hold, because it has not begun: there nobody is told to wait.
"""

from __future__ import annotations

import signal
from pathlib import Path
from time import perf_counter
from typing import Final

from holdfast.backends.sqlite import SqliteDriver
from holdfast.core.errors import Busy, HoldfastError
from holdfast.layers.check import Checked
from soak.campaign import Result, Saboteur, Tick, folder, ignore, timed
from soak.workload import storage_on
from soak.zygote import Zygote, zygote

DEADLINE_SECONDS: Final = 0.3
LATEST_SECONDS: Final = 5.0
"""When Busy counts as too late, on a machine that does other work."""


def run(pauses: int, *, seed: int = 1, tick: Tick = ignore) -> Result:
    """Freeze so many writers; the saboteur gets a tenth, at least 2."""
    trial = "SIGSTOP of a writer in its transaction"
    result = Result(campaign="pauses", trial=trial, trials=pauses, seed=seed)
    idle = Saboteur(name="the transaction begins at its end", trials=max(2, pauses // 10))
    with timed(result), folder() as place, zygote() as parent:
        for number in range(pauses):
            for finding in _pause(parent, place / f"{number}", result.counts):
                result.note(f"pause {number}: {finding}")
            tick(number + 1)
        for number in range(idle.trials):
            for finding in _pause(parent, place / f"idle-{number}", idle.counts, idle=True):
                idle.note(finding)
    result.saboteurs.append(idle)
    return result


def _pause(parent: Zygote, place: Path, counts: dict[str, int], *, idle: bool = False) -> list[str]:
    """Freeze, try, read, thaw, look."""
    place.mkdir()
    path, release = str(place / "store.db"), place / "release"
    findings: list[str] = []
    with storage_on(Checked(SqliteDriver(path, busy_seconds=DEADLINE_SECONDS))) as storage:
        storage.kv.set("before", 1)
        child = parent.start("hold", path=path, name="held", release=str(release), idle=idle)
        if not child.wait_for_answers():
            return [f"the writer did not begin: {child.kill()}"]
        child.signal(signal.SIGSTOP)
        started = perf_counter()
        try:
            storage.kv.set("meanwhile", 1)
            findings.append("a write went through although another was in its transaction")
        except Busy:
            waited = perf_counter() - started
            counts["told_busy"] = counts.get("told_busy", 0) + 1
            counts["latest_busy_ms"] = max(counts.get("latest_busy_ms", 0), int(waited * 1000))
            if not DEADLINE_SECONDS * 0.9 <= waited <= LATEST_SECONDS:
                findings.append(f"told Busy after {waited:.2f} s")
        except HoldfastError as error:
            findings.append(f"told {type(error).__name__} instead of Busy")
        if storage.kv.get("before") != 1 or storage.kv.get("held") is not None:
            findings.append("a read was not of the state before the frozen write")
        release.touch()
        child.signal(signal.SIGCONT)
        lines = child.finish()
        if lines != ["holding", "released"]:
            findings.append(f"the thawed writer said {lines}")
        storage.kv.set("after", 1)
        names = {entry.key for entry in storage.kv.list()}
        if not {"before", "held", "after"} <= names or (not idle and "meanwhile" in names):
            findings.append(f"afterwards the store holds {sorted(names)}")
    counts["pauses"] = counts.get("pauses", 0) + 1
    return findings
